"""Training: PPO (stable-baselines3) over the replay environment, with everything the run used kept beside the policy."""

import hashlib
import importlib.metadata
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback

from toolkit import __version__
from toolkit.config import TrainConfig
from toolkit.env import RoutingVecEnv
from toolkit.errors import SuiteError
from toolkit.keys import canonical_json, content_sha256
from toolkit.policy import Router
from toolkit.store import Cache, now
from toolkit.suite import Suite
from toolkit.table import TransitionTable, load_table

DEFAULTS: dict[str, Any] = {
    "n_epochs": 8,
    "batch_size": 256,
    "learning_rate": 3e-4,
    "gamma": 1.0,
    "gae_lambda": 1.0,
    "ent_coef": 0.01,
}
"""Arguments of PPO where a suite names none.

An episode is L steps long and its return undiscounted: hence gamma 1. Fewer, larger updates settle on a poor policy: on a
table with a known optimum, 4 epochs of one minibatch at 1e-3 ended at 0.87 of it, these settings at 0.997.
"""


def ignore(_steps: int) -> None:
    """Take no notice of progress."""


@dataclass(frozen=True)
class Trained:
    """A finished run."""

    run: str
    path: Path
    seconds: float
    steps: int
    cached: bool


class Progress(BaseCallback):
    """Reports steps to a function, and the mean return of finished episodes to the log."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        super().__init__()
        self.advance = advance

    def _on_step(self) -> bool:
        self.advance(self.training_env.num_envs)
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


def train_ppo(
    table: TransitionTable,
    config: TrainConfig,
    seed: int,
    log: Path | None = None,
    advance: Callable[[int], None] = ignore,
) -> PPO:
    """Train a router on a table's training split; the same arguments give the same policy.

    Args:
        table: The table.
        config: Alpha, steps and PPO's arguments.
        seed: Seed of weights, questions and actions.
        log: Folder of the TensorBoard log.
        advance: Called with the number of steps as they are made.

    Raises:
        SuiteError: PPO does not take an argument that the suite gives.
    """
    env = RoutingVecEnv(table, config.n_envs, config.alpha, "train", seed)
    arguments = {"n_steps": table.horizon * 2} | DEFAULTS | config.ppo
    try:
        model = PPO(
            "MlpPolicy", env, seed=seed, device="cpu", verbose=0, tensorboard_log=str(log) if log else None, **arguments
        )
    except (TypeError, ValueError, AssertionError) as error:
        raise SuiteError(
            f"PPO refuses its arguments ({', '.join(config.ppo) or 'none given'}): {error}. Correct [train.ppo]."
        ) from None
    return model.learn(config.timesteps, callback=Progress(advance), tb_log_name="ppo")


def run_name(suite: Suite, config: TrainConfig, seed: int) -> str:
    """Name a run so that equal settings have equal names, and other settings others."""
    told = canonical_json([str(suite.key), config.model_dump(), DEFAULTS, seed, versions()])
    return f"{suite.name}-ppo-alpha{config.alpha:g}-seed{seed}-{hashlib.sha256(told.encode()).hexdigest()[:8]}"


def train(
    suite: Suite,
    cache: Cache,
    config: TrainConfig,
    seed: int,
    out: Path,
    *,
    advance: Callable[[int], None] = ignore,
    force: bool = False,
) -> Trained:
    """Train a router, write its policy file and log below `out`, and record the run in the cache.

    A run that was trained already with the same settings and versions is not trained again, unless `force`.

    Raises:
        IncompleteCacheError: The cache does not hold every transition of the suite.
    """
    run = run_name(suite, config, seed)
    path = out / run / "policy.zip"
    if path.exists() and not force:
        recorded = cache.arrow("SELECT policy_sha256, seconds FROM runs WHERE run = $run", {"run": run}).to_pylist()
        if recorded and recorded[0]["policy_sha256"] == content_sha256(path):
            return Trained(run, path, recorded[0]["seconds"], config.timesteps, True)
    table = load_table(cache, suite)
    started = time.monotonic()
    path.parent.mkdir(parents=True, exist_ok=True)
    model = train_ppo(table, config, seed, path.parent / "tensorboard", advance)
    seconds = time.monotonic() - started
    unit = cache.arrow("SELECT cost_unit FROM suites WHERE suite = $suite", {"suite": suite.key})["cost_unit"][0].as_py()
    settings = config.model_dump() | {"ppo": DEFAULTS | config.ppo}
    card = {
        "run": run,
        "algorithm": "ppo",
        "alpha": config.alpha,
        "seed": seed,
        "settings": settings,
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
    Router(model, card).save(path)
    cache.add_run(
        {
            "run": run,
            "suite": suite.key,
            "algorithm": "ppo",
            "alpha": config.alpha,
            "seed": seed,
            "config": canonical_json(settings),
            "versions": canonical_json(versions()),
            "policy": str(path.resolve()),
            "policy_sha256": content_sha256(path),
            "seconds": seconds,
            "trained": now(),
        }
    )
    return Trained(run, path, seconds, model.num_timesteps, False)
