"""The suite file: its tables, how it is loaded and resolved into keys, where weights come from, how prompts are built."""

import benchmarks  # noqa: F401  # declares the shipped benchmarks
from toolkit.suites.config import SuiteConfig
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.resolving import resolve
from toolkit.suites.suite import Suite

__all__ = ["Suite", "SuiteConfig", "find_suite", "load_config", "resolve"]
