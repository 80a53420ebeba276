"""Matrix factorisation: predicts quality and cost as the product of a factor of the question and a factor of the path.

The question's factor is a linear function of its embedding. With squared errors and a ridge penalty the best factors have a
closed form: ridge regression, projected on the components that explain most of what it predicts (reduced-rank regression).
"""

import numpy as np

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predict, Questions, chooses

RANKS = (2, 4, 8, 16, 32)
"""Sizes of a factor, of which the best on the validation split is used."""
PENALTIES = (0.1, 1.0)
"""Ridge penalties, of which the best on the validation split is used."""


def fit(questions: Questions, targets: Floats) -> Predict:
    """Fit the factors with every penalty and size."""
    mean, target_mean = questions.embeddings.mean(0, dtype=np.float64), targets.mean(0)
    embeddings, centred = questions.embeddings - mean, targets - target_mean
    gram, products = embeddings.T @ embeddings, embeddings.T @ centred
    factors: list[tuple[Floats, Floats]] = []
    for penalty in PENALTIES:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), products)
        axes = np.linalg.eigh(weights.T @ products)[1]  # of the predictions on the training questions and the penalty's rows
        factors += [(weights @ axes[:, -rank:], axes[:, -rank:].T) for rank in RANKS]

    def predict(others: Questions) -> list[Floats]:
        return [(others.embeddings - mean) @ of_question @ of_path + target_mean for of_question, of_path in factors]

    return predict


BASELINE = Baseline("factorisation", chooses(fit), order=73, question_only=True, fitted=True, always=False)
