from __future__ import annotations

import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from torch import nn

from tests.toy import known_table
from toolkit.core.errors import PolicyError, SuiteError
from toolkit.core.registry import ALGORITHMS
from toolkit.replay.table import TransitionTable
from toolkit.routing.algorithms import Algorithm
from toolkit.routing.router import Router, load_router
from toolkit.routing.router_file import CARD, CARD_MEMBER, ROUTER_FILE, UntrustedError
from toolkit.routing.train import card, fit_router, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

STEPS = {"timesteps": 200, "n_envs": 8}
CONFIGS = {
    "ppo": TrainConfig.model_validate(STEPS),
    "exact": TrainConfig.model_validate({"algorithm": "exact", "exact": {"n_epochs": 1}}),
    "conditioned": TrainConfig.model_validate(
        {"algorithm": "exact", "alphas": (0.0, 0.1, 1.0), "first_layer": "hop", "exact": {"n_epochs": 1}}
    ),
    "conditioned ppo": TrainConfig.model_validate(STEPS | {"alphas": (0.0, 0.2), "net_arch": ()}),
    "stop, whole embeddings": TrainConfig.model_validate(STEPS | {"allow_stop": True, "projection": 0, "net_arch": (5,)}),
    "per hop": TrainConfig.model_validate(STEPS | {"first_layer": "hop", "projection": 3}),
    "shared, blind": TrainConfig.model_validate(STEPS | {"first_layer": "shared", "blind": True, "terms": False}),
    "DQN": TrainConfig.model_validate(STEPS | {"algorithm": "DQN", "allow_stop": True}),
    "A2C": TrainConfig.model_validate(STEPS | {"algorithm": "A2C", "projection": 4}),
}


@pytest.fixture
def saved(cache: Cache, suite: Suite, tmp_path: Path) -> Path:
    """The file of a router of the scripted suite."""
    return train(suite, cache, CONFIGS["exact"], 0, tmp_path / "runs").path


@pytest.mark.parametrize("name", CONFIGS)
def test_a_loaded_router_decides_exactly_like_the_trained_one(
    name: str, suite: Suite, table: TransitionTable, tmp_path: Path
) -> None:
    config, rows = CONFIGS[name], table.rows("test")
    trained = Router(fit_router(table, config, 0), card(suite, table, 1.0, config, 0))
    path = tmp_path / ROUTER_FILE
    trained.save(path)
    before = torch.random.get_rng_state()
    loaded = load_router(path)
    assert torch.equal(before, torch.random.get_rng_state())
    for alpha in (None, 0.07) if trained.conditioned else (None,):
        np.testing.assert_array_equal(loaded.probabilities(table, rows, alpha), trained.probabilities(table, rows, alpha))
    assert loaded.card["settings"]["net_arch"] == list(config.net_arch)
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(trained.algorithm.policy.state_dict())
        assert json.loads(file.metadata()[CARD])["run"] == trained.card["run"]
    loaded.save_sb3(tmp_path / "loaded.zip")
    with pytest.raises(UntrustedError, match="pickles"):
        load_router(tmp_path / "loaded.zip")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This system does not have apparently enough memory")
        from_zip = load_router(tmp_path / "loaded.zip", trust=True)
    np.testing.assert_array_equal(from_zip.probabilities(table, rows), trained.probabilities(table, rows))


def test_the_zip_of_a_loaded_router_has_its_arguments_and_loads_in_stable_baselines3(
    cache: Cache, suite: Suite, tmp_path: Path
) -> None:
    config = TrainConfig(algorithm="A2C", timesteps=40, n_envs=4, sb3={"n_steps": 3, "gamma": 0.5})
    trained = train(suite, cache, config, 0, tmp_path, sb3_zip=True)
    assert A2C.load(trained.path.parent / "sb3.zip").n_steps == 3
    load_router(trained.path.parent).save_sb3(tmp_path / "again.zip")
    model = A2C.load(tmp_path / "again.zip")
    assert (model.n_steps, model.gamma) == (3, 0.5)
    (trained.path.parent / "sb3.zip").unlink()
    assert train(suite, cache, config, 0, tmp_path, sb3_zip=True).cached
    assert A2C.load(trained.path.parent / "sb3.zip").gamma == 0.5


