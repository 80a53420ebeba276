"""The neighbours of kNN: those of the highest similarity, and of equal ones the first, whatever adds the numbers."""

from __future__ import annotations

import numpy as np
import pytest

from toolkit.replay.table import Floats
from toolkit.routing.baselines import knn
from toolkit.routing.baselines.knn import nearest_rows


def unit(rows: Floats) -> Floats:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [1, 50, 2**22])
def test_ties_are_broken_by_order_whatever_the_order_of_addition(
    seed: int, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Permuted dimensions are added in another order, as another number of threads would."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(knn, "MAX_SIMILARITIES", limit)
    terms = (rng.random((60, 37)) < 0.2).astype(float)
    terms[:, 0] = 1
    rows, queries = unit(terms[:40]), unit(terms[40:])
    expected = [sorted(range(40), key=lambda row: (-round(float(query @ rows[row]), 9), row))[:12] for query in queries]
    ties = sum(len(set(np.round(query @ rows.T, 9))) < 40 for query in queries)
    assert ties == len(queries)  # the test is about something
    for _ in range(5):
        columns = rng.permutation(37)
        assert nearest_rows(queries[:, columns], rows[:, columns], 12).tolist() == expected


def test_as_many_neighbours_as_rows_are_all_of_them_in_order_of_similarity() -> None:
    rng = np.random.default_rng(0)
    rows, queries = unit(rng.normal(size=(9, 4))), unit(rng.normal(size=(3, 4)))
    assert nearest_rows(queries, rows, 9).tolist() == np.argsort(-(queries @ rows.T), axis=1).tolist()
