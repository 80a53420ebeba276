"""The kinds of error a user can meet. Each message says what happened, why it probably did, and what to do."""


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
