"""Servers for tests: a real one, one that responds by a rule and records its requests, and a proxy that fails at random."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

FAULTS = ("drop", "truncate", "429", "500", "delay")


def rule(text: str) -> str:
    """Return a response that no other prompt gets."""
    return f"Answer: {hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def reply(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


class ScriptedReplies:
    """How a scripted server replies, and the requests that it received; `override` replaces fields of its replies."""

    def __init__(self, **override: Any) -> None:
        self.override = override
        self.prompts: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()

    def reply_to(self, request: dict[str, Any], key: str | None) -> dict[str, Any]:
        """Return the reply to a request to either endpoint."""
        self.requests.append(request)
        self.keys.add(key)
        chat = "messages" in request
        text = json.dumps(request["messages"], ensure_ascii=False) if chat else str(request["prompt"])
        self.prompts[text] += 1
        content = {"message": {"role": "assistant", "content": rule(text)}} if chat else {"text": rule(text)}
        return {
            "id": "1",
            "object": "completion",
            "created": 0,
            "model": request["model"],
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "finish_reason": "stop", **content}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        } | self.override


@contextmanager
def real(log: Path) -> Iterator[str]:
    """Run `transformers serve` on the CPU, which loads the checkpoint that a request names; yield its address."""
    command = [sys.executable, "-W", "ignore", "-m", "transformers.cli.transformers", "serve"]
    with server_process([*command, "--device", "cpu", "--dtype", "float32"], log) as (url, _):
        yield url


@contextmanager
def server_process(command: list[str], log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run a server on a free port until it is ready; yield its address and its process."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        command = [*command, "--port", str(port)]
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        deadline = time.monotonic() + 180
        while True:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1", process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:  # as llama.cpp's server does now and then
            process.kill()
            process.wait()


@contextmanager
def scripted_server(replies: ScriptedReplies) -> Iterator[str]:
    """Run a scripted server; yield its base address."""

    class Handler(_Handler):
        def do_POST(self) -> None:
            request = json.loads(self.body())
            self.reply(200, json.dumps(replies.reply_to(request, self.headers["Authorization"])).encode())

    with _running(Handler) as url:
        yield url


@contextmanager
def raw_server(reply: Callable[[dict[str, Any]], tuple[int, bytes, dict[str, str]]]) -> Iterator[str]:
    """Run a server that returns any status, body and headers to a request; yield its base address."""

    class Handler(_Handler):
        def do_POST(self) -> None:
            status, body, headers = reply(json.loads(self.body()))
            self.reply(status, body, **headers)

    with _running(Handler) as url:
        yield url


@contextmanager
def faulty_proxy(upstream: str, share: float, seed: int, delay: float) -> Iterator[tuple[str, Counter[str]]]:
    """Run a proxy that fails for a share of the requests; yield its address and the number of faults of each kind."""
    rng, lock, faults = random.Random(seed), threading.Lock(), Counter[str]()
    server = urlsplit(upstream)

    class Handler(_Handler):
        def do_POST(self) -> None:
            body = self.body()
            with lock:
                fault = rng.choice(FAULTS) if rng.random() < share else "none"
                faults[fault] += 1
            if fault == "429":
                return self.reply(429, b'{"error": {"message": "slow down"}}', Retry_After="0.01")
            if fault == "500":
                return self.reply(500, b'{"error": {"message": "oops"}}')
            if fault == "delay":
                threading.Event().wait(delay)
            connection = http.client.HTTPConnection(str(server.hostname), server.port)
            connection.request("POST", self.path, body, dict(self.headers))
            data = connection.getresponse().read()
            connection.close()
            if fault == "drop":
                self.close_connection = True
                return None
            if fault == "truncate":
                self.reply(200, data[: len(data) // 2])
                return None
            return self.reply(200, data)

    with _running(Handler) as url:
        yield url, faults


@contextmanager
def _running(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore clients that disconnect."""

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
