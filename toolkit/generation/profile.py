"""Profiles an engine: measures its speed and memory with each model of a suite on this machine.

Uses two sets of the suite's own questions, at the first hop: one is read, with a single token generated, and the other is
responded to in full, so that no server responds from what it has read before. Batches are cut and halved as in `generate`.
Profiles are lines of a JSON file beside the caches. They describe the machine rather than a cache, so they are not copied with
one.
"""

import json
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from toolkit.core.errors import EngineError
from toolkit.core.registry import ENGINES
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Failure, OpenEngine, Prompt, open_engine
from toolkit.engines.base import Engine, EngineClass
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.generation.question_groups import alternate_benchmarks
from toolkit.store import now
from toolkit.suites.config import SuiteConfig
from toolkit.suites.models import ModelConfig
from toolkit.suites.prompts import messages
from toolkit.suites.suite import Question, Suite

FILE = "profiles.jsonl"


class EngineProfile(NamedTuple):
    """The measured speed and memory of an engine with one model on one machine.

    Attributes:
        model: Key of the model.
        name: Name of the model in the suite that was profiled.
        engine: Engine and version.
        machine: Host and device, or the server's host.
        prompts: Number of prompts that were read, and of others that were responded to.
        prompt_tokens: Mean length of a prompt of the first hop.
        completion_tokens: Mean length of a response.
        loading: Seconds until the first token, loading included.
        read: Prompt tokens per second, in batches of `batch_tokens`.
        written: Response tokens per second.
        peak: Peak memory in bytes: of the GPU, as PyTorch allocates it, else of the process; None if the engine is another
            process.
        batch_tokens: Tokens of a batch, prompts and responses.
        measured: Time of the measurement, UTC.
    """

    model: str
    name: str
    engine: str
    machine: str
    prompts: int
    prompt_tokens: float
    completion_tokens: float
    loading: float
    read: float
    written: float
    peak: int | None
    batch_tokens: int
    measured: str

    def seconds(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the time that reading and generating a number of tokens takes."""
        return prompt_tokens / self.read + completion_tokens / self.written


Profiles = Mapping[tuple[str, str], Mapping[UUID, EngineProfile]]
"""The newest profile of every model, by engine and machine."""


def save_profile(profile: EngineProfile, folder: Path) -> Path:
    """Append a profile to those in a folder of caches; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(profile._asdict()) + "\n")
    return file


def load_profiles(folder: Path) -> Profiles:
    """Load the newest profile of every model from a folder of caches."""
    profiles: dict[tuple[str, str], dict[UUID, EngineProfile]] = {}
    file = folder / FILE
    for line in file.read_text("utf-8").splitlines() if file.exists() else []:
        profile = EngineProfile(**json.loads(line))
        profiles.setdefault((profile.engine, profile.machine), {})[UUID(profile.model)] = profile
    return profiles


