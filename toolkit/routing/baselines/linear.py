"""Linear: predicts quality and cost by ridge regression on the embedding, alone or with the frequent terms."""

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
    fit_each,
    predictions,
)
from toolkit.suites.suite import Split

PENALTIES = (0.1, 1.0, 10.0, 100.0)
"""Ridge penalties, of which the best on the validation split is used."""


@by_coverage
def fit(questions: Questions, targets: Floats) -> Predict:
    """Fit a regression with every penalty on the embedding and, if there are terms, on both."""
    from sklearn.linear_model import Ridge

    def both(others: Questions) -> Features:
        return np.concatenate([others.embeddings, others.terms], axis=1)

    features = [lambda others: others.embeddings, both] if questions.terms.shape[1] else [both]
    fits = [fit_each([Ridge(penalty) for penalty in PENALTIES], part, questions, targets) for part in features]
    return lambda others: [predicted for predict in fits for predicted in predict(others)]


def linear(table: TransitionTable, split: Split, allow_stop: bool) -> Predictions:
    """Return the predictions for a split by one regression on the embedding, whose penalty does not depend on alpha."""
    return predictions(table, split, allow_stop, fit_one)


@by_coverage
def fit_one(questions: Questions, targets: Floats) -> Predict:
    """Fit a regression on the embedding with the penalty that has the smallest leave-one-out error."""
    from sklearn.linear_model import Ridge, RidgeCV

    model = RidgeCV(PENALTIES) if len(targets) > 1 else Ridge(PENALTIES[-1])
    return fit_each([model], lambda others: others.embeddings, questions, targets)


BASELINE = Baseline("linear", chooses(fit), order=70, question_only=True, fitted=True, always=False)
