"""Predictors of quality and cost from the question alone, shared by the baselines that are fitted.

Like routers without hops, they choose a whole path from the question: the one with the highest predicted reward. A fit serves
every alpha and every split, with and without stopping. Settings are selected at each alpha on questions that were not fitted:
those of the validation split or, if there are too few, the training questions in cross-validation.

Where responses are missing, each path is predicted from the questions that have it, and the best available one is chosen.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from toolkit.replay.exact import Outcome, benchmark_weights, ends, node_outcome
from toolkit.replay.table import Floats, Ints, TransitionTable, cached_on_table
from toolkit.replay.terms import frequent_terms, table_terms
from toolkit.routing.baselines.base import ChooseFunction
from toolkit.routing.statistics import group_by_coverage
from toolkit.suites.suite import Split

Features = npt.NDArray[np.float32]

MAX_FITTED_QUESTIONS = 20_000
"""Training questions that a predictor is fitted on, at most; of more, a random sample."""
MIN_FOLDED_QUESTIONS = 60
"""With fewer training questions and too few validation questions, a setting in the middle is used: a choice would be noise."""
MIN_VALIDATION_QUESTIONS = 30
"""With fewer validation questions, settings are selected by cross-validation on the training split."""
FOLDS = 5
"""Folds of cross-validation."""


class Questions(NamedTuple):
    """What a predictor may read of questions.

    Attributes:
        embeddings: Their embeddings, `(rows, dimensions)`; without an encoder, the terms; without either, zeros.
        terms: Which frequent terms they contain, 0 or 1, `(rows, terms)`.
    """

    embeddings: Features
    terms: Features


Predict = Callable[[Questions], Iterable[Floats]]
"""Predicts the targets of questions, `(rows, targets)`, with each setting."""
Fit = Callable[[Questions, Floats], Predict]
"""Fits a predictor on questions and their targets, `(rows, targets)`: the quality of each node, then the cost of each. A target
is nan where the node is not available; `by_coverage` fits predictors that cannot read such targets."""


def fit_each(
    regressors: Sequence[Any], features: Callable[[Questions], Features], questions: Questions, targets: Floats
) -> Predict:
    """Fit regressors of scikit-learn, one per setting, on features of the questions."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # their iterations are limited on purpose
        models = [regressor.fit(features(questions), targets) for regressor in regressors]
    return lambda others: [model.predict(features(others)).reshape(-1, targets.shape[1]) for model in models]


def fit_components(fit: Fit, rank: int, questions: Questions, targets: Floats) -> Predict:
    """Fit a predictor of the targets' first principal components, as many as `rank`, in place of the targets.

    The qualities and costs of paths are so similar that a few components describe them; there may be thousands of paths.
    """
    mean = targets.mean(0)
    axes = np.linalg.eigh((targets - mean).T @ (targets - mean))[1][:, -rank:]
    predict = fit(questions, (targets - mean) @ axes)
    return lambda others: [predicted @ axes.T + mean for predicted in predict(others)]


def by_coverage(fit: Fit) -> Fit:
    """Return a fit that fits each target on the questions that have it; those that the same questions have, together."""

    @wraps(fit)
    def fit_covered(questions: Questions, targets: Floats) -> Predict:
        if not np.isnan(targets).any():
            return fit(questions, targets)
        groups = group_by_coverage(targets.T)
        fits = [
            fit(Questions(*(part[group.questions] for part in questions)), targets[np.ix_(group.questions, group.values)])
            for group in groups
        ]

        def predict(others: Questions) -> Iterator[Floats]:
            for parts in zip(*(predict_group(others) for predict_group in fits), strict=True):
                predicted = np.full((len(others.embeddings), targets.shape[1]), np.nan)
                for group, part in zip(groups, parts, strict=True):
                    predicted[:, group.values] = part
                yield predicted

        return predict

    return fit_covered


class Fitted(NamedTuple):
    """A fitted predictor, and what it predicts on the questions that select its settings.

    Attributes:
        predict: Predicts with each setting.
        rows: Rows of the questions that select the setting.
        predicted: Outcome of every node on these rows with each setting, `(rows, N)`, predicted by a fit without them.
    """

    predict: Predict
    rows: Ints
    predicted: list[Outcome]


class Predictions:
    """Predicted quality and cost of every end on the rows of a split, with every setting.

    Attributes:
        predicted: The outcome of every end, `(rows, ends)`, with each setting.
    """

    def __init__(self, table: TransitionTable, split: Split, allow_stop: bool, fitted: Fitted) -> None:
        self.table = table
        self.ends = ends(table, allow_stop)
        self.fitted = fitted
        self.rows = table.rows(split)
        predicted = fitted.predict(read(table, self.rows))
        self.predicted = [_at(_outcome(values), self.ends) for values in predicted]

    def choose(self, alpha: float) -> Ints:
        """Return the end with the highest reward on each row, `(rows,)`, as predicted with the best setting."""
        return self._best_ends(self.rows, self.predicted[self.best_setting(alpha)], alpha)

    def best_setting(self, alpha: float) -> int:
        """Return the setting with the highest mean reward over benchmarks on questions that were not fitted."""
        if len(self.predicted) == 1 or not len(self.fitted.rows):
            return len(self.predicted) // 2
        rows = self.fitted.rows
        chosen = [self._best_ends(rows, _at(predicted, self.ends), alpha) for predicted in self.fitted.predicted]
        weights = benchmark_weights(self.table, rows)
        return int(np.argmax([weights @ node_outcome(self.table, rows, nodes).reward(alpha) for nodes in chosen]))

    def _best_ends(self, rows: Ints, predicted: Outcome, alpha: float) -> Ints:
        reward = predicted.reward(alpha)
        if self.table.available is not None:
            reward = np.where(self.table.available[rows, self.ends], reward, -np.inf)
        best: Ints = self.ends.start + reward.argmax(1)
        return best


