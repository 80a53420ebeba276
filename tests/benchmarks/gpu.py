"""Check and measure the engine transformers on a GPU: `just gpu`, in about five minutes (docs/gpus.md).

Four parts, each with a time limit: greedy responses on the GPU against those on the CPU, in float32 and bfloat16; a batch that
does not fit into memory; speed, against batched `model.generate` and, where it is installed, vLLM; two `generate` processes on
one card. Speed is measured with 1.5 billion random weights, all else with the quickstart's models. Prints tables and a row for
the table of docs/gpus.md. `--device cpu --tiny` runs all of it in seconds without a GPU.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
import transformers

from tests import tiny
from tests.benchmarks import hardware, random_model, throughput
from tests.benchmarks.memory_limit import MemoryLimit
from tests.scripted import encode, resolve_config, suite_config
from toolkit.core.errors import EngineError, ToolkitError
from toolkit.core.workspace import Workspace
from toolkit.engines import BatchTooLargeError, Completion, Prompt
from toolkit.engines.decoding import choose_device
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.generate import generate
from toolkit.generation.state import Shard
from toolkit.report.tables import aligned, markdown
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Suite

MIN_EQUAL = 0.99
"""Share of float32 responses that must be equal on the GPU and the CPU: two tokens can be equally probable up to rounding."""
MEMORY_SHARE = 0.4
"""Share of the memory of a whole batch that a batch may have in the test of memory."""
QUESTIONS = 4
"""Questions of each benchmark of the quickstart."""
LIMITS = {"contract": 60, "memory": 30, "speed": 130, "processes": 120}
"""Longest time of each part, in seconds."""
REFERENCE = Path(__file__).parents[2] / "cache/reference/generations.parquet"
DOCUMENTED = ["card", "float32", "bfloat16", "memory", "two processes", "speed", "versions"]
"""Columns of the table in docs/gpus.md."""


class Setting(NamedTuple):
    """What the parts share.

    Attributes:
        suite: The suite whose models run.
        workspace: Its folder, and the folder of downloads.
        device: The device.
        tiny: Whether all sizes are tiny.
        folder: A folder for what a part writes.
    """

    suite: Suite
    workspace: Workspace
    device: torch.device
    tiny: bool
    folder: Path


class Findings:
    """Results as they come, so that a part that is interrupted leaves those it has."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.documented: dict[str, str] = {}
        self.faults: list[str] = []

    def add(self, check: str, result: str, fault: bool = False) -> None:
        """Add a result; `fault` says that it is not what it should be."""
        self.rows.append([check, result])
        print(f"{check}: {result}", file=sys.stderr, flush=True)
        if fault:
            self.faults.append(check)


def make_setting(device: str, is_tiny: bool, folder: Path, downloads: Path) -> Setting:
    """Resolve the suite: some questions of the quickstart, or a suite of the same kind with tiny models."""
    if is_tiny:
        checkpoint = folder / "llama"
        if not checkpoint.exists():
            tiny.make_llama(checkpoint)
        model = {"checkpoint": str(checkpoint), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0}
        config = suite_config(
            models=[{**model, "name": "plain"}, {**model, "name": "prompted", "system_prompt": "w"}],
            benchmarks=[{"name": name, "limit": 2} for name in ("addition", "word_reversal")],
            engine={"device": device, "batch_tokens": 2**10},
        )
        return Setting(resolve_config(config, folder), Workspace(folder, downloads), choose_device(device), True, folder)
    file = find_suite("quickstart")
    config = load_config(file).limited(QUESTIONS)
    config = config.model_copy(update={"horizon": 2, "engine": EngineConfig(device=device, batch_tokens=2**16)})
    workspace = Workspace(file.parent, downloads)
    return Setting(resolve(config, workspace), workspace, choose_device(device), False, folder)


def open_model(setting: Setting, device: str, dtype: str) -> TransformersEngine:
    """Open the suite's first model."""
    model = setting.suite.config.models[0].model_copy(update={"dtype": dtype})
    return TransformersEngine(EngineConfig(device=device), model, setting.workspace)


def suite_prompts(setting: Setting, engine: TransformersEngine) -> list[Prompt]:
    """Return contexts of hops 1 to 3, in which the responses are right for some questions and wrong for others."""
    questions = [question.prompt for question in setting.suite.questions][::2]
    answers = [question.reference.answers[0] for question in setting.suite.questions]

    def respond(question: str, path: tuple[int, ...]) -> str:
        return random.Random(f"{question} {path}").choice(answers)

    protocol = setting.suite.config.prompts.protocol
    prompts = [prompt for hop in (1, 2, 3) for prompt in throughput.contexts(engine, protocol, questions, hop, 3, respond)]
    return sorted(prompts, key=lambda prompt: (-prompt.tokens, prompt.text))


def complete(setting: Setting, device: str, dtype: str) -> tuple[list[Completion], TransformersEngine]:
    """Generate responses to the suite's prompts; return the engine too, which counts tokens."""
    engine = open_model(setting, device, dtype)
    run = throughput.guarded(engine, engine.model.max_tokens, 2**14)
    completions = run(suite_prompts(setting, engine))
    engine.close()
    return completions, engine