def profile_engine(
    suite: Suite, workspace: Workspace, prompts: int = 64, engine: OpenEngine = open_engine
) -> Iterator[EngineProfile]:
    """Profile the suite's engine with each of its models.

    Args:
        suite: The suite.
        workspace: The suite file's folder, and the folder of downloads.
        prompts: How many prompts to read, and how many others to respond to; at most half of the suite's questions.
        engine: Opens an engine for a model.

    Raises:
        CheckpointError: Weights are not available.
        EngineError: The engine cannot run, a prompt fails, or there is too little to measure.
    """
    questions = alternate_benchmarks(random.Random(0).sample(suite.questions, len(suite.questions)))
    half = min(prompts, len(questions) // 2)
    if not half:
        raise EngineError("A profile needs two questions, one to read and one to respond to. Raise a benchmark's limit.")
    engine_class: EngineClass = ENGINES[suite.config.engine.name]
    for model, config in zip(suite.models, suite.config.models, strict=True):
        _reset_peak_memory()
        read = _measure(suite.config, config, workspace, engine, questions[:half], max_tokens=1)
        written = _measure(suite.config, config, workspace, engine, questions[half : 2 * half], config.max_tokens)
        tokens_read_per_second = read.prompt_tokens / read.seconds
        writing_seconds = written.seconds - written.prompt_tokens / tokens_read_per_second
        if writing_seconds <= 0 or not written.completion_tokens:
            raise EngineError(
                f"Model {model.name!r} generated {written.completion_tokens} tokens for {half} prompts: too little to measure. "
                "Raise --prompts, or stop what else runs on this machine."
            )
        yield EngineProfile(
            model=str(model.key),
            name=model.name,
            engine=written.engine,
            machine=engine_class.machine(suite.config.engine, config),
            prompts=half,
            prompt_tokens=written.prompt_tokens / half,
            completion_tokens=written.completion_tokens / half,
            loading=read.loading,
            read=tokens_read_per_second,
            written=written.completion_tokens / writing_seconds,
            peak=_peak_memory() if engine_class.in_process else None,
            batch_tokens=written.batch_tokens,
            measured=f"{now():%Y-%m-%d %H:%M:%S}",
        )


class _Measurement(NamedTuple):
    """One measurement of an engine.

    Attributes:
        engine: Engine and version.
        loading: Seconds until the first token of the first prompt.
        prompt_tokens: Tokens of all prompts.
        completion_tokens: Tokens of all responses.
        seconds: Time that all prompts took, once the weights were loaded.
        batch_tokens: Tokens of a batch.
    """

    engine: str
    loading: float
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    batch_tokens: int


def _measure(
    config: SuiteConfig,
    model: ModelConfig,
    workspace: Workspace,
    engine: OpenEngine,
    questions: Sequence[Question],
    max_tokens: int,
) -> _Measurement:
    """Open the engine and generate a response to one prompt, then to all.

    Raises:
        EngineError: A prompt has no response.
    """
    open_model = partial(engine, config.engine, model.model_copy(update={"max_tokens": max_tokens}), workspace)
    token_budget, started = TokenBudget(config.engine.token_budget), time.monotonic()
    with closing(GuardedEngine(open_model, model.max_tokens, token_budget, config.engine.batch_timeout)) as guarded:
        prompts = _prompts(config, model, questions, guarded.engine)
        guarded.generate(prompts[-1:])
        loaded = time.monotonic()
        outcomes = guarded.generate(prompts)
        seconds = time.monotonic() - loaded
        label = guarded.engine.label
    completions = [outcome for outcome in outcomes if isinstance(outcome, Completion)]
    if not completions or len(completions) < len(outcomes):
        reasons = [outcome.reason for outcome in outcomes if isinstance(outcome, Failure)]
        raise EngineError(
            f"Model {model.name!r} has no response to {len(questions) - len(completions)} of {len(questions)} prompts: "
            f"{(reasons or ['no prompt fits into its context'])[0]}. Fix that, then profile again."
        )
    prompt_tokens = [completion.prompt_tokens or prompt.tokens for prompt, completion in zip(prompts, completions, strict=True)]
    return _Measurement(
        engine=label,
        loading=loaded - started,
        prompt_tokens=sum(prompt_tokens),
        completion_tokens=sum(completion.completion_tokens for completion in completions),
        seconds=seconds,
        batch_tokens=token_budget.tokens,
    )


def _prompts(config: SuiteConfig, model: ModelConfig, questions: Sequence[Question], engine: Engine) -> list[Prompt]:
    """Render the prompts of the first hop that fit into the context, longest first."""
    prompts = []
    for seed, question in enumerate(questions):
        text = engine.render(messages(config.prompts.protocol, model.system_prompt, model.few_shot, question.prompt, ()))
        prompts.append(Prompt(text=text, tokens=engine.count(text), seed=seed))
    fitting = [prompt for prompt in prompts if prompt.tokens + model.max_tokens <= engine.context_length]
    return sorted(fitting, key=lambda prompt: -prompt.tokens)


def _reset_peak_memory() -> None:
    """Reset the recorded peak memory (on Linux: proc_pid_clear_refs(5))."""
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory() -> int | None:
    """Return the peak memory of the GPU, else of this process, in bytes; None if the system does not record it."""
    torch = sys.modules["torch"]
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return int(torch.cuda.max_memory_allocated())
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    peak = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(peak[1]) * 1024 if peak else None
