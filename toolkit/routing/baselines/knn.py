"""kNN: predicts quality and cost by the mean over the training questions with the nearest embeddings (cosine distance).

The neighbours of a path are the nearest of the questions that have it.
"""

from collections.abc import Callable, Iterator

import numpy as np

from toolkit.replay.table import Floats, Ints, TransitionTable
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import (
    Features,
    Predict,
    Predictions,
    Questions,
    by_coverage,
    chooses,
    lacks_embeddings,
    predictions,
)
from toolkit.routing.statistics import TIE
from toolkit.suites.suite import Split

MAX_SIMILARITIES = 2**22
"""Similarities that are computed together, which limits the memory."""
NEIGHBOURS = (5, 10, 20, 40, 80)
"""Numbers of neighbours, of which the best on the validation split is used."""


@by_coverage
def fit(questions: Questions, targets: Floats) -> Predict:
    """Keep the questions' embeddings."""
    return fit_neighbours(lambda others: others.embeddings, questions, targets)


def fit_neighbours(features: Callable[[Questions], Features], questions: Questions, targets: Floats) -> Predict:
    """Keep the features of questions; one search for neighbours serves every number of them."""
    from scipy.sparse import csr_array

    n = len(targets)
    sizes = [min(k, n) for k in NEIGHBOURS]
    fitted = _directions(features(questions))

    def predict(others: Questions) -> Iterator[Floats]:
        nearest = nearest_rows(_directions(features(others)), fitted, max(sizes))
        for k in sizes:
            ends_of_rows = np.arange(0, k * len(nearest) + 1, k)
            weights = csr_array((np.full(nearest[:, :k].size, 1 / k), nearest[:, :k].ravel(), ends_of_rows), (len(nearest), n))
            yield weights @ targets

    return predict


def nearest_rows(queries: Floats, rows: Floats, k: int) -> Ints:
    """Return the places of the k rows with the highest cosine similarity to each query, the most similar first, `(queries, k)`.

    Equal similarities are common among n-grams. They are compared after rounding, and the earlier row comes first, so that
    the neighbours do not depend on the order in which a BLAS adds numbers, nor on its number of threads.

    Args:
        queries: Unit vectors, `(queries, dimensions)`.
        rows: Unit vectors, `(rows, dimensions)`.
        k: Number of neighbours, at most the number of rows.
    """
    nearest = np.empty((len(queries), k), dtype=np.int64)
    size = max(1, MAX_SIMILARITIES // len(rows))
    for start in range(0, len(queries), size):
        similarities = queries[start : start + size] @ rows.T
        order = np.arange(len(rows)) - np.rint(similarities / TIE).astype(np.int64) * len(rows)  # ascending, without ties
        places = np.argpartition(order, k - 1, axis=1)[:, :k]
        by_similarity = np.argsort(np.take_along_axis(order, places, axis=1), axis=1)
        nearest[start : start + size] = np.take_along_axis(places, by_similarity, axis=1)
    return nearest


def _directions(features: Features) -> Floats:
    """Return features as unit vectors in float64; those without any stay 0."""
    from sklearn.preprocessing import normalize

    return np.asarray(normalize(features.astype(np.float64)))


def knn(table: TransitionTable, split: Split, allow_stop: bool) -> Predictions:
    """Return the predictions for a split, with every number of neighbours."""
    return predictions(table, split, allow_stop, fit)


BASELINE = Baseline("kNN", chooses(fit), order=60, question_only=True, fitted=True, always=False, lacks=lacks_embeddings)
