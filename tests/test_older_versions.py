"""What version 0.1 wrote keeps working: its cache, its policies, and the modules that user code imported.

`tests/data/v0.1` holds a cache, two policies trained on it and their exact figures, all written by version 0.1.
"""

import gzip
import json
from importlib import import_module
from pathlib import Path

import pytest

from toolkit.core.errors import PolicyError
from toolkit.replay.table import load_table
from toolkit.routing.evaluate import evaluate
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import SCHEMA_VERSION, Cache
from toolkit.suites.benchmarks import synthetic_benchmarks
from toolkit.suites.config import TrainConfig

OLD = Path(__file__).parent / "data/v0.1"
FIGURES: dict[str, dict[str, list[float]]] = json.loads((OLD / "figures.json").read_text("utf-8"))
RETRAINED = 0.03
"""Largest difference of a retrained router's figures: another processor adds up in another order."""


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    path = tmp_path / "scripted.duckdb"
    path.write_bytes(gzip.decompress((OLD / "scripted.cache.gz").read_bytes()))
    cache = Cache(path)
    backup = cache.migrate()
    assert backup
    assert cache.housekeeping.facts()["schema_version"] == str(SCHEMA_VERSION)
    return cache


def figures(cache: Cache, policy: Path) -> dict[str, list[float]]:
    suite = cache.suites.get("scripted")
    assert suite
    evaluation, _ = evaluate(
        load_table(cache, suite),
        load_router(policy, trust=policy.suffix == ".zip"),
        "test",
        synthetic_benchmarks(suite.config.benchmarks),
    )
    return {
        f"{result.policy} | {result.benchmark}": [
            estimate.mean for estimate in (result.quality, result.cost, result.reward, result.lead)
        ]
        for result in evaluation.results
    }


RENAMED = {"router": "router (sampled)", "router (greedy)": "router"}
"""What version 0.1 called policies, and their names since: it compared all others with the sampled router."""


def renamed(key: str) -> str:
    """Return today's name of an old figure."""
    policy, _, benchmark = key.partition(" | ")
    return f"{RENAMED.get(policy, policy)} | {benchmark}"


def expected_figures(run: str) -> dict[str, list[float]]:
    """Return the old figures by today's names, with the lead of the greedy router, which was that of the sampled one."""
    figures = {}
    for key, (quality, cost, reward, lead) in FIGURES[run].items():
        greedy_lead = FIGURES[run][f"router (greedy) | {key.partition(' | ')[2]}"][3]
        figures[renamed(key)] = [quality, cost, reward, lead - greedy_lead]
    return figures


@pytest.mark.parametrize("run", FIGURES)
def test_an_old_policy_on_an_old_cache_has_its_old_figures(run: str, cache: Cache) -> None:
    now, expected = figures(cache, OLD / f"{run}.zip"), expected_figures(run)
    assert now.keys() >= expected.keys()
    for key, values in expected.items():
        assert now[key] == pytest.approx(values, abs=1e-6), key


@pytest.mark.parametrize("run", FIGURES)
def test_an_old_policy_is_opened_only_with_trust_and_becomes_data(run: str, cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"holds pickles.* toolkit evaluate .*\.zip --trust"):
        load_router(OLD / f"{run}.zip")
    load_router(OLD / f"{run}.zip", trust=True).save(tmp_path / "router.safetensors")
    assert figures(cache, tmp_path / "router.safetensors") == figures(cache, OLD / f"{run}.zip")


@pytest.mark.parametrize("run", FIGURES)
def test_the_recorded_evaluation_of_an_old_run_is_still_there(run: str, cache: Cache) -> None:
    query = "SELECT policy, benchmark, quality, cost, reward, lead, reference FROM evaluations WHERE run = $run"
    rows = {f"{row['policy']} | {row['benchmark']}": row for row in cache.arrow(query, {"run": run}).to_pylist()}
    assert rows.keys() == {renamed(key) for key in FIGURES[run]}
    for key, figure in FIGURES[run].items():
        row = rows[renamed(key)]
        assert [row[name] for name in ("quality", "cost", "reward", "lead")] == pytest.approx(figure, abs=1e-6)
        assert row["reference"] == "router (sampled)"
    routes = cache.arrow(
        "SELECT benchmark, avg(quality) AS quality, avg(cost) AS cost FROM routes WHERE run = $run GROUP BY ALL", {"run": run}
    ).to_pylist()
    assert len(routes) == 3
    for row in routes:
        assert [row["quality"], row["cost"]] == pytest.approx(
            FIGURES[run][f"router (greedy) | {row['benchmark']}"][:2], abs=1e-6
        )


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize("run", FIGURES)
def test_training_again_gives_the_same_router(run: str, cache: Cache, tmp_path: Path) -> None:
    suite = cache.suites.get("scripted")
    assert suite
    settings = json.loads(cache.arrow("SELECT config FROM runs WHERE run = $run", {"run": run})["config"][0].as_py())
    trained = train(suite, cache, TrainConfig.model_validate(settings), 0, tmp_path / "runs")
    again = figures(cache, trained.path)
    for key, values in expected_figures(run).items():
        assert again[key] == pytest.approx(values, abs=RETRAINED), key


@pytest.mark.parametrize("module", ["benchmark", "data", "env", "features", "learn", "ppo"])
def test_modules_that_user_code_and_saved_policies_name_still_import(module: str) -> None:
    old = import_module(f"toolkit.{module}")
    assert old.__spec__
    assert old.__spec__.name != f"toolkit.{module}"


def test_documented_imports_work() -> None:
    from toolkit.benchmark import Benchmark, Item  # type: ignore[import-not-found]  # an alias of toolkit.tasks

    import toolkit

    assert toolkit.Cache is Cache
    assert Item("1", "prompt", ("answer",)).id == "1"
    assert Benchmark(name="b", version="1", field="qa", metric="exact_match", licence="CC0-1.0").name == "b"
