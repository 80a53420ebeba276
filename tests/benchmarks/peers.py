"""Compares this toolkit's baselines with the routers of LLMRouter and RouteLLM, fitted on the same questions: `just peers`.

    just peers                             # the reference
    just peers --suite mine --alphas 0,0.1 # another suite, in cache/mine.duckdb

The other projects' packages go into an environment of their own, .rivals/peers. All routers read the same embeddings of the
questions and choose once, among the models of the first hop. The results are printed, and replace those of the suite in
docs/field.md, if they are there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.benchmarks.page import layout, machine
from tests.benchmarks.peer_data import first_hop, fitted_rows, pair, rewards, write_job
from tests.benchmarks.rivals import run
from toolkit.cli.common import open_suite
from toolkit.replay.exact import best_model, node_outcome, oracle, rank_models
from toolkit.replay.table import Floats, Ints, TransitionTable, load_table
from toolkit.report.tables import markdown
from toolkit.routing.baselines import clusters, factorisation, knn, knn_ngrams, linear, mlp, svm, tree
from toolkit.routing.baselines.predictor import Fit, Questions, fitted, predictions, read
from toolkit.routing.statistics import Estimate, combine_seeds, estimates_of, overall

ROOT = Path(__file__).parents[2]
PACKAGES = ("torch==2.13.0", "llmrouter-lib==0.4.0", "routellm==0.2.0")
OURS: dict[str, Fit] = {
    "kNN": knn.fit,
    "kNN (n-grams)": knn_ngrams.fit,
    "tree": tree.fit,
    "linear": linear.fit,
    "MLP": mlp.fit,
    "SVM": svm.fit,
    "factorisation": factorisation.fit,
    "clusters": clusters.fit,
}
ON_LABELS = {"kNN": (knn.fit, 0), "MLP": (mlp.fit, 0), "SVM": (svm.fit, 1)}
"""Baselines that are fitted once more, on LLMRouter's labels and questions, with the setting that is nearest to LLMRouter's."""
SAME_METHOD = {
    "knnrouter": "kNN",
    "mlprouter": "MLP",
    "svmrouter": "SVM",
    "mfrouter": "factorisation",
    "mfrouter (30 epochs)": "factorisation",
    "elorouter": "best model",
    "mf": "factorisation",
    "sw_ranking": "kNN",
}
"""The baseline of this toolkit that is nearest to a router of another project."""
HERE = "this toolkit"
ON_LABEL, QUALITY_ALONE = " on labels", " on quality"
"""What the names of a baseline that learns labels and of a router that ignores the price end with."""
OFFLINE = {
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENAI_API_KEY": "none",
}
"""Environment of the other projects' programs: RouteLLM makes a client when it is imported, and no request is sent."""
TIMED_QUESTIONS = 100
VERDICTS = ("ahead", "behind", "not significantly different")
COLUMNS = ["router", "of", "R", "lead over the same method here", "Q", "C", "fit", "decide"]


class Routed(NamedTuple):
    """What a router chooses on the test questions at a price.

    Attributes:
        name: Its name in its project.
        project: The project.
        choices: The nodes that it chooses with each seed, `(seeds, rows)`.
        fit: Processor time of fitting, in seconds; nan if nothing is fitted.
        decide: Processor time of a decision, in seconds.
    """

    name: str
    project: str
    choices: Ints
    fit: float = float("nan")
    decide: float = float("nan")


def set_up(python: Path) -> None:
    """Install the other projects' packages into their environment, if they are not there."""
    installed = python.parents[1] / "installed.txt"
    if not installed.exists() or installed.read_text("utf-8").split() != list(PACKAGES):
        run(sys.executable, "-m", "venv", python.parents[1])
        run(python, "-m", "pip", "install", "--quiet", *PACKAGES)
        installed.write_text("\n".join(PACKAGES), "utf-8")


def route_elsewhere(python: Path, folder: Path) -> None:
    """Run the other projects' routers, each project in a process."""
    for program in ("peer_llmrouter.py", "peer_routellm.py"):
        command = [python, Path(__file__).with_name(program), folder]
        subprocess.run(command, check=True, env={**os.environ, **OFFLINE}, stdout=subprocess.DEVNULL)


def measure(table: TransitionTable, fit: Fit) -> tuple[float, float]:
    """Return the processor time of fitting a baseline with all its settings, and of a prediction for a single question."""
    fresh, rows = replace(table), table.rows("test")[:TIMED_QUESTIONS]
    started = time.process_time()
    predictor = fitted(fresh, fit)
    fitting = time.process_time() - started
    questions = read(fresh, rows)
    started = time.process_time()
    for place in range(len(rows)):
        list(predictor.predict(Questions(*(part[place : place + 1] for part in questions))))
    return fitting, (time.process_time() - started) / len(rows)


def times(table: TransitionTable) -> dict[str, tuple[float, float]]:
    """Measure all fitted baselines, after a first fit of each has loaded what it needs."""
    for fit in OURS.values():
        fitted(table, fit)
    return {name: measure(table, fit) for name, fit in OURS.items()}


