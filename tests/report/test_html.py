"""The HTML report: its numbers are those of SQL, its texts cannot act, and it says what to do where there is no run."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter, defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from tests.report.conftest import FIRST, HOSTILE, NAMED, SECOND, Reported, read_report, toolkit
from toolkit.cli.common import app
from toolkit.core.errors import PolicyError, ToolkitError
from toolkit.report.html import questions
from toolkit.routing.run_groups import evaluated_runs
from toolkit.store import Cache

MEASURES = ("quality", "cost", "reward", "lead")


class Tags(HTMLParser):
    """Collects the elements of a page, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def approximately(value: Any) -> Any:
    """Return what a value or values are in a report, which rounds to six decimals."""
    return pytest.approx(value, rel=1e-5, abs=1e-6)


def routes(reported: Reported) -> pl.DataFrame:
    return reported.cache.frame("routes").filter(split="test")


def test_results_of_one_run_are_the_evaluations_of_sql(reported: Reported) -> None:
    (run,) = (name for name in reported.runs if f"alpha{SECOND:g}" in name)
    recorded = {
        (row["policy"], row["benchmark"]): row
        for row in reported.cache.frame("evaluations").filter(run=run, split="test").iter_rows(named=True)
    }
    rows = [row for row in reported.rows("results") if row["alpha"] == SECOND]
    assert len(rows) > 100
    for row in rows:
        expected = recorded["router" if row["policy"] == "exact" else row["policy"], row["benchmark"]]
        assert row["questions"] == expected["questions"]
        for measure in MEASURES[: 3 if row["policy"] == "exact" else 4]:
            for column in (measure, f"{measure}_low", f"{measure}_high"):
                assert row[column] == approximately(expected[column]), (row["policy"], row["benchmark"], column)


def test_results_of_several_seeds_are_the_means_of_their_evaluations(reported: Reported) -> None:
    recorded = reported.cache.frame("evaluations").filter((pl.col("alpha") == FIRST) & (pl.col("policy") == "router"))
    rows = [row for row in reported.rows("results") if row["alpha"] == FIRST and row["policy"] == "exact"]
    assert {row["benchmark"] for row in rows} == set(recorded["benchmark"])
    for row in rows:
        seeds = recorded.filter(benchmark=row["benchmark"])
        assert len(seeds) == 2
        for measure in MEASURES[:3]:
            assert row[measure] == approximately(seeds[measure].mean())


def test_gains_are_those_of_the_routes(reported: Reported) -> None:
    names = {row["question"]: (row["benchmark"], row["item"]) for row in reported.data["browser"]["questions"]}
    alpha_of = dict(reported.cache.frame("runs").select("run", "alpha").iter_rows())
    reached: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in routes(reported).iter_rows(named=True):
        reached[alpha_of[row["run"]], row["benchmark"], row["item"]].append((row["quality"], row["cost"]))
    rows = reported.rows("gains")
    assert len(rows) == len(reached)
    for row in rows:
        outcomes = reached[row["alpha"], *names[row["question"]]]
        assert len(outcomes) == (2 if row["alpha"] == FIRST else 1)
        quality, cost = (sum(values) / len(values) for values in zip(*outcomes, strict=True))
        assert (row["quality"], row["cost"]) == approximately((quality, cost))
        gain = quality - row["alpha"] * cost - (row["rival_quality"] - row["alpha"] * row["rival_cost"])
        assert row["gain"] == pytest.approx(gain, abs=1e-5)


