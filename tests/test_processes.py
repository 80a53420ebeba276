from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from toolkit.processes import IMPORTED, context


def looked_around() -> tuple[list[bool], int]:
    """Whether a worker has what it needs, and how many threads the process has that it was forked from."""
    return [name in sys.modules for name in IMPORTED], len(list(Path(f"/proc/{os.getppid()}/task").iterdir()))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_are_forked_from_a_process_that_has_imported_what_they_need_and_has_no_threads() -> None:
    with ProcessPoolExecutor(1, context()) as pool:
        imported, threads = pool.submit(looked_around).result()
    assert all(imported)
    assert threads == 1
