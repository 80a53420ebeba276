from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy

from tests.toy import known_table, make_table
from toolkit.core.errors import PolicyError, SuiteError, ToolkitError
from toolkit.replay.table import TransitionTable
from toolkit.routing.algorithms import find_algorithm
from toolkit.routing.checks import MAX_EXCESS, check_training
from toolkit.routing.router import load_router
from toolkit.routing.router_file import UntrustedError
from toolkit.routing.run_files import locate
from toolkit.routing.train import fit_router, run_name, train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite


def configured(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate(settings)


@pytest.mark.parametrize(("written", "canonical"), [("PPO", "ppo"), ("Exact", "exact"), ("dqn", "DQN"), ("a2C", "A2C")])
def test_the_case_of_a_name_does_not_matter(written: str, canonical: str, suite: Suite) -> None:
    config = configured(algorithm=written)
    assert config.algorithm == canonical
    assert run_name(suite, config, 0) == run_name(suite, configured(algorithm=canonical), 0)
    assert find_algorithm(written) == find_algorithm(canonical)


@pytest.mark.parametrize("timesteps", [100, 2_000, 3_100, 20_000])
@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [
        ("PPO", {}),
        ("ppo", {"n_steps": 6}),
        ("stable_baselines3.PPO", {}),
        ("stable_baselines3.PPO", {"n_steps": 50}),
        ("A2C", {}),
        ("dqn", {"learning_starts": 10}),
        ("dqn", {"learning_starts": 10, "train_freq": 50}),
    ],
)
def test_a_run_makes_the_steps_that_it_is_asked_for(timesteps: int, algorithm: str, arguments: dict[str, int]) -> None:
    table_name = "ppo" if algorithm.lower() == "ppo" else "sb3"
    config = configured(algorithm=algorithm, timesteps=timesteps, **{table_name: arguments})
    chosen, fitted = check_training(known_table(), config, 0)
    rollout = chosen.rollout_steps(chosen.arguments(known_table(), fitted))[1] * fitted.n_envs
    made = -(-timesteps // rollout) * rollout
    assert timesteps <= made <= max(timesteps * (1 + MAX_EXCESS), timesteps + 50)
    if timesteps == 2_000 and arguments.get("n_steps") != 50:
        assert fit_router(known_table(), config, 0).num_timesteps == made


def test_settings_that_fit_stay_as_they_are() -> None:
    for config in (configured(), configured(timesteps=60_000), configured(algorithm="exact", timesteps=1)):
        assert check_training(known_table(), config, 0)[1] == config


@pytest.mark.parametrize(
    ("settings", "fragment"),
    [
        ({"timesteps": 2_000, "ppo": {"n_steps": 5_000}}, r"n_steps between 1 and 2000"),
        ({"ppo": {"n_steps": 0}}, "n_steps of at least 1"),
        ({"ppo": {"n_steps": 2.5}}, "whole number as n_steps"),
        ({"ppo": {"batch_size": -3}}, "batch_size of at least 1"),
        ({"ppo": {"batch_size": "abc"}}, "whole number as batch_size"),
        ({"ppo": {"normalize_advantage": "yes"}}, "bool as normalize_advantage"),
        ({"ppo": {"policy": "CnnPolicy"}}, r"train\.ppo"),
        ({"ppo": {"device": "tpu"}}, r"train\.ppo"),
        ({"algorithm": "exact", "exact": {"n_epochs": 0}}, "n_epochs of at least 1"),
        ({"algorithm": "exact", "exact": {"dropout": 1}}, "from 0 to below 1"),
        ({"algorithm": "exact", "exact": {"learning_rate": -1.0}}, "learning rate"),
        ({"algorithm": "dqn", "timesteps": 50, "sb3": {}}, "learning_starts"),
        ({"algorithm": "dqn", "sb3": {"train_freq": 0}}, "train_freq of at least 1"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_before_training(
    settings: dict[str, object], fragment: str, cache: Cache, suite: Suite, tmp_path: Path
) -> None:
    with pytest.raises(SuiteError, match=fragment):
        train(suite, cache, configured(**settings), 0, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert not cache.arrow("FROM runs").num_rows


@pytest.mark.parametrize("value", ["nan", "inf", "{a = 1}", "[1.5]", "1979-05-27"])
def test_an_argument_of_a_wrong_kind_is_one_line(value: str) -> None:
    import tomllib

    argument = tomllib.loads(f"value = {value}")["value"]
    with pytest.raises(SuiteError, match=r"^train\.ppo\.learning_rate: should be a finite number") as caught:
        TrainConfig().changed({"ppo": {"learning_rate": argument}})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("net_arch", layers) for layers in ([0], [-1], [10**9], [64] * 100, ["a"])),
        ("n_envs", 10**13),
        ("alpha", float("inf")),
    ],
)
def test_impossible_sizes_and_prices_are_refused(name: str, value: object) -> None:
    with pytest.raises(SuiteError, match=name):
        TrainConfig().changed({name: value})


@pytest.mark.parametrize("seed", [-1, 2**31, 2**40])
def test_a_seed_out_of_range_is_refused(seed: int, cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match="--seed"):
        train(suite, cache, configured(timesteps=100), seed, tmp_path / "runs")


def test_the_largest_seed_is_recorded(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    assert train(suite, cache, configured(timesteps=100), 2**31 - 1, tmp_path).path.exists()


def small_table(rows: int = 3, splits: str = "train", n_models: int = 2, horizon: int = 1) -> TransitionTable:
    nodes = sum(n_models**depth for depth in range(horizon + 1))
    rng = np.random.default_rng(0)
    models = [f"model{n}" for n in range(n_models)]
    split = np.array([splits] * rows, dtype="<U10")
    benchmark = np.arange(rows) % 2
    return make_table(rng.random((rows, nodes)), np.ones((rows, nodes)), horizon, models, None, benchmark, split)


@pytest.mark.filterwarnings("ignore:.*degrees of freedom")
@pytest.mark.parametrize("algorithm", ["ppo", "exact", "A2C"])
@pytest.mark.parametrize(("rows", "n_models", "horizon"), [(1, 2, 1), (1, 1, 1), (2, 1, 3), (5, 3, 1)])
def test_the_smallest_tables_train(algorithm: str, rows: int, n_models: int, horizon: int) -> None:
    table = small_table(rows, n_models=n_models, horizon=horizon)
    settings = {"algorithm": algorithm, "timesteps": 64, "n_envs": 4, "exact": {"n_epochs": 2}}
    fit_router(table, configured(**settings), 0)


@pytest.mark.parametrize("splits", ["test", "validation"])
def test_a_table_without_training_questions_is_refused(splits: str) -> None:
    with pytest.raises(SuiteError, match=r"training split has no questions.*\[splits\]"):
        fit_router(small_table(4, splits), configured(), 0)


def test_a_benchmark_that_leaves_nothing_cannot_be_held_out(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    table = small_table(4)
    one_benchmark = make_table(table.quality, table.hop_cost, 1, table.models)
    with pytest.raises(SuiteError, match="the only benchmark"):
        check_training(one_benchmark.hold_out("toy"), configured(holdout="toy"), 0)
    no_questions = make_table(table.quality, table.hop_cost, 1, table.models, None, np.array([1, 1, 1, 1]))
    with pytest.raises(SuiteError, match="no questions to evaluate on"):
        check_training(no_questions.hold_out("toy0"), configured(holdout="toy0"), 0)
    with pytest.raises(SuiteError, match="all the training questions"):
        check_training(no_questions.hold_out("toy1"), configured(holdout="toy1"), 0)
    with pytest.raises(SuiteError, match="no benchmark 'toy'"):
        train(suite, cache, configured(holdout="toy"), 0, tmp_path / "runs")


CLASSES = """
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm


class MyPPO(PPO):
    pass


def function():
    pass


value = 3
"""


@pytest.mark.parametrize("force", [False, True])
def test_a_class_in_the_current_folder_is_trained_and_loaded(
    force: bool, cache: Cache, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    module = f"my_algorithms_{force}"
    (tmp_path / f"{module}.py").write_text(CLASSES)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    config = configured(algorithm=f"{module}.MyPPO", timesteps=64, n_envs=4, sb3={"n_steps": 4, "batch_size": 8})
    trained = train(suite, cache, config, 0, tmp_path / "runs", force=force)
    assert "-myppo-" in trained.run
    assert load_router(trained.path).card["algorithm"] == f"{module}.MyPPO"
    assert sys.path == path


POLICIES = """
from stable_baselines3.common.policies import ActorCriticPolicy


class Doubled(ActorCriticPolicy):
    def _get_action_dist_from_latent(self, latent):
        return self.action_dist.proba_distribution(action_logits=2 * self.action_net(latent))


class Unrelated:
    pass
"""


def test_classes_of_files_are_trained_and_opened_by_those_who_trust_them(
    cache: Cache, suite: Suite, table: TransitionTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my files").mkdir()
    (tmp_path / "my files" / "my-policies.py").write_text(POLICIES)
    (tmp_path / "algorithms.py").write_text(CLASSES)
    monkeypatch.chdir(tmp_path)
    policy = "my files/my-policies.py:Doubled"
    arguments = {"timesteps": 64, "n_envs": 4, "sb3": {"n_steps": 4, "batch_size": 8}}
    config = configured(algorithm="algorithms.py:MyPPO", policy=policy, **arguments)
    trained = train(suite, cache, config, 0, tmp_path / "runs")
    assert "-myppo-" in trained.run
    ppo = train(suite, cache, configured(policy=policy, timesteps=64, n_envs=4), 0, tmp_path / "runs")
    monkeypatch.setattr("toolkit.routing.algorithms._imported", {})
    monkeypatch.setattr("toolkit.routing.algorithms._imported_policies", set())
    with pytest.raises(UntrustedError, match=r"algorithms\.py:MyPPO"):
        load_router(trained.path)
    with pytest.raises(UntrustedError, match=r"my-policies\.py:Doubled"):
        load_router(ppo.path)
    router = load_router(trained.path, trust=True)
    rows = table.rows("test")
    observations = torch.from_numpy(router.observer(table).all_nodes(rows))
    model = router.algorithm.policy
    assert isinstance(model, ActorCriticPolicy)
    with torch.no_grad():
        logits = 2 * model.action_net(model.mlp_extractor.forward_actor(model.pi_features_extractor(observations)))
    expected = torch.softmax(logits, 1).view(table.n_decision_nodes, len(rows), -1).transpose(0, 1)
    np.testing.assert_allclose(router.probabilities(table, rows), expected, atol=1e-6)
    for name, fragment in (
        ("my files/my-policies.py:Unrelated", "must be derived"),
        ("x.py:A", "no file"),
        ("Mlp", "MlpPolicy"),
    ):
        with pytest.raises(SuiteError, match=fragment):
            fit_router(table, configured(policy=name), 0)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("sklearn.svm.SVC", "the class sklearn"),
        ("os.path.join", "a function"),
        ("os.path", "a module"),
        ("sys.maxsize", "a int"),
        ("stable_baselines3.common.base_class.BaseAlgorithm", "the abstract class"),
        ("stable_baselines3.common.on_policy_algorithm.OnPolicyAlgorithm", "does not accept"),
        ("no_such_module.PPO", "No module named"),
        ("stable_baselines3.PPPO", "has no attribute"),
        ("broken_module.PPO", "SyntaxError"),
        ("exiting_module.PPO", "SystemExit"),
        ("exactly", "did you mean 'exact'"),
        ("SAC", "continuous"),
        ("stable_baselines3.SAC", "Box"),
        ("", "no algorithm"),
        ("..", "no algorithm"),
        (".relative.PPO", "no algorithm"),
        ("a b.PPO", "no algorithm"),
        ("model.zip", "is a file"),
        ("\x1b[2J.PPO", r"\\x1b"),
    ],
)
def test_what_is_no_algorithm_is_told_what_it_is(
    name: str, fragment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_module.py").write_text("def")
    (tmp_path / "exiting_module.py").write_text("import sys; sys.exit(3)")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SuiteError, match=fragment) as caught:
        fit_router(known_table(), configured(algorithm=name), 0)
    assert str(caught.value).isprintable()


class Fails(BaseCallback):
    """Raises in the middle of training."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error

    def _on_step(self) -> bool:
        raise self.error


@pytest.mark.parametrize("error", [ValueError("a callback"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("earlier", ["nothing", "folder", "run"])
def test_failed_training_leaves_what_there_was(
    error: BaseException, earlier: str, cache: Cache, suite: Suite, tmp_path: Path
) -> None:
    config, runs = configured(timesteps=64, n_envs=4), tmp_path / "runs"
    if earlier == "folder":
        (runs / "mine").mkdir(parents=True)
    elif earlier == "run":
        train(suite, cache, config, 0, runs)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "runs" in path.parts}
    folders = {path for path in tmp_path.rglob("*") if path.is_dir()}
    rows = cache.arrow("FROM runs").to_pylist()

    def report(done: int, total: int) -> None:
        raise error

    with pytest.raises((ToolkitError, KeyboardInterrupt)):
        train(suite, cache, config, 0, runs, report=report, force=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and "runs" in path.parts} == before
    assert {path for path in tmp_path.rglob("*") if path.is_dir()} == folders
    assert cache.arrow("FROM runs").to_pylist() == rows


@pytest.mark.parametrize("algorithm", ["ppo", "exact", "A2C"])
def test_weights_that_are_not_finite_are_refused(algorithm: str, cache: Cache, suite: Suite, tmp_path: Path) -> None:
    table = "sb3" if algorithm == "A2C" else algorithm
    config = configured(algorithm=algorithm, timesteps=4_000, alpha=1e300, **{table: {"learning_rate": 1e30}})
    with pytest.raises(SuiteError, match=f"Training with {algorithm} has .*learning_rate=1e-4"):
        train(suite, cache, config, 0, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert not cache.arrow("FROM runs").num_rows


def test_a_folder_of_runs_that_cannot_be_written_is_refused_before_training(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(PolicyError, match="--runs-dir"):
        train(suite, cache, configured(timesteps=64), 0, tmp_path / "runs")


def test_a_run_that_cannot_be_recorded_leaves_the_earlier_one(
    cache: Cache, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(timesteps=64, n_envs=4)
    path = train(suite, cache, config, 0, tmp_path).path
    content = path.read_bytes()

    def fail(*_: object) -> None:
        raise PolicyError("busy")

    monkeypatch.setattr(type(cache.runs), "add", fail)
    with pytest.raises(PolicyError, match="busy"):
        train(suite, cache, config, 0, tmp_path, force=True)
    assert path.read_bytes() == content
    recorded = cache.runs.get(path.parent.name)
    assert recorded
    assert locate(recorded, cache.path, tmp_path) == path
