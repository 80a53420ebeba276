"""Tree: a shallow decision tree on frequent words and pairs of words, one fixed path for each wording that matters."""

from toolkit.replay.table import Floats
from toolkit.routing.baselines.base import Baseline
from toolkit.routing.baselines.predictor import Predict, Questions, by_coverage, chooses, fit_components, fit_each, lacks_terms

LEAVES = (4, 8, 16, 32, 64)
"""Numbers of leaves, of which the best on the validation split is used."""
MIN_LEAF_QUESTIONS = 5
"""Training questions of a leaf, at least."""
RANK = 64
"""Components of quality and cost by which splits are chosen."""


@by_coverage
def fit(questions: Questions, targets: Floats) -> Predict:
    """Fit a tree of every size."""
    return fit_components(_fit_trees, RANK, questions, targets)


def _fit_trees(questions: Questions, targets: Floats) -> Predict:
    from sklearn.tree import DecisionTreeRegressor

    trees = [
        DecisionTreeRegressor(max_leaf_nodes=leaves, min_samples_leaf=MIN_LEAF_QUESTIONS, random_state=0) for leaves in LEAVES
    ]
    return fit_each(trees, lambda others: others.terms, questions, targets)


BASELINE = Baseline("tree", chooses(fit), order=62, question_only=True, fitted=True, always=False, lacks=lacks_terms)
