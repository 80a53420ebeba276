"""Routers that a paper compares with: kNN and a linear reward predictor over the same embeddings as the policy's.

Both choose a whole path from the question alone, as routers without hops do: they predict quality and cost of every path and
take the one with the highest predicted reward, so that one fit serves every alpha.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.replay.exact import Outcome, benchmark_weights, ends, node_outcome
from toolkit.replay.table import Ints, TransitionTable, cached_on_table
from toolkit.suites.suite import Split

NEIGHBOURS = (5, 10, 20, 40, 80)
"""Numbers of neighbours that kNN chooses from on the validation split."""
PENALTIES = tuple(10.0**n for n in range(-2, 4))
"""Ridge penalties that the linear predictor chooses from, by leave-one-out error on the training split."""


class Predictor:
    """Predicts quality and cost of every end on some rows from the embedding of the question, and chooses ends at any alpha.

    Args:
        table: The table; fitted on its training split.
        rows: The rows.
        models: One regressor, or several of which `choose` takes the best on the validation split.
        allow_stop: Whether paths may be cut short.
    """

    def __init__(self, table: TransitionTable, rows: Ints, models: list[Any], allow_stop: bool = False) -> None:
        self.table = table
        self.ends = ends(table, allow_stop)
        self.validation = table.rows("validation")
        train = table.rows("train")
        target = np.concatenate([table.quality[train, self.ends], table.cost[train, self.ends]], axis=1)
        fitted = [model.fit(self._features(train), target) for model in models]
        compared = len(models) > 1 and len(self.validation)
        self.predicted = [self._predict(model, rows) for model in fitted]
        self.validated = [self._predict(model, self.validation) for model in fitted] if compared else []

    def choose(self, alpha: float) -> Ints:
        """Return the end that is predicted to be best on each row, `(rows,)`."""
        taken = len(self.predicted) // 2
        if self.validated:
            weights = benchmark_weights(self.table, self.validation)
            chosen = [node_outcome(self.table, self.validation, self._best(found, alpha)) for found in self.validated]
            taken = int(np.argmax([weights @ worth.reward(alpha) for worth in chosen]))
        return self._best(self.predicted[taken], alpha)

    def _features(self, rows: Ints) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self.table.vectors[self.table.texts[rows, 0, 0]]
        return found

    def _predict(self, model: Any, rows: Ints) -> Outcome:
        return Outcome(*np.split(model.predict(self._features(rows)).reshape(len(rows), -1), 2, axis=1))

    def _best(self, predicted: Outcome, alpha: float) -> Ints:
        best: Ints = self.ends.start + predicted.reward(alpha).argmax(1)
        return best


def knn(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Predictor:
    """Predict by the mean over the nearest training questions (cosine distance)."""
    from sklearn.neighbors import KNeighborsRegressor

    n = len(table.rows("train"))
    sizes = sorted({min(k, n) for k in NEIGHBOURS})
    return Predictor(table, rows, [KNeighborsRegressor(k, metric="cosine", algorithm="brute") for k in sizes], allow_stop)


def linear(table: TransitionTable, rows: Ints, allow_stop: bool = False) -> Predictor:
    """Predict by ridge regression."""
    from sklearn.linear_model import RidgeCV

    return Predictor(table, rows, [RidgeCV(PENALTIES)], allow_stop)


@cached_on_table
def predictors(table: TransitionTable, split: Split, allow_stop: bool) -> dict[str, Predictor]:
    """Return both by name for the rows of a split, fitted once a table: neither depends on alpha."""
    rows = table.rows(split)
    return {"kNN": knn(table, rows, allow_stop), "linear": linear(table, rows, allow_stop)}
