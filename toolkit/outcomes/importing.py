"""Imports results as a suite: what other people's models responded, at what cost, and how it was scored.

The suite replays, trains, sweeps and can be queried like a generated one. An import adds to the suite of its name. A response
that the results lack is a failed generation, never a silent default. Names and scores are those of the results.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolkit.core.hashing import text_key
from toolkit.core.progress import NoProgress, Progress
from toolkit.core.workspace import Workspace
from toolkit.engines.encoder import Encode, SuiteEncoder
from toolkit.outcomes.imported_suite import (
    Incomplete,
    Rates,
    build_suite,
    cells,
    check_currency,
    check_suite_name,
    observed_texts,
    prices,
    recorded_results,
    tree_batches,
)
from toolkit.outcomes.long_format import ResultTable, read_results
from toolkit.outcomes.results import Changes, Results, collect, described, merge
from toolkit.store import Batch, Cache, Prefer, iterate_rows
from toolkit.suites.suite import Suite

ENCODE_BATCH = 256
"""Texts that are embedded together."""
MAX_LISTED_CELLS = 3
"""Missing cells that a summary lists."""


@dataclass(frozen=True)
class ImportSummary:
    """What an import has done.

    Attributes:
        suite: The suite that has the results now.
        changes: How many cells the table added, completed, found equal or replaced.
        table: What was read of the table, and what was left out.
        cells: Responses that complete results would have.
        missing: The first of the missing ones, as `benchmark/item: path`.
        n_missing: How many are missing.
        n_embedded: Texts that were embedded; those with an embedding in the cache are not embedded again.
    """

    suite: Suite
    changes: Changes
    table: ResultTable
    cells: int
    missing: tuple[str, ...]
    n_missing: int
    n_embedded: int


@dataclass(frozen=True)
class Import:
    """An import that is checked, and not written yet.

    Attributes:
        suite: The suite that it results in.
        recorded: The suite as the cache has it; None if it has none of that name.
        results: The results of the suite.
        changes: What the table adds to what the cache has.
        table: What was read of the table.
        source: Name of the table.
        texts: Texts that have no embedding yet.
        prefer: Whose value to keep where another suite of the cache scores the same response.
    """

    suite: Suite
    recorded: Suite | None
    results: Results
    changes: Changes
    table: ResultTable
    source: str
    texts: list[str]
    prefer: Prefer | None

    @property
    def changes_rows(self) -> bool:
        """Whether there is anything to write."""
        is_new = self.recorded is None or self.recorded.key != self.suite.key
        return is_new or bool(self.changes.cells or self.texts)

    @property
    def work(self) -> int:
        """Amount of work that progress is told of: texts to embed and results to write."""
        return len(self.texts) + len(self.changes.cells)


def import_results(
    path: Path,
    name: str,
    cache: Cache,
    downloads: Path,
    *,
    rates: Rates | None = None,
    incomplete: Incomplete | None = None,
    prefer: Prefer | None = None,
    clip: bool = False,
    currency: str | None = None,
    progress: Progress | None = None,
    encode: Encode | None = None,
) -> ImportSummary:
    """Add a table of results to the suite of a name, completely or not at all.

    Args:
        path: The table; docs/outcomes.md describes its formats and columns.
        name: Name of the suite.
        cache: The cache; it is created if it does not exist.
        downloads: Folder of the encoder's weights.
        rates: Prices of a prompt and of a completion token by model, if the table has tokens.
        incomplete: What training does with questions that lack a response; default: as the suite has it, else `refuse`.
        prefer: Whose value to keep if the cache has another one for the same cell.
        clip: Whether to clip scores to [0, 1].
        currency: Currency of the costs, and of the rates of a single token; default: as the suite has it, else none.
        progress: Is told of the progress.
        encode: Embeds texts; default: the suite's encoder.

    Raises:
        BenchmarkError: The table is malformed; the message names row and column.
        CacheError: The suite has other results for the same cells, and `prefer` does not say whose to keep.
        SuiteError: The name cannot be that of an imported suite.
        KeyboardInterrupt: The progress says to stop; the cache is as it was.
    """
    plan = plan_import(
        path, name, cache, downloads, rates=rates, incomplete=incomplete, prefer=prefer, clip=clip, currency=currency
    )
    encode = encode or SuiteEncoder(plan.suite, Workspace(Path.cwd(), downloads))
    return run_import(plan, cache, encode, progress)


def plan_import(
    path: Path,
    name: str,
    cache: Cache,
    downloads: Path,
    *,
    rates: Rates | None = None,
    incomplete: Incomplete | None = None,
    prefer: Prefer | None = None,
    clip: bool = False,
    currency: str | None = None,
) -> Import:
    """Read a table, check it, and add it to what the cache has; nothing is written. See `import_results`."""
    check_suite_name(name)
    table = read_results(path, clip=clip)
    new = collect(str(path), table.rows)
    cache.migrate()
    recorded = cache.suites.get(name) if cache.exists() else None
    ours = Results(horizon=0, samples=0)
    if recorded:
        ours = recorded_results(recorded, iterate_rows(cache.query("imported_results", suite=recorded.key)))
    results, changes = merge(ours, new, prefer, str(path), str(cache.path))
    all_rates = prices(results, ours, recorded, rates or {}, str(path))
    if currency is not None:
        check_currency(results, all_rates)
    suite = build_suite(results, name, recorded, all_rates, incomplete, Workspace(Path.cwd(), downloads), currency)
    texts = observed_texts(suite, results)
    return Import(
        suite=suite,
        recorded=recorded,
        results=results,
        changes=changes,
        table=table,
        source=path.name,
        texts=cache.embeddings.without_vector(suite.encoder, texts) if cache.exists() else texts,
        prefer=prefer,
    )


def run_import(plan: Import, cache: Cache, encode: Encode, progress: Progress | None = None) -> ImportSummary:
    """Embed what has no embedding yet, then write everything in one transaction. See `import_results`."""
    suite, recorded, progress = plan.suite, plan.recorded, progress or NoProgress()
    all_cells = list(cells(suite))
    missing = [cell for cell in all_cells if cell not in plan.results.cells]
    embeddings = list(_embeddings(plan, encode, progress))
    is_new = not cache.exists()
    cache.create()
    try:
        if plan.changes_rows:
            progress.stage(f"writing {len(plan.changes.cells)} results")
            cache.suites.record_with_rows(suite, _batches(plan, embeddings, progress), plan.prefer)
        cache.suites.record(suite)  # settings may have changed though no row has
        is_changed = plan.changes_rows or recorded is None or recorded.config != suite.config
        cache.suites.compute_cost_unit(suite.key, recompute=is_changed)
    except BaseException:
        if is_new and not cache.suites.names():
            cache.path.unlink(missing_ok=True)
        raise
    return ImportSummary(
        suite=suite,
        changes=plan.changes,
        table=plan.table,
        cells=len(all_cells),
        missing=tuple(described(cell) for cell in missing[:MAX_LISTED_CELLS]),
        n_missing=len(missing),
        n_embedded=len(plan.texts),
    )


def _embeddings(plan: Import, encode: Encode, progress: Progress) -> Iterator[Batch]:
    """Embed the texts that have no embedding yet, and yield their rows."""
    if plan.texts:
        progress.stage(f"embedding {len(plan.texts)} texts")
    for start in range(0, len(plan.texts), ENCODE_BATCH):
        _check_stopped(progress)
        texts = plan.texts[start : start + ENCODE_BATCH]
        vectors = zip(texts, encode(texts), strict=True)
        yield Batch(
            embeddings=[{"text": text_key(text), "encoder": plan.suite.encoder, "vector": vector} for text, vector in vectors]
        )
        progress.advance(len(texts))


def _batches(plan: Import, embeddings: list[Batch], progress: Progress) -> Iterator[Batch]:
    """Yield all rows to write."""
    recorded = plan.recorded.questions if plan.recorded else ()
    written = plan.results.cells.keys() - plan.changes.cells
    question_keys = {question.key for question in recorded}
    yield from embeddings
    for batch in tree_batches(plan.suite, plan.results, written, question_keys, plan.source):
        _check_stopped(progress)
        yield batch
        progress.advance(sum(row["status"] == "ok" for row in batch.generations))


def _check_stopped(progress: Progress) -> None:
    if progress.stopped():
        raise KeyboardInterrupt
