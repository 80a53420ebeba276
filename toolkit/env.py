"""Replay environments over a transition table: `RoutingEnv` for Gymnasium, `RoutingVecEnv` for stable-baselines3."""

from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from toolkit.store import Cache
from toolkit.suite import Split
from toolkit.table import Ints, TransitionTable, load_table

Observations = npt.NDArray[np.float32]


class Observer:
    """Turns (row, decision node) into observations, `(n, features)`, by gathering: embeddings, hop one-hot, cost so far."""

    def __init__(self, table: TransitionTable) -> None:
        self.table = table
        self.hop = np.repeat(np.arange(table.horizon), [table.n_models**depth for depth in range(table.horizon)])
        self.one_hot = np.eye(table.horizon, dtype=np.float32)[self.hop]
        self.cost = table.cost[:, : table.n_decision_nodes].astype(np.float32)
        self.size = table.texts.shape[2] * table.vectors.shape[1] + table.horizon + 1

    @property
    def space(self) -> "spaces.Box[np.floating[Any]]":
        """The observation space."""
        return spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def __call__(self, rows: Ints, nodes: Ints) -> Observations:
        """Observe decision nodes; a node past the last hop gives zeros."""
        inside = nodes < self.table.n_decision_nodes
        nodes = np.where(inside, nodes, 0)
        embedded = self.table.vectors[self.table.texts[rows, nodes]].reshape(len(rows), -1)
        seen = np.concatenate([embedded, self.one_hot[nodes], self.cost[rows, nodes][:, None]], axis=1)
        return cast(Observations, np.where(inside[:, None], seen, np.float32(0)))


class RoutingEnv(gym.Env[Observations, np.int64]):
    """Routes one question at a time through a pool of models, replayed from a table.

    ## Description
    An episode is one question. At each of L hops a model of the pool is chosen; its cached answer becomes the newest of
    the context. Transitions are deterministic; the only chance is which question is drawn.

    ## Action Space
    `Discrete(M)`: the position of the next model in the pool.

    ## Observation Space
    `Box` of float32: the embedding of the question and of the newest answer (zeros at the first hop) or, with
    `features.text = "context"`, of the whole context; the hop as one-hot, `(L,)`; the cost so far in cost units.

    ## Starting State
    The root of a question drawn uniformly from the split; `reset(options={"row": n})` picks row `n` of the table.

    ## Rewards
    `-alpha * cost` of the hop, plus the quality of the answer at the last hop, so that the undiscounted return is
    `Q - alpha * C`.

    ## Episode End
    Hop L terminates; nothing is ever truncated.

    ## Arguments
    `table`, or `cache` and `suite` (the name of a recorded suite) to load it; `alpha`; `split`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's own declaration

    def __init__(
        self,
        table: TransitionTable | None = None,
        alpha: float = 0.05,
        split: Split = "train",
        *,
        cache: str | None = None,
        suite: str | None = None,
    ) -> None:
        self.table = table if table is not None else _load(cache, suite)
        self.alpha = alpha
        self.rows = self.table.rows(split)
        if not len(self.rows):
            raise ValueError(f"the {split} split has no question; choose another, or change [splits] in the suite")
        self.observer = Observer(self.table)
        self.observation_space: spaces.Space[Observations] = self.observer.space
        self.action_space = spaces.Discrete(self.table.n_models)
        self._row = self._node = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observations, dict[str, Any]]:
        """Start at the root of a drawn question, or of row `options["row"]`."""
        super().reset(seed=seed)
        self._row = int(options["row"]) if options and "row" in options else int(self.np_random.choice(self.rows))
        self._node = 0
        return self._observation(), {"row": self._row}

    def step(self, action: np.int64 | int) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Let the chosen model answer."""
        self._node = self._node * self.table.n_models + 1 + int(action)
        terminated = self._node >= self.table.n_decision_nodes
        reward = -self.alpha * float(self.table.hop_cost[self._row, self._node])
        if terminated:
            reward += float(self.table.quality[self._row, self._node])
        return self._observation(), reward, terminated, False, {"row": self._row}

    def _observation(self) -> Observations:
        seen: Observations = self.observer(np.array([self._row]), np.array([self._node]))[0]
        return seen


