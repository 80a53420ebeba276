# `just` alone lists these recipes. Every recipe runs in .venv, which the first one creates.

set shell := ["bash", "-euo", "pipefail", "-c"]

just := quote(just_executable())
python := env("PYTHON", if os_family() == "windows" { "python" } else { "python3" })
bin := if os_family() == "windows" { ".venv/Scripts" } else { ".venv/bin" }

[private]
default:
    @{{just}} --list --unsorted

# Generate a few responses with real models, then train routers on the reference cache and say what reading responses is worth
demo: _venv
    {{bin}}/toolkit generate quickstart --limit 1 --cache "${TOOLKIT_CACHE:-cache}/live/quickstart.duckdb"
    @{{just}} headline
    {{bin}}/toolkit report quickstart -o "${TOOLKIT_CACHE:-cache}/report.html" | tail -n 1
    @echo
    @echo 'Try next:  . {{bin}}/activate'
    @echo '           toolkit show delegations/7'
    @echo '           toolkit sql "SELECT model, depth, avg(quality) FROM transitions GROUP BY ALL ORDER BY ALL"'

# Compare PPO routers that read responses with blind ones and with baselines on the reference cache (docs/explanations/headline.md)
headline *args: _venv
    {{bin}}/toolkit import reference
    {{bin}}/python -m benchmarks.headline {{args}}

# Draw the picture of the README: routers at three prices on the reference cache (ten minutes the first time)
picture: _venv
    {{bin}}/toolkit import reference
    mkdir -p docs/images
    {{bin}}/python -m benchmarks.headline --alphas 0.02,0.05,0.1 --figure docs/images/frontier.svg

# Run the tests, one process per file on up to four cores; arguments go to pytest
test *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 {{args}}

# Check formatting, style and which package imports which
lint: _venv
    {{bin}}/ruff format --check .
    {{bin}}/ruff check .
    {{bin}}/lint-imports

# Check types with mypy in strict mode
types: _venv
    {{bin}}/mypy

# Format the code and fix what ruff can fix
fmt: _venv
    {{bin}}/ruff format .
    {{bin}}/ruff check --fix .

# Measure replay, exact evaluation, loading, learners and sweeps, and write docs/explanations/performance.md (half an hour)
bench *args: _venv
    {{bin}}/python -m pytest tests/benchmarks --override-ini addopts= --benchmark-columns=min,median,rounds {{args}}
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.report

# Time toolkit import of a million results in every kind of file, at first and again (docs/explanations/performance.md, five minutes)
imports *args: _venv
    {{bin}}/python -m tests.benchmarks.imports {{args}}

# Race the learners to the best reward of stable-baselines3's PPO with its default settings (an hour)
race *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.race {{args}}

# Compare engines on prompts of hops 1 to 3 and write docs/explanations/performance.md's section on generation (ten minutes; --busy twice)
bench-generate *args: _venv
    {{bin}}/python -m tests.benchmarks.generate {{args}}

# Install vLLM's CPU build and build llama.cpp's server in .rivals, for `just bench-generate` (half an hour, 5 GB)
rivals *args: _venv
    {{bin}}/python -m tests.benchmarks.rivals {{args}}

# Compare baselines with the routers of LLMRouter and RouteLLM on the same questions, and write docs/field.md (five minutes)
peers *args: _venv
    {{bin}}/toolkit import reference
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.peers {{args}}

# Check the engine transformers on a GPU and measure its speed (docs/guides/gpus.md, eight minutes); --device cpu --tiny needs none
gpu *args: _venv
    {{bin}}/python -m tests.benchmarks.gpu {{args}}

# Measure what generate takes outside of its models, up to 10,000 questions (docs/explanations/performance.md, twenty minutes)
bench-end-to-end *args: _venv
    {{bin}}/python -m tests.benchmarks.end_to_end {{args}}

# Study how learners generalise from 100, 300 and 1,000 training questions, and which settings work best (half an hour)
study *args: _venv
    {{bin}}/toolkit import reference
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.benchmarks.study {{args}}

# Kill generation and Ray workers again and again, then use one cache from many processes (docs/explanations/reliability.md)
soak kills="200" minutes="10": _venv
    {{bin}}/python -m tests.soak.kills --kills {{kills}}
    {{bin}}/python -m tests.soak.workers
    {{bin}}/python -m tests.soak.crowd --minutes {{minutes}}

# Feed malformed suites, tables, benchmark files, replies, command lines and files to the commands (docs/explanations/reliability.md)
malformed *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.soak.malformed {{args}}

# Fill a cache with synthetic nodes and time commits, `toolkit status` and the queries of docs/guides/sql.md
large nodes="1000000": _venv
    {{bin}}/python -m tests.soak.large --nodes {{nodes}}

# Check that the oldest supported DuckDB reads the same rows from every table, view and query of docs/guides/sql.md
older version="1.2.2": _venv
    {{bin}}/python -m tests.soak.older --version {{version}}

# Write the generated pages of docs/, and build the documentation site into site/
docs: _venv
    {{bin}}/python -m tests.site.pages
    {{bin}}/zensical build --strict --clean

# Run the notebook of the tutorials again, and write its outputs and its page (a minute)
notebook: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.site.notebook

# Show the documentation site in a browser, and build it again at every change
docs-serve: _venv
    {{bin}}/zensical serve

# Run the pages of the documentation, or those named, and renew the outputs that they show; --long also those of `bash` blocks
outputs *args: _venv
    OMP_NUM_THREADS=1 {{bin}}/python -m tests.docs.outputs {{args}}

# Train one model of the pool again: mathematics, words, relations or quick (minutes on a GPU, hours on a CPU)
specialists model *args: _venv
    {{bin}}/python -m benchmarks.specialists.train {{model}} {{args}}

# Generate the reference cache again and export it to cache/reference (hours on two cores, minutes on a GPU)
reference: _venv
    {{bin}}/toolkit generate quickstart --cache cache/reference.duckdb
    rm -rf cache/reference
    {{bin}}/toolkit export cache/reference --cache cache/reference.duckdb
    {{bin}}/python -m benchmarks.specialists.cards cache/reference.duckdb

# Build the wheel and the source archive into dist/
build: _venv
    {{bin}}/python -m build --outdir dist .

# Delete everything that can be created again; caches and runs stay
clean:
    rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks .import_linter_cache
    find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Create .venv with the pinned dependencies, and update it whenever they change
[private]
_venv:
    @if ! cmp -s constraints.txt .venv/.constraints || ! cmp -s pyproject.toml .venv/.pyproject; then \
        {{python}} -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
            echo 'The toolkit needs Python 3.11 or later; {{python}} is older or missing. Name another one: PYTHON=python3.12 just ...' >&2; exit 1; }; \
        {{python}} -c 'import ensurepip, venv' 2>/dev/null || { \
            echo '{{python}} cannot create virtual environments. On Debian or Ubuntu: sudo apt install python3-venv' >&2; exit 1; }; \
        echo 'Creating .venv (a few minutes the first time)' >&2; \
        {{python}} -m venv .venv; \
        {{bin}}/python -m pip install --quiet --upgrade 'pip>=25.1'; \
        {{bin}}/python -m pip install --quiet --constraint constraints.txt --editable . --group dev; \
        cp constraints.txt .venv/.constraints; \
        cp pyproject.toml .venv/.pyproject; \
    fi
