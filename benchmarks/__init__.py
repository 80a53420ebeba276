"""The shipped benchmarks, one file each; importing this package declares them in the registry.

To add one, write a file with a `Benchmark` and declare it here (docs/guides/extend.md). A package of your own
declares its benchmarks as entry points of the group `toolkit.benchmarks`; a suite can also name a Python file.
"""

from benchmarks.mmlu import BY_SUBJECT
from toolkit.tasks import BENCHMARKS

__all__ = ["BENCHMARKS"]

_DECLARATIONS = {
    "geography": "facts:GEOGRAPHY",
    "general": "facts:GENERAL",
    "word_reversal": "word_reversal:WORD_REVERSAL",
    "word_sorting": "word_sorting:WORD_SORTING",
    "addition": "addition:ADDITION",
    "multiplication": "multiplication:MULTIPLICATION",
    "arithmetic": "arithmetic:ARITHMETIC",
    "word_lists": "word_lists:WORD_LISTS",
    "relations": "relations:RELATIONS",
    "places": "places:PLACES",
    "coins": "coins:COINS",
    "belongings": "belongings:BELONGINGS",
    "errands": "errands:ERRANDS",
    "chores": "chores:CHORES",
    "delegations": "delegations:DELEGATIONS",
    "agendas": "agendas:AGENDAS",
    "projects": "projects:PROJECTS",
    "chiefs": "chiefs:CHIEFS",
    "humaneval": "humaneval:HUMANEVAL",
    "mbpp": "mbpp:MBPP",
    "mbpp_sanitized": "mbpp:MBPP_SANITIZED",
    "gsm8k": "gsm8k:GSM8K",
    "math500": "math500:MATH500",
    "svamp": "svamp:SVAMP",
    "aqua": "aqua:AQUA",
    "nq_open": "nq_open:NQ_OPEN",
    "triviaqa": "triviaqa:TRIVIAQA",
    "hotpotqa": "hotpotqa:HOTPOTQA",
    "squad": "squad:SQUAD",
    "truthfulqa_mc1": "truthfulqa:TRUTHFULQA_MC1",
    "truthfulqa": "truthfulqa:TRUTHFULQA",
    "pubmedqa": "pubmedqa:PUBMEDQA",
    "medqa": "medqa:MEDQA",
    "arc_challenge": "arc_challenge:ARC_CHALLENGE",
    "openbookqa": "openbookqa:OPENBOOKQA",
    "commonsenseqa": "commonsenseqa:COMMONSENSEQA",
    "mmlu": "mmlu:MMLU",
}

for _name, _reference in _DECLARATIONS.items():
    BENCHMARKS.declare(_name, f"benchmarks.{_reference}")
for _name, _benchmark in BY_SUBJECT.items():
    BENCHMARKS.register(_name)(_benchmark)
