"""`just gpu` runs to its end on a CPU; on a GPU it is run by hand."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

from tests.benchmarks import gpu
from tests.benchmarks.findings import Findings, run_parts


def test_the_script_for_gpus_checks_and_measures_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    limits = ["--seconds", "3000"]  # a busy machine may need more than a GPU's
    monkeypatch.setattr(gpu, "LIMITS", dict.fromkeys(gpu.LIMITS, 1000))
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--tiny", "--store", str(tmp_path), "--out", str(out), *limits])
    status = gpu.main()
    captured = capsys.readouterr()
    assert status == 0, captured.err
    row = captured.out.splitlines()[-1]
    assert row.startswith("| CPU | 15 of 15 equal (100.0% of the tokens) |")
    assert "not run" not in row
    assert row.count("times batched `model.generate`") == 3
    assert "24 of 24 equal" in row
    measured = json.loads((out / "findings.json").read_text("utf-8"))
    assert {run["prompts"] for run in measured["speed"]} == {"hop 1", "hop 2", "hop 3"}
    assert all(run["prompt_tokens"] > 0 and run["wall"] > 0 for run in measured["speed"])
    assert row in (out / "findings.txt").read_text("utf-8")


def test_a_part_that_fails_is_named_and_the_others_run(tmp_path: Path) -> None:
    def slow(_: Findings) -> None:
        time.sleep(30)

    def fine(findings: Findings) -> None:
        findings.documented["fine"] = "yes"

    findings = Findings(tmp_path)
    run_parts({"slow": slow, "fine": fine}, {"slow": 0.01, "fine": 10}, 100, findings)
    assert findings.faults == ["slow"]
    assert ["slow", "stopped after 0 s"] in findings.rows
    assert findings.documented == {"fine": "yes"}
    run_parts({"late": fine}, {"late": 10}, 1, findings)
    assert findings.faults == ["slow", "late"]


def test_a_machine_without_a_gpu_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cuda:99"])
    assert gpu.main() == 2
    assert "needs a GPU" in capsys.readouterr().err
