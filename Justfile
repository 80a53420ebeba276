# Bare `just` lists these recipes. Everything runs in .venv, which is made when it is missing.

set shell := ["bash", "-euo", "pipefail", "-c"]

python := env("PYTHON", "python3")
bin := justfile_directory() / ".venv/bin"

[private]
default:
    @just --list --unsorted

# Generate a few questions with real specialists, then train, evaluate and sweep routers over the whole reference cache
demo: _venv
    {{bin}}/toolkit generate quickstart --limit 2 --cache "${TOOLKIT_CACHE:-cache}/live/quickstart.duckdb"
    {{bin}}/toolkit import reference
    {{bin}}/toolkit train quickstart
    {{bin}}/toolkit evaluate quickstart
    @just headline
    @echo
    @echo 'Try next:  . .venv/bin/activate'
    @echo '           toolkit sql "SELECT benchmark, model, round(avg(quality), 2) AS quality FROM transitions WHERE depth = 1 GROUP BY ALL ORDER BY ALL"'

# Compare PPO routers of 5 seeds over the reference cache with every baseline, at four prices (docs/headline.md)
headline: _venv
    {{bin}}/toolkit import reference
    {{bin}}/toolkit sweep quickstart --algorithm ppo --alphas 0,0.02,0.05,0.1 --seeds 5 --greedy --by-benchmark

# Run the test suite, files side by side on up to four cores; arguments go to pytest
test *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder {{args}}

# Check format, style and the order of imports between modules
lint: _venv
    {{bin}}/ruff format --check .
    {{bin}}/ruff check .
    {{bin}}/lint-imports

# Check types, strictly
types: _venv
    {{bin}}/mypy

# Format the code and mend what can be mended
fmt: _venv
    {{bin}}/ruff format .
    {{bin}}/ruff check --fix .

# Time replay, then measure replay, exact answers, loading, learners and sweeps and write docs/performance.md (half an hour)
bench *args: _venv
    {{bin}}/python -m pytest tests/benchmarks --override-ini addopts= --benchmark-columns=min,median,rounds {{args}}
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.report

# Race learners to the best reward of SB3's PPO with its defaults (an hour)
race *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.race {{args}}

# Study how learners generalise from 100, 300 and 1,000 training questions, and which settings do best (half an hour)
study *args: _venv
    {{bin}}/toolkit import reference
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.study {{args}}

# Kill generation and workers of a Ray cluster again and again, then crowd a cache for minutes: docs/reliability.md, at length
soak kills="200" minutes="10": _venv
    {{bin}}/python -m tests.soak.kills --kills {{kills}}
    {{bin}}/python -m tests.soak.workers
    {{bin}}/python -m tests.soak.crowd --minutes {{minutes}}

# Fill a cache with so many made-up nodes and time commits, status and the README's queries
large nodes="1000000": _venv
    {{bin}}/python -m tests.soak.large --nodes {{nodes}}

# Check that the oldest DuckDB that reads our files sees the same rows in every table, view and README query
older version="1.2.2": _venv
    {{bin}}/python -m tests.soak.older --version {{version}}

# Write docs/cli.md and docs/suite.md anew from the program itself
docs: _venv
    {{bin}}/python docs/generate.py

# Train a specialist of the pool anew: mathematics, words or relations (half an hour and more on one core)
specialists skill *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m benchmarks.specialists.train {{skill}} {{args}}

# Generate the reference cache anew and export it to cache/reference (two hours on one core)
reference: _venv
    {{bin}}/toolkit generate quickstart --cache cache/reference.duckdb
    rm -rf cache/reference
    {{bin}}/toolkit export cache/reference --cache cache/reference.duckdb
    {{bin}}/python -m benchmarks.specialists.cards cache/reference.duckdb

# Build wheel and source archive into dist/
build: _venv
    {{bin}}/python -m build --outdir dist .

# Delete what can be made again; caches and runs stay
clean:
    rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
    find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Set up .venv with the pinned dependencies, once, and again when they change
[private]
_venv:
    @if ! cmp -s constraints.txt .venv/.constraints || ! cmp -s pyproject.toml .venv/.pyproject; then \
        echo 'Setting up .venv (a few minutes the first time)' >&2; \
        {{python}} -m venv .venv; \
        {{bin}}/python -m pip install --quiet --upgrade 'pip>=25.1'; \
        {{bin}}/python -m pip install --quiet --constraint constraints.txt --editable . --group dev; \
        cp constraints.txt .venv/.constraints; \
        cp pyproject.toml .venv/.pyproject; \
    fi
