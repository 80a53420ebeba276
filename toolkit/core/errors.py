"""The kinds of error a user can meet. Each message says what happened, why it probably did, and what to do."""

from collections.abc import Iterable

MANY = 30
"""Names that a message does not list any more."""


class ToolkitError(Exception):
    """Root of all errors that the user can act on; the command line prints it without a traceback."""


class SuiteError(ToolkitError):
    """The suite file is wrong, or names something that is not there."""


class CacheError(ToolkitError):
    """The cache file is missing, foreign, damaged or of another version."""


class CacheBusyError(CacheError):
    """Another process (or another connection of this one) holds the cache file."""


class IncompleteCacheError(CacheError):
    """The replay needs transitions that have not been generated, or whose generation failed."""


class CheckpointError(ToolkitError):
    """A checkpoint, adapter or encoder cannot be fetched, read or verified."""


class EngineError(ToolkitError):
    """An engine cannot be started or failed as a whole."""


class PolicyError(ToolkitError):
    """A policy file is missing, foreign, or does not fit the suite it is used with."""


class SandboxError(ToolkitError):
    """Model-written code may not be run, or cannot be isolated."""


class BenchmarkError(ToolkitError):
    """A benchmark's data cannot be had, or is not what it should be."""


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """Say which name is nearest to a word that is none, and which there are."""
    import difflib

    names = sorted(allowed)
    close = difflib.get_close_matches(word, names, n=1)
    listed = "allowed: " + ", ".join(names) if len(names) <= MANY else f"there are {len(names)}"
    return (f"did you mean {close[0]!r}? " if close else "") + listed
