"""Benchmarks, one file each; a suite names them by the keys below.

To add one, write a file with a `Benchmark` and list it here.
"""

from importlib import import_module

from toolkit.benchmark import Benchmark

BENCHMARKS = {
    "geography": "benchmarks.facts:GEOGRAPHY",
    "general": "benchmarks.facts:GENERAL",
    "word_reversal": "benchmarks.word_reversal:WORD_REVERSAL",
    "word_sorting": "benchmarks.word_sorting:WORD_SORTING",
    "addition": "benchmarks.addition:ADDITION",
    "multiplication": "benchmarks.multiplication:MULTIPLICATION",
}
"""Name of every benchmark, and where it is defined."""


def load_benchmark(name: str) -> Benchmark:
    """Return a benchmark by name; its data is not loaded yet."""
    module, _, attribute = BENCHMARKS[name].partition(":")
    benchmark = getattr(import_module(module), attribute)
    assert isinstance(benchmark, Benchmark)
    return benchmark
