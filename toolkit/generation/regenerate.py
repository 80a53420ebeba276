"""Generates a sample of a suite's cached responses again, to measure how many change and what that does to the ranking.

Greedy decoding is not bitwise stable: another batch adds up in another order, and a close call between two tokens is decided
the other way. The cache makes transitions deterministic; this measures how much a cache generated in other batches would have
differed. Nothing is written.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from toolkit.core.registry import ENGINES
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, OpenEngine, Prompt, open_engine
from toolkit.engines.guard import GuardedEngine, TokenBudget, rounds
from toolkit.generation.batching import cut_batches, sampling_seed
from toolkit.generation.changes import Regeneration, compare
from toolkit.generation.scoring import check_sandbox
from toolkit.generation.steps import block_trees
from toolkit.generation.verify_models import verify_checkpoints
from toolkit.store import Cache, SuiteGeneration
from toolkit.suites.suite import Suite

AS_GENERATED = "as generated"
"""The batches that the suite's own run forms, within its token budget."""


Batch = Mapping[UUID, Prompt]
"""Prompts that are submitted together, by generation."""


def regenerate(
    suite: Suite,
    cache: Cache,
    workspace: Workspace,
    share: float,
    batch_sizes: Sequence[int] = (),
    seed: int = 0,
    engine: OpenEngine = open_engine,
) -> Regeneration:
    """Generate a seeded sample of a suite's responses again: in the batches of its own run, and in batches of other sizes.

    Args:
        suite: The recorded suite.
        cache: Its cache, which is only read.
        workspace: The suite file's folder, and the folder of downloads.
        share: Share of the responses to generate again, in (0, 1]; whole batches are sampled until it is reached.
        batch_sizes: Further numbers of prompts per batch.
        seed: Seed of the sample.
        engine: Opens an engine for a model.

    Raises:
        CheckpointError: The weights are not those that generated the cache, or are not available.
        SandboxError: The suite's quality metric runs code, and running code is off or the code cannot be isolated.
    """
    check_sandbox(suite.config, suite.questions)
    verify_checkpoints(suite, workspace)
    sample = _sample_batches(suite, cache, share, seed)
    completions: dict[str, dict[UUID, Completion | None]] = {name: {} for name in (AS_GENERATED, *map(str, batch_sizes))}
    for model, config in zip(suite.models, suite.config.models, strict=True):
        batches = [_load(cache, batch) for batch in sample.get(model.key, [])]
        if not batches:
            continue
        prompts = [generation for batch in batches for generation in batch.items()]
        prompts.sort(key=lambda generation: -generation[1].tokens)
        open_model = partial(engine, suite.config.engine, config, workspace)
        guarded = GuardedEngine(open_model, config.max_tokens, TokenBudget(0), suite.config.engine.batch_timeout)
        with closing(guarded):
            completions[AS_GENERATED] |= _generate(guarded, batches, suite.config.engine.token_budget)
            for size in batch_sizes:
                starts = range(0, len(prompts), size)
                completions[str(size)] |= _generate(guarded, (dict(prompts[start : start + size]) for start in starts))
    return compare(suite, cache, completions)


def _sample_batches(suite: Suite, cache: Cache, share: float, seed: int) -> dict[UUID, list[list[UUID]]]:
    """Sample batches until they hold a share of the suite's responses; returns them by model."""
    batches = list(_own_batches(suite, cache))
    batches.sort(key=lambda batch: hashlib.sha256(f"{seed} {batch[1][0]}".encode()).digest())
    missing = math.ceil(share * sum(len(generations) for _, generations in batches))
    sample: dict[UUID, list[list[UUID]]] = defaultdict(list)
    for model, generations in batches:
        if missing <= 0:
            break
        sample[model].append(generations)
        missing -= len(generations)
    return sample


def _own_batches(suite: Suite, cache: Cache) -> Iterator[tuple[UUID, list[UUID]]]:
    """Yield model and successful generations of every batch that the suite's own run forms."""
    max_tokens = {model.key: config.max_tokens for model, config in zip(suite.models, suite.config.models, strict=True)}
    token_budget = TokenBudget(suite.config.engine.token_budget)
    size = rounds(ENGINES[suite.config.engine.name])
    trees = {depth: block_trees(suite, depth) for depth in range(1, suite.horizon + 1)}

    def block(generation: SuiteGeneration) -> tuple[UUID, int, int]:
        return generation.model, generation.depth, generation.position // trees[generation.depth]

    in_order = sorted(cache.generations.of_suite(suite.key), key=block)  # within a block, the order stays
    for (model, _, _), of_block in groupby(in_order, key=block):
        for batch in cut_batches(of_block, attrgetter("prompt_tokens"), max_tokens[model], token_budget, size):
            if succeeded := [generation.generation for generation in batch if generation.succeeded]:
                yield model, succeeded


def _load(cache: Cache, generations: Sequence[UUID]) -> Batch:
    """Read the prompts of a batch, in its order."""
    texts = cache.generations.texts(generations)
    return {
        key: Prompt(text=texts[key].prompt, tokens=texts[key].prompt_tokens, seed=sampling_seed(key)) for key in generations
    }


def _generate(
    guarded: GuardedEngine, batches: Iterable[Batch], batch_tokens: int | None = None
) -> dict[UUID, Completion | None]:
    """Generate batches as they are, unless they do not fit into memory.

    Args:
        guarded: The engine.
        batches: The batches.
        batch_tokens: Tokens to hold at a time; default: all those of a batch.
    """
    completions: dict[UUID, Completion | None] = {}
    for batch in batches:
        prompts = list(batch.values())
        longest = max(prompt.tokens for prompt in prompts) + guarded.max_tokens
        guarded.token_budget.tokens = batch_tokens or longest * len(prompts)
        for key, outcome in zip(batch, guarded.generate(prompts), strict=True):
            completions[key] = outcome if isinstance(outcome, Completion) else None
    return completions
