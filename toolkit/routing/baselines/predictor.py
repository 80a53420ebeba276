"""Predictors of quality and cost from the question's embedding, shared by kNN and the linear baseline.

Like routers without hops, they choose a whole path from the question alone: the one with the highest predicted reward. One fit
serves every alpha.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.replay.exact import Outcome, benchmark_weights, ends, node_outcome
from toolkit.replay.table import Ints, TransitionTable


class Predictor:
    """Predicts quality and cost of every end on some rows from the question's embedding, and chooses ends at any alpha.

    Args:
        table: The table; models are fitted on its training split.
        rows: The rows.
        models: Regressors of scikit-learn; of several, `choose` uses the best on the validation split.
        allow_stop: Whether paths may end before the last hop.
    """

    def __init__(self, table: TransitionTable, rows: Ints, models: list[Any], allow_stop: bool = False) -> None:
        self.table = table
        self.ends = ends(table, allow_stop)
        self.validation = table.rows("validation")
        train = table.rows("train")
        target = np.concatenate([table.quality[train, self.ends], table.cost[train, self.ends]], axis=1)
        fitted = [model.fit(self._embeddings(train), target) for model in models]
        validate = len(models) > 1 and len(self.validation)
        self.predicted = [self._predict(model, rows) for model in fitted]
        self.validation_predicted = [self._predict(model, self.validation) for model in fitted] if validate else []

    def choose(self, alpha: float) -> Ints:
        """Return the end with the highest predicted reward on each row, `(rows,)`."""
        best = len(self.predicted) // 2
        if self.validation_predicted:
            weights = benchmark_weights(self.table, self.validation)
            outcomes = [
                node_outcome(self.table, self.validation, self._best_ends(predicted, alpha))
                for predicted in self.validation_predicted
            ]
            best = int(np.argmax([weights @ outcome.reward(alpha) for outcome in outcomes]))
        return self._best_ends(self.predicted[best], alpha)

    def _embeddings(self, rows: Ints) -> npt.NDArray[np.float32]:
        embeddings: npt.NDArray[np.float32] = self.table.vectors[self.table.texts[rows, 0, 0]]
        return embeddings

    def _predict(self, model: Any, rows: Ints) -> Outcome:
        quality, cost = np.split(model.predict(self._embeddings(rows)).reshape(len(rows), -1), 2, axis=1)
        return Outcome(quality=quality, cost=cost)

    def _best_ends(self, predicted: Outcome, alpha: float) -> Ints:
        best: Ints = self.ends.start + predicted.reward(alpha).argmax(1)
        return best
