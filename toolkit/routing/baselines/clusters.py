"""Clusters: the best path of each cluster of training questions, whose embeddings are clustered by k-means.

Where responses are missing, a path's outcome in a cluster is the mean over the questions there that have it; without any, over
all that have it.
"""

import numpy as np

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predict, Questions, chooses

CLUSTERS = (4, 8, 16, 32, 64)
"""Numbers of clusters, of which the best on the validation split is used."""


def fit(questions: Questions, targets: Floats) -> Predict:
    """Cluster the questions into every number of clusters, and average their outcomes."""
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import normalize

    embeddings = normalize(questions.embeddings)
    n_distinct = len(np.unique(embeddings, axis=0))
    models = [KMeans(min(k, n_distinct), n_init=1, random_state=0).fit(embeddings) for k in CLUSTERS]
    overall = _means(targets, np.full(targets.shape[1], np.nan))
    means = [np.stack([_means(targets[model.labels_ == n], overall) for n in range(model.n_clusters)]) for model in models]

    def predict(others: Questions) -> list[Floats]:
        embeddings = normalize(others.embeddings)
        return [mean[model.predict(embeddings)] for mean, model in zip(means, models, strict=True)]

    return predict


def _means(targets: Floats, others: Floats) -> Floats:
    """Return the mean of each target over the questions that have it, `(targets,)`, or another one if none has."""
    counts = (~np.isnan(targets)).sum(0)
    return np.where(counts > 0, np.nansum(targets, axis=0) / np.maximum(counts, 1), others)


BASELINE = Baseline("clusters", chooses(fit), order=74, question_only=True, fitted=True, always=False)
