"""Times `toolkit import` of a large table in every kind of file: at first, and again when everything is there.

    just imports --questions 100000 --models 10

No text is embedded (`--encoder none`). Prints wall time and peak memory of each command, which runs in a process of its own.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

KINDS = ("parquet", "jsonl", "csv")
MIB = 1 << 20


def write_results(folder: Path, n_questions: int, n_models: int) -> None:
    """Write a table of results in the long format as each kind of file; questions have about 150 characters."""
    draw = random.Random(0)
    words = [f"{syllable}{number}" for syllable in ("ra", "no", "te", "mi") for number in range(500)]
    texts = [f"{' '.join(draw.choices(words, k=30))} {number}?" for number in range(n_questions)]
    rows = [(question, model) for question in range(n_questions) for model in range(n_models)]
    frame = pl.DataFrame(
        {
            "benchmark": [f"benchmark {question % 7}" for question, _ in rows],
            "item": [str(question) for question, _ in rows],
            "question": [texts[question] for question, _ in rows],
            "model": [f"model {model}" for _, model in rows],
            "response": [f"{texts[(question * 31 + model) % n_questions]} {model}" for question, model in rows],
            "score": [float((question * 7919 + model) % 3 == 0) for question, model in rows],
            "cost": [1e-5 * (model + 1) for _, model in rows],
        }
    )
    frame.write_parquet(folder / "results.parquet")
    frame.write_ndjson(folder / "results.jsonl")
    frame.write_csv(folder / "results.csv")


def bare_read(table: Path) -> float:
    """Return the seconds that polars takes to read a table, with types that it infers."""
    started = time.perf_counter()
    if table.suffix == ".parquet":
        pl.read_parquet(table)
    elif table.suffix == ".csv":
        pl.read_csv(table)
    else:
        pl.read_ndjson(table)
    return time.perf_counter() - started


def run_import(table: Path, cache: Path) -> tuple[float, float, str]:
    """Import a table; return wall time in seconds, peak memory in MiB, and what the command says."""
    program = "import resource, sys\nfrom toolkit.cli import app\ntry:\n    app(sys.argv[1:])\nfinally:\n"
    program += "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [
        sys.executable,
        "-c",
        program,
        "import",
        str(table),
        "--suite",
        "large",
        "--encoder",
        "none",
        "--cache",
        str(cache),
    ]
    started = time.perf_counter()
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    *lines, peak = output.splitlines()
    scale = 1 if sys.platform == "darwin" else 1024
    return time.perf_counter() - started, int(peak) * scale / MIB, lines[0].partition(": ")[2]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables, import each twice, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--models", type=int, default=10)
    parsed = parser.parse_args(arguments)
    print("| file | import | seconds | times polars' bare read | peak MiB | what it says |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_results(folder, parsed.questions, parsed.models)
        for kind in KINDS:
            bare = bare_read(folder / f"results.{kind}")
            for what in ("first", "again"):
                seconds, peak, says = run_import(folder / f"results.{kind}", folder / f"{kind}.duckdb")
                print(f"| {kind} | {what} | {seconds:.1f} | {seconds / bare:.0f} | {peak:.0f} | {says} |", flush=True)


if __name__ == "__main__":
    main()
