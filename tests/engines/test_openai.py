"""The engine openai with servers that fail in every way; test_contract.py runs it with a real server and real weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engines.test_transformers import prompts
from tests.scripted import encode, resolve_config, suite_config
from tests.serving import ScriptedReplies, faulty_proxy, rule, scripted_server
from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, Prompt
from toolkit.engines.openai import OpenAIEngine
from toolkit.generation.generate import generate
from toolkit.report.generation import render
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig

SERVED = {"name": "hosted", "checkpoint": "served:some-model", "base_rate": 1.0}


def open_engine(url: str, folder: Path, server: dict[str, Any] | None = None, **model: Any) -> OpenAIEngine:
    config = EngineConfig.model_validate({"name": "openai", "server": {"url": url, "retries": 0, **(server or {})}})
    return OpenAIEngine(config, ModelConfig.model_validate(SERVED | model), Workspace(folder, folder))


def chat(number: int) -> Prompt:
    return Prompt(json.dumps([{"role": "user", "content": f"Question {number}, ü?"}], ensure_ascii=False), 0, number)


def test_a_thousand_requests_through_a_faulty_proxy_get_the_right_response_or_a_reason(tmp_path: Path) -> None:
    with scripted_server(ScriptedReplies()) as upstream, faulty_proxy(upstream, 0.4, seed=1, delay=1.0) as (url, faults):
        engine = open_engine(url, tmp_path, {"retries": 2, "timeout": 0.5, "concurrency": 16})
        requests = [chat(number) for number in range(1000)]
        outcomes = engine.generate(requests)
        engine.close()
    assert len(outcomes) == 1000
    for prompt, outcome in zip(requests, outcomes, strict=True):
        if isinstance(outcome, Completion):
            assert outcome == Completion(rule(prompt.text), 5, "stop", 7)
        else:
            assert outcome.transient
            assert outcome.reason
    failed = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert 0 < len(failed) < 300
    assert all(faults[fault] > 20 for fault in ("drop", "truncate", "429", "500", "delay", "none"))


def test_the_tokens_and_the_model_that_the_server_reports_are_recorded_and_checked(tmp_path: Path) -> None:
    with scripted_server(ScriptedReplies()) as url:
        assert open_engine(url, tmp_path, fingerprint="fp_1").generate([chat(1)]) == [
            Completion(rule(chat(1).text), 5, "stop", 7)
        ]
        with pytest.raises(EngineError, match="fp_2"):
            open_engine(url, tmp_path, fingerprint="fp_2").generate([chat(1)])
    with (
        scripted_server(ScriptedReplies(model="another-model")) as url,
        pytest.raises(EngineError, match="served:another-model"),
    ):
        open_engine(url, tmp_path).generate([chat(1)])
    with scripted_server(ScriptedReplies(usage=None)) as url, pytest.raises(EngineError, match="how many tokens"):
        open_engine(url, tmp_path).generate([chat(1)])


def test_a_server_with_another_tokenizer_is_refused(llama: Path, tmp_path: Path) -> None:
    with scripted_server(ScriptedReplies()) as url:
        engine = open_engine(url, tmp_path, checkpoint=str(llama), dtype="float32")
        with pytest.raises(EngineError, match="add_special_tokens"):
            engine.generate(prompts(engine))


def test_prompts_are_sent_as_token_ids_if_the_suite_says_so(llama: Path, tmp_path: Path) -> None:
    replies = ScriptedReplies(usage=None)
    with scripted_server(replies) as url:
        engine = open_engine(url, tmp_path, {"tokens": True}, checkpoint=str(llama), dtype="float32")
        (prompt, *_) = prompts(engine)
        assert isinstance(engine.generate([prompt])[0], Completion)
    (request,) = replies.requests
    assert len(request["prompt"]) == prompt.tokens
    assert engine.chat
    assert engine.chat.tokenizer.decode(request["prompt"]) == prompt.text


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ({"choices": []}, "0 choices"),
        ({"choices": [{"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant"}}]}, "content filter"),
    ],
)
def test_a_reply_without_a_response_is_a_failure(tmp_path: Path, override: dict[str, Any], reason: str) -> None:
    with scripted_server(ScriptedReplies(**override)) as url:
        (outcome,) = open_engine(url, tmp_path).generate([chat(1)])
    assert isinstance(outcome, Failure)
    assert reason in outcome.reason


def test_settings_reach_the_server_and_the_seed_is_the_prompt_s(tmp_path: Path) -> None:
    replies = ScriptedReplies()
    with scripted_server(replies) as url:
        open_engine(url, tmp_path, {"extra": {"top_k": 5}}, temperature=0.7, top_p=0.9, stop=["\n"], max_tokens=9).generate(
            [chat(41)]
        )
        open_engine(url, tmp_path, {"limit": "max_completion_tokens"}, max_tokens=9).generate([chat(41)])
    sampled, greedy = replies.requests
    assert {
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 41,
        "stop": ["\n"],
        "max_tokens": 9,
        "top_k": 5,
    }.items() <= sampled.items()
    assert greedy["temperature"] == 0
    assert greedy["max_completion_tokens"] == 9
    assert not {"seed", "max_tokens"} & greedy.keys()


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EngineError, match="MY_KEY"):
        open_engine("https://api.example.org/v1", tmp_path, {"api_key": "MY_KEY"})
    monkeypatch.setenv("MY_KEY", "sk-secret")
    replies = ScriptedReplies()
    with scripted_server(replies) as url:
        engine = open_engine(url, tmp_path, {"api_key": "MY_KEY"})
        engine.generate([chat(1)])
    assert replies.keys == {"Bearer sk-secret"}
    assert "sk-secret" not in engine.label
    engine.client.base_url = "http://127.0.0.1:1/v1"
    (outcome,) = engine.generate([chat(1)])
    assert isinstance(outcome, Failure)
    assert outcome.transient
    assert "sk-secret" not in outcome.reason


@pytest.mark.parametrize(
    ("details", "cached", "lines"),
    [({"cached_tokens": 3}, 288, ["Prompt tokens that the engine had already read: 43% of 672"]), (None, None, [])],
)
def test_a_run_reports_the_tokens_that_its_server_counts(
    details: object, cached: int | None, lines: list[str], tmp_path: Path
) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 5, "prompt_tokens_details": details}
    with scripted_server(ScriptedReplies(usage=usage)) as url:
        models = [{"name": name, "checkpoint": f"served:{name}", "base_rate": 1.0} for name in ("one", "two")]
        config = suite_config(models=models, engine={"name": "openai", "server": {"url": url}})
        cache = Cache(tmp_path / "cache.duckdb")
        suite, workspace = resolve_config(config, tmp_path), Workspace(tmp_path, tmp_path)
        report = generate(suite, cache, workspace, encode=encode)
    assert report.generated == 96
    assert report.spent.tokens == 96 * (7 + 5)
    assert (report.prompt_tokens, report.cached_tokens) == (96 * 7, cached)
    assert render(report, cache.path).splitlines()[1:] == lines


def test_a_suite_is_generated_by_a_server_and_failures_are_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    replies = ScriptedReplies()
    with scripted_server(replies) as upstream, faulty_proxy(upstream, 0.5, seed=2, delay=0.0) as (url, _):
        server = {"url": url, "retries": 0, "timeout": 5.0}
        models = [{"name": name, "checkpoint": f"served:{name}", "base_rate": 1.0} for name in ("one", "two")]
        config = suite_config(models=models, engine={"name": "openai", "server": server, "batch_tokens": 500})
        suite, cache = resolve_config(config, tmp_path), Cache(tmp_path / "cache.duckdb")
        reports = [generate(suite, cache, Workspace(tmp_path, tmp_path), encode=encode) for _ in range(30)]
    assert reports[0].failed > 0
    assert (reports[-1].generated, reports[-1].failed) == (0, 0)
    rows = cache.arrow("SELECT question_prompt, response, status, prompt_tokens, completion_tokens, depth FROM transitions")
    assert rows.num_rows == 24 * (2 + 4)
    for row in rows.to_pylist():
        assert (row["status"], row["prompt_tokens"], row["completion_tokens"]) == ("ok", 7, 5)
        if row["depth"] == 1:
            assert row["response"] in {
                rule(text) for text in replies.prompts if json.dumps(row["question_prompt"])[1:-1] in text
            }
    assert b"sk-secret" not in cache.path.read_bytes()
