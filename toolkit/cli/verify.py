"""`toolkit verify`: prove a cache."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, cache_path, only_cache, suite_config
from toolkit.core.errors import SuiteError
from toolkit.core.workspace import Workspace

if TYPE_CHECKING:
    from toolkit.store import Cache
    from toolkit.suites.config import SuiteConfig
    from toolkit.suites.suite import Suite


def _share(given: str) -> float:
    """Read `1%` or `0.01`.

    Raises:
        SuiteError: It is no share above 0 and up to 1.
    """
    try:
        share = float(given.removesuffix("%")) / (100 if given.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise SuiteError(f"--regenerate {given} is no share of the responses. Write 1%, or 100% for all of them.")
    return share


def _suites(given: str | None, opened: "Cache") -> "list[tuple[Suite, Workspace]]":
    """Return the suites that are meant, each with the folder its relative paths start from.

    Raises:
        SuiteError: The suite is not recorded in the cache.
    """
    names: list[tuple[str, Path]] = [(name, Path.cwd()) for name in opened.suite_names()]
    if given:
        config: SuiteConfig
        config, folder = suite_config(given, opened.path)
        names = [(config.name, folder)]
    suites = []
    for name, folder in names:
        known = opened.recorded(name)
        if known is None:
            raise SuiteError(f"{opened.path} has no suite {name!r}; it has: {', '.join(opened.suite_names()) or 'none'}.")
        suites.append((known, Workspace(folder, opened.path.parent / "weights")))
    return suites


def verify(
    cache: CacheOption = None,
    suite: Annotated[
        str | None, typer.Option(help="For what follows: a suite file or name. Default: all in the cache.", show_default=False)
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Count all tokens again, by the models' tokenizers.")] = False,
    encoder: Annotated[bool, typer.Option("--encoder", help="Embed a sample of the texts again.")] = False,
    regenerate: Annotated[
        str | None,
        typer.Option(metavar="SHARE", help="Generate a share of the responses again, e.g. 1%.", show_default=False),
    ] = None,
    batch_size: Annotated[
        list[int] | None,
        typer.Option(min=1, help="With --regenerate: another number of prompts a batch; may be repeated.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the samples.")] = 0,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Derive every key again, and check that trees are whole and scores and embeddings belong to their texts.

    That needs nothing but the file; --tokens, --encoder and --regenerate need the checkpoints. Exit code 1 where something
    is wrong (a changed response is not: it is counted); nothing is changed. Example: toolkit verify --regenerate 1%
    """
    import pyarrow as pa

    from toolkit.generation.verify import verify as run
    from toolkit.report.tables import aligned, write

    share = _share(regenerate) if regenerate else None
    if suite and not cache:
        cache = cache_path(suite_config(suite, None)[0].name, None)
    opened = only_cache(cache)
    suites = _suites(suite, opened) if tokens or encoder or share else []
    findings = run(opened)
    if tokens or encoder:
        from toolkit.generation.recheck import check_embeddings, check_tokens

        for known, workspace in suites:
            findings += [check_tokens(known, opened, workspace)] if tokens else []
            findings += [check_embeddings(known, opened, workspace, seed)] if encoder else []
    checked = pa.Table.from_pylist([finding._asdict() for finding in findings])
    wrong = sum(finding.wrong > 0 for finding in findings)
    if share is None:
        write(checked, format, output)
    else:
        from toolkit.generation.regenerate import regenerate as run_again

        done = [(known.name, run_again(known, opened, workspace, share, batch_size or (), seed)) for known, workspace in suites]
        if format == Format.TABLE and not output:
            write(checked, format)
        changes = [{"suite": name, **one._asdict()} for name, again in done for one in again.changes]
        rankings = [{"suite": name, **one._asdict()} for name, again in done for one in again.rankings]
        if format == Format.TABLE:
            typer.echo("")
        write(pa.Table.from_pylist(changes), format, output)
        if rankings:
            shown = aligned(list(rankings[0]), [list(row.values()) for row in rankings])
            typer.echo(
                f"\nThe order of all fixed paths by mean R, with the nodes that were generated again:\n{shown}", err=True
            )
    if opened.path.with_name(opened.path.name + ".wal").exists():
        typer.echo(f"{opened.path.name}.wal belongs to the cache: keep both together; the next write takes it in.", err=True)
    if opened.spool.files():
        typer.echo(f"{len(opened.spool.files())} finished batches wait in {opened.spool.folder}.", err=True)
    if wrong:
        typer.echo(f"{opened.path}: {wrong} of {len(findings)} checks failed.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{opened.path}: all {len(findings)} checks passed.", err=True)
