"""Adds the results of a table to those that a suite already has; of two that contradict each other, the caller chooses one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from toolkit.core.errors import CacheError
from toolkit.outcomes.converting import PLACE
from toolkit.outcomes.results import CELL, CELL_TYPES, CONTENT, ITEM, QUESTION, QUESTION_TYPES, Results, described
from toolkit.outcomes.values import HOP, shown
from toolkit.store import Prefer


@dataclass
class Changes:
    """What a table adds to the results of a suite.

    Attributes:
        added: Number of cells that complete results of the suite did not have.
        completed: Number of cells that were missing, or that have further fields now.
        equal: Number of cells that are there already.
        replaced: Number of cells that differ, and are replaced.
        ignored: Number of cells that differ, and stay as they are.
        cells: The cells whose content is new or has changed, by the columns `CELL`.
    """

    added: int = 0
    completed: int = 0
    equal: int = 0
    replaced: int = 0
    ignored: int = 0
    cells: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={name: CELL_TYPES[name] for name in CELL}))


def merge(ours: Results, theirs: Results, prefer: Prefer | None, source: str, target: str) -> tuple[Results, Changes]:
    """Add the results of a table to those of a suite; the suite's order of models and questions stays.

    Args:
        ours: The results of the suite; its cells need not be complete.
        theirs: The results of the table.
        prefer: Whose value to keep where they contradict each other.
        source: Name of the table, for messages.
        target: Name of the suite's cache, for messages.

    Raises:
        CacheError: They contradict each other, and `prefer` does not say whose value to keep.
    """
    questions, numbers, differences = _merged_questions(ours, theirs, prefer)
    names = (*CONTENT, *theirs.metrics)
    new = theirs.cells.with_columns(number=numbers.gather(theirs.cells["number"]))
    lacking = [pl.lit(None, pl.Float64).alias(name) for name in theirs.metrics if name not in ours.metrics]
    known = ours.cells.with_columns(lacking).select(*CELL, *names, known=pl.lit(True))
    joined = new.join(known, on=CELL, how="left", suffix="_ours")
    is_known = pl.col("known").is_not_null()
    differs = {
        name: (
            is_known
            & pl.col(name).is_not_null()
            & pl.col(f"{name}_ours").is_not_null()
            & (pl.col(name) != pl.col(f"{name}_ours"))
        )
        for name in names
    }
    completes = is_known & pl.any_horizontal(pl.col(name).is_not_null() & pl.col(f"{name}_ours").is_null() for name in names)
    joined = joined.with_columns(differs=pl.any_horizontal(differs.values()), completes=completes)
    for name, condition in differs.items():
        differences += [_Difference(row, name) for row in joined.filter(condition).iter_rows(named=True)]
    if differences and prefer is None:
        raise _contradiction(differences, Results(questions), source, target)
    changes = _changes(joined, ours, numbers, prefer)
    first, second = ("", "_ours") if prefer == "theirs" else ("_ours", "")
    values = {name: pl.coalesce(f"{name}{first}", f"{name}{second}") for name in names}
    updated = joined.select(*CELL, *PLACE, **values)
    others = ours.cells.join(updated, on=CELL, how="anti")
    return (
        Results(
            questions=questions,
            cells=pl.concat([others, updated.select(*CELL_TYPES, *theirs.metrics)], how="diagonal"),
            models=list(dict.fromkeys([*ours.models, *theirs.models])),
            horizon=max(ours.horizon, theirs.horizon),
            samples=max(ours.samples, theirs.samples),
            estimated=theirs.estimated,
        ),
        changes,
    )


class _Difference:
    """A contradiction between a row of a table and a suite."""

    def __init__(self, row: Mapping[str, Any], column: str) -> None:
        self.row, self.column = row, column
        self.theirs, self.ours = row[column], row[f"{column}_ours"]


def _merged_questions(
    ours: Results, theirs: Results, prefer: Prefer | None
) -> tuple[pl.DataFrame, pl.Series, list[_Difference]]:
    """Return all questions, the numbers that theirs have among them, and what they contradict."""
    known = ours.questions.with_row_index("number")
    joined = theirs.questions.with_row_index("row").join(known, on=ITEM, how="left", suffix="_ours", maintain_order="left")
    is_new = joined["number"].is_null()
    numbers = joined["number"].fill_null(pl.Series(range(len(joined))).cast(pl.UInt32))
    numbers = numbers.zip_with(~is_new, (is_new.cum_sum() - 1 + ours.questions.height).cast(pl.UInt32))
    first, second = ("", "_ours") if prefer == "theirs" else ("_ours", "")
    differences = []
    for name in QUESTION:
        other = joined.filter(pl.col(name) != pl.col(f"{name}_ours"))
        if other.height:
            cells = theirs.cells.join(other.select(pl.col("row").alias("number"), name, f"{name}_ours"), on="number")
            place = cells.unique("number", keep="first", maintain_order=True)
            to_merged = numbers.gather(place["number"])
            differences += [_Difference(row, name) for row in place.with_columns(number=to_merged).iter_rows(named=True)]
    merged = joined.select(
        *ITEM, **{name: pl.coalesce(f"{name}{first}", f"{name}{second}") for name in QUESTION}, number=numbers
    )
    changed = merged.filter(~is_new)
    unchanged = known.join(changed, on="number", how="anti").select(*QUESTION_TYPES, "number")
    ordered = pl.concat(
        [unchanged, changed.select(*QUESTION_TYPES, "number"), merged.filter(is_new).select(*QUESTION_TYPES, "number")]
    )
    return ordered.sort("number").select(list(QUESTION_TYPES)), numbers, differences


def _changes(joined: pl.DataFrame, ours: Results, numbers: pl.Series, prefer: Prefer | None) -> Changes:
    """Count what becomes of the cells of a table."""
    is_known, differs, completes = joined["known"].is_not_null(), joined["differs"], joined["completes"]
    is_replaced = differs if prefer == "theirs" else differs & False
    in_grid = _in_grid(joined, ours)
    is_changed = ~is_known | is_replaced | completes
    return Changes(
        added=int((~is_known & ~in_grid).sum()),
        completed=int((~is_known & in_grid).sum()) + int((is_known & completes & ~differs).sum()),
        equal=int((is_known & ~differs & ~completes).sum()),
        replaced=int((is_known & differs & (is_replaced | completes)).sum()),
        ignored=int((is_known & differs & ~is_replaced & ~completes).sum()),
        cells=joined.filter(is_changed).select(CELL),
    )


def _in_grid(joined: pl.DataFrame, ours: Results) -> pl.Series:
    """Return which cells complete results of a suite have."""
    paths = joined["path"].unique().to_list()
    inside = [path for path in paths if len(models := path.split(HOP)) <= ours.horizon and set(models) <= set(ours.models)]
    is_inside = joined["path"].is_in(inside) & (joined["sample"] < ours.samples)
    return is_inside & (joined["number"] < ours.questions.height)


def _contradiction(differences: Sequence[_Difference], results: Results, source: str, target: str) -> CacheError:
    first = differences[0]
    return CacheError(
        f"Values of {source} that differ from those in {target}: {len(differences)}. The first is {first.row['place']}, column "
        f"{first.column}: {shown(first.theirs)}, and the cache has {shown(first.ours)} for {described(results, first.row)}. "
        "Nothing was changed. Correct the table, or choose a side: repeat the command with --prefer ours (keep what the cache "
        "has) or --prefer theirs (replace it)."
    )
