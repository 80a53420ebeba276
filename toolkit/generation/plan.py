"""Plans a suite: what it would generate, what of that is cached, and what the rest takes.

Every figure is measured or counted: tokens and seconds are means of cached generations or of profiles, memory follows from the
weights' files, storage from the cache's size. Without a measurement there is no figure.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple
from uuid import UUID

from toolkit.engines.memory import Memory
from toolkit.generation.budget import dollars
from toolkit.generation.profile import Profiles
from toolkit.store import Cache, MeanGeneration
from toolkit.suites.suite import Suite
from toolkit.suites.tree import PathTree


class PlanRow(NamedTuple):
    """The nodes of one benchmark, hop and model, and how many of them are missing."""

    benchmark: str
    depth: int
    model: str
    nodes: int
    missing: int


class EngineEstimate(NamedTuple):
    """What the missing responses take with one engine.

    Attributes:
        engine: Engine and version.
        source: Where it was measured: the machine of a profile, or the cache.
        seconds: Time of one process; from a profile, weights are loaded once per hop and model.
        usd: Cost at the suite's prices; None if it has none.
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
        saved: Cached nodes that share another node's generation because their rendered prompts are equal.
        prompt_tokens: Tokens of the missing prompts.
        completion_tokens: Tokens of the missing responses.
        source: What the tokens are means of.
        estimates: Time and money, by engine.
        memory: What each model needs; None if its weights are not on this machine.
        peaks: The measured peak memory of each model, in bytes.
        batch_tokens: Tokens of a batch.
        storage: Bytes that the missing nodes add to the cache.
        left_out: Nodes that the complete tree would have and `[tree]` leaves out.
        left_out_tokens: Their tokens, estimated like those of the missing ones; None where nothing comparable was measured.
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
    left_out: int
    left_out_tokens: "Tokens | None"

    @property
    def nodes(self) -> int:
        """Number of nodes, without roots."""
        return sum(row.nodes for row in self.rows)

    @property
    def missing(self) -> int:
        """Number of nodes not generated yet."""
        return sum(row.missing for row in self.rows)


Means = Mapping[tuple[str | None, UUID | None, int | None], MeanGeneration]
"""Means of cached generations, by engine, model and depth; None stands for all of them."""
ModelHop = tuple[str, int]
"""Name of a model, and the depth of a hop."""


class Tokens(NamedTuple):
    """Tokens of the missing prompts and responses."""

    prompt: float
    completion: float


def plan(
    suite: Suite,
    cache: Cache | None,
    profiles: Profiles | None = None,
    memory: Mapping[str, Memory | None] | None = None,
) -> Plan:
    """Plan a suite.

    Args:
        suite: The suite as resolved.
        cache: Its cache, if there is one; generations of the same models in other suites count for the estimates.
        profiles: Profiles of engines; those of other models are left out.
        memory: Memory of each model, by name.
    """
    rows = _rows(suite, cache)
    missing: Counter[ModelHop] = Counter()
    left_out = _complete_nodes(suite)
    for row in rows:
        missing[row.model, row.depth] += row.missing
        left_out[row.model, row.depth] -= row.nodes
    means = cache.generations.means() if cache else {}
    keys = {model.key for model in suite.models}
    profiles = {
        machine: {key: profile for key, profile in by_model.items() if key in keys}
        for machine, by_model in (profiles or {}).items()
    }
    left_out_tokens, _ = _tokens(suite, left_out, means, profiles)
    tokens, source = _tokens(suite, missing, means, profiles)
    return Plan(
        rows=rows,
        saved=cache.suites.count_shared(suite) if cache else 0,
        prompt_tokens=_total(tokens).prompt if tokens is not None else None,
        completion_tokens=_total(tokens).completion if tokens is not None else None,
        source=source,
        estimates=tuple(_estimates(suite, missing, tokens, means, profiles)) if tokens else (),
        memory=memory or {},
        peaks={profile.name: profile.peak for each in profiles.values() for profile in each.values() if profile.peak},
        batch_tokens=suite.config.engine.token_budget,
        storage=_storage(cache, missing.total()) if cache else None,
        left_out=left_out.total(),
        left_out_tokens=_total(left_out_tokens) if left_out_tokens is not None else None,
    )


def _rows(suite: Suite, cache: Cache | None) -> tuple[PlanRow, ...]:
    cached = cache.suites.count_cached(suite) if cache else {}
    questions = Counter(question.benchmark for question in suite.questions)
    per_tree = suite.tree.count()
    rows = []
    hops = product(range(1, suite.horizon + 1), enumerate(suite.models))
    for (depth, (position, model)), benchmark in product(hops, questions):
        if not per_tree[depth, position]:
            continue
        nodes = questions[benchmark] * suite.config.samples * per_tree[depth, position]
        missing = nodes - cached.get((benchmark, depth, model.key), 0)
        rows.append(PlanRow(benchmark=benchmark, depth=depth, model=model.name, nodes=nodes, missing=missing))
    return tuple(rows)


