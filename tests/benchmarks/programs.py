"""The engines that are compared, each in a process of its own that is stopped while another one has its turn."""

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import psutil

from tests.benchmarks.prompts import Workload
from tests.serving import server_process
from toolkit.core.cpus import available_cpus
from toolkit.core.errors import EngineError
from toolkit.engines import Completion
from toolkit.engines.tokenizer import ChatTokenizer

ROOT = Path(__file__).parents[2]
SAMPLING_SECONDS = 0.05
"""Time between two looks at the memory of a program's processes."""

END_SECONDS = 10
"""Longest time that a program may take to end by itself."""

COMPUTE = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10**6))"
"""A program that computes until it is ended or its parent is."""


class Run(NamedTuple):
    """One run over a workload.

    Attributes:
        wall: Wall time in seconds.
        cpu: CPU time of all processes of the program, in seconds.
        memory: Most memory of the program's processes during the run, in bytes: on the GPU if it tells, else resident.
        completions: A completion for each prompt; none if the run was a profile.
        cached_tokens: Prompt tokens that the program says it did not have to read, if it does.
        seconds: Seconds by kind of operation, if the run was a profile.
    """

    wall: float
    cpu: float
    memory: int
    completions: list[Completion]
    cached_tokens: int | None
    seconds: dict[str, float] | None


class Program(ABC):
    """An engine in another process, stopped between its turns, so that its idle threads do not slow down others.

    Args:
        chat: Decodes responses.
    """

    def __init__(self, chat: ChatTokenizer) -> None:
        self.chat = chat
        self._opened = ExitStack()
        self._process: psutil.Process = self._open()
        self._signal("suspend")

    def close(self) -> None:
        """End the processes."""
        self._signal("resume")
        self._opened.close()

    def run(self, workload: Workload, **settings: Any) -> Run:
        """Respond to a workload's prompts and measure it.

        Args:
            workload: The prompts.
            settings: What the program takes for a run, such as `rows` or `batch_tokens`.
        """
        self._signal("resume")
        try:
            cpu = self._cpu_seconds()
            with self._peak_memory() as peak:
                started = time.perf_counter()
                reply = self._respond(workload, settings)
                wall = time.perf_counter() - started
            cpu = self._cpu_seconds() - cpu
        finally:
            self._signal("suspend")
        ids = reply.get("ids", [])
        completions = [Completion(*fields) for fields in reply.get("completions", [])]
        return Run(
            wall=wall,
            cpu=cpu,
            memory=peak[0] if reply.get("peak") is None else reply["peak"],
            completions=completions or [self.chat.completion(response, ()) for response in ids],
            cached_tokens=reply.get("cached_tokens"),
            seconds=reply.get("seconds"),
        )

    @abstractmethod
    def _open(self) -> psutil.Process:
        """Start the program, register what ends it, and return its process."""

    @abstractmethod
    def _respond(self, workload: Workload, settings: dict[str, Any]) -> dict[str, Any]:
        """Return a reply as those of `generate_worker`."""

    def _processes(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]

    def _signal(self, name: str) -> None:
        for process in self._processes():
            getattr(process, name)()

    def _cpu_seconds(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self._processes())

    @contextmanager
    def _peak_memory(self) -> Iterator[list[int]]:
        """Yield a list with the most memory that the processes have held together."""
        processes, peak, stop = self._processes(), [0], threading.Event()

        def watch() -> None:
            while True:
                peak[0] = max(peak[0], sum(process.memory_info().rss for process in processes))
                if stop.wait(SAMPLING_SECONDS):
                    return

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield peak
        finally:
            stop.set()
            thread.join()


