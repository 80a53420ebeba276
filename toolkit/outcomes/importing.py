"""Imports results as a suite: what other people's models responded, at what cost, and how it was scored.

The suite replays, trains, sweeps and can be queried like a generated one. An import adds to the suite of its name. A response
that the results lack is missing, never a silent default. Names and scores are those of the results.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl

from toolkit.core.errors import CacheError
from toolkit.core.progress import NoProgress, Progress
from toolkit.core.workspace import Workspace
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.outcomes.converting import Conversion, Notes, convert_rows
from toolkit.outcomes.embedding import embed_missing, without_vector
from toolkit.outcomes.formats import Source, find_files, format_of
from toolkit.outcomes.imported_rows import imported_rows, observed_texts, with_parents
from toolkit.outcomes.imported_suite import (
    Incomplete,
    Rates,
    SuiteSettings,
    build_suite,
    check_currency,
    check_suite_name,
    prices,
    recorded_results,
)
from toolkit.outcomes.merging import Changes, merge
from toolkit.outcomes.missing import count_missing, without_incomplete_models
from toolkit.outcomes.results import CELL, Results, collect
from toolkit.outcomes.vectors import OwnVectors, read_vectors
from toolkit.store import Cache, ImportedRows, Prefer
from toolkit.suites.models import Encoder
from toolkit.suites.suite import Suite

Missing = Literal["mask", "drop-question", "drop-model"]
"""What becomes of missing responses."""
SETTINGS: dict[Missing, Incomplete] = {"mask": "mask", "drop-question": "exclude question", "drop-model": "refuse"}
"""The setting of a suite that does so."""
MAX_LISTED_CELLS = 3
"""Missing cells that a summary lists."""


@dataclass(frozen=True)
class ImportOptions:
    """What the user asks of an import.

    Attributes:
        format: Name of the format; None to detect it.
        conversion: What is asked of the values.
        rates: Prices of a prompt and of a completion token by model, if the results have tokens.
        missing: What becomes of missing responses; None for what the suite has, at first `mask`.
        prefer: Whose value to keep if the cache has another one for the same cell.
        currency: Currency of the costs, and of the rates of a single token; None for what the suite has, at first none.
        encoder: What embeds the texts; None for what the suite has, at first the encoder of every suite.
        embeddings: A file with vectors of the texts, in the place of an encoder.
    """

    format: str | None = None
    conversion: Conversion = field(default_factory=Conversion)
    rates: Rates = field(default_factory=dict)
    missing: Missing | None = None
    prefer: Prefer | None = None
    currency: str | None = None
    encoder: Encoder | None = None
    embeddings: Path | None = None


@dataclass(frozen=True)
class Import:
    """An import that is checked, and not written yet.

    Attributes:
        suite: The suite that it results in.
        recorded: The suite as the cache has it; None if it has none of that name.
        results: The results of the suite.
        changes: What the files add to what the cache has.
        format: What the format is called.
        notes: What was read, and what was left out or changed.
        source: Name of the files.
        dropped: Models that are left out because responses of theirs are missing.
        texts: Texts that have no embedding yet.
        vectors: Vectors of the user's own, in the place of an encoder.
        prefer: Whose value to keep where another suite of the cache scores the same response.
    """

    suite: Suite
    recorded: Suite | None
    results: Results
    changes: Changes
    format: str
    notes: Notes
    source: str
    dropped: Sequence[str]
    texts: Sequence[str]
    vectors: OwnVectors | None
    prefer: Prefer | None

    @property
    def changes_rows(self) -> bool:
        """Whether there is anything to write."""
        is_new = self.recorded is None or self.recorded.key != self.suite.key
        return is_new or bool(self.changes.cells.height)

    @property
    def is_repriced(self) -> bool:
        """Whether tokens of results that the cache has cost something else from now on."""
        prices = {(model.name, model.rate_in, model.rate_out) for model in self.suite.models}
        names, recorded = {name for name, *_ in prices}, self.recorded.models if self.recorded else ()
        return any(model.name in names and (model.name, model.rate_in, model.rate_out) not in prices for model in recorded)

    @property
    def work(self) -> int:
        """Amount of work that progress is told of: texts to embed and results to write."""
        return len(self.texts) + self.cells.height

    @cached_property
    def cells(self) -> pl.DataFrame:
        """The cells to write: those that have changed, all of a question whose key is new, and those above them."""
        recorded = {question.key for question in self.recorded.questions} if self.recorded else set()
        rewritten = [number for number, question in enumerate(self.suite.questions) if question.key not in recorded]
        is_rewritten = pl.col("number").is_in(pl.Series(rewritten, dtype=pl.UInt32).implode())
        further = self.results.cells.filter(is_rewritten).select(CELL)
        return with_parents(pl.concat([self.changes.cells, further]).unique(maintain_order=True))


@dataclass(frozen=True)
class ImportSummary:
    """What an import has done.

    Attributes:
        plan: The import.
        cells: Responses that complete results would have.
        missing: The first of the missing ones, as `benchmark/item: path`.
        n_missing: How many are missing.
        incomplete: Numbers of the questions that lack one.
    """

    plan: Import
    cells: int
    missing: Sequence[str]
    n_missing: int
    incomplete: Sequence[int]

    @property
    def suite(self) -> Suite:
        """The suite that has the results now."""
        return self.plan.suite

    @property
    def changes(self) -> Changes:
        """How many cells were added, completed, found equal or replaced."""
        return self.plan.changes


def import_results(
    files: Sequence[Path | str] | Path,
    name: str,
    cache: Cache,
    downloads: Path,
    options: ImportOptions = ImportOptions(),
    *,
    progress: Progress | None = None,
    encode: Encode | None = None,
) -> ImportSummary:
    """Add results to the suite of a name, completely or not at all.

    Args:
        files: Files, a folder or a pattern; docs/guides/results.md describes the formats.
        name: Name of the suite.
        cache: The cache; it is created if it does not exist.
        downloads: Folder of the encoder's weights.
        options: What is asked of the import.
        progress: Is told of the progress.
        encode: Embeds texts; default: the suite's encoder.

    Raises:
        BenchmarkError: The results are malformed; the message names file, row and column.
        CacheError: The suite has other results for the same cells, and `options.prefer` does not say whose to keep.
        SuiteError: The name cannot be that of an imported suite.
        KeyboardInterrupt: The progress says to stop; the suite is as it was.
    """
    plan = plan_import(files, name, cache, downloads, options)
    encode = encode or SuiteEncoder(plan.suite, Workspace(Path.cwd(), downloads))
    return run_import(plan, cache, encode, progress)


def plan_import(
    files: Sequence[Path | str] | Path,
    name: str,
    cache: Cache,
    downloads: Path,
    options: ImportOptions = ImportOptions(),
) -> Import:
    """Read results, check them, and add them to what the cache has; nothing is written. See `import_results`."""
    check_suite_name(name)
    names = [str(files)] if isinstance(files, Path) else [str(file) for file in files]
    source = find_files(names, options.conversion.columns.values())
    title, new, notes = _read(source, options, name)
    cache.migrate()
    recorded = cache.suites.get(name) if cache.exists() else None
    ours = Results()
    if recorded:
        rows = cache.query("imported_results", suite=recorded.key)
        ours = recorded_results(recorded, rows, cache.query("further_scores", suite=recorded.key))
    results, changes = merge(ours, new, options.prefer, source.label, str(cache.path))
    dropped: Sequence[str] = ()
    if options.missing == "drop-model":
        results, dropped = without_incomplete_models(results)
        changes.cells = changes.cells.join(results.cells, on=("number", "sample", "path"), how="semi")
    rates = prices(results, ours, recorded, options.rates, source.label)
    if options.currency is not None:
        check_currency(results, rates)
    description = f"Results imported from {title}." + (" Tokens are estimated from characters." if results.estimated else "")
    texts = observed_texts(results)
    vectors = _own_vectors(options.embeddings, results, texts)
    settings = SuiteSettings(
        incomplete=SETTINGS[options.missing] if options.missing else None,
        currency=options.currency,
        encoder=vectors.encoder if vectors else options.encoder,
    )
    suite = build_suite(results, name, recorded, rates, settings, description, Workspace(Path.cwd(), downloads))
    return Import(
        suite=suite,
        recorded=recorded,
        results=results,
        changes=changes,
        format=title,
        notes=notes,
        source=Path(names[0]).name if len(names) == 1 else f"{len(source.files)} files",
        dropped=dropped,
        texts=without_vector(cache, suite, texts),
        vectors=vectors,
        prefer=options.prefer,
    )


def _own_vectors(path: Path | None, results: Results, texts: Sequence[str]) -> OwnVectors | None:
    if path is None:
        return None
    rows = results.questions.select("benchmark", "item", "question").iter_rows()
    return read_vectors(path, {(benchmark, item): question for benchmark, item, question in rows}, texts)


def _read(source: Source, options: ImportOptions, name: str) -> tuple[str, Results, Notes]:
    """Return what the format is called, the results, and what was left out."""
    _, reader = format_of(source, options.format)
    notes = Notes()

    def frames() -> Iterator[pl.DataFrame]:
        yield from convert_rows(reader.read(source), replace(options.conversion, benchmark=name), notes)

    return reader.title, collect(source.label, frames()), notes


def run_import(plan: Import, cache: Cache, encode: Encode, progress: Progress | None = None) -> ImportSummary:
    """Embed what has no embedding yet, then write everything else in one transaction. See `import_results`.

    Raises:
        CacheError: Another command has changed the suite since the import was planned.
    """
    suite, recorded, progress = plan.suite, plan.recorded, progress or NoProgress()
    embed_missing(cache, suite, plan.texts, plan.vectors or encode, progress)
    is_new = not cache.exists()
    _check_unchanged(cache, suite.name, recorded)
    cache.create()
    try:
        if plan.changes_rows:
            progress.stage(f"writing {plan.cells.height} results")
            cache.suites.record_with_rows(suite, _parts(plan, progress), plan.prefer)
        cache.suites.record(suite)  # settings may have changed though no row has
        is_changed = plan.changes_rows or recorded is None or recorded.config != suite.config
        cache.suites.compute_cost_unit(suite.key, recompute=is_changed)
    except BaseException:
        if is_new and not cache.suites.names():
            cache.path.unlink(missing_ok=True)
        raise
    gaps = count_missing(plan.results, MAX_LISTED_CELLS)
    return ImportSummary(plan=plan, cells=gaps.cells, missing=gaps.examples, n_missing=gaps.missing, incomplete=gaps.questions)


def _check_unchanged(cache: Cache, name: str, recorded: Suite | None) -> None:
    """Check that the suite is still as it was when the import was planned.

    Raises:
        CacheError: Another command has changed it since.
    """
    current = cache.suites.current_key(name) if cache.exists() else None
    if current != (recorded.key if recorded else None):
        raise CacheError(
            f"Another command changed the suite {name} in {cache.path} while this import ran, so that nothing was imported. "
            "Repeat the command; texts that are embedded already are not embedded again."
        )


def _parts(plan: Import, progress: Progress) -> Iterator[ImportedRows]:
    """Yield the rows to write."""
    for rows in imported_rows(plan.suite, plan.results, plan.cells, plan.source):
        if progress.stopped():
            raise KeyboardInterrupt
        yield rows
        progress.advance(rows.generations.num_rows)
