"""The errors that a user can act on. Each message says what happened, the likely cause, and what to do."""

import difflib
from collections.abc import Iterable

MAX_LISTED_NAMES = 30
"""A message lists the allowed names up to this number of them."""


class ToolkitError(Exception):
    """Root of all errors that the user can act on; the command line prints it without a traceback."""


class SuiteError(ToolkitError):
    """The suite file is wrong, or names something that does not exist."""


class SuiteChangedError(SuiteError):
    """The suite file has changed what is generated since the suite was recorded; `toolkit generate` follows it."""


class CacheError(ToolkitError):
    """The cache file is missing, damaged, not a cache, or of another version."""


class CacheBusyError(CacheError):
    """Another process (or another connection of this one) holds the cache file."""


class IncompleteCacheError(CacheError):
    """The replay needs transitions that have not been generated, or whose generation failed."""


class CheckpointError(ToolkitError):
    """A checkpoint, adapter or encoder cannot be fetched, read or verified."""


class EngineError(ToolkitError):
    """An engine cannot be started, or failed as a whole."""


class NoResponseError(EngineError):
    """A model did not respond to a prompt.

    Attributes:
        transient: Whether it may respond if it is prompted again.
        overlength: Whether the prompt is too long for the model.
    """

    def __init__(self, message: str, *, transient: bool = False, overlength: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
        self.overlength = overlength


class PolicyError(ToolkitError):
    """A policy file is missing, is not a policy, or does not fit the suite it is used with."""


class TrainingError(ToolkitError):
    """The training of a router failed."""


class SandboxError(ToolkitError):
    """Model-written code may not be run, or cannot be isolated."""


class MetricError(ToolkitError):
    """A metric raises an exception, or returns something that is not a score."""


class BenchmarkError(ToolkitError):
    """The data of a benchmark are not available, or not what they should be."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Return a hint for an unknown name: the closest allowed name, and all of them if there are few."""
    names = sorted(allowed)
    if not names:
        return "there are none"
    close = difflib.get_close_matches(word, names, n=1)
    listed = "allowed: " + ", ".join(names) if len(names) <= MAX_LISTED_NAMES else f"there are {len(names)}"
    return (f"did you mean {close[0]!r}? " if close else "") + listed
