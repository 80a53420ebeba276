"""Suites with missing responses, from the cache to a trained router: failed generations, and tables with empty cells."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.scripted import encode, resolve_config, right_answers, suite_config
from toolkit.cli import app
from toolkit.core import tree
from toolkit.core.workspace import Workspace
from toolkit.engines import Completion, Prompt
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.replay.exact import most_probable, path_shares
from toolkit.replay.table import load_table
from toolkit.routing.router import load_router
from toolkit.routing.train import run_name
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig


@pytest.mark.parametrize("algorithm", ["exact", "ppo"])
def test_a_router_is_trained_on_a_suite_with_masked_failures(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    suite = resolve_config(suite_config(incomplete="mask"), tmp_path)
    script, culprits = right_answers(suite), {question.prompt for question in suite.questions[::3]}

    class Failing(ScriptedEngine):
        def generate(self, prompts: Sequence[Prompt]) -> list[Completion]:
            if self.model.name == "sums" and any(culprit in prompt.text for prompt in prompts for culprit in culprits):
                raise ValueError("bad prompt")
            return super().generate(prompts)

    cache = Cache(tmp_path / "c.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=partial(Failing, script=script), encode=encode)
    settings = ["--set", "timesteps=500", "--set", "n_envs=16", "--set", "exact.n_epochs=3", "--set", f"algorithm={algorithm}"]
    result = CliRunner().invoke(app, ["train", "scripted", "--cache", str(cache.path), *settings])
    assert result.exit_code == 0, result.output
    table = load_table(cache, suite)
    learned = load_router(next(Path("runs").glob("*/router.safetensors")))
    rows = np.arange(len(table.questions))
    shares = path_shares(table, most_probable(learned.probabilities(table, rows)))
    only = tree.node_of((1, 1), 2) - tree.n_nodes(2, 1)  # words > words, the one path without sums
    failed = np.array([question in culprits for question in table.questions])
    assert failed.any()
    assert (shares[failed, only] == 1).all()
    assert table.available is not None
    np.testing.assert_array_equal(table.available[:, table.leaves].sum(1), np.where(failed, 1, 4))


def test_a_run_without_the_questions_that_lack_a_response_is_another_one(tmp_path: Path) -> None:
    excluding, masking = (
        resolve_config(suite_config(incomplete=setting), tmp_path) for setting in ("exclude question", "mask")
    )
    assert excluding.key == masking.key
    assert run_name(excluding, TrainConfig(), 0) != run_name(masking, TrainConfig(), 0)
