"""The models that are in memory: opened when they first have to respond, closed when others need their place."""

from collections import OrderedDict
from functools import partial

from toolkit.core.errors import CheckpointError, EngineError
from toolkit.core.text import printable
from toolkit.core.workspace import Workspace
from toolkit.engines import OpenEngine
from toolkit.engines.guard import GuardedEngine, TokenBudget
from toolkit.suites.keys import model_identity, model_key
from toolkit.suites.models import ModelConfig
from toolkit.suites.suite import Model, Suite


class Residents:
    """Opens the engines of a suite's models, and keeps some of them.

    Opening one loads its tokenizer; its weights are loaded with its first batch.

    Args:
        suite: The suite.
        workspace: The suite file's folder, and the folder of downloads.
        open_engine: Opens an engine for a model.
        limit: Number of models in memory at a time; None for all.
    """

    def __init__(self, suite: Suite, workspace: Workspace, open_engine: OpenEngine, limit: int | None) -> None:
        self._suite = suite
        self._workspace = workspace.absolute()
        self._open_engine = open_engine
        self._limit = limit
        self._token_budget = TokenBudget(suite.config.engine.token_budget)
        self._opened: OrderedDict[str, GuardedEngine] = OrderedDict()

    def get(self, model: Model, config: ModelConfig) -> GuardedEngine:
        """Return the engine of a model, opened if it is not.

        Raises:
            CheckpointError: The weights are not available, or not those that the suite was recorded with.
            EngineError: The engine cannot be opened.
        """
        if model.name not in self._opened:
            self._check(model, config)
            while self._limit is not None and len(self._opened) >= self._limit:
                self._opened.popitem(last=False)[1].close()
            engine = self._suite.config.engine
            opens = partial(self._open_engine, engine, config, self._workspace)
            self._opened[model.name] = GuardedEngine(opens, config.max_tokens, self._token_budget, engine.batch_timeout)
        self._opened.move_to_end(model.name)
        return self._opened[model.name]

    def discard(self, model: Model) -> None:
        """Close a model's engine, so that the next use opens it again."""
        if engine := self._opened.pop(model.name, None):
            engine.close()

    def close(self) -> None:
        """Close all engines."""
        while self._opened:
            self._opened.popitem()[1].close()

    def _check(self, model: Model, config: ModelConfig) -> None:
        """Check that the model here is the one whose key its responses are cached under."""
        name = printable(self._suite.name)
        if config.is_imported:
            raise EngineError(
                f"The responses of suite {name} were imported, so model {printable(model.name)} cannot respond to others. "
                "Route questions of the suite, or train a router on a suite with models."
            )
        if model_key(model_identity(config, self._workspace)) != model.key:
            raise CheckpointError(
                f"The files of model {printable(model.name)} in {self._workspace.folder} are not those that suite {name} was "
                "generated with, and responses of both do not mix. Name the suite's file, or put the former files back."
            )
