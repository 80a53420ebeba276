"""Kill generation again and again at random moments; what is left continues to the content of an undisturbed run.

python -m tests.soak.kills [--kills 200] [--folder FOLDER]
"""

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

from tests.content import content
from tests.scripted import encode, right_answers, scripted
from tests.worker import make_suite, work
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.store import Cache


class Killed(NamedTuple):
    """What the kills did.

    Attributes:
        kills: Processes killed while they worked.
        caches: Caches that were filled meanwhile.
        moments: Kills by how many nodes had been committed, in tenths of the whole.
    """

    kills: int
    caches: int
    moments: list[int]


def _begin(begun: Event, path: Path, questions: int) -> None:
    begun.set()
    work(path, questions, 0.002, None, 0.02)


def kill(folder: Path, kills: int, seed: int = 0, questions: int = 16) -> Killed:
    """Kill so many generating processes, at random moments of their work.

    Raises:
        AssertionError: A cache did not open, lost a committed row, or ended with other content.
    """
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[2])  # for the server, which knows no path of its own
    context = multiprocessing.get_context("forkserver")  # a process a kill, without its imports
    context.set_forkserver_preload(["tests.worker"])
    chance = random.Random(seed)
    suite = make_suite(folder, questions)
    whole = Cache(folder / "whole.duckdb")
    generate(suite, whole, Workspace(folder, folder), engine=scripted(right_answers(suite)), encode=encode)
    wanted = content(whole)
    nodes = 6 * len(suite.questions)
    done, caches, moments, longest = 0, 0, [0] * 11, 2.0
    while done < kills:
        cache, held = Cache(folder / f"{caches}.duckdb"), 0
        for last in (*[False] * min(10, kills - done), True):
            begun = context.Event()
            process = context.Process(target=_begin, args=(begun, cache.path, questions))
            process.start()
            begun.wait()
            process.join(None if last else chance.uniform(0.05, longest))
            finished = process.exitcode is not None
            process.kill()
            process.join()
            if finished:
                assert process.exitcode == 0, "it failed by itself"
                longest *= 1.0 if last else 0.7
                break
            done += 1
            if cache.exists():
                cache.generations.drain()  # finished batches lie beside the cache until many are committed together
            now = cache.arrow("FROM nodes WHERE depth > 0").num_rows if cache.exists() else 0
            assert now >= held, "committed rows were lost"
            longest *= 1.5 if now == held else 0.9  # a busy machine gets nothing done in the time that an idle one needs
            held = now
            if cache.exists():
                moments[10 * now // nodes] += 1
        assert content(cache) == wanted, f"{cache.path} differs from the undisturbed {whole.path}"
        cache.path.unlink()
        caches += 1
    return Killed(done, caches, moments)


def main() -> None:
    """Kill, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    started = time.monotonic()
    found = kill(options.folder or Path(tempfile.mkdtemp()), options.kills, options.seed)
    print(
        f"{found.kills} kills, {found.caches} caches finished, every one equal to the undisturbed one, "
        f"in {time.monotonic() - started:.0f} s. Kills by tenth of the work committed: {found.moments}"
    )


if __name__ == "__main__":
    main()
