"""Writes RouterBench's wide table: one row per question, three columns per model.

Prompts and responses are written as Python lists of one text, as RouterBench's files have them and its code reads them.
A complete path of several hops is one model, named `small > large`; each sample of a question is a row.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.core.errors import SuiteError
from toolkit.core.text import printable
from toolkit.outcomes.suite_results import SuiteResults, path_result
from toolkit.outcomes.writing import write_table

if TYPE_CHECKING:
    import pyarrow as pa

ORACLE = "oracle_model_to_route_to"
COLUMNS = ("sample_id", "prompt", "eval_name", ORACLE)
NO_MODEL = "no_model_correct"
"""What RouterBench calls the oracle's choice where every score is 0."""
GROUP_TREES = 500
"""Rows that are written together; each may hold hundreds of responses."""


def write_routerbench(results: SuiteResults, file: Path, ending: str) -> None:
    """Write the results as one table.

    Raises:
        SuiteError: The name of a model would be ambiguous as that of a column.
    """
    _check_names(results)
    write_table(_schema(results), _tables(results), file, ending)


def _check_names(results: SuiteResults) -> None:
    for model in results.suite.models:
        if "|" in model.name or model.name in COLUMNS:
            raise SuiteError(
                f"RouterBench's table names columns by model, and {printable(model.name)!r} cannot be told from its other "
                "columns. Export another format, such as --format long."
            )


def _schema(results: SuiteResults) -> "pa.Schema":
    import pyarrow as pa

    names = list(results.complete_paths())
    texts, numbers = [f"{name}|model_response" for name in names], [f"{name}|total_cost" for name in names]
    columns = dict.fromkeys(COLUMNS[:-1], pa.string()) | dict.fromkeys(names, pa.float64())
    columns |= dict.fromkeys(texts if results.has_responses else (), pa.string()) | dict.fromkeys(numbers, pa.float64())
    return pa.schema(list((columns | {ORACLE: pa.string()}).items()))


def _tables(results: SuiteResults) -> Iterator["pa.Table"]:
    import pyarrow as pa

    schema, rows = _schema(results), _rows(results)
    while group := list(islice(rows, GROUP_TREES)):
        yield pa.Table.from_pylist(group, schema)


def _rows(results: SuiteResults) -> Iterator[Mapping[str, Any]]:
    """Yield the row of each tree that has a complete path."""
    paths = results.complete_paths()
    items = [question.item for question in results.suite.questions]
    is_unique = len(set(items)) == len(items)
    for position, nodes in results.trees():
        ends = {name: result for name, path in paths.items() if (result := path_result(path, nodes))}
        if not ends:
            continue
        question, sample = results.tree_at(position)
        name = question.item if is_unique else f"{question.benchmark}/{question.item}"
        row = {
            "sample_id": f"{name}#{sample}" if results.suite.config.samples > 1 else name,
            "prompt": repr([question.prompt]),
            "eval_name": question.benchmark,
            ORACLE: _oracle(ends),
        }
        for model, result in ends.items():
            response = result["response"]
            row |= {model: result["score"], f"{model}|total_cost": result["raw_cost"]}
            row |= {} if response is None else {f"{model}|model_response": repr([response])}
        yield row


def _oracle(ends: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the cheapest of the models with the highest score, the first of several."""
    best = min(ends, key=lambda model: (-ends[model]["score"], ends[model]["raw_cost"]))
    return best if ends[best]["score"] > 0 else NO_MODEL
