"""An engine may raise, hang, or be unreachable: its prompt fails, and no other prompt loses its response."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.cli import app
from toolkit.core.errors import EngineError, IncompleteCacheError
from toolkit.core.text import well_formed
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, Prompt, TransientError
from toolkit.engines.guard import MAX_CONSECUTIVE_FAILURES
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.generation.state import GenerationReport
from toolkit.generation.verify import verify
from toolkit.replay.table import EXCLUDED, load_table
from toolkit.report.generation import render as render_report
from toolkit.report.status import render
from toolkit.store import Cache
from toolkit.suites.suite import Suite

Interfere = Callable[[str, Sequence[Prompt]], None]
"""Is called with the name of the model before each batch; raises or hangs."""


def run(
    suite: Suite, path: Path, interfere: Interfere = lambda model, prompts: None, retry: bool = False
) -> tuple[Cache, GenerationReport]:
    script = right_answers(suite)

    class Disturbed(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            interfere(self.model.name, prompts)
            return super().generate(prompts)

    cache = Cache(path)
    engine = partial(Disturbed, script=script)
    report = generate(suite, cache, Workspace(path.parent, path.parent), engine=engine, encode=encode, retry=retry)
    return cache, report


def errors(cache: Cache) -> list[tuple[str, bool]]:
    rows = cache.arrow("SELECT DISTINCT error, transient FROM generations WHERE status = 'error'").to_pylist()
    return [(row["error"], row["transient"]) for row in rows]


@pytest.mark.parametrize(
    ("error", "reason", "transient"),
    [
        (ValueError("bad prompt"), "ValueError: bad prompt", False),
        (TransientError("server unreachable"), "TransientError: server unreachable", True),
        (ConnectionError("refused"), "ConnectionError: refused", True),
    ],
)
def test_the_prompt_that_raises_fails_alone_and_is_retried_as_its_kind(
    error: Exception, reason: str, transient: bool, suite: Suite, tmp_path: Path
) -> None:
    culprit = suite.questions[3].prompt

    def interfere(model: str, prompts: Sequence[Prompt]) -> None:
        if model == "sums" and any(culprit in prompt.text for prompt in prompts):
            raise error

    cache, report = run(suite, tmp_path / "c.duckdb", interfere)
    assert errors(cache) == [(reason, transient)]
    assert report.failed == 2  # sums at hop 1, and sums after words
    assert sum(row.missing for row in cache.suites.progress(suite.name)) == 2  # the children of the first
    shown = render(cache, suite.name)
    assert reason in shown
    assert ("by the next generate" if transient else "by generate --retry") in shown
    with pytest.raises(IncompleteCacheError, match="exclude question"):
        load_table(cache, suite)
    _, again = run(suite, tmp_path / "c.duckdb")
    assert again.generated == (4 if transient else 0)
    _, retried = run(suite, tmp_path / "c.duckdb", retry=True)
    assert retried.generated == (0 if transient else 4)
    complete, _ = run(suite, tmp_path / "complete.duckdb")
    assert content(cache) == content(complete)


def test_a_hanging_prompt_times_out_alone(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(engine={"name": "scripted", "batch_tokens": 500, "batch_timeout": 0.5}), tmp_path)
    culprit, hang = suite.questions[20].prompt, threading.Event()

    def interfere(model: str, prompts: Sequence[Prompt]) -> None:
        if model == "sums" and any(culprit in prompt.text and "Earlier" not in prompt.text for prompt in prompts):
            hang.wait()

    cache, report = run(suite, tmp_path / "c.duckdb", interfere)
    hang.set()
    assert errors(cache) == [("timeout: no response within 0.5 s (batch_timeout)", True)]
    assert report.failed == 1
    run(suite, tmp_path / "c.duckdb")
    complete, _ = run(suite, tmp_path / "complete.duckdb")
    assert content(cache) == content(complete)


def test_a_broken_engine_is_abandoned_and_untried_prompts_stay_pending(suite: Suite, tmp_path: Path) -> None:
    def interfere(model: str, prompts: Sequence[Prompt]) -> None:
        raise RuntimeError("device lost")

    with pytest.raises(EngineError, match=r"device lost.*--retry"):
        run(suite, tmp_path / "c.duckdb", interfere)
    cache = Cache(tmp_path / "c.duckdb")
    assert cache.arrow("FROM generations").num_rows == MAX_CONSECUTIVE_FAILURES
    run(suite, tmp_path / "c.duckdb", retry=True)
    complete, _ = run(suite, tmp_path / "complete.duckdb")
    assert content(cache) == content(complete)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=40), name=st.integers())
def test_any_text_of_an_engine_is_stored_and_nothing_is_asked_again(texts: list[str], name: int, tmp_path: Path) -> None:
    suite = resolve_config(suite_config(horizon=1), tmp_path)
    cache, workspace = Cache(tmp_path / f"{name}-{len(texts)}.duckdb"), Workspace(tmp_path, tmp_path)
    cache.path.unlink(missing_ok=True)

    class Labelled(ScriptedEngine):
        label = "half \ud83d"

    engine = partial(Labelled, script=lambda model, prompt: texts[prompt.seed % len(texts)])
    reports = [generate(suite, cache, workspace, engine=engine, encode=encode) for _ in range(2)]
    assert reports[0].failed == reports[1].generated == 0
    responses = {row["response"] for row in cache.arrow("SELECT DISTINCT response FROM generations").to_pylist()}
    assert responses <= {well_formed(" ".join(text.split(" ")[:16])) for text in texts}
    assert not [finding for finding in verify(cache) if finding.wrong]


@pytest.mark.parametrize("transient", [False, True])
def test_the_remedy_of_a_broken_engine_is_that_of_its_failures(transient: bool, suite: Suite, tmp_path: Path) -> None:
    def interfere(model: str, prompts: Sequence[Prompt]) -> None:
        raise ConnectionError("refused") if transient else ValueError("bad")

    path = tmp_path / "a folder" / "c.duckdb"
    with pytest.raises(EngineError, match="repeat the command") as raised:
        run(suite, path, interfere)
    assert ("--retry" in str(raised.value)) != transient
    _, report = run(suite, path, retry=not transient)
    assert (report.generated > 0, report.failed) == (True, 0)


def test_the_summary_quotes_the_most_frequent_failure_and_counts_filtered_responses() -> None:
    failures = Counter({Failure("a\x1b", True): 2, Failure("b", False): 1})
    shown = render_report(GenerationReport(generated=5, failures=failures, filtered=1), Path("c.duckdb"))
    assert r"The most frequent failure (2): a\x1b" in shown
    assert "2 responses generated" in shown
    assert "3 failed" in shown
    assert "1 withheld by a content filter (quality 0)" in shown


def test_an_engine_that_loses_responses_is_not_trusted(suite: Suite, tmp_path: Path) -> None:
    class Lossy(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            return super().generate(prompts)[: 1 if len(prompts) < 3 else -1]

    cache = Cache(tmp_path / "c.duckdb")
    script = right_answers(suite)
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=partial(Lossy, script=script), encode=encode)
    complete = Cache(tmp_path / "complete.duckdb")
    generate(suite, complete, Workspace(tmp_path, tmp_path), engine=scripted(script), encode=encode)
    assert content(cache) == content(complete)


def test_a_suite_may_exclude_questions_with_a_failure(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(incomplete="exclude question"), tmp_path)
    culprit = next(question for question in suite.questions if question.split == "train")

    def interfere(model: str, prompts: Sequence[Prompt]) -> None:
        if any(culprit.prompt in prompt.text for prompt in prompts):
            raise ValueError("bad prompt")

    cache, _ = run(suite, tmp_path / "c.duckdb", interfere)
    table = load_table(cache, suite)
    excluded = [row for row, split in enumerate(table.split) if split == EXCLUDED]
    assert excluded == [suite.questions.index(culprit)]
    complete, _ = run(suite, tmp_path / "complete.duckdb")
    full = load_table(complete, suite)
    is_included = table.split != EXCLUDED
    assert (table.quality[is_included] == full.quality[is_included]).all()
    assert len(table.rows("train")) == len(full.rows("train")) - 1


def test_excluding_failures_does_not_hide_missing_nodes(tmp_path: Path) -> None:
    suite = resolve_config(suite_config(incomplete="exclude question"), tmp_path)
    cache, _ = run(suite, tmp_path / "c.duckdb")
    with cache.write() as con:
        con.execute("DELETE FROM nodes WHERE node = (SELECT node FROM nodes WHERE depth = 2 LIMIT 1)")
    with pytest.raises(IncompleteCacheError, match="1 of"):
        load_table(cache, suite)


@pytest.mark.parametrize("incomplete", ["refuse", "exclude question"])
def test_generate_has_its_own_exit_code_after_failed_generations(
    incomplete: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolkit.engines.encoder.SuiteEncoder.__call__", lambda self, texts: encode(texts))
    suite = (
        f'name = "s"\nhorizon = 1\nincomplete = "{incomplete}"\n[prompts]\noverlength = "error"\n'
        '[engine]\nname = "scripted"\n[[benchmarks]]\nname = "addition"\nlimit = 4\n'
        f'[[models]]\nname = "m"\ncheckpoint = "made/up"\nrevision = "{"0" * 40}"\ndtype = "float32"\nbase_rate = 1.0\n'
        "max_tokens = 15\ncontext_length = "
    )
    (tmp_path / "s.toml").write_text(suite + "16\n")
    command = ["generate", str(tmp_path / "s.toml"), "--cache", str(tmp_path / "c.duckdb")]
    for retry in ([], [], ["--retry"]):
        done = CliRunner().invoke(app, [*command, *retry], catch_exceptions=False)
        assert done.exit_code == (3 if incomplete == "refuse" else 0)
        assert "4 of 4 nodes failed" in done.stderr
        assert "toolkit status" in done.stderr
        assert "--retry" in done.stderr
    (tmp_path / "s.toml").write_text(suite + "256\n")
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
