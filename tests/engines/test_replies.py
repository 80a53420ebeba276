"""Whatever a server says or does not say: one sentence with its address, the cause and the remedy, of the right class."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engines.test_openai import chat, open_engine
from tests.scripted import encode, resolve_config, suite_config
from tests.serving import ScriptedReplies, raw_server, rule, scripted_server
from toolkit.core.errors import EngineError
from toolkit.core.text import well_formed
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, Outcome
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Suite
from toolkit.tasks.metrics import FILTERED

USAGE = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}


def choice(text: object = "yes", reason: object = "stop", **message: object) -> dict[str, Any]:
    return {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": text} | message}


def reply(**fields: object) -> bytes:
    """Return a reply of the chat endpoint with other fields than the usual ones; `...` leaves a field out."""
    whole = {"id": "1", "model": "some-model", "choices": [choice()], "usage": USAGE} | fields
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def error(code: str = "", message: str = "those words", **fields: object) -> bytes:
    return json.dumps({"error": {"message": message, "code": code} | fields}).encode()


def ask(folder: Path, status: int, body: bytes, headers: dict[str, str] | None = None, **server: Any) -> tuple[Outcome, str]:
    """Ask a server once; return the outcome and the server's address."""
    with raw_server(lambda request: (status, body, headers or {})) as url:
        (outcome,) = open_engine(url, folder, server).generate([chat(1)])
    return outcome, url


TRANSIENT: dict[str, tuple[int, bytes, str]] = {
    "time-out of a proxy": (408, b"", "overloaded"),
    "too many requests": (429, error("rate_limit_exceeded"), "HTTP 429: 'those words'"),
    "internal error": (500, b"<html>oops</html>", "HTTP 500: '<html>oops</html>'"),
    "bad gateway": (502, b"", "HTTP 502"),
    "unavailable": (503, error(), "overloaded"),
    "HTML": (200, b"<html><body>Log in</body></html>", "not JSON: '<html>"),
    "empty body": (200, b"", "not JSON"),
    "truncated JSON": (200, reply()[:-9], "cut off"),
    "nested too deep": (200, b"[" * 100_000, "not JSON"),
    "a list": (200, b"[]", "no choices"),
    "null": (200, b"null", "no choices"),
    "an error with 200": (200, error(), "those words"),
    "no choices": (200, reply(choices=...), "no choices"),
    "choices of another shape": (200, reply(choices={"0": "a"}), "no choices"),
    "zero choices": (200, reply(choices=[]), "0 choices"),
    "two choices": (200, reply(choices=[choice(), choice()]), "2 choices"),
    "a choice of another shape": (200, reply(choices=["yes"]), "1 choices"),
    "message null": (200, reply(choices=[{"index": 0, "finish_reason": "stop", "message": None}]), "without a message"),
    "message of another shape": (200, reply(choices=[{"finish_reason": "stop", "message": "yes"}]), "without a message"),
    "aborted": (200, reply(choices=[choice(reason="abort")]), "finish_reason 'abort'"),
    "unfinished": (200, reply(choices=[choice(reason=None)]), "finish_reason 'None'"),
}
PERMANENT: dict[str, tuple[int, bytes, str]] = {
    "too long": (400, error("context_length_exceeded"), "rejects the prompt (HTTP 400: 'those words')"),
    "too large": (413, b"", "rejects the prompt"),
    "unprocessable": (422, b'{"detail": "no"}', 'HTTP 422: \'{"detail": "no"}\''),
    "null content": (200, reply(choices=[choice(None)]), "null in place of a text"),
    "null content, cut off": (200, reply(choices=[choice(None, "length", reasoning_content="hm")]), "max_tokens"),
    "content missing": (200, reply(choices=[{"finish_reason": "stop", "message": {"role": "assistant"}}]), "null in place"),
    "content in parts": (200, reply(choices=[choice([{"type": "text", "text": "a"}])]), "list in place of a text"),
    "tool calls": (200, reply(choices=[choice(None, "tool_calls", tool_calls=[{"id": "1"}])]), "call of a tool"),
    "an old call": (200, reply(choices=[choice(None, "function_call", function_call={"name": "f"})]), "call of a tool"),
}
FILTERED_REPLIES: dict[str, tuple[int, bytes, str]] = {
    "filtered response": (200, reply(choices=[choice("half a resp", "content_filter")]), "content filter"),
    "filtered, no content": (200, reply(choices=[{"finish_reason": "content_filter"}]), "content filter"),
    "refusal": (200, reply(choices=[choice(None, refusal="I cannot")]), "I cannot"),
    "filtered prompt": (400, error("content_filter", innererror={"code": "x"}), "HTTP 400"),
    "filtered prompt, inner code": (400, error(innererror={"code": "ResponsibleAIPolicyViolation"}), "HTTP 400"),
}
WHOLE: dict[str, tuple[int, bytes, str]] = {
    "wrong key": (401, error("invalid_api_key"), r"refuses the API key in OPENAI_API_KEY .*HTTP 401: 'those words'.*export"),
    "no right": (403, b"", r"refuses the API key in OPENAI_API_KEY for model 'some-model'"),
    "no credit": (429, error("insufficient_quota"), r"paid.*those words.*Add credit"),
    "no credit, by status": (402, error(), r"paid.*Add credit"),
    "unknown model": (404, error("model_not_found"), r"no model 'some-model'.*served"),
    "wrong address": (404, b"<html>", r"no API at this address.*/v1"),
    "wrong method": (405, b"", r"no API at this address"),
    "unknown field": (400, error("unsupported_parameter", "use max_completion_tokens"), r"use max_completion_tokens.*limit"),
    "another model": (200, reply(model="other"), r"responds as 'other'.*served:other"),
    "no model": (200, reply(model=...), r"does not say which model"),
    "model null": (200, reply(model=None), r"does not say which model"),
    "model a number": (200, reply(model=7), r"does not say which model"),
    "usage missing": (200, reply(usage=...), r"no completion_tokens .*reports usage"),
    "usage null": (200, reply(usage=None), r"no completion_tokens"),
    "usage a list": (200, reply(usage=[1]), r"no completion_tokens"),
    "count null": (200, reply(usage=USAGE | {"completion_tokens": None}), r"completion_tokens = None"),
    "count zero": (200, reply(usage=USAGE | {"completion_tokens": 0}), r"completion_tokens = 0.*at least 1"),
    "count negative": (200, reply(usage=USAGE | {"completion_tokens": -5}), r"completion_tokens = -5"),
    "count a fraction": (200, reply(usage=USAGE | {"completion_tokens": 2.5}), r"completion_tokens = 2\.5"),
    "count a text": (200, reply(usage=USAGE | {"completion_tokens": "5"}), r"completion_tokens = '5'"),
    "count true": (200, reply(usage=USAGE | {"completion_tokens": True}), r"completion_tokens = True"),
    "count huge": (200, reply(usage=USAGE | {"completion_tokens": 2**40}), r"completion_tokens = 1099511627776"),
    "count of 5,000 digits": (
        200,
        reply().replace(b'"completion_tokens": 5', b'"completion_tokens": ' + b"9" * 5000),
        r"= inf",
    ),
    "count not a number": (200, reply(usage=USAGE | {"completion_tokens": float("nan")}), r"completion_tokens = nan"),
    "prompt of zero tokens": (200, reply(usage=USAGE | {"prompt_tokens": 0}), r"prompt_tokens = 0.*at least 1"),
    "prompt count null": (200, reply(usage=USAGE | {"prompt_tokens": None}), r"prompt_tokens = None"),
}