def route_here(table: TransitionTable, alpha: float, seconds: Mapping[str, tuple[float, float]]) -> list[Routed]:
    """Return the choices of this toolkit's baselines."""
    rows = table.rows("test")
    best = np.full((1, len(rows)), best_model(table, table.rows("train"), alpha))
    chosen = [
        Routed(name, HERE, predictions(table, "test", False, fit).choose(alpha)[None], *seconds[name])
        for name, fit in OURS.items()
    ]
    return [Routed("best model", HERE, best), *chosen, Routed("oracle", HERE, oracle(table, rows, alpha)[None])]


def route_on_labels(table: TransitionTable, alpha: float) -> list[Routed]:
    """Return the choices of baselines that learn which model is best, as LLMRouter's do, instead of how good each is."""
    rows, test = fitted_rows(table), read(table, table.rows("test"))
    order = rank_models(table, rows, alpha) - 1
    labels = np.eye(table.n_models)[order[rewards(table, rows, alpha)[:, order].argmax(1)]]
    results = []
    for name, (fit, setting) in ON_LABELS.items():
        shares: Floats = list(fit(read(table, rows), labels)(test))[setting]
        results.append(Routed(name + ON_LABEL, HERE, 1 + shares.argmax(1)[None]))
    return results


def read_llmrouter(folder: Path, table: TransitionTable, alpha: float) -> list[Routed]:
    """Return the choices of LLMRouter's routers, trained on rewards at the price and, if it is not 0, on quality alone."""
    records = json.loads((folder / "llmrouter.json").read_text("utf-8"))
    numbers = {model: 1 + number for number, model in enumerate(table.models)}
    results = []
    for target, name in dict.fromkeys((record["alpha"], record["router"]) for record in records):
        if target in (0.0, alpha):
            runs = [record for record in records if (record["alpha"], record["router"]) == (target, name)]
            choices = np.array([[numbers[model] for model in record["choices"]] for record in runs])
            suffix = "" if target == alpha else QUALITY_ALONE
            results.append(Routed(name + suffix, "LLMRouter", choices, *mean_times(runs)))
    return results


def read_routellm(folder: Path, table: TransitionTable, alpha: float) -> list[Routed]:
    """Return the choices of RouteLLM's routers, with the threshold that has the highest reward on the validation questions."""
    records = json.loads((folder / "routellm.json").read_text("utf-8"))
    n_validation = len(table.rows("validation"))
    results = []
    for name in dict.fromkeys(record["router"] for record in records):
        runs = [record for record in records if record["router"] == name]
        choices = []
        for record in runs:
            rates = np.array(record["win_rates"])
            threshold = best_threshold(table, rates[:n_validation], alpha)
            choices.append(1 + (rates[n_validation:] >= threshold))
        results.append(Routed(name, "RouteLLM", np.stack(choices), *mean_times(runs)))
    return results


def best_threshold(table: TransitionTable, rates: Floats, alpha: float) -> float:
    """Return the win rate from which on the strong model is worth its price on the validation questions; inf for never.

    Args:
        table: The table of a weak and a strong model.
        rates: The strong model's predicted win rate on each validation question.
        alpha: Price of cost.
    """
    rows = table.rows("validation")
    thresholds = [*np.unique(rates).tolist(), float("inf")]
    nodes = np.stack([1 + (rates >= threshold) for threshold in thresholds])
    reward = np.stack([node_outcome(table, rows, chosen).reward(alpha) for chosen in nodes])
    return float(thresholds[int(overall(reward, table.benchmark[rows])[0].mean.argmax())])


