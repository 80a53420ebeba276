"""Threads follow the CPUs that a process may use, and what the user has set stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.core import cpus
from toolkit.core.cpus import SPIN_COUNT, available_cpus, share_cpus


def version_2(folder: Path, limit: str) -> Path:
    (folder / "cpu.max").write_text(limit + "\n")
    return folder


def version_1(folder: Path, quota: str) -> Path:
    (folder / "cpu").mkdir()
    (folder / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (folder / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    return folder


@pytest.mark.parametrize(
    ("limit", "number"),
    [("max 100000", 64), ("400000 100000", 4), ("250000 100000", 3), ("10000 100000", 1), ("9900000 100000", 64), ("", 64)],
)
def test_a_quota_of_cgroups_2_limits_the_cpus(limit: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "_allowed_cpus", lambda: 64)
    assert available_cpus(version_2(tmp_path, limit)) == number


@pytest.mark.parametrize(("quota", "number"), [("-1", 64), ("400000", 4)])
def test_a_quota_of_cgroups_1_limits_the_cpus(quota: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpus, "_allowed_cpus", lambda: 64)
    assert available_cpus(version_1(tmp_path, quota)) == number


def test_without_cgroups_the_affinity_counts(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    assert available_cpus(tmp_path) == len(allowed)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert available_cpus(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def test_threads_sleep_soon_and_follow_a_quota_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpus, "_allowed_cpus", lambda: 64)
    unlimited, limited = tmp_path / "unlimited", tmp_path / "limited"
    unlimited.mkdir()
    limited.mkdir()
    version_2(limited, "400000 100000")
    environment: dict[str, str] = {}
    share_cpus(environment, unlimited)
    assert environment == {"GOMP_SPINCOUNT": SPIN_COUNT}
    share_cpus(environment, limited)
    assert environment == {"GOMP_SPINCOUNT": SPIN_COUNT, "OMP_NUM_THREADS": "4"}
    for users in ({"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "9"}, {"GOMP_SPINCOUNT": "7", "OMP_NUM_THREADS": "9"}):
        share_cpus(environment := users.copy(), limited)
        assert environment == users


def test_the_command_line_sets_it_and_an_import_does_not() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    show = "import os; print(os.environ.get('GOMP_SPINCOUNT'))"
    main = "from toolkit.cli import main; sys.argv = ['toolkit', '--version']\ntry: main()\nexcept SystemExit: pass\n"
    for code, shown in ((f"import sys\n{main}{show}", SPIN_COUNT), (f"import toolkit.cli\n{show}", "None")):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean)
        assert result.stdout.splitlines()[-1] == shown
