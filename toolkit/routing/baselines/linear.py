"""Linear: predicts quality and cost by ridge regression."""

from toolkit.replay.table import Ints, TransitionTable, cached_on_table
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predictor
from toolkit.suites.suite import Split

PENALTIES = tuple(10.0**n for n in range(-2, 4))
"""Ridge penalties, of which the one with the smallest leave-one-out error on the training split is used."""


@cached_on_table
def linear(table: TransitionTable, split: Split, allow_stop: bool) -> Predictor:
    """Return the predictor of the rows of a split."""
    from sklearn.linear_model import Ridge, RidgeCV

    several = len(table.rows("train")) > 1  # leaving the only question out leaves nothing to fit
    return Predictor(table, table.rows(split), [RidgeCV(PENALTIES) if several else Ridge(PENALTIES[-1])], allow_stop)


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the ends with the highest predicted reward."""
    return linear(table, split, allow_stop).choose(alpha)


BASELINE = Baseline("linear", choose, order=70, question_only=True, fitted=True, always=False)
