"""Measures what an engine does with the models of a suite on this machine, on the suite's own questions.

Two sets of questions of the first hop: one is read, with a single token written, the other is answered, so that no server
answers from what it has read before. Batches are cut and halved as `generate` does it.
"""

import platform
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from toolkit.core.errors import EngineError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, Prompt, open_engine
from toolkit.engines.guard import Guard, TokenBudget
from toolkit.generation.profiles import EngineProfile
from toolkit.store import now
from toolkit.suites.config import EngineConfig, ModelConfig
from toolkit.suites.prompts import Turn, messages
from toolkit.suites.suite import Question, Suite


def profile_engine(
    suite: Suite, workspace: Workspace, prompts: int = 64, engine: OpenEngine = open_engine
) -> Iterator[EngineProfile]:
    """Measure the suite's engine with each of its models.

    Args:
        suite: The suite.
        workspace: The suite file's folder, and the folder of downloads.
        prompts: How many to read, and how many others to answer; half of the suite's questions where it has fewer.
        engine: Opens an engine for a model.

    Raises:
        CheckpointError: Weights cannot be had.
        EngineError: The engine cannot run, a prompt fails, or there is too little to measure.
    """
    drawn = _mixed(suite.questions)
    half = min(prompts, len(drawn) // 2)
    if not half:
        raise EngineError("A calibration reads one question and answers another. Give a benchmark a limit of 2 or more.")
    for model, config in zip(suite.models, suite.config.models, strict=True):
        measure = partial(_measure, suite, config, workspace, engine)
        _reset_peak()
        read = measure(drawn[:half], 1)
        answered = measure(drawn[half : 2 * half], config.max_tokens)
        read_rate = read.prompt_tokens / read.seconds
        writing = answered.seconds - answered.prompt_tokens / read_rate
        if writing <= 0 or not answered.completion_tokens:
            raise EngineError(
                f"Model {model.name!r} wrote {answered.completion_tokens} tokens to {half} prompts: too little to measure. "
                "Give more --prompts, or let nothing else run meanwhile."
            )
        yield EngineProfile(
            model=str(model.key),
            name=model.name,
            engine=answered.engine,
            machine=_machine(suite.config.engine, config),
            prompts=half,
            prompt_tokens=answered.prompt_tokens / half,
            completion_tokens=answered.completion_tokens / half,
            loading=read.loading,
            read=read_rate,
            written=answered.completion_tokens / writing,
            peak=_peak() if suite.config.engine.name == "transformers" else None,
            batch_tokens=answered.batch_tokens,
            measured=f"{now():%Y-%m-%d %H:%M:%S}",
        )


class _Measured(NamedTuple):
    """What prompts took: the first token of one of them, weights loaded, and then all."""

    engine: str
    loading: float
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    batch_tokens: int


def _measure(
    suite: Suite, model: ModelConfig, workspace: Workspace, engine: OpenEngine, questions: Sequence[Question], limit: int
) -> _Measured:
    """Open the engine, have it answer one prompt and then all, with so many tokens at most.

    Raises:
        EngineError: A prompt has no answer.
    """
    few_shot = [Turn(example.user, example.assistant) for example in model.few_shot]
    opened = partial(engine, suite.config.engine, model.model_copy(update={"max_tokens": limit}), workspace)
    token_budget, started = TokenBudget(suite.config.engine.token_budget), time.monotonic()
    with closing(Guard(opened, model.max_tokens, token_budget, suite.config.engine.batch_timeout)) as guard:
        chats = [
            messages(suite.config.prompts.protocol, model.system_prompt, few_shot, question.prompt, ())
            for question in questions
        ]
        texts = [guard.engine.render(chat) for chat in chats]
        prompts = [Prompt(text, guard.engine.count(text), seed) for seed, text in enumerate(texts)]
        prompts = sorted(
            (prompt for prompt in prompts if prompt.tokens + model.max_tokens <= guard.engine.context_length),
            key=lambda prompt: -prompt.tokens,
        )
        guard.generate(prompts[-1:])
        loaded = time.monotonic()
        outcomes = guard.generate(prompts)
        seconds = time.monotonic() - loaded
        label = guard.engine.label
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    if not completions or len(completions) < len(outcomes):
        reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]
        raise EngineError(
            f"Model {model.name!r} left {len(outcomes) - len(completions)} of {len(questions)} prompts unanswered: "
            f"{(reasons or ['none fits into its context'])[0]}. Mend that, then profile_engine again."
        )
    read = sum(completion.prompt_tokens or prompt.tokens for prompt, completion in zip(prompts, completions, strict=True))
    written = sum(completion.completion_tokens for completion in completions)
    return _Measured(label, loaded - started, read, written, seconds, token_budget.tokens)


def _mixed(questions: Sequence[Question]) -> list[Question]:
    """Return questions so that benchmarks take turns, those of each in an order that chance has chosen."""
    shuffled = random.Random(0).sample(questions, len(questions))
    turn: Counter[str] = Counter()
    turns = []
    for question in shuffled:
        turns.append((turn[question.benchmark], question))
        turn[question.benchmark] += 1
    return [question for _, question in sorted(turns, key=lambda one: one[0])]


def _machine(config: EngineConfig, model: ModelConfig) -> str:
    """Name what the rates hold for: the server's host, or this machine and what of it is used."""
    if config.name == "openai":
        return str(urlsplit(model.url or config.server.url).hostname)
    if config.name == "scripted":
        return platform.node()
    import torch

    if torch.cuda.is_available() and config.device != "cpu":
        return f"{platform.node()}, {torch.cuda.get_device_name()}"
    threads = torch.get_num_threads()
    return f"{platform.node()}, {threads} thread{'s' * (threads > 1)}"


def _reset_peak() -> None:
    """Begin anew with the highest use of memory (Linux: proc_pid_clear_refs(5))."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int | None:
    """Return the highest use of the GPU's memory, else of this process's, in bytes; None where the system does not say."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else None
