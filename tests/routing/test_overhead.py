"""The overhead of a router's decisions: measured with a fake clock, recorded with the run, and added to the cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests import scripted
from tests.toy import make_table
from toolkit.core import tree
from toolkit.replay.exact import ends, most_probable, path_shares
from toolkit.replay.table import TransitionTable
from toolkit.report.evaluation import render
from toolkit.routing import overhead
from toolkit.routing.comparison import OVERALL
from toolkit.routing.evaluate import evaluate, record
from toolkit.routing.overhead import Overhead, decisions, overhead_of
from toolkit.routing.router import Router, load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

SYNTHETIC = {"addition": True, "word_reversal": True, "geography": False}
RouterMaker = Callable[..., Router]


@pytest.fixture
def trained(cache: Cache, suite: Suite, tmp_path: Path) -> RouterMaker:
    def make(allow_stop: bool, alphas: tuple[float, ...] = ()) -> Router:
        config = TrainConfig(algorithm="exact", allow_stop=allow_stop, alphas=alphas)
        return load_router(train(suite, cache, config, 0, tmp_path / "runs").path)

    return make


class Encoder:
    """A suite's encoder and a clock, on which a text takes a tenth of a second, and everything else no time."""

    def __init__(self, *_: object) -> None:
        self.now, self.texts = 0.0, list[str]()

    def __call__(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.now += 0.1
        self.texts += texts
        return scripted.encode(texts)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Encoder:
    encoder = Encoder()
    monkeypatch.setattr(time, "perf_counter", lambda: encoder.now)
    monkeypatch.setattr(overhead, "SuiteEncoder", lambda *_: encoder)
    return encoder


@pytest.mark.parametrize("allow_stop", [False, True])
@pytest.mark.parametrize(("n_models", "horizon"), list(product((1, 2, 3), (1, 2, 3))))
def test_every_hop_is_a_decision_and_so_is_stopping(n_models: int, horizon: int, allow_stop: bool) -> None:
    zeros = np.zeros((1, tree.n_nodes(n_models, horizon)))
    table = make_table(zeros, zeros, horizon, list("abc")[:n_models])
    at = ends(table, allow_stop)
    for index, end in enumerate(range(at.start, at.stop)):
        hops = len(tree.path_of(end, n_models))
        shares = np.eye(at.stop - at.start)[[index]]
        assert decisions(table, shares) == [hops + (hops < horizon)]


@pytest.mark.parametrize("alphas", [(), (0.0, 0.1)], ids=["one alpha", "conditioned"])
def test_texts_of_every_hop_are_embedded_one_at_a_time(
    trained: RouterMaker, suite: Suite, cache: Cache, table: TransitionTable, encoder: Encoder, alphas: tuple[float, ...]
) -> None:
    measured = overhead_of(trained(False, alphas), suite, cache, table, "test", again=True)
    assert measured is not None
    assert measured == pytest.approx((0.1, 0, 0))
    test = "SELECT DISTINCT {} FROM transitions WHERE split = 'test' {}"
    questions = cache.arrow(test.format("question_prompt AS text", ""))["text"].to_pylist()
    responses = cache.arrow(test.format("response AS text", "AND depth = 1"))["text"].to_pylist()
    assert set(encoder.texts) == {*questions, *responses}


def test_it_is_measured_if_requested_or_charged_and_then_recorded(
    trained: RouterMaker, suite: Suite, cache: Cache, table: TransitionTable, encoder: Encoder
) -> None:
    router = trained(False)
    assert overhead_of(router, suite, cache, table, "test") is None
    assert not encoder.texts
    assert overhead_of(router, suite, cache, table, "test", 2.0) == pytest.approx((0.1, 0, 2))
    assert cache.arrow("SELECT encoder_seconds, network_seconds FROM runs").to_pylist() == [
        {"encoder_seconds": pytest.approx(0.1), "network_seconds": 0}
    ]
    n_texts = len(encoder.texts)
    assert overhead_of(router, suite, cache, table, "test", 3.0) == pytest.approx((0.1, 0, 3))
    assert overhead_of(router, suite, cache, table, "validation") == pytest.approx((0.1, 0, 0))
    assert len(encoder.texts) == n_texts
    overhead_of(router, suite, cache, table, "test", again=True)
    assert len(encoder.texts) > n_texts


@pytest.mark.parametrize("allow_stop", [False, True])
def test_it_is_added_to_the_cost_of_each_decision(
    trained: RouterMaker, suite: Suite, cache: Cache, table: TransitionTable, allow_stop: bool
) -> None:
    router = trained(allow_stop)
    free, probabilities = evaluate(table, router, "test", SYNTHETIC)
    measured = Overhead(encoder=0.2, network=0.05)
    reported, _ = evaluate(table, router, "test", SYNTHETIC, overhead=measured)
    assert str(reported.results) == str(free.results)  # nan is not nan
    charged, _ = evaluate(table, router, "test", SYNTHETIC, overhead=measured._replace(rate=2.0))
    n_decisions = decisions(table, path_shares(table, most_probable(probabilities)))
    if not allow_stop:
        assert n_decisions == pytest.approx(table.horizon)
    benchmark = table.benchmark[table.rows("test")]
    hops = np.mean([n_decisions[benchmark == number].mean() for number in np.unique(benchmark)])
    added = {"router": 0.5 * hops, "kNN": 0.4, "linear": 0.4, "random": 0.0, "oracle": 0.0, "best model": 0.0}
    for policy, cost in added.items():
        before, after = free.result(policy, OVERALL), charged.result(policy, OVERALL)
        assert after.cost.mean == pytest.approx(before.cost.mean + cost)
        assert after.reward.mean == pytest.approx(before.reward.mean - charged.alpha * cost)
        assert after.quality == before.quality
    record(cache, suite, table, charged, probabilities)
    assert cache.arrow("SELECT DISTINCT overhead_rate FROM evaluations").to_pylist() == [{"overhead_rate": 2.0}]
    text = " ".join(render(charged).split())
    assert "200 ms in the router's encoder and 50 ms in its network" in text
    assert "At 2 cost units per second, each decision adds 0.500 to the router's C" in text
    assert "C does not include that time" in " ".join(render(reported).split())
    assert "router's encoder" not in render(free)
