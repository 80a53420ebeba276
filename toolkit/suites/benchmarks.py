"""Finds the benchmark that an entry of a suite means: a registered one, a Python file of the user's, or a table of rows."""

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from string import Formatter

from toolkit.core.errors import BenchmarkError, did_you_mean
from toolkit.core.workspace import Workspace
from toolkit.suites.config import BenchmarkConfig
from toolkit.tasks import BENCHMARKS, METRICS, Benchmark, Item, Record
from toolkit.tasks.data import read_file


def find_benchmark(entry: BenchmarkConfig, workspace: Workspace) -> Benchmark:
    """Return the benchmark that an entry of a suite means; its data are not loaded yet.

    Args:
        entry: The entry.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        BenchmarkError: The benchmark is not installed, or was imported with its responses, or the user's file cannot be
            executed or does not define it.
    """
    if entry.imported:
        raise BenchmarkError(
            f"The responses to {entry.name} were imported from other results, so none can be generated. "
            "Import results that have more of them: toolkit import TABLE --suite NAME"
        )
    if entry.file:
        return _from_file(entry, workspace.path(entry.file))
    if entry.prompt:
        return _from_table(entry, entry.prompt, workspace)
    if entry.name not in BENCHMARKS:
        raise BenchmarkError(
            f"There is no benchmark {entry.name!r}; {did_you_mean(entry.name, BENCHMARKS)}. "
            "If a package defines it, install that package."
        )
    return BENCHMARKS[entry.name]


def synthetic_benchmarks(entries: Iterable[BenchmarkConfig]) -> dict[str, bool]:
    """Return for each benchmark of a suite whether it is synthetic; a user's own, of which that is unknown, is not."""
    return {
        entry.name: not entry.imported and entry.name in BENCHMARKS and BENCHMARKS[entry.name].synthetic for entry in entries
    }


def _from_file(entry: BenchmarkConfig, path: Path) -> Benchmark:
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise BenchmarkError(
            f"There is no Python file {path} for benchmark {entry.name}. The path is relative to the suite file's folder."
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise BenchmarkError(f"The benchmark file {path} cannot be executed: {type(error).__name__}: {error}") from error
    defined = [value for value in vars(module).values() if isinstance(value, Benchmark)]
    named = [benchmark for benchmark in defined if benchmark.name == entry.name]
    if len(named) != 1:
        names = ", ".join(benchmark.name for benchmark in defined) or "none"
        raise BenchmarkError(f"The file {path} must define one Benchmark named {entry.name!r}; it defines: {names}.")
    metrics = (named[0].metric, *named[0].metrics, *entry.metrics, *([entry.quality] if entry.quality else []))
    for metric in metrics:
        if metric not in METRICS:
            raise BenchmarkError(f"Benchmark {entry.name}: there is no metric {metric!r}; {did_you_mean(metric, METRICS)}.")
    return named[0]


def _from_table(entry: BenchmarkConfig, template: str, workspace: Workspace) -> Benchmark:
    assert entry.data
    assert entry.metric
    path = workspace.path(entry.data)
    columns = {name.partition(".")[0].partition("[")[0] for _, name, _, _ in Formatter().parse(template) if name}
    columns |= {column for column in (entry.answer, entry.choices, entry.id, entry.stratum) if column}

    def item(record: Record, number: int) -> Item:
        missing = sorted(columns - set(record))
        if missing:
            raise BenchmarkError(
                f"Benchmark {entry.name}: {path}, row {number} has no {missing[0]!r}; it has {', '.join(map(str, record))}."
            )
        choices = tuple(map(str, record[entry.choices])) if entry.choices else ()
        return Item(
            id=str(record[entry.id]) if entry.id else f"row-{number}",
            prompt=template.format(**record),
            answers=_accepted_answers(record[entry.answer], choices),
            choices=choices,
            stratum=str(record[entry.stratum]) if entry.stratum else "",
        )

    return Benchmark(
        name=entry.name,
        version="1",
        field=entry.field,
        metric=entry.metric,
        licence=entry.licence,
        source=path.name,
        load=lambda: [item(placed.record, placed.number) for placed in read_file(path)],
    )


def _accepted_answers(value: object, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Return the accepted answers of a row; the letter of a choice becomes the choice."""
    if value is None:
        return ()
    answers = tuple(map(str, value)) if isinstance(value, list | tuple) else (str(value),)
    if len(answers) == 1 and choices and answers[0] not in choices and len(answers[0]) == 1:
        position = ord(answers[0].upper()) - ord("A")
        return (choices[position],) if 0 <= position < len(choices) else answers
    return answers
