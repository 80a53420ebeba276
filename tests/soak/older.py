"""Read a cache with an older DuckDB: every table, view and query of docs/guides/sql.md gives the same rows as here.

python -m tests.soak.older [--version 1.2.2] [--nodes 8000] [--folder FOLDER]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.scripted import encode
from tests.soak.large import BATCH_ROWS, fill, make_suite, nodes, queries
from toolkit.core.progress import NoProgress
from toolkit.replay.table import load_table
from toolkit.routing.evaluate import evaluate, record
from toolkit.routing.router import load_router
from toolkit.routing.train import train
from toolkit.store import Cache
from toolkit.suites.config import TrainConfig

READ = """
import duckdb, hashlib, json, sys
con = duckdb.connect(sys.argv[1], read_only=True)
found = {"version": duckdb.__version__}
for query in json.load(sys.stdin):
    try:
        rows = sorted(map(repr, con.execute(query).fetchall()))
        found[query] = [len(rows), hashlib.sha256("\\n".join(rows).encode()).hexdigest()]
    except duckdb.Error as error:
        found[query] = [0, str(error)]
print(json.dumps(found))
"""
"""Prints number and hash of the rows of every query on standard input; needs nothing but some DuckDB."""


def make(folder: Path, size: int) -> Cache:
    """Make a cache with rows in every table: about so many nodes, embedded, and a router trained and evaluated."""
    cache, suite = Cache(folder / "older.duckdb"), make_suite(-(-size // 39), folder)
    cache.create()
    cache.suites.record(suite)
    fill(cache, nodes(suite), BATCH_ROWS)
    cache.suites.compute_cost_unit(suite.key)
    cache.embeddings.fill(suite, encode, cache.generations.commit, NoProgress())
    trained = train(suite, cache, TrainConfig(algorithm="exact", exact={"n_epochs": 2}), 0, folder / "runs")
    table = load_table(cache, suite)
    generated = dict.fromkeys(table.benchmarks, True)
    record(cache, suite, table, *evaluate(table, load_router(trained.path), "test", generated))
    return cache


def other_python(folder: Path, version: str) -> Path:
    """Make a virtual environment that holds one version of DuckDB, and return its Python."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin/python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"duckdb=={version}"], check=True)
    return python


def read(python: Path, cache: Path, asked: list[str]) -> dict[str, list[int | str]]:
    """Return number and hash of each query's rows, as read by some Python's DuckDB."""
    command = [str(python), "-c", READ, str(cache)]
    done = subprocess.run(command, input=json.dumps(asked), check=True, capture_output=True, text=True)
    found: dict[str, list[int | str]] = json.loads(done.stdout)
    return found


def main() -> None:
    """Make a cache, read it twice, and print what differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--version", default="1.2.2")
    parser.add_argument("--nodes", type=int, default=8000)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp())
    cache = make(folder, options.nodes)
    named = "SELECT table_name, table_type FROM information_schema.tables ORDER BY ALL"
    asked = [f"FROM {row['table_name']}" for row in cache.arrow(named).to_pylist()] + queries()
    here, there = (
        read(Path(python), cache.path, asked) for python in (sys.executable, other_python(folder / "venv", options.version))
    )
    differing = [query for query in asked if here[query] != there[query]]
    for query in asked:
        print(f"{'DIFFERS' if query in differing else 'same':8}{here[query][0]:>8} rows  {' '.join(query.split())[:80]}")
    print(f"{len(asked) - len(differing)} of {len(asked)} tables, views and queries give the same rows", end=" ")
    print(f"in DuckDB {there['version']} as in {here['version']}.")
    for query in differing:
        print(f"\n{query}\n{here['version']}: {here[query]}\n{there['version']}: {there[query]}")
    sys.exit(bool(differing))


if __name__ == "__main__":
    main()
