"""What is checked before a router is trained, and how its settings are fitted to the length of the run."""

import math
from collections.abc import Mapping
from inspect import signature
from typing import Any

from stable_baselines3.common.policies import ActorCriticPolicy

from toolkit.core.errors import SuiteError
from toolkit.replay.table import TransitionTable, remedy_without_questions
from toolkit.routing.algorithms import POLICY, Algorithm, find_algorithm, find_policy
from toolkit.suites.config import TrainConfig

MAX_EXCESS = 0.1
"""Share of its steps by which a run, which ends with a whole rollout, may be longer than the settings say."""
MAX_SEED = 2**31 - 1
"""Largest seed: the cache's table `runs` stores it in 32 bits."""


def check_training(table: TransitionTable, config: TrainConfig, seed: int) -> tuple[Algorithm, TrainConfig]:
    """Check everything about a run that can be checked before it starts.

    Returns:
        The algorithm, and the settings with rollouts that fit into the steps of the run.

    Raises:
        SuiteError: There is no such algorithm, it cannot learn where models are masked and some are, an argument is of
            another type than the algorithm's default, there is no question to learn from or to evaluate on, or a rollout is
            longer than the run.
    """
    if not 0 <= seed <= MAX_SEED:
        raise SuiteError(f"The seed is {seed}; it must be from 0 to {MAX_SEED}. Choose another: --seed N")
    algorithm = find_algorithm(config.algorithm)
    find_policy(config.policy)
    if table.available is not None:
        _check_masks(algorithm, config, table)
    if not len(table.rows("train")):
        only = "it has all the training questions" if len(table.benchmarks) > 1 else "it is the only benchmark"
        raise SuiteError(
            f"Without the benchmark {config.holdout!r}, which is held out, there is no question to learn from: {only}. Hold "
            "out another one, or none."
            if config.holdout
            else f"The training split has no questions. {remedy_without_questions(table.split)}"
        )
    if config.holdout and not len(table.rows("test")):
        raise SuiteError(
            f"The benchmark {config.holdout!r}, which is held out, has no questions to evaluate on. Hold out another one, or "
            "none."
        )
    arguments = algorithm.arguments(table, config)
    _check_types(algorithm, config, arguments)
    for name in ("batch_size", "n_epochs", "n_steps", "patience", "train_freq"):
        value = algorithm.argument(name, arguments)
        if isinstance(value, int) and value < 1:
            raise SuiteError(
                f"{config.algorithm} needs a {name} of at least 1; this is {value}. --set {algorithm.name}.{name}=N"
            )
    return algorithm, fitted_settings(algorithm, config, arguments)


def _check_masks(algorithm: Algorithm, config: TrainConfig, table: TransitionTable) -> None:
    """Check that an algorithm chooses among available models only; what a policy of the user's chooses, nobody knows yet."""
    own = algorithm.model.policy_aliases.get(POLICY)
    is_masked = own is not None and issubclass(own, ActorCriticPolicy)
    if config.policy == POLICY and not is_masked and "action_masks" not in signature(algorithm.model.predict).parameters:
        raise SuiteError(
            f"{config.algorithm} chooses among all models, but {table.mask_reason}. Train with ppo or exact, or "
            f"{table.mask_remedy}."
        )


def _check_types(algorithm: Algorithm, config: TrainConfig, arguments: Mapping[str, Any]) -> None:
    """Check arguments that replace a number: a text among them would fail in the middle of training."""
    for name, value in arguments.items():
        default = algorithm.argument(name, {})
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if isinstance(default, bool):
            wrong = not isinstance(value, bool)
        elif isinstance(default, int):
            wrong = not is_number or value != int(value)
        else:
            wrong = isinstance(default, float) and not is_number
        if wrong:
            raise SuiteError(
                f"{config.algorithm} takes a {'whole number' if type(default) is int else type(default).__name__} as {name}, "
                f"such as {default}; this is {value!r}. Correct [train.{algorithm.name}] or --set "
                f"{algorithm.name}.{name}={default}"
            )


def fitted_settings(algorithm: Algorithm, config: TrainConfig, arguments: Mapping[str, Any]) -> TrainConfig:
    """Return the settings with shorter rollouts, if whole ones make the run longer than it should be.

    Rollouts get fewer hops of each episode if nobody has set their number, and else fewer episodes side by side.

    Raises:
        SuiteError: A rollout of one episode is longer than the run, or nothing is learned before it ends.
    """
    timesteps, (name, steps) = config.timesteps, algorithm.rollout_steps(arguments)
    start = algorithm.argument("learning_starts", arguments)
    if isinstance(start, int) and start >= timesteps:
        raise SuiteError(
            f"{config.algorithm} begins to learn after learning_starts = {start} steps, and the run has {timesteps}. Train for "
            f"longer: --set timesteps={start * 100}, or begin earlier: --set {algorithm.name}.learning_starts=0"
        )
    if not algorithm.uses_timesteps or _is_close(timesteps, steps * config.n_envs):
        return config
    if name not in arguments:
        steps = min(steps, -(-timesteps // config.n_envs))
        config = config.changed({algorithm.name: {name: steps}})
    if not 1 <= steps <= timesteps:
        raise SuiteError(
            f"A rollout of {config.algorithm} takes {name} = {steps} hops of each episode, and the run has {timesteps} steps. "
            f"Set {name} between 1 and {timesteps}: --set {algorithm.name}.{name}=1"
        )
    if _is_close(timesteps, steps * config.n_envs):
        return config
    rollouts = -(-timesteps // (steps * config.n_envs))
    return config.changed({"n_envs": -(-timesteps // (steps * rollouts))})


def _is_close(timesteps: int, rollout: int) -> bool:
    """Return whether a run of whole rollouts is hardly longer than it should be."""
    return rollout > 0 and -(-timesteps // rollout) * rollout <= timesteps * (1 + MAX_EXCESS)
