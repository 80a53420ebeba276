"""`toolkit verify`: prove a cache."""

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, only_cache


def verify(cache: CacheOption = None, format: FormatOption = Format.TABLE, output: OutputOption = None) -> None:
    """Derive every key again, and check that trees are whole and scores and embeddings belong to their texts.

    Exit code 1 where something is wrong; nothing is changed. Example: toolkit verify --cache cache/quickstart.duckdb
    """
    import pyarrow as pa

    from toolkit.report.tables import write
    from toolkit.verify import verify as run

    opened = only_cache(cache)
    findings = run(opened)
    write(pa.Table.from_pylist([finding._asdict() for finding in findings]), format, output)
    wrong = sum(finding.wrong > 0 for finding in findings)
    if opened.path.with_name(opened.path.name + ".wal").exists():
        typer.echo(f"{opened.path.name}.wal belongs to the cache: keep both together; the next write takes it in.", err=True)
    if opened.spool.files():
        typer.echo(f"{len(opened.spool.files())} finished batches wait in {opened.spool.folder}.", err=True)
    if wrong:
        typer.echo(f"{opened.path}: {wrong} of {len(findings)} checks failed.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{opened.path}: all {len(findings)} checks passed.", err=True)
