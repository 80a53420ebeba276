"""Everything a report says, as plain values: what the page embeds, what its tables list and what its charts draw."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from toolkit import __version__
from toolkit.core.commands import command
from toolkit.core.errors import SuiteError, ToolkitError
from toolkit.core.hashing import canonical_json
from toolkit.core.text import printable
from toolkit.replay.exact import oracle
from toolkit.replay.table import TransitionTable, load_table, remedy_without_questions
from toolkit.report.estimates import difference_sentence, with_interval
from toolkit.report.html.charts import Sizes, charts
from toolkit.report.html.curves import TAGS, read_curves
from toolkit.report.html.questions import browsed, shown_questions
from toolkit.report.html.results import best_baseline, gain_rows, hop_rows, hull_rows, path_rows, result_rows
from toolkit.report.tables import count
from toolkit.routing.comparison import BEST_FIXED_PATH, ORACLE, OVERALL, OVERALL_QUESTIONS, Result
from toolkit.routing.router import Router
from toolkit.routing.run_groups import AlphaResults, EvaluatedRun, RunGroup, evaluate_groups, evaluated_runs, open_groups
from toolkit.routing.run_settings import flat
from toolkit.routing.train import settings_of
from toolkit.routing.verdict import judge
from toolkit.store import Cache, now
from toolkit.suites.benchmarks import synthetic_benchmarks
from toolkit.suites.suite import Split, Suite

SPLIT: Split = "test"


class Content(NamedTuple):
    """A report before it is laid out.

    Attributes:
        title: Its heading.
        verdict: Two sentences.
        hint: What to do next, if there is no run.
        rows: Its first table: policies with their results overall at the first alpha.
        facts: Names and values of what it is about: settings, versions, sizes.
        commands: What reproduces it.
        settings: Settings of each group of runs, by what it is called.
        skipped: Why each run that is left out is.
        data: What the page's script draws and lists: `tables`, `browser`, `charts` and `menus`.
    """

    title: str
    verdict: str
    hint: str
    rows: list[Result]
    reference: str
    facts: list[tuple[str, str]]
    commands: list[str]
    settings: list[tuple[str, str]]
    skipped: dict[str, str]
    data: dict[str, Any]


def collect(
    suite: Suite,
    cache: Cache,
    names: Sequence[str],
    open_router: Callable[[str], Router],
    folder_of: Callable[[str], Path],
    cache_option: Path | None = None,
) -> Content:
    """Evaluate runs on the test split, and gather what a report says of them. Nothing is written.

    Args:
        suite: The suite.
        cache: Its cache.
        names: The runs; none for the newest group of each kind of router and alpha.
        open_router: Opens the router of a run.
        folder_of: Returns the folder of a run.
        cache_option: The cache as the user names it, for commands; None for the usual one.

    Raises:
        SuiteError: The test split has no questions.
        PolicyError: A named run does not exist, or cannot be opened.
    """
    selected = evaluated_runs(cache, suite, SPLIT, names)
    holdout = selected[0][0].settings.get("holdout") if selected else suite.config.train.holdout
    table = load_table(cache, suite, holdout)
    if not len(table.rows(SPLIT)) or not len(table.rows("train")):
        raise SuiteError(
            f"A report needs questions in the train and test splits of suite {suite.name}. "
            f"{remedy_without_questions(table.split)}"
        )
    groups, skipped = open_groups(selected, cache, suite, table, SPLIT, open_router)
    results = evaluate_groups(groups, suite, table, SPLIT, synthetic_benchmarks(suite.config.benchmarks))
    alpha = groups[0].alpha if groups else next(iter(results))
    return Content(
        title=f"Routing on {printable(suite.name)}",
        verdict=_verdict(results[alpha], table.models, len(groups[0].runs) if groups else 0),
        hint="" if groups else f"No trained router is evaluated yet. {_hint(suite, cache_option)}",
        rows=_summary(results[alpha], table.models),
        reference=results[alpha].evaluation.reference,
        facts=_facts(suite, table, groups),
        commands=_commands(suite, table, groups, cache_option),
        settings=[
            (f"{group.label}, alpha {group.alpha:g}", json.dumps(group.runs[0].settings, indent=1, sort_keys=True))
            for group in groups
        ],
        skipped=skipped,
        data=_data(suite, cache, table, groups, results, alpha, folder_of),
    )


def _verdict(results: AlphaResults, models: Sequence[str], seeds: int) -> str:
    """Say by how much the first router is ahead, of what, and whether that is significant."""
    evaluation = results.evaluation
    rival = evaluation.result(best_baseline(evaluation))
    questions = count(evaluation.result(evaluation.reference).questions, "test question")
    if not evaluation.routers:
        best, path = evaluation.result(evaluation.reference), next(iter(rival.paths))
        compared = (
            f", {rival.policy}, reaches R {with_interval(rival.reward)}" if rival.policy != BEST_FIXED_PATH else f" is {path}"
        )
        return printable(
            f"Among the baselines, the strongest on {questions}{compared} at alpha {evaluation.alpha:g}. "
            f"The best fixed path reaches R {with_interval(best.reward)}, and the oracle, with hindsight, "
            f"{with_interval(evaluation.result(ORACLE).reward)}."
        )
    verdict = judge(evaluation)
    if verdict is None:
        return printable(f"Only {questions}: too few to say which policy is better.")
    router, strongest = evaluation.result(evaluation.reference), verdict.baseline
    other = f"{strongest.policy}, the strongest of {count(verdict.baselines, 'baseline')} on these questions"
    return printable(
        f"On {questions}, R of {router.policy} ({count(seeds, 'seed')}, alpha {evaluation.alpha:g}), "
        f"{with_interval(router.reward)}, is {difference_sentence(strongest.lead, verdict.p_value, other)}. It recovers "
        f"{with_interval(router.gap_recovered)} of the gap in R between the best fixed path and the oracle (hindsight)."
    )


def _hint(suite: Suite, cache: Path | None) -> str:
    commands = (command(name, suite.name, cache=cache) for name in ("train", "evaluate"))
    return "Train one: {}; evaluate it: {}; then write the report again.".format(*commands)


def _summary(results: AlphaResults, models: Sequence[str]) -> list[Result]:
    """Return the results overall that the first table shows, the highest reward first; of fixed paths only the best."""
    evaluation = results.evaluation
    fixed = [
        name for name in evaluation.policies if " > " in name or (name.rpartition(" x")[0] in models and name not in models)
    ]
    shown = [evaluation.result(name) for name in evaluation.policies if name not in fixed]
    return sorted(shown, key=lambda result: -result.reward.mean if result.questions else 0.0)


def _facts(suite: Suite, table: TransitionTable, groups: Sequence[RunGroup]) -> list[tuple[str, str]]:
    rows = len(table.rows(SPLIT))
    facts = [
        ("suite", f"{suite.name} ({suite.key})"),
        ("models", ", ".join(table.models)),
        ("hops", str(table.horizon)),
        ("questions", f"{rows:,} in the {SPLIT} split of {len(table.split):,}, {count(len(table.benchmarks), 'benchmark')}"),
        ("reward", "R = Q - alpha * C; C in cost units (1 = the most expensive model's mean cost of one hop)"),
        ("toolkit", __version__),
        ("made", f"{now():%Y-%m-%d %H:%M} UTC"),
    ]
    versions = {f"{name} {version}" for group in groups for run in group.runs for name, version in run.versions.items()}
    return [*facts, *([("routers trained or evaluated with", ", ".join(sorted(versions)))] if versions else [])]


def _commands(suite: Suite, table: TransitionTable, groups: Sequence[RunGroup], cache: Path | None) -> list[str]:
    """Return the commands that train what is shown again, and write the report."""
    commands: dict[str, list[float]] = {}
    for group in groups:
        run = group.runs[0]
        if run.own and not run.settings.get("alphas"):
            words = ["--algorithm", run.algorithm, "--seeds", str(len(group.runs))]
            words += [word for setting in _changed_settings(suite, table, run) for word in ("--set", setting)]
            commands.setdefault(command("sweep", suite.name, *words, cache=cache), []).append(group.alpha)
    trained = [f"{line} --alphas {','.join(f'{alpha:g}' for alpha in sorted(alphas))}" for line, alphas in commands.items()]
    return [*trained, command("report", suite.name, "-o", "report.html", cache=cache)]


def _changed_settings(suite: Suite, table: TransitionTable, run: EvaluatedRun) -> list[str]:
    """Return the settings of a run that are not the suite's, as `--set` takes them."""
    try:
        config = suite.config.train.changed({"algorithm": run.algorithm, "alpha": run.alpha})
        usual = flat(json.loads(canonical_json(settings_of(table, config))))
    except ToolkitError:  # the algorithm is not installed
        return []
    return [
        f"{name}={json.dumps(value)}"
        for name, value in flat(run.settings).items()
        if value is not None and value != usual.get(name)
    ]


