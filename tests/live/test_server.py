"""The server gives each client the response to its own question, and lives on whatever clients and engines do."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.docs.page import bodies
from tests.live.conftest import Script
from tests.scripted import encode, resolve_config, scripted, suite_config
from toolkit.core.errors import EngineError, ToolkitError
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.generation.verify import verify
from toolkit.live import LivePool
from toolkit.live.server import Settings, build_app, listen, make_server
from toolkit.live.worker import Worker
from toolkit.routing.router import Router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig
from toolkit.suites.suite import Suite

CHAT = "/v1/chat/completions"
WAIT_SECONDS = 30.0


class Served:
    """A server in a thread of its own, with its worker and its pool."""

    def __init__(self, url: str, worker: Worker, pool: LivePool) -> None:
        self.url = url
        self.worker = worker
        self.pool = pool
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)

    def ask(self, question: str, **changes: Any) -> Any:
        messages: Any = [{"role": "user", "content": question}]
        return self.client.chat.completions.create(**{"model": "router", "messages": messages} | changes)

    def post(self, body: bytes, path: str = CHAT, content_type: str = "application/json") -> tuple[int, Any]:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_SECONDS) as reply:
                return reply.status, json.load(reply)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def connect(self, question: str, stream: bool) -> socket.socket:
        """Send a request by hand, and read nothing."""
        messages = [{"role": "user", "content": question}]
        body = json.dumps({"model": "router", "messages": messages, "stream": stream}).encode()
        connection = socket.create_connection(("127.0.0.1", int(self.url.rpartition(":")[2])), timeout=WAIT_SECONDS)
        head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        return connection


Serve = Callable[..., Any]


@pytest.fixture
def serve(suite: Suite, cache: Cache, router: Router, script: Script) -> Serve:
    @contextmanager
    def serving(limit: int = 256, timeout: float = WAIT_SECONDS, key: str | None = None) -> Iterator[Served]:
        pool = LivePool(suite, cache, engine=scripted(script), encode=encode)
        worker = Worker(router, pool, limit=limit)
        listening = listen("127.0.0.1", 0)
        server = make_server(build_app(worker, Settings(("router", suite.name), timeout, key)))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        served = Served(f"http://127.0.0.1:{listening.getsockname()[1]}", worker, pool)
        try:
            yield served
        finally:
            served.client.close()
            server.should_exit = True
            thread.join(WAIT_SECONDS)
            worker.close(WAIT_SECONDS)
            listening.close()
            assert not thread.is_alive()

    return serving


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Gate:
    """Holds the engine until it is opened."""

    def __init__(self, script: Script) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()
        script.broken = self._wait

    def _wait(self, prompt: object) -> None:
        self.reached.set()
        assert self._open.wait(WAIT_SECONDS)

    def open(self) -> None:
        self._open.set()


def test_two_hundred_concurrent_requests_get_the_response_to_their_own_question(
    serve: Serve, script: Script, cache: Cache
) -> None:
    questions = [f"What is {number} + {number % 7}?" for number in range(100)] + [f"Which words {n}?" for n in range(100)]

    async def ask_all(url: str) -> list[Any]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:

            async def ask(question: str) -> Any:
                return await client.chat.completions.create(model="router", messages=[{"role": "user", "content": question}])

            return await asyncio.gather(*map(ask, questions))

    with serve() as served:
        completions = asyncio.run(ask_all(served.url))
    for question, completion in zip(questions, completions, strict=True):
        assert completion.choices[0].message.content.endswith(f": {question}")
        assert [hop["text"].partition(": ")[2] for hop in completion.routing["hops"]] == [question] * 2
        tokens = [(hop["prompt_tokens"], hop["completion_tokens"]) for hop in completion.routing["hops"]]
        usage = (completion.usage.prompt_tokens, completion.usage.completion_tokens)
        assert usage == tuple(map(sum, zip(*tokens, strict=True)))
    assert len({completion.id for completion in completions}) == len(questions)
    assert len(script.prompts) == 2 * len(questions)
    assert set(script.prompts.values()) == {1}
    assert [finding for finding in verify(cache) if finding.wrong] == []


def test_a_completion_has_path_probabilities_and_cost(serve: Serve, suite: Suite, router: Router) -> None:
    with serve() as served:
        completion = served.ask("What is 3 + 4?", temperature=0.5)
        again = served.ask("What is 3 + 4?")
        names = [model.id for model in served.client.models.list()]
        assert served.client.models.retrieve("router").id == "router"
    routing = completion.routing
    assert routing["path"] == [hop["model"] for hop in routing["hops"]]
    assert routing["cost"] == pytest.approx(sum(hop["cost"] for hop in routing["hops"]))
    for hop in routing["hops"]:
        assert sum(hop["probabilities"].values()) == pytest.approx(1)
        assert max(hop["probabilities"], key=hop["probabilities"].get) == hop["model"]
    assert not routing["cached"]
    assert routing["ignored"] == ["temperature"]
    assert again.routing["cached"]
    assert again.choices[0].message.content == completion.choices[0].message.content
    assert names == ["router", suite.name]


def test_a_stream_has_each_hop_and_then_the_last_response_in_pieces(serve: Serve) -> None:
    question = "What is 3 + 4?\tAnd,  perhaps, why?"
    with serve() as served:
        chunks = list(served.ask(question, stream=True, stream_options={"include_usage": True}))
        whole = served.ask(question)
    hops = [chunk.routing["hop"] for chunk in chunks if "hop" in (getattr(chunk, "routing", None) or {})]
    assert hops == [1, 2]
    assert [bool(chunk.choices[0].delta.content) for chunk in chunks[:2]] == [False, False]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) > 8
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert chunks[-2].routing["path"] == whole.routing["path"]
    assert chunks[-1].usage == whole.usage


def test_earlier_turns_are_part_of_the_question(serve: Serve, script: Script) -> None:
    messages = [
        {"role": "system", "content": "Be nice."},
        {"role": "user", "content": "What is 1 + 1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": [{"type": "text", "text": "And plus 1?"}]},
    ]
    with serve() as served:
        completion = served.ask("", messages=messages)
    assert completion.routing["ignored"] == ["messages of the role system"]
    question = "User: What is 1 + 1?\n\nAssistant: 2\n\nUser: And plus 1?"
    assert any(text.endswith(f"user: {question}\nassistant:") for _, text in script.prompts)


ALONE = [{"role": "user", "content": "Why?"}]
MALFORMED: dict[str, tuple[Any, int]] = {
    "nothing": (b"", 400),
    "no JSON": (b'{"model": ', 400),
    "no UTF-8": (b'"\xff"', 400),
    "nested": (b"[" * 100_000, 400),
    "a list": ([], 400),
    "no model": ({"messages": ALONE}, 400),
    "another model": ({"model": "gpt", "messages": ALONE}, 404),
    "a number for a model": ({"model": 3, "messages": ALONE}, 400),
    "no messages": ({"model": "router"}, 400),
    "empty messages": ({"model": "router", "messages": []}, 400),
    "a text for messages": ({"model": "router", "messages": "Why?"}, 400),
    "a text for a message": ({"model": "router", "messages": ["Why?"]}, 400),
    "another role": ({"model": "router", "messages": [{"role": "tool", "content": "x"}]}, 400),
    "a list for a role": ({"model": "router", "messages": [{"role": [], "content": "x"}]}, 400),
    "no content": ({"model": "router", "messages": [{"role": "user"}]}, 400),
    "an image": ({"model": "router", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400),
    "blank": ({"model": "router", "messages": [{"role": "user", "content": " \n"}]}, 400),
    "no question": ({"model": "router", "messages": [*ALONE, {"role": "assistant", "content": "So."}]}, 400),
    "two choices": ({"model": "router", "messages": ALONE, "n": 2}, 400),
    "JSON wanted": ({"model": "router", "messages": ALONE, "response_format": {"type": "json_object"}}, 400),
    "a text for stream": ({"model": "router", "messages": ALONE, "stream": "yes"}, 400),
    "a list for options": ({"model": "router", "messages": ALONE, "stream_options": [1]}, 400),
    "too long": (b" " * (2**20 + 1), 413),
    "a prompt too long": ({"model": "router", "messages": [{"role": "user", "content": "long " * 9000}]}, 400),
}


def test_malformed_requests_are_refused_in_the_format_of_errors(serve: Serve) -> None:
    with serve() as served:
        for name, (body, status) in MALFORMED.items():
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            found, reply = served.post(data)
            assert found == status, name
            assert set(reply["error"]) == {"message", "type", "param", "code"}, name
            assert reply["error"]["type"] == "invalid_request_error", name
        assert served.post(json.dumps({"model": "router", "messages": ALONE}).encode(), content_type="text/plain")[0] == 415
        assert served.post(b"{}", "/v1/completions")[0] == 404
        assert served.post(b"{}", "/v1/models")[0] == 405
        surrogate = {"model": "router", "messages": [{"role": "user", "content": "Why \ud800?"}]}  # no UTF-8 can express it
        assert served.post(json.dumps(surrogate).encode())[0] == 200


def test_a_key_is_needed_if_there_is_one(serve: Serve) -> None:
    with serve(key="secret") as served:
        assert served.post(b"{}")[0] == 401
        for key in ("wrong", "s\xe9cret"):
            request = urllib.request.Request(f"{served.url}/v1/models", headers={"Authorization": f"Bearer {key}"})
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(request, timeout=WAIT_SECONDS)
            with error.value:
                assert error.value.code == 401
                assert json.load(error.value)["error"]["code"] == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            served.ask("Why?")
        client = served.client.with_options(api_key="secret")
        assert client.chat.completions.create(model="router", messages=[{"role": "user", "content": "Why?"}]).choices
        with urllib.request.urlopen(f"{served.url}/health", timeout=WAIT_SECONDS) as reply:
            assert json.load(reply)["status"] == "ok"


@pytest.mark.parametrize(
    ("failure", "status", "stream"), [(ConnectionError, 503, False), (ValueError, 502, True), (EngineError, 502, False)]
)
def test_a_dead_engine_is_an_error_and_the_server_lives_on(
    serve: Serve, script: Script, failure: type[Exception], status: int, stream: bool
) -> None:
    def die(prompt: object) -> None:
        raise failure("nobody is there")

    script.broken = die
    with serve() as served:
        for number in range(9):  # one more than an engine survives
            with pytest.raises(openai.InternalServerError, match="nobody is there") as error:
                served.ask(f"Why {number}?", stream=stream)
            assert error.value.status_code == status
            assert ("retry-after" in error.value.response.headers) == (status == 503)
        script.broken = lambda prompt: None
        assert served.ask("Why 1?").choices[0].message.content


def test_an_engine_that_dies_in_the_middle_of_a_stream_ends_it_with_an_error(serve: Serve, script: Script) -> None:
    def die(prompt: Any) -> None:
        if "Earlier" in prompt.text:
            raise ConnectionError("refused")

    script.broken = die
    with serve() as served:
        chunks = served.ask("Why?", stream=True)
        assert next(iter(chunks)).routing["hop"] == 1
        with pytest.raises(openai.APIError, match="refused"):
            list(chunks)


def test_a_full_queue_refuses_further_questions(serve: Serve, script: Script) -> None:
    gate, replies = Gate(script), dict[str, Any]()
    with serve(limit=1) as served:

        def ask(question: str) -> None:
            replies[question] = served.ask(question)

        threads = [threading.Thread(target=ask, args=(question,)) for question in ("first?", "second?")]
        threads[0].start()
        assert gate.reached.wait(WAIT_SECONDS)
        threads[1].start()
        wait_until(lambda: served.worker.counts == {"waiting": 1, "ongoing": 1})
        with pytest.raises(openai.InternalServerError) as error:
            served.ask("third?")
        gate.open()
        for thread in threads:
            thread.join()
    assert error.value.status_code == 503
    assert error.value.code == "queue_full"
    assert error.value.response.headers["retry-after"]
    assert {question: reply.choices[0].message.content.partition(": ")[2] for question, reply in replies.items()} == {
        "first?": "first?",
        "second?": "second?",
    }


def test_a_request_that_takes_too_long_ends_and_the_server_lives_on(serve: Serve, script: Script) -> None:
    gate = Gate(script)
    with serve(timeout=0.2) as served:
        with pytest.raises(openai.InternalServerError) as error:
            served.ask("slow?")
        gate.open()
        wait_until(lambda: served.worker.counts == {"waiting": 0, "ongoing": 0})
    assert error.value.status_code == 504
    assert len(script.prompts) == 1  # nobody waits for the second hop
    with serve() as served:
        assert served.ask("slow?").choices[0].message.content.endswith("slow?")
    assert set(script.prompts.values()) == {1}


def test_clients_that_go_away_or_are_slow_block_no_others(serve: Serve, script: Script) -> None:
    gate = Gate(script)
    with serve() as served:
        gone = [served.connect(f"gone {number}?", stream=False) for number in range(3)]
        assert gate.reached.wait(WAIT_SECONDS)
        wait_until(lambda: sum(served.worker.counts.values()) == 3)
        slow = [served.connect("slow " * 2000 + "?", stream=True) for _ in range(3)]  # they never read
        half = socket.create_connection(("127.0.0.1", int(served.url.rpartition(":")[2])))
        half.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n".encode())
        for connection in gone:
            connection.close()
        wait_until(
            lambda: all(
                job.cancelled for job in (*served.worker._ongoing, *served.worker._waiting) if "gone" in job.question.question
            )
        )
        gate.open()
        for number in range(5):
            assert served.ask(f"patient {number}?").choices[0].message.content.endswith(f"patient {number}?")
        for connection in (*slow, half):
            connection.close()
    second = Counter("Earlier" in text for _, text in script.prompts if "gone" in text)
    assert second[True] == 0


def test_a_mistake_of_the_toolkit_costs_no_other_its_response(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    with serve() as served:
        known = served.pool.available

        def available(question: str) -> Any:
            if "bug" in question:
                raise KeyError("a bug")
            return known(question)

        served.pool.available = available
        replies = dict[str, Any]()

        def ask(question: str) -> None:
            try:
                replies[question] = served.ask(question).choices[0].message.content
            except openai.InternalServerError as error:
                replies[question] = error.status_code

        threads = [threading.Thread(target=ask, args=(question,)) for question in ("one?", "bug?", "two?", "three?")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert replies.pop("bug?") == 500
    assert all(text.endswith(question) for question, text in replies.items())
    assert "a question cannot be routed" in caplog.text


def test_the_page_of_live_routing_shows_what_works(serve: Serve, suite: Suite, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs/guides/live.md").read_text("utf-8")
    [code] = bodies(page, "py")
    shown: dict[str, Any] = {}
    with serve() as served:
        exec(code.replace("http://127.0.0.1:8000", served.url).replace("quickstart", suite.name), shown)
        shown["client"].close()
    assert "take word 3 * 7 - 19" in capsys.readouterr().out


def test_a_missing_library_has_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(EngineError, match=r"pip install 'hierrouter-toolkit\[serve\]'"):
        build_app(None, Settings(("router",), 1.0))  # type: ignore[arg-type]


def test_an_address_that_is_taken_has_a_remedy() -> None:
    with listen("127.0.0.1", 0) as listening, pytest.raises(ToolkitError, match="--port 0"):
        listen("127.0.0.1", listening.getsockname()[1])


def test_the_command_serves_until_it_is_terminated(tmp_path: Path) -> None:
    suite, cache = resolve_config(suite_config(features={"encoder": "none"}), tmp_path), Cache(tmp_path / "scripted.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path))
    path = train(suite, cache, TrainConfig(algorithm="exact", timesteps=1000), 0, tmp_path).path
    command = [sys.executable, "-c", "from toolkit.cli import main; main()", "serve", str(path), "--cache", str(cache.path)]
    with subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            url = line.partition(" at ")[2].partition(" ")[0]
            with openai.OpenAI(base_url=url, api_key="none") as client:
                completion = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "Why?"}])
            assert (completion.choices[0].message.content or "").startswith("Answer: ")
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_SECONDS) == 0
        assert process.stderr.read() == ""
    assert len(cache.frame("SELECT * FROM questions WHERE benchmark = 'live'")) == 1
