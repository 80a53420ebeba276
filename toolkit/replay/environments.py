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
from toolkit.core.errors import TrainingError
from toolkit.core.text import printable
from toolkit.replay.exact import benchmark_weights
from toolkit.replay.observations import Observations, Observer
from toolkit.replay.table import Floats, Ints, TransitionTable, load_table
from toolkit.store import Cache
from toolkit.suites.suite import Split

MAX_QUOTED = 60
"""Characters of a question that a message quotes."""


class RoutingEnv(gym.Env[Observations, np.int64]):
    """Routes one question at a time through a pool of models, replayed from a table.

    ## Description
    An episode is one question. At each of L hops the agent chooses a model of the pool, whose cached response becomes the
    newest of the context. Transitions are deterministic; only the question of an episode is random.

    ## Action Space
    `Discrete(M)`: the position of the next model in the pool. With `allow_stop`, `Discrete(M + 1)`: the last action ends the
    episode with the current response. Where responses are missing, not every model may be chosen: `action_masks()` says which
    actions may, for algorithms such as sb3-contrib's `MaskablePPO`, and so does `info["action_mask"]`, as int8 for
    `action_space.sample(mask)`.

    ## Observation Space
    `Box` of float32: the embeddings of the question and of the newest response (zeros at the first hop) or, with
    `features.text = "context"`, of the whole context; which of `terms` the question contains, and which of
    `response_terms` the newest response; the hop as one-hot, `(L,)`; the
    path so far as one-hot, `((L - 1) * M,)`; the cost so far in cost units; where responses are missing, which models may be
    chosen, `(M,)`; with `alphas`, the alpha of the episode. See `toolkit.replay.observations.Layout`.

    ## Starting State
    The root of a question of the split: a benchmark is drawn uniformly, then one of its questions, because R is the mean of
    benchmarks. `reset(options={"row": n})` picks row `n` of the table. With `alphas`, each episode draws its alpha from them;
    `reset(options={"alpha": x})` sets it.

    ## Rewards
    `-alpha * cost` of each hop, plus the quality of the response at the last, so that the undiscounted return is
    `Q - alpha * C`. Stopping costs nothing and yields the quality of the current response, 0 at the root.

    ## Episode End
    Hop L and stopping terminate the episode; no episode is truncated.

    ## Information
    `reset` and `step` return `info` with the `row` of the table, the `question` (None if the table has no texts) and its
    `benchmark`, the `path` so far (names of models), `quality` Q of the current response, the `cost` C so far in cost units,
    and the `action_mask`. Q is 0 before the first response. All but
    the mask are for people: they are not part of the observation.

    ## Arguments
    `table`, or `cache` and `suite` (the name of a recorded suite) to load it; `alpha`; `split`; `allow_stop`; `alphas`;
    `terms`, e.g. `frequent_terms(table)` of `toolkit.replay.terms`; `blind`, to hide the responses and what they have cost.
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's own declaration

    def __init__(
        self,
        table: TransitionTable | None = None,
        alpha: float = 0.05,
        split: Split = "train",
        allow_stop: bool = False,
        alphas: Sequence[float] = (),
        terms: Sequence[str] = (),
        blind: bool = False,
        response_terms: Sequence[str] = (),
        *,
        cache: str | None = None,
        suite: str | None = None,
    ) -> None:
        self.table = table if table is not None else _load(cache, suite)
        self.alpha = alpha
        self.alphas = tuple(alphas)
        self.rows = _rows(self.table, split)
        self._weights = benchmark_weights(self.table, self.rows)
        self.observer = Observer(self.table, terms, blind, bool(self.alphas), response_terms=response_terms)
        self.observation_space: spaces.Space[Observations] = self.observer.space
        self.action_space = spaces.Discrete(self.table.n_models + allow_stop)
        self._n_actions = self.table.n_models + allow_stop
        self._row = self._node = 0
        self._terminated = True

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observations, dict[str, Any]]:
        """Start an episode at the root of a question; `options` may set its `row` and its `alpha`."""
        super().reset(seed=seed)
        options = options or {}
        self._row = int(options["row"] if "row" in options else self.np_random.choice(self.rows, p=self._weights))
        if self.alphas:
            self.alpha = float(options["alpha"] if "alpha" in options else self.np_random.choice(self.alphas))
        self._node = 0
        self._terminated = False
        return self._observation(), self._info()

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions may be taken, `(actions,)`; stopping always may, and after the end of an episode nothing."""
        if self._terminated:
            return np.zeros(self._n_actions, dtype=np.bool_)
        masks: npt.NDArray[np.bool_] = _masks(self.table, np.array([self._row]), np.array([self._node]), self._n_actions)[0]
        return masks

    def step(self, action: np.int64 | int) -> tuple[Observations, float, bool, bool, dict[str, Any]]:
        """Let the chosen model respond, or stop.

        Raises:
            InvalidAction: There is no such action, or the model has no response here.
            ResetNeeded: The episode has ended.
        """
        if not 0 <= action < self._n_actions:
            raise gym.error.InvalidAction(f"action {action} is outside {self.action_space}")
        if self._terminated:
            raise gym.error.ResetNeeded("the episode has ended: call reset() before step()")
        stopped = int(action) == self.table.n_models
        if self.table.available is not None and not self.action_masks()[int(action)]:
            raise gym.error.InvalidAction(
                f"action {action} is unavailable: {self.table.models[int(action)]} has no response at node {self._node} of row "
                f"{self._row}. action_masks() says which actions may be taken"
            )
        if not stopped:
            self._node = self._node * self.table.n_models + 1 + int(action)
        terminated = stopped or self._node >= self.table.n_decision_nodes
        reward = 0.0 if stopped else -self.alpha * float(self.table.hop_cost[self._row, self._node])
        if terminated:
            reward += float(self.table.quality[self._row, self._node])
        self._terminated = terminated
        return self._observation(), reward, terminated, False, self._info()

    def _info(self) -> dict[str, Any]:
        table = self.table
        return {
            "row": self._row,
            "question": table.questions[self._row] if table.questions else None,
            "benchmark": table.benchmarks[int(table.benchmark[self._row])],
            "path": [table.models[action] for action in tree.path_of(self._node, table.n_models)],
            "quality": float(table.quality[self._row, self._node]),
            "cost": float(table.cost[self._row, self._node]),
            "action_mask": self.action_masks().astype(np.int8),
        }

    def _observation(self) -> Observations:
        observation: Observations = self.observer(np.array([self._row]), np.array([self._node]), self.alpha)[0]
        return observation


