"""Compare `toolkit generate` with `model.generate`, one prompt at a time: `python -m tests.benchmarks.decoding`.

Uses 64 questions from all benchmarks of a suite, its first model in float32, and 64 new tokens. The toolkit's side is the whole
of `generate`: rendering, decoding, scoring, commits. Neither side includes loading weights or first imports. With `--llama` and
`--gguf`, llama.cpp's server runs the same weights, called by `generate` with the engine openai, all prompts at once. The sides
run in turns, twice by default; the best run of each counts.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.scripted import encode
from tests.serving import llama
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.openai import OpenAIEngine
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.generate import generate
from toolkit.store import Cache
from toolkit.suites.config import EngineConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.models import ModelConfig
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Suite


class Run(NamedTuple):
    """Responses and times of one side.

    Attributes:
        responses: Response by prompt.
        tokens: Tokens of all responses.
        wall: Wall time in seconds.
        cpu: CPU time of all cores in seconds; does not include a server's.
        model: Part of `wall` spent in the model's forward passes, in seconds.
    """

    responses: dict[str, str]
    tokens: int
    wall: float
    cpu: float
    model: float


class Clock:
    """Sums the time spent in a model's forward passes."""

    def __init__(self, model: Any) -> None:
        self.seconds, self._since = 0.0, 0.0
        model.register_forward_pre_hook(self._begin)
        model.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._since = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._since


def mixed(name: str, questions: int, store: Path, limit: int) -> tuple[Suite, ModelConfig, Path]:
    """Reduce a suite to its first model and some questions, sampled evenly from its benchmarks.

    Returns:
        The reduced suite, the model's settings, and the folder of the suite file.
    """
    file = find_suite(name)
    config = load_config(file)
    model = config.models[0].model_copy(update={"dtype": "float32", "max_tokens": limit})
    each = -(-questions // len(config.benchmarks))
    benchmarks = tuple(benchmark.model_copy(update={"limit": each}) for benchmark in config.benchmarks)
    engine = EngineConfig(device="cpu", batch_tokens=32768)
    suite = resolve(
        config.model_copy(update={"horizon": 1, "models": (model,), "benchmarks": benchmarks, "engine": engine}),
        Workspace(file.parent, store),
    )
    sample = random.Random(0).sample(suite.questions, questions)
    return Suite(suite.config, suite.models, tuple(sample), suite.encoder), model, file.parent


def measured(run: Callable[[], dict[str, str]], engine: TransformersEngine, clock: Clock) -> Run:
    """Run one side and time it."""
    model, wall, cpu = clock.seconds, time.perf_counter(), time.process_time()
    responses = run()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    tokens = sum(map(engine.count, responses.values()))
    return Run(responses=responses, tokens=tokens, wall=wall, cpu=cpu, model=clock.seconds - model)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="offline-real", help="offline-real needs $TOOLKIT_DATA, quickstart does not")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of downloaded weights")
    parser.add_argument("--llama", type=Path, help="llama.cpp's server, run with --threads as well")
    parser.add_argument("--gguf", type=Path, help="model file for the server")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    suite, config, base = mixed(options.suite, options.questions, options.store, options.tokens)
    engine = TransformersEngine(suite.config.engine, config, Workspace(base, options.store))
    model = engine._load().model
    clock = Clock(model)
    folder = Path(tempfile.mkdtemp())
    prompts: list[str] = []

    def toolkit_generate(opened: Any = engine) -> dict[str, str]:
        cache = Cache(folder / f"{time.monotonic_ns()}.duckdb")
        report = generate(suite, cache, Workspace(base, options.store), engine=lambda *_: Resident(opened), encode=encode)
        assert not report.failed
        rows = cache.arrow("SELECT prompt, response FROM generations").to_pylist()
        prompts[:] = [row["prompt"] for row in rows]
        return {row["prompt"]: row["response"] for row in rows}

    def one_at_a_time() -> dict[str, str]:
        responses = {}
        for prompt in prompts:
            ids = engine.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
            with torch.inference_mode():
                output = model.generate(**ids)
            new_tokens = output[0, ids["input_ids"].shape[1] :]
            responses[prompt] = engine.tokenizer.decode(new_tokens, skip_special_tokens=True)
        return responses

    def llama_server() -> Run:
        with llama(options.llama, options.gguf, options.threads, options.questions, folder / "log") as url:
            settings = {"url": url, "concurrency": options.questions, "tokens": True}
            server = EngineConfig.model_validate({"name": "openai", "server": settings})
            client = OpenAIEngine(server, config.model_copy(update={"served": "m"}), Workspace(base, options.store))
            client.generate([Prompt("Hello", client.count("Hello"), 0)])
            return measured(lambda: toolkit_generate(client), engine, clock)

    toolkit_generate()  # the first run also imports
    sides: dict[str, list[Run]] = {}
    for _ in range(options.turns):
        sides.setdefault("toolkit generate", []).append(measured(toolkit_generate, engine, clock))
        sides.setdefault("one prompt at a time", []).append(measured(one_at_a_time, engine, clock))
        if options.llama:
            sides.setdefault("llama.cpp's server", []).append(llama_server())
    best = {name: min(runs, key=lambda run: run.wall) for name, runs in sides.items()}
    ours = best["toolkit generate"]
    lengths = sorted(map(engine.count, ours.responses))
    print(
        f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens ({sum(lengths)}), {options.threads} threads, float32"
    )
    for name, run in best.items():
        equal = sum(run.responses[prompt] == response for prompt, response in ours.responses.items())
        outside = 1 - run.model / run.wall
        times = f"CPU time {run.cpu:.1f} s, {outside:.1%} of the time outside the model, " if run.model else ""
        print(
            f"{name}: {run.tokens} tokens in {run.wall:.1f} s ({run.tokens / run.wall:.1f} tokens/s), {times}"
            f"{equal} of {len(prompts)} responses equal to toolkit generate's, {run.wall / ours.wall:.2f} times its wall time"
        )


class Resident:
    """An engine that stays open between runs."""

    def __init__(self, engine: TransformersEngine | OpenAIEngine) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def close(self) -> None:
        """Keep the weights loaded."""


if __name__ == "__main__":
    main()
