from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from toolkit.routing.processes import SLOW_IMPORTS, worker_context


def inspect_worker() -> tuple[list[bool], int]:
    """Return whether a worker has each of the slow imports, and the number of threads of the process it was forked from."""
    return [name in sys.modules for name in SLOW_IMPORTS], len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


def main() -> None:
    with ProcessPoolExecutor(1, worker_context()) as pool:
        print(json.dumps(pool.submit(inspect_worker).result()))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_are_forked_from_a_process_with_the_slow_imports_and_without_threads() -> None:
    """In an interpreter of its own: all tests here share one server process, which another test may have started."""
    code = "from tests.routing.test_processes import main; main()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, threads = json.loads(result.stdout)
    assert all(imported)
    assert threads == 1
