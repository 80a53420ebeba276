"""Finds the benchmark that an entry of a suite means: a registered one, a Python file of the user's, or a table of rows."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

from toolkit.core.calls import send_by_value
from toolkit.core.errors import BenchmarkError, did_you_mean
from toolkit.core.modules import execute_file
from toolkit.core.workspace import Workspace
from toolkit.suites.benchmark_config import BenchmarkConfig
from toolkit.suites.config import SuiteConfig
from toolkit.suites.tables import read_item
from toolkit.tasks import BENCHMARKS, METRICS, Benchmark
from toolkit.tasks.data import read_file

Trust = bool | Callable[[Path, str], bool]
"""Whether Python files of benchmarks may run; or a function that decides it for a file and the SHA-256 of its content."""


def find_benchmark(entry: BenchmarkConfig, workspace: Workspace, trust: Trust = False) -> Benchmark:
    """Return the benchmark that an entry of a suite means; its data are not loaded yet.

    Args:
        entry: The entry.
        workspace: The suite file's folder, and the folder of downloads.
        trust: Whether a Python file that the entry names may be executed.

    Raises:
        BenchmarkError: The benchmark is not installed, or was imported with its responses, or the user's file may not or cannot
            be executed, or does not define it.
    """
    if entry.imported:
        raise BenchmarkError(
            f"The responses to {entry.name} were imported from other results, so none can be generated. "
            "Import results that have more of them: toolkit import TABLE --suite NAME"
        )
    if entry.file:
        benchmark = _from_file(entry, workspace.path(entry.file), trust)
    elif entry.prompt:
        benchmark = _from_table(entry, workspace)
    elif entry.name in BENCHMARKS:
        benchmark = BENCHMARKS[entry.name]
    else:
        raise BenchmarkError(
            f"There is no benchmark {entry.name!r}; {did_you_mean(entry.name, BENCHMARKS)}. "
            "If a package defines it, install that package."
        )
    further = (*entry.metrics, *([entry.quality] if entry.quality else []))
    for metric in (benchmark.metric, *(benchmark.metrics or ()), *further):
        if not isinstance(metric, str) or metric not in METRICS:
            raise BenchmarkError(
                f"Benchmark {entry.name}: there is no metric {metric!r}; {did_you_mean(str(metric), METRICS)}. A metric of "
                "your own is defined in the benchmark's Python file, with the decorator @metric of toolkit.tasks."
            )
    return benchmark


def register_metrics(config: SuiteConfig, workspace: Workspace, trust: Trust = False) -> None:
    """Execute the benchmark files of a suite, which may define metrics; files that are not on this machine are passed over.

    Raises:
        BenchmarkError: See `find_benchmark`.
    """
    for entry in config.benchmarks:
        if entry.file and workspace.path(entry.file).is_file():
            find_benchmark(entry, workspace, trust)


def synthetic_benchmarks(entries: Iterable[BenchmarkConfig]) -> dict[str, bool]:
    """Return for each benchmark of a suite whether it is synthetic; a user's own, of which that is unknown, is not."""
    return {
        entry.name: not entry.imported and entry.name in BENCHMARKS and BENCHMARKS[entry.name].synthetic for entry in entries
    }


def _from_file(entry: BenchmarkConfig, path: Path, trust: Trust) -> Benchmark:
    defined = [value for value in vars(_execute(entry, path, trust)).values() if isinstance(value, Benchmark)]
    named = [benchmark for benchmark in defined if benchmark.name == entry.name]
    if len(named) != 1:
        names = ", ".join(str(benchmark.name) for benchmark in defined) or "none"
        raise BenchmarkError(f"The file {path} must define one Benchmark named {entry.name!r}; it defines: {names}.")
    return named[0]


def _execute(entry: BenchmarkConfig, path: Path, trust: Trust) -> ModuleType:
    """Execute a benchmark's Python file if that is allowed: the bytes that were shown, never a compiled copy beside them."""
    if not os.path.isfile(path) or path.suffix != ".py":
        raise BenchmarkError(
            f"There is no Python file {path} for benchmark {entry.name}. The path ends in .py and is relative to the suite "
            "file's folder."
        )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise BenchmarkError(f"The benchmark file {path} cannot be read: {error.strerror}.") from None
    allowed = trust(path, hashlib.sha256(source).hexdigest()) if callable(trust) else trust
    if not allowed:
        raise BenchmarkError(
            f"Benchmark {entry.name} is the Python file {path}, and loading it runs its code with your rights. Read the file; "
            "to run it, say so once with toolkit plan SUITE.toml --trust (remembered until the file changes), or set "
            "TOOLKIT_TRUST=1 for files of your own. In Python: resolve(..., trust=True)."
        )
    try:
        module = execute_file(path, source, f"benchmark_{path.stem}")
    except (Exception, SystemExit) as error:
        raise BenchmarkError(f"The benchmark file {path} cannot be executed: {type(error).__name__}: {error}") from error
    send_by_value(module)  # its metrics are called in another process
    return module


def _from_table(entry: BenchmarkConfig, workspace: Workspace) -> Benchmark:
    assert entry.data
    assert entry.metric
    path = workspace.path(entry.data)
    return Benchmark(
        name=entry.name,
        version="1",
        field=entry.field,
        metric=entry.metric,
        licence=entry.licence,
        source=path.name,
        load=lambda: [read_item(entry, placed) for placed in read_file(path)],
    )
