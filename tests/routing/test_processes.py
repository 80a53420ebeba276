from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from toolkit.routing.processes import IMPORTED, context


def looked_around() -> tuple[list[bool], int]:
    """Whether a worker has what it needs, and how many threads the process has that it was forked from."""
    return [name in sys.modules for name in IMPORTED], len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def main() -> None:
    with ProcessPoolExecutor(1, context()) as pool:
        print(json.dumps(pool.submit(looked_around).result()))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_are_forked_from_a_process_that_has_imported_what_they_need_and_has_no_threads() -> None:
    """In an interpreter of its own: all tests here share one process to fork from, which another test has begun."""
    code = "from tests.routing.test_processes import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, threads = json.loads(done.stdout)
    assert all(imported)
    assert threads == 1