@cached_on_table
def predictions(table: TransitionTable, split: Split, allow_stop: bool, fit: Fit) -> Predictions:
    """Return what a predictor predicts on a split; it is fitted once per table."""
    return Predictions(table, split, allow_stop, fitted(table, fit))


def chooses(fit: Fit) -> ChooseFunction:
    """Return the `choose` of a baseline that takes the path with the highest predicted reward."""

    def choose(table: TransitionTable, split: Split, alpha: float, allow_stop: bool) -> Ints:
        return predictions(table, split, allow_stop, fit).choose(alpha)

    return choose


@cached_on_table
def fitted(table: TransitionTable, fit: Fit) -> Fitted:
    """Fit a predictor on the training split, and predict the outcomes by which its settings are selected."""
    train, validation = fitting_rows(table), table.rows("validation")
    predict = _fit_known(fit, read(table, train), _targets(table, train))
    if len(validation) >= MIN_VALIDATION_QUESTIONS:
        rows, predicted = validation, list(predict(read(table, validation)))
    else:
        rows, predicted = _out_of_fold(table, train if len(train) >= MIN_FOLDED_QUESTIONS else train[:0], fit)
    return Fitted(predict, rows, [_outcome(values) for values in predicted])


def _out_of_fold(table: TransitionTable, train: Ints, fit: Fit) -> tuple[Ints, list[Floats]]:
    """Return the training rows, fold by fold, and what fits on the other folds predict with each setting."""
    rows, predicted = [train[:0]], []
    for fitting, selecting in folds(train):
        predict = _fit_known(fit, read(table, fitting), _targets(table, fitting))
        rows.append(selecting)
        predicted.append(list(predict(read(table, selecting))))
    return np.concatenate(rows), [np.concatenate(parts) for parts in zip(*predicted, strict=True)]


def _fit_known(fit: Fit, questions: Questions, targets: Floats) -> Predict:
    """Fit a predictor on the targets that some question has; the others, such as paths that do not exist, stay unknown."""
    known = np.flatnonzero((~np.isnan(targets)).any(0))
    if len(known) == targets.shape[1]:
        return fit(questions, targets)
    predict_known = fit(questions, targets[:, known])

    def predict(others: Questions) -> Iterator[Floats]:
        for part in predict_known(others):
            predicted = np.full((len(part), targets.shape[1]), np.nan)
            predicted[:, known] = part
            yield predicted

    return predict


def folds(rows: Ints) -> list[tuple[Ints, Ints]]:
    """Return the rows to fit on and the rows to select on of each fold; no fold if there are fewer than two rows."""
    from sklearn.model_selection import KFold

    if len(rows) < 2:
        return []
    splitter = KFold(min(FOLDS, len(rows)), shuffle=True, random_state=0)
    return [(rows[fitting], rows[selecting]) for fitting, selecting in splitter.split(rows)]


def fitting_rows(table: TransitionTable, limit: int = MAX_FITTED_QUESTIONS) -> Ints:
    """Return the rows of the training split or, of more than `limit`, a random sample, in ascending order."""
    train = table.rows("train")
    if len(train) <= limit:
        return train
    return np.sort(np.random.default_rng(0).choice(train, limit, replace=False))


def lacks_terms(table: TransitionTable, allow_stop: bool) -> str:
    """Say that no word is frequent among the training questions, so that predictors cannot read words."""
    return "" if frequent_terms(table) else "The questions have no texts, or no words that many of them share."


def lacks_embeddings(table: TransitionTable, allow_stop: bool) -> str:
    """Say that the suite has no encoder."""
    return "" if table.vectors.shape[1] else 'The suite has no embeddings (encoder = "none").'


def read(table: TransitionTable, rows: Ints) -> Questions:
    """Return what predictors may read of the questions of some rows."""
    terms = table_terms(table)[rows] if table.questions else np.zeros((len(rows), 0), dtype=np.float32)
    features = (table.question_embeddings(rows), terms, np.zeros((len(rows), 1), np.float32))
    return Questions(embeddings=next(part for part in features if part.shape[1]), terms=terms)


def _targets(table: TransitionTable, rows: Ints) -> Floats:
    """Return the quality and the cost of each node, `(rows, 2 * N)`; nan where it is not available."""
    targets = np.concatenate([table.quality[rows], table.cost[rows]], axis=1)
    if table.available is not None:
        targets[~np.tile(table.available[rows], 2)] = np.nan
    return targets


def _outcome(targets: Floats) -> Outcome:
    """Return predicted targets as outcomes; nodes without a prediction, nan, are worse and cost as much as any other."""
    quality, cost = np.split(targets, 2, axis=1)
    unknown = np.isnan(quality)
    if unknown.any():
        quality = np.where(unknown, np.nanmin(quality, axis=1, keepdims=True) - 1, quality)
        cost = np.where(unknown, np.nanmax(cost, axis=1, keepdims=True), cost)
    return Outcome(quality=quality, cost=cost)


def _at(outcome: Outcome, at: slice) -> Outcome:
    return Outcome(quality=outcome.quality[:, at], cost=outcome.cost[:, at])
