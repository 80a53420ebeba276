"""A suite whose models follow a script: known responses, and nothing to download."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from toolkit.core.workspace import Workspace
from toolkit.engines import OpenEngine, Prompt
from toolkit.engines.scripted import Script, ScriptedEngine
from toolkit.suites.config import SuiteConfig
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Suite

SKILLS = {"sums": "What is", "words": "words"}
"""A scripted model responds with the reference answer if its skill occurs in the question."""


def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Embed texts by their hash: only equal texts have equal embeddings."""
    digests = [np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in texts]
    return (np.stack(digests)[:, :8] / 255).astype(np.float32)


def right_answers(suite: Suite) -> Script:
    """Return a script by which each model gives the reference answers of its own field, and of no other."""
    reference_answers = {question.prompt: question.reference.answers[0] for question in suite.questions}

    def respond(model: str, prompt: Prompt) -> str:
        question = next(text for text in reference_answers if text in prompt.text)
        is_known = SKILLS[model] in question
        return f"Answer: {reference_answers[question]}" if is_known else f"no idea ({model}, {len(prompt.text)})"

    return respond


def scripted(script: Script) -> OpenEngine:
    """Return what opens engines that follow a script."""
    return partial(ScriptedEngine, script=script)


def suite_config(**changes: Any) -> SuiteConfig:
    """Return a suite of two models, two hops and three benchmarks that needs nothing on this machine."""
    model = {"checkpoint": "made/up", "revision": "0" * 40, "dtype": "float32", "max_tokens": 16}
    document: dict[str, Any] = {
        "name": "scripted",
        "horizon": 2,
        "models": [
            {**model, "name": "sums", "base_rate": 1.0},
            {**model, "name": "words", "base_rate": 3.0, "system_prompt": "w"},
        ],
        "benchmarks": [{"name": name, "limit": 8} for name in ("addition", "word_reversal", "geography")],
        "engine": {"name": "scripted", "batch_tokens": 500},
    }
    return SuiteConfig.model_validate(document | changes)


def resolve_config(config: SuiteConfig, folder: Path) -> Suite:
    """Resolve a suite whose relative paths start at a folder."""
    return resolve(config, Workspace(folder, folder / "weights"), trust=True)