def test_paths_and_changes_are_those_of_the_routes(reported: Reported) -> None:
    alpha_of = dict(reported.cache.frame("runs").select("run", "alpha").iter_rows())
    nodes = reported.cache.frame("transitions")
    quality = {(question, tuple(path)): q for question, path, q in nodes.select("question", "path", "quality").iter_rows()}
    shares: dict[Any, Counter[str]] = defaultdict(Counter)
    changes: dict[Any, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in routes(reported).iter_rows(named=True):
        path = row["path"]
        shares[alpha_of[row["run"]], row["benchmark"]][" > ".join(path)] += 1
        for hop in range(2, len(path) + 1):
            before, after = quality[row["question"], tuple(path[: hop - 1])], quality[row["question"], tuple(path[:hop])]
            for benchmark in (row["benchmark"], "overall"):
                count = changes[alpha_of[row["run"]], benchmark, hop]
                count[0] += 1
                count[1] += after > before
                count[2] += after < before
    rows = [row for row in reported.rows("paths") if row["policy"] == "exact" and row["benchmark"] != "overall"]
    assert rows
    for row in rows:
        counts = shares[row["alpha"], row["benchmark"]]
        assert row["share"] == approximately(counts[row["path"]] / counts.total())
    hops = {(row["alpha"], row["benchmark"], row["hop"]): row for row in reported.rows("hops")}
    assert hops.keys() == changes.keys()
    assert all([hops[key][name] for name in ("hops", "mended", "spoiled")] == count for key, count in changes.items())


def test_the_pool_is_that_of_the_transitions(reported: Reported) -> None:
    nodes = reported.cache.frame("transitions").filter(split="test")
    first = nodes.filter(depth=1)
    means = first.group_by("benchmark", "model").agg(pl.col("quality").mean(), pl.col("cost").mean(), pl.len().alias("n"))
    expected = {(row["benchmark"], row["model"]): row for row in means.iter_rows(named=True)}
    rows = reported.rows("pool")
    assert len(rows) == len(expected)
    for row in rows:
        own = expected[row["benchmark"], row["model"]]
        assert (row["quality"], row["cost"], row["questions"]) == approximately((own["quality"], own["cost"], own["n"]))
    solvers: Counter[tuple[str, str]] = Counter()
    for (benchmark, _), part in first.sort("model").group_by(["benchmark", "question"]):
        models = part.filter(pl.col("quality") >= 0.5).sort("model")["model"].to_list()
        solvers[str(benchmark), ", ".join(models) or "none of them"] += 1
    assert {(row["benchmark"], row["solvers"]): row["questions"] for row in reported.rows("overlap")} == solvers
    joined = nodes.join(nodes, left_on="parent", right_on="node", suffix="_before")
    for row in reported.rows("pairs"):
        pair = joined.filter(benchmark=row["benchmark"], model=row["second"], model_before=row["first"])
        gain = pair["quality"] - pair["quality_before"]
        assert (row["hops"], row["mended"], row["spoiled"]) == (len(pair), (gain > 0).sum(), (gain < 0).sum())
        assert row["gain"] == approximately(gain.mean())


def test_the_browser_has_every_tree_with_the_paths_of_routers_and_oracle(reported: Reported) -> None:
    browser = reported.data["browser"]
    nodes = reported.cache.frame("transitions").filter(split="test")
    expected = {(row["benchmark"], row["item"], row["number"]): row for row in nodes.iter_rows(named=True)}
    listed = 0
    for question in browser["questions"]:
        for number, text, quality, cost, prompt, completion, failed in question["nodes"]:
            node = expected[question["benchmark"], question["item"], number]
            assert browser["texts"][text] == node["response"]
            assert (quality, cost) == approximately((node["quality"], node["cost"]))
            assert (prompt, completion, failed) == (node["prompt_tokens"], node["completion_tokens"], 0)
            listed += 1
    assert listed == len(nodes) == len(expected)
    assert len(set(browser["texts"])) == len(browser["texts"]) < listed
    numbers = {(row["benchmark"], row["item"], tuple(row["path"])): row["number"] for row in nodes.iter_rows(named=True)}
    for row in routes(reported).iter_rows(named=True):
        (place,) = (n for n, question in enumerate(browser["questions"]) if question["item"] == row["item"]
                    and question["benchmark"] == row["benchmark"])  # fmt: skip
        assert browser["ends"][row["run"]][place] == numbers[row["benchmark"], row["item"], tuple(row["path"])]
    paths = reported.cache.frame("paths").with_columns(reward=pl.col("quality") - SECOND * pl.col("cost"))
    best = {(row["benchmark"], row["item"]): row["reward"] for row in paths.group_by("benchmark", "item").agg(
        pl.col("reward").max()).iter_rows(named=True)}  # fmt: skip
    rewards = {(row["benchmark"], row["item"], tuple(row["path"])): row["reward"] for row in paths.iter_rows(named=True)}
    by_number = {(benchmark, item, number): path for (benchmark, item, path), number in numbers.items()}
    for question, end in zip(browser["questions"], browser["oracle"][str(SECOND)], strict=True):
        name = question["benchmark"], question["item"]
        assert rewards[(*name, by_number[(*name, end)])] == approximately(best[name])


def test_the_verdict_and_the_first_table_say_what_the_results_say(reported: Reported) -> None:
    rows = {row["policy"]: row for row in reported.rows("results") if row["alpha"] == FIRST and row["benchmark"] == "overall"}
    shown = re.sub(r"<[^>]+>", "\t", reported.html.partition("<tbody>")[2].partition("</tbody>")[0])
    for policy, row in rows.items():
        if " > " not in policy and not re.fullmatch(r"\w+ x\d", policy):
            interval = f"{row['quality']:.3f} [{row['quality_low']:.3f}, {row['quality_high']:.3f}]"
            assert re.search(rf"\t{re.escape(policy)}( \(hindsight\))?\t+{re.escape(interval)}\t", shown), policy
    assert "Only 9 test questions" in reported.html or f"{rows['exact']['reward']:.3f}" in reported.html


def test_a_run_is_named_as_in_all_commands(reported: Reported) -> None:
    suite = reported.cache.suites.get("scripted")
    assert suite
    ((named,),) = evaluated_runs(reported.cache, suite, "test", [NAMED])
    assert (named.name, named.seed, named.alpha) == (NAMED, 1, FIRST)
    for name in (named.run, named.run[-8:], named.run[:-3]):
        assert evaluated_runs(reported.cache, suite, "test", [name]) == [[named]]
    assert "name" not in named.settings, "the name is no setting, so that seeds of one training stay together"


def test_no_text_of_anybody_can_act(reported: Reported) -> None:
    assert any(HOSTILE in text for text in reported.data["browser"]["texts"])
    assert "dataset.hacked" not in reported.html
    elements = Tags(reported.html).elements
    assert [attributes.get("id") for tag, attributes in elements if tag == "script"] == ["data", None, None, None]
    assert not [name for _, attributes in elements for name in attributes if name.startswith("on")]
    links = [value for _, attributes in elements for name, value in attributes.items() if name in ("src", "href")]
    assert links
    assert all(str(link).startswith(("#", "data:")) for link in links)


def test_only_the_pages_own_scripts_may_run_and_nothing_may_be_fetched(reported: Reported) -> None:
    (policy,) = (attributes["content"] for _, attributes in Tags(reported.html).elements if "http-equiv" in attributes)
    assert policy is not None
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == "'none'"
    scripts = re.findall(r"<script>(.*?)</script>", reported.html, re.DOTALL)
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" for script in scripts]
    assert directives["script-src"].split() == ["'unsafe-eval'", *hashes]


def test_learning_curves_come_from_the_logs(reported: Reported) -> None:
    rows = reported.rows("curves")
    assert {row["run"] for row in rows} == set(reported.runs)
    assert all(row["step"] > 0 and abs(row["value"]) <= 1 for row in rows)


def test_the_commands_train_the_same_runs_again(reported: Reported, tmp_path: Path) -> None:
    commands = re.findall(r"toolkit sweep scripted [^\n]+", reported.html)
    assert len(commands) == 2  # two seeds at one alpha, one at the other
    common = ("--cache", reported.cache.path, "--runs-dir", tmp_path)
    for line in commands:
        assert "--set exact.n_epochs=2" in line
        words = line.split()[1:]
        toolkit(*words[: words.index("--cache")], *words[words.index("--cache") + 2 :], *common, "--processes", "1")
    assert sorted(run.name for run in tmp_path.iterdir()) == reported.runs


def test_named_runs_are_shown_alone(reported: Reported, tmp_path: Path) -> None:
    (run,) = (name for name in reported.runs if f"alpha{SECOND:g}" in name)
    common = ("--cache", reported.cache.path, "--runs-dir", reported.path.parent / "runs")
    toolkit("report", "scripted", run[:-4], *common, "-o", tmp_path / "r.html")
    shown = read_report(tmp_path / "r.html", reported.cache, [run])
    assert [row["run"] for row in shown.rows("runs")] == [run]
    with pytest.raises(PolicyError, match=r"no run 'nonsense'.* To list all: toolkit runs"):
        CliRunner().invoke(app, ["report", "scripted", "nonsense", *map(str, common)], catch_exceptions=False)


def test_without_a_run_the_report_says_how_to_train_one(cache: Cache, tmp_path: Path) -> None:
    toolkit("report", "scripted", "--cache", cache.path, "-o", tmp_path / "r.html")
    shown = read_report(tmp_path / "r.html", cache, [])
    assert "toolkit train scripted" in shown.html
    assert "the strongest on" in shown.html
    assert shown.data["browser"]["ends"] == {}


def test_a_run_whose_file_is_gone_is_left_out_with_the_reason(reported: Reported, tmp_path: Path) -> None:
    file = next((reported.path.parent / "runs").glob(f"*alpha{SECOND:g}*")) / "router.safetensors"
    moved = file.rename(tmp_path / "moved")
    try:
        common = ("--cache", reported.cache.path, "--runs-dir", file.parents[1])
        toolkit("report", "scripted", *common, "-o", tmp_path / "r.html")
    finally:
        moved.rename(file)
    shown = read_report(tmp_path / "r.html", reported.cache, [])
    assert len(shown.rows("runs")) == 2
    assert file.parent.name in shown.html


def test_large_suites_show_some_questions_of_all(reported: Reported, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(questions, "MAX_QUESTIONS", 4)
    monkeypatch.setattr(questions, "MAX_RESPONSE", 10)
    common = ("--cache", reported.cache.path, "--runs-dir", reported.path.parent / "runs")
    toolkit("report", "scripted", *common, "-o", tmp_path / "r.html")
    browser = read_report(tmp_path / "r.html", reported.cache, []).data["browser"]
    assert len(browser["questions"]) == 4
    assert len({question["benchmark"] for question in browser["questions"]}) > 1
    assert browser["evaluated"] == len(reported.data["browser"]["questions"])
    assert max(map(len, browser["texts"])) == 11


@pytest.mark.parametrize(("name", "message"), [("report.txt", "does not end in .html"), ("notes.html", "is not a web page")])
def test_a_report_replaces_nothing_but_a_page(name: str, message: str, cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "notes.html").write_text("my notes")
    with pytest.raises(ToolkitError, match=message):
        CliRunner().invoke(app, ["report", "scripted", "--cache", str(cache.path), "-o", str(tmp_path / name)],
                           catch_exceptions=False)  # fmt: skip
    assert (tmp_path / "notes.html").read_text() == "my notes"
