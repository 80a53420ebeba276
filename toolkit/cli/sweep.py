"""`toolkit sweep`: routers over a range of prices."""

import os
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import (
    AllowStopOption,
    CacheOption,
    Format,
    FormatOption,
    HoldoutOption,
    OutputOption,
    RunsOption,
    SettingsOption,
    SuiteArgument,
    parse_settings,
    recorded_suite,
)
from toolkit.cli.progress_bar import ProgressBar
from toolkit.core.errors import SuiteError
from toolkit.routing.processes import prepare


def sweep(
    suite: SuiteArgument,
    cache: CacheOption = None,
    alphas: Annotated[
        str, typer.Option(help="Comma-separated prices of cost; auto places them where the oracle's frontier bends.")
    ] = "auto",
    seeds: Annotated[int, typer.Option(help="Routers for each alpha, with seeds from 0.", min=1)] = 5,
    algorithm: Annotated[str, typer.Option(help="exact, ppo, or an algorithm of stable-baselines3.")] = "exact",
    allow_stop: AllowStopOption = None,
    holdout: HoldoutOption = None,
    settings: SettingsOption = None,
    conditioned: Annotated[
        bool,
        typer.Option("--conditioned", help="One router a seed, which observes alpha, in place of one for each alpha and seed."),
    ] = False,
    processes: Annotated[int, typer.Option(help="Processes side by side; 0 is one a core.", min=0)] = 0,
    out: RunsOption = Path("runs"),
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Tell of routers that take their most probable action instead of drawing one.")
    ] = False,
    by_benchmark: Annotated[
        bool,
        typer.Option("--by-benchmark", help="Compare with every baseline by benchmark, with 95% intervals over questions."),
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="File of a cost-quality plot, .png or .svg.", show_default=False)] = None,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Train and evaluate a router for each alpha and seed; repeated, it trains only what is missing.

    Example: toolkit sweep quickstart --alphas 0,0.05,0.1,0.2 --seeds 3 --plot frontier.png
    """
    try:
        placed = None if alphas == "auto" else sorted({float(alpha) for alpha in alphas.split(",")})
    except ValueError:
        raise SuiteError(f"--alphas takes numbers, e.g. 0,0.05,0.1, or auto; given: {alphas}.") from None
    processes = processes or os.cpu_count() or 1
    if processes > 1:
        prepare()
    import pyarrow as pa

    from toolkit.replay.exact import curve, frontier
    from toolkit.replay.table import load_table
    from toolkit.report import sweep as comparison
    from toolkit.report.plots import cost_quality
    from toolkit.report.tables import aligned, number, write
    from toolkit.routing.evaluate import COLLAPSED
    from toolkit.routing.sweep import areas, auto_alphas, by_alpha, collapsed, fixed_range, plan_runs, summarise
    from toolkit.routing.sweep import sweep as run
    from toolkit.routing.train import run_name
    from toolkit.suites.benchmarks import synthetic_benchmarks

    if by_benchmark and (format != Format.TABLE or output):
        raise SuiteError("The comparison by benchmark is text. Leave --by-benchmark out, or --format and --output.")
    resolved, opened = recorded_suite(suite, cache)
    options = {"algorithm": algorithm, "allow_stop": allow_stop, "holdout": holdout}
    given = {name: value for name, value in options.items() if value is not None}
    config = resolved.config.train.changed(parse_settings(settings or [])).changed(given)
    table = load_table(opened, resolved, config.holdout)
    if not len(table.rows("test")):
        raise SuiteError(f"The test split of suite {resolved.name} has no question. Give it a share under [splits].")
    placed = auto_alphas(table, allow_stop=config.allow_stop) if placed is None else placed
    every = plan_runs(resolved, config, placed, seeds, out, conditioned)
    synthetic = synthetic_benchmarks(resolved.config.benchmarks)
    with ProgressBar(len(every), "routers") as bar:
        run(resolved, opened, table, every, synthetic, processes, bar)
    if bar.done < len(every):
        typer.echo(f"{bar.done} of {len(every)} routers are trained and evaluated; the same command continues.")
        raise typer.Exit(130)
    names = [run_name(resolved, job.config, job.seed) for job in every]
    points = summarise(opened, names)
    router = "router (greedy)" if greedy else "router"
    rows = table.rows("test")
    oracle = curve(table, rows, frontier(table, rows, config.allow_stop))
    if plot:
        cost_quality(points, oracle, table.models, plot, router)
    if format != Format.TABLE or output:
        write(pa.Table.from_pylist([point._asdict() for point in points]), format, output)
        return
    routed = [point for point in points if point.policy == router]
    fixed = {point.alpha: point for point in points if point.policy == "best fixed path"}
    over = f"{seeds} seeds" if seeds > 1 else "1 seed"
    typer.echo(f"{len(every)} routers ({config.algorithm}), test split: {len(rows)} questions. Means over {over}.\n")
    cells = [
        [
            f"{p.alpha:g}",
            *map(
                number, (p.quality, p.cost, p.reward, p.reward_spread if seeds > 1 else None, fixed[p.alpha].reward, p.regret)
            ),
        ]
        for p in routed
    ]
    typer.echo(aligned(["alpha", "Q", "C", "R", "sd over seeds", "best fixed path's R", "regret to oracle"], cells))
    found = areas(points, oracle, *fixed_range(table, rows, config.allow_stop), router)
    told = ", ".join(f"{name} {number(value)}" for name, value in found.items())
    typer.echo(
        f"\nAIQ (mean quality, from the cheapest fixed path, which anybody can take, to the cost of the dearest): {told}."
    )
    stuck = [f"alpha {one.alpha:g}: {one.routers} of {seeds} ({one.path})" for one in collapsed(opened, names, router)]
    if stuck:
        typer.echo(f"Collapsed, one path on more than {COLLAPSED:.0%} of the questions: {'; '.join(stuck)}.")
    if by_benchmark:
        evaluations = by_alpha(every, table, synthetic, greedy)
        for evaluation in evaluations:
            typer.echo("\n" + comparison.by_benchmark(evaluation))
        typer.echo(
            "\nR, and where said Q, of the routers of all seeds taken together; ± is half of a 95% interval over questions.\n"
        )
        typer.echo(comparison.headline(evaluations))
    if plot:
        typer.echo(f"Plot: {plot}")
