from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.page import ROOT
from tests.docs.printed import matches
from tests.docs.running import Snapshots, lines_of, results
from toolkit.core.errors import CheckpointError


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Snapshots:
    """What the first commands of many pages leave, shared by all processes of the run."""
    base = tmp_path_factory.getbasetemp()
    return Snapshots((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "snapshots")


@pytest.fixture
def check(snapshots: Snapshots, tmp_path: Path) -> Callable[[Path], None]:
    """Run a page and compare what it shows with what is printed."""

    def check_page(page: Path) -> None:
        differences = []
        try:
            for block, printed, after_training in results(page, tmp_path, snapshots):
                if block.output and not matches(lines_of(block.output.body), printed, after_training):
                    place = f"{page.relative_to(ROOT)}:{block.output.line} shows other lines than are printed:"
                    differences.append("\n".join([place, *printed]))
        except CheckpointError as error:
            if "could not be downloaded" not in str(error):
                raise
            pytest.skip(f"weights cannot be fetched: {error}")
        assert not differences, "\n\n".join([*differences, f"renew: just outputs {page.relative_to(ROOT)}"])

    return check_page
