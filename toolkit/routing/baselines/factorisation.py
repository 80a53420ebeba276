"""Matrix factorisation: predicts quality and cost as the product of a factor of the question and a factor of the path.

The question's factor is a linear function of its embedding. With squared errors and a ridge penalty the best factors have a
closed form: ridge regression, projected on the components that explain most of what it predicts (reduced-rank regression).
Where responses are missing, the regression of each path is fitted on the questions that have it, before the projection.
"""

import numpy as np

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predict, Questions, chooses
from toolkit.routing.statistics import group_by_coverage

RANKS = (2, 4, 8, 16, 32)
"""Sizes of a factor, of which the best on the validation split is used."""
PENALTIES = (0.1, 1.0)
"""Ridge penalties, of which the best on the validation split is used."""


def fit(questions: Questions, targets: Floats) -> Predict:
    """Fit the factors with every penalty and size."""
    mean = questions.embeddings.mean(0, dtype=np.float64)
    embeddings, is_complete = questions.embeddings - mean, not np.isnan(targets).any()
    gram = embeddings.T @ embeddings
    factors: list[tuple[Floats, Floats, Floats]] = []
    for penalty in PENALTIES:
        ridge = gram + penalty * np.eye(len(gram))
        if is_complete:
            levels = targets.mean(0)
            products = embeddings.T @ (targets - levels)
            weights = np.linalg.solve(ridge, products)
        else:
            weights, levels = _regressions(embeddings, targets, penalty)
            products = ridge @ weights  # those that give these weights if all questions have every path
        axes = np.linalg.eigh(weights.T @ products)[1]  # of the predictions on the training questions and the penalty's rows
        factors += [(weights @ axes[:, -rank:], axes[:, -rank:].T, levels) for rank in RANKS]

    def predict(others: Questions) -> list[Floats]:
        return [(others.embeddings - mean) @ of_question @ of_path + levels for of_question, of_path, levels in factors]

    return predict


def _regressions(embeddings: Floats, targets: Floats, penalty: float) -> tuple[Floats, Floats]:
    """Return the ridge regression of each target on the questions that have it.

    Returns:
        The weights, `(dimensions, targets)`, and what is predicted for an embedding of zeros, `(targets,)`; 0 and nan for a
        target that no question has.
    """
    weights, levels = np.zeros((embeddings.shape[1], targets.shape[1])), np.full(targets.shape[1], np.nan)
    for columns, questions in group_by_coverage(targets.T):
        part, values = embeddings[questions], targets[np.ix_(questions, columns)]
        centre, level = part.mean(0), values.mean(0)
        part, values = part - centre, values - level
        weights[:, columns] = np.linalg.solve(part.T @ part + penalty * np.eye(part.shape[1]), part.T @ values)
        levels[columns] = level - centre @ weights[:, columns]
    return weights, levels


BASELINE = Baseline("factorisation", chooses(fit), order=73, question_only=True, fitted=True, always=False)
