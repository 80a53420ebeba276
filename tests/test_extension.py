"""Extension points from the outside: installed packages that declare entry points add to what the toolkit has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.page import bodies
from tests.scripted import resolve_config, suite_config
from toolkit.core.errors import BenchmarkError, EngineError, SuiteError
from toolkit.core.workspace import Workspace
from toolkit.engines import open_engine
from toolkit.store import Cache
from toolkit.suites.resolving import metric_of, metrics_of, reread
from toolkit.tasks import METRICS

ROOT = Path(__file__).parents[1]

ENGINE = '''
from pydantic import Field

from toolkit.engines import Completion
from toolkit.engines.base import this_machine
from toolkit.suites.section import Section


class ShoutSettings(Section):
    """How loud the engine is."""

    mark: str = Field("!", description="What every response ends with.")


class ShoutEngine:
    """Shouts the last line of its prompt."""

    label = "shout 1.0"
    context_length = 1000
    default_batch_tokens = 128
    needs_weights = False
    in_process = False
    machine = staticmethod(this_machine)

    def __init__(self, config, model, workspace):
        self.settings = config.settings(ShoutSettings)

    def render(self, messages):
        return messages[-1]["content"]

    def count(self, text):
        return len(text.split())

    def generate(self, prompts):
        texts = [prompt.text.splitlines()[-1].upper() + self.settings.mark for prompt in prompts]
        return [Completion(text, self.count(text), "stop") for text in texts]

    def close(self):
        pass
'''


def install(folder: Path, module: str, code: str, entry_points: str) -> None:
    """Write a module and the metadata of a distribution that declares its entry points, as pip installs them."""
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir()
    (folder / f"{module}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(dedent(entry_points))


def run(folder: Path, code: str) -> str:
    """Run code in a new process in which the distributions in `folder` are installed; return its output."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", dedent(code)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_an_engine_of_an_installed_package_generates_a_suite_with_its_own_settings(tmp_path: Path) -> None:
    entry_points = """
        [toolkit.engines]
        shout = shouting:ShoutEngine

        [toolkit.engine_settings]
        shout = shouting:ShoutSettings
    """
    install(tmp_path, "shouting", ENGINE, entry_points)
    output = run(
        tmp_path,
        """
        from pathlib import Path

        from pydantic import ValidationError

        from tests.scripted import encode, resolve_config, suite_config
        from toolkit.core.workspace import Workspace
        from toolkit.generation.generate import generate
        from toolkit.store import Cache

        def config(**settings):
            models = [{"name": "loud", "checkpoint": "served:loud", "base_rate": 1.0}]
            benchmarks = [{"name": "addition", "limit": 3}]
            return suite_config(models=models, benchmarks=benchmarks, engine={"name": "shout", "shout": settings})

        folder = Path.cwd()
        suite, cache = resolve_config(config(mark="?!"), folder), Cache(folder / "shouted.duckdb")
        report = generate(suite, cache, Workspace(folder, folder), encode=encode)
        assert suite.config.engine.token_budget == 128
        assert (report.generated, report.failed) == (6, 0)
        for row in cache.arrow("SELECT response, engine FROM generations").to_pylist():
            assert row["response"].isupper() and row["response"].endswith("?!")
            assert row["engine"] == "shout 1.0"
        try:
            config(marks="?!")
        except ValidationError as error:
            print(error)
        """,
    )
    assert "marks" in output


def test_an_unknown_engine_is_refused_with_the_closest_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no engine 'transfomers'; did you mean 'transformers'\?"):
        suite_config(engine={"name": "transfomers"})
    config = suite_config()
    engine = config.engine.model_copy(update={"name": "scriptd"})
    with pytest.raises(EngineError, match=r"no engine 'scriptd'; did you mean 'scripted'\?"):
        open_engine(engine, config.models[0], Workspace(tmp_path, tmp_path))


VOWELS = """
from toolkit.tasks import Benchmark, Item, Metric, Score


def vowel_match(response, reference):
    vowels = [letter for letter in response if letter in "aeiou"]
    return Score(float(vowels == [letter for letter in reference.answers[0] if letter in "aeiou"]), "".join(vowels))


VOWEL_MATCH = Metric("vowel_match", 3, vowel_match)
VOWELS = Benchmark(
    name="vowels",
    version="1",
    field="words",
    metric="vowel_match",
    licence="CC0-1.0",
    source="a package",
    load=lambda: [Item(word, f"Which vowels has {word}?", (word,)) for word in ("apple", "banana", "cherry")],
)
"""


