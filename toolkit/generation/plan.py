"""What a suite would generate, what is cached of it, and what the rest will take.

Every figure is measured or counted: tokens and seconds are means of what is cached or of a calibration, memory follows from
the weights' own files, storage from the cache's size. Where nothing was measured there is no figure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from toolkit.engines.memory import Memory
from toolkit.generation.budget import dollars
from toolkit.generation.profiles import EngineProfile
from toolkit.store import Cache, MeanGeneration
from toolkit.suites.suite import Suite


class PlanRow(NamedTuple):
    """Nodes of one benchmark, hop and model."""

    benchmark: str
    depth: int
    model: str
    nodes: int
    missing: int


class EngineEstimate(NamedTuple):
    """What the missing answers take with one engine.

    Attributes:
        engine: Engine and version.
        source: Where it was measured: a calibration's machine, or the cache.
        seconds: Of one process, weights loaded once a hop and model where that was measured.
        usd: At the suite's prices; None where it gives none.
    """

    engine: str
    source: str
    seconds: float
    usd: float | None


@dataclass(frozen=True)
class Plan:
    """A suite's nodes, and what the missing ones take; None where nothing comparable was measured.

    Attributes:
        rows: Nodes by benchmark, hop and model.
        saved: Cached nodes that needed no generation of their own, because another had the same rendered prompt.
        prompt_tokens: Of the missing nodes.
        completion_tokens: Of the missing nodes.
        source: What the tokens are means of.
        estimates: Time and money by engine.
        memory: What each model needs; None where its weights are not on this machine.
        peaks: The highest use of memory that was measured of each model, in bytes.
        batch_tokens: Tokens of a batch.
        storage: Bytes that the missing nodes add to the cache.
    """

    rows: tuple[PlanRow, ...]
    saved: int
    prompt_tokens: float | None
    completion_tokens: float | None
    source: str
    estimates: tuple[EngineEstimate, ...]
    memory: Mapping[str, Memory | None]
    peaks: Mapping[str, int]
    batch_tokens: int
    storage: float | None

    @property
    def nodes(self) -> int:
        """Nodes in all, roots left out."""
        return sum(row.nodes for row in self.rows)

    @property
    def missing(self) -> int:
        """Nodes not generated yet."""
        return sum(row.missing for row in self.rows)


Rates = Mapping[tuple[str, str], Mapping[UUID, EngineProfile]]
"""The rates of every model by engine and machine."""
Tokens = dict[tuple[str, int], tuple[float, float]]
"""Prompt and completion tokens of the missing answers by model and hop."""


def plan(
    suite: Suite, cache: Cache | None, rates: Rates | None = None, needs: Mapping[str, Memory | None] | None = None
) -> Plan:
    """Plan a suite.

    Args:
        suite: The suite as resolved.
        cache: Its cache, if there is one; answers of the same models in other suites count for the estimates.
        rates: What calibrations have measured.
        needs: Memory of each model, by name.
    """
    rates = rates or {}
    rows = _rows(suite, cache)
    means = cache.mean_generations() if cache else {}
    missing = {
        (model.name, depth): sum(row.missing for row in rows if (row.model, row.depth) == (model.name, depth))
        for model in suite.models
        for depth in range(1, suite.horizon + 1)
    }
    tokens, source = _tokens(suite, missing, means, rates)
    measured = {rate.name: rate.peak for known in rates.values() for rate in _of(suite, known).values() if rate.peak}
    held = cache.overview() if cache else None
    answered = held.nodes if held and held.nodes else 0
    left = sum(missing.values())
    return Plan(
        rows,
        cache.saved(suite) if cache else 0,
        sum(prompt for prompt, _ in tokens.values()) if tokens is not None else None,
        sum(completion for _, completion in tokens.values()) if tokens is not None else None,
        source,
        tuple(_estimates(suite, missing, tokens, means, rates)) if left and tokens is not None else (),
        needs or {},
        measured,
        suite.config.engine.token_budget,
        left * held.bytes / answered if held and answered else None,
    )


def _rows(suite: Suite, cache: Cache | None) -> tuple[PlanRow, ...]:
    found = cache.nodes_by_benchmark(suite) if cache else {}
    rows = []
    for depth in range(1, suite.horizon + 1):
        for model in suite.models:
            for benchmark in dict.fromkeys(question.benchmark for question in suite.questions):
                trees = sum(question.benchmark == benchmark for question in suite.questions) * suite.config.samples
                nodes = trees * len(suite.models) ** (depth - 1)
                rows.append(PlanRow(benchmark, depth, model.name, nodes, nodes - found.get((benchmark, depth, model.key), 0)))
    return tuple(rows)


def _of(suite: Suite, known: Mapping[UUID, EngineProfile]) -> dict[UUID, EngineProfile]:
    return {model.key: known[model.key] for model in suite.models if model.key in known}


Means = Mapping[tuple[str | None, UUID | None, int | None], MeanGeneration]


def _tokens(suite: Suite, missing: Mapping[tuple[str, int], int], means: Means, rates: Rates) -> tuple[Tokens | None, str]:
    """Return tokens by model and hop: of what is cached, else of a calibration, whose prompts are those of the first hop."""
    calibrated = {key: rate for known in rates.values() for key, rate in _of(suite, known).items()}
    answer = sum(rate.completion_tokens for rate in calibrated.values()) / len(calibrated) if calibrated else 0.0
    tokens: Tokens = {}
    sources = set()
    for model in suite.models:
        for depth in range(1, suite.horizon + 1):
            count = missing[model.name, depth]
            cached = means.get((None, model.key, depth)) or means.get((None, model.key, None))
            rate = calibrated.get(model.key)
            cached = cached or (means.get((None, None, None)) if rate is None else None)
            if not count:
                continue
            if cached:
                sources.add("what is cached")
                tokens[model.name, depth] = (count * cached.prompt_tokens, count * cached.completion_tokens)
            elif rate:
                sources.add("a calibration, later prompts longer by the answers before them")
                prompt = rate.prompt_tokens + (depth - 1) * answer
                tokens[model.name, depth] = (count * prompt, count * rate.completion_tokens)
            else:
                return None, ""
    return tokens, " and ".join(sorted(sources, reverse=True))


def _estimates(
    suite: Suite, missing: Mapping[tuple[str, int], int], tokens: Tokens, means: Means, rates: Rates
) -> list[EngineEstimate]:
    """Estimate time and money: by calibrations of every model that is missing answers, and by engines that the cache knows."""
    keys = {model.name: model.key for model in suite.models}
    found = []
    for (engine, machine), known in sorted(rates.items()):
        if all(keys[name] in known for name, _ in tokens):
            seconds = sum(known[keys[name]].loading + known[keys[name]].seconds(*each) for (name, _), each in tokens.items())
            found.append((engine, f"calibrated on {machine}", seconds))
    for engine in sorted({engine for engine, _, _ in means if engine}):
        seconds = sum(missing[name, depth] * _mean(means, engine, keys[name], depth).seconds for name, depth in tokens)
        found.append((engine, f"{means[engine, None, None].answers} cached answers", seconds))
    return [EngineEstimate(engine, source, seconds, _usd(suite, seconds, tokens)) for engine, source, seconds in found]


def _mean(means: Means, engine: str, model: UUID, depth: int) -> MeanGeneration:
    return means.get((engine, model, depth)) or means.get((engine, model, None)) or means[engine, None, None]


def _usd(suite: Suite, seconds: float, tokens: Tokens) -> float | None:
    engine = suite.config.engine
    if not engine.usd_per_hour and not engine.usd_per_million_tokens:
        return None
    asked: dict[str, tuple[float, float]] = {}
    for (model, _), (prompt, completion) in tokens.items():
        before = asked.get(model, (0.0, 0.0))
        asked[model] = (before[0] + prompt, before[1] + completion)
    return dollars(seconds / 3600, engine.usd_per_hour, asked, engine.usd_per_million_tokens)
