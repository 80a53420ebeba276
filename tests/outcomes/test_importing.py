"""Results of other people replay exactly as given; malformed and missing ones are reported."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.outcomes.tables import options_of
from tests.scripted import encode
from toolkit.core.errors import BenchmarkError, CacheError, SuiteError
from toolkit.core.tree import path_of
from toolkit.generation.verify import verify
from toolkit.outcomes.importing import ImportSummary, import_results
from toolkit.replay.table import load_table
from toolkit.report.question import render, tree_of
from toolkit.routing.evaluate import evaluate
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.benchmarks import synthetic_benchmarks
from toolkit.suites.config import TrainConfig

Rows = list[dict[str, Any]]
MODELS = ("org/small", "large", "third")


def make_rows(hops: int = 1, questions: int = 24) -> Rows:
    """Return complete results whose scores and costs are known functions of question and path."""
    return [
        {
            "benchmark": ("gsm8k", "other")[n % 2],
            "item": f"i{n}",
            "question": f"Question {n}?",
            "path": " > ".join(path),
            "model": path[-1],
            "response": f"{n} by {path}",
            "cost": 0.001 * (n + 1) * (MODELS.index(path[-1]) + 1),
            "score": ((n + sum(map(len, path))) % 5) / 4,
        }
        for n in range(questions)
        for depth in range(1, hops + 1)
        for path in itertools.product(MODELS, repeat=depth)
    ]


def import_rows(folder: Path, rows: Rows, format: str = "csv", **options: Any) -> tuple[ImportSummary, Cache]:
    path, cache = folder / f"table.{format}", Cache(folder / "c.duckdb")
    frame = pl.DataFrame(rows, infer_schema_length=None)
    getattr(frame, {"csv": "write_csv", "jsonl": "write_ndjson", "parquet": "write_parquet"}[format])(path)
    return import_results(path, "theirs", cache, folder / "weights", options_of(**options), encode=encode), cache


def test_a_currency_is_kept_and_changes_no_key(tmp_path: Path) -> None:
    rows = make_rows()
    plain, cache = import_rows(tmp_path, rows)
    assert plain.suite.config.currency is None
    priced, _ = import_rows(tmp_path, rows, currency="EUR")
    assert (priced.suite.key, priced.suite.config.currency) == (plain.suite.key, "EUR")
    again, _ = import_rows(tmp_path, rows)
    recorded = cache.suites.get("theirs")
    assert recorded
    assert again.suite.config.currency == recorded.config.currency == "EUR"


def test_a_currency_needs_money(tmp_path: Path) -> None:
    rows = [{**row, "cost": None, "prompt_tokens": 10, "completion_tokens": 5} for row in make_rows()]
    with pytest.raises(SuiteError, match="--rate 'org/small=IN,OUT'"):
        import_rows(tmp_path, rows, currency="USD")
    rates = dict.fromkeys(MODELS, (1e-6, 2e-6))
    summary, _ = import_rows(tmp_path, rows, currency="USD", rates=rates)
    assert summary.suite.config.currency == "USD"


@pytest.mark.parametrize("currency", ["usd", "$", "USD ", "DOLLARS", ""])
def test_a_currency_is_three_letters(currency: str, tmp_path: Path) -> None:
    with pytest.raises((BenchmarkError, SuiteError), match="currency"):
        import_rows(tmp_path, make_rows(), currency=currency)


@pytest.mark.parametrize(("format", "hops"), [("csv", 1), ("jsonl", 2), ("parquet", 2)])
def test_results_replay_exactly(format: str, hops: int, tmp_path: Path) -> None:
    rows = make_rows(hops)
    summary, cache = import_rows(tmp_path, rows, format)
    assert (summary.cells, summary.n_missing) == (len(rows), 0)
    assert [model.name for model in summary.suite.models] == list(MODELS)
    table = load_table(cache, summary.suite)
    unit = cache.arrow("SELECT cost_unit FROM suites")["cost_unit"][0].as_py()
    items = [question.item for question in summary.suite.questions]
    for row in rows:
        path = row["path"].split(" > ")
        node = next(n for n in range(1, table.quality.shape[1]) if [MODELS[a] for a in path_of(n, 3)] == path)
        assert table.quality[items.index(row["item"]), node] == row["score"]
        assert table.hop_cost[items.index(row["item"]), node] == pytest.approx(row["cost"] / unit)
    in_train = [row for row in rows if table.split[items.index(row["item"])] == "train" and " > " not in row["path"]]
    assert unit == pytest.approx(max(np.mean([r["cost"] for r in in_train if r["model"] == m]) for m in MODELS))
    transitions = cache.arrow("SELECT item, path, response, quality FROM transitions").to_pylist()
    replayed = {(row["item"], tuple(row["path"])): (row["response"], row["quality"]) for row in transitions}
    assert replayed == {(row["item"], tuple(row["path"].split(" > "))): (row["response"], row["score"]) for row in rows}
    assert not any(finding.wrong for finding in verify(cache))


def test_imported_results_train_evaluate_and_show(tmp_path: Path) -> None:
    summary, cache = import_rows(tmp_path, make_rows())
    table = load_table(cache, summary.suite)
    trained = train(summary.suite, cache, TrainConfig(timesteps=500), 0, tmp_path / "runs")
    evaluation, probabilities = evaluate(
        table, load_router(trained.path), "test", synthetic_benchmarks(summary.suite.config.benchmarks)
    )
    assert np.isfinite(probabilities).all()
    assert not any(result.synthetic for result in evaluation.results)
    assert "org/small  [Q " in render(tree_of(cache, "gsm8k/i0", None, 0))


def test_tokens_are_priced_by_rates(tmp_path: Path) -> None:
    rows = [
        {k: v for k, v in row.items() if k != "cost"} | {"prompt_tokens": 10, "completion_tokens": 2} for row in make_rows()
    ]
    rates = dict.fromkeys(MODELS, (1.0, 1.0)) | {"large": (3.0, 5.0)}
    summary, cache = import_rows(tmp_path, rows, rates=rates)
    table = load_table(cache, summary.suite)
    assert table.hop_cost[:, 1:] == pytest.approx(np.tile([12 / 40, 1, 12 / 40], (24, 1)))
    with pytest.raises(BenchmarkError, match=r"no model 'x' to price.*large"):
        import_rows(tmp_path, rows, rates={"x": (1.0, 1.0)})


def test_results_without_response_texts_have_scores(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "response"} for row in make_rows(2)]
    summary, cache = import_rows(tmp_path, rows)
    table = load_table(cache, summary.suite)
    assert table.quality[:, 1:].sum() == pytest.approx(sum(row["score"] for row in rows))
    assert not table.texts[:, 1:, 1].any()
    assert not any(finding.wrong for finding in verify(cache))
    assert "[Q " in render(tree_of(cache, "gsm8k/i0", None, 0))


def test_missing_cells_are_counted_refused_or_excluded_and_filled_later(tmp_path: Path) -> None:
    rows = make_rows()
    incomplete = [row | {"score": None} if n == 4 else row for n, row in enumerate(rows) if n not in (0, 1)]
    summary, cache = import_rows(tmp_path, incomplete)
    assert summary.n_missing == 3
    assert summary.missing[0] == "gsm8k/i0: org/small"
    table = load_table(cache, summary.suite)
    assert table.available is not None
    assert (~table.available).sum() == 3
    summary, cache = import_rows(tmp_path, incomplete, missing="drop-question")
    assert set(np.flatnonzero(load_table(cache, summary.suite).split == "excluded")) == {
        position for position, question in enumerate(summary.suite.questions) if question.item in ("i0", "i1")
    }
    summary, cache = import_rows(tmp_path, rows)
    assert summary.n_missing == 0
    assert load_table(cache, summary.suite).quality[:, 1:].sum() == pytest.approx(sum(row["score"] for row in rows))


def test_a_second_import_adds_nothing_and_differences_are_refused_or_preferred(tmp_path: Path) -> None:
    rows = make_rows()
    import_rows(tmp_path, rows)
    repeated, cache = import_rows(tmp_path, list(reversed(rows)))
    assert (repeated.changes.equal, repeated.changes.cells.height, repeated.plan.texts) == (len(rows), 0, [])
    for column, value in (("score", 0.125), ("cost", 9.0)):
        other = [row | {column: value} if n == 7 else row for n, row in enumerate(rows)]
        with pytest.raises(CacheError, match=rf"row 8.*column {column}: .*large.*--prefer"):
            import_rows(tmp_path, other)
        import_rows(tmp_path, other, prefer="ours")
        assert cache.arrow("SELECT * FROM scores WHERE value = 0.125").num_rows == 0
    summary, cache = import_rows(tmp_path, other, prefer="theirs")
    assert cache.arrow("SELECT * FROM generations WHERE cost = 9.0").num_rows == 1
    assert load_table(cache, summary.suite).hop_cost.max() > 1


MALFORMED: list[tuple[Callable[[Rows], Rows], str]] = [
    (lambda rows: [{k: v for k, v in row.items() if k != "question"} for row in rows], "lacks the columns question"),
    (lambda rows: [*rows, rows[3]], "row 73 is the same cell as row 4"),
    (lambda rows: [rows[0] | {"score": 40.0}, *rows[1:]], r"row 1, column score: 40 .*--clip"),
    (lambda rows: [*rows[:2], rows[2] | {"question": "Else?"}, *rows[3:]], "row 3, column question: it has another"),
    (lambda rows: [rows[0], rows[1] | {"cost": None}, *rows[2:]], "row 2, column cost: a row needs a cost, or"),
    (lambda rows: [rows[0], rows[1] | {"cost": -1.0}, *rows[2:]], "row 2, column cost: -1 is not a cost"),
    (lambda rows: [rows[0], rows[1] | {"path": "large > third"}, *rows[2:]], "row 2, column path: large > third does not"),
    (lambda rows: [row | {"benchmark": "a\x07b"} for row in rows], r"row 1, column benchmark: .*a\\x07b.* cannot be printed"),
    (lambda rows: [row | {"score": None} for row in rows], "no row with a score"),
]  # fmt: skip


@pytest.mark.parametrize(("corrupt", "message"), MALFORMED)
def test_a_malformed_table_is_refused_completely(corrupt: Callable[[Rows], Rows], message: str, tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=message):
        import_rows(tmp_path, corrupt(make_rows()), "jsonl")
    assert not (tmp_path / "c.duckdb").exists()
