"""The features of a policy, recomputed from observations and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

from tests.synthetic import synthetic_table
from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay.observations import Observer
from toolkit.replay.table import TransitionTable
from toolkit.routing.dense import Dense, tree_segments
from toolkit.routing.networks import RouterFeatures, features_kwargs, node_features, node_groups
from toolkit.routing.train import fit_router, observed_response_terms, observed_terms
from toolkit.suites.config import TrainConfig


def features_of(table: TransitionTable, observer: Observer, groups: int = 0, knots: tuple[float, ...] = ()) -> RouterFeatures:
    return RouterFeatures(observer.space, **observer.layout._asdict(), groups=groups, knots=knots)


def test_features_are_interpolated_between_knots() -> None:
    table = make_table(np.zeros((2, 3)), np.zeros((2, 3)), 1, ["a", "b"])
    observer = Observer(table, with_alpha=True)
    conditioned = features_of(table, observer, knots=(0.0, 1.0, 3.0))
    alphas = torch.tensor([-1.0, 0.0, 0.25, 1.0, 2.0, 3.0, 9.0])
    weights = torch.tensor([[1, 0, 0], [1, 0, 0], [0.75, 0.25, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1], [0, 0, 1]])
    observations = torch.from_numpy(observer(np.zeros(7, int), np.zeros(7, int), alphas.double().numpy()))
    base = observations[0, :-1]
    expected = (weights[:, :, None] * base).flatten(1)
    torch.testing.assert_close(conditioned(observations), expected)
    torch.testing.assert_close(conditioned.at(base.expand(1, 7, -1), alphas), expected[None])
    single = features_of(table, observer, knots=(0.5,))
    torch.testing.assert_close(single(observations), base.expand(7, -1))


@pytest.mark.parametrize(
    ("groups", "group_of"),
    [
        (13, lambda path: tree.node_of(path, 3)),
        (3, len),
        (7, lambda path: 3 * (len(path) - 1) + 1 + path[-1] if path else 0),
    ],
    ids=["node", "hop", "hop and last model"],
)
def test_features_are_repeated_for_the_group_of_their_node_and_zero_for_others(groups: int, group_of: object) -> None:
    table = synthetic_table(30, dimensions=4)
    observer = Observer(table)
    extractor, shared = features_of(table, observer, groups), features_of(table, observer)
    observations = torch.from_numpy(observer.all_nodes(np.array([5])))
    base, features = shared(observations), extractor(observations)
    size = base.shape[1]
    assert features.shape == (13, (1 + groups) * size)
    torch.testing.assert_close(features[:, :size], base)
    for node, path in enumerate(tree.paths(3, 2)):
        group = group_of(path)  # type: ignore[operator]
        assert int(node_groups(extractor, observer)[node]) == group
        parts = features[node, size:].view(groups, size)
        torch.testing.assert_close(parts[group], base[node])
        assert not parts[[other for other in range(groups) if other != group]].any()


def test_large_trees_have_a_group_for_each_hop_and_last_model() -> None:
    table = synthetic_table(20, n_models=5, horizon=4, dimensions=4)
    kwargs = features_kwargs(Observer(table), 0, "node")["features_extractor_kwargs"]
    assert kwargs["groups"] == 1 + 3 * 5


@pytest.mark.parametrize("projection", [0, 3])
@pytest.mark.parametrize("first_layer", ["shared", "hop", "node"])
@pytest.mark.parametrize("alphas", [(), (0.0, 0.2)], ids=["one alpha", "conditioned"])
@pytest.mark.parametrize("parts", [1, 2], ids=["whole context", "question and response"])
@pytest.mark.parametrize("blind", [False, True])
def test_logits_of_all_nodes_are_those_of_their_observations(
    projection: int, first_layer: str, alphas: tuple[float, ...], parts: int, blind: bool
) -> None:
    whole = synthetic_table(90, dimensions=8)
    questions = tuple(f"{'add' if row % 2 else 'sort'} these" for row in range(90))
    responses = tuple(f"{'right' if text % 3 else 'wrong'} {text}" for text in range(len(whole.vectors))) if parts == 2 else ()
    texts = np.ascontiguousarray(whole.texts[:, :, 2 - parts :])
    table = replace(whole, texts=texts, questions=questions, responses=responses)
    config = TrainConfig(algorithm="exact", alphas=alphas, exact={"n_epochs": 1}).changed(
        {"projection": projection, "first_layer": first_layer, "blind": blind}
    )
    policy = fit_router(table, config, 0).policy
    assert isinstance(policy, ActorCriticPolicy)
    extractor = policy.pi_features_extractor
    response_terms = observed_response_terms(table, config)
    observer = Observer(table, observed_terms(table, config), blind, bool(alphas), response_terms=response_terms)
    assert observer.layout.terms == 5  # add, sort, these, add these, sort these
    assert response_terms == (() if blind or parts == 1 else ("right", "wrong"))
    rows = np.array([3, 0, 80, 41])
    observations = torch.from_numpy(observer.all_nodes(rows, 0.1))
    with torch.no_grad():
        expected = policy.action_net(policy.mlp_extractor.forward_actor(extractor(observations)))
    features = node_features(extractor, observer, rows, 0.1 if alphas else None)
    logits = Dense.actor(policy).forward(features.flatten(0, 1), tree_segments(node_groups(extractor, observer), len(rows)))
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_a_blind_policy_observes_neither_responses_nor_their_cost() -> None:
    table = synthetic_table(30, dimensions=4)
    other = replace(
        table, vectors=table.vectors * np.where(np.arange(len(table.vectors)) > 30, 3, 1)[:, None].astype(np.float32)
    )
    rows = np.arange(30)
    np.testing.assert_array_equal(Observer(table, blind=True).all_nodes(rows), Observer(other, blind=True).all_nodes(rows))
    assert not np.array_equal(Observer(table).all_nodes(rows), Observer(other).all_nodes(rows))
    assert not Observer(table, blind=True).all_nodes(rows)[:, -1].any()


def test_no_two_decision_nodes_look_alike() -> None:
    table = synthetic_table(10, n_models=3, horizon=4, dimensions=4)
    alike = replace(table, vectors=np.zeros_like(table.vectors), hop_cost=np.zeros_like(table.hop_cost))
    observations = Observer(alike, blind=True).all_nodes(np.array([0]))
    assert len(np.unique(observations, axis=0)) == table.n_decision_nodes
