"""`toolkit score`: apply further metrics, or newer versions of metrics, to what is cached."""

from typing import Annotated

import typer

from toolkit.cli.common import (
    STOPPED,
    CacheOption,
    Format,
    FormatOption,
    OutputOption,
    SandboxOption,
    SuiteArgument,
    app,
    generate_if_changed,
    open_recorded,
)
from toolkit.cli.progress_bar import ProgressBar
from toolkit.cli.terminal import note


@app.command()
def score(
    suite: SuiteArgument,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            "--metric", help="A metric to apply. Can be repeated. Default: the metrics of the suite.", show_default=False
        ),
    ] = None,
    cache: CacheOption = None,
    sandbox: SandboxOption = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Score the cached responses of a suite by further metrics, or by newer versions of its own; needs no model.

    The suite says which metric is the quality (quality = "..."), and you may change that at any time. Stop and repeat the
    command as you like.

    Example: toolkit score quickstart --metric exact_match
    """
    from toolkit.generation.rescoring import metrics_to_apply, quality_metrics, rescore
    from toolkit.report.tables import write
    from toolkit.suites.resolving import reread

    recorded, config, opened = open_recorded(suite, cache)
    with generate_if_changed(suite, cache):
        current = reread(recorded, config)
    applied = list(dict.fromkeys([*metrics_to_apply(current, metric or ()), *quality_metrics(current)]))
    pairs = sorted({pair.key for pair in applied})
    before = opened.scores.counts(recorded.key, pairs)
    with ProgressBar(sum(count.responses - count.scored for count in before.values()), "scores") as bar:
        bar.stage("scoring")
        rescore(current, opened, recorded.key, applied, sandbox.value if sandbox else None, bar)
        stopped = bar.stopped()
    after = opened.scores.counts(recorded.key, pairs)
    rows = [
        {
            "metric": label,
            "responses": count.responses,
            "scored": count.scored - before[label].scored,
            "scored_before": before[label].scored,
        }
        for label, count in after.items()
    ]
    write(rows, format, output)
    if stopped and any(count.scored < count.responses for count in after.values()):
        note("Stopped; the same command continues.")
        raise typer.Exit(STOPPED)
    if current != recorded:
        opened.suites.record(current)
        opened.suites.compute_cost_unit(current.key)
        changes = zip(recorded.questions, current.questions, strict=True)
        changed = sorted({f"{old.metric} to {new.metric}" for old, new in changes if old.metric != new.metric})
        if changed:
            note(f"The quality of suite {current.name} has changed from {', '.join(changed)}.")
