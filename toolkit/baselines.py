"""Routers that a paper compares with: kNN and a linear reward predictor over the same embeddings as the policy's.

Both choose a whole path from the question alone, as routers without hops do: they predict quality and cost of every path and
take the one with the highest predicted reward, so that one fit serves every alpha.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.exact import Outcome, benchmark_weights, ends, node_outcome
from toolkit.table import Ints, TransitionTable

NEIGHBOURS = (5, 10, 20, 40, 80)
"""Numbers of neighbours that kNN chooses from on the validation split."""
PENALTIES = tuple(10.0**n for n in range(-2, 4))
"""Ridge penalties that the linear predictor chooses from, by leave-one-out error on the training split."""


class Predictor:
    """Predicts quality and cost of every end from the embedding of the question, for any alpha.

    Args:
        table: The table; fitted on its training split.
        models: One regressor, or several of which `choose` takes the best on the validation split.
        allow_stop: Whether paths may be cut short.
    """

    def __init__(self, table: TransitionTable, models: list[Any], allow_stop: bool = False) -> None:
        self.table = table
        self.ends = ends(table, allow_stop)
        train = table.rows("train")
        target = np.concatenate([table.quality[train, self.ends], table.cost[train, self.ends]], axis=1)
        self.models = [model.fit(self._features(train), target) for model in models]

    def _features(self, rows: Ints) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = self.table.vectors[self.table.texts[rows, 0, 0]]
        return found

    def choose(self, rows: Ints, alpha: float) -> Ints:
        """Return the end that is predicted to be best on each row, `(rows,)`."""
        chosen = [self._best(model, rows, alpha) for model in self.models]
        validation = self.table.rows("validation")
        if len(chosen) == 1 or not len(validation):
            return chosen[len(chosen) // 2]
        weights = benchmark_weights(self.table, validation)
        scores = [
            weights @ node_outcome(self.table, validation, self._best(model, validation, alpha)).reward(alpha)
            for model in self.models
        ]
        return chosen[int(np.argmax(scores))]

    def _best(self, model: Any, rows: Ints, alpha: float) -> Ints:
        quality, cost = np.split(model.predict(self._features(rows)).reshape(len(rows), -1), 2, axis=1)
        best: Ints = self.ends.start + Outcome(quality, cost).reward(alpha).argmax(1)
        return best


def knn(table: TransitionTable, allow_stop: bool = False) -> Predictor:
    """Predict by the mean over the nearest training questions (cosine distance)."""
    from sklearn.neighbors import KNeighborsRegressor

    n = len(table.rows("train"))
    sizes = sorted({min(k, n) for k in NEIGHBOURS})
    return Predictor(table, [KNeighborsRegressor(k, metric="cosine", algorithm="brute") for k in sizes], allow_stop)


def linear(table: TransitionTable, allow_stop: bool = False) -> Predictor:
    """Predict by ridge regression."""
    from sklearn.linear_model import RidgeCV

    return Predictor(table, [RidgeCV(PENALTIES)], allow_stop)
