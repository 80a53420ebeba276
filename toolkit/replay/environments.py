"""Replay environments over a transition table: `RoutingEnv` for Gymnasium, `RoutingVecEnv` for stable-baselines3."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn

from toolkit.core import tree
from toolkit.replay.table import Floats, Ints, TransitionTable, load_table
from toolkit.store import Cache
from toolkit.suites.suite import Split

Observations = npt.NDArray[np.float32]


class Observer:
    """Turns (row, decision node) into observations, `(n, features)`, by gathering: embeddings, hop one-hot, cost so far.

    Args:
        table: The table.
        told: Whether alpha is observed, too, as the last feature.
    """

    def __init__(self, table: TransitionTable, told: bool = False) -> None:
        self.table = table
        self.told = told
        self.hop = np.repeat(np.arange(table.horizon), [table.n_models**depth for depth in range(table.horizon)])
        self.one_hot = np.eye(table.horizon, dtype=np.float32)[self.hop]
        self.cost = table.cost[:, : table.n_decision_nodes].astype(np.float32)
        self.width = table.texts.shape[2] * table.vectors.shape[1]
        self.size = self.width + table.horizon + 1 + told

    @property
    def space(self) -> "spaces.Box[np.floating[Any]]":
        """The observation space."""
        return spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    def __call__(self, rows: Ints, nodes: Ints, alpha: Floats | float = 0.0) -> Observations:
        """Observe decision nodes at prices of cost, `(n,)` or one; a node past the last hop gives zeros."""
        outside = np.flatnonzero(nodes >= self.table.n_decision_nodes)
        if len(outside):
            nodes = nodes.copy()
            nodes[outside] = 0
        seen: Observations = np.empty((len(rows), self.size), dtype=np.float32)
        dimensions, texts = self.table.vectors.shape[1], self.table.texts[rows, nodes]
        for part in range(texts.shape[1]):
            here = seen[:, part * dimensions : (part + 1) * dimensions]
            np.take(self.table.vectors, texts[:, part], axis=0, out=here, mode="clip")  # other modes copy once more
        hops = self.width + self.table.horizon
        seen[:, self.width : hops] = self.one_hot[nodes]
        seen[:, hops] = self.cost[rows, nodes]
        if self.told:
            seen[:, -1] = alpha
        seen[outside] = 0
        return seen

    def everywhere(self, rows: Ints, alpha: float = 0.0) -> Observations:
        """Observe all decision nodes of some rows, `(rows * D, features)`, at a price of cost."""
        nodes = np.arange(self.table.n_decision_nodes)
        return self(np.repeat(rows, len(nodes)), np.tile(nodes, len(rows)), alpha)


class RoutingEnv(gym.Env[Observations, np.int64]):
    """Routes one question at a time through a pool of models, replayed from a table.

    ## Description
    An episode is one question. At each of L hops a model of the pool is chosen; its cached answer becomes the newest of
    the context. Transitions are deterministic; the only chance is which question is drawn.

    ## Action Space
    `Discrete(M)`: the position of the next model in the pool. With `allow_stop`, `Discrete(M + 1)`: the last action ends the
    episode with the current answer.

    ## Observation Space
    `Box` of float32: the embedding of the question and of the newest answer (zeros at the first hop) or, with
    `features.text = "context"`, of the whole context; the hop as one-hot, `(L,)`; the cost so far in cost units; with `alphas`,
    the alpha of the episode.

    ## Starting State
    The root of a question drawn uniformly from the split; `reset(options={"row": n})` picks row `n` of the table. With
    `alphas`, the price of cost is drawn from them for each episode; `reset(options={"alpha": x})` names it.

    ## Rewards
    `-alpha * cost` of the hop, plus the quality of the answer at the last hop, so that the undiscounted return is
    `Q - alpha * C`. Stopping costs nothing and gives the quality of the current answer, 0 at the root.

    ## Episode End
    Hop L and stopping terminate; nothing is ever truncated.

    ## Arguments
    `table`, or `cache` and `suite` (the name of a recorded suite) to load it; `alpha`; `split`; `allow_stop`; `alphas`.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's own declaration

    def __init__(
        self,
        table: TransitionTable | None = None,
        alpha: float = 0.05,
        split: Split = "train",
        allow_stop: bool = False,
        alphas: Sequence[float] = (),
        *,
        cache: str | None = None,
        suite: str | None = None,
    ) -> None:
        self.table = table if table is not None else _load(cache, suite)
        self.alpha = alpha
        self.alphas = tuple(alphas)
        self.rows = self.table.rows(split)
        if not len(self.rows):
            raise ValueError(f"the {split} split has no question; choose another, or change [splits] in the suite")
        self.observer = Observer(self.table, told=bool(self.alphas))
        self.observation_space: spaces.Space[Observations] = self.observer.space
        self.action_space = spaces.Discrete(self.table.n_models + allow_stop)
        self._n_actions = self.table.n_models + allow_stop
        self._row = self._node = 0
        self._over = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observations, dict[str, Any]]:
        """Start at the root of a drawn question, or of row `options["row"]`, at a drawn alpha, or at `options["alpha"]`."""
        super().reset(seed=seed)
        given = options or {}
        self._row = int(given["row"] if "row" in given else self.np_random.choice(self.rows))
        if self.alphas:
            self.alpha = float(given["alpha"] if "alpha" in given else self.np_random.choice(self.alphas))
        self._node = 0
        self._over = False
        return self._observation(), {"row": self._row}

    def step(self, action: np.int64 | int) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Let the chosen model answer, or stop.

        Raises:
            InvalidAction: There is no such action.
            ResetNeeded: The episode is over.
        """
        if not 0 <= action < self._n_actions:
            raise gym.error.InvalidAction(f"action {action} is outside {self.action_space}")
        if self._over:
            raise gym.error.ResetNeeded("the episode is over: call reset() before step()")
        stopped = int(action) == self.table.n_models
        if not stopped:
            self._node = self._node * self.table.n_models + 1 + int(action)
        terminated = stopped or self._node >= self.table.n_decision_nodes
        reward = 0.0 if stopped else -self.alpha * float(self.table.hop_cost[self._row, self._node])
        if terminated:
            reward += float(self.table.quality[self._row, self._node])
        self._over = terminated
        return self._observation(), reward, terminated, False, {"row": self._row}

    def _observation(self) -> Observations:
        seen: Observations = self.observer(np.array([self._row]), np.array([self._node]), self.alpha)[0]
        return seen


class RoutingVecEnv(VecEnv):
    """Many `RoutingEnv`s as arrays: stepping, rewarding and observing all of them is a handful of NumPy operations.

    Questions are drawn from a shuffled list of the split's rows, reshuffled when it is used up, so that every question is
    replayed equally often. `row` and `node` say where each episode is; `advance` steps without observing. `completed` and
    `returns` count finished episodes and sum up their returns.

    Args:
        table: The table.
        n_envs: Episodes side by side.
        alpha: Price of cost.
        split: Which questions.
        seed: Seed of the order of the questions.
        allow_stop: Whether the last action ends the episode with the current answer.
        alphas: Where given, each episode's alpha is drawn from them, and observed.
    """

    def __init__(
        self,
        table: TransitionTable,
        n_envs: int,
        alpha: float = 0.05,
        split: Split = "train",
        seed: int = 0,
        allow_stop: bool = False,
        alphas: Sequence[float] = (),
    ) -> None:
        self.table = table
        self.allow_stop = allow_stop
        self.alphas: Floats = np.array(alphas, dtype=np.float64)
        self.alpha = alpha
        self.rows = table.rows(split)
        if not len(self.rows):
            raise ValueError(f"the {split} split has no question; choose another, or change [splits] in the suite")
        self.observer = Observer(table, told=bool(len(self.alphas)))
        self.render_mode = None
        super().__init__(n_envs, self.observer.space, spaces.Discrete(table.n_models + allow_stop))
        self._rng = np.random.default_rng(seed)
        self._queue: Ints = np.empty(0, dtype=np.int64)
        self.row: Ints = np.zeros(n_envs, dtype=np.int64)
        self.node: Ints = np.zeros(n_envs, dtype=np.int64)
        self.price: Floats = np.full(n_envs, alpha)
        self._actions: Ints = self.node
        self._return = np.zeros(n_envs)
        self._infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self.completed = 0
        self.returns = 0.0

    @property
    def alpha(self) -> float:
        """Price of cost, of every episode where there are no `alphas`."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._alpha = alpha
        self._gain = -alpha * self.table.hop_cost if not len(self.alphas) else np.zeros_like(self.table.hop_cost)
        leaves = tree.level(self.table.n_models, self.table.horizon)
        self._gain[:, leaves] += self.table.quality[:, leaves]

    def reset(self) -> VecEnvObs:
        """Start every episode anew; seeds given to `seed` or options to `set_options` apply."""
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(self._seeds[0])
            self._queue = self._queue[:0]
        self.row = self._draw(self.num_envs)
        self.price = self._draw_prices(self.num_envs)
        for n, options in enumerate(self._options):
            if "row" in options:
                self.row[n] = options["row"]
            if "alpha" in options:
                self.price[n] = options["alpha"]
        self.node = np.zeros(self.num_envs, dtype=np.int64)
        self._return[:] = 0
        self._reset_seeds()
        self._reset_options()
        return self.observer(self.row, self.node, self.price)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Let the chosen models answer; finished episodes start anew, as SB3 expects.

        The observation of a finished episode would be all zeros and is never bootstrapped from, so `infos` stay empty.
        """
        rewards, dones = self.advance(self._actions)
        return self.observer(self.row, self.node, self.price), rewards, dones, self._infos

    def advance(self, actions: Ints) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Step without observing: return rewards and which episodes ended, `(n_envs,)` each."""
        node = self.node * self.table.n_models + 1 + actions
        if self.allow_stop:
            stopped = actions == self.table.n_models
            node = np.where(stopped, self.node, node)
            dones = stopped | (node >= self.table.n_decision_nodes)
            rewards = np.where(stopped, self.table.quality[self.row, node], self._gain[self.row, node])
        else:
            dones = node >= self.table.n_decision_nodes
            rewards = self._gain[self.row, node]
        if len(self.alphas):
            rewards = rewards - self.price * np.where(node == self.node, 0.0, self.table.hop_cost[self.row, node])
        self._return += rewards
        self.node = node
        ended = np.flatnonzero(dones)
        if len(ended):
            self.completed += len(ended)
            self.returns += float(self._return[ended].sum())
            self._return[ended] = 0
            self.row = self.row.copy()
            self.row[ended] = self._draw(len(ended))
            if len(self.alphas):
                self.price = self.price.copy()
                self.price[ended] = self._draw_prices(len(ended))
            self.node[ended] = 0
        return rewards.astype(np.float32), dones

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

    def _draw_prices(self, n: int) -> Floats:
        if not len(self.alphas):
            return np.full(n, self._alpha)
        drawn: Floats = self._rng.choice(self.alphas, n)
        return drawn


def _load(cache: str | None, suite: str | None) -> TransitionTable:
    if cache is None or suite is None:
        raise ValueError("give a table, or both cache (a file) and suite (the name of a recorded suite)")
    opened = Cache(cache)
    recorded = opened.recorded(suite)
    if recorded is None:
        raise ValueError(f"{cache} has no suite {suite!r}; recorded: {', '.join(opened.suite_names())}")
    return load_table(opened, recorded)


gym.register(id="toolkit/Routing-v0", entry_point="toolkit.replay.environments:RoutingEnv")
