"""Checks that need a checkpoint: tokens are counted, texts embedded and responses generated again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import CheckpointError
from toolkit.core.files import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, OpenEngine, Prompt, TransientError
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.changes import Changes
from toolkit.generation.generate import generate
from toolkit.generation.regenerate import AS_GENERATED, regenerate
from toolkit.generation.verify_models import verify_embeddings, verify_tokens
from toolkit.store import Cache
from toolkit.suites.suite import Suite

SUMS = "sums"


def recording(suite: Suite, batches: list[tuple[str, ...]], alone: str | None = None) -> OpenEngine:
    """Return an engine that records its batches; with `alone`, the model sums responds with that to a batch of one prompt."""

    class Recording(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            batches.append(tuple(prompt.text for prompt in prompts))
            completions = super().generate(prompts)
            if alone is None or len(prompts) > 1 or self.model.name != SUMS:
                return completions
            return [Completion(alone, self.count(alone), "stop")]

    return partial(Recording, script=right_answers(suite))


def by_model(changes: Sequence[Changes], batch: str) -> dict[str, Changes]:
    return {change.model: change for change in changes if change.batch == batch}


def test_the_suites_own_batches_are_formed_again(suite: Suite, tmp_path: Path) -> None:
    generated: list[tuple[str, ...]] = []
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=recording(suite, generated), encode=encode)
    regenerated: list[tuple[str, ...]] = []
    regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, engine=recording(suite, regenerated))
    assert sorted(regenerated) == sorted(generated)
    assert len({len(batch) for batch in generated}) > 2


def test_a_stable_engine_changes_nothing_and_nothing_is_written(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    before = content_sha256(cache.path)
    regeneration = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, (1, 4), engine=scripted(right_answers(suite)))
    assert [ranking.batch for ranking in regeneration.rankings] == [AS_GENERATED, "1", "4"]
    for change in regeneration.changes:
        assert (change.changed, change.failed, change.share) == (0, 0, 0.0)
        assert change.quality == change.quality_again
    per_model = cache.arrow("SELECT count(*) AS n FROM generations GROUP BY model ORDER BY n")["n"].to_pylist()
    assert sorted(change.regenerated for change in regeneration.changes if change.batch == AS_GENERATED) == per_model
    for ranking in regeneration.rankings:
        assert (ranking.moved, ranking.kendall, ranking.largest, ranking.replaced) == (0, 1.0, 0.0, 1.0)
        assert ranking.best == ranking.best_again
    assert content_sha256(cache.path) == before


def test_changes_with_the_batch_size_are_counted_and_move_the_ranking(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    engine = recording(suite, [], alone="nothing at all")
    regeneration = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, (1,), engine=engine)
    assert by_model(regeneration.changes, "1")[SUMS].share == 1.0
    assert by_model(regeneration.changes, "1")[SUMS].quality_again == 0.0
    assert by_model(regeneration.changes, "1")["words"].changed == 0
    # The mean reward of every path, computed from the views; the responses of sums have quality 0 and three tokens.
    rows = cache.arrow("SELECT * FROM transitions ORDER BY depth").to_pylist()
    rate = next(model.rate_out for model in suite.models if model.name == SUMS)
    unit = cache.arrow("SELECT cost_unit FROM current_suites")["cost_unit"][0].as_py()
    costs: dict[tuple[str, tuple[str, ...]], float] = {}
    rewards: dict[bool, dict[str, dict[str, list[float]]]] = {False: {}, True: {}}
    for changed in (False, True):
        for row in rows:
            path, quality, hop = tuple(row["path"]), row["quality"], row["cost"]
            if changed and row["model"] == SUMS:
                quality, hop = 0.0, hop + rate * (3 - row["completion_tokens"]) / unit
            costs[row["question"], path] = hop + costs.get((row["question"], path[:-1]), 0.0)
            reward = quality - suite.config.train.alpha * costs[row["question"], path]
            rewards[changed].setdefault(" > ".join(path), {}).setdefault(row["benchmark"], []).append(reward)
    means = [{path: np.mean([np.mean(r) for r in of.values()]) for path, of in rewards[c].items()} for c in (False, True)]
    ranking = regeneration.rankings[1]
    assert ranking.batch == "1"
    assert ranking.policies == len(means[0]) == 6
    assert ranking.largest == pytest.approx(max(abs(means[0][path] - means[1][path]) for path in means[0]))
    assert ranking.best == max(means[0], key=lambda path: means[0][path])
    assert ranking.best_again == max(means[1], key=lambda path: means[1][path])
    orders = [[path for _, path in sorted((-reward, path) for path, reward in mean.items())] for mean in means]
    pairs = [(a, b) for n, a in enumerate(orders[0]) for b in orders[0][n + 1 :]]
    agreeing = sum(orders[1].index(a) < orders[1].index(b) for a, b in pairs)
    assert ranking.kendall == pytest.approx((2 * agreeing - len(pairs)) / len(pairs))
    assert ranking.kendall < 1
    assert ranking.moved == sum(a != b for a, b in zip(*orders, strict=True))
    assert by_model(regeneration.changes, AS_GENERATED)[SUMS].share < 0.5  # batches of one prompt occur there, too


def test_a_sample_is_seeded_and_as_large_as_requested(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    def sample(share: float, seed: int) -> set[tuple[str, ...]]:
        batches: list[tuple[str, ...]] = []
        regenerate(suite, cache, Workspace(tmp_path, tmp_path), share, seed=seed, engine=recording(suite, batches))
        return set(batches)

    assert sample(0.2, 0) == sample(0.2, 0)
    assert sample(0.2, 0) != sample(0.2, 1)
    total = cache.arrow("FROM generations").num_rows
    for share in (0.01, 0.2, 0.5):
        batches = sample(share, 0)
        count = sum(map(len, batches))
        assert count >= share * total
        assert count - min(map(len, batches)) < share * total + max(map(len, batches))
    assert len(sample(0.01, 0)) == 1


def test_a_failure_keeps_the_cached_quality_and_is_counted(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    class Unreachable(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            raise TransientError("unreachable")

    regeneration = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, engine=Unreachable)
    for change in regeneration.changes:
        assert (change.failed, change.changed) == (change.regenerated, 0)
        assert change.quality == change.quality_again
    assert regeneration.rankings[0].moved == 0


def test_an_incomplete_suite_has_changes_but_no_ranking(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with cache.write() as con:
        con.execute("DELETE FROM nodes WHERE node = (SELECT node FROM nodes WHERE depth = 2 LIMIT 1)")
    regeneration = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, engine=scripted(right_answers(suite)))
    assert regeneration.changes
    assert regeneration.rankings == ()


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights-of-one").mkdir()
    (tmp_path / "weights-of-one/model.safetensors").write_text("the same")
    config = suite_config()
    local = config.models[0].model_copy(update={"checkpoint": "./weights-of-one", "revision": None})
    suite = resolve_config(config.model_copy(update={"models": (local, config.models[1])}), tmp_path)
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    regenerate(suite, cache, Workspace(tmp_path, tmp_path), 0.1, engine=scripted(right_answers(suite)))
    (tmp_path / "weights-of-one/model.safetensors").write_text("another")
    with pytest.raises(CheckpointError, match=r"'sums'.*has changed"):
        regenerate(suite, cache, Workspace(tmp_path, tmp_path), 0.1, engine=scripted(right_answers(suite)))


def test_token_counts_are_those_of_the_tokenizer(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    engine = scripted(right_answers(suite))
    finding = verify_tokens(suite, cache, Workspace(tmp_path, tmp_path), engine)
    assert (finding.rows, finding.wrong) == (cache.arrow("FROM generations").num_rows, 0)
    for column in ("prompt_tokens", "completion_tokens"):
        with cache.write() as con:
            con.execute(f"UPDATE generations SET {column} = {column} + 1 WHERE rowid = 5")
        finding = verify_tokens(suite, cache, Workspace(tmp_path, tmp_path), engine)
        assert finding.wrong == 1
        assert finding.example == str(
            cache.arrow("SELECT generation FROM generations WHERE rowid = 5")["generation"][0].as_py()
        )
        with cache.write() as con:
            con.execute(f"UPDATE generations SET {column} = {column} - 1 WHERE rowid = 5")


@pytest.mark.parametrize("features", ["newest", "context"])
def test_embeddings_are_those_of_the_encoder(features: str, tmp_path: Path) -> None:
    suite, cache = resolve_config(suite_config(features={"text": features}), tmp_path), Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    before = content(cache)
    finding = verify_embeddings(suite, cache, Workspace(tmp_path, tmp_path), encode=encode)
    assert (finding.rows, finding.wrong) == (len(before["embeddings"]), 0)
    for change, wrong in ((1e-6, 0), (1e-2, 1)):
        with cache.write() as con:
            con.execute(f"UPDATE embeddings SET vector = [vector[1] + {change}] || vector[2:] WHERE rowid = 3")
        assert verify_embeddings(suite, cache, Workspace(tmp_path, tmp_path), encode=encode).wrong == wrong
