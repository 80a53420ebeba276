"""Generation by the engine transformers beside `model.generate`, one prompt at a time: `python -m tests.benchmarks.decoding`.

64 mixed questions of a suite's benchmarks, its first model in float32, 64 new tokens. The toolkit's side is all of `generate`:
rendering, decoding, scoring, commits. Loading weights is on neither side, nor what a first run imports. With `--llama` and
`--gguf`, llama.cpp's server runs the same weights, asked by `generate` with the engine openai, all prompts at a time. All run
in turns, twice by default; the best of each counts.
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
from toolkit.suites.config import EngineConfig, ModelConfig, ServerConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.suite import Suite, resolve


class Run(NamedTuple):
    """What one side took.

    Attributes:
        answers: Response by prompt.
        tokens: Of all answers.
        wall: Seconds.
        processor: Seconds of all cores; those of a server are not known.
        model: Seconds of `wall` within the model's forward passes.
    """

    answers: dict[str, str]
    tokens: int
    wall: float
    processor: float
    model: float


class Clock:
    """Adds up the time within a model's forward passes."""

    def __init__(self, model: Any) -> None:
        self.seconds, self._since = 0.0, 0.0
        model.register_forward_pre_hook(self._begin)
        model.register_forward_hook(self._end)

    def _begin(self, *_: Any) -> None:
        self._since = time.perf_counter()

    def _end(self, *_: Any) -> None:
        self.seconds += time.perf_counter() - self._since


def mixed(name: str, questions: int, store: Path, limit: int) -> tuple[Suite, ModelConfig, Path]:
    """Return a suite of its first model and so many questions, drawn evenly from its benchmarks; and where its paths start."""
    file = find_suite(name)
    config = load_config(file)
    model = config.models[0].model_copy(update={"dtype": "float32", "max_tokens": limit})
    each = -(-questions // len(config.benchmarks))
    benchmarks = tuple(one.model_copy(update={"limit": each}) for one in config.benchmarks)
    engine = EngineConfig(device="cpu", batch_tokens=32768)
    suite = resolve(
        config.model_copy(update={"horizon": 1, "models": (model,), "benchmarks": benchmarks, "engine": engine}),
        Workspace(file.parent, store),
    )
    drawn = random.Random(0).sample(suite.questions, questions)
    return Suite(suite.config, suite.models, tuple(drawn), suite.encoder), model, file.parent


def measured(run: Callable[[], dict[str, str]], engine: TransformersEngine, clock: Clock) -> Run:
    """Run one side against the clock."""
    within, wall, processor = clock.seconds, time.perf_counter(), time.process_time()
    answers = run()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return Run(answers, sum(map(engine.count, answers.values())), wall, processor, clock.seconds - within)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suite", default="offline-real", help="needs $TOOLKIT_DATA; quickstart needs none")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--store", type=Path, default=Path("cache/weights"), help="folder of fetched weights")
    parser.add_argument("--llama", type=Path, help="llama.cpp's server; its threads are --threads, too")
    parser.add_argument("--gguf", type=Path, help="the model for it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    suite, config, base = mixed(options.suite, options.questions, options.store, options.tokens)
    engine = TransformersEngine(suite.config.engine, config, Workspace(base, options.store))
    model = engine._resident().model
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
        found = {}
        for prompt in prompts:
            ids = engine.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
            with torch.inference_mode():
                written = model.generate(**ids)
            found[prompt] = engine.tokenizer.decode(written[0, ids["input_ids"].shape[1] :], skip_special_tokens=True)
        return found

    def llama_server() -> Run:
        with llama(options.llama, options.gguf, options.threads, options.questions, folder / "log") as url:
            server = EngineConfig(name="openai", server=ServerConfig(url=url, concurrency=options.questions, tokens=True))
            asked = OpenAIEngine(server, config.model_copy(update={"served": "m"}), Workspace(base, options.store))
            asked.generate([Prompt("Hello", asked.count("Hello"), 0)])
            return measured(lambda: toolkit_generate(asked), engine, clock)

    toolkit_generate()  # imports what there is to import
    sides: dict[str, list[Run]] = {}
    for _ in range(options.turns):
        sides.setdefault("toolkit generate", []).append(measured(toolkit_generate, engine, clock))
        sides.setdefault("one prompt at a time", []).append(measured(one_at_a_time, engine, clock))
        if options.llama:
            sides.setdefault("llama.cpp's server", []).append(llama_server())
    best = {name: min(runs, key=lambda run: run.wall) for name, runs in sides.items()}
    ours = best["toolkit generate"]
    lengths = sorted(map(engine.count, ours.answers))
    print(
        f"{len(prompts)} prompts of {lengths[0]} to {lengths[-1]} tokens ({sum(lengths)}), {options.threads} threads, float32"
    )
    for name, run in best.items():
        same = sum(run.answers[prompt] == answer for prompt, answer in ours.answers.items())
        within = (
            f"processor {run.processor:.1f} s, {1 - run.model / run.wall:.1%} of the time outside the model, "
            if run.model
            else ""
        )
        print(
            f"{name}: {run.tokens} tokens in {run.wall:.1f} s ({run.tokens / run.wall:.1f} tokens/s), {within}"
            f"{same} of {len(prompts)} answers those of toolkit generate, which takes {run.wall / ours.wall:.2f} times less"
        )


class Resident:
    """An engine that stays open for the next run."""

    def __init__(self, engine: TransformersEngine | OpenAIEngine) -> None:
        self.engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def close(self) -> None:
        """Keep the weights."""


if __name__ == "__main__":
    main()
