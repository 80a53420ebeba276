"""MLP: predicts quality and cost by a network with one hidden layer on the embedding."""

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
    return fit_each(networks, lambda others: others.embeddings, questions, targets)


BASELINE = Baseline("MLP", chooses(fit), order=71, question_only=True, fitted=True, always=False)
