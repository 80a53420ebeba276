"""Several processes on one cache for minutes: two generate, others read, train, and hold the file like a notebook.

python -m tests.soak.crowd [--minutes 10] [--folder FOLDER]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.content import content
from tests.scripted import encode, right_answers, scripted
from tests.worker import make_suite
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.report.status import render
from toolkit.store import KEYS, Cache

ROOT = Path(__file__).parents[2]
HOLD = (
    "import duckdb, sys, time; con = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'r'); time.sleep(float(sys.argv[3]))"
)


def crowd(folder: Path, seconds: float) -> Counter[str]:
    """Fill caches one after the other with a crowd around them, until the time is over; returns what was done.

    Raises:
        AssertionError: A process failed, a row was lost or doubled, or the content differs from an undisturbed run's.
    """
    questions = 30
    suite = make_suite(folder, questions)
    whole = Cache(folder / "whole.duckdb")
    generate(suite, whole, Workspace(folder, folder), engine=scripted(right_answers(suite)), encode=encode)
    wanted, did, deadline = content(whole), Counter[str](), time.monotonic() + seconds
    while time.monotonic() < deadline:
        path = folder / f"{did['caches']}.duckdb"
        cache, rows, round_ = Cache(path), 0, did["caches"]
        parts = [["--shard", "1/2"], ["--shard", "2/2"]] if round_ % 2 else [[], []]
        common = ["--questions", str(questions), "--seconds", "0.1"]
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.worker", str(path), *common, *part],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for part in parts
        ]
        holder: subprocess.Popen[bytes] | None = None
        while any(worker.poll() is None for worker in workers):
            if path.exists():
                found = cache.arrow("FROM nodes WHERE depth > 0").num_rows
                assert found >= rows, "committed rows were lost"
                rows = found
                render(cache, None)
                did["reads"] += 2
                did["spooled batches seen"] += len(cache.generations.spool.files())
                if rows and (holder is None or holder.poll() is not None) and did["reads"] % 30 == 0:
                    mode = "rw"[did["holders"] % 2]
                    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path), mode, "3"], stderr=subprocess.DEVNULL)
                    did["holders"] += 1
            time.sleep(0.2)
        for worker in workers:
            _, said = worker.communicate()
            assert worker.returncode == 0, said
        if holder:
            holder.wait()
        for table, key in KEYS.items():
            twice = cache.arrow(f"SELECT {', '.join(key)} FROM {table} GROUP BY ALL HAVING count(*) > 1").num_rows
            assert not twice, f"{table} holds a key twice"
        assert content(cache) == wanted, f"{path} differs from the undisturbed {whole.path}"
        path.unlink()
        did["caches"] += 1
    return did


def main() -> None:
    """Let the crowd in, and print what it did."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    did = crowd(options.folder or Path(tempfile.mkdtemp()), 60 * options.minutes)
    print(f"{options.minutes:g} minutes without a failure: " + ", ".join(f"{n} {what}" for what, n in did.items()))


if __name__ == "__main__":
    main()
