"""`toolkit score`: further metrics, or newer versions of them, for what is cached."""

from typing import Annotated

import typer

from toolkit.cli.common import (
    CacheOption,
    Format,
    FormatOption,
    OutputOption,
    SandboxOption,
    SuiteArgument,
    found_suite,
    record_reading,
)
from toolkit.cli.progress_bar import ProgressBar


def score(
    suite: SuiteArgument,
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="A metric to add; may be repeated. Default: those of the suite.", show_default=False),
    ] = None,
    cache: CacheOption = None,
    sandbox: SandboxOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Score all cached responses of a suite by further metrics, or by newer versions of its own; no model is needed.

    Which metric is quality is said in the suite (quality = "..."), and may change at any time. Stop and repeat as you
    like. Example: toolkit score quickstart --metric exact_match
    """
    import pyarrow as pa

    from toolkit.generation.rescoring import qualities, rescore, wanted
    from toolkit.report.tables import write
    from toolkit.suites.suite import reread

    known, config, opened = found_suite(suite, cache)
    read = reread(known, config)
    asked = [*wanted(read, metric or ()), *qualities(read)]
    pairs = sorted({(one.question.key, one.metric.label) for one in asked})
    were = opened.scored(known.key, pairs)
    missing = sum(answers - scored for answers, scored in were.values())
    with ProgressBar(missing) as bar:
        bar.stage("scoring")
        rescore(read, opened, known.key, list(dict.fromkeys(asked)), sandbox.value if sandbox else None, bar)
        stopped = bar.stopped()
    after = opened.scored(known.key, pairs)
    rows = [
        {"metric": name, "responses": answers, "scored": scored - were[name][1], "were_there": were[name][1]}
        for name, (answers, scored) in after.items()
    ]
    write(pa.Table.from_pylist(rows), format, output)
    if stopped and any(scored < answers for answers, scored in after.values()):
        typer.echo("Stopped; the same command continues.", err=True)
        raise typer.Exit(130)
    if read != known:
        record_reading(read, opened)
        changes = ((a.metric, b.metric) for a, b in zip(known.questions, read.questions, strict=True))
        changed = sorted({f"{before} to {now}" for before, now in changes if before != now})
        if changed:
            typer.echo(f"Quality of suite {read.name} has changed from {', '.join(changed)}.", err=True)
