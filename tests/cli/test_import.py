"""`toolkit import` of results: what it says, and that a stopped import goes on from where it was."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.store import Cache

PROGRAM = """
import sys, time
import toolkit.engines.encoder as encoder
import toolkit.outcomes.imported_rows as imported_rows
import toolkit.outcomes.importing as importing
from tests.scripted import encode

slow = sys.argv.pop(1)

def load_encoder(*_):
    def slow_encode(texts):
        if slow == "embedding":
            print("slow", flush=True)
            time.sleep(1)
        return encode(texts)
    return slow_encode

encoder.load_encoder = load_encoder
rows_of = importing.imported_rows

def slow_rows(*arguments):
    for rows in rows_of(*arguments):
        yield rows
        if slow == "writing":
            print("slow", flush=True)
            time.sleep(1)

importing.imported_rows = slow_rows
imported_rows.COMMIT_ROWS = 10
encoder.CALL_TEXTS = 10
from toolkit.cli import main
main()
"""


def table(path: Path, models: str) -> Path:
    rows = [
        {"benchmark": "b", "item": f"q{n}", "question": f"{n} {models}?", "model": m, "score": n % 2, "cost": 1.0, "note": 1}
        for n in range(40)
        for m in models
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def start(slow: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, slow, "import", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("slow", "is_new", "number"),
    [("embedding", True, signal.SIGINT), ("writing", True, signal.SIGTERM), ("writing", False, signal.SIGINT)],
)
def test_a_stopped_import_keeps_only_embeddings_and_goes_on_from_there(
    slow: str, is_new: bool, number: signal.Signals, tmp_path: Path
) -> None:
    cache = tmp_path / "c.duckdb"
    first = (str(table(tmp_path / "a.jsonl", "ab")), "--suite", "other", "--cache", str(cache))
    if not is_new:
        with start("", *first) as process:
            process.communicate(timeout=60)
    arguments = (str(table(tmp_path / "b.jsonl", "cd")), "--suite", "s", "--cache", str(cache))
    process = start(slow, *arguments)
    assert process.stdout is not None
    assert process.stdout.readline() == "slow\n"
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert (process.returncode, "No result was imported" in messages) == (130, True), messages
    assert Cache(cache).suites.names() == ([] if is_new else ["other"])
    counts = Cache(cache).arrow("SELECT count(*) FROM generations UNION ALL SELECT count(*) FROM embeddings")
    n_results, n_embedded = counts.columns[0].to_pylist()
    n_before = 0 if is_new else 40
    assert n_results == 2 * n_before
    assert 0 < n_embedded - n_before <= 40
    repeated = start("", *arguments)
    output, messages = repeated.communicate(timeout=60)
    assert repeated.returncode == 0, messages
    assert f"{cache}: 80 added" in output
    assert "Ignored: note" in messages
    n_left = 40 - (n_embedded - n_before)
    assert (f"embedding {n_left} questions" in messages) == (n_left > 0)


def test_sigterm_ends_any_command_as_ctrl_c_does(tmp_path: Path) -> None:
    program = (
        "import time\nfrom toolkit.cli import app, main\n"
        "@app.command()\ndef wait():\n    try:\n        print('ready', flush=True)\n        time.sleep(60)\n"
        "    finally:\n        print('clean', flush=True)\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, "wait"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    output, messages = process.communicate(timeout=60)
    assert (process.returncode, output, "Traceback" in messages) == (130, "clean\n", False)
