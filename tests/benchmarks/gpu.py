"""Check and measure the engine transformers on a GPU: `just gpu`, in less than eight minutes (docs/guides/gpus.md).

Four parts, each with a time limit: greedy responses on the GPU against those on the CPU, in float32 and bfloat16; speed,
against batched `model.generate` and, where it is installed, vLLM; a batch that does not fit into memory; two `generate`
processes on one card. Speed is measured with 1.5 billion random weights, all else with the quickstart's first model, or random
weights where it is not available. Prints tables and a row for the table of docs/guides/gpus.md, and writes them to `--out` at
once. `--device cpu --tiny` runs all of it in a minute without a GPU.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from functools import partial
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import torch
import transformers

from tests.benchmarks import hardware, prompts, random_model
from tests.benchmarks.comparison import WORKLOAD_COLUMNS, Comparison, Variant, profiles
from tests.benchmarks.findings import Findings, run_parts
from tests.benchmarks.generate import BATCHED, OURS, vllm_settings
from tests.benchmarks.gpu_setting import Setting, make_setting, open_model, suite_prompts
from tests.benchmarks.memory_limit import MemoryLimit
from tests.benchmarks.programs import Worker
from tests.scripted import encode
from toolkit.core.errors import EngineError
from toolkit.engines import BatchTooLargeError, Completion, Prompt
from toolkit.engines.decoding import choose_device
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.generate import generate
from toolkit.generation.state import Shard
from toolkit.report.tables import aligned, markdown
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig

MIN_EQUAL = 0.99
"""Share of float32 responses that must be equal on the GPU and the CPU: two tokens can be equally probable up to rounding."""
MEMORY_SHARE = 0.4
"""Share of the memory of a whole batch that a batch may have in the test of memory."""
BATCH_TOKENS = 2**14
"""Token budget of the comparison with the CPU."""
LIMITS = {"contract": 90, "speed": 210, "memory": 40, "processes": 100}
"""Longest time of each part, in seconds."""
SECONDS = 440.0
"""Longest time of all parts together, in seconds."""
VLLM_MEMORY = 0.4
"""Share of a GPU's memory that vLLM takes beside the other engines."""
REFERENCE = Path(__file__).parents[2] / "cache/reference/generations.parquet"
DOCUMENTED = ["card", "float32", "bfloat16", "memory", "two processes", "speed", "versions"]
"""Columns of the table in docs/guides/gpus.md."""


Side = Callable[[Sequence[Prompt]], list[Completion]]


class Size(NamedTuple):
    """Size of the comparison of speed.

    Attributes:
        workload: Size of its prompts.
        budgets: Token budgets of the toolkit's engine.
        batches: Batch sizes of `model.generate`, in prompts.
    """

    workload: prompts.RandomSize
    budgets: tuple[int, ...]
    batches: tuple[int, ...]


LARGE = Size(prompts.RandomSize(prompts=256, few_shot=4, words=(60, 180), max_tokens=64), (2**16, 2**18), (64, 256))
TINY = Size(prompts.RandomSize(prompts=9, few_shot=1, words=(8, 24), max_tokens=8), (128, 1024), (4,))


def complete(setting: Setting, device: str, dtype: str) -> tuple[list[Completion], TransformersEngine]:
    """Generate responses to the suite's prompts; return the engine too, which counts tokens."""
    engine = open_model(setting, device, dtype)
    guard = GuardedEngine(lambda: engine, engine.model.max_tokens, TokenBudget(BATCH_TOKENS), 600)
    completions: list[Any] = guard.generate(suite_prompts(setting, engine))
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


def run_under(limit: MemoryLimit, side: Side) -> Side:
    """Return what runs prompts under a limit, in whichever thread."""

    def run(batch: Sequence[Prompt]) -> list[Completion]:
        with limit:
            return side(batch)

    return run


def memory(setting: Setting, findings: Findings) -> None:
    """Compare responses with and without enough memory for a whole batch."""
    engine = open_model(setting, str(setting.device), "float32")
    batch = suite_prompts(setting, engine)
    engine.generate(batch[-1:])  # loads the weights
    whole, limited, limit = _limit_memory(setting, engine, batch)
    budget = TokenBudget((batch[0].tokens + engine.model.max_tokens) * len(batch))
    before, failed_alone = budget.tokens, False
    stand_in: Any = SimpleNamespace(generate=limited, close=engine.close)
    guard = GuardedEngine(lambda: stand_in, engine.model.max_tokens, budget, 600)
    with closing(guard), limit:
        try:
            limited(batch)
        except BatchTooLargeError:
            failed_alone = True
        halved = guard.generate(batch)
    completed = [outcome for outcome in halved if isinstance(outcome, Completion)]
    share, text = equality(engine, whole, completed) if len(completed) == len(batch) else (0.0, "some failed")
    text = f"budget from {before:,} to {budget.tokens:,} tokens; {text}"
    findings.add(
        "a batch that does not fit into memory", text, not failed_alone or budget.tokens == before or share < MIN_EQUAL
    )
    findings.documented["memory"] = text