class RoutingVecEnv(VecEnv):
    """Many `RoutingEnv`s as arrays: stepping, rewarding and observing all of them is a handful of NumPy operations.

    Questions are drawn from a shuffled list of the split's rows, reshuffled when it is used up, so that every question is
    replayed equally often. `completed` and `returns` count finished episodes and sum up their returns.

    Args:
        table: The table.
        n_envs: Episodes side by side.
        alpha: Price of cost.
        split: Which questions.
        seed: Seed of the order of the questions.
    """

    def __init__(self, table: TransitionTable, n_envs: int, alpha: float = 0.05, split: Split = "train", seed: int = 0) -> None:
        self.table = table
        self.alpha = alpha
        self.rows = table.rows(split)
        if not len(self.rows):
            raise ValueError(f"the {split} split has no question; choose another, or change [splits] in the suite")
        self.observer = Observer(table)
        self.render_mode = None
        super().__init__(n_envs, self.observer.space, spaces.Discrete(table.n_models))
        self._rng = np.random.default_rng(seed)
        self._queue: Ints = np.empty(0, dtype=np.int64)
        self._row: Ints = np.zeros(n_envs, dtype=np.int64)
        self._node: Ints = np.zeros(n_envs, dtype=np.int64)
        self._actions: Ints = self._node
        self._return = np.zeros(n_envs)
        self._infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self.completed = 0
        self.returns = 0.0

    def reset(self) -> VecEnvObs:
        """Start every episode anew; seeds given to `seed` or options to `set_options` apply."""
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(self._seeds[0])
            self._queue = self._queue[:0]
        self._row = self._draw(self.num_envs)
        for n, options in enumerate(self._options):
            if "row" in options:
                self._row[n] = options["row"]
        self._node = np.zeros(self.num_envs, dtype=np.int64)
        self._return[:] = 0
        self._reset_seeds()
        self._reset_options()
        return self.observer(self._row, self._node)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Let the chosen models answer; finished episodes start anew, as SB3 expects.

        The observation of a finished episode would be all zeros and is never bootstrapped from, so `infos` stay empty.
        """
        node = self._node * self.table.n_models + 1 + self._actions
        dones = node >= self.table.n_decision_nodes
        rewards = -self.alpha * self.table.hop_cost[self._row, node] + dones * self.table.quality[self._row, node]
        self._return += rewards
        self._node = np.where(dones, 0, node)
        ended = np.flatnonzero(dones)
        if len(ended):
            self.completed += len(ended)
            self.returns += float(self._return[ended].sum())
            self._return[ended] = 0
            self._row = self._row.copy()
            self._row[ended] = self._draw(len(ended))
        return self.observer(self._row, self._node), rewards.astype(np.float32), dones, self._infos

    def close(self) -> None:
        """Nothing to free."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute, the same for every environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all environments at once."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method once and return its result for every environment."""
        return [getattr(self, method_name)(*args, **kwargs)] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None) -> list[bool]:
        """Tell that no environment is wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def _draw(self, n: int) -> Ints:
        parts: Sequence[Ints] = [self._queue]
        while sum(map(len, parts)) < n:
            parts = [*parts, self._rng.permutation(self.rows)]
        drawn = np.concatenate(parts)
        self._queue = drawn[n:]
        return drawn[:n]


def _load(cache: str | None, suite: str | None) -> TransitionTable:
    if cache is None or suite is None:
        raise ValueError("give a table, or both cache (a file) and suite (the name of a recorded suite)")
    opened = Cache(cache)
    recorded = opened.recorded(suite)
    if recorded is None:
        raise ValueError(f"{cache} has no suite {suite!r}; recorded: {', '.join(opened.suite_names())}")
    return load_table(opened, recorded)


gym.register(id="toolkit/Routing-v0", entry_point="toolkit.env:RoutingEnv")
