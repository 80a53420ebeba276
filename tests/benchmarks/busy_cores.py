"""Measure the engine transformers beside one busy process per core: `python -m tests.benchmarks.busy_cores`.

One process per setting of the threads decodes the same prompts of the quickstart, in alternating turns: on the machine as it
is, and beside busy processes. Prints tokens per second (medians), and what share of the first rate remains beside the others.
With fair shares, one busy process per core leaves 0.5. Run it on an idle machine.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from toolkit.core.cpus import available_cpus, share_cpus
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.transformers import TransformersEngine
from toolkit.report.tables import aligned
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.prompts import messages
from toolkit.suites.resolving import resolve

SETTINGS = {
    "as the command line sets it": {},
    "GNU's OpenMP by itself": {"GOMP_SPINCOUNT": "300000"},
    "spins for 1,000 turns": {"GOMP_SPINCOUNT": "1000"},
    "sleeps at once": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def serve(questions: int, tokens: int, store: Path) -> None:
    """Decode the prompts once for every line of stdin; print the tokens and seconds."""
    share_cpus(os.environ)
    file = find_suite("quickstart")
    config = load_config(file)
    workspace = Workspace(file.parent, store)
    limited = tuple(benchmark.model_copy(update={"limit": questions}) for benchmark in config.benchmarks)
    suite = resolve(config.model_copy(update={"benchmarks": limited}), workspace)
    model = config.models[0].model_copy(update={"max_tokens": tokens})
    engine = TransformersEngine(config.engine, model, workspace)
    chats = [messages("append-v1", model.system_prompt, model.few_shot, question.prompt, []) for question in suite.questions]
    prompts = [Prompt(text, engine.count(text), 0) for text in map(engine.render, chats)]
    prompts.sort(key=lambda prompt: -prompt.tokens)
    engine.generate(prompts)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        outcomes = engine.generate(prompts)
        print(sum(outcome.completion_tokens for outcome in outcomes), time.perf_counter() - started, flush=True)


class Worker:
    """A process that decodes with one setting of the threads."""

    def __init__(self, setting: dict[str, str], arguments: list[str]) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
        command = [sys.executable, "-m", "tests.benchmarks.busy_cores", "--serve", *arguments]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, env=clean | setting, stdin=pipe, stdout=pipe, text=True)
        assert self._read() == "ready", "the process ended early; its messages are above"

    def rate(self) -> float:
        """Decode once and return the tokens per second."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        tokens, seconds = map(float, self._read().split())
        return tokens / seconds

    def end(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline().strip()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--questions", type=int, default=1, help="per benchmark")
    parser.add_argument("--tokens", type=int, default=16, help="longest response")
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    parser.add_argument("--serve", action="store_true", help="decode for another process that measures")
    options = parser.parse_args()
    if options.serve:
        return serve(options.questions, options.tokens, options.store)
    from tests.benchmarks.programs import Busy  # loads PyTorch, for which a serving process has to set its threads first

    arguments = ["--questions", str(options.questions), "--tokens", str(options.tokens), "--store", str(options.store)]
    workers = {name: Worker(setting, arguments) for name, setting in SETTINGS.items()}
    idle: dict[str, list[float]] = {name: [] for name in workers}
    busy: dict[str, list[float]] = {name: [] for name in workers}
    for _ in range(options.turns):
        for name, worker in workers.items():
            idle[name].append(worker.rate())
        with Busy():
            for name, worker in workers.items():
                busy[name].append(worker.rate())
    for worker in workers.values():
        worker.end()
    rows = [
        [name, f"{median(idle[name]):.1f}", f"{median(busy[name]):.1f}", f"{median(busy[name]) / median(idle[name]):.2f}"]
        for name in workers
    ]
    print(aligned(["threads", "tokens/s", f"beside {available_cpus()} busy processes", "share kept"], rows))
    return None


if __name__ == "__main__":
    main()
