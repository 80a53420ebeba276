"""Runs engines in turns over workloads, and tells how fast each was at its best."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tests.benchmarks.hardware import Ceilings, Sizes, distinct_tokens, floor
from tests.benchmarks.programs import Busy, Program, Run
from tests.benchmarks.prompts import Workload

COLUMNS = [
    "prompts",
    "engine",
    "wall time",
    "CPU time",
    "prompt tokens/s",
    "response tokens/s",
    "roofline, every prompt read",
    "roofline, each prefix read once",
    "equal responses",
    "peak memory",
    "prompt tokens found in a cache",
]
BUSY = "rate on busy cores"


class Variant(NamedTuple):
    """A program with settings of a run; of several variants of an engine, the fastest counts.

    Attributes:
        engine: Name of the engine.
        label: What distinguishes the variant in tables; empty if it is the only one.
        program: The program that runs it.
        settings: Settings of a run.
    """

    engine: str
    label: str
    program: Program
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.engine}, {self.label}" if self.label else self.engine


class Comparison:
    """The best runs of several engines over several workloads.

    Args:
        workloads: The workloads.
        size: Sizes of the model that all engines run.
        ceilings: Limits of the device.
    """

    def __init__(self, workloads: Sequence[Workload], size: Sizes, ceilings: Ceilings) -> None:
        self.workloads, self.size, self.ceilings = workloads, size, ceilings
        self.best: dict[tuple[str, str], tuple[Variant, Run]] = {}
        """The fastest run by workload and engine."""
        self.busy: dict[tuple[str, str], Run] = {}
        """A run of the fastest variant with busy processes beside it."""
        self.missing: dict[str, str] = {}
        """Engines that are not there, and how to get them."""

    def run(
        self,
        variants: Sequence[Variant],
        turns: int,
        seconds: float = float("inf"),
        busy: bool = False,
        after_each: Callable[[], None] = lambda: None,
    ) -> None:
        """Run engines in turns: all variants first, then the fastest of each engine.

        Args:
            variants: What to run; the first engine is the one that the others are compared with.
            turns: How often each engine runs over each workload.
            seconds: Time after which no further turn begins.
            busy: Whether to run each once more with a busy process for every core.
            after_each: Is called when all variants have run over a workload.
        """
        started = time.monotonic()
        warm_up = Workload("warm-up", self.workloads[0].prompts[-8:], self.workloads[0].tokens[-8:])
        for variant in variants:
            run_once(variant, warm_up)
        for turn in range(turns):
            if turn and time.monotonic() - started > seconds:
                return
            for workload in self.workloads:
                for variant in variants:
                    key = workload.name, variant.engine
                    if turn == 0 or self.best[key][0] == variant:
                        result = run_once(variant, workload)
                        if key not in self.best or result.wall < self.best[key][1].wall:
                            self.best[key] = variant, result
                after_each()
        for key, (variant, _) in self.best.items() if busy else ():
            workload = next(workload for workload in self.workloads if workload.name == key[0])
            with Busy():
                self.busy[key] = run_once(variant, workload)

    def columns(self) -> list[str]:
        """Return the names of the columns of `rows`."""
        return [*COLUMNS, *([BUSY] if self.busy else [])]

    def rows(self) -> list[list[str]]:
        """Return a row for the best run of every engine over every workload, and for every engine that is not there."""
        rows = []
        for workload in self.workloads:
            rows += [self._row(workload, *key) for key in self.best if key[0] == workload.name]
            rows += [[workload.name, name, remedy] for name, remedy in self.missing.items()]
        width = len(self.columns())
        return [[*row, *["-"] * (width - len(row))] for row in rows]

    def _row(self, workload: Workload, name: str, engine: str) -> list[str]:
        variant, run = self.best[name, engine]
        ours = next(best for (other, _), (_, best) in self.best.items() if other == name)
        equal = [a.response == b.response for a, b in zip(run.completions, ours.completions, strict=True)]
        busy = self.busy.get((name, engine))
        return [
            name,
            variant.name,
            f"{run.wall:.2f} s",
            f"{run.cpu:.1f} s",
            f"{workload.prompt_tokens / run.wall:,.0f}",
            f"{response_tokens(run) / run.wall:,.0f}",
            *(f"{self.floor(workload, run, shared) / run.wall:.1%}" for shared in (False, True)),
            f"{sum(equal)} of {len(equal)}",
            f"{run.memory / 1e9:.1f} GB",
            "not told" if run.cached_tokens is None else f"{run.cached_tokens / workload.prompt_tokens:.0%}",
            *([f"{run.wall / busy.wall:.2f}"] if busy else []),
        ]

    def floor(self, workload: Workload, run: Run, shared: bool) -> float:
        """Return the least time that the device needs for a run's prompts and responses, in seconds."""
        written = [completion.completion_tokens + 1 for completion in run.completions]  # and an end token
        return floor(self.size, workload.tokens, written, self.ceilings, shared)

    def workload_rows(self) -> list[list[str]]:
        """Return a row for every workload: its prompts, their lengths, and the share that distinct prefixes have of them."""
        rows = []
        for workload in self.workloads:
            lengths = sorted(map(len, workload.tokens))
            share = distinct_tokens(workload.tokens) / workload.prompt_tokens
            written = next(response_tokens(run) for (name, _), (_, run) in self.best.items() if name == workload.name)
            length = f"{lengths[0]} to {lengths[-1]}"
            rows.append(
                [workload.name, str(len(lengths)), length, f"{workload.prompt_tokens:,}", f"{share:.0%}", f"{written:,}"]
            )
        return rows

    def summary(self) -> str:
        """Compare the first engine with each other one, workload by workload."""
        sentences = []
        for workload in self.workloads:
            runs = {engine: run for (name, engine), (_, run) in self.best.items() if name == workload.name}
            if not runs:
                continue
            (_, ours), *others = runs.items()
            ratios = ", ".join(f"{run.wall / ours.wall:.2f} times {engine}" for engine, run in others)
            share = self.floor(workload, ours, shared=True) / ours.wall
            rate = f"{response_tokens(ours) / ours.wall:,.0f} response tokens/s"
            sentences.append(", ".join(filter(None, [f"{workload.name}: {rate}", ratios, f"{share:.1%} of the roofline"])))
        return "; ".join(sentences)

    def record(self) -> list[dict[str, Any]]:
        """Return all measurements as plain values, for JSON."""
        return [
            {
                "prompts": name,
                "engine": variant.name,
                "prompt_tokens": next(w.prompt_tokens for w in self.workloads if w.name == name),
                "response_tokens": response_tokens(run),
                "wall": run.wall,
                "cpu": run.cpu,
                "memory": run.memory,
                "cached_tokens": run.cached_tokens,
                "busy_wall": self.busy[name, engine].wall if (name, engine) in self.busy else None,
            }
            for (name, engine), (variant, run) in self.best.items()
        ]


def run_once(variant: Variant, workload: Workload) -> Run:
    """Run a variant over a workload, and say so."""
    run = variant.program.run(workload, **variant.settings)
    print(f"{workload.name}, {variant.name}: {run.wall:.2f} s, CPU time {run.cpu:.2f} s", file=sys.stderr, flush=True)
    return run


def response_tokens(run: Run) -> int:
    """Return the tokens of all responses."""
    return sum(completion.completion_tokens for completion in run.completions)


WORKLOAD_COLUMNS = ["prompts", "number", "tokens each", "tokens", "of these in distinct prefixes", "response tokens"]


def profiles(ours: Program, workloads: Sequence[Workload]) -> tuple[list[str], list[list[str]]]:
    """Return a table of where the time of the toolkit's engine goes: columns, and a row for every workload."""
    rows, kinds = [], []
    for workload in workloads:
        seconds = ours.run(workload, profile=True).seconds or {}
        kinds = list(seconds)
        rows.append([workload.name, *(f"{part / sum(seconds.values()):.0%}" for part in seconds.values())])
    return ["prompts", *kinds], rows
