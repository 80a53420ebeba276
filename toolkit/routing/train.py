"""Training: a learning algorithm over the replay environment, with everything the run used kept beside the policy."""

import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from toolkit import __version__
from toolkit.core.errors import SuiteError
from toolkit.core.hashing import canonical_json, content_sha256
from toolkit.replay.environments import RoutingVecEnv
from toolkit.replay.table import TransitionTable, load_table
from toolkit.routing.exact_gradient import ExactGradient
from toolkit.routing.networks import extractor, fit
from toolkit.routing.registry import algorithm_class
from toolkit.routing.router import Router
from toolkit.store import Cache, now
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

DEFAULTS: dict[str, dict[str, Any]] = {
    "ppo": {
        "n_epochs": 8,
        "batch_size": 256,
        "learning_rate": 3e-4,
        "gamma": 1.0,
        "gae_lambda": 1.0,
        "ent_coef": 0.01,
    },
    "exact": {},
}
"""Arguments where a suite names none; those of `exact` are its own defaults, chosen in docs/design/learning.md.

An episode is at most L steps long and its return undiscounted: hence gamma 1. Fewer, larger updates settle on a poor policy: on
a table with a known optimum, 4 epochs of one minibatch at 1e-3 ended at 0.87 of it, these settings at 0.997.
"""

CONDITIONED: dict[str, dict[str, Any]] = {"exact": {"dropout": 0.2, "averaging": 0.99}}
"""The same for a policy that observes alpha, whose first layer has weights for every knot (docs/design/learning.md)."""


def ignore(_steps: int) -> None:
    """Take no notice of progress."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run."""

    run: str
    path: Path
    seconds: float
    steps: int
    cached: bool


class ProgressCallback(BaseCallback):
    """Reports steps to a function, and the mean return of finished episodes to the log."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.advance = advance
        self._told = 0

    def _on_step(self) -> bool:
        self.advance(self.num_timesteps - self._told)
        self._told = self.num_timesteps
        return True

    def _on_rollout_end(self) -> None:
        env = self.training_env
        assert isinstance(env, RoutingVecEnv)
        if env.completed:
            self.logger.record("rollout/return", env.returns / env.completed)
            env.completed, env.returns = 0, 0.0


def versions() -> dict[str, str]:
    """Return the versions that a run's result may depend on."""
    names = ("torch", "stable-baselines3", "numpy")
    return {"hierrouter-toolkit": __version__} | {name: importlib.metadata.version(name) for name in names}


def section(config: TrainConfig) -> str:
    """Return where the arguments of a configuration's algorithm stand: ppo, exact or sb3."""
    return config.algorithm if config.algorithm in ("ppo", "exact") else "sb3"


def defaults(config: TrainConfig) -> dict[str, dict[str, Any]]:
    """Return the arguments that a configuration's algorithms have where the suite names none."""
    return DEFAULTS | CONDITIONED if config.alphas else DEFAULTS


def arguments(table: TransitionTable, config: TrainConfig) -> dict[str, Any]:
    """Return the arguments of the algorithm: defaults, then the suite's."""
    name = section(config)
    given = {"n_steps": table.horizon * 2} if name == "ppo" else {}
    suite: dict[str, Any] = getattr(config, name)
    return given | defaults(config).get(name, {}) | suite


