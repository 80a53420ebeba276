"""Finds the benchmark that a suite means: a shipped one, a Python file of the user's, or a table of rows in the suite."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from string import Formatter

from toolkit.core.errors import BenchmarkError
from toolkit.core.workspace import Workspace
from toolkit.suites.config import BenchmarkConfig
from toolkit.tasks.base import Benchmark, Item
from toolkit.tasks.data import Record, read_file


def find_benchmark(wanted: BenchmarkConfig, workspace: Workspace) -> Benchmark:
    """Return the benchmark that an entry of a suite means; shipped ones and Python files have not loaded their data yet.

    Args:
        wanted: The entry.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        BenchmarkError: The user's file cannot be read, or defines no benchmark, or several; or the questions were imported.
    """
    from benchmarks import load_benchmark

    if wanted.imported:
        raise BenchmarkError(
            f"The answers to {wanted.name} were imported from a table, so none can be generated. "
            "Import a table that has more of them: toolkit import TABLE --suite NAME"
        )
    if wanted.file:
        return _from_file(wanted, workspace.path(wanted.file))
    return _from_table(wanted, workspace) if wanted.prompt else load_benchmark(wanted.name)


def synthetic_benchmarks(benchmarks: Iterable[BenchmarkConfig]) -> dict[str, bool]:
    """Tell of the benchmarks of a suite whether a program made up their questions; of users' own that is not known."""
    from benchmarks import BENCHMARKS, load_benchmark

    return {
        wanted.name: not wanted.imported and wanted.name in BENCHMARKS and load_benchmark(wanted.name).synthetic
        for wanted in benchmarks
    }


def _from_file(wanted: BenchmarkConfig, path: Path) -> Benchmark:
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise BenchmarkError(f"There is no Python file {path} for benchmark {wanted.name}, relative to the suite file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BenchmarkError(f"The benchmark file {path} cannot be run: {type(error).__name__}: {error}") from error
    found = [value for value in vars(module).values() if isinstance(value, Benchmark)]
    named = [benchmark for benchmark in found if benchmark.name == wanted.name]
    if len(named) != 1:
        names = ", ".join(benchmark.name for benchmark in found) or "none"
        raise BenchmarkError(f"The file {path} must define one Benchmark named {wanted.name!r}; it defines: {names}.")
    return named[0]


def _from_table(wanted: BenchmarkConfig, workspace: Workspace) -> Benchmark:
    assert wanted.prompt
    assert wanted.data
    assert wanted.metric
    template, path = wanted.prompt, workspace.path(wanted.data)
    columns = {name.partition(".")[0].partition("[")[0] for _, name, _, _ in Formatter().parse(template) if name}
    columns |= {column for column in (wanted.answer, wanted.choices, wanted.id, wanted.stratum) if column}

    def item(row: Record, number: int) -> Item:
        missing = sorted(columns - set(row))
        if missing:
            raise BenchmarkError(
                f"Benchmark {wanted.name}: {path}, row {number} has no {missing[0]!r}; it has {', '.join(map(str, row))}."
            )
        given = row[wanted.answer]
        answers = tuple(map(str, given)) if isinstance(given, list | tuple) else () if given is None else (str(given),)
        choices = tuple(map(str, row[wanted.choices])) if wanted.choices else ()
        if len(answers) == 1 and choices and answers[0] not in choices and len(answers[0]) == 1:
            position = ord(answers[0].upper()) - ord("A")
            answers = (choices[position],) if 0 <= position < len(choices) else answers
        name = str(row[wanted.id]) if wanted.id else f"row-{number}"
        return Item(name, template.format(**row), answers, choices, stratum=str(row[wanted.stratum]) if wanted.stratum else "")

    return Benchmark(
        name=wanted.name,
        version="1",
        field=wanted.field,
        metric=wanted.metric,
        licence=wanted.licence,
        source=path.name,
        load=lambda: [item(placed.row, placed.number) for placed in read_file(path)],
    )