class Worker(Program):
    """An engine of `generate_worker`.

    Args:
        chat: Decodes responses.
        engine: Which engine.
        settings: What the engine is opened with.
        python: Runs the process.
        environment: Environment variables for it, besides those of this process.
        log: File that gets what the process prints.
        checkout: Folder with the toolkit that it imports.
    """

    def __init__(
        self,
        chat: ChatTokenizer,
        engine: str,
        settings: dict[str, Any],
        log: Path,
        python: str = sys.executable,
        environment: dict[str, str] | None = None,
        checkout: Path = ROOT,
    ) -> None:
        self._command = [python, "-P", str(ROOT / "tests/benchmarks/generate_worker.py"), engine, json.dumps(settings)]
        paths = os.pathsep.join(filter(None, [str(checkout), os.environ.get("PYTHONPATH")]))
        self._environment = {**os.environ, "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1", **(environment or {})}
        self._log = log
        super().__init__(chat)

    def _open(self) -> psutil.Process:
        log = self._opened.enter_context(self._log.open("w"))
        self._pipes: Any = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=self._environment
        )
        self._process = psutil.Process(self._pipes.pid)
        self._opened.callback(self._end)
        self._read()
        return self._process

    def _end(self) -> None:
        """End the process and those that it has started, which may outlive it."""
        processes = self._processes()
        self._pipes.stdin.close()
        for process in psutil.wait_procs(processes, timeout=END_SECONDS)[1]:
            process.kill()
        self._pipes.wait()
        self._pipes.stdout.close()

    def _respond(self, workload: Workload, settings: dict[str, Any]) -> dict[str, Any]:
        prompts = [
            {"text": prompt.text, "tokens": tokens} for prompt, tokens in zip(workload.prompts, workload.tokens, strict=True)
        ]
        print(json.dumps({"prompts": prompts, **settings}), file=self._pipes.stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        """Read a reply.

        Raises:
            EngineError: The process has ended.
        """
        line = self._pipes.stdout.readline()
        if not line:
            tail = self._log.read_text("utf-8", "replace").splitlines()[-1:]
            raise EngineError(f"The process of {self._command[3]} ended; {self._log} says: {''.join(tail)}")
        reply: dict[str, Any] = json.loads(line)
        return reply


class LlamaServer(Program):
    """llama.cpp's server, whose slots each respond to one prompt at a time and reuse the prefix that they hold.

    Args:
        chat: Decodes responses.
        binary: The server.
        gguf: Its model file.
        context: Tokens of a slot.
        max_tokens: Longest response, in tokens.
        threads: Its threads.
        log: File that gets what it prints.
    """

    def __init__(
        self, chat: ChatTokenizer, binary: Path, gguf: Path, context: int, max_tokens: int, threads: int, log: Path
    ) -> None:
        self._command = [str(binary), "-m", str(gguf), "-t", str(threads)]
        self._slots, self._context, self._max_tokens, self._log = 1, context, max_tokens, log
        super().__init__(chat)

    def run(self, workload: Workload, **settings: Any) -> Run:
        """Restart the server with `slots`, since its slots hold what an earlier run has read; then measure a run."""
        self.close()
        self._slots = settings["slots"]
        self._process = self._open()
        return super().run(workload, **settings)

    def _open(self) -> psutil.Process:
        command = [*self._command, "-np", str(self._slots), "-c", str(self._context * self._slots)]
        url, process = self._opened.enter_context(server_process(command, self._log))
        self._url = url.removesuffix("/v1")
        return psutil.Process(process.pid)

    def _respond(self, workload: Workload, settings: dict[str, Any]) -> dict[str, Any]:
        """Respond to prompts in an order in which siblings meet, as free slots take them."""
        order = sorted(range(len(workload.tokens)), key=workload.tokens.__getitem__)
        with ThreadPoolExecutor(self._slots) as pool:
            replies = dict(zip(order, pool.map(self._complete, [workload.tokens[index] for index in order]), strict=True))
        return {
            "ids": [replies[index]["tokens"] for index in range(len(order))],
            "cached_tokens": sum(reply["timings"]["cache_n"] for reply in replies.values()),
        }

    def _complete(self, tokens: Sequence[int]) -> dict[str, Any]:
        body = {"prompt": list(tokens), "n_predict": self._max_tokens, "temperature": 0, "return_tokens": True}
        request = urllib.request.Request(
            f"{self._url}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as response:
            reply: dict[str, Any] = json.loads(response.read())
            return reply


class Busy:
    """A process for every core that does nothing but compute."""

    def __enter__(self) -> Self:
        self._processes = [subprocess.Popen([sys.executable, "-c", COMPUTE]) for _ in range(available_cpus())]
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
