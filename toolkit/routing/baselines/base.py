"""What a baseline is. Knows nothing of any particular one."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from toolkit.core.registry import BASELINES
from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.suites.suite import Split

logger = logging.getLogger("toolkit")

Choice = int | Ints | Floats
"""A policy: the end that it reaches, one node for all rows or one per row, `(rows,)`; or the probabilities of every action at
every decision node, `(rows, D, actions)`. Ends and actions are available on each row (`TransitionTable.available`), except that
one node for all rows is evaluated on those on which it is."""
ChooseFunction = Callable[[TransitionTable, Split, float, bool], Choice | Mapping[str, Choice]]
"""Chooses for the rows of a split, given the table, the split, alpha, and whether an episode may end before the last hop."""
LacksFunction = Callable[[TransitionTable, bool], str]
"""Says what a baseline needs and a table lacks, given the table and whether an episode may end early; empty if nothing."""


def lacks_nothing(table: TransitionTable, allow_stop: bool) -> str:
    """Return that every table has what the baseline needs."""
    return ""


def is_available(table: TransitionTable, split: Split, node: int) -> bool:
    """Return whether a node is available on any row of a split."""
    return table.available is None or bool(table.available[table.rows(split), node].any())


@dataclass(frozen=True)
class Baseline:
    """A baseline, or a family of them.

    Attributes:
        name: Its name in the results.
        choose: Returns its policy; a family returns its policies by name instead.
        order: Place among the results, ascending.
        hindsight: Whether it sees the outcomes that it is evaluated on, as no router can.
        question_only: Whether it decides once, by the question alone; it pays for one embedding if overhead is charged.
        reads_responses: Whether it decides hop by hop, by the responses; it pays for each decision if overhead is charged.
        fitted: Whether it is fitted on the training split.
        always: Whether it is part of every evaluation; if not, it is left out where only the cheap ones are needed.
        slow: Whether it takes many seconds at each alpha, so that it is part only of evaluations that ask for slow ones.
        lacks: Says what it needs and a table lacks; it is left out of the results if that is not empty.
    """

    name: str
    choose: ChooseFunction
    order: int = 100
    hindsight: bool = False
    question_only: bool = False
    reads_responses: bool = False
    fitted: bool = False
    always: bool = True
    slow: bool = False
    lacks: LacksFunction = lacks_nothing

    def policies(self, table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Mapping[str, Choice]:
        """Return its policies by name, none if the table lacks what it needs; the arguments are those of `choose`."""
        if reason := self.lacks(table, allow_stop):
            logger.info("The baseline %s is left out: %s", self.name, reason)
            return {}
        choices = self.choose(table, split, alpha, allow_stop)
        return choices if isinstance(choices, Mapping) else {self.name: choices}


def registered_baselines(slow: bool = False) -> list[Baseline]:
    """Return the baselines in the order of the results, with or without those that are slow."""
    baselines = [BASELINES[name] for name in BASELINES]
    return sorted((baseline for baseline in baselines if slow or not baseline.slow), key=lambda baseline: baseline.order)
