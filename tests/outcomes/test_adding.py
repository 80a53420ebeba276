"""An import adds to the suite of its name: models, questions, samples and missing cells; contradictions are refused."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.outcomes.tables import options_of
from tests.scripted import encode, suite_config
from toolkit.core.errors import BenchmarkError, CacheError, SuiteError
from toolkit.core.workspace import Workspace
from toolkit.generation.rescoring import apply_suite_file
from toolkit.generation.verify import verify
from toolkit.outcomes.importing import ImportSummary, import_results, plan_import, run_import
from toolkit.replay.table import load_table
from toolkit.report.status import render
from toolkit.store import Cache
from toolkit.suites.resolving import resolve

Rows = list[dict[str, Any]]


def cells(models: str, items: Any = range(12), **values: Any) -> Rows:
    """Return results whose scores and costs depend on question and model."""
    return [
        {
            "benchmark": "b",
            "item": f"q{item}",
            "question": f"Question {item}?",
            "model": model,
            "score": float((item + ord(model)) % 2),
            "cost": 0.5 * ord(model),
        }
        | values
        for item in items
        for model in models
    ]


def add(folder: Path, rows: Rows, **options: Any) -> tuple[ImportSummary, Cache]:
    path, cache = folder / "table.jsonl", Cache(folder / "c.duckdb")
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    name, encoder = options.pop("name", "s"), options.pop("encode", encode)
    return import_results(path, name, cache, folder / "weights", options_of(**options), encode=encoder), cache


def counts(summary: ImportSummary) -> tuple[int, ...]:
    changes = summary.changes
    return changes.added, changes.completed, changes.equal, changes.replaced, changes.ignored


def content(cache: Cache, name: str = "s") -> Rows:
    rows: Rows = cache.arrow(
        "SELECT item, sample, path, response, quality, split, status FROM transitions WHERE suite = ? ORDER BY ALL", [name]
    ).to_pylist()
    return rows


def no_encoder(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    raise AssertionError(f"embeds again: {texts}")


def test_models_and_questions_are_added_in_any_order_of_imports(tmp_path: Path) -> None:
    parts = [cells("ab"), cells("c"), cells("abc", range(12, 20))]
    add(tmp_path, [row for part in parts for row in part], name="whole")
    summary, cache = add(tmp_path, parts[0])
    assert counts(summary) == (24, 0, 0, 0, 0)
    summary, _ = add(tmp_path, parts[1], encode=no_encoder)
    assert ([model.name for model in summary.suite.models], counts(summary)) == (["a", "b", "c"], (12, 0, 0, 0, 0))
    assert load_table(cache, summary.suite).quality.shape == (12, 4)
    summary, _ = add(tmp_path, parts[2])
    assert len(summary.suite.questions) == 20
    assert content(cache) == content(cache, "whole")
    table, whole = load_table(cache, summary.suite), load_table(cache, cache.suites.get("whole"))  # type: ignore[arg-type]
    assert np.array_equal(table.quality, whole.quality)
    assert np.allclose(table.hop_cost, whole.hop_cost)
    assert not any(finding.wrong for finding in verify(cache))


def test_an_equal_import_in_any_order_changes_no_byte_and_embeds_nothing(tmp_path: Path) -> None:
    rows = cells("ab")
    _, cache = add(tmp_path, rows)
    before = cache.path.read_bytes()
    for some in (rows, rows[::-1], random.Random(0).sample(rows, 9)):
        summary, _ = add(tmp_path, some, encode=no_encoder)
        assert counts(summary) == (0, 0, len(some), 0, 0)
    assert cache.path.read_bytes() == before


def test_a_model_for_some_questions_leaves_cells_missing_until_they_are_imported(tmp_path: Path) -> None:
    add(tmp_path, cells("ab"))
    summary, cache = add(tmp_path, cells("c", range(4, 12)))
    assert (counts(summary), summary.n_missing, summary.missing[0]) == ((8, 0, 0, 0, 0), 4, "b/q0: c")
    available = load_table(cache, summary.suite).available
    assert available is not None
    assert available.tolist() == [[True, True, True, item >= 4] for item in range(12)]
    assert "s: 4 nodes have no response, and are masked" in render(cache, "s")
    summary, _ = add(tmp_path, cells("c", range(4, 12)), missing="drop-question")
    assert "masked" not in render(cache, "s")
    assert (load_table(cache, summary.suite).split == "excluded").sum() == 4
    summary, _ = add(tmp_path, cells("c", range(2, 12)))  # the setting stays
    assert (counts(summary), summary.suite.config.incomplete) == ((0, 2, 8, 0, 0), "exclude question")
    summary, _ = add(tmp_path, cells("c"), missing="mask")
    assert (counts(summary), summary.n_missing) == ((0, 2, 10, 0, 0), 0)
    assert load_table(cache, summary.suite).quality.shape == (12, 4)


@pytest.mark.parametrize("is_new", [True, False])
def test_two_imports_at_once_lose_no_results(is_new: bool, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.duckdb")
    if not is_new:
        add(tmp_path, cells("a"))
    plans = []
    for models in ("b", "c"):
        path = tmp_path / f"{models}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in cells(models)))
        plans.append(plan_import(path, "s", cache, tmp_path / "weights"))
    run_import(plans[0], cache, encode)
    before = content(cache)
    with pytest.raises(CacheError, match=r"Another command changed the suite s .* Repeat the command"):
        run_import(plans[1], cache, encode)
    assert content(cache) == before
    summary, _ = add(tmp_path, cells("c"))
    assert [model.name for model in summary.suite.models] == (["b", "c"] if is_new else ["a", "b", "c"])


def test_samples_are_trees_and_further_samples_are_added(tmp_path: Path) -> None:
    sampled = [cells("ab", sample=sample, score=float(sample == 1)) for sample in (0, 1, 2)]
    summary, cache = add(tmp_path, sampled[0] + sampled[1])
    assert (summary.suite.config.samples, summary.n_missing) == (2, 0)
    table = load_table(cache, summary.suite)
    assert table.quality[:, 1:].mean() == 0.5
    assert table.quality[1::2, 1:].all()
    summary, _ = add(tmp_path, sampled[2], encode=no_encoder)
    assert (summary.suite.config.samples, counts(summary)) == (3, (24, 0, 0, 0, 0))
    assert load_table(cache, summary.suite).quality.shape == (36, 3)
    assert not any(finding.wrong for finding in verify(cache))
    with pytest.raises(BenchmarkError, match=r"row 2 is the same cell as row 1.*column sample"):
        add(tmp_path, cells("a", [0]) * 2)


def test_given_splits_stay_through_training_and_further_imports(tmp_path: Path) -> None:
    words = ["Training", "dev", "test", "val", "train", "testing"] * 2
    expected = ["train", "validation", "test", "validation", "train", "test"] * 2
    rows = [row for item, word in enumerate(words) for row in cells("ab", [item], split=word)]
    summary, cache = add(tmp_path, rows)
    assert [question.split for question in summary.suite.questions] == expected
    assert list(load_table(cache, apply_suite_file(summary.suite, summary.suite.config, cache)).split) == expected
    summary, _ = add(tmp_path, cells("c"))
    assert [question.split for question in summary.suite.questions] == expected
    with pytest.raises(CacheError, match="row 1, column split: test, and the cache has train"):
        add(tmp_path, cells("c", [0], split="test"))
    with pytest.raises(BenchmarkError, match="row 2, column split: there is no split hold-out; "):
        add(tmp_path, [*cells("a", [0], split="test"), *cells("a", [1], split="hold-out")])
    with pytest.raises(BenchmarkError, match="row 2, column split: it is empty"):
        add(tmp_path, [*cells("a", [0], split="test"), *cells("a", [1], split=None)])


@pytest.mark.parametrize(
    ("column", "old", "new"),
    [
        ("score", 0.5, 0.25),
        ("response", "old", "new"),
        ("cost", 2.0, 3.0),
        ("reference", "4", "5"),
        ("question", "Old?", "New?"),
    ],
)
def test_contradictions_are_refused_or_resolved(column: str, old: Any, new: Any, tmp_path: Path) -> None:
    _, cache = add(tmp_path, cells("ab", range(9, 17)) + cells("ab", [8], **{"score": 1.0, column: old}))
    before, bytes_before = content(cache), cache.path.read_bytes()
    changed = cells("ab", [8], **{"score": 1.0, column: new})
    message = (
        f"row 1, column {column}: {re.escape(str(new))}, and the cache has {re.escape(str(old))} for b/q8: a.*--prefer ours"
    )
    with pytest.raises(CacheError, match=message):
        add(tmp_path, changed)
    assert cache.path.read_bytes() == bytes_before
    summary, _ = add(tmp_path, changed, prefer="ours")
    assert summary.changes.replaced == 0
    assert content(cache) == before
    summary, _ = add(tmp_path, changed, prefer="theirs")
    [question] = [question for question in summary.suite.questions if question.item == "q8"]
    row = cache.arrow("SELECT * FROM transitions WHERE item = 'q8' AND model = 'a'").to_pylist()[0]
    value = {"score": row["quality"], "response": row["response"], "reference": question.reference.answers}
    value |= {
        "question": row["question_prompt"],
        "cost": cache.arrow("SELECT max(cost) FROM generations WHERE cost < 40")[0][0],
    }
    assert str(new) in str(value[column])
    assert load_table(cache, summary.suite).quality.shape == (9, 3)
    summary, _ = add(tmp_path, changed, encode=no_encoder)
    assert counts(summary) == (0, 0, 2, 0, 0)


def test_further_fields_complete_cells_and_questions(tmp_path: Path) -> None:
    add(tmp_path, cells("ab"))
    summary, cache = add(tmp_path, [row | {"response": f"{row['item']} {row['model']}"} for row in cells("ab")])
    assert counts(summary) == (0, 24, 0, 0, 0)
    summary, _ = add(tmp_path, cells("ab", reference="4"))
    assert summary.suite.questions[0].reference.answers == ("4",)
    summary, _ = add(tmp_path, cells("ab"), encode=no_encoder)
    assert counts(summary) == (0, 0, 24, 0, 0)
    assert {row["response"] for row in content(cache)} >= {"q0 a", "q11 b"}
    load_table(cache, summary.suite)


def test_a_suite_of_the_same_cache_never_changes_another(tmp_path: Path) -> None:
    _, cache = add(tmp_path, cells("a", response="x", score=1.0), name="first")
    before = content(cache, "first")
    with pytest.raises(CacheError, match=r"score 0 in suite second, and 1 in another suite.*--cache"):
        add(tmp_path, cells("a", response="x", score=0.0), name="second")
    assert cache.suites.names() == ["first"]
    assert content(cache, "first") == before


def test_models_are_not_dropped_until_none_is_left(tmp_path: Path) -> None:
    add(tmp_path, cells("ab"))
    further = [row | {"sample": 1} for row in cells("ab", [0])]
    with pytest.raises(BenchmarkError, match="Every model lacks a response to some question, path or sample"):
        add(tmp_path, further, missing="drop-model")


def test_names_that_no_command_could_use_are_refused(tmp_path: Path) -> None:
    for name, message in (
        ("quickstart", "shipped suite"),
        ("a/b", "not the name"),
        ("s.toml", "not the name"),
        ("", "not the"),
    ):
        with pytest.raises(SuiteError, match=message):
            add(tmp_path, cells("a"), name=name)
    cache = Cache(tmp_path / "c.duckdb")
    cache.create()
    cache.suites.record(resolve(suite_config(horizon=1), Workspace(tmp_path, tmp_path)))
    with pytest.raises(SuiteError, match="was generated"):
        add(tmp_path, cells("a"), name="scripted")


def test_names_are_free_and_unprintable_ones_are_refused(tmp_path: Path) -> None:
    names = ["GPT 4 (turbo)", "千问-7B", "a/b:c@d", "ü", "[bold]", "'; DROP TABLE x --", "$x$"]
    rows = [row | {"model": name, "benchmark": f"B {name}"} for name in names for row in cells("a")]
    rows += [row | {"model": other} for row in rows for other in names if other != row["model"]]
    summary, cache = add(tmp_path, rows)
    assert [model.name for model in summary.suite.models] == names
    reread = cache.suites.get("s")
    assert reread is not None
    assert [entry.name for entry in reread.config.benchmarks] == [f"B {name}" for name in names]
    for name in ("a\x1b[31m", "a\u202eb", "a\nb", " a", "a ", "", "x" * 300, "a > b", "\ud800"):
        for column in ("model", "benchmark"):
            with pytest.raises(BenchmarkError, match=f"row 1, column {column}: ") as error:
                add(tmp_path, cells("a", **{column: name}))
            assert str(error.value).isprintable()


def tokens(models: str, items: Sequence[int] = range(12)) -> Rows:
    rows = [row | {"prompt_tokens": 10, "completion_tokens": ord(row["model"]) - 90} for row in cells(models, items)]
    return [{name: value for name, value in row.items() if name != "cost"} for row in rows]


def test_no_model_is_priced_silently(tmp_path: Path) -> None:
    rate = (2.0, 3.0)
    for rates, message in (
        ({"a": rate}, "and b has no price.*--rate 'b=IN,OUT'"),
        ({"a": rate, "b": rate, "z": rate}, "no model 'z' to price"),
    ):
        with pytest.raises(BenchmarkError, match=message):
            add(tmp_path, tokens("ab"), rates=rates)
    with pytest.raises(BenchmarkError, match="gives the costs of that model"):
        add(tmp_path, cells("ab"), rates={"a": rate})
    summary, _ = add(tmp_path, tokens("ab"), rates={"a": rate, "b": rate})
    with pytest.raises(BenchmarkError, match="and c has no price"):
        add(tmp_path, tokens("c"))
    summary, cache = add(tmp_path, tokens("c"), rates={"c": (5.0, 5.0)})
    assert [model.rate_in for model in summary.suite.models] == [2.0, 2.0, 5.0]
    summary, _ = add(tmp_path, tokens("a"), rates={"a": (7.0, 3.0)})  # another price changes no result
    assert [model.rate_in for model in summary.suite.models] == [7.0, 2.0, 5.0]
    assert load_table(cache, summary.suite).hop_cost[:, 1:].mean(axis=0) == pytest.approx([91 / 95, 44 / 95, 1.0])


def test_without_any_rate_every_token_costs_the_same(tmp_path: Path) -> None:
    add(tmp_path, tokens("ab"))
    summary, _ = add(tmp_path, tokens("c"))
    assert [model.rate_in for model in summary.suite.models] == [1.0, 1.0, 1.0]
    with pytest.raises(BenchmarkError, match="and a, b, c has no price"):
        add(tmp_path, tokens("d"), rates={"d": (2.0, 2.0)})
    add(tmp_path, cells("c"), name="costs")
    with pytest.raises(BenchmarkError, match="and d has no price"):
        add(tmp_path, tokens("d"), name="costs")
