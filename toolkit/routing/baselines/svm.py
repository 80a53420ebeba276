"""SVM: predicts quality and cost by support vector regression with a Gaussian kernel on the embedding.

The kernel is approximated (Nystroem), since an exact one takes minutes: there is a regression for every target.
"""

import numpy as np

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predict, Questions, by_coverage, chooses, fit_components, fit_each

COSTS = (0.3, 1.0, 3.0)
"""Costs of an error (the SVM's C), of which the best on the validation split is used."""
KERNEL_QUESTIONS = 300
"""Training questions to which the kernel compares a question."""
MAX_FITTED_QUESTIONS = 5000
"""Training questions that the regressions are fitted on, at most; of more, evenly spaced ones."""
RANK = 16
"""Components of quality and cost that are predicted."""


@by_coverage
def fit(questions: Questions, targets: Floats) -> Predict:
    """Fit a regression with every cost of an error."""
    rows = np.linspace(0, len(targets) - 1, min(len(targets), MAX_FITTED_QUESTIONS)).astype(np.int64)
    sample = Questions(embeddings=questions.embeddings[rows], terms=questions.terms[rows])
    return fit_components(_fit_regressions, RANK, sample, targets[rows])


def _fit_regressions(questions: Questions, targets: Floats) -> Predict:
    from sklearn.kernel_approximation import Nystroem
    from sklearn.multioutput import MultiOutputRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer
    from sklearn.svm import LinearSVR

    regressions = [
        make_pipeline(
            Normalizer(),
            Nystroem(gamma=1.0, n_components=min(KERNEL_QUESTIONS, len(targets)), random_state=0),
            MultiOutputRegressor(LinearSVR(C=cost, epsilon=0.1, loss="squared_epsilon_insensitive", dual=False)),
        )
        for cost in COSTS
    ]
    return fit_each(regressions, lambda others: others.embeddings, questions, targets)


BASELINE = Baseline("SVM", chooses(fit), order=72, question_only=True, fitted=True, always=False)
