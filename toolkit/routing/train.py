"""Training: an algorithm over the replay environment; the router's file keeps everything that the run used."""

import contextlib
import hashlib
import importlib.metadata
import logging
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from toolkit import __version__
from toolkit.core import tree
from toolkit.core.errors import PolicyError, SuiteError, ToolkitError
from toolkit.core.files import atomic_path, content_sha256
from toolkit.core.hashing import canonical_json
from toolkit.core.registry import ALGORITHMS
from toolkit.replay.environments import RoutingVecEnv
from toolkit.replay.table import TransitionTable, load_table
from toolkit.replay.terms import frequent_response_terms, frequent_terms
from toolkit.routing.algorithms import Algorithm, find_algorithm, policy_of
from toolkit.routing.architecture import check_storable
from toolkit.routing.checks import check_training, fitted_settings
from toolkit.routing.guard import Guard, compare_with_best_path
from toolkit.routing.networks import features_kwargs, fit_features
from toolkit.routing.router import Router, load_router
from toolkit.routing.router_file import LOG_FOLDER, ROUTER_FILE, ZIP_FILE, not_finite
from toolkit.routing.selection import BestPolicy
from toolkit.store import Cache, Row, now
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

NAMED_DEFAULTS = ("ppo", "exact")
"""Algorithms whose defaults are part of every run's name, so that names do not depend on what else is installed."""

logger = logging.getLogger("toolkit")

Report = Callable[[int, int], None]
"""Receives the steps made so far, and the number that the run makes at most."""


@dataclass(frozen=True)
class TrainedRun:
    """A finished run.

    Attributes:
        run: Its name.
        path: Its router's file.
        seconds: How long training took, in seconds.
        steps: The steps made now; 0 if the run existed.
        cached: Whether it existed.
        guard: How the router compares with the best fixed path; None if it was not trained now, or there are no validation
            questions.
        falls_back: Whether the router takes that path.
    """

    run: str
    path: Path
    seconds: float
    steps: int
    cached: bool
    guard: Guard | None = None
    falls_back: bool = False


class ProgressCallback(BaseCallback):
    """Reports steps to a function, if there is one, and the mean return of finished episodes to the log."""

    def __init__(self, report: Report | None = None) -> None:
        super().__init__()
        self.report = report

    def _on_step(self) -> bool:
        if self.report:
            self.report(self.num_timesteps, self.model._total_timesteps)
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


def fit_router(
    table: TransitionTable, config: TrainConfig, seed: int, log: Path | None = None, callback: BaseCallback | None = None
) -> BaseAlgorithm:
    """Train a router on a table's training split; the same arguments give the same policy.

    Args:
        table: The table.
        config: Algorithm and its arguments, alpha, steps.
        seed: Seed of weights, questions and actions.
        log: Folder of the TensorBoard log.
        callback: A callback of stable-baselines3.

    Raises:
        SuiteError: The settings do not fit each other or the table (`check_training`), the algorithm does not accept an
            argument, it fails, or it does not end with finite weights.
    """
    algorithm, config = check_training(table, config, seed)
    model = _build(table, algorithm, config, seed, log)
    env = model.get_env()
    assert isinstance(env, RoutingVecEnv)
    best = BestPolicy(env.observer, config.alphas or [config.alpha], patience_of(algorithm, config))
    callbacks = [best, *([callback] if callback else [])]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a step is too little work to share: two threads are no faster, and slow other runs down
    try:
        model.learn(config.timesteps if algorithm.uses_timesteps else 0, callbacks, tb_log_name=algorithm.name)
    except ToolkitError:
        raise
    except Exception as error:
        raise _failure(algorithm, config, f"has failed ({type(error).__name__}: {error})") from error
    finally:
        torch.set_num_threads(threads)
    if not_finite(model.policy.state_dict()):
        raise _failure(algorithm, config, "has ended with weights that are not finite numbers")
    return model


def patience_of(algorithm: Algorithm, config: TrainConfig) -> int:
    """Return the patience of a run: the suite's, or else the algorithm's default."""
    return algorithm.patience if config.patience is None else config.patience


def observed_terms(table: TransitionTable, config: TrainConfig) -> tuple[str, ...]:
    """Return the terms that a router observes; none if the settings say so."""
    return frequent_terms(table) if config.terms else ()


def observed_response_terms(table: TransitionTable, config: TrainConfig) -> tuple[str, ...]:
    """Return the terms of responses that a router observes; none if the settings say so, or if it is blind to responses."""
    return frequent_response_terms(table) if config.terms and not config.blind else ()