class CreatesAFile:
    """Unpickled, it creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("suffix", [".zip", ".safetensors"])
def test_a_hostile_zip_runs_nothing_whatever_it_is_called(saved: Path, suffix: str, tmp_path: Path) -> None:
    """Both places where stable-baselines3 unpickles hold the same attack; it works, if the file is trusted."""
    witness, path = tmp_path / "witness", tmp_path / f"shared{suffix}"
    attack = pickle.dumps(CreatesAFile(witness))
    data = {"policy_class": {":type:": "a class", ":serialized:": __import__("base64").b64encode(attack).decode()}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", attack)
        archive.writestr(CARD_MEMBER, json.dumps(load_router(saved).card))
    with pytest.raises(UntrustedError, match=r"toolkit evaluate .* --trust"):
        load_router(path)
    assert not witness.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(PolicyError):
            load_router(path, trust=True)
    assert witness.exists()


def test_a_router_never_imports_the_class_that_its_file_names(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile.py").write_text(f"open({str(tmp_path / 'witness')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("hostile.PPO", "stable_baselines3.hostile.PPO", "hostile", "../hostile", "os.system"):
        rewrite(saved, tmp_path / "x", algorithm=name)
        with pytest.raises(UntrustedError, match="would be imported"):
            load_router(tmp_path / "x")
        assert not (tmp_path / "witness").exists()


def rewrite(source: Path, target: Path, **changes: object) -> None:
    """Copy a router's file, with other entries in its card."""
    with safe_open(source, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        original = json.loads(file.metadata()[CARD])
    save_file(tensors, target, metadata={CARD: json.dumps(original | changes)})


WRONG_CARDS: dict[str, dict[str, object]] = {
    "models": {"models": 3},
    "no models": {"models": []},
    "horizon": {"horizon": "2"},
    "alpha": {"alpha": float("nan")},
    "suite": {"suite": "../../suite.toml"},
    "suite key": {"suite_key": "none"},
    "settings": {"settings": [1]},
    "alphas": {"settings": {"alphas": "all"}},
    "arguments": {"settings": {"exact": 3}},
    "argument": {"settings": {"exact": {"env": "module:Env"}}},
    "run": {"run": "../../run"},
    "surrogate": {"run": "\ud800"},
    "escape": {"run": "\x1b[2J"},
    "architecture": {"architecture": None},
}
WRONG_ARCHITECTURES: dict[str, object] = {
    "actions": 3,
    "observations": 2**23,
    "net_arch": {"pi": [60_000, 60_000], "vf": []},
    "activation": "system",
    "extractor": {
        "name": "RouterFeatures",
        "numbers": {"parts": 10**6, "dimensions": 10**6, "terms": 0, "horizon": 2, "models": 2, "rank": 10**6},
    },
}


@pytest.mark.parametrize("change", [*WRONG_CARDS, *WRONG_ARCHITECTURES])
def test_a_wrong_card_is_refused(change: str, saved: Path, tmp_path: Path) -> None:
    changes = WRONG_CARDS.get(change) or {
        "architecture": load_router(saved).card["architecture"] | {change: WRONG_ARCHITECTURES[change]}
    }
    rewrite(saved, tmp_path / "x.safetensors", **changes)
    with pytest.raises(PolicyError, match=r"x\.safetensors is not a router .* toolkit train") as caught:
        load_router(tmp_path / "x.safetensors")
    assert str(caught.value).isprintable()


def test_weights_that_are_not_those_of_the_card_are_refused(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    with safe_open(saved, framework="pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    first = next(name for name in tensors if name.endswith("weight"))
    for changed, fragment in (
        (tensors | {first: tensors[first] * torch.nan}, "not finite"),
        (tensors | {first: tensors[first][:-1].clone()}, first),
        (tensors | {first: tensors[first].double()}, "float64"),
        (tensors | {"more": torch.zeros(2)}, "more"),
        ({name: tensor for name, tensor in tensors.items() if name != first}, "missing"),
    ):
        save_file(changed, path, metadata=metadata)
        with pytest.raises(PolicyError, match=fragment):
            load_router(path)
    for foreign in (None, {"format": "pt"}, {CARD: "{"}, {CARD: "[" * 100_000}, {CARD: "9" * 5_000}, {CARD: "3"}):
        save_file(tensors, path, metadata=foreign)
        with pytest.raises(PolicyError, match="card"):
            load_router(path)


def test_huge_weights_are_refused_when_they_make_no_probabilities(saved: Path, table: TransitionTable) -> None:
    router = load_router(saved)
    with torch.no_grad():
        router.algorithm.policy.action_net.bias.fill_(torch.inf)  # type: ignore[operator, union-attr]
    with pytest.raises(PolicyError, match="not numbers"):
        router.probabilities(table, table.rows("test"))
    with pytest.raises(PolicyError, match="not finite"):
        router.save(saved)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_a_policy_error_or_a_router(data: st.DataObject, saved: Path, tmp_path: Path) -> None:
    content = bytearray(saved.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "overwrite", "header", "junk"]))
    if kind == "cut":
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    elif kind == "overwrite":
        at = data.draw(st.integers(0, len(content) - 8))
        content[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    elif kind == "header":
        content[:8] = struct.pack("<Q", data.draw(st.integers(0, 2**64 - 1)))
    else:
        content = bytearray(data.draw(st.binary(max_size=200)))
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    try:
        router = load_router(path)
    except PolicyError:
        return
    assert isinstance(router, Router)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"no policy file .*none\.safetensors"):
        load_router(tmp_path / "none.safetensors")
    with pytest.raises(PolicyError, match=r"folder .* holds no router\.safetensors"):
        load_router(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PolicyError, match="pipe"):
        load_router(tmp_path / "pipe")
    for name in ("broken.zip", "foreign.zip"):
        path = tmp_path / name
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a", "b")
        if name == "broken.zip":
            path.write_bytes(path.read_bytes()[:20])
        with pytest.raises(PolicyError, match=name.replace(".", r"\.")):
            load_router(path, trust=True)


@pytest.mark.parametrize("trust", [False, True])
def test_a_model_saved_by_plain_stable_baselines3_is_told_what_it_is(trust: bool, tmp_path: Path) -> None:
    for model in (PPO("MlpPolicy", "CartPole-v1", device="cpu"), DQN("MlpPolicy", "CartPole-v1", buffer_size=10)):
        model.save(tmp_path / "plain.zip")
        with pytest.raises(PolicyError, match=r"stable-baselines3's own `save`.* toolkit train SUITE --algorithm NAME"):
            load_router(tmp_path / "plain.zip", trust=trust)


def test_a_policy_of_another_pool_is_refused(saved: Path) -> None:
    with pytest.raises(PolicyError, match="trained for the pool sums, words over 2 hops"):
        load_router(saved).probabilities(known_table(), np.arange(2))


class OtherActivation(PPO):
    """Changes the policy behind the back of `policy_kwargs`."""

    activation: type[nn.Module] = nn.ELU

    def _setup_model(self) -> None:
        super()._setup_model()
        for module in self.policy.mlp_extractor.modules():
            if isinstance(module, nn.Sequential) and len(module):
                module[1] = self.activation()


class Negated(nn.Tanh):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return -super().forward(input)


def register(monkeypatch: pytest.MonkeyPatch, model: type[BaseAlgorithm]) -> TrainConfig:
    monkeypatch.setattr(ALGORITHMS, "_loaded", {**ALGORITHMS._loaded, "other": Algorithm("other", model)})
    return TrainConfig.model_validate(STEPS | {"algorithm": "Other", "other": {"n_steps": 4, "batch_size": 16}})


def test_a_policy_that_is_more_than_data_is_refused_before_it_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file would load without a word, and decide differently."""
    for activation in (nn.ELU, Negated):
        monkeypatch.setattr(OtherActivation, "activation", activation)
        with pytest.raises(SuiteError, match="decides differently"):
            fit_router(known_table(), register(monkeypatch, OtherActivation), 0)


class WithElu(PPO):
    def __init__(self, policy_kwargs: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(policy_kwargs=policy_kwargs | {"activation_fn": nn.ELU}, **kwargs)


def test_the_activation_function_of_a_registered_algorithm_is_kept(
    monkeypatch: pytest.MonkeyPatch, cache: Cache, suite: Suite, table: TransitionTable, tmp_path: Path
) -> None:
    config, rows = register(monkeypatch, WithElu), table.rows("test")
    trained = Router(fit_router(table, config, 0), card(suite, table, 1.0, config, 0))
    trained.save(tmp_path / ROUTER_FILE)
    np.testing.assert_array_equal(
        load_router(tmp_path / ROUTER_FILE).probabilities(table, rows), trained.probabilities(table, rows)
    )
