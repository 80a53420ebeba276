"""`just gpu` runs to its end on a CPU; on a GPU it is run by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks import gpu


def test_the_script_for_gpus_checks_and_measures_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--tiny", "--store", str(tmp_path)])
    status = gpu.main()
    captured = capsys.readouterr()
    assert status == 0, captured.err
    row = captured.out.splitlines()[-1]
    assert row.startswith("| CPU | 15 of 15 equal (100.0% of the tokens) |")
    assert "not run" not in row
    assert row.count("times `model.generate`") == 3
    assert "24 of 24 equal" in row


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.LIMITS, "speed", 0.01)
    setting = gpu.make_setting("cpu", True, tmp_path, tmp_path)
    findings = gpu.run_parts(setting, ["speed", "memory"])
    assert findings.faults == ["speed"]
    assert ["speed", "stopped after 0 s"] in findings.rows
    assert "15 of 15 equal" in findings.documented["memory"]


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cuda:99"])
    assert gpu.main() == 2
    assert "needs a GPU" in capsys.readouterr().err
