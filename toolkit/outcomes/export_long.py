"""Writes the long format of docs/guides/results.md: one row per response, as `toolkit import` reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.outcomes.suite_results import SuiteResults
from toolkit.outcomes.writing import write_table

if TYPE_CHECKING:
    import pyarrow as pa


def write_long(results: SuiteResults, file: Path, ending: str) -> None:
    """Write the results as one table."""
    write_table(long_schema(results), long_tables(results), file, ending)


def long_schema(results: SuiteResults) -> "pa.Schema":
    """Return the columns of the table; columns that would be empty are left out."""
    import pyarrow as pa

    config = results.suite.config
    text, integer, number = pa.string(), pa.int64(), pa.float64()
    columns = {
        "benchmark": text,
        "item": text,
        "question": text,
        "model": text,
        "path": text if config.horizon > 1 else None,
        "sample": integer if config.samples > 1 else None,
        "split": text,
        "score": number,
        "cost": number if results.has_costs else None,
        "prompt_tokens": integer if results.has_tokens else None,
        "completion_tokens": integer if results.has_tokens else None,
        "response": text if results.has_responses else None,
        "reference": text if results.has_references else None,
        **dict.fromkeys(results.score_columns, number),
    }
    return pa.schema([(name, kind) for name, kind in columns.items() if kind])


def long_tables(results: SuiteResults) -> Iterator["pa.Table"]:
    """Yield the rows, some whole trees at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    schema, trees, nodes = long_schema(results), _trees(results), _nodes(results)
    for table in results.tables():
        columns: dict[str, Any] = dict(zip(table.column_names, table.columns, strict=True))
        columns |= {name: trees[name].take(table["position"]) for name in trees.column_names}
        places = pc.index_in(table["number"], nodes["number"])
        columns |= {name: nodes[name].take(places) for name in ("model", "path")}
        columns |= {name: pc.list_element(table["further"], n) for n, name in enumerate(results.score_columns)}
        columns["cost"] = table["raw_cost"]  # equal, where a cost was imported; elsewhere the rest of the table has costs
        yield pa.table([columns[name].cast(kind) for name, kind in zip(schema.names, schema.types, strict=True)], schema)


def _trees(results: SuiteResults) -> "pa.Table":
    """Return what the rows of each tree share, one row per tree in the order of the replay table."""
    import pyarrow as pa

    trees = [results.tree_at(position) for position in range(results.n_trees)]
    return pa.table(
        {
            "benchmark": pa.array([question.benchmark for question, _ in trees], pa.string()),
            "item": pa.array([question.item for question, _ in trees], pa.string()),
            "question": pa.array([question.prompt for question, _ in trees], pa.large_string()),
            "split": pa.array([question.split for question, _ in trees], pa.string()),
            "reference": pa.array([next(iter(question.reference.answers), None) for question, _ in trees], pa.string()),
            "sample": pa.array([sample for _, sample in trees], pa.int64()),
        }
    )


def _nodes(results: SuiteResults) -> "pa.Table":
    """Return number, model and path of each node."""
    import pyarrow as pa

    from toolkit.outcomes.values import HOP

    paths = {number: [model.name for model in path] for number, path in results.suite.paths()}
    return pa.table(
        {
            "number": pa.array(paths, pa.int32()),
            "model": pa.array([path[-1] if path else None for path in paths.values()], pa.string()),
            "path": [HOP.join(path) for path in paths.values()],
        }
    )
