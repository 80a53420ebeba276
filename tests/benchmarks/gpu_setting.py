"""What the parts of `just gpu` share: a suite and its first model, real or with random weights, and the prompts of its hops."""

import random
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests import tiny
from tests.benchmarks import prompts
from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.decoding import choose_device
from toolkit.engines.transformers import TransformersEngine
from toolkit.suites.config import EngineConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.models import ModelConfig
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Question, Suite
from toolkit.suites.weights import fetch

QUESTIONS = 4
"""Questions of each benchmark of the quickstart."""
SPECIALIST: dict[str, Any] = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 12,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "initializer_range": 0.06,
}
"""Sizes of a model that takes the place of the quickstart's, if its weights are not available."""
RANDOM = "specialist"
"""Folder of that model."""


class Setting(NamedTuple):
    """What the parts share.

    Attributes:
        suite: The suite whose models run.
        workspace: Its folder, and the folder of downloads.
        device: The device.
        tiny: Whether all sizes are tiny.
        random: Whether random weights take the place of the quickstart's.
        folder: A folder for what a part writes.
    """

    suite: Suite
    workspace: Workspace
    device: torch.device
    tiny: bool
    random: bool
    folder: Path


def make_setting(device: str, is_tiny: bool, folder: Path, downloads: Path) -> Setting:
    """Resolve the suite: some questions of the quickstart and its first model, or a suite of the same kind with tiny models.

    One model and two hops: every process loads a model anew at every hop, which takes longer than its few responses.
    """
    if is_tiny:
        checkpoint = folder / "llama"
        if not checkpoint.exists():
            tiny.make_llama(checkpoint)
        llama = {"checkpoint": str(checkpoint), "dtype": "float32", "max_tokens": 12, "base_rate": 1.0}
        config = suite_config(
            models=[{**llama, "name": "plain"}, {**llama, "name": "prompted", "system_prompt": "w"}],
            benchmarks=[{"name": name, "limit": 2} for name in ("addition", "word_reversal")],
            engine={"device": device, "batch_tokens": 2**10},
        )
        return Setting(resolve_config(config, folder), Workspace(folder, downloads), choose_device(device), True, True, folder)
    file = find_suite("quickstart")
    config, workspace = load_config(file).limited(QUESTIONS), Workspace(file.parent, downloads)
    use_random = (folder / RANDOM).exists() or not has_weights(config.models[0], workspace)
    model = random_specialist(config.models[0], folder) if use_random else config.models[0]
    changes = {"models": (model,), "horizon": 2, "engine": EngineConfig(device=device, batch_tokens=2**16)}
    suite = resolve(config.model_copy(update=changes), workspace)
    return Setting(suite, workspace, choose_device(device), False, use_random, folder)


def has_weights(model: ModelConfig, workspace: Workspace) -> bool:
    """Fetch a model's weights, and tell whether they are available."""
    try:
        fetch(model, workspace)
    except CheckpointError as error:
        print(f"{error} Random weights take their place.", file=sys.stderr)
        return False
    return True


def random_specialist(model: ModelConfig, folder: Path) -> ModelConfig:
    """Return a model's settings with random weights of about the same size, whose responses rounding hardly changes."""
    checkpoint = folder / RANDOM
    if not checkpoint.exists():
        tiny.make_llama(checkpoint, **SPECIALIST)
    return model.model_copy(update={"checkpoint": str(checkpoint), "adapter": None, "sha256": None})


def open_model(setting: Setting, device: str, dtype: str) -> TransformersEngine:
    """Open the suite's first model."""
    model = setting.suite.config.models[0].model_copy(update={"dtype": dtype})
    return TransformersEngine(EngineConfig(device=device), model, setting.workspace)


def suite_prompts(setting: Setting, engine: TransformersEngine) -> list[Prompt]:
    """Return contexts of hops 1 to 3, in which the responses are right for some questions and wrong for others."""
    answers = [question.reference.answers[0] for question in setting.suite.questions]

    def respond(question: Question, path: tuple[int, ...]) -> str:
        return random.Random(f"{question.prompt} {path}").choice(answers)

    parents = [parent for hop in prompts.HOPS for parent in prompts.tree_parents(setting.suite.questions[::2], hop, 3, respond)]
    return prompts.workload("all hops", setting.suite, engine.model, parents, engine).prompts
