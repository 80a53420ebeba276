"""Compare engines on the quickstart's prompts: `just bench-generate` writes a section of docs/explanations/performance.md.

The engine transformers, batched `model.generate`, vLLM and llama.cpp's server run the quickstart's first specialist in float32,
its adapter merged, on contexts of hops 1 to 3 from the reference cache and on prompts behind few-shot examples. Each has a
process of its own, which is stopped while others have their turn; none keeps what it has read from one run to the next.
`just rivals` installs vLLM and llama.cpp's server.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import hardware
from tests.benchmarks.comparison import BUSY, WORKLOAD_COLUMNS, Comparison, Variant, profiles
from tests.benchmarks.page import PAGE, layout, machine, replace_section
from tests.benchmarks.programs import LlamaServer, Program, Worker
from tests.benchmarks.prompts import reference_workloads
from tests.benchmarks.rivals import Rivals
from toolkit.core.cpus import share_cpus
from toolkit.core.workspace import Workspace
from toolkit.engines.tokenizer import ChatTokenizer
from toolkit.engines.transformers import TransformersEngine
from toolkit.report.tables import aligned, markdown
from toolkit.suites.config import EngineConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.models import ModelConfig

QUESTIONS = (96, 32, 11)
"""Questions at hops 1 to 3: about 96 prompts each."""
VLLM_BLOCK = 32
"""Tokens of a block of vLLM's prefix cache: the least that its attention on a CPU takes."""
OURS, BATCHED, LLAMA = "toolkit, engine transformers", "batched `model.generate`", "llama.cpp's server"
PACKAGES = ("torch", "transformers")
NOT_INSTALLED = "not installed: `just rivals`"


def merge(downloads: Path, folder: Path) -> tuple[ModelConfig, TransformersEngine]:
    """Save the quickstart's first specialist with its adapter merged; return its settings and the engine that loaded it."""
    file = find_suite("quickstart")
    model = load_config(file).models[0]
    engine = TransformersEngine(EngineConfig(device="cpu"), model, Workspace(file.parent, downloads))
    engine._load().model.save_pretrained(folder)
    engine.tokenizer.save_pretrained(folder)
    engine.close()
    merged = model.model_dump() | {"checkpoint": str(folder), "adapter": None, "sha256": None}
    return ModelConfig.model_validate(merged), engine


