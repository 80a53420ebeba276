"""Shows runs as text for people: the list, one run, and the differences between two."""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from toolkit.core.text import printable
from toolkit.report.estimates import difference_sentence, p_text, with_interval
from toolkit.report.tables import count, fitted, format_bytes, format_number, wrapped
from toolkit.routing.claims import LEVEL
from toolkit.routing.comparison import OVERALL, OVERALL_QUESTIONS
from toolkit.routing.paired import Difference
from toolkit.routing.run_files import RunFiles
from toolkit.routing.run_settings import as_options, settings_that_differ
from toolkit.routing.statistics import Estimate
from toolkit.routing.verdict import MIN_QUESTIONS
from toolkit.store.runs import RecordedRun, RunRows, short_name


def run_rows(summaries: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the list of runs for programs: each with the settings that tell it apart, as `--set` takes them."""
    differing = settings_that_differ([_config(row) for row in summaries])
    return [
        {**row, "name": row["name"] or short_name(row["run"]), "settings": as_options(settings)}
        for row, settings in zip(summaries, differing, strict=True)
    ]


def render_list(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Lay out runs, newest first, in 120 columns."""
    if not summaries:
        return "There are no runs yet. To train one: toolkit train SUITE"
    rows = run_rows(summaries)
    places = [name for name in ("cache", "suite") if len({row.get(name) for row in rows}) > 1]
    table = [
        [
            row["name"],
            *(row[place] for place in places),
            row["algorithm"],
            f"{row['alpha']:g}",
            "" if row["seed"] is None else str(row["seed"]),
            row["settings"],
            format_number(row["quality"]),
            format_number(row["cost"]),
            with_interval(_estimate(row, "reward")) if row["reward"] is not None else "-",
            _moment(row["trained"]),
        ]
        for row in rows
    ]
    columns = ["run", *places, "algorithm", "alpha", "seed", "settings that differ"]
    return (
        fitted([*columns, "Q", "C", "R", "when (UTC)"], table, uncut=(0,))
        + "\n\n"
        + wrapped(
            "Q, C and R: on the test split, of the newest evaluation; of the best fixed path for baselines alone; - if there "
            "is none. Each name can be used wherever a run is named."
        )
    )


def render_run(
    row: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]], rows: RunRows, files: RunFiles, full: bool = False
) -> str:
    """Lay out one run: what trained it, its files, the settings that are not the default, and its evaluations.

    Args:
        row: The run as recorded.
        evaluations: Its averages.
        rows: How many rows of the cache belong to it.
        files: What lies in its folder.
        full: Whether to show all settings.
    """
    settings = _config(row)
    (differing,) = settings_that_differ([settings])
    facts = {
        "run": row["run"],
        "name": row["name"] or short_name(row["run"]),
        "suite": row["suite"] + ("" if row["is_current"] else " (superseded: its file has changed since)"),
        "algorithm": row["algorithm"],
        "alpha": f"{row['alpha']:g}",
        "seed": "-" if row["seed"] is None else str(row["seed"]),
        "when": f"{_moment(row['trained'])} UTC, in {row['seconds'] or 0:.1f} s",
        "settings": as_options({name: value for name, value in settings.items() if name != "name"} if full else differing)
        or "the defaults",
        "versions": ", ".join(f"{name} {version}" for name, version in _json(row["versions"]).items()),
        "files": f"{files.folder} ({format_bytes(files.bytes)})" if files.folder else "not found where they were written",
        "cache": f"{count(rows.evaluations, 'evaluation row')}, {count(rows.decisions, 'decision')}",
    }
    width = max(map(len, facts))
    lines = [wrapped(f"{name:<{width}}  {printable(value)}", " " * (width + 2)) for name, value in facts.items()]
    lines = [line.replace(f"{name} ", f"{name:<{width}}  ", 1) for name, line in zip(facts, lines, strict=True)]
    table = [
        [
            evaluation["split"],
            f"{evaluation['alpha']:g}",
            evaluation["average"],
            str(evaluation["questions"]),
            *(with_interval(_estimate(evaluation, measure)) for measure in ("quality", "cost", "reward")),
        ]
        for evaluation in evaluations
    ]
    shown = fitted(["split", "alpha", "average", "questions", "Q", "C", "R"], table) if table else "It is not evaluated yet."
    return "\n".join(lines) + "\n\n" + shown


