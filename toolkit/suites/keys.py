"""Keys: what identifies models, questions, nodes, generations and encoders.

A key is a hash of everything that changes a response, and of nothing that does not (batch size, device, engine, paths, prices).
"""

import hashlib
from typing import Any
from uuid import UUID

from toolkit.core.hashing import canonical_json, key
from toolkit.core.workspace import Workspace
from toolkit.suites.config import SuiteConfig
from toolkit.suites.hashing import hash_weights
from toolkit.suites.models import ModelConfig
from toolkit.suites.weights import identify, local_path
from toolkit.tasks import Reference


def root_key(question: UUID, config: SuiteConfig, sample: int) -> UUID:
    """Return the key of the root of a question's tree."""
    return key("root", question, config.prompts.protocol, config.prompts.overlength, sample)


def child_key(parent: UUID, model: UUID) -> UUID:
    """Return the key of the node that `model` leads to from `parent`."""
    return key("node", parent, model)


def generation_key(model: UUID, prompt: str, sample: int) -> UUID:
    """Return the key of a generation; for a greedy model, which responds alike in every sample, pass sample 0."""
    return key("generation", model, prompt, sample)


def question_key(benchmark: str, version: str, item: str, prompt: str, reference: Reference) -> UUID:
    """Return the key of a question."""
    tests = [list(reference.tests)] if reference.tests else []
    return key("question", benchmark, version, item, prompt, reference.answers, reference.choices, *tests)


def model_key(identity: dict[str, Any]) -> UUID:
    """Return the key of a model, given its identity."""
    return key("model", identity)


def model_identity(config: ModelConfig, workspace: Workspace) -> dict[str, Any]:
    """Collect everything that changes a model's responses, and nothing else."""
    identity: dict[str, Any] = {
        "checkpoint": identify(config, workspace),
        "adapter": hash_weights(local_path(config.adapter, workspace), workspace.downloads) if config.adapter else None,
        "dtype": config.dtype,
        "chat_template": config.chat_template,
        "chat_template_args": config.chat_template_args,
        "system_prompt": config.system_prompt,
        "few_shot": [turn.model_dump() for turn in config.few_shot],
        "max_tokens": config.max_tokens,
        "context_length": config.context_length,
        "temperature": config.temperature,
        "stop": list(config.stop),
    }
    if config.temperature > 0:
        identity |= {"top_p": config.top_p, "seed": config.seed}
    if config.layers:
        identity["layers"] = list(config.layers)
    if config.fingerprint:
        identity["fingerprint"] = config.fingerprint
    return identity


def encoder_identity(config: SuiteConfig, workspace: Workspace) -> str:
    """Return a name of the suite's encoder that is the same for equal weights, or equal vectors of the user's own."""
    encoder = config.features.encoder
    if not encoder.has_weights:
        return encoder.checkpoint
    identity = identify(encoder, workspace)
    stem = encoder.checkpoint.split("==")[0].removeprefix("package:").rsplit("/", 1)[-1]
    return f"{stem}@{hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:12]}"