def equality(engine: TransformersEngine, expected: Sequence[Any], actual: Sequence[Any]) -> tuple[float, str]:
    """Compare responses: the share of equal ones, and a sentence with the share of tokens before the first difference."""
    equal = same = total = 0
    for left, right in zip(expected, actual, strict=True):
        tokens = [engine.chat.encode(completion.response) for completion in (left, right)]
        equal += left.response == right.response
        same += sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(*tokens, strict=False)))
        total += max(map(len, tokens))
    return equal / len(expected), f"{equal} of {len(expected)} equal ({same / max(total, 1):.1%} of the tokens)"


def contract(setting: Setting, findings: Findings) -> None:
    """Compare responses on the device with those of the CPU in float32."""
    started = time.monotonic()
    cpu, engine = complete(setting, "cpu", "float32")
    distinct = len({completion.response for completion in cpu})
    findings.add(
        "prompts of hops 1 to 3",
        f"{len(cpu)}, with {distinct} distinct responses on the CPU in {time.monotonic() - started:.0f} s",
    )
    for dtype in ("float32", "bfloat16"):
        share, text = equality(engine, cpu, complete(setting, str(setting.device), dtype)[0])
        findings.add(
            f"{dtype} on {setting.device.type}, against float32 on the CPU", text, dtype == "float32" and share < MIN_EQUAL
        )
        findings.documented[dtype] = text


@contextmanager
def cuda_memory_limit(device: torch.device, size: float) -> Iterator[None]:
    """Let this process allocate so many bytes more on a GPU than it holds now."""
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved(device) + size
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.get_device_properties(device).total_memory, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


def run_under(limit: MemoryLimit, side: throughput.Side) -> throughput.Side:
    """Return what runs prompts under a limit, in whichever thread."""

    def run(prompts: Sequence[Prompt]) -> list[Completion]:
        with limit:
            return side(prompts)

    return run


def memory(setting: Setting, findings: Findings) -> None:
    """Compare responses with and without enough memory for a whole batch."""
    engine = open_model(setting, str(setting.device), "float32")
    prompts = suite_prompts(setting, engine)
    engine.generate(prompts[-1:])  # loads the weights
    whole, limited, limit = _limit_memory(setting, engine, prompts)
    budget = TokenBudget((prompts[0].tokens + engine.model.max_tokens) * len(prompts))
    before, failed_alone = budget.tokens, False
    stand_in: Any = SimpleNamespace(generate=limited, close=engine.close)
    guard = GuardedEngine(lambda: stand_in, engine.model.max_tokens, budget, 600)
    with closing(guard), limit:
        try:
            limited(prompts)
        except BatchTooLargeError:
            failed_alone = True
        halved = guard.generate(prompts)
    completed = [outcome for outcome in halved if isinstance(outcome, Completion)]
    share, text = equality(engine, whole, completed) if len(completed) == len(prompts) else (0.0, "some failed")
    text = f"budget from {before:,} to {budget.tokens:,} tokens; {text}"
    findings.add(
        "a batch that does not fit into memory", text, not failed_alone or budget.tokens == before or share < MIN_EQUAL
    )
    findings.documented["memory"] = text


def _limit_memory(
    setting: Setting, engine: TransformersEngine, prompts: Sequence[Prompt]
) -> tuple[list[Completion], throughput.Side, AbstractContextManager[None]]:
    """Generate with all the memory there is; return the responses, what generates with too little, and the limit on a GPU."""
    if setting.device.type == "cuda":
        resident = torch.cuda.memory_allocated(setting.device)
        whole = throughput.timed(engine.generate, prompts, setting.device)
        limit = cuda_memory_limit(setting.device, MEMORY_SHARE * (whole.peak - resident))
        return whole.completions, engine.generate, limit
    weights = list(engine._load().model.parameters())
    counter = MemoryLimit(float("inf"), weights)
    completions = run_under(counter, engine.generate)(prompts)
    return completions, run_under(MemoryLimit(MEMORY_SHARE * counter.peak, weights), engine.generate), nullcontext()


def work(setting: Setting, cache: Path, shard: str) -> tuple[float, float]:
    """Generate a shard of the suite; return when that began and ended."""
    started = time.time()
    generate(setting.suite, Cache(cache), setting.workspace, shard=Shard(*map(int, shard.split("/"))), encode=encode)
    return started, time.time()


