"""Generation on a Ray cluster of two nodes on this machine, with workers and nodes killed."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_cli import SUITE, toolkit
from tests.content import content
from tests.generation.test_generate import StopAfter
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import EngineError
from toolkit.core.progress import Progress
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.scripted import Script
from toolkit.generation.generate import generate
from toolkit.generation.state import GenerationReport
from toolkit.store import Cache
from toolkit.suites.suite import Suite

ray = pytest.importorskip("ray", reason="needs the extra `ray`")

from ray.cluster_utils import Cluster  # noqa: E402

from toolkit.engines.base import WorkerLostError  # noqa: E402
from toolkit.engines.cluster import _get as remote_result  # noqa: E402
from toolkit.engines.ray import RaySettings, RayWorkers  # noqa: E402

Generate = Callable[..., GenerationReport]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes with room for two workers each."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return resolve_config(suite_config(engine={"name": "scripted", "batch_tokens": 120, "batch_timeout": 20}), tmp_path)


@pytest.fixture
def undisturbed(suite: Suite, tmp_path: Path) -> dict[str, Any]:
    """The content of a cache that one process generated."""
    cache = Cache(tmp_path / "one.duckdb")
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    return content(cache)


def on_ray(
    suite: Suite, cache: Cache, cluster: Cluster, script: Script, config: RaySettings, progress: Progress | None = None
) -> tuple[GenerationReport, RayWorkers]:
    with RayWorkers(config, cluster.address) as workers:
        report = generate(
            suite,
            cache,
            Workspace(cache.path.parent, cache.path.parent),
            progress=progress,
            engine=scripted(script),
            open_runner=workers.open_runner,
            encode=encode,
        )
    return report, workers


def leaving_tracks(script: Script, folder: Path, seconds: float) -> Script:
    """Slow a script down, and have it leave a file named after its process and node."""
    folder.mkdir()

    def respond(model: str, prompt: Prompt) -> str:
        (folder / f"{os.getpid()} {ray.get_runtime_context().get_node_id()}").touch()
        time.sleep(seconds)
        return script(model, prompt)

    return respond


def tracks(folder: Path) -> list[tuple[int, str]]:
    """Return the processes and nodes that have responded."""
    names = [file.name.split() for file in folder.iterdir()]
    return [(int(pid), node) for pid, node in names]


def test_a_cluster_generates_what_one_process_does(
    suite: Suite, undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    cache, folder = Cache(tmp_path / "ray.duckdb"), tmp_path / "tracks"
    script = leaving_tracks(right_answers(suite), folder, 0.02)
    report, workers = on_ray(suite, cache, cluster, script, RaySettings())
    assert content(cache) == undisturbed
    assert report.generated == len(undisturbed["generations"]) == sum(stats.responses for stats in workers.worker_stats)
    assert len(workers.worker_stats) == 4
    assert all(re.fullmatch(r"[\d.]+ process \d+", stats.worker) for stats in workers.worker_stats)
    assert len({node for _, node in tracks(folder)}) == 2


def test_killed_workers_cost_only_batches_in_flight(
    suite: Suite, undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    cache, folder = Cache(tmp_path / "ray.duckdb"), tmp_path / "tracks"
    script = leaving_tracks(right_answers(suite), folder, 0.1)
    killed: set[int] = set()
    over = threading.Event()

    def kill() -> None:
        while not over.wait(0.7) and len(killed) < 5:
            alive = {pid for pid, _ in tracks(folder)} - killed
            if alive:
                killed.add(pid := random.Random(len(killed)).choice(sorted(alive)))
                os.kill(pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    report, _ = on_ray(suite, cache, cluster, script, RaySettings(replicas=3))
    over.set()
    killer.join()
    assert len(killed) > 1
    assert report.failed == 0
    assert report.generated == len(undisturbed["generations"])
    assert content(cache) == undisturbed


def test_a_lost_node_is_replaced_by_one_that_joins(
    suite: Suite, undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    cache, folder = Cache(tmp_path / "ray.duckdb"), tmp_path / "tracks"
    script = leaving_tracks(right_answers(suite), folder, 0.15)
    left = cluster.add_node(num_cpus=1)
    joined: list[Any] = []

    class Watch:
        """Removes a node once it has responded, and adds another."""

        def stage(self, title: str) -> None:
            pass

        def advance(self, nodes: int) -> None:
            if not joined and left.node_id in {node for _, node in tracks(folder)}:
                cluster.remove_node(left, allow_graceful=False)
                joined.append(cluster.add_node(num_cpus=1))

        def stopped(self) -> bool:
            return False

    on_ray(suite, cache, cluster, script, RaySettings(replicas=5), Watch())
    assert content(cache) == undisturbed
    assert joined[0].node_id in {node for _, node in tracks(folder)}
    cluster.remove_node(joined[0])


def test_a_prompt_that_brings_its_worker_down_fails_alone(suite: Suite, cluster: Cluster, tmp_path: Path) -> None:
    cache, script = Cache(tmp_path / "ray.duckdb"), right_answers(suite)
    poison = suite.questions[3].prompt

    def respond(model: str, prompt: Prompt) -> str:
        if model == "words" and prompt.text.count(poison) and "Earlier" not in prompt.text:
            os._exit(1)
        return script(model, prompt)

    report, _ = on_ray(suite, cache, cluster, respond, RaySettings(replicas=2))
    assert report.failed == 1
    errors = cache.arrow("SELECT error, transient FROM generations WHERE status = 'error'").to_pylist()
    assert "lost its worker 3 times" in errors[0]["error"]
    assert errors[0]["transient"]
    assert cache.arrow("SELECT count(*) AS n FROM nodes WHERE depth = 1").to_pylist() == [{"n": 2 * len(suite.questions)}]


def test_a_worker_that_hangs_is_replaced(suite: Suite, undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path) -> None:
    cache, script, hung = Cache(tmp_path / "ray.duckdb"), right_answers(suite), tmp_path / "hung"

    def respond(model: str, prompt: Prompt) -> str:
        if not hung.exists():
            hung.touch()
            time.sleep(3600)
        return script(model, prompt)

    engine = suite.config.engine.model_copy(update={"batch_timeout": 2.0})
    short = Suite(suite.config.model_copy(update={"engine": engine}), suite.models, suite.questions, suite.encoder)
    on_ray(short, cache, cluster, respond, RaySettings(replicas=2))
    assert content(cache)["generations"] == undisturbed["generations"]


def test_a_stopped_run_continues_where_it_was(
    suite: Suite, undisturbed: dict[str, Any], cluster: Cluster, tmp_path: Path
) -> None:
    cache, script = Cache(tmp_path / "ray.duckdb"), right_answers(suite)
    report, _ = on_ray(suite, cache, cluster, script, RaySettings(replicas=2), StopAfter(3))
    assert report.stopped
    assert 0 < report.generated < len(undisturbed["generations"])
    on_ray(suite, cache, cluster, script, RaySettings(replicas=2))
    assert content(cache) == undisturbed


def test_the_command_reports_what_each_worker_did(cluster: Cluster, llama: Path, encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(SUITE.format(llama=llama, encoder=encoder))
    done = toolkit(tmp_path, "generate", "small.toml", "--executor", "ray", "--address", cluster.address)
    assert re.search(r"(?m)^[\d.]+ process \d+ +\d+ +[\d.]+$", done.stdout), done.stderr
    alone = toolkit(tmp_path, "generate", "small.toml", "--cache", "alone.duckdb")
    assert alone.returncode == done.returncode == 0
    assert content(Cache(tmp_path / "cache/small.duckdb")) == content(Cache(tmp_path / "alone.duckdb"))
    assert "Add --executor ray" in toolkit(tmp_path, "generate", "small.toml", "--address", cluster.address).stderr


def test_an_engine_that_cannot_open_ends_the_run(suite: Suite, cluster: Cluster, tmp_path: Path) -> None:
    this_process = os.getpid()

    def open_engine(*args: Any) -> Any:
        if os.getpid() != this_process:
            raise EngineError("no such device")
        return scripted(right_answers(suite))(*args)

    cache = Cache(tmp_path / "ray.duckdb")
    with RayWorkers(RaySettings(replicas=1), cluster.address) as workers, pytest.raises(EngineError, match="no such device"):
        generate(
            suite, cache, Workspace(tmp_path, tmp_path), engine=open_engine, open_runner=workers.open_runner, encode=encode
        )


def test_a_thread_that_waits_while_ray_is_shut_down_has_lost_its_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    def shut_down(reference: object) -> None:
        raise SystemExit(0)

    monkeypatch.setattr("toolkit.engines.cluster.ray.get", shut_down)
    with pytest.raises(WorkerLostError, match="shut down"):
        remote_result(object())


def test_a_missing_cluster_is_named() -> None:
    ray.shutdown()
    with pytest.raises(EngineError, match=r"No connection to a Ray cluster at 127.0.0.1:1:.*ray start --head"):
        RayWorkers(RaySettings(), "127.0.0.1:1")