@pytest.mark.parametrize("kind", TRANSIENT)
def test_what_may_pass_is_a_transient_failure(kind: str, tmp_path: Path) -> None:
    status, body, words = TRANSIENT[kind]
    outcome, url = ask(tmp_path, status, body)
    assert isinstance(outcome, Failure)
    assert outcome.transient
    assert outcome.reason.startswith(url)
    assert words in outcome.reason


@pytest.mark.parametrize("kind", PERMANENT)
def test_what_the_prompt_causes_is_a_permanent_failure(kind: str, tmp_path: Path) -> None:
    status, body, words = PERMANENT[kind]
    outcome, url = ask(tmp_path, status, body)
    assert isinstance(outcome, Failure)
    assert not outcome.transient
    assert outcome.reason.startswith(url)
    assert words in outcome.reason


@pytest.mark.parametrize("kind", WHOLE)
def test_what_concerns_every_prompt_is_an_error_of_the_engine(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    status, body, words = WHOLE[kind]
    with pytest.raises(EngineError, match=f"^http://127.0.0.1:.*{words}") as raised:
        ask(tmp_path, status, body)
    assert str(raised.value).endswith(".")


@pytest.mark.parametrize("kind", FILTERED_REPLIES)
def test_a_withheld_response_fails_for_good_or_counts_as_quality_zero(kind: str, tmp_path: Path) -> None:
    status, body, words = FILTERED_REPLIES[kind]
    outcome, url = ask(tmp_path, status, body)
    assert isinstance(outcome, Failure)
    assert (outcome.transient, outcome.prompt_only) == (False, True)
    assert outcome.reason.startswith(url)
    assert words in outcome.reason
    assert 'filtered = "zero"' in outcome.reason
    reported = (5, 7) if status == 200 else (0, 0)
    outcome, _ = ask(tmp_path, status, body, filtered="zero")
    assert outcome == Completion(FILTERED, reported[0], "content_filter", reported[1])


@pytest.mark.parametrize(("reason", "tokens"), [("stop", 0), ("stop", 1), ("length", 16)])
def test_an_empty_text_is_a_response(reason: str, tokens: int, tmp_path: Path) -> None:
    body = reply(choices=[choice("", reason)], usage=USAGE | {"completion_tokens": tokens})
    assert ask(tmp_path, 200, body)[0] == Completion("", tokens, reason, 7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("details", "cached"),
    [
        ({"cached_tokens": 4}, 4),
        ({"cached_tokens": 0}, 0),
        ({"cached_tokens": 8}, None),  # more than the prompt has
        ({"cached_tokens": -1}, None),
        ({"cached_tokens": True}, None),
        ({"cached_tokens": "4"}, None),
        ({}, None),
        ([], None),
        (None, None),
    ],
)
def test_tokens_that_the_server_had_read_before_are_counted_if_it_says_so(
    details: object, cached: int | None, tmp_path: Path
) -> None:
    body = reply(usage=USAGE | {"prompt_tokens_details": details})
    assert ask(tmp_path, 200, body)[0] == Completion("yes", 5, "stop", 7, cached)


@pytest.mark.parametrize("retry_after", [{}, {"Retry_After": "0.01"}, {"Retry_After": "soon"}])
def test_too_many_requests_are_sent_again(retry_after: dict[str, str], tmp_path: Path) -> None:
    replies = iter([(429, error(), retry_after), (200, reply(), {})])
    with raw_server(lambda request: next(replies)) as url:
        (outcome,) = open_engine(url, tmp_path, {"retries": 1}).generate([chat(1)])
    assert outcome == Completion("yes", 5, "stop", 7)


def test_a_key_that_the_server_repeats_is_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with pytest.raises(EngineError, match=r"wrong: \.\.\.") as raised:
        ask(tmp_path, 401, error(message="wrong: sk-secret \x1b[31m"))
    assert "sk-secret" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_without_a_key_none_is_sent_and_the_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    replies = ScriptedReplies()
    with scripted_server(replies) as url:
        open_engine(url, tmp_path, {"api_key": "MY_KEY"}).generate([chat(1)])
    assert replies.keys == {None}
    with pytest.raises(EngineError, match=r"wants an API key .* MY_KEY is not set.*export MY_KEY="):
        ask(tmp_path, 401, error(), api_key="MY_KEY")


@pytest.mark.parametrize("key", ["sk-\u00fc", "sk\x00", "sk-a\nsk-b"])
def test_a_key_that_cannot_be_sent_is_refused(key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"MY_KEY": key})
    with pytest.raises(EngineError, match="MY_KEY has characters") as raised:
        open_engine("http://127.0.0.1:9/v1", tmp_path, {"api_key": "MY_KEY"})
    assert key not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("http://127.0.0.1:1/v1", "Connection refused"),
        ("http://nowhere.invalid/v1", "nowhere.invalid/v1 cannot be reached: .*name"),
    ],
)
def test_a_dead_host_is_named_with_the_cause(url: str, cause: str, tmp_path: Path) -> None:
    (outcome,) = open_engine(url, tmp_path).generate([chat(1)])
    assert isinstance(outcome, Failure)
    assert outcome.transient
    assert outcome.reason.startswith(f"{url} cannot be reached: [Errno ")
    assert outcome.reason.endswith("Start the server, or correct url (under [engine.server], or of the model)")


