"""What routing on the reference cache could reach: a table of the best action for each kind of question and path.

It knows what no router is told: which skills a question needs, in order, and whether the newest response is right. `Kind` knows
the first alone.

    toolkit sweep quickstart --alphas 0.02,0.05,0.1 --router benchmarks/ceiling.py:Ceiling
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from benchmarks import BENCHMARKS
from benchmarks.problems import DRAWN, Problem, Skill
from toolkit.tasks.metrics import METRICS, Reference

if TYPE_CHECKING:
    from toolkit.replay.table import TransitionTable
    from toolkit.routing.custom import Observation

RIGHT = 0.5
"""A response of at least this quality is right."""

Path = tuple[str, ...]
State = tuple[str, tuple[Skill, ...], Path, bool]
"""Benchmark, order of skills, path so far, and whether the newest response is right."""


def problems(names: Iterable[str]) -> dict[str, tuple[str, Problem]]:
    """Return the benchmark and the problem behind every question of these benchmarks."""
    loaded = [name for name in names if BENCHMARKS[name]]  # looking one up loads it
    return {problem.prompt: (name, problem) for name in loaded for problem in DRAWN[name]()}


class Ceiling:
    """Takes the action of the highest mean return on the training questions, by backward induction from the last hop."""

    verifies = True
    """Whether it knows if the newest response is right."""

    def fit(self, table: "TransitionTable", alpha: float) -> None:
        """Compute the best action in each state."""
        self.problems = problems(table.benchmarks)
        self.best: dict[State, str] = {}
        nodes: dict[Path, int] = {table.path(node): node for node in range(table.quality.shape[1])}
        returns: dict[tuple[int, Path], float] = {}  # of the best action, by row and path
        for path in sorted(nodes, key=len, reverse=True):
            right = (table.quality[:, nodes[path]] >= RIGHT) & self.verifies
            states: dict[State, list[int]] = defaultdict(list)
            for row in table.rows("train").tolist():
                states[self.state(table.questions[row], path, bool(path) and bool(right[row]))].append(row)
            for state, rows in states.items():
                actions = self._actions(table, alpha, nodes, returns, path, rows)
                self.best[state] = max(actions, key=lambda action: sum(actions[action].values()))
                returns |= {(row, path): value for row, value in actions[self.best[state]].items()}

    def _actions(
        self,
        table: "TransitionTable",
        alpha: float,
        nodes: Mapping[Path, int],
        returns: Mapping[tuple[int, Path], float],
        path: Path,
        rows: list[int],
    ) -> dict[str, dict[int, float]]:
        """Return what each action brings on each row from here on."""
        actions = {"stop": {row: float(table.quality[row, nodes[path]]) for row in rows}} if path else {}
        if len(path) < table.horizon:
            for model in table.models:
                child = (*path, model)
                actions[model] = {row: returns[row, child] - alpha * float(table.hop_cost[row, nodes[child]]) for row in rows}
        return actions

    def state(self, question: str, path: Path, right: bool) -> State:
        """Return the state of a question after a path."""
        name, problem = self.problems[question]
        return name, problem.skills, path, right

    def decide(self, observation: "Observation") -> str:
        """Look up the best action; where no training question was in this state, stop."""
        name, problem = self.problems[observation.question]
        right = False
        if observation.responses:
            score = METRICS[BENCHMARKS[name].metric].score(observation.responses[-1], Reference((problem.answer,)))
            right = self.verifies and score.value >= RIGHT
        state = self.state(observation.question, observation.path, right)
        return self.best.get(state, "stop" if observation.path else observation.models[0])


class Kind(Ceiling):
    """Knows the kind of question, but not whether a response is right."""

    verifies = False
