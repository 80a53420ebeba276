"""Times engines against batched `model.generate` on the prompts of a suite's hops, with one model."""

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.attention import sdpa_kernel
from transformers import AutoConfig

from tests.benchmarks.hardware import Ceilings, floor, synchronize
from tests.benchmarks.random_model import words
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Engine, Prompt, open_engine
from toolkit.engines.decoding import ATTENTION_BACKENDS
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.engines.transformers import TransformersEngine
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import Example, ModelConfig
from toolkit.suites.prompts import messages

MODELS = 3
"""Models of the pool whose tree is read: 3 contexts of a question at hop 2, 9 at hop 3."""

Respond = Callable[[str, tuple[int, ...]], str]
"""Returns the response at the end of a path, given the question."""


class Size(NamedTuple):
    """Size of a comparison.

    Attributes:
        prompts: Prompts of each hop, about.
        few_shot: Examples before each question.
        words: Shortest and longest question and example, in tokens.
        max_tokens: Longest response, in tokens.
        budgets: Token budgets of the toolkit's engine.
        batches: Batch sizes of `model.generate`, in prompts.
    """

    prompts: int
    few_shot: int
    words: tuple[int, int]
    max_tokens: int
    budgets: tuple[int, ...]
    batches: tuple[int, ...]


GPU = Size(prompts=256, few_shot=4, words=(60, 180), max_tokens=64, budgets=(2**16, 2**18), batches=(64, 256))
TINY = Size(prompts=9, few_shot=1, words=(8, 24), max_tokens=8, budgets=(128, 1024), batches=(4,))


class Timing(NamedTuple):
    """One run over the prompts of a hop.

    Attributes:
        seconds: Wall time.
        peak: Peak memory of the device in bytes; 0 on a CPU.
        completions: A completion for each prompt.
    """

    seconds: float
    peak: int
    completions: list[Completion]


Side = Callable[[Sequence[Prompt]], list[Completion]]

COLUMNS = [
    "hop",
    "program",
    "seconds",
    "prompt tokens/s",
    "response tokens/s",
    "share of the roofline",
    "peak memory",
    "equal to the first",
]


def contexts(
    engine: TransformersEngine, protocol: str, questions: Sequence[str], hop: int, models: int, respond: Respond
) -> list[Prompt]:
    """Render the contexts of a hop as `generate` does: every path to it, equal prompts once, the longest first."""
    model = engine.model
    texts = {
        engine.render(
            messages(
                protocol,
                model.system_prompt,
                model.few_shot,
                question,
                [respond(question, path[:length]) for length in range(1, hop)],
            )
        )
        for question in questions
        for path in product(range(models), repeat=hop - 1)
    }
    prompts = [Prompt(text=text, tokens=engine.count(text), seed=0) for text in texts]
    return sorted(prompts, key=lambda prompt: (-prompt.tokens, prompt.text))


