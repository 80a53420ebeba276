"""What version 0.1 wrote keeps working: its cache, and the modules that user code imported. Its routers are refused.

`tests/data/v0.1` holds a cache, two policies trained on it and their exact figures, all written by version 0.1.
"""

import gzip
import json
from importlib import import_module
from pathlib import Path

import pytest

from toolkit.core.errors import PolicyError
from toolkit.replay.table import load_table
from toolkit.routing.evaluate import evaluate_policies
from toolkit.routing.policies import baseline_policies
from toolkit.routing.router import load_router
from toolkit.store import SCHEMA_VERSION, Cache
from toolkit.suites.benchmarks import synthetic_benchmarks

OLD = Path(__file__).parent / "data/v0.1"
FIGURES: dict[str, dict[str, list[float]]] = json.loads((OLD / "figures.json").read_text("utf-8"))


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    path = tmp_path / "scripted.duckdb"
    path.write_bytes(gzip.decompress((OLD / "scripted.cache.gz").read_bytes()))
    cache = Cache(path)
    backup = cache.migrate()
    assert backup
    assert cache.housekeeping.facts()["schema_version"] == str(SCHEMA_VERSION)
    return cache


RENAMED = {"router": "router (sampled)", "router (greedy)": "router"}
"""What version 0.1 called policies, and their names since: it compared all others with the sampled router."""


def renamed(key: str) -> str:
    """Return today's name of an old figure."""
    policy, _, benchmark = key.partition(" | ")
    return f"{RENAMED.get(policy, policy)} | {benchmark}"


def test_baselines_on_an_old_cache_have_their_old_figures(cache: Cache) -> None:
    suite = cache.suites.get("scripted")
    assert suite
    table = load_table(cache, suite)
    (run, figures), *_ = FIGURES.items()
    (recorded,) = cache.arrow("SELECT alpha FROM runs WHERE run = $run", {"run": run})["alpha"].to_pylist()
    policies = baseline_policies(table, "test", recorded, allow_stop=False)
    synthetic = synthetic_benchmarks(suite.config.benchmarks)
    settings = {"run": run, "suite": suite.name, "reference": "best fixed path", "routers": ()}
    evaluation = evaluate_policies(table, policies, "test", synthetic, recorded, **settings)  # type: ignore[arg-type]
    compared = 0
    for key, expected in figures.items():
        policy, _, benchmark = key.partition(" | ")
        if policy in policies and policy != "linear":  # which has more settings now
            result = evaluation.result(policy, benchmark)
            values = [estimate.mean for estimate in (result.quality, result.cost, result.reward)]
            assert values == pytest.approx(expected[:3], abs=1e-6), key
            compared += 1
    assert compared > 20


@pytest.mark.parametrize("run", FIGURES)
def test_an_old_router_has_to_be_trained_again(run: str) -> None:
    for trust in (False, True):
        with pytest.raises(PolicyError, match=r"did not observe the path.* toolkit train scripted"):
            load_router(OLD / f"{run}.zip", trust=trust)


def test_old_settings_of_training_are_understood(cache: Cache) -> None:
    suite = cache.suites.get("scripted")
    assert suite
    assert suite.config.train.first_layer == "shared"
    assert "patience" not in suite.config.train.exact


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


@pytest.mark.parametrize("module", ["benchmark", "data", "env", "features", "learn", "ppo"])
def test_modules_that_user_code_names_still_import(module: str) -> None:
    old = import_module(f"toolkit.{module}")
    assert old.__spec__
    assert old.__spec__.name != f"toolkit.{module}"


def test_documented_imports_work() -> None:
    from toolkit.benchmark import Benchmark, Item  # type: ignore[import-not-found]  # an alias of toolkit.tasks

    import toolkit

    assert toolkit.Cache is Cache
    assert Item("1", "prompt", ("answer",)).id == "1"
    assert Benchmark(name="b", version="1", field="qa", metric="exact_match", licence="CC0-1.0").name == "b"
