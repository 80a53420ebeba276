"""`toolkit verify`: check a cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.cli.common import (
    CacheOption,
    Format,
    FormatOption,
    OutputOption,
    SuiteFile,
    app,
    only_cache,
    read_suite,
)
from toolkit.cli.terminal import note
from toolkit.core.errors import SuiteError
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.generation.changes import Regeneration
    from toolkit.store import Cache
    from toolkit.suites.suite import Suite


RegenerateOption = Annotated[
    str | None,
    typer.Option("--regenerate", metavar="SHARE", help="Generate a share of the responses again, e.g. 1%.", show_default=False),
]
BatchSizeOption = Annotated[
    list[int] | None,
    typer.Option(
        "--batch-size",
        min=1,
        help="With --regenerate: another number of prompts per batch. Can be repeated.",
        show_default=False,
    ),
]


@app.command()
def verify(
    cache: CacheOption = None,
    suite: Annotated[
        str | None,
        typer.Option(help="A suite file or name, for the options below. Default: all suites of the cache.", show_default=False),
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Count all tokens again, by the models' tokenizers.")] = False,
    encoder: Annotated[bool, typer.Option("--encoder", help="Embed a sample of the texts again.")] = False,
    regenerate: RegenerateOption = None,
    batch_size: BatchSizeOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the samples.")] = 0,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Derive every key again, and check that trees are complete and that scores and embeddings belong to their texts.

    This needs only the file; --tokens, --encoder and --regenerate need the checkpoints. Nothing is changed. Exit code 1 if
    something is wrong; changed responses are only counted.

    Example: toolkit verify --regenerate 1%
    """
    from toolkit.generation.verify import verify as run
    from toolkit.generation.verify_models import verify_embeddings, verify_tokens
    from toolkit.report.status import unfinished_writes
    from toolkit.report.tables import write

    share = _parse_share(regenerate) if regenerate else None
    file = read_suite(suite, cache) if suite else None
    opened = file.cache if file else only_cache(cache)
    suites = _recorded_suites(file, opened) if tokens or encoder or share else []
    findings = run(opened)
    for recorded, workspace in suites:
        findings += [verify_tokens(recorded, opened, workspace)] if tokens else []
        findings += [verify_embeddings(recorded, opened, workspace, seed)] if encoder else []
    checks = [finding._asdict() for finding in findings]
    if share is None:
        write(checks, format, output)
    else:
        from toolkit.generation.regenerate import regenerate as run_again

        regenerations = {
            recorded.name: run_again(recorded, opened, workspace, share, batch_size or (), seed)
            for recorded, workspace in suites
        }
        _write_regenerations(regenerations, checks, format, output)
    for line in unfinished_writes(opened):
        note(line)
    failed = sum(finding.wrong > 0 for finding in findings)
    if failed:
        note(f"{opened.path}: {failed} of {len(findings)} checks failed.")
        raise typer.Exit(1)
    note(f"{opened.path}: all {len(findings)} checks passed.")


def _parse_share(text: str) -> float:
    """Parse `1%` or `0.01`.

    Raises:
        SuiteError: The share is not above 0 and at most 1.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise SuiteError(f"--regenerate {text} is no share of the responses. Write 1%, or 100% for all of them.")
    return share


def _recorded_suites(file: SuiteFile | None, cache: "Cache") -> "list[tuple[Suite, Workspace]]":
    """Return the suite of a file, or all suites of the cache, each with its folders.

    Raises:
        SuiteError: The cache does not have the suite.
    """
    workspaces = (
        {file.config.name: file.workspace} if file else dict.fromkeys(cache.suites.names(), Workspace.beside(cache.path))
    )
    suites = []
    for name, workspace in workspaces.items():
        recorded = cache.suites.get(name)
        if recorded is None:
            raise SuiteError(f"{cache.path} has no suite {name!r}; recorded: {', '.join(cache.suites.names()) or 'none'}.")
        suites.append((recorded, workspace))
    return suites


def _write_regenerations(
    regenerations: "dict[str, Regeneration]", checks: list[dict[str, Any]], format: Format, output: Path | None
) -> None:
    """Write what changed, by suite, after the table of checks where people read both."""
    from toolkit.report.tables import aligned, write

    changes = [{"suite": name, **row._asdict()} for name, again in regenerations.items() for row in again.changes]
    rankings = [{"suite": name, **row._asdict()} for name, again in regenerations.items() for row in again.rankings]
    if format == Format.TABLE:
        if not output:
            write(checks, format)
        typer.echo("")
    write(changes, format, output)
    if rankings:
        table = aligned(list(rankings[0]), [list(row.values()) for row in rankings])
        note(f"\nRanking of all fixed paths by mean R, with the regenerated responses:\n{table}")