def worker_environment(threads: int) -> dict[str, str]:
    """Return what makes a process compute with so many threads, and vLLM with 1 GiB of keys and values."""
    cores = f"0-{threads - 1}" if threads > 1 else "0"
    vllm = {"VLLM_CPU_OMP_THREADS_BIND": cores, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    return {"OMP_NUM_THREADS": str(threads), **vllm}


def vllm_settings(model: ModelConfig, chat: ChatTokenizer, **arguments: Any) -> dict[str, Any]:
    """Return the settings of vLLM's worker."""
    folder = {"model": model.checkpoint, "dtype": model.dtype}
    return {"arguments": folder | arguments, "end_tokens": sorted(chat.end_tokens), "max_tokens": model.max_tokens}


def convert(rivals: Rivals, checkpoint: Path, gguf: Path) -> None:
    """Write a checkpoint as a GGUF file with the same float32 values, by llama.cpp's own converter."""
    environment = os.environ | {"PYTHONPATH": str(rivals.converter_packages), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, rivals.sources / "convert_hf_to_gguf.py", checkpoint, "--outtype", "f32", "--outfile", gguf]
    subprocess.run(list(map(str, command)), env=environment, check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


@contextmanager
def open_programs(
    options: argparse.Namespace, model: ModelConfig, chat: ChatTokenizer, folder: Path, comparison: Comparison
) -> Iterator[list[Variant]]:
    """Start all programs that are installed, and note those that are not."""
    rivals, environment = Rivals(options.rivals.absolute()), worker_environment(options.threads)
    engine = load_config(find_suite("quickstart")).engine.model_copy(update={"device": "cpu"})
    settings = {"engine": engine.model_dump(mode="json"), "model": model.model_dump(mode="json")}
    context = max(len(tokens) for workload in comparison.workloads for tokens in workload.tokens) + model.max_tokens
    with ExitStack() as stack:

        def opened(program: Program) -> Program:
            return stack.enter_context(closing(program))

        def worker(engine: str, settings: dict[str, Any], log: str, **kwargs: Any) -> Program:
            return opened(Worker(chat, engine, settings, folder / log, **{"environment": environment, **kwargs}))

        shared = dict(environment)
        share_cpus(shared)  # as the command line does
        variants = [Variant(OURS, "", worker("toolkit", settings, "toolkit.log", environment=shared), {})]
        batched = worker("toolkit", settings, "model_generate.log")
        variants += [Variant(BATCHED, f"{rows} prompts", batched, {"rows": rows}) for rows in options.rows]
        if options.checkout:
            checkout = options.checkout.absolute()
            suite = tomllib.loads((checkout / "benchmarks/suites/quickstart.toml").read_text("utf-8"))
            earlier = {**settings, "engine": suite["engine"] | {"device": "cpu"}}
            other = worker("toolkit", earlier, "checkout.log", checkout=checkout)
            variants.append(Variant(f"toolkit of {checkout.name}", "", other, {"by_length": True}))
        if rivals.vllm.exists():
            arguments = vllm_settings(model, chat, max_model_len=context + VLLM_BLOCK, block_size=VLLM_BLOCK)
            variants.append(Variant("vLLM", "", worker("vllm", arguments, "vllm.log", python=str(rivals.vllm)), {}))
        else:
            comparison.missing["vLLM"] = NOT_INSTALLED
        if rivals.llama.exists():
            gguf, log = folder / "model.gguf", folder / "llama.log"
            convert(rivals, Path(model.checkpoint), gguf)
            server = opened(LlamaServer(chat, rivals.llama, gguf, context, model.max_tokens, options.threads, log))
            variants += [Variant(LLAMA, f"{slots} slots", server, {"slots": slots}) for slots in options.slots]
        else:
            comparison.missing[LLAMA] = NOT_INSTALLED
        yield variants


def section(
    comparison: Comparison, profile: tuple[list[str], list[list[str]]], options: argparse.Namespace, max_tokens: int
) -> str:
    """Return the section of docs/explanations/performance.md."""
    rivals = Rivals(options.rivals.absolute()).versions()
    threads = f"{options.threads} thread{'s' * (options.threads > 1)}"
    ceilings = comparison.ceilings
    command = f"just bench-generate {' '.join(sys.argv[1:])}".strip()
    parts = [
        "## Generation",
        f"Written by `{command}` with {threads}. {machine(PACKAGES)}, {rivals}. All engines run the "
        "quickstart's first specialist in float32, its adapter merged, on contexts of hops 1 to 3 from the reference cache and "
        f"on prompts behind few-shot examples. Responses have at most {max_tokens} tokens. The prompts are:",
        markdown(WORKLOAD_COLUMNS, comparison.workload_rows()),
        "Each engine has its own process, which is stopped while others have their turn, and begins every run with nothing "
        f"read. They run in turns; the fastest of {options.turns} runs counts, for `model.generate` and llama.cpp's server "
        "also over their settings. vLLM and llama.cpp's server get prompts sorted so that siblings meet. Prompt tokens per "
        "second count every token of every prompt, shared or not. Equal responses are those that equal the toolkit's.",
        markdown(comparison.columns(), comparison.rows()),
        "**The roofline** is the least time that this machine needs, at its measured rate of matrix products "
        f"({ceilings.operations / 1e9:,.0f} GFLOP/s in float32) and its measured bandwidth ({ceilings.bandwidth / 1e9:,.1f} "
        "GB/s), if all prompts form one batch: every prompt token, or every distinct prefix, passes through "
        "the layers once, and every step reads all weights, keys and values, or multiplies them, if that takes longer.",
        *(
            [f"**{BUSY}** is the rate with a busy process for each core, relative to the rate without, in the same run."]
            if comparison.busy
            else []
        ),
        "**Where the time goes** in the toolkit's engine, by PyTorch's profiler, as shares of the wall time:",
        markdown(*profile),
    ]
    return layout(parts)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, nargs=3, default=QUESTIONS, help="questions at hops 1, 2 and 3")
    parser.add_argument("--few-shot", type=int, default=64, help="prompts behind few-shot examples")
    parser.add_argument("--turns", type=int, default=2, help="runs of each engine over each kind of prompts")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of each engine")
    parser.add_argument("--rows", type=int, nargs="+", default=(16, 48, 96), help="batch sizes of model.generate")
    parser.add_argument("--slots", type=int, nargs="+", default=(16, 48), help="slots of llama.cpp's server")
    parser.add_argument("--checkout", type=Path, help="folder with a toolkit older than prefix trees, to compare with")
    parser.add_argument("--busy", action="store_true", help="run each once more with a busy process for every core")
    parser.add_argument("--rivals", type=Path, default=Path(".rivals"), help="folder that `just rivals` has filled")
    parser.add_argument("--downloads", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose section is written")
    parser.add_argument("--json", type=Path, help="file for all measurements")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the section."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the engines' processes too
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, engine = merge(options.downloads, folder / "merged")
        workloads = reference_workloads(engine, model, options.questions, options.few_shot, folder)
        size = hardware.sizes(folder / "merged", torch.float32)
        ceilings = hardware.measure(torch.device("cpu"), torch.float32)
        comparison = Comparison(workloads, size, ceilings)
        with open_programs(options, model, engine.chat, folder, comparison) as variants:
            comparison.run(variants, options.turns, busy=options.busy)
            profile = profiles(variants[0].program, workloads)
    text = section(comparison, profile, options, model.max_tokens)
    if options.json:
        options.json.write_text(json.dumps(comparison.record(), indent=1), "utf-8")
    print(aligned(comparison.columns(), comparison.rows()))
    options.page.write_text(replace_section(options.page.read_text("utf-8"), text), "utf-8")
    print(f"\n{options.page}: the section on generation is written.\n{comparison.summary()}")


if __name__ == "__main__":
    main()
