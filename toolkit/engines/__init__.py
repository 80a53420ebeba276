"""Engines turn rendered prompts into responses; one file each.

To add one, write a class as `EngineClass` describes and declare it as an entry point of the group `toolkit.engines`. A type
of settings for a table `[engine.NAME]` of the suite file is declared in the group `toolkit.engine_settings`.
"""

from collections.abc import Iterable

from toolkit.core.errors import EngineError, did_you_mean
from toolkit.core.registry import ENGINES
from toolkit.core.workspace import Workspace
from toolkit.engines.base import (
    BatchTooLargeError,
    Completion,
    Engine,
    EngineClass,
    Failure,
    OpenEngine,
    Outcome,
    Prompt,
    TransientError,
    truncate_at_stop,
)
from toolkit.suites.config import EngineConfig
from toolkit.suites.models import ModelConfig

__all__ = [
    "BatchTooLargeError",
    "Completion",
    "Engine",
    "EngineClass",
    "Failure",
    "OpenEngine",
    "Outcome",
    "Prompt",
    "TransientError",
    "check_models",
    "open_engine",
    "truncate_at_stop",
]


def open_engine(config: EngineConfig, model: ModelConfig, workspace: Workspace) -> Engine:
    """Open the suite's engine for a model: load its tokenizer now, and its weights with the first batch.

    Args:
        config: Which engine, and on which device.
        model: The model.
        workspace: The suite file's folder, and the folder of downloads.

    Raises:
        CheckpointError: The weights are not available.
        EngineError: There is no such engine, or its library, device or server is not available.
    """
    if config.name not in ENGINES:
        raise EngineError(
            f"There is no engine {config.name!r}; {did_you_mean(config.name, ENGINES)}. Is its package installed?"
        )
    engine_class: EngineClass = ENGINES[config.name]
    return engine_class(config, model, workspace)


def check_models(config: EngineConfig, models: Iterable[ModelConfig], workspace: Workspace) -> None:
    """Check models as far as their engine can before anything is generated: that their templates render their chats.

    Raises:
        ToolkitError: The engine cannot run one of them.
    """
    check = getattr(ENGINES.get(config.name), "check_model", None)
    if check is not None:
        for model in models:
            check(config, model, workspace)
