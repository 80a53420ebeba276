"""Servers for tests: a real one, one that answers by a rule and counts what it is asked, and a proxy that fails at random."""

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
    """Answer with something that only this prompt gets."""
    return f"Answer: {hashlib.sha256(text.encode()).hexdigest()[:12]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Be quiet."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def reply(self, status: int, data: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)


class Answers:
    """What a scripted server was asked and how it answers: fields of its replies can be overridden."""

    def __init__(self, **override: Any) -> None:
        self.override = override
        self.asked: Counter[str] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.keys: set[str] = set()

    def to(self, request: dict[str, Any], key: str) -> dict[str, Any]:
        """Return the reply to a request, of either endpoint."""
        self.requests.append(request)
        self.keys.add(key)
        chat = "messages" in request
        text = json.dumps(request["messages"], ensure_ascii=False) if chat else str(request["prompt"])
        self.asked[text] += 1
        said = {"message": {"role": "assistant", "content": rule(text)}} if chat else {"text": rule(text)}
        return {
            "id": "1",
            "object": "completion",
            "created": 0,
            "model": request["model"],
            "system_fingerprint": "fp_1",
            "choices": [{"index": 0, "finish_reason": "stop", **said}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
        } | self.override


@contextmanager
def real(log: Path) -> Iterator[str]:
    """Run `transformers serve` on the CPU, which loads the checkpoint that a request names; yields its address."""
    command = [sys.executable, "-W", "ignore", "-m", "transformers.cli.transformers", "serve"]
    with _process([*command, "--device", "cpu", "--dtype", "float32"], log) as url:
        yield url


@contextmanager
def llama(binary: Path, gguf: Path, threads: int, rows: int, log: Path) -> Iterator[str]:
    """Run llama.cpp's server with one model, called `m`, so many requests at a time of 512 tokens each; yields its address."""
    settings = {"-m": gguf, "--alias": "m", "-t": threads, "-np": rows, "-c": 512 * rows}
    with _process([str(binary), *(str(word) for pair in settings.items() for word in pair)], log) as url:
        yield url


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with log.open("w") as written:
        command = [*command, "--port", str(port)]
        process = subprocess.Popen(command, stdout=written, stderr=subprocess.STDOUT, env=environment)
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
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def scripted(answers: Answers) -> Iterator[str]:
    """Serve answers; yields the base address."""

    class Handler(_Handler):
        def do_POST(self) -> None:
            request = json.loads(self.body())
            self.reply(200, json.dumps(answers.to(request, self.headers["Authorization"])).encode())

    with _running(Handler) as url:
        yield url


@contextmanager
def faulty(upstream: str, share: float, seed: int, delay: float) -> Iterator[tuple[str, Counter[str]]]:
    """Stand before a server and fail for a share of the requests; yields the address and what went wrong how often."""
    rng, lock, happened = random.Random(seed), threading.Lock(), Counter[str]()
    server = urlsplit(upstream)

    class Handler(_Handler):
        def do_POST(self) -> None:
            body = self.body()
            with lock:
                fault = rng.choice(FAULTS) if rng.random() < share else "none"
                happened[fault] += 1
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
        yield url, happened


@contextmanager
def _running(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no news."""

    server = Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
