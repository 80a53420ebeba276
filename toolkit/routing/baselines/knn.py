"""kNN: predicts quality and cost by the mean over the training questions with the nearest embeddings (cosine distance).

The neighbours of a path are the nearest of the questions that have it.
"""

from collections.abc import Callable, Iterator

import numpy as np

from toolkit.replay.table import Floats, TransitionTable
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
from toolkit.suites.suite import Split

NEIGHBOURS = (5, 10, 20, 40, 80)
"""Numbers of neighbours, of which the best on the validation split is used."""


@by_coverage
def fit(questions: Questions, targets: Floats) -> Predict:
    """Keep the questions' embeddings."""
    return fit_neighbours(lambda others: others.embeddings, questions, targets)


def fit_neighbours(features: Callable[[Questions], Features], questions: Questions, targets: Floats) -> Predict:
    """Keep the features of questions; one search for neighbours serves every number of them."""
    from scipy.sparse import csr_array
    from sklearn.neighbors import NearestNeighbors
    from sklearn.preprocessing import normalize

    n = len(targets)
    sizes = [min(k, n) for k in NEIGHBOURS]
    search = NearestNeighbors(n_neighbors=max(sizes), algorithm="brute").fit(normalize(features(questions)))

    def predict(others: Questions) -> Iterator[Floats]:
        nearest = search.kneighbors(normalize(features(others)), return_distance=False)
        for k in sizes:
            ends_of_rows = np.arange(0, k * len(nearest) + 1, k)
            weights = csr_array((np.full(nearest[:, :k].size, 1 / k), nearest[:, :k].ravel(), ends_of_rows), (len(nearest), n))
            yield weights @ targets

    return predict


def knn(table: TransitionTable, split: Split, allow_stop: bool) -> Predictions:
    """Return the predictions for a split, with every number of neighbours."""
    return predictions(table, split, allow_stop, fit)


BASELINE = Baseline("kNN", chooses(fit), order=60, question_only=True, fitted=True, always=False, lacks=lacks_embeddings)
