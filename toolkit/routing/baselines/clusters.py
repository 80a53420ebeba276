"""Clusters: the best path of each cluster of training questions, whose embeddings are clustered by k-means."""

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
    means = [np.stack([targets[model.labels_ == n].mean(0) for n in range(model.n_clusters)]) for model in models]

    def predict(others: Questions) -> list[Floats]:
        embeddings = normalize(others.embeddings)
        return [mean[model.predict(embeddings)] for mean, model in zip(means, models, strict=True)]

    return predict


BASELINE = Baseline("clusters", chooses(fit), order=74, question_only=True, fitted=True, always=False)
