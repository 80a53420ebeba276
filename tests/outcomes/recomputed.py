"""Baselines recomputed by plain NumPy from responses as files have them, for results of one hop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold

from tests.outcomes.published import Cell

Array = npt.NDArray[Any]
NEIGHBOURS = (5, 10, 20, 40, 80)
Key = tuple[str, str, int]
"""Benchmark, item and sample."""


class Recomputed:
    """Scores and costs of questions and models, nan where a model was not asked.

    Args:
        cells: The responses.
        rows: Benchmark, item, sample, text and split of each row, in the order of the suite.
        models: Names of the models.
        rates: Prices of a prompt token and of a completion token.
    """

    def __init__(
        self,
        cells: Iterable[Cell],
        rows: Sequence[Mapping[str, Any]],
        models: Sequence[str],
        rates: Mapping[str, tuple[float, float]],
    ) -> None:
        cells = list(cells)
        by_key = {(cell.benchmark, cell.item, cell.sample): {} for cell in cells}  # type: dict[Key, dict[str, Cell]]
        for cell in cells:
            by_key[cell.benchmark, cell.item, cell.sample][cell.model] = cell
        assert sorted(models) == sorted({cell.model for cell in cells})
        rows = [row for row in rows if key_of(row) in by_key]
        assert {key_of(row) for row in rows} == by_key.keys()
        self.keys = [key_of(row) for row in rows]
        self.models = list(models)
        self.benchmarks = np.array([row["benchmark"] for row in rows])
        self.splits = np.array([row["split"] for row in rows])
        self.texts = [row["prompt"] for row in rows]
        self.quality, self.cost = (np.full((len(rows), len(models)), np.nan) for _ in range(2))
        for n, row in enumerate(rows):
            for model, cell in by_key[self.keys[n]].items():
                assert cell.split in (None, row["split"])
                self.quality[n, models.index(model)] = cell.score
                self.cost[n, models.index(model)] = cost_of(cell, row["prompt"], rates.get(model, (1.0, 1.0)))
        self.unit = np.nanmax(np.nanmean(self.cost[self.splits == "train"], 0))
        self.cost /= self.unit

    def rows(self, split: str) -> Array:
        return np.flatnonzero(self.splits == split)

    def macro(self, values: Array, rows: Array) -> float:
        """Return the mean over benchmarks of the means of values, of which some are nan."""
        parts = [values[self.benchmarks[rows] == name] for name in dict.fromkeys(self.benchmarks[rows])]
        return float(np.mean([np.nanmean(part) for part in parts if not np.isnan(part).all()]))

    def of(self, choices: Array, rows: Array) -> tuple[float, float]:
        """Return macro Q and C of the model chosen on each row."""
        return self.macro(self.quality[rows, choices], rows), self.macro(self.cost[rows, choices], rows)

    def single(self, model: str, rows: Array) -> tuple[float, float]:
        """Return macro Q and C of a model on the rows that it was asked."""
        return self.of(np.full(len(rows), self.models.index(model)), rows)

    def best_single(self, rows: Array, alpha: float) -> Array:
        """Return the best available model of each row: questions and models have additive effects on rewards in training."""
        train, reward = self.rows("train"), self.quality - alpha * self.cost
        weights = np.array([1 / (self.benchmarks[train] == self.benchmarks[row]).sum() for row in train])
        weights /= weights.sum()
        equations, values = [], []
        for n, row in enumerate(train):
            for model in np.flatnonzero(~np.isnan(reward[row])):
                equation = np.zeros(len(train) + len(self.models))
                equation[n] = equation[len(train) + model] = 1
                equations.append(equation * math.sqrt(weights[n]))
                values.append(reward[row, model] * math.sqrt(weights[n]))
        if np.isnan(self.quality).any():  # one further question on which all models are equal
            effects_alone = np.eye(len(train) + len(self.models))[len(train) :]
            equations += list(effects_alone / math.sqrt(len(train)))
            values += [0.0] * len(self.models)
        effects = np.linalg.lstsq(np.array(equations), np.array(values), rcond=None)[0][len(train) :]
        ranking = np.argsort(-effects, kind="stable")
        return np.array([next(model for model in ranking if not np.isnan(reward[row, model])) for row in rows])

    def oracle(self, rows: Array, alpha: float) -> float:
        """Return the macro reward of the best model of each row."""
        return self.macro(np.nanmax(self.quality[rows] - alpha * self.cost[rows], 1), rows)

    def nearest(self, features: Array, rows: Array, alpha: float) -> Array:
        """Return the model that the nearest training questions say is best, for each row."""
        train, validation = self.rows("train"), self.rows("validation")
        features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        if len(validation) >= 30:
            parts = [(train, validation)]
        elif len(train) >= 60:
            parts = [(train[a], train[b]) for a, b in KFold(5, shuffle=True, random_state=0).split(train)]
        else:
            parts = []
        selecting = np.concatenate([part for _, part in parts]) if parts else train[:0]
        rewards = []
        for k in NEIGHBOURS if parts else ():
            choices = np.concatenate([self._choose(features, fitting, part, k, alpha) for fitting, part in parts])
            quality, cost = self.of(choices, selecting)
            rewards.append(quality - alpha * cost)
        k = NEIGHBOURS[int(np.argmax(rewards))] if rewards else NEIGHBOURS[len(NEIGHBOURS) // 2]
        return self._choose(features, train, rows, k, alpha)

    def _choose(self, features: Array, fitting: Array, rows: Array, k: int, alpha: float) -> Array:
        """Return the available model with the highest mean reward among the k nearest questions that have it."""
        predicted = np.full((len(rows), len(self.models)), -np.inf)
        for model in range(len(self.models)):
            known = fitting[~np.isnan(self.quality[fitting, model])]
            for n, row in enumerate(rows):
                if len(known) and not np.isnan(self.quality[row, model]):
                    near = known[np.argsort(-(features[known] @ features[row]), kind="stable")[:k]]
                    predicted[n, model] = self.quality[near, model].mean() - alpha * self.cost[near, model].mean()
        choices: Array = predicted.argmax(1)
        return choices


def key_of(row: Mapping[str, Any]) -> Key:
    """Return what a row is called."""
    return row["benchmark"], row["item"], row["sample"]


def cost_of(cell: Cell, question: str, rates: tuple[float, float]) -> float:
    """Return the cost of a response: money, priced tokens, or a quarter of the characters for tokens."""
    if cell.cost is not None:
        return cell.cost
    texts = question, cell.response or ""
    tokens = cell.tokens or (math.ceil(len(texts[0]) / 4), max(1, math.ceil(len(texts[1]) / 4)))
    return tokens[0] * rates[0] + tokens[1] * rates[1]
