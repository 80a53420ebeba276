"""`toolkit import`: add results of other benchmarks, an exported folder, or another cache to a cache."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from toolkit.cli.common import STOPPED, app, cache_path
from toolkit.cli.paths import cache_file
from toolkit.cli.progress_bar import ProgressBar
from toolkit.cli.terminal import note
from toolkit.core.commands import command
from toolkit.core.errors import SuiteError
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.outcomes.importing import Import, ImportOptions, ImportSummary
    from toolkit.store import Cache, Prefer

MAX_LISTED = 10
"""Ignored columns that are named."""

SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="FILES",
        help="Results: files, a folder, or a pattern such as 'logs/*.jsonl'. Or a folder that `toolkit export` wrote, another "
        "cache, or `reference`: the shipped cache of the quickstart suite.",
    ),
]
TargetOption = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="The cache to import into; created if it does not exist. Default for results and `reference`: as elsewhere.",
        callback=cache_file,
        show_default=False,
    ),
]
SuiteOption = Annotated[
    str | None, typer.Option(help="With results: name of the suite that they are added to.", show_default=False)
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="NAME",
        help="With results: their format; docs/guides/results.md lists all. Default: detected.",
        show_default=False,
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        "--column",
        metavar="NAME=COLUMN",
        help="With results: which of their columns one of the long format is, e.g. question=query. Can be repeated.",
        show_default=False,
    ),
]
MetricOption = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        metavar="NAME",
        help="With results that have several scores: the one that is the quality; repeated, the first that a row has.",
        show_default=False,
    ),
]
ClipOption = Annotated[
    bool, typer.Option("--clip", help="With results: clip scores to [0, 1] instead of refusing those outside.")
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        "--scale",
        metavar="LOW,HIGH",
        help="With results: the lowest and the highest possible score, which become 0 and 1, e.g. 0,100 or 1,10.",
        show_default=False,
    ),
]
MissingOption = Annotated[
    Literal["mask", "drop-question", "drop-model"] | None,
    typer.Option(
        help="With results: what becomes of missing responses. mask: no router can choose them; drop-question, drop-model: "
        "questions or models that lack one are left out. Default: as before, at first mask.",
        show_default=False,
    ),
]
RateOption = Annotated[
    list[str] | None,
    typer.Option(
        "--rate",
        metavar="MODEL=IN,OUT",
        help="With results that give tokens: price of a prompt token and of a completion token. Can be repeated. Without any "
        "rate every token costs 1.",
        show_default=False,
    ),
]
CurrencyOption = Annotated[
    str | None,
    typer.Option(
        metavar="CODE",
        help="With results: the currency of their costs, e.g. USD, so that results also show prices. Rates are then prices of "
        "single tokens: 1e-5, not 10 per million. Default: as before, at first none.",
        show_default=False,
    ),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="With results: what embeds the texts: a hub id, a folder, package:NAME==VERSION/FILE, or none: routers then read "
        "words alone. Default: as before, at first the encoder of every suite.",
        show_default=False,
    ),
]
EmbeddingsOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With results: vectors of your own for their texts (Parquet, JSON lines, .npy), in the place of an encoder.",
        show_default=False,
    ),
]
PreferOption = Annotated[
    Literal["ours", "theirs"] | None,
    typer.Option(
        help="Which content to keep if both sides have a different one: ours (the cache's) or theirs. Default: refuse.",
        show_default=False,
    ),
]


@app.command("import")
def import_(
    sources: SourcesArgument,
    cache: TargetOption = None,
    suite: SuiteOption = None,
    format: FormatOption = None,
    column: ColumnOption = None,
    metric: MetricOption = None,
    clip: ClipOption = False,
    scale: ScaleOption = None,
    missing: MissingOption = None,
    rate: RateOption = None,
    currency: CurrencyOption = None,
    encoder: EncoderOption = None,
    embeddings: EmbeddingsOption = None,
    prefer: PreferOption = None,
) -> None:
    """Add results of other people's benchmarks, an exported folder or another cache to a cache; nothing is duplicated.

    Example: toolkit import reference

    Example: toolkit import quickstart-parquet --cache cache/quickstart.duckdb

    Example: toolkit import outcomes.csv --suite routerbench

    Example: toolkit import results.jsonl --suite mine --column question=query --scale 0,100 --missing drop-question
    """
    from benchmarks.reference import REFERENCE, SUITE, reference_folder

    if not suite:
        settings = [format, column, metric, clip, scale, missing, rate, currency, encoder, embeddings]
        if any(value is not None and value is not False for value in settings):
            raise SuiteError(
                "These options are for results of other benchmarks. Name the suite that those are added to: --suite NAME"
            )
        source = Path(sources[0])
        if sources == [REFERENCE] and not source.exists():
            source, cache = reference_folder(), cache_path(SUITE, cache)
        _merge(source, sources, cache, prefer)
        return
    from toolkit.outcomes.converting import Conversion
    from toolkit.outcomes.importing import ImportOptions
    from toolkit.suites.encoders import parse_encoder

    path = cache_path(suite, cache)
    conversion = Conversion(columns=_parse_columns(column or []), metrics=metric or (), clip=clip, scale=_parse_scale(scale))
    options = ImportOptions(
        format=format,
        conversion=conversion,
        rates=_parse_rates(rate or []),
        missing=missing,
        prefer=prefer,
        currency=currency,
        encoder=parse_encoder(encoder, Workspace(Path.cwd(), Workspace.beside(path).downloads)) if encoder else None,
        embeddings=embeddings,
    )
    repeatable = {"--column": column, "--metric": metric, "--rate": rate}
    words = [word for name, values in repeatable.items() for value in values or () for word in (name, value)]
    single = {"--format": format, "--scale": scale, "--currency": currency}
    words += [word for name, value in single.items() if value for word in (name, value)] + ["--clip"] * clip
    _import_results(sources, suite, path, options, [*sources, "--suite", suite, *words])


def _refuse_caches(sources: Sequence[str]) -> None:
    """Check that what is to be imported as results is no cache.

    Raises:
        SuiteError: It is one, as a file or as a folder that `toolkit export` wrote.
    """
    from toolkit.outcomes.reading import first_object

    for source in map(Path, sources):
        is_export = {"schema_version", "tables"} <= set(first_object(source / "manifest.json"))
        if is_export or (source.suffix == ".duckdb" and source.is_file()):
            raise SuiteError(
                f"{source} is a cache, with the suites that it has. Import it without --suite, and name the cache to import "
                f"into: {command('import', source)} --cache FILE"
            )


def _merge(source: Path, sources: Sequence[str], cache: Path | None, prefer: "Prefer | None") -> None:
    """Add an exported folder or another cache to a cache."""
    from benchmarks.reference import REFERENCE
    from toolkit.outcomes.reading import is_table
    from toolkit.store import Cache

    if len(sources) > 1 or (is_table(source) and source.is_file()):
        raise SuiteError(f"{source} has results of another benchmark. Name the suite that they are added to: --suite NAME")
    if not source.exists():
        raise SuiteError(f"There is no {source}. Name an existing folder, cache or table, or: toolkit import {REFERENCE}")
    if not cache:
        raise SuiteError(
            "Name the cache to import into: --cache FILE. For results of another benchmark, name a suite: --suite NAME"
        )
    target = Cache(cache)
    typer.echo(f"{target.path}: imported {_counts(target.transfer.merge(source, prefer))} from {source}.")


def _import_results(sources: Sequence[str], suite: str, path: Path, options: "ImportOptions", arguments: Sequence[str]) -> None:
    """Add results to a suite; `arguments` repeat this import."""
    from toolkit.engines.encoder import SuiteEncoder
    from toolkit.outcomes.importing import plan_import, run_import
    from toolkit.store import Cache

    _refuse_caches(sources)
    cache, workspace = Cache(path), Workspace.beside(path)
    plan = plan_import(sources, suite, cache, workspace.downloads, options)
    for line in _notes(plan):
        note(line)
    encode = SuiteEncoder(plan.suite, workspace)
    try:
        if plan.changes_rows or plan.texts:
            with ProgressBar(plan.work, "texts and results") as bar:
                summary = run_import(plan, cache, encode, bar)
        else:
            summary = run_import(plan, cache, encode)
    except KeyboardInterrupt:
        note("Stopped. No result was imported, and what was embedded stays; the same command goes on from there.")
        raise typer.Exit(STOPPED) from None
    _conclude(summary, arguments, cache, option=None if path == cache_path(suite, None) else path)


def _notes(plan: "Import") -> Iterator[str]:
    """Yield what the user is to know of how the results were read."""
    notes = plan.notes
    yield f"Read {notes.n_rows} rows of {plan.format}."
    if ignored := list(notes.ignored):
        listed = ", ".join(ignored[:MAX_LISTED]) + (" ..." if len(ignored) > MAX_LISTED else "")
        yield f"Ignored: {printable(listed)}."
    for column, meaning in notes.added.items():
        yield f"There is no column {column}: {printable(meaning)}."
    if notes.metrics:
        yield f"Further scores, kept in the table scores: {printable(', '.join(notes.metrics))}."
    if notes.n_further_outside:
        yield f"{notes.n_further_outside} further scores outside [0, 1] are left out."
    if plan.results.estimated:
        yield (
            "The results have neither costs nor tokens: tokens are estimated as a quarter of the characters. "
            "Give each model its prices: --rate MODEL=IN,OUT"
        )
    if plan.dropped:
        yield f"Left out, because responses of theirs are missing: {printable(', '.join(plan.dropped))}."


def _conclude(summary: "ImportSummary", arguments: Sequence[str], cache: "Cache", option: Path | None) -> None:
    """Say what the results added, what the suite has now, what is missing, and which command is next.

    Args:
        summary: What the import has done.
        arguments: Arguments of the command that repeats it.
        cache: The cache.
        option: The cache as following commands have to name it; None for the default.
    """
    from toolkit.report.tables import count

    changes, notes, config = summary.changes, summary.plan.notes, summary.suite.config
    questions, incomplete = summary.suite.questions, set(summary.incomplete)
    counts = {
        "added": changes.added,
        "completed": changes.completed,
        "equal": changes.equal,
        "replaced": changes.replaced,
        "different and left as they are": changes.ignored,
        "without a score and left out": notes.n_unscored,
        "clipped": notes.n_clipped,
    }
    listed = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    typer.echo(f"{cache.path}: {listed} (results of {summary.plan.source}).")
    if summary.plan.is_repriced:
        typer.echo("The prices of tokens have changed, and with them the costs of all results of the suite.")
    samples = f", {config.samples} samples" if config.samples > 1 else ""
    typer.echo(
        f"Suite {config.name}: {count(len(config.models), 'model')}, horizon {config.horizon}{samples}, "
        f"{count(len(config.benchmarks), 'benchmark')}, {count(len(questions), 'question')}, {count(summary.cells, 'result')}."
    )
    if summary.n_missing:
        note(_missing(summary, arguments, option))
    is_excluded = config.incomplete == "exclude question"
    used = [question for number, question in enumerate(questions) if not (is_excluded and number in incomplete)]
    if any(question.split == "train" for question in used):
        note(f"Next: {command('train', config.name, cache=option)}")
    else:
        note("No question is in the split train, so that no router can be trained until there is one.")


def _missing(summary: "ImportSummary", arguments: Sequence[str], cache: Path | None) -> str:
    """Say which responses are missing, what becomes of them, and how to change that."""
    n_left_out = f"{len(summary.incomplete)} of {len(summary.suite.questions)} questions lack one and are left out"
    consequence, missing = {
        "mask": ("They are masked: no router can choose them. To leave their questions out", "drop-question"),
        "exclude question": (f"{n_left_out}. To mask the responses instead", "mask"),
        "refuse": ("Training refuses the suite until they are imported, or masked", "mask"),
    }[summary.suite.config.incomplete]
    remedy = command("import", *arguments, "--missing", missing, cache=cache)
    return f"{summary.n_missing} of them are missing, e.g. {'; '.join(summary.missing)}. {consequence}: {remedy}"


def _parse_columns(columns: Sequence[str]) -> dict[str, str]:
    """Parse `NAME=COLUMN`.

    Raises:
        SuiteError: One has another form, or names no column of the long format.
    """
    from toolkit.outcomes.converting import SCORE_PREFIX
    from toolkit.outcomes.values import COLUMNS

    parsed = {}
    for column in columns:
        name, _, theirs = column.partition("=")
        if not theirs or (name not in COLUMNS and not name.startswith(SCORE_PREFIX)):
            raise SuiteError(
                f"--column takes NAME=COLUMN, e.g. --column question=query, where NAME is one of {', '.join(COLUMNS)}; given: "
                f"{column}."
            )
        parsed[name] = theirs
    return parsed


def _parse_scale(scale: str | None) -> tuple[float, float] | None:
    """Parse `LOW,HIGH`.

    Raises:
        SuiteError: It has another form, or the lowest score is not below the highest.
    """
    if scale is None:
        return None
    try:
        low, high = map(float, scale.split(","))
    except ValueError:
        low = high = math.nan
    if not -math.inf < low < high < math.inf:
        raise SuiteError(f"--scale takes the lowest and the highest possible score, e.g. --scale 0,100; given: {scale}.")
    return low, high


def _parse_rates(rates: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Parse `MODEL=IN,OUT`.

    Raises:
        SuiteError: A rate has another form, is no price, or is given twice.
    """
    parsed: dict[str, tuple[float, float]] = {}
    for rate in rates:
        model, _, prices = rate.rpartition("=")
        try:
            rate_in, rate_out = map(float, prices.split(","))
        except ValueError:
            rate_in = rate_out = math.nan
        if not model or not all(0 <= price < math.inf for price in (rate_in, rate_out)):
            raise SuiteError(
                f"--rate takes MODEL=IN,OUT with two finite prices of 0 or more, e.g. --rate gpt-4=10,30; given: {rate}."
            )
        if model in parsed:
            raise SuiteError(f"--rate {model} is given twice. Give each model one rate.")
        parsed[model] = (rate_in, rate_out)
    return parsed


def _counts(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {table}" for table, count in rows.items() if count) or "nothing new"
