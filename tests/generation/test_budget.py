from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.content import content
from tests.generation.test_generate import run
from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import SuiteError
from toolkit.generation.budget import Budget, Unit, dollars, parse_budget
from toolkit.generation.question_groups import complete_questions
from toolkit.replay.table import load_table
from toolkit.store import Batch, Cache
from toolkit.store.generations import Generations
from toolkit.suites.config import SuiteConfig
from toolkit.suites.suite import Suite


@pytest.mark.parametrize(
    ("text", "amount", "unit", "formatted"),
    [
        ("2h", 7200, "seconds", "2 h"),
        ("1h30m", 5400, "seconds", "1 h 30 min"),
        ("1 h 30 min", 5400, "seconds", "1 h 30 min"),
        ("1.5d", 129600, "seconds", "36 h"),
        ("45s", 45, "seconds", "45 s"),
        ("5M tokens", 5e6, "tokens", "5M tokens"),
        ("250k tokens", 250e3, "tokens", "250k tokens"),
        ("900 tokens", 900, "tokens", "900 tokens"),
        ("10 usd", 10, "usd", "10.00 usd"),
        ("$2.50", 2.5, "usd", "2.50 usd"),
    ],
)
def test_budgets_are_parsed_and_formatted(text: str, amount: float, unit: Unit, formatted: str) -> None:
    budget = parse_budget(text)
    assert budget == Budget(amount, unit)
    assert str(budget) == formatted


@pytest.mark.parametrize("text", ["", "2", "h", "2 hours and more", "5M", "tokens", "0h", "-1h", "0 tokens", "ten usd", "2x"])
def test_other_text_is_refused_with_examples(text: str) -> None:
    with pytest.raises(SuiteError, match=r"--budget takes .*2h.*5M tokens.*10 usd"):
        parse_budget(text)


def test_dollars_by_hand() -> None:
    prices = {"a": (0.5, 2.0)}
    assert dollars(1.5, 4.0, {"a": (2_000_000, 500_000), "free": (9, 9)}, prices) == 1.5 * 4 + 2 * 0.5 + 0.5 * 2


def tokens_of(cache: Cache) -> int:
    row = cache.arrow("SELECT sum(prompt_tokens + completion_tokens) AS tokens FROM generations").to_pylist()[0]
    return int(row["tokens"] or 0)


def complete_by_benchmark(suite: Suite, cache: Cache) -> Counter[str]:
    complete = complete_questions(suite, cache)
    return Counter(question.benchmark for question in suite.questions if question.key in complete)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_a_budget_in_tokens_is_kept_and_spent_on_complete_questions_of_every_benchmark(
    suite: Suite, tmp_path: Path, share: float
) -> None:
    complete, _, _ = run(suite, tmp_path / "complete.duckdb")
    amount = share * tokens_of(complete)
    cache, report, _ = run(suite, tmp_path / "c.duckdb", budget=Budget(amount, "tokens"))
    assert report.exhausted
    assert not report.stopped
    assert tokens_of(cache) == report.spent.tokens <= amount
    counts = complete_by_benchmark(suite, cache)
    assert sum(counts.values()) >= 0.6 * share * len(suite.questions)
    assert max(counts.values()) - min(counts[benchmark.name] for benchmark in suite.config.benchmarks) <= 1
    for _ in range(20):
        cache, report, _ = run(suite, cache.path, budget=Budget(amount, "tokens"))
        if not report.exhausted:
            break
    assert content(cache) == content(complete)


@pytest.mark.parametrize(
    ("unit", "engine"),
    [
        ("usd", {"usd_per_million_tokens": {"sums": [1000.0, 2000.0], "words": [0.0, 50000.0]}}),
        ("usd", {"usd_per_hour": 36.0}),
        ("seconds", {}),
    ],
    ids=["usd by tokens", "usd by the hour", "time"],
)
def test_a_budget_in_money_or_time_is_kept(
    unit: Unit, engine: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr("toolkit.generation.budget.time", SimpleNamespace(monotonic=lambda: clock[0]))
    commit = Generations.commit_or_spool

    def tick(self: Generations, batch: Batch, wait: float) -> bool:
        clock[0] += len(batch.generations)  # one second per generation
        return commit(self, batch, wait)

    monkeypatch.setattr(Generations, "commit_or_spool", tick)
    config: SuiteConfig = suite_config(engine={"name": "scripted", "batch_tokens": 500} | engine)
    suite = resolve_config(config, tmp_path)
    _, report, _ = run(suite, tmp_path / "complete.duckdb")
    amount = 0.5 * report.spent.of(unit)
    assert amount > 0
    cache, report, _ = run(suite, tmp_path / "c.duckdb", budget=Budget(amount, unit))
    assert report.exhausted
    assert 0.4 * amount <= report.spent.of(unit) <= amount
    assert 0 < len(complete_questions(suite, cache)) < len(suite.questions)


def test_the_complete_questions_of_a_budget_can_be_trained_on(suite: Suite, tmp_path: Path) -> None:
    cache, _, _ = run(suite, tmp_path / "c.duckdb", budget=Budget(4000, "tokens"))
    counts = complete_by_benchmark(suite, cache)
    limit = min(counts[benchmark.name] for benchmark in suite.config.benchmarks)
    assert 0 < limit < 8
    limited = resolve_config(suite.config.limited(limit), tmp_path)
    cache, report, batches = run(limited, cache.path)
    assert not batches
    assert report.generated == 0
    assert len(load_table(cache, limited).split) == 3 * limit


@given(size=st.integers(1, 60), unit=st.integers(0, 2))
def test_a_formatted_budget_parses_to_the_same_budget(size: int, unit: int) -> None:
    budget = Budget(size * [3600, 1e6, 1][unit], ("seconds", "tokens", "usd")[unit])
    assert parse_budget(str(budget)) == budget