def test_a_metric_and_a_benchmark_of_an_installed_package_are_used_in_a_suite_file(tmp_path: Path) -> None:
    entry_points = """
        [toolkit.metrics]
        vowel_match = vowels:VOWEL_MATCH

        [toolkit.benchmarks]
        vowels = vowels:VOWELS
    """
    install(tmp_path, "vowels", VOWELS, entry_points)
    output = run(
        tmp_path,
        """
        from pathlib import Path

        from tests.scripted import encode, resolve_config, scripted
        from toolkit.core.errors import SuiteError
        from toolkit.core.workspace import Workspace
        from toolkit.generation.generate import generate
        from toolkit.store import Cache
        from toolkit.suites import load_config

        SUITE = '''
        name = "vowels"
        horizon = 1
        [engine]
        name = "scripted"
        [[models]]
        name = "parrot"
        checkpoint = "org/parrot"
        revision = "0123456789012345678901234567890123456789"
        dtype = "float32"
        base_rate = 1.0
        [[benchmarks]]
        name = "vowels"
        [[benchmarks]]
        name = "geography"
        limit = 2
        quality = "vowel_match"
        '''
        folder = Path.cwd()
        path = folder / "mine.toml"
        path.write_text(SUITE)
        suite, cache = resolve_config(load_config(path), folder), Cache(folder / "vowels.duckdb")
        engine = scripted(lambda model, prompt: "bbbapple")
        generate(suite, cache, Workspace(folder, folder), engine=engine, encode=encode)
        rows = cache.arrow("SELECT question, metric, value FROM scores WHERE metric = 'vowel_match@3'").to_pylist()
        assert len(rows) == 5
        assert sorted(row["value"] for row in rows)[-1] == 1.0
        assert cache.arrow("SELECT DISTINCT quality FROM transitions WHERE item = 'apple'")["quality"].to_pylist() == [1.0]
        for right, wrong in (('"vowel_match"', '"vowel_mach"'), ('"vowels"', '"vowel"')):
            path.write_text(SUITE.replace(right, wrong))
            try:
                load_config(path)
            except SuiteError as error:
                print(error)
        """,
    )
    assert "did you mean 'vowel_match'?" in output
    assert "did you mean 'vowels'?" in output


METRIC_IN_A_FILE = """
from toolkit.tasks import Benchmark, Item, Score, metric


@metric("is_short", version=1)
def is_short(response, reference):
    return Score(float(len(response) < LIMIT), response)


LIMIT = 3
MINE = Benchmark(
    name="mine", version="1", field="qa", metric="is_short", licence="", load=lambda: [Item("1", "Be brief.", ("ok",))]
)
"""


def test_a_benchmark_file_registers_a_metric_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_loaded", dict(METRICS._loaded))
    path = tmp_path / "mine.py"
    config = suite_config(benchmarks=[{"name": "mine", "file": "mine.py", "metrics": ["exact_match"]}])
    for limit in (3, 10):  # the file is executed again, as edited
        path.write_text(METRIC_IN_A_FILE.replace("LIMIT = 3", f"LIMIT = {limit}"))
        suite = resolve_config(config, tmp_path)
        (question,) = suite.questions
        assert question.metric == "is_short@1"
        assert metrics_of(question, config) == ["is_short", "token_f1", "exact_match"]
        assert metric_of(question).score("brief", question.reference).value == float(limit == 10)
    path.write_text(METRIC_IN_A_FILE.replace('"is_short", version', '"token_f1", version'))
    with pytest.raises(BenchmarkError, match="the name 'token_f1' is taken by another metric"):
        resolve_config(config, tmp_path)
    path.write_text(METRIC_IN_A_FILE.replace('metric="is_short"', 'metric="is_shot"'))
    with pytest.raises(BenchmarkError, match="no metric 'is_shot'; did you mean 'is_short'"):
        resolve_config(config, tmp_path)
    monkeypatch.delitem(METRICS._loaded, "is_short")
    assert reread(suite, config).questions == suite.questions
    with pytest.raises(SuiteError, match="'is_short' of benchmark mine is not registered"):
        metric_of(question)


LEARNER = '''
from stable_baselines3 import A2C

from toolkit.routing.algorithms import Algorithm, actor_and_critic


class SketchyA2C(A2C):
    """A2C that looks at few steps."""


ALGORITHM = Algorithm(
    name="sketchy",
    model=SketchyA2C,
    help="A2C that looks at few steps",
    defaults={"gamma": 1.0, "n_steps": 2},
    net_arch=lambda hidden: actor_and_critic([*hidden, 4]),
)
'''

BASELINES = """
import numpy as np

from toolkit.routing.baselines import Baseline


def choose_last(table, split, alpha, allow_stop):
    return table.n_models  # the node of the last model, after one hop


def choose_cheap(table, split, alpha, allow_stop):
    probabilities = np.zeros((len(table.rows(split)), table.n_decision_nodes, table.n_models + allow_stop))
    probabilities[..., 0] = 1
    return {"first, always": probabilities}


LAST = Baseline("last model", choose_last)
FAMILY = Baseline("first models", choose_cheap, order=5, question_only=True)
"""