def run_workers(setting: Setting, cache: Path, parts: int) -> list[list[float]]:
    """Run a process for every shard, all at the same time; return the times at which each began and ended.

    Raises:
        EngineError: A process failed.
    """
    command = [sys.executable, "-m", "tests.benchmarks.gpu", "--device", str(setting.device), "--folder", str(setting.folder)]
    command += ["--store", str(setting.workspace.downloads), *(["--tiny"] if setting.tiny else []), "--worker", str(cache)]
    processes = [
        subprocess.Popen([*command, "--shard", f"{number}/{parts}"], stdout=subprocess.PIPE, text=True)
        for number in range(1, parts + 1)
    ]
    try:
        outputs = [process.communicate()[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(process.returncode for process in processes):
        raise EngineError("A process that generates a shard failed; its message is above.")
    return [json.loads(output.splitlines()[-1]) for output in outputs]


def responses(cache: Path) -> dict[str, str]:
    """Return the responses of a cache by their generation's key."""
    rows = Cache(cache).arrow("SELECT generation::VARCHAR AS generation, response FROM generations").to_pylist()
    return {row["generation"]: row["response"] for row in rows}


def processes(setting: Setting, findings: Findings) -> None:
    """Generate the suite in this process, and again with two others on the same card and cache."""
    alone, together = setting.folder / "alone.duckdb", setting.folder / "together.duckdb"
    began, ended = work(setting, alone, "1/1")
    findings.add("one process", f"{ended - began:.1f} s")
    times = run_workers(setting, together, 2)
    overlap = min(end for _, end in times) - max(start for start, _ in times)
    wall = max(end for _, end in times) - min(start for start, _ in times)
    expected, actual = responses(alone), responses(together)
    equal = sum(actual.get(key) == response for key, response in expected.items())
    text = f"{(ended - began) / wall:.2f} times as fast as one; {equal} of {len(expected)} equal"
    complete = expected.keys() == actual.keys() and equal >= MIN_EQUAL * len(expected)
    findings.add("two processes on one card", text, overlap <= 0 or not complete)
    findings.documented["two processes"] = text
    if not setting.tiny:
        table = pq.read_table(REFERENCE, columns=["generation", "response"]).to_pylist()
        reference = {str(row["generation"]): row["response"] for row in table}
        shared = expected.keys() & reference.keys()
        equal = sum(expected[key] == reference[key] for key in shared)
        findings.add("float32 against the reference cache", f"{equal} of {len(shared)} equal", equal < MIN_EQUAL * len(shared))


def speed(setting: Setting, findings: Findings) -> None:
    """Time the engine against its rivals with a larger model."""
    dtype = torch.float32 if setting.tiny else torch.bfloat16
    size, config = (throughput.TINY, random_model.small_llama()) if setting.tiny else (throughput.GPU, random_model.llama_1b())
    ceilings = hardware.measure(setting.device, dtype)
    findings.add("matrix products", f"{ceilings.operations / 1e12:,.1f} TFLOP/s")
    findings.add("copies", f"{ceilings.bandwidth / 1e9:,.0f} GB/s read and written")
    folder = random_model.make_checkpoint(setting.folder / "random", config, dtype, setting.device)
    comparison = throughput.Comparison(folder, size, str(dtype).removeprefix("torch."), setting.device, ceilings)
    lengths = [prompt.tokens for prompts in comparison.prompts.values() for prompt in prompts]
    findings.add("prompts", f"{len(lengths)} of {min(lengths)} to {max(lengths)} tokens")
    if not find_spec("vllm"):
        findings.add("vLLM", "skipped, not installed")
    try:
        comparison.run(turns=2, seconds=LIMITS["speed"] / 2)
    finally:
        print(aligned(throughput.COLUMNS, comparison.rows()))
        findings.documented["speed"] = comparison.summary()


PARTS: dict[str, Callable[[Setting, Findings], None]] = {
    "contract": contract,
    "memory": memory,
    "speed": speed,
    "processes": processes,
}


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a `TimeoutError` in the main thread after a time."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"stopped after {seconds:.0f} s")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def run_parts(setting: Setting, names: Sequence[str]) -> Findings:
    """Run parts one after the other; one that fails does not keep the others from running."""
    findings = Findings()
    for name in names:
        started = time.monotonic()
        try:
            with time_limit(LIMITS[name]):
                PARTS[name](setting, findings)
        except (ToolkitError, TimeoutError) as error:
            findings.add(name, str(error), fault=True)
        except Exception as error:
            traceback.print_exc()
            findings.add(name, f"{type(error).__name__}: {error}", fault=True)
        findings.add(f"time of {name}", f"{time.monotonic() - started:.0f} s")
    return findings


def main() -> int:
    """Run the parts, print what they found, and return 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few prompts: checks the script itself")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--shard", help=argparse.SUPPRESS)
    options = parser.parse_args()
    try:
        device = choose_device(options.device)
        if device.type == "cuda":
            device = torch.device("cuda", device.index or 0)
    except EngineError as error:
        print(f"{error} `just gpu` needs a GPU and a build of PyTorch for it.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        setting = make_setting(str(device), options.tiny, options.folder or Path(scratch), options.store)
        if options.worker:
            print(json.dumps(work(setting, options.worker, options.shard)))
            return 0
        findings = run_parts(setting, options.parts)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    documented = {"card": card, "versions": versions} | findings.documented
    print(aligned(["check", "result"], findings.rows, max_width=120))
    print("\nThe row for the table of docs/gpus.md:\n")
    print(markdown(DOCUMENTED, [[documented.get(column, "not run") for column in DOCUMENTED]]))
    if findings.faults:
        print(f"\nNot as it should be: {', '.join(findings.faults)}", file=sys.stderr)
    return bool(findings.faults)


if __name__ == "__main__":
    sys.exit(main())