def render_differences(differences: Sequence[Difference], first: str, second: str, alpha: float, split: str) -> str:
    """Lay out the verdict on two runs, and their differences on each benchmark and on average."""
    overall = next(difference for difference in differences if difference.benchmark == OVERALL)
    if overall.questions < MIN_QUESTIONS:
        verdict = f"Only {count(overall.questions, 'question')}: too few to say which run is better."
    else:
        compared = difference_sentence(overall.reward, overall.p_value, second)
        verdict = f"R of {first} is {compared}."
    averages = (OVERALL, OVERALL_QUESTIONS)
    benchmarks = [difference for difference in differences if difference.benchmark not in averages]
    if len(benchmarks) > 1 and overall.questions >= MIN_QUESTIONS:
        above, below = (
            ", ".join(part.benchmark for part in benchmarks if part.p_value < LEVEL and sign * part.reward.mean > 0) or "none"
            for sign in (1, -1)
        )
        verdict += (
            f" By benchmark, it is significantly above on {above}, and below on {below} (p < {LEVEL:g} after Holm's correction "
            f"for {count(len(benchmarks), 'benchmark')})."
        )
    table = [
        [
            difference.benchmark,
            str(difference.questions),
            *map(with_interval, (difference.quality, difference.cost, difference.reward)),
            p_text(difference.p_value) if difference.p_value == difference.p_value else "-",
            f"{difference.same_paths:.0%}",
        ]
        for difference in differences
    ]
    notes = (
        f"Differences are those of {first} minus {second}, on the same questions of the {split} split, at alpha = {alpha:g}; "
        "[95% intervals] are over questions. p: of the difference in R. same paths: share of questions that both route alike."
    )
    columns = ["difference", "questions", "Q", "C", "R", "p", "same paths"]
    return "\n\n".join([wrapped(printable(verdict)), fitted(columns, table), wrapped(printable(notes))])


def difference_rows(differences: Sequence[Difference], first: str, second: str) -> list[dict[str, Any]]:
    """Return differences for programs; an estimate is three columns, such as `reward`, `reward_low`, `reward_high`."""
    rows = []
    for difference in differences:
        row: dict[str, Any] = {"first": first, "second": second}
        for name, value in difference._asdict().items():
            if isinstance(value, Estimate):
                row |= {name: value.mean, f"{name}_low": value.low, f"{name}_high": value.high}
            else:
                row[name] = value
        rows.append(row)
    return rows


def deletion_rows(runs: Sequence[RecordedRun], counts: Sequence[RunRows], files: Sequence[RunFiles]) -> list[dict[str, Any]]:
    """Return what deleting runs removes, a row for each."""
    return [
        {
            "run": run.run,
            "name": run.short,
            "evaluation_rows": rows.evaluations,
            "decisions": rows.decisions,
            "folder": str(place.folder) if place.folder else None,
            "bytes": place.bytes,
        }
        for run, rows, place in zip(runs, counts, files, strict=True)
    ]


def render_deletion(rows: Sequence[Mapping[str, Any]]) -> str:
    """Lay out what deleting runs removes."""
    table = [
        [
            row["name"],
            str(row["evaluation_rows"]),
            str(row["decisions"]),
            format_bytes(row["bytes"]),
            _relative(row["folder"]) if row["folder"] else "not found; nothing is deleted but the rows",
        ]
        for row in rows
    ]
    return fitted(["run", "evaluation rows", "decisions", "files", "folder"], table, uncut=(0,))


def _relative(folder: str) -> str:
    """Return a folder as the user would type it."""
    return os.path.relpath(folder) if Path(folder).is_relative_to(Path.cwd()) else folder


def _config(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"algorithm": row["algorithm"]} | _json(row["config"])


def _json(text: str | None) -> dict[str, Any]:
    value = json.loads(text or "{}")
    return value if isinstance(value, dict) else {}


def _estimate(row: Mapping[str, Any], measure: str) -> Estimate:
    low, high = (float("nan") if row[f"{measure}_{end}"] is None else row[f"{measure}_{end}"] for end in ("low", "high"))
    return Estimate(row[measure], low, high)


def _moment(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "-"