def mean_times(runs: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the mean times of fitting and of a decision over seeds."""
    fit, decide = np.mean([[record["fit"], record["decide"]] for record in runs], axis=0)
    return float(fit), float(decide)


def estimates(table: TransitionTable, routed: Routed, alpha: float, other: Routed | None) -> list[Estimate]:
    """Return R, its lead over another router, Q and C: means over benchmarks, with intervals over questions and seeds."""
    rows = table.rows("test")
    leads = 0.0 if other is None else node_outcome(table, rows, other.choices[0]).reward(alpha)
    values = []
    for nodes in routed.choices:
        quality, cost = node_outcome(table, rows, nodes)
        reward = quality - alpha * cost
        values += [reward, reward - leads, quality, cost]
    macro = overall(np.stack(values), table.benchmark[rows])[0]
    return estimates_of(combine_seeds(macro, len(routed.choices)))


def interval(estimate: Estimate) -> str:
    """Write an estimate with its interval, without spaces at which a narrow column would break it."""
    return f"{estimate.mean:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]".replace(" ", "\N{NO-BREAK SPACE}")


def seconds_text(seconds: float, unit: float, name: str, other: float) -> str:
    """Write a time in a unit and its ratio to another one; a dash for nan, and no ratio to nan."""
    text = "-" if seconds != seconds else f"{seconds / unit:.2f} {name}"
    return text if seconds != seconds or other != other else f"{text} ({seconds / other:.2g} times)"


def same_method(routed: Routed, routers: Sequence[Routed]) -> Routed | None:
    """Return this toolkit's baseline of the same method, or None if there is none or it is the router itself."""
    method = routed.name.removesuffix(ON_LABEL).removesuffix(QUALITY_ALONE)
    method = SAME_METHOD.get(method, method)
    return next((other for other in routers if other.name == method and other.project == HERE and other is not routed), None)


def results_table(table: TransitionTable, routers: Sequence[Routed], alpha: float) -> list[str]:
    """Return a verdict and a table with a row for every router."""
    rows, verdicts = [], {verdict: list[str]() for verdict in VERDICTS}
    for routed in routers:
        other = same_method(routed, routers)
        reward, lead, quality, cost = estimates(table, routed, alpha, other)
        if other and routed.project != HERE:
            verdicts[VERDICTS[0 if lead.low > 0 else 1 if lead.high < 0 else 2]].append(routed.name)
        rows.append(
            [
                routed.name,
                routed.project,
                interval(reward),
                f"{interval(lead)} ({other.name})" if other else "-",
                f"{quality.mean:.3f}",
                f"{cost.mean:.3f}",
                seconds_text(routed.fit, 1, "s", other.fit if other else float("nan")),
                seconds_text(routed.decide, 1e-3, "ms", other.decide if other else float("nan")),
            ]
        )
    summary = "; ".join(f"{verdict}: {', '.join(names) or 'none'}" for verdict, names in verdicts.items())
    return [f"Against the same method here: {summary} (95% intervals, uncorrected).", markdown(COLUMNS, rows)]


def agreement(routers: Sequence[Routed]) -> str:
    """Say on how many test questions baselines that learn labels choose the model that LLMRouter's routers choose."""
    by_name = {routed.name: routed.choices for routed in routers}
    parts = [
        f"{np.mean(by_name[SAME_METHOD[name] + ON_LABEL] == by_name[name]):.0%} ({SAME_METHOD[name]})"
        for name in ("knnrouter", "svmrouter", "mlprouter")
    ]
    return f"On labels, this toolkit's code chooses the same model as LLMRouter's on {', '.join(parts)} of the test questions."


def section(command: str, table: TransitionTable, alphas: Sequence[float], seeds: int, folder: Path) -> str:
    """Return the results as Markdown."""
    two = pair(table)
    seconds, seconds_of_two = times(table), times(two)
    counts = [f"{len(table.rows(split))} {split}" for split in ("train", "validation", "test")]
    parts = [
        f"`{command}`: {', '.join(counts)} questions of {len(table.benchmarks)} benchmarks, {table.n_models} models "
        f"({', '.join(table.models)}), one hop, {seeds} seeds where a router is random. {' and '.join(PACKAGES[1:])}; "
        f"{machine(('scikit-learn', 'torch'))}. R, Q and C are means over benchmarks, with 95% intervals "
        "over questions and seeds.",
    ]
    for alpha in alphas:
        routers = [*route_here(table, alpha, seconds), *route_on_labels(table, alpha), *read_llmrouter(folder, table, alpha)]
        parts += [f"#### All models, alpha = {alpha:g}", agreement(routers), *results_table(table, routers, alpha)]
    for alpha in alphas:
        routers = [*route_here(two, alpha, seconds_of_two), *read_routellm(folder, two, alpha)]
        title = f"#### {two.models[0]} or {two.models[1]}, alpha = {alpha:g}"
        parts += [title, *results_table(two, routers, alpha)]
    return layout(parts)


def replace_block(page: str, name: str, text: str) -> str:
    """Replace what a page has between the markers of a name."""
    first, last = f"<!-- peers: {name} -->", f"<!-- /peers: {name} -->"
    return page.partition(first)[0] + f"{first}\n\n{text}\n{last}" + page.partition(last)[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Set up, run all routers, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", default="quickstart")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--alphas", default="0,0.05")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(".rivals"))
    parser.add_argument("--page", type=Path, default=ROOT / "docs/field.md")
    options = parser.parse_args(arguments)
    alphas = [float(alpha) for alpha in options.alphas.split(",")]
    python = options.folder.absolute() / "peers/bin/python"
    set_up(python)
    suite, cache = open_suite(options.suite, options.cache)
    table = first_hop(load_table(cache, suite))
    command = "just peers" + ("" if options.suite == "quickstart" else f" --suite {options.suite} --alphas {options.alphas}")
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder), table, alphas, options.seeds)
        route_elsewhere(python, Path(folder))
        text = section(command, table, alphas, options.seeds, Path(folder))
    print(text)
    page = options.page.read_text("utf-8")
    if f"<!-- peers: {options.suite} -->" in page:
        options.page.write_text(replace_block(page, options.suite, text), "utf-8")


if __name__ == "__main__":
    main()
