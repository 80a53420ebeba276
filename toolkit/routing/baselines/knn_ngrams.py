"""kNN on n-grams: predicts by the training questions with the most similar words and pairs of words (cosine distance)."""

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.knn import fit_neighbours
from toolkit.routing.baselines.predictor import Predict, Questions, by_coverage, chooses, lacks_terms


@by_coverage
def fit(questions: Questions, targets: Floats) -> Predict:
    """Keep the questions' terms."""
    return fit_neighbours(lambda others: others.terms, questions, targets)


BASELINE = Baseline("kNN (n-grams)", chooses(fit), order=61, question_only=True, fitted=True, always=False, lacks=lacks_terms)