def _complete_nodes(suite: Suite) -> Counter[ModelHop]:
    """Count the nodes that the suite would have if every path existed."""
    trees, names = len(suite.questions) * suite.config.samples, [model.name for model in suite.models]
    complete = PathTree(len(names), suite.horizon).count()
    return Counter({(names[position], depth): trees * count for (depth, position), count in complete.items()})


def _total(tokens: Mapping[ModelHop, Tokens]) -> Tokens:
    return Tokens(sum(each.prompt for each in tokens.values()), sum(each.completion for each in tokens.values()))


def _tokens(
    suite: Suite, missing: Mapping[ModelHop, int], means: Means, profiles: Profiles
) -> tuple[dict[ModelHop, Tokens] | None, str]:
    """Estimate the missing tokens, and name what they are means of; None if nothing comparable was measured.

    Means of cached generations come before profiles, whose prompts are those of the first hop.
    """
    newest = {key: profile for by_model in profiles.values() for key, profile in by_model.items()}
    mean_response = sum(profile.completion_tokens for profile in newest.values()) / len(newest) if newest else 0.0
    keys = {model.name: model.key for model in suite.models}
    tokens: dict[ModelHop, Tokens] = {}
    sources = set()
    for (name, depth), count in missing.items():
        if not count:
            continue
        profile = newest.get(keys[name])
        cached = means.get((None, keys[name], depth)) or means.get((None, keys[name], None))
        if cached is None and profile is None:
            cached = means.get((None, None, None))
        if cached:
            sources.add("cached generations")
            tokens[name, depth] = Tokens(count * cached.prompt_tokens, count * cached.completion_tokens)
        elif profile:
            sources.add("a profile, with later prompts longer by the responses before them")
            prompt = profile.prompt_tokens + (depth - 1) * mean_response
            tokens[name, depth] = Tokens(count * prompt, count * profile.completion_tokens)
        else:
            return None, ""
    return tokens, " and ".join(sorted(sources, reverse=True))


def _estimates(
    suite: Suite, missing: Mapping[ModelHop, int], tokens: Mapping[ModelHop, Tokens], means: Means, profiles: Profiles
) -> list[EngineEstimate]:
    """Estimate time and money by profiles that cover all models with missing nodes, and by engines that the cache knows."""
    keys = {model.name: model.key for model in suite.models}
    times = []
    for (engine, machine), by_model in sorted(profiles.items()):
        if all(keys[name] in by_model for name, _ in tokens):
            hops = [(by_model[keys[name]], hop_tokens) for (name, _), hop_tokens in tokens.items()]
            seconds = sum(profile.loading + profile.seconds(*hop_tokens) for profile, hop_tokens in hops)
            times.append((engine, f"profile of {machine}", seconds))
    for engine in sorted({engine for engine, _, _ in means if engine}):
        seconds = sum(missing[name, depth] * _mean(means, engine, keys[name], depth).seconds for name, depth in tokens)
        times.append((engine, f"{means[engine, None, None].generations} cached generations", seconds))
    return [
        EngineEstimate(engine=engine, source=source, seconds=seconds, usd=_usd(suite, seconds, tokens))
        for engine, source, seconds in times
    ]


def _mean(means: Means, engine: str, model: UUID, depth: int) -> MeanGeneration:
    """Return the mean of an engine's generations that are most like those of a model and hop."""
    return means.get((engine, model, depth)) or means.get((engine, model, None)) or means[engine, None, None]


def _usd(suite: Suite, seconds: float, tokens: Mapping[ModelHop, Tokens]) -> float | None:
    engine = suite.config.engine
    if not engine.usd_per_hour and not engine.usd_per_million_tokens:
        return None
    by_model: dict[str, Tokens] = {}
    for (model, _), (prompt, completion) in tokens.items():
        total = by_model.get(model, Tokens(0.0, 0.0))
        by_model[model] = Tokens(total.prompt + prompt, total.completion + completion)
    return dollars(seconds / 3600, engine.usd_per_hour, by_model, engine.usd_per_million_tokens)


def _storage(cache: Cache, missing: int) -> float | None:
    """Extrapolate from this cache's bytes per node."""
    overview = cache.housekeeping.overview()
    return missing * overview.bytes / overview.nodes if overview.nodes else None