def _build(table: TransitionTable, algorithm: Algorithm, config: TrainConfig, seed: int, log: Path | None) -> BaseAlgorithm:
    """Build an algorithm, and check that its policy can be stored.

    Raises:
        SuiteError: The algorithm does not accept an argument, or its policy has parts that are more than data.
    """
    arguments = algorithm.arguments(table, config)
    env = RoutingVecEnv(
        table,
        config.n_envs,
        config.alpha,
        "train",
        seed,
        config.allow_stop,
        config.alphas,
        terms=observed_terms(table, config),
        response_terms=observed_response_terms(table, config),
        blind=config.blind,
    )
    policy = policy_of(algorithm, config.policy, masked=table.available is not None)
    features = features_kwargs(env.observer, config.projection, config.first_layer, config.alphas)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")  # a smaller last minibatch is no mistake
            model = algorithm.model(
                policy=policy,
                env=env,
                seed=seed,
                device="cpu",
                verbose=0,
                tensorboard_log=str(log) if log else None,
                policy_kwargs={"net_arch": algorithm.net_arch(config.net_arch)} | features,
                **arguments,
            )
        fit_features(model.policy, env.observer)
    except Exception as error:
        raise SuiteError(
            f"{config.algorithm} does not accept its arguments ({', '.join(arguments) or 'there are none'}) or its actions: "
            f"{error}. Correct [train.{algorithm.name}] or --set {algorithm.name}.NAME=VALUE."
        ) from error
    try:
        check_storable(model, algorithm, arguments, config.policy)
    except ValueError as error:
        raise SuiteError(
            f"The policy of {config.algorithm} cannot be stored as data: {error}. Use a policy that is built from "
            "policy_kwargs alone."
        ) from error
    return model


def _failure(algorithm: Algorithm, config: TrainConfig, what: str) -> SuiteError:
    arguments = ", ".join(f"{name}={value}" for name, value in getattr(config, algorithm.name, {}).items())
    return SuiteError(
        f"Training with {config.algorithm} {what}; alpha is {config.alpha:g}, and the suite or --set gives "
        f"{arguments or 'no arguments'}. Nothing is kept. Try a smaller learning rate (--set "
        f"{algorithm.name}.learning_rate=1e-4) or smaller alphas, and check [train.{algorithm.name}]."
    )


def build_router(
    suite: Suite, table: TransitionTable, unit: float | None, config: TrainConfig, seed: int, model: BaseAlgorithm
) -> tuple[Router, Guard | None]:
    """Return the router of a trained policy, and how it compares with the best fixed path, on which it may fall back.

    Args:
        suite: The suite.
        table: The table that the policy was trained on.
        unit: The suite's cost unit.
        config: The settings of the run.
        seed: The seed of the run.
        model: The trained algorithm.
    """
    router = Router(model, card(suite, table, unit, config, seed))
    rows = table.rows("validation")
    if config.alphas or not len(rows):
        return router, None
    guard = compare_with_best_path(table, router.probabilities(table, rows), config.alpha)
    if guard and config.fallback and not guard.is_better:
        path = tree.path_of(guard.node, table.n_models)
        router = replace(router, card=router.card | {"fixed_path": [table.models[action] for action in path]})
    return router, guard


def run_name(suite: Suite, config: TrainConfig, seed: int) -> str:
    """Return the name of a run: equal settings have equal names, and different settings different ones."""
    names = [name for name in dict.fromkeys((*NAMED_DEFAULTS, config.algorithm)) if name in ALGORITHMS]
    defaults = {name: dict(find_algorithm(name).defaults) for name in names}
    masked = ["mask"] if suite.config.incomplete == "mask" else []  # the setting is not part of the suite's key
    identity = canonical_json([str(suite.key), config.model_dump(), defaults, seed, versions(), *masked])
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    algorithm = re.split("[.:]", config.algorithm)[-1].lower()
    price = f"{len(config.alphas)}alphas" if config.alphas else f"alpha{config.alpha:g}"
    return f"{suite.name}-{algorithm}-{price}-seed{seed}-{digest}"


def settings_of(table: TransitionTable, config: TrainConfig) -> dict[str, Any]:
    """Return all settings of a run, including defaults."""
    algorithm = find_algorithm(config.algorithm)
    fitted = fitted_settings(algorithm, config, algorithm.arguments(table, config))
    settings = fitted.model_dump() | {algorithm.name: algorithm.arguments(table, fitted)}
    return settings | {"patience": patience_of(algorithm, config)}