def fit_router(
    table: TransitionTable,
    config: TrainConfig,
    seed: int,
    log: Path | None = None,
    advance: Callable[[int], None] = ignore,
) -> BaseAlgorithm:
    """Train a router on a table's training split; the same arguments give the same policy.

    Args:
        table: The table.
        config: Algorithm and its arguments, alpha, steps.
        seed: Seed of weights, questions and actions.
        log: Folder of the TensorBoard log.
        advance: Called with the number of steps as they are made.

    Raises:
        SuiteError: There is no such algorithm, or it does not take an argument that the suite gives.
    """
    kind = algorithm_class(config.algorithm)
    env = RoutingVecEnv(table, config.n_envs, config.alpha, "train", seed, config.allow_stop, config.alphas)
    net_arch: Any = list(config.net_arch)
    if issubclass(kind, OnPolicyAlgorithm):
        net_arch = {"pi": net_arch, "vf": net_arch}
    elif kind is ExactGradient:
        net_arch = {"pi": net_arch, "vf": []}
    kwargs = {"net_arch": net_arch} | extractor(table, config.projection, config.per_hop, config.alphas)
    given = arguments(table, config)
    try:
        model = kind(
            policy="MlpPolicy",
            env=env,
            seed=seed,
            device="cpu",
            verbose=0,
            tensorboard_log=str(log) if log else None,
            policy_kwargs=kwargs,
            **given,
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise SuiteError(
            f"{config.algorithm} refuses its arguments ({', '.join(given) or 'none given'}) or its actions: {error}. "
            f"Correct [train.{section(config)}] or --set {section(config)}.NAME=VALUE."
        ) from None
    fit(model.policy, table)
    steps = 0 if kind is ExactGradient else config.timesteps
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a step's work is too small to share: two threads were no faster, and hinder other runs
    try:
        return model.learn(steps, callback=ProgressCallback(advance), tb_log_name=section(config))
    finally:
        torch.set_num_threads(threads)


def run_name(suite: Suite, config: TrainConfig, seed: int) -> str:
    """Name a run so that equal settings have equal names, and other settings others."""
    told = canonical_json([str(suite.key), config.model_dump(), defaults(config), seed, versions()])
    algorithm, digest = config.algorithm.rpartition(".")[2].lower(), hashlib.sha256(told.encode()).hexdigest()[:8]
    price = f"{len(config.alphas)}alphas" if config.alphas else f"alpha{config.alpha:g}"
    return f"{suite.name}-{algorithm}-{price}-seed{seed}-{digest}"


def cost_unit(cache: Cache, suite: Suite) -> float:
    """Return what a cost of 1 is, in tokens times rate."""
    found: float = cache.arrow("SELECT cost_unit FROM suites WHERE suite = $suite", {"suite": suite.key})["cost_unit"][
        0
    ].as_py()
    return found


def settings_of(table: TransitionTable, config: TrainConfig) -> dict[str, Any]:
    """Return all settings of a run, defaults included."""
    return config.model_dump() | {section(config): arguments(table, config)}


def card(suite: Suite, table: TransitionTable, unit: float, config: TrainConfig, seed: int) -> dict[str, Any]:
    """Return what a policy file says about itself: all that the run used."""
    return {
        "run": run_name(suite, config, seed),
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "seed": seed,
        "settings": settings_of(table, config),
        "versions": versions(),
        "suite": suite.name,
        "suite_key": str(suite.key),
        "horizon": suite.horizon,
        "models": [model.name for model in suite.models],
        "pool": [asdict(model) for model in suite.models],
        "config": suite.config.model_dump(mode="json"),
        "encoder": suite.encoder,
        "cost_unit": unit,
    }


def as_row(suite: Suite, table: TransitionTable, config: TrainConfig, seed: int, path: Path, seconds: float) -> dict[str, Any]:
    """Write a run as a row of the cache's `runs`."""
    return {
        "run": run_name(suite, config, seed),
        "suite": suite.key,
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "seed": seed,
        "config": canonical_json(settings_of(table, config)),
        "versions": canonical_json(versions()),
        "policy": str(path.resolve()),
        "policy_sha256": content_sha256(path),
        "seconds": seconds,
        "trained": now(),
    }


def recorded_seconds(cache: Cache, run: str, path: Path) -> float | None:
    """Return how long a run took, where it is recorded and its policy file is there unchanged; else None."""
    rows = cache.arrow("SELECT policy_sha256, seconds FROM runs WHERE run = $run", {"run": run}).to_pylist()
    if rows and path.exists() and rows[0]["policy_sha256"] == content_sha256(path):
        return float(rows[0]["seconds"])
    return None


def train(
    suite: Suite,
    cache: Cache,
    config: TrainConfig,
    seed: int,
    out: Path,
    *,
    advance: Callable[[int], None] = ignore,
    force: bool = False,
) -> TrainedRun:
    """Train a router, write its policy file and log below `out`, and record the run in the cache.

    A run that was trained already with the same settings and versions is not trained again, unless `force`.

    Raises:
        IncompleteCacheError: The cache does not hold every transition of the suite.
    """
    run = run_name(suite, config, seed)
    path = out / run / "policy.zip"
    known = None if force else recorded_seconds(cache, run, path)
    if known is not None:
        return TrainedRun(run, path, known, 0, True)
    table = load_table(cache, suite, config.holdout)
    started = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    model = fit_router(table, config, seed, path.parent / "tensorboard", advance)
    seconds = time.monotonic() - started
    Router(model, card(suite, table, cost_unit(cache, suite), config, seed)).save(path)
    cache.add_run(as_row(suite, table, config, seed, path, seconds))
    return TrainedRun(run, path, seconds, model.num_timesteps, False)
