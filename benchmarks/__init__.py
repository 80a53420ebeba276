"""Benchmarks, one file each; a suite names them by the keys below.

To add one, write a file with a `Benchmark` and list it here (docs/benchmarks.md has a worked example). A benchmark of your own
needs no place here: a suite names its file.
"""

from importlib import import_module

from benchmarks.mmlu import BY_SUBJECT
from toolkit.tasks.base import Benchmark

BENCHMARKS = {
    "geography": "benchmarks.facts:GEOGRAPHY",
    "general": "benchmarks.facts:GENERAL",
    "word_reversal": "benchmarks.word_reversal:WORD_REVERSAL",
    "word_sorting": "benchmarks.word_sorting:WORD_SORTING",
    "addition": "benchmarks.addition:ADDITION",
    "multiplication": "benchmarks.multiplication:MULTIPLICATION",
    "arithmetic": "benchmarks.arithmetic:ARITHMETIC",
    "word_lists": "benchmarks.word_lists:WORD_LISTS",
    "relations": "benchmarks.relations:RELATIONS_BENCHMARK",
    "places": "benchmarks.places:PLACES",
    "coins": "benchmarks.coins:COINS",
    "belongings": "benchmarks.belongings:BELONGINGS",
    "errands": "benchmarks.errands:ERRANDS",
    "chores": "benchmarks.chores:CHORES",
    "humaneval": "benchmarks.humaneval:HUMANEVAL",
    "mbpp": "benchmarks.mbpp:MBPP",
    "mbpp_sanitized": "benchmarks.mbpp:MBPP_SANITIZED",
    "gsm8k": "benchmarks.gsm8k:GSM8K",
    "math500": "benchmarks.math500:MATH500",
    "svamp": "benchmarks.svamp:SVAMP",
    "aqua": "benchmarks.aqua:AQUA",
    "nq_open": "benchmarks.nq_open:NQ_OPEN",
    "triviaqa": "benchmarks.triviaqa:TRIVIAQA",
    "hotpotqa": "benchmarks.hotpotqa:HOTPOTQA",
    "squad": "benchmarks.squad:SQUAD",
    "truthfulqa_mc1": "benchmarks.truthfulqa:TRUTHFULQA_MC1",
    "truthfulqa": "benchmarks.truthfulqa:TRUTHFULQA",
    "pubmedqa": "benchmarks.pubmedqa:PUBMEDQA",
    "medqa": "benchmarks.medqa:MEDQA",
    "arc_challenge": "benchmarks.arc_challenge:ARC_CHALLENGE",
    "openbookqa": "benchmarks.openbookqa:OPENBOOKQA",
    "commonsenseqa": "benchmarks.commonsenseqa:COMMONSENSEQA",
    "mmlu": "benchmarks.mmlu:MMLU",
} | {name: f"benchmarks.mmlu:{name}" for name in BY_SUBJECT}
"""Name of every benchmark, and where it is defined."""


def load_benchmark(name: str) -> Benchmark:
    """Return a benchmark by name; its data is not loaded yet."""
    module, _, attribute = BENCHMARKS[name].partition(":")
    benchmark = getattr(import_module(module), attribute)
    assert isinstance(benchmark, Benchmark)
    return benchmark
