"""MLP: predicts quality and cost by a network with one hidden layer on the embedding.

One network predicts all paths, so that it needs every target of a question. Missing ones are imputed by the sum of an effect of
the question and one of the path (see `imputed`), which says nothing of how the two fit each other.
"""

import numpy as np

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predict, Questions, chooses, fit_each

PENALTIES = (1e-4, 1.0)
"""L2 penalties of the weights, of which the best on the validation split is used."""
HIDDEN = 64
"""Units of the hidden layer."""
MAX_SAMPLES = 120_000
"""Samples of training questions that the weights are fitted on, so that a fit takes seconds on a table of any size."""
MAX_EPOCHS = 300
"""Times that each training question is used, at most."""
IMPUTATION_ROUNDS = 20
"""Times that the effects of questions and of nodes are fitted in turn."""


def fit(questions: Questions, targets: Floats) -> Predict:
    """Fit a network with every penalty."""
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    epochs = max(1, min(MAX_EPOCHS, MAX_SAMPLES // len(targets)))
    networks = [
        make_pipeline(
            StandardScaler(with_std=False),
            MLPRegressor(hidden_layer_sizes=(HIDDEN,), alpha=penalty, max_iter=epochs, learning_rate_init=3e-3, random_state=0),
        )
        for penalty in PENALTIES
    ]
    return fit_each(networks, lambda others: others.embeddings, questions, imputed(targets))


def imputed(targets: Floats) -> Floats:
    """Fill in missing targets, nan, by the effects of questions and nodes: those whose sums fit the other targets best.

    Args:
        targets: The quality of each node, then the cost of each, `(rows, targets)`; every row and column has some.
    """
    if not np.isnan(targets).any():
        return targets
    filled = targets.copy()
    for values, part in zip(np.split(targets, 2, axis=1), np.split(filled, 2, axis=1), strict=True):
        of_nodes, of_questions = np.nanmean(values, axis=0), np.zeros((len(values), 1))
        for _ in range(IMPUTATION_ROUNDS):
            of_questions = np.nanmean(values - of_nodes, axis=1, keepdims=True)
            of_nodes = np.nanmean(values - of_questions, axis=0)
        np.copyto(part, of_questions + of_nodes, where=np.isnan(values))
    return filled


BASELINE = Baseline("MLP", chooses(fit), order=71, question_only=True, fitted=True, always=False)
