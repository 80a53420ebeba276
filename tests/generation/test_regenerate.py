"""What needs a checkpoint to prove: tokens counted again, texts embedded again, responses generated again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import CheckpointError
from toolkit.core.hashing import content_sha256
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, OpenEngine, Prompt, TransientError
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.generation.recheck import check_embeddings, check_tokens
from toolkit.generation.regenerate import AS_GENERATED, Changes, regenerate
from toolkit.store import Cache
from toolkit.suites.suite import Suite

SUMS = "sums"


def recording(suite: Suite, batches: list[tuple[str, ...]], alone: str | None = None) -> OpenEngine:
    """An engine that notes its batches; with `alone`, the sums model says that to a prompt which comes by itself."""
    script = right_answers(suite)

    class Recording(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            batches.append(tuple(prompt.text for prompt in prompts))
            answers = super().generate(prompts)
            if alone is None or len(prompts) > 1 or self.model.name != SUMS:
                return answers
            return [Completion(alone, self.count(alone), "stop")]

    return lambda engine, model, workspace: Recording(model, script)


def by_model(changes: Sequence[Changes], batch: str) -> dict[str, Changes]:
    return {one.model: one for one in changes if one.batch == batch}


def test_the_suites_own_batches_are_formed_again(suite: Suite, tmp_path: Path) -> None:
    first: list[tuple[str, ...]] = []
    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=recording(suite, first), encode=encode)
    again: list[tuple[str, ...]] = []
    regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, engine=recording(suite, again))
    assert sorted(again) == sorted(first)
    assert len({len(batch) for batch in first}) > 2


def test_a_stable_engine_changes_nothing_and_nothing_is_written(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    before = content_sha256(cache.path)
    found = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, (1, 4), engine=scripted(right_answers(suite)))
    assert [one.batch for one in found.rankings] == [AS_GENERATED, "1", "4"]
    for one in found.changes:
        assert (one.changed, one.failed, one.share) == (0, 0, 0.0)
        assert one.quality == one.quality_again
    per_model = cache.arrow("SELECT count(*) AS n FROM generations GROUP BY model ORDER BY n")["n"].to_pylist()
    assert sorted(one.regenerated for one in found.changes if one.batch == AS_GENERATED) == per_model
    for ranking in found.rankings:
        assert (ranking.moved, ranking.kendall, ranking.largest, ranking.replaced) == (0, 1.0, 0.0, 1.0)
        assert ranking.best == ranking.best_again
    assert content_sha256(cache.path) == before


def test_what_changes_with_the_batch_is_counted_and_moves_the_ranking(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    engine = recording(suite, [], alone="nothing at all")
    found = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, (1,), engine=engine)
    assert by_model(found.changes, "1")[SUMS].share == 1.0
    assert by_model(found.changes, "1")[SUMS].quality_again == 0.0
    assert by_model(found.changes, "1")["words"].changed == 0
    # the mean reward of every path, computed from the views, the answers of sums worth nothing and three tokens long
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
    ranking = found.rankings[1]
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
    assert by_model(found.changes, AS_GENERATED)[SUMS].share < 0.5  # what comes alone there, too


def test_a_sample_is_seeded_and_as_large_as_asked(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    def drawn(share: float, seed: int) -> set[tuple[str, ...]]:
        batches: list[tuple[str, ...]] = []
        regenerate(suite, cache, Workspace(tmp_path, tmp_path), share, seed=seed, engine=recording(suite, batches))
        return set(batches)

    assert drawn(0.2, 0) == drawn(0.2, 0)
    assert drawn(0.2, 0) != drawn(0.2, 1)
    whole = cache.arrow("FROM generations").num_rows
    for share in (0.01, 0.2, 0.5):
        found = drawn(share, 0)
        count = sum(map(len, found))
        assert count >= share * whole
        assert count - min(map(len, found)) < share * whole + max(map(len, found))
    assert len(drawn(0.01, 0)) == 1


def test_what_fails_now_keeps_its_quality_and_is_counted(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    class Away(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            raise TransientError("away")

    found = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, engine=lambda e, m, w: Away(m))
    for one in found.changes:
        assert (one.failed, one.changed) == (one.regenerated, 0)
        assert one.quality == one.quality_again
    assert found.rankings[0].moved == 0


def test_an_unfinished_suite_has_changes_but_no_ranking(cache: Cache, suite: Suite, tmp_path: Path) -> None:
    with cache.write() as con:
        con.execute("DELETE FROM nodes WHERE node = (SELECT node FROM nodes WHERE depth = 2 LIMIT 1)")
    found = regenerate(suite, cache, Workspace(tmp_path, tmp_path), 1.0, engine=scripted(right_answers(suite)))
    assert found.changes
    assert found.rankings == ()


def test_weights_that_have_changed_are_refused(tmp_path: Path) -> None:
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
    sound = check_tokens(suite, cache, Workspace(tmp_path, tmp_path), engine)
    assert (sound.rows, sound.wrong) == (cache.arrow("FROM generations").num_rows, 0)
    for column in ("prompt_tokens", "completion_tokens"):
        with cache.write() as con:
            con.execute(f"UPDATE generations SET {column} = {column} + 1 WHERE rowid = 5")
        found = check_tokens(suite, cache, Workspace(tmp_path, tmp_path), engine)
        assert found.wrong == 1
        assert found.example == str(cache.arrow("SELECT generation FROM generations WHERE rowid = 5")["generation"][0].as_py())
        with cache.write() as con:
            con.execute(f"UPDATE generations SET {column} = {column} - 1 WHERE rowid = 5")


@pytest.mark.parametrize("features", ["newest", "context"])
def test_embeddings_are_those_of_the_encoder(features: str, tmp_path: Path) -> None:
    suite, cache = resolve_config(suite_config(features={"text": features}), tmp_path), Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    before = content(cache)
    sound = check_embeddings(suite, cache, Workspace(tmp_path, tmp_path), encode=encode)
    assert (sound.rows, sound.wrong) == (len(before["embeddings"]), 0)
    for change, wrong in ((1e-6, 0), (1e-2, 1)):
        with cache.write() as con:
            con.execute(f"UPDATE embeddings SET vector = [vector[1] + {change}] || vector[2:] WHERE rowid = 3")
        assert check_embeddings(suite, cache, Workspace(tmp_path, tmp_path), encode=encode).wrong == wrong