def _limit_memory(
    setting: Setting, engine: TransformersEngine, batch: Sequence[Prompt]
) -> tuple[list[Completion], Side, AbstractContextManager[None]]:
    """Generate with all the memory there is; return the responses, what generates with too little, and the limit on a GPU."""
    if setting.device.type == "cuda":
        resident = torch.cuda.memory_allocated(setting.device)
        torch.cuda.reset_peak_memory_stats(setting.device)
        whole = engine.generate(batch)
        peak = torch.cuda.max_memory_allocated(setting.device)
        return whole, engine.generate, cuda_memory_limit(setting.device, MEMORY_SHARE * (peak - resident))
    weights = list(engine._load().model.parameters())
    counter = MemoryLimit(float("inf"), weights)
    completions = run_under(counter, engine.generate)(batch)
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
    if not setting.tiny and not setting.random:
        table = pq.read_table(REFERENCE, columns=["generation", "response"]).to_pylist()
        reference = {str(row["generation"]): row["response"] for row in table}
        shared = expected.keys() & reference.keys()
        equal = sum(expected[key] == reference[key] for key in shared)
        findings.add("float32 against the reference cache", f"{equal} of {len(shared)} equal", equal < MIN_EQUAL * len(shared))


def speed(setting: Setting, findings: Findings) -> None:
    """Time the engine against batched `model.generate`, and then against vLLM, with a larger model of random weights."""
    dtype = torch.float32 if setting.tiny else torch.bfloat16
    size, config = (TINY, random_model.small_llama()) if setting.tiny else (LARGE, random_model.llama_1b())
    ceilings = hardware.measure(setting.device, dtype)
    findings.add("matrix products", f"{ceilings.operations / 1e12:,.1f} TFLOP/s")
    findings.add("bandwidth", f"{ceilings.bandwidth / 1e9:,.0f} GB/s")
    folder = random_model.make_checkpoint(setting.folder / "random", config, dtype, setting.device)
    model = prompts.random_model(folder, size.workload, str(dtype).removeprefix("torch."))
    engine = TransformersEngine(EngineConfig(device=str(setting.device)), model, setting.workspace)
    workloads = prompts.random_workloads(engine, model, size.workload, setting.folder)
    comparison = Comparison(workloads, hardware.sizes(folder, dtype), ceilings)
    settings = {"engine": {"device": str(setting.device)}, "model": model.model_dump(mode="json")}

    def keep() -> None:
        findings.records["speed"] = comparison.record()
        findings.write()

    try:
        with closing(Worker(engine.chat, "toolkit", settings, setting.folder / "toolkit.log")) as worker:
            variants = [
                Variant(OURS, f"batches of {tokens:,} tokens", worker, {"batch_tokens": tokens}) for tokens in size.budgets
            ]
            variants += [Variant(BATCHED, f"{rows} prompts", worker, {"rows": rows}) for rows in size.batches]
            comparison.run(variants, turns=2, seconds=LIMITS["speed"] / 3, after_each=keep)
            findings.show(markdown(*profiles(worker, workloads[-1:])))
        if find_spec("vllm"):
            share = {} if setting.device.type == "cpu" else {"gpu_memory_utilization": VLLM_MEMORY}
            arguments = vllm_settings(model, engine.chat, **share)
            with closing(Worker(engine.chat, "vllm", arguments, setting.folder / "vllm.log")) as vllm:
                comparison.run([Variant("vLLM", "", vllm, {})], turns=2, seconds=LIMITS["speed"] / 6)
        else:
            comparison.missing["vLLM"] = "not installed"
    finally:
        findings.records["speed"] = comparison.record()
        findings.documented["speed"] = comparison.summary()
        findings.show(aligned(WORKLOAD_COLUMNS, comparison.workload_rows()))
        findings.show(aligned(comparison.columns(), comparison.rows()))


PARTS: dict[str, Callable[[Setting, Findings], None]] = {
    "contract": contract,
    "speed": speed,
    "memory": memory,
    "processes": processes,
}
"""The parts, the most important first."""


def main() -> int:
    """Run the parts, print what they found, and return 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny models and few prompts: checks the script itself")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="longest time of all parts")
    parser.add_argument("--out", type=Path, default=os.environ.get("OUT"), help="folder for the results; default: $OUT")
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
        findings = Findings(options.out)
        parts = {name: partial(PARTS[name], setting) for name in options.parts}
        run_parts(parts, LIMITS, options.seconds, findings)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    findings.documented = {"card": card, "versions": versions} | findings.documented
    print(aligned(["check", "result"], findings.rows, max_width=120))
    row = markdown(DOCUMENTED, [[findings.documented.get(column, "not run") for column in DOCUMENTED]])
    findings.show(f"\nThe row for the table of docs/guides/gpus.md:\n\n{row}")
    if findings.faults:
        print(f"\nNot as it should be: {', '.join(findings.faults)}", file=sys.stderr)
    return bool(findings.faults)


if __name__ == "__main__":
    sys.exit(main())