def random_prompts(engine: TransformersEngine, size: Size, hop: int) -> list[Prompt]:
    """Return prompts of random words behind shared few-shot examples, with responses of various lengths from hop 2 on."""
    vocabulary = len(engine.tokenizer)
    generator = random.Random(hop)
    lengths = [generator.randint(*size.words) for _ in range(-(-size.prompts // MODELS ** (hop - 1)))]
    questions = [words(length, vocabulary, f"question {number}") for number, length in enumerate(lengths)]

    def respond(question: str, path: tuple[int, ...]) -> str:
        length = random.Random(f"{question} {path}").randint(1, size.max_tokens)
        return words(length, vocabulary, f"{question} {path} {length}")

    return contexts(engine, "append-v1", questions, hop, MODELS, respond)


def random_model_config(folder: Path, size: Size, dtype: str) -> ModelConfig:
    """Return the settings of a checkpoint of random weights, with few-shot examples of random words."""
    vocabulary = AutoConfig.from_pretrained(folder).vocab_size
    examples = [
        Example(
            user=words(size.words[1], vocabulary, f"user {number}"),
            assistant=words(size.words[0], vocabulary, f"assistant {number}"),
        )
        for number in range(size.few_shot)
    ]
    return ModelConfig.model_validate(
        {
            "name": "random",
            "checkpoint": str(folder),
            "dtype": dtype,
            "max_tokens": size.max_tokens,
            "few_shot": examples,
            "base_rate": 1.0,
        }
    )


def guarded(engine: Engine, max_tokens: int, tokens: int) -> Callable[[Sequence[Prompt]], list[Any]]:
    """Return what runs prompts, longest first, through an engine in batches of a token budget."""
    return GuardedEngine(lambda: engine, max_tokens, TokenBudget(tokens), 600).generate


def generate_in_batches(engine: TransformersEngine, rows: int, prompts: Sequence[Prompt]) -> list[Completion]:
    """Call `model.generate` with `rows` prompts at a time, longest first, and with the same kernels of attention."""
    decoder = engine._load()
    completions = []
    for start in range(0, len(prompts), rows):
        texts = [prompt.text for prompt in prompts[start : start + rows]]
        batch = engine.tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt").to(engine.device)
        with torch.inference_mode(), sdpa_kernel(ATTENTION_BACKENDS):
            sequences = decoder.model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        responses = sequences[:, batch["input_ids"].shape[1] :].tolist()
        completions += [engine.chat.completion(_trim(response, decoder.end_tokens), ()) for response in responses]
    return completions


def _trim(response: list[int], ends: set[int]) -> list[int]:
    """Cut a response after its first end token."""
    return response[: next((n for n, token in enumerate(response, 1) if token in ends), len(response))]


def timed(side: Side, prompts: Sequence[Prompt], device: torch.device) -> Timing:
    """Time one run over prompts."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    synchronize(device)
    started = time.perf_counter()
    completions = side(prompts)
    synchronize(device)
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    return Timing(seconds=seconds, peak=peak, completions=completions)


class Comparison:
    """The times of several programs over the prompts of hops 1 to 3, with a checkpoint of random weights.

    Args:
        folder: The checkpoint.
        size: What is compared.
        dtype: Precision of the weights.
        device: Where the model runs.
        ceilings: Limits of the device.
    """

    def __init__(self, folder: Path, size: Size, dtype: str, device: torch.device, ceilings: Ceilings) -> None:
        self.size, self.device, self.ceilings = size, device, ceilings
        self.model = random_model_config(folder, size, dtype)
        self.workspace = Workspace(folder, folder)
        self.engine = TransformersEngine(EngineConfig(device=str(device)), self.model, self.workspace)
        self.prompts = {hop: random_prompts(self.engine, size, hop) for hop in (1, 2, 3)}
        self.best: dict[tuple[int, str], Timing] = {}
        self.floors: dict[int, float] = {}

    def run(self, turns: int, seconds: float) -> None:
        """Time the toolkit's engine and `model.generate` in turns, then vLLM on its own, since it takes the whole card.

        Args:
            turns: How often each runs, at most.
            seconds: Time after which no further turn begins.
        """
        sides: dict[str, Side] = {
            f"toolkit, batches of {tokens:,} tokens": guarded(self.engine, self.size.max_tokens, tokens)
            for tokens in self.size.budgets
        }
        sides |= {
            f"model.generate, {rows} prompts": partial(generate_in_batches, self.engine, rows) for rows in self.size.batches
        }
        self._time(sides, turns, seconds)
        self.engine.close()
        if find_spec("vllm"):
            config = EngineConfig(name="vllm", device=str(self.device))
            engine = open_engine(config, self.model, self.workspace)
            self._time({"vLLM": guarded(engine, self.size.max_tokens, config.token_budget)}, turns, seconds)
            engine.close()

    def rows(self) -> list[list[str]]:
        """Return a row of `COLUMNS` for the best run of every program on every hop."""
        rows = []
        for (hop, name), timing in sorted(self.best.items(), key=lambda item: item[0][0]):
            first = next(best for (other, _), best in self.best.items() if other == hop)
            equal = [a.response == b.response for a, b in zip(timing.completions, first.completions, strict=True)]
            rows.append(
                [
                    str(hop),
                    name,
                    f"{timing.seconds:.2f}",
                    f"{sum(prompt.tokens for prompt in self.prompts[hop]) / timing.seconds:,.0f}",
                    f"{sum(completion.completion_tokens for completion in timing.completions) / timing.seconds:,.0f}",
                    f"{self.floors[hop] / timing.seconds:.1%}",
                    f"{timing.peak / 1e9:.1f} GB" if timing.peak else "-",
                    f"{sum(equal)} of {len(equal)}",
                ]
            )
        return rows

    def summary(self) -> str:
        """Compare the toolkit's best run of every hop with the best one of `model.generate`."""
        sentences = []
        for hop in sorted({hop for hop, _ in self.best}):
            ours, theirs = (
                min(
                    (run for (other, name), run in self.best.items() if other == hop and name.startswith(program)), default=None
                )
                for program in ("toolkit", "model.generate")
            )
            if ours and theirs:
                tokens = sum(completion.completion_tokens for completion in ours.completions)
                sentences.append(
                    f"hop {hop}: {tokens / ours.seconds:,.0f} response tokens/s, {theirs.seconds / ours.seconds:.2f} times "
                    f"`model.generate`, {self.floors[hop] / ours.seconds:.1%} of the roofline"
                )
        return "; ".join(sentences)

    def _time(self, sides: dict[str, Side], turns: int, seconds: float) -> None:
        started = time.monotonic()
        for side in sides.values():
            side(self.prompts[1][-2:])  # loads weights and kernels
        for turn in range(turns):
            if turn and time.monotonic() - started > seconds:
                return
            for hop, prompts in self.prompts.items():
                for name, side in sides.items():
                    timing = timed(side, prompts, self.device)
                    self.best[hop, name] = min(self.best.get((hop, name), timing), timing, key=lambda run: run.seconds)
                    self._set_floor(hop, timing)

    def _set_floor(self, hop: int, timing: Timing) -> None:
        if hop not in self.floors:
            read = [prompt.tokens for prompt in self.prompts[hop]]
            written = [completion.completion_tokens + 1 for completion in timing.completions]  # and an end token
            self.floors[hop] = floor(self.engine._load().model, read, written, self.ceilings)
