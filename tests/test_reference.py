"""The shipped reference cache is whole, undamaged and what the specialists answer, and routing over it is a decision."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.headline import policy_of, smaller_pools, without
from benchmarks.problems import Skill
from benchmarks.reference import SUITE, reference_folder
from benchmarks.specialists.chains import MODELS, SKILLS, examples, words_of
from benchmarks.specialists.train import HERE
from toolkit.cli.common import app
from toolkit.core.errors import CacheError, CheckpointError
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Prompt
from toolkit.engines.transformers import TransformersEngine
from toolkit.generation.verify import verify
from toolkit.replay.table import load_table
from toolkit.routing.baselines import registered_baselines
from toolkit.routing.comparison import OVERALL_QUESTIONS
from toolkit.routing.evaluate import evaluate
from toolkit.routing.train import build_router, fit_router
from toolkit.store import Cache
from toolkit.suites.benchmarks import synthetic_benchmarks
from toolkit.suites.loading import find_suite, load_config
from toolkit.suites.weights import fetch

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
    assert sum(row.nodes for row in rows) == sum(one.limit or 0 for one in config.benchmarks) * per_question
    assert {one.name for one in config.benchmarks} == {*SKILLS, "errands", "chores"}
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
    """A random eight-hundredth of all generations; on another kind of processor a close call may go the other way."""
    suite = find_suite(SUITE)
    config = load_config(suite)
    drawn = reference.arrow(
        "SELECT m.name, g.prompt, g.prompt_tokens, g.response, g.completion_tokens, g.finish_reason"
        " FROM generations AS g JOIN suite_models AS m USING (model) WHERE g.generation IN"
        " (SELECT generation FROM generations ORDER BY md5(generation::VARCHAR || 'seed 0')"
        " LIMIT (SELECT ceil(count(*) / 800)::BIGINT FROM generations)) ORDER BY g.prompt_tokens DESC, g.generation"
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
    assert same >= 0.98 * len(drawn)


@pytest.mark.parametrize("model", MODELS)
def test_no_model_has_seen_a_question_or_a_permuted_copy(model: str, reference: Cache) -> None:
    """Every example that it was trained on is drawn again, from the seed that its training recorded."""
    facts = json.loads((HERE / model / "trainer_state.json").read_text("utf-8"))
    seen = set()
    for stage in filter(None, (facts, facts.get("before"))):  # examples of stages before those are no longer drawn
        drawn = examples(model, stage["seed"], stage["own_share"])
        seen |= {words_of(example.prompt) for example in islice(drawn, stage["steps"] * stage["batch"])}
    asked = {words_of(prompt) for prompt in reference.arrow("SELECT prompt FROM questions")["prompt"].to_pylist()}
    assert len(asked) >= 700
    assert len(seen) > 5000
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
            assert quality[benchmark, skills[0]] > quality[benchmark, "quick"]


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


def test_a_router_that_reads_responses_is_ahead_of_its_blind_twin_and_of_every_question_only_baseline(reference: Cache) -> None:
    """PPO's lead is in the README, whose output is compared."""
    suite = reference.suites.get(SUITE)
    assert suite
    table, synthetic = load_table(reference, suite), synthetic_benchmarks(suite.config.benchmarks)
    routers = {}
    for blind in (False, True):
        config = suite.config.train.changed({"algorithm": "exact", "blind": blind})
        routers[blind] = build_router(suite, table, None, config, 0, fit_router(table, config, 0))[0]
    twin = policy_of(table, [routers[True]], config.alpha)
    evaluation, _ = evaluate(table, routers[False], "test", synthetic, others={"blind twin": twin})
    rivals = ["blind twin", *(baseline.name for baseline in registered_baselines() if baseline.question_only)]
    for rival in rivals:
        assert evaluation.result(rival).lead.low > 0.03, rival
        assert evaluation.result(rival, OVERALL_QUESTIONS).lead.low > 0.05, rival


def test_no_model_is_useless(reference: Cache) -> None:
    """Routers trained on the pool without one of its models have a lower reward."""
    suite = reference.suites.get(SUITE)
    assert suite
    table, synthetic = load_table(reference, suite), synthetic_benchmarks(suite.config.benchmarks)
    config = suite.config.train.changed({"algorithm": "exact"})
    whole = build_router(suite, table, None, config, 0, fit_router(table, config, 0))[0]
    others = smaller_pools(suite, table, config, seeds=1)
    assert set(others) == {f"without {model}" for model in table.models}
    evaluation, _ = evaluate(table, whole, "test", synthetic, others=others)
    for pool in others:
        assert evaluation.result(pool).lead.low > 0, pool


def test_a_model_is_left_out_of_every_path(reference: Cache) -> None:
    suite = reference.suites.get(SUITE)
    assert suite
    table = load_table(reference, suite)
    smaller = without(table, "quick")
    assert smaller.available is not None
    paths = {table.path(node) for node in np.flatnonzero(smaller.available[0]).tolist()}
    assert len(paths) == 1 + 3 + 9 + 27
    assert not any("quick" in path for path in paths)