def test_an_algorithm_of_an_installed_package_is_trained_with_its_own_arguments(tmp_path: Path, cache: Cache) -> None:
    install(tmp_path, "sketch", LEARNER, "[toolkit.algorithms]\nsketchy = sketch:ALGORITHM\n")
    output = run(
        tmp_path,
        f"""
        from pathlib import Path

        from toolkit.replay.table import load_table
        from toolkit.routing.router import load_router
        from toolkit.routing.train import train
        from toolkit.store import Cache
        from toolkit.suites.config import TrainConfig

        cache = Cache({str(cache.path)!r})
        suite = cache.suites.get("scripted")
        config = TrainConfig.model_validate(dict(algorithm="sketchy", timesteps=64, n_envs=8, sketchy=dict(n_steps=4)))
        steps = []
        trained = train(suite, cache, config, 0, Path("runs"), report=lambda done, total: steps.append((done, total)))
        router = load_router(trained.path)
        assert type(router.algorithm).__name__ == "SketchyA2C"
        assert (router.algorithm.n_steps, router.algorithm.gamma) == (4, 1.0)
        assert router.card["settings"]["sketchy"] == dict(gamma=1.0, n_steps=4)
        assert router.algorithm.policy.action_net.in_features == 4
        assert steps[-1] == (64, 64)
        probabilities = router.probabilities(load_table(cache, suite), load_table(cache, suite).rows("test"))
        assert abs(probabilities.sum(-1) - 1).max() < 1e-9
        print(trained.run)
        """,
    )
    assert output.startswith("scripted-sketchy-alpha0.05-seed0-")


def test_baselines_of_an_installed_package_are_evaluated_beside_the_router(tmp_path: Path, cache: Cache) -> None:
    entry_points = """
        [toolkit.baselines]
        last = plain:LAST
        first = plain:FAMILY
    """
    install(tmp_path, "plain", BASELINES, entry_points)
    run(
        tmp_path,
        f"""
        from pathlib import Path

        from toolkit.replay.table import load_table
        from toolkit.routing.evaluate import evaluate, record
        from toolkit.routing.overhead import Overhead
        from toolkit.routing.router import load_router
        from toolkit.routing.train import train
        from toolkit.store import Cache
        from toolkit.suites.config import TrainConfig

        cache = Cache({str(cache.path)!r})
        suite = cache.suites.get("scripted")
        router = load_router(train(suite, cache, TrainConfig(algorithm="exact", exact=dict(n_epochs=1)), 0, Path()).path)
        table = load_table(cache, suite)
        charged = Overhead(encoder=0.5, network=1.0, rate=1.0)
        evaluation, probabilities = evaluate(table, router, "test", dict.fromkeys(table.benchmarks, True), overhead=charged)
        assert evaluation.policies[:3] == ["router", "router (sampled)", "first, always"]
        assert evaluation.policies.index("last model") == evaluation.policies.index("oracle") + 1
        assert dict(evaluation.result("last model").paths) == {{"words": 1.0}}
        for benchmark in (*evaluation.benchmarks, "overall"):
            last, words = (evaluation.result(policy, benchmark) for policy in ("last model", "words"))
            assert (last.quality, last.cost, last.reward) == (words.quality, words.cost, words.reward)
            first, sums = (evaluation.result(policy, benchmark) for policy in ("first, always", "sums x2"))
            assert first.quality == sums.quality
            assert abs(first.cost.mean - sums.cost.mean - 0.5) < 1e-12
        record(cache, suite, table, evaluation, probabilities)
        recorded = cache.arrow("SELECT DISTINCT policy FROM evaluations")["policy"].to_pylist()
        assert {{"last model", "first, always"}} <= set(recorded)
        """,
    )


def test_the_format_of_the_contributing_page_is_detected_and_imported_in_an_installed_package(tmp_path: Path) -> None:
    page = (ROOT / "docs/guides/extend.md").read_text("utf-8").partition("## Add a format of results")[2]
    (code, *_) = bodies(page, "python")
    install(tmp_path, "points", code, "[toolkit.outcomes]\npoints = points:FORMAT\n")
    (tmp_path / "table.csv").write_text("prompt,small points,large points\nWhat melts?,0.25,1\nWhat flies?,,0.5\n")
    output = run(
        tmp_path,
        """
        from pathlib import Path

        from toolkit.outcomes.importing import import_results
        from toolkit.store import Cache

        from tests.scripted import encode

        cache = Cache(Path("c.duckdb"))
        summary = import_results(["table.csv"], "theirs", cache, Path("weights"), encode=encode)
        print(summary.plan.format, summary.n_missing)
        print(cache.arrow("SELECT model, quality FROM transitions WHERE quality IS NOT NULL ORDER BY ALL").to_pylist())
        """,
    )
    scores = [{"model": "large", "quality": 0.5}, {"model": "large", "quality": 1.0}, {"model": "small", "quality": 0.25}]
    assert output.splitlines() == ["a table of points 1", str(scores)]
