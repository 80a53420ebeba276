"""The shipped reference cache is whole, undamaged and what the specialists answer, and routing over it is a decision."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest
from typer.testing import CliRunner

from benchmarks.problems import Skill
from benchmarks.reference import SUITE, reference_folder
from benchmarks.specialists.chains import SKILLS, examples
from benchmarks.specialists.train import HERE
from toolkit.cli.common import app
from toolkit.core.errors import CacheError, CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Prompt
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.verify import verify
from toolkit.store import Cache
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.weights import fetch

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 25_000_000
"""Bytes that the exported folder may take."""


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    path = tmp_path_factory.mktemp("reference") / "quickstart.duckdb"
    found = CliRunner().invoke(app, ["import", "reference", "--cache", str(path)])
    assert found.exit_code == 0, found.output
    return Cache(path)


def test_it_is_whole_compact_and_everything_in_it_holds(reference: Cache) -> None:
    config = load_config(find_suite(SUITE))
    known = reference.suites.get(SUITE)
    assert known
    engine = known.config.engine.model_copy(update={"batch_tokens": config.engine.batch_tokens})
    generated = known.config.model_copy(update={"train": config.train, "engine": engine})  # neither is part of any key
    assert generated == config, "the suite file has changed since: just reference"
    rows = reference.suites.progress(SUITE)
    assert not sum(row.missing + row.failed for row in rows)
    per_question = sum(len(config.models) ** depth for depth in range(1, config.horizon + 1))
    assert sum(row.nodes for row in rows) == len(config.benchmarks) * 200 * per_question
    assert all(one.limit and one.limit >= 200 for one in config.benchmarks)
    assert not [finding for finding in verify(reference) if finding.wrong]
    assert sum(file.stat().st_size for file in reference_folder().iterdir()) <= LARGEST


def test_its_suite_keeps_the_key_under_which_it_was_exported(reference: Cache) -> None:
    """A new setting of suites that is left out must not change the key of any suite."""
    known = reference.suites.get(SUITE)
    assert known
    assert [str(key) for key in reference.arrow("SELECT suite FROM suites")["suite"].to_pylist()] == [str(known.key)]
    assert replace(known, config=known.config.model_copy(update={"currency": "USD"})).key == known.key


@pytest.mark.parametrize("table", ["generations", "embeddings", "scores"])
def test_a_damaged_copy_is_refused(table: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(reference_folder(), tmp_path / "copy"))
    file = copy / f"{table}.parquet"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    other = Cache(tmp_path / "other.duckdb")
    other.create()
    with pytest.raises(CacheError, match="missing or damaged"):
        other.transfer.merge(copy)
    assert other.suites.names() == []


def test_the_specialists_give_the_same_answers_again(reference: Cache, tmp_path: Path) -> None:
    """A random two-hundredth of all generations; on another kind of processor a close call may go the other way."""
    suite = find_suite(SUITE)
    config = load_config(suite)
    drawn = reference.arrow(
        "SELECT m.name, g.prompt, g.prompt_tokens, g.response, g.completion_tokens, g.finish_reason"
        " FROM generations AS g JOIN suite_models AS m USING (model) WHERE g.generation IN"
        " (SELECT generation FROM generations ORDER BY md5(generation::VARCHAR || 'seed 0')"
        " LIMIT (SELECT ceil(count(*) / 200)::BIGINT FROM generations)) ORDER BY g.prompt_tokens DESC, g.generation"
    ).to_pylist()
    try:
        fetch(config.models[0], Workspace(suite.parent, tmp_path))
    except CheckpointError as error:
        pytest.skip(f"the base model cannot be fetched: {error}")
    same = 0
    for model in config.models:
        rows = [row for row in drawn if row["name"] == model.name]
        assert rows
        with closing(TransformersEngine(config.engine, model, Workspace(suite.parent, tmp_path))) as engine:
            for start in range(0, len(rows), 32):
                part = rows[start : start + 32]
                for row in part:
                    assert engine.count(row["prompt"]) == row["prompt_tokens"]
                answers = engine.generate([Prompt(row["prompt"], row["prompt_tokens"], 0) for row in part])
                expected = [Completion(row["response"], row["completion_tokens"], row["finish_reason"]) for row in part]
                same += sum(
                    answer._replace(cached_tokens=None) == cached for answer, cached in zip(answers, expected, strict=True)
                )
    assert same >= 0.99 * len(drawn)


@pytest.mark.parametrize("skill", get_args(Skill))
def test_no_specialist_has_seen_a_question(skill: Skill, reference: Cache) -> None:
    """Every example that it was trained on is drawn again, from the seed that its training recorded."""
    facts = json.loads((HERE / skill / "trainer_state.json").read_text("utf-8"))
    drawn = examples(skill, facts["seed"], facts["own_share"])
    seen = {example.prompt for example in islice(drawn, facts["steps"] * facts["batch"])}
    asked = set(reference.arrow("SELECT prompt FROM questions")["prompt"].to_pylist())
    assert len(asked) >= 1200
    assert len(seen) > 1000
    assert not seen & asked


def test_each_specialist_is_the_best_of_the_pool_on_its_own_field_alone(reference: Cache) -> None:
    rows = reference.arrow(
        "SELECT benchmark, model, avg(quality) AS quality FROM transitions WHERE depth = 1 GROUP BY ALL"
    ).to_pylist()
    quality = {(row["benchmark"], row["model"]): row["quality"] for row in rows}
    for benchmark, skills in SKILLS.items():
        if len(skills) == 1:
            for other in set(get_args(Skill)) - set(skills):
                assert quality[benchmark, skills[0]] > quality[benchmark, other] + 0.3


def test_on_a_shared_benchmark_hops_and_their_order_matter(reference: Cache) -> None:
    rows = reference.arrow("SELECT benchmark, depth, path, avg(quality) AS quality FROM transitions GROUP BY ALL").to_pylist()
    for benchmark, skills in SKILLS.items():
        if len(skills) == 2:
            here = {tuple(row["path"]): row["quality"] for row in rows if row["benchmark"] == benchmark}
            alone = max(quality for path, quality in here.items() if len(path) == 1)
            assert max(quality for path, quality in here.items() if len(path) > 1) >= 1.5 * alone
    orders = reference.arrow(
        "WITH right_order AS (SELECT question, path[1] AS first, path[2] AS second, quality FROM transitions"
        " WHERE depth = 2 AND path[1] <> path[2])"
        " SELECT count(*) FILTER (a.quality > b.quality) AS gained FROM right_order AS a JOIN right_order AS b"
        " ON a.question = b.question AND a.first = b.second AND a.second = b.first"
    ).to_pylist()
    assert orders[0]["gained"] > 100


@pytest.mark.parametrize("algorithm", ["exact", "ppo"])
def test_a_router_with_default_settings_is_level_with_one_path_for_each_wording(
    algorithm: str, reference: Cache, tmp_path: Path
) -> None:
    """The rule needs to know how the benchmarks are worded, and the router only reads questions."""
    cache = tmp_path / "quickstart.duckdb"
    shutil.copy(reference.path, cache)
    rule = ROOT / "docs/examples/wording.py"
    words = ["quickstart", "--cache", str(cache), "--runs-dir", str(tmp_path / "runs")]
    trained = CliRunner().invoke(app, ["train", *words, "--algorithm", algorithm])
    assert trained.exit_code == 0, trained.output
    assert "its R is ahead of the best fixed path" in trained.output
    evaluated = CliRunner().invoke(app, ["evaluate", *words, "--router", f"{rule}:Wording"])
    assert evaluated.exit_code == 0, evaluated.output
    rewards = {
        row["algorithm"].rpartition(":")[2]: row["reward"]
        for row in Cache(cache)
        .arrow(
            "SELECT r.algorithm, e.reward FROM evaluations AS e JOIN runs AS r USING (run)"
            " WHERE e.policy = 'router' AND e.benchmark = 'overall'"
        )
        .to_pylist()
    }
    assert rewards["Wording"] == pytest.approx(0.663, abs=0.001)
    run = next((tmp_path / "runs").iterdir())
    compared = CliRunner().invoke(app, ["evaluate", str(run), "--cache", str(cache), "--router", f"{rule}:Wording"])
    assert compared.exit_code == 0, compared.output
    (learned,) = (
        Cache(cache)
        .arrow(
            "SELECT reward FROM evaluations WHERE policy = 'router' AND benchmark = 'overall'"
            " AND run LIKE 'quickstart-%-seed0-%'"
        )["reward"]
        .to_pylist()
    )
    assert learned > 0.663 - 0.010