def _data(
    suite: Suite,
    cache: Cache,
    table: TransitionTable,
    groups: Sequence[RunGroup],
    results: dict[float, AlphaResults],
    alpha: float,
    folder_of: Callable[[str], Path],
) -> dict[str, Any]:
    """Return what the page's script draws and lists."""
    rows, first = table.rows(SPLIT), results[alpha].evaluation
    allow_stop = bool(groups[0].runs[0].settings.get("allow_stop")) if groups else suite.config.train.allow_stop
    places = shown_questions(table, rows)
    rival_of = {price: best_baseline(result.evaluation) for price, result in results.items()}
    order = {name: n for n, name in enumerate([OVERALL, *first.benchmarks, OVERALL_QUESTIONS])}
    best = {price: oracle(table, rows, price, allow_stop) for price in results}
    overlap = [
        {"benchmark": row["benchmark"], "solvers": ", ".join(row["models"]) or "none of them", "questions": row["questions"]}
        for row in cache.query("solved_together", name=suite.name, split=SPLIT).to_pylist()
    ]
    hulls = list(hull_rows(results, table, rows, allow_stop))
    tables = {
        "results": result_rows(results, table.models),
        "hulls": hulls,
        "paths": path_rows(results),
        "gains": gain_rows(results, rival_of, places),
        "hops": hop_rows(groups, table, rows),
        "curves": _curve_rows(groups, folder_of),
        "pool": [
            {**row, "position": table.models.index(row["model"])}
            for row in cache.query("model_means", name=suite.name, split=SPLIT).to_pylist()
        ],
        "overlap": overlap,
        "pairs": cache.query("hop_changes", name=suite.name, split=SPLIT).to_pylist(),
        "runs": _run_rows(groups),
    }
    labels = list(dict.fromkeys(group.label for group in groups))
    start = {
        "alpha": alpha,
        "benchmark": OVERALL,
        "policy": labels[0] if labels else rival_of[alpha],
        "marked": rival_of[alpha],
        "curve": next(iter(TAGS.values())),
    }
    sizes = Sizes(len(first.benchmarks) + 1, table.n_models, len({row["solvers"] for row in overlap}))
    zero_router = next(row["policy"] for row in hulls if row["policy"].startswith("zero router"))
    return {
        "models": list(table.models),
        "horizon": table.horizon,
        "order": order,
        "tables": {name: columnar(part) for name, part in tables.items()},
        "browser": browsed(cache, suite, table, rows, groups, best),
        "charts": charts(labels, list(results), zero_router, start, sizes),
        "menus": _menus(results, labels, order, rival_of),
        "start": start,
    }


