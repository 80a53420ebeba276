"""What results lack: cells that complete results would have, and the models that lack the most."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from toolkit.core import tree
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.results import Results, described
from toolkit.outcomes.values import HOP


class Gaps(NamedTuple):
    """What results lack.

    Attributes:
        cells: Number of cells that complete results would have.
        missing: How many of them are missing.
        examples: The first of those, as `benchmark/item: path`.
        questions: Numbers of the questions that lack one.
    """

    cells: int
    missing: int
    examples: Sequence[str]
    questions: Sequence[int]


def count_missing(results: Results, limit: int) -> Gaps:
    """Return what results lack.

    Args:
        results: The results.
        limit: Number of cells that are described, as `benchmark/item: path`.
    """
    n_paths = tree.n_nodes(len(results.models), results.horizon) - 1
    total = results.questions.height * results.samples * n_paths
    n_missing = total - results.cells.height
    examples: list[str] = []
    questions = _lacking(results, n_paths) if n_missing else []
    for number in questions[:limit]:
        known = set(results.cells.filter(pl.col("number") == number).select("sample", "path").iter_rows())
        cells = ((sample, path) for sample in range(results.samples) for path in _paths(results.models, results.horizon))
        missing = ({"number": number, "sample": sample, "path": path} for sample, path in cells if (sample, path) not in known)
        examples += [described(results, cell) for cell, _ in zip(missing, range(limit), strict=False)]
    return Gaps(total, n_missing, examples[:limit], questions)


def _lacking(results: Results, n_paths: int) -> list[int]:
    """Return the numbers of the questions that lack a cell."""
    counts = results.cells.group_by("number").len()
    numbers = pl.DataFrame({"number": pl.Series(range(results.questions.height), dtype=pl.UInt32)})
    counted = numbers.join(counts, on="number", how="left", maintain_order="left")
    lacking = counted.filter(pl.col("len").fill_null(0) < results.samples * n_paths)
    return lacking["number"].to_list()


def _paths(models: Sequence[str], horizon: int) -> Iterator[str]:
    """Yield the paths of 1 to `horizon` models, the shorter ones first."""
    level = [""]
    for _ in range(horizon):
        level = [f"{path}{HOP}{model}" if path else model for path in level for model in models]
        yield from level


def without_incomplete_models(results: Results) -> tuple[Results, list[str]]:
    """Leave out models until no cell is missing, each time the one that lacks the most; return those that are left out.

    Raises:
        BenchmarkError: Every model lacks a cell.
    """
    dropped: list[str] = []
    while count_missing(results, 0).missing:
        used = results.cells.with_columns(pl.col("path").str.split(HOP).list.unique()).explode("path")
        counts = dict(used.group_by("path").len().iter_rows())
        dropped.append(min(results.models, key=lambda model: counts.get(model, 0)))
        models = [model for model in results.models if model != dropped[-1]]
        if not models:
            raise BenchmarkError(
                "Every model lacks a response to some question, path or sample, so that drop-model leaves none. Mask what is "
                "missing instead: --missing mask"
            )
        is_kept = ~(HOP + pl.col("path") + HOP).str.contains(HOP + dropped[-1] + HOP, literal=True)
        results = Results(
            questions=results.questions,
            cells=results.cells.filter(is_kept),
            models=models,
            horizon=results.horizon,
            samples=results.samples,
            estimated=results.estimated,
        )
    return results, dropped
