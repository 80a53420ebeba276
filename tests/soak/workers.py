"""Kill workers of a Ray cluster at random moments; what comes of it is what one process makes, nothing lost or doubled.

python -m tests.soak.workers [--kills 20] [--workers 3] [--folder FOLDER]
"""

import argparse
import os
import random
import signal
import tempfile
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from tests.content import content
from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.ray import RaySettings, RayWorkers
from toolkit.engines.scripted import Script
from toolkit.generation.generate import generate
from toolkit.store import Cache


def signing(script: Script, folder: Path, seconds: float) -> Script:
    """A script that takes its time, and leaves a file named after its process."""
    folder.mkdir()

    def answer(model: str, prompt: Prompt) -> str:
        (folder / str(os.getpid())).touch()
        time.sleep(seconds)
        return script(model, prompt)

    return answer


class Killer(threading.Thread):
    """Kills one of the processes that have signed, again and again.

    Args:
        folder: Where they sign.
        killed: Those that are gone; further ones are added.
        kills: How many there are to be.
        chance: Chooses moments and victims.
    """

    def __init__(self, folder: Path, killed: set[int], kills: int, chance: random.Random) -> None:
        super().__init__()
        self.folder, self.killed, self.kills, self.chance = folder, killed, kills, chance
        self.over = threading.Event()

    def run(self) -> None:
        """Kill until there are enough, or the run is over."""
        while len(self.killed) < self.kills and not self.over.wait(self.chance.uniform(0.2, 2.0)):
            alive = sorted({int(file.name) for file in self.folder.iterdir()} - self.killed)
            if alive:
                victim = self.chance.choice(alive)
                os.kill(victim, signal.SIGKILL)
                self.killed.add(victim)


def kill(folder: Path, kills: int, workers: int, seed: int = 0) -> tuple[int, int]:
    """Kill so many workers; return how many were killed and how many caches were filled meanwhile.

    Raises:
        AssertionError: An answer was lost, was generated twice, or failed, or a cache has other content than one process's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    benchmarks = [{"name": "addition", "limit": 40}, {"name": "geography", "limit": 40}]
    engine = {"name": "scripted", "batch_tokens": 400, "batch_timeout": 60}
    suite = resolve_config(suite_config(benchmarks=benchmarks, engine=engine), folder)
    whole = Cache(folder / "whole.duckdb")
    generate(suite, whole, Workspace(folder, folder), engine=scripted(right_answers(suite)), encode=encode)
    wanted, chance, killed, caches = content(whole), random.Random(seed), set[int](), 0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    cluster.add_node(num_cpus=2)
    try:
        while len(killed) < kills:
            signatures = folder / f"signatures-{caches}"
            script = signing(right_answers(suite), signatures, 0.05)
            cache, killer = Cache(folder / f"{caches}.duckdb"), Killer(signatures, killed, kills, chance)
            with RayWorkers(RaySettings(replicas=workers), cluster.address) as crew:
                killer.start()
                try:
                    report = generate(
                        suite,
                        cache,
                        Workspace(folder, folder),
                        engine=scripted(script),
                        open_runner=crew.open_runner,
                        encode=encode,
                    )
                finally:
                    killer.over.set()
                    killer.join()
            assert (report.generated, report.failed) == (len(wanted["generations"]), 0)
            assert content(cache) == wanted, f"{cache.path} differs from the undisturbed {whole.path}"
            caches += 1
    finally:
        cluster.shutdown()
    return len(killed), caches


def main() -> None:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    killed, caches = kill(options.folder or Path(tempfile.mkdtemp()), options.kills, options.workers, options.seed)
    print(
        f"{killed} workers killed, {options.workers} at work at a time; {caches} caches finished, nothing lost or doubled, "
        f"every one equal to the undisturbed one, in {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