class RoutingVecEnv(VecEnv):
    """Many `RoutingEnv`s as arrays: a step of all of them takes a handful of NumPy operations.

    Every benchmark is replayed equally often, because R is the mean of benchmarks, and so is every question within one.
    `row`, `node` and `episode_alphas` describe each episode, `(n_envs,)`; `advance` steps without observing. `completed` and
    `returns` count the finished episodes and sum their returns.

    Args:
        table: The table.
        n_envs: Number of episodes side by side.
        alpha: Price of cost.
        split: The questions' split.
        seed: Seed of the order of the questions.
        allow_stop: Whether the last action ends the episode with the current response.
        alphas: If there are any, each episode draws its alpha from them and observes it.
        terms: Terms of which a policy observes whether the question contains them.
        blind: Whether responses, and what they have cost, are hidden.
        response_terms: Terms of which a policy observes whether the newest response contains them.
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
        terms: Sequence[str] = (),
        blind: bool = False,
        response_terms: Sequence[str] = (),
    ) -> None:
        self.table = table
        self.allow_stop = allow_stop
        self.alphas: Floats = np.array(alphas, dtype=np.float64)
        self.alpha = alpha
        self.rows = _rows(table, split)
        benchmark = table.benchmark[self.rows]
        self._benchmarks = [self.rows[benchmark == number] for number in np.unique(benchmark)]
        self.observer = Observer(table, terms, blind, bool(len(self.alphas)), response_terms=response_terms)
        self.render_mode = None
        super().__init__(n_envs, self.observer.space, spaces.Discrete(table.n_models + allow_stop))
        self._rng = np.random.default_rng(seed)
        self._queue: Ints = np.empty(0, dtype=np.int64)
        self.row: Ints = np.zeros(n_envs, dtype=np.int64)
        self.node: Ints = np.zeros(n_envs, dtype=np.int64)
        self.episode_alphas: Floats = np.full(n_envs, alpha)
        self._actions: Ints = self.node
        self._return = np.zeros(n_envs)
        self._infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
        self.completed = 0
        self.returns = 0.0

    @property
    def alpha(self) -> float:
        """Price of cost of every episode, if there are no `alphas`."""
        return self._alpha

    @alpha.setter
    def alpha(self, alpha: float) -> None:
        self._alpha = alpha
        self._reward = -alpha * self.table.hop_cost if not len(self.alphas) else np.zeros_like(self.table.hop_cost)
        leaves = tree.level(self.table.n_models, self.table.horizon)
        self._reward[:, leaves] += self.table.quality[:, leaves]

    def reset(self) -> VecEnvObs:
        """Restart every episode; seeds set by `seed` and options set by `set_options` apply."""
        if self._seeds[0] is not None:
            self._rng = np.random.default_rng(self._seeds[0])
            self._queue = self._queue[:0]
        self.row = self._draw_rows(self.num_envs)
        self.episode_alphas = self._draw_alphas(self.num_envs)
        for n, options in enumerate(self._options):
            if "row" in options:
                self.row[n] = options["row"]
            if "alpha" in options:
                self.episode_alphas[n] = options["alpha"]
        self.node = np.zeros(self.num_envs, dtype=np.int64)
        self._return[:] = 0
        self._reset_seeds()
        self._reset_options()
        return self.observer(self.row, self.node, self.episode_alphas)

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Return which actions may be taken in every episode, `(n_envs, actions)`; stopping always may."""
        return _masks(self.table, self.row, self.node, self.table.n_models + self.allow_stop)

    def step_async(self, actions: npt.NDArray[Any]) -> None:
        """Keep the actions for `step_wait`."""
        self._actions = np.asarray(actions, dtype=np.int64)

    def step_wait(self) -> VecEnvStepReturn:
        """Let the chosen models respond; finished episodes restart, as SB3 expects.

        The observation of a finished episode would be all zeros and is never bootstrapped from, so `infos` stay empty.
        """
        rewards, dones = self.advance(self._actions)
        return self.observer(self.row, self.node, self.episode_alphas), rewards, dones, self._infos

    def advance(self, actions: Ints) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
        """Step without observing; return the rewards and which episodes ended, `(n_envs,)` each.

        Raises:
            TrainingError: A model is chosen where it has no response.
        """
        self._check_available(actions)
        node = self.node * self.table.n_models + 1 + actions
        if self.allow_stop:
            stopped = actions == self.table.n_models
            node = np.where(stopped, self.node, node)
            dones = stopped | (node >= self.table.n_decision_nodes)
            rewards = np.where(stopped, self.table.quality[self.row, node], self._reward[self.row, node])
        else:
            dones = node >= self.table.n_decision_nodes
            rewards = self._reward[self.row, node]
        if len(self.alphas):
            hop_cost = np.where(node == self.node, 0.0, self.table.hop_cost[self.row, node])
            rewards = rewards - self.episode_alphas * hop_cost
        self._return += rewards
        self.node = node
        ended = np.flatnonzero(dones)
        if len(ended):
            self._restart(ended)
        return rewards.astype(np.float32), dones

    def close(self) -> None:
        """Do nothing: there is nothing to free."""

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute, which is the same for every environment."""
        return [getattr(self, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of all environments at once."""
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Call a method once and return its result for every environment; of `action_masks`, each gets its own row."""
        result = getattr(self, method_name)(*args, **kwargs)
        environments = list(self._get_indices(indices))
        return list(result[environments]) if method_name == "action_masks" else [result] * len(environments)

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None) -> list[bool]:
        """Return False for every environment: none is wrapped."""
        return [False] * len(list(self._get_indices(indices)))

    def _check_available(self, actions: Ints) -> None:
        """Check that every chosen model has a response.

        Raises:
            TrainingError: One does not.
        """
        if self.table.available is None:
            return
        unavailable = np.flatnonzero(~self.action_masks()[np.arange(self.num_envs), actions])
        if not len(unavailable):
            return
        first = unavailable[0]
        table, row, node = self.table, int(self.row[first]), int(self.node[first])
        question = f" of the question {table.questions[row][:MAX_QUOTED]!r}" if table.questions else ""
        raise TrainingError(
            f"The policy chose {printable(table.models[actions[first]])} where it has no response: at hop "
            f"{len(table.path(node))}{printable(question)}. Use a policy that chooses among available models only: MlpPolicy, "
            "a class derived from toolkit.routing.masked_policy.MaskedPolicy, or one whose algorithm asks for action_masks(). "
            f"Or {self.table.mask_remedy}."
        )

    def _restart(self, ended: Ints) -> None:
        """Count the finished episodes and start new ones in their places."""
        self.completed += len(ended)
        self.returns += float(self._return[ended].sum())
        self._return[ended] = 0
        self.row = self.row.copy()
        self.row[ended] = self._draw_rows(len(ended))
        if len(self.alphas):
            self.episode_alphas = self.episode_alphas.copy()
            self.episode_alphas[ended] = self._draw_alphas(len(ended))
        self.node[ended] = 0

    def _draw_rows(self, n: int) -> Ints:
        parts: Sequence[Ints] = [self._queue]
        while sum(map(len, parts)) < n:
            parts = [*parts, self._shuffled()]
        queue = np.concatenate(parts)
        self._queue = queue[n:]
        return queue[:n]

    def _shuffled(self) -> Ints:
        """Return as many questions of each benchmark as the largest one has, in random order."""
        size = max(map(len, self._benchmarks))
        rounds = [[self._rng.permutation(rows) for _ in range(-(-size // len(rows)))] for rows in self._benchmarks]
        shuffled: Ints = self._rng.permutation(np.concatenate([np.concatenate(parts)[:size] for parts in rounds]))
        return shuffled

    def _draw_alphas(self, n: int) -> Floats:
        if not len(self.alphas):
            return np.full(n, self._alpha)
        alphas: Floats = self._rng.choice(self.alphas, n)
        return alphas


def _masks(table: TransitionTable, rows: Ints, nodes: Ints, n_actions: int) -> npt.NDArray[np.bool_]:
    """Return which actions may be taken at some decision nodes, `(n, actions)`."""
    masks = np.ones((len(rows), n_actions), dtype=np.bool_)
    masks[:, : table.n_models] = table.allowed[rows, nodes]
    return masks


def _rows(table: TransitionTable, split: Split) -> Ints:
    rows = table.rows(split)
    if not len(rows):
        raise ValueError(f"the {split} split has no question; choose another, or change [splits] in the suite")
    return rows


def _load(cache: str | None, suite: str | None) -> TransitionTable:
    if cache is None or suite is None:
        raise ValueError("give a table, or both cache (a file) and suite (the name of a recorded suite)")
    opened = Cache(cache)
    recorded = opened.suites.get(suite)
    if recorded is None:
        raise ValueError(f"{cache} has no suite {suite!r}; recorded: {', '.join(opened.suites.names())}")
    return load_table(opened, recorded)


gym.register(id="toolkit/Routing-v0", entry_point="toolkit.replay.environments:RoutingEnv")
