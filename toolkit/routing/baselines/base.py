"""What a baseline is. Knows nothing of any particular one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toolkit.core.registry import BASELINES
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.suites.suite import Split

Choice = int | Ints | Floats
"""A policy: the end that it reaches, one node for all rows or one per row, `(rows,)`; or the probabilities of every action at
every decision node, `(rows, D, actions)`."""
ChooseFunction = Callable[[TransitionTable, Split, float, bool], Choice | Mapping[str, Choice]]
"""Chooses for the rows of a split, given the table, the split, alpha, and whether an episode may end before the last hop."""


@dataclass(frozen=True)
class Baseline:
    """A baseline, or a family of them.

    Attributes:
        name: Its name in the results.
        choose: Returns its policy; a family returns its policies by name instead.
        order: Place among the results, ascending.
        hindsight: Whether it sees the outcomes that it is evaluated on, as no router can.
        question_only: Whether it decides once, by the question's embedding, which it pays for if overhead is charged.
        fitted: Whether it is fitted on the training split.
        always: Whether it is part of every evaluation; if not, it is left out where only the cheap ones are needed.
    """

    name: str
    choose: ChooseFunction
    order: int = 100
    hindsight: bool = False
    question_only: bool = False
    fitted: bool = False
    always: bool = True

    def policies(self, table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Mapping[str, Choice]:
        """Return its policies by name; the arguments are those of `choose`."""
        choices = self.choose(table, split, alpha, allow_stop)
        return choices if isinstance(choices, Mapping) else {self.name: choices}


def registered_baselines() -> list[Baseline]:
    """Return all baselines, in the order of the results."""
    return sorted((BASELINES[name] for name in BASELINES), key=lambda baseline: baseline.order)