def card(suite: Suite, table: TransitionTable, unit: float | None, config: TrainConfig, seed: int) -> dict[str, Any]:
    """Return the card of a policy file: everything that the run used, with the suite's cost unit."""
    return {
        "run": run_name(suite, config, seed),
        "algorithm": config.algorithm,
        "alpha": config.alpha,
        "seed": seed,
        "settings": settings_of(table, config),
        "terms": list(observed_terms(table, config)),
        "response_terms": list(observed_response_terms(table, config)),
        **({"masked": True} if table.available is not None else {}),
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


def run_row(suite: Suite, table: TransitionTable, config: TrainConfig, seed: int, path: Path, seconds: float) -> Row:
    """Return a run as a row of the cache's table `runs`."""
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
    """Return how long a run took, if it is recorded and its policy file is unchanged; else None."""
    recorded = cache.runs.get(run)
    if recorded and path.exists() and recorded.policy_sha256 == content_sha256(path):
        return recorded.seconds
    return None


def train(
    suite: Suite,
    cache: Cache,
    config: TrainConfig,
    seed: int,
    out: Path,
    *,
    report: Report | None = None,
    force: bool = False,
    sb3_zip: bool = False,
) -> TrainedRun:
    """Train a router, write its file and log, and record the run. A run that fails or is interrupted leaves nothing.

    Args:
        suite: The recorded suite, whose transitions must all be cached.
        cache: Its cache.
        config: The settings, e.g. `suite.config.train.changed({"alpha": 0.1})`.
        seed: Seed of the training.
        out: Folder of all runs; the run gets a folder of its name in it.
        report: Called with the steps made so far, and the number that the run makes at most.
        force: Whether to train a run again that exists with the same settings and versions.
        sb3_zip: Whether to write a zip of stable-baselines3 beside the router's file.

    Raises:
        IncompleteCacheError: The cache does not hold every transition of the suite.
        SuiteError: The run cannot be trained, or fails (`fit_router`).
        PolicyError: The folder `out` cannot be written.
    """
    run = run_name(suite, config, seed)
    path = out / run / ROUTER_FILE
    if not force and (seconds := recorded_seconds(cache, run, path)) is not None:
        if sb3_zip and not (path.parent / ZIP_FILE).exists():
            find_algorithm(config.algorithm)  # the settings name its class, so it may be imported
            load_router(path).save_sb3(path.parent / ZIP_FILE)
        return TrainedRun(run=run, path=path, seconds=seconds, steps=0, cached=True)
    table = load_table(cache, suite, config.holdout)
    _, fitted = check_training(table, config, seed)
    if fitted != config:
        message = "Whole rollouts of %d episodes would exceed %d steps by too much: they are shorter."
        logger.info(message, config.n_envs, config.timesteps)
    started = time.monotonic()
    with run_folder(path.parent) as log:
        model = fit_router(table, config, seed, log, ProgressCallback(report))
        seconds = time.monotonic() - started
        router, guard = build_router(suite, table, cache.suites.cost_unit(suite.key), config, seed, model)
        with atomic_path(path) as draft:  # an older file of the run stays until the new one is recorded
            router.save(draft)
            row = run_row(suite, table, config, seed, draft, seconds)
            cache.runs.add({**row, "policy": str(path.resolve())})
        if sb3_zip:
            router.save_sb3(path.parent / ZIP_FILE)
    return TrainedRun(
        run=run,
        path=path,
        seconds=seconds,
        steps=model.num_timesteps,
        cached=False,
        guard=guard,
        falls_back=router.fixed_path is not None,
    )


@contextmanager
def run_folder(folder: Path) -> Iterator[Path]:
    """Make the folder of a run, and yield that of its log; if the block fails, what it added is deleted.

    Raises:
        PolicyError: The folder cannot be made.
    """
    log = folder / LOG_FOLDER
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    before = set(log.iterdir()) if log.is_dir() else set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PolicyError(
            f"The folder {folder} cannot be written: {error.strerror}. Name another folder for runs: --runs-dir FOLDER"
        ) from None
    try:
        yield log
    except BaseException:
        for added in set(log.iterdir()) - before if log.is_dir() else ():
            shutil.rmtree(added, ignore_errors=True)
        for empty in (log, *missing):
            with contextlib.suppress(OSError):
                empty.rmdir()
        raise