def test_a_server_that_does_not_reply_is_named_with_the_limit(tmp_path: Path) -> None:
    import threading

    release = threading.Event()

    def hang(request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        release.wait(10)
        return 200, reply(), {}

    with raw_server(hang) as url:
        (outcome,) = open_engine(url, tmp_path, {"timeout": 0.2}).generate([chat(1)])
        release.set()
    assert isinstance(outcome, Failure)
    assert outcome.transient
    assert outcome.reason.startswith(f"{url} did not reply within 0.2 s.")
    assert "timeout" in outcome.reason


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int, tmp_path: Path) -> None:
    replies = ScriptedReplies()
    with scripted_server(replies) as elsewhere, pytest.raises(EngineError, match=f"redirects to '{elsewhere}/x'"):
        ask(tmp_path, status, b"", {"Location": f"{elsewhere}/x"})
    assert not replies.requests


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000/v1",
        "127.0.0.1:8000/v1",
        "http://localhost:99999/v1",
        "http://localhost:0/v1",
        "http://localhost:port/v1",
        "http:///v1",
        "ftp://localhost/v1",
        "http://local host/v1",
        "http://localhost/v1\n",
        "http://[::1/v1",
        "http://user:sk-secret@localhost/v1",
        "https://localhost/v1?api-version=1",
        "https://localhost/v1#part",
        "http://h\u00f6st/v1",
        "",
    ],
)
def test_an_address_that_is_none_is_refused_with_the_suite(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        EngineConfig.model_validate({"name": "openai", "server": {"url": url}})
    with pytest.raises(ValueError, match="address"):
        ModelConfig(name="m", checkpoint="served:m", base_rate=1.0, url=url)


def test_responses_are_kept_when_the_server_refuses_the_others(tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        text = request["messages"][-1]["content"]
        return (401, error(), {}) if "Question 3" in text else (200, reply(), {})

    with raw_server(answer) as url:
        outcomes = open_engine(url, tmp_path, {"concurrency": 1}).generate([chat(number) for number in range(5)])
    assert [type(outcome) for outcome in outcomes] == [Completion] * 3 + [Failure] * 2
    assert all(outcome.transient for outcome in outcomes if isinstance(outcome, Failure))


def served_suite(url: str, folder: Path, **server: Any) -> Suite:
    model = {"name": "one", "checkpoint": "served:some-model", "base_rate": 1.0, "max_tokens": 16}
    table = {"url": url, "retries": 0, "timeout": 5.0, **server}
    engine = {"name": "openai", "server": table, "batch_tokens": 500}
    return resolve_config(suite_config(models=[model], engine=engine), folder)


def test_a_filtered_prompt_is_asked_once_and_no_other_is_lost(tmp_path: Path) -> None:
    """All prompts of one benchmark are filtered: more in a row than the failures that count as a broken engine."""
    requests: Counter[str] = Counter()

    def answer(request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        text = request["messages"][-1]["content"]
        requests[text] += 1
        is_filtered = "What is" in text
        return (400, error("content_filter"), {}) if is_filtered else (200, reply(), {})

    with raw_server(answer) as url:
        suite, cache, workspace = served_suite(url, tmp_path), Cache(tmp_path / "c.duckdb"), Workspace(tmp_path, tmp_path)
        reports = [generate(suite, cache, workspace, encode=encode) for _ in range(2)]
        assert reports[0].failed > 8
        assert (reports[0].transient, reports[1].generated) == (0, 0)
        assert set(requests.values()) == {1}
        zero = served_suite(url, tmp_path, filtered="zero")
        assert [model.key for model in zero.models] == [model.key for model in suite.models]
        report = generate(zero, cache, workspace, encode=encode, retry=True)
    assert report.failed == 0
    assert report.filtered > 8
    rows = cache.arrow("SELECT status, response, quality FROM transitions WHERE finish_reason = 'content_filter'").to_pylist()
    assert rows
    assert all((row["status"], row["response"], row["quality"]) == ("ok", FILTERED, 0.0) for row in rows)
    assert not [finding for finding in verify(cache) if finding.wrong]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(st.text(st.characters(codec=None)), min_size=1, max_size=6))
def test_any_text_of_a_server_is_kept(texts: list[str], tmp_path: Path) -> None:
    def answer(request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        number = int(request["messages"][0]["content"].split()[1].strip(","))
        return 200, reply(choices=[choice(texts[number])]), {}

    with raw_server(answer) as url:
        engine = open_engine(url, tmp_path, {"concurrency": 1})
        outcomes = engine.generate([chat(number) for number in range(len(texts))])
    # a pair of surrogates in JSON is the character that it encodes
    assert [outcome.response for outcome in outcomes if isinstance(outcome, Completion)] == [
        json.loads(json.dumps(text)) for text in texts
    ]


def test_one_bad_text_of_a_server_costs_no_other_response(tmp_path: Path) -> None:
    bad = ["half \ud83d", "nul \x00", "\x1b]0;title\x07", "\ufffe\uffff", "\ud800\udc00\udc00", "a" * 2_000_000]
    requests: Counter[str] = Counter()

    def answer(request: dict[str, Any]) -> tuple[int, bytes, dict[str, str]]:
        text = request["messages"][-1]["content"]
        requests[text] += 1
        number = len(requests) - 1
        return 200, reply(choices=[choice(bad[number] if number < len(bad) else rule(text))]), {}

    with raw_server(answer) as url:
        suite = served_suite(url, tmp_path)
        cache, workspace = Cache(tmp_path / "c.duckdb"), Workspace(tmp_path, tmp_path)
        reports = [generate(suite, cache, workspace, encode=encode) for _ in range(2)]
    assert (reports[0].failed, reports[1].generated) == (0, 0)
    assert set(requests.values()) == {1}
    responses = {row["response"] for row in cache.arrow("SELECT response FROM generations").to_pylist()}
    assert {well_formed(json.loads(json.dumps(text))) for text in bad} <= responses
    assert not [finding for finding in verify(cache) if finding.wrong]