def _menus(
    results: dict[float, AlphaResults], labels: Sequence[str], order: dict[str, int], rival_of: dict[float, str]
) -> dict[str, Any]:
    policies = dict.fromkeys(
        policy for result in results.values() for policy in result.evaluation.policies if " > " not in policy
    )
    routed = [*labels, *sorted(set(rival_of.values())), ORACLE]
    return {
        "alpha": list(results),
        "benchmark": [name for name in order if name != OVERALL_QUESTIONS],
        "policy": list(dict.fromkeys(routed)),
        "marked": [name for name in policies if name not in labels],
        "curve": list(TAGS.values()),
        "rivals": {json.dumps(price): rival for price, rival in rival_of.items()},
    }


def _run_rows(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    return [
        {
            "run": run.run, "policy": group.label, "algorithm": run.algorithm, "alpha": run.alpha, "seed": run.seed,
            "seconds": round(run.seconds, 1), "trained": run.trained,
        }
        for group in groups for run in group.runs
    ]  # fmt: skip


def _curve_rows(groups: Sequence[RunGroup], folder_of: Callable[[str], Path]) -> Iterable[dict[str, Any]]:
    for group in groups:
        for run in group.runs:
            if run.own:
                for point in read_curves(folder_of(run.run)):
                    yield {"run": run.run, "policy": group.label, "alpha": run.alpha, **point}


def columnar(rows: Iterable[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return rows as columns, without repeating their names."""
    listed = list(rows)
    return {name: [row.get(name) for row in listed] for name in (listed[0] if listed else ())}
