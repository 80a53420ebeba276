"""kNN: predicts quality and cost by the mean over the nearest training questions (cosine distance)."""

from toolkit.replay.table import Ints, TransitionTable, cached_on_table
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predictor
from toolkit.suites.suite import Split

NEIGHBOURS = (5, 10, 20, 40, 80)
"""Numbers of neighbours, of which the best on the validation split is used."""


@cached_on_table
def knn(table: TransitionTable, split: Split, allow_stop: bool) -> Predictor:
    """Return the predictor of the rows of a split."""
    from sklearn.neighbors import KNeighborsRegressor

    n = len(table.rows("train"))
    sizes = sorted({min(k, n) for k in NEIGHBOURS})
    models = [KNeighborsRegressor(k, metric="cosine", algorithm="brute") for k in sizes]
    return Predictor(table, table.rows(split), models, allow_stop)


def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
    """Return the ends with the highest predicted reward."""
    return knn(table, split, allow_stop).choose(alpha)


BASELINE = Baseline("kNN", choose, order=60, question_only=True, fitted=True, always=False)
