"""Measure what `generate` takes outside of its models: `just bench-end-to-end` writes a section of the page performance.md.

python -m tests.benchmarks.end_to_end [--questions 1000 3000 10000] [--limit 4]

Made-up questions with the scripted engine, whose own time is negligible, three models and three hops, one process per size;
then a small part of the quickstart with its real models.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.scripted import encode
from tests.soak.large import make_suite
from toolkit.core.cpus import share_cpus
from toolkit.core.progress import NoProgress
from toolkit.core.workspace import Workspace
from toolkit.engines import Prompt
from toolkit.engines.scripted import ScriptedEngine
from toolkit.generation.generate import generate
from toolkit.report.tables import markdown
from toolkit.store import Cache

PAGE = Path(__file__).parents[2] / "docs/explanations/performance.md"
HEADING = "## End to end"
WIDTH = 148
"""Width of prose."""
NODES_PER_QUESTION = 3 + 9 + 27
FAR = 100_000
"""Questions to which the times are extrapolated."""
ROWS = 43
"""Prompts of a batch of the quickstart."""


class Stages(NoProgress):
    """Adds up the wall time of each stage; what comes before the first is `start`."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._title, self._started = "start", time.perf_counter()

    def stage(self, title: str) -> None:
        now, kind = time.perf_counter(), self._title.split(" ")[0].rstrip(",")
        self.seconds[kind] = self.seconds.get(kind, 0.0) + now - self._started
        self._title, self._started = title, now


def respond(model: str, prompt: Prompt) -> str:
    """Respond with a sentence of 20 words that depends on the prompt."""
    digest = hashlib.sha256(f"{model}\n{prompt.text}".encode()).hexdigest()
    words = " ".join(digest[start : start + 4] for start in range(0, 40, 4))
    return f"Because of {words} and so on the answer is {int(digest[:4], 16) % 100}"


def generate_scripted(questions: int) -> dict[str, float]:
    """Generate a suite of made-up questions; returns wall and CPU time in seconds, and memory in bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = make_suite(questions, folder)
        config = suite.config.model_copy(
            update={"engine": suite.config.engine.model_copy(update={"batch_tokens": 50 * ROWS})}  # words
        )
        suite = type(suite)(config, suite.models, suite.questions, suite.encoder)
        cache = Cache(folder / "cache.duckdb")
        before, wall, cpu = peak_memory(), time.perf_counter(), time.process_time()
        report = generate(
            suite, cache, Workspace(folder, folder), engine=partial(ScriptedEngine, script=respond), encode=encode
        )
        assert report.generated + report.shared == NODES_PER_QUESTION * questions
        return {
            "questions": questions,
            "wall": time.perf_counter() - wall,
            "cpu": time.process_time() - cpu,
            "before": before,
            "peak": peak_memory(),
            "own": psutil.Process().memory_info().rss,
            "file": cache.path.stat().st_size,
        }


def peak_memory() -> int:
    """Return the largest memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def generate_quickstart(limit: int) -> dict[str, Any]:
    """Generate a part of the quickstart with its real models; returns seconds of its stages and of its models."""
    from toolkit.cli.common import read_suite, resolve_suite

    with tempfile.TemporaryDirectory() as name:
        for first, cache in ((1, "first"), (limit, "cache")):  # the first run only fetches and converts the weights
            file = read_suite("quickstart", Path(name) / f"{cache}.duckdb", migrate=True)
            suite = resolve_suite(file._replace(config=file.config.limited(first)), trust=False)
            if cache == "first":
                generate(suite, file.cache, file.workspace)
        stages, started = Stages(), time.perf_counter()
        report = generate(suite, file.cache, file.workspace, progress=stages)
        stages.stage("end")
        [row] = file.cache.arrow("SELECT sum(seconds) AS model FROM generations").to_pylist()
        return {
            "limit": limit,
            "nodes": report.generated + report.shared,
            "wall": time.perf_counter() - started,
            "model": row["model"],
            **stages.seconds,
        }


def in_a_process(*arguments: str) -> dict[str, Any]:
    """Run a part of this program in a process of its own, whose memory is that part's alone."""
    command = [sys.executable, "-m", "tests.benchmarks.end_to_end", *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    measured: dict[str, Any] = json.loads(output.splitlines()[-1])
    print(measured, file=sys.stderr, flush=True)
    return measured


def section(sizes: list[dict[str, float]], quickstart: dict[str, Any]) -> str:
    """Write the section of the page."""
    questions, wall = (np.array([size[name] for size in sizes]) for name in ("questions", "wall"))
    slope = float((questions * wall).sum() / (questions**2).sum())
    deviation = float(np.abs(wall / (slope * questions) - 1).max())
    rows = [
        [
            f"{size['questions']:,}",
            f"{size['questions'] * NODES_PER_QUESTION:,}",
            f"{size['wall']:.0f}",
            f"{size['cpu']:.0f}",
            f"{1e6 * size['cpu'] / size['questions'] / NODES_PER_QUESTION:.0f}",
            f"{size['questions'] * NODES_PER_QUESTION / size['wall']:,.0f}",
            f"{size['own'] / 2**20:.0f}",
            f"{size['peak'] / 2**20:.0f}",
            f"{size['file'] / 2**20:.0f}",
        ]
        for size in sizes
    ]
    extrapolated = f"{FAR:,} (line)", f"{FAR * NODES_PER_QUESTION:,}", f"{slope * FAR:,.0f}", "", "", "", "", "", ""
    header = ["questions", "nodes", "wall, s", "CPU, s", "CPU per node, µs", "nodes/s", "memory, MiB", "peak, MiB", "file, MiB"]
    growth = (sizes[-1]["own"] - sizes[-2]["own"]) / (sizes[-1]["questions"] - sizes[-2]["questions"]) / NODES_PER_QUESTION
    outside = quickstart["hop"] - quickstart["model"]
    prose = [
        f"`generate` of M = 3 and L = 3 with an engine that takes no time, in batches of about {ROWS} prompts, on {machine()}: "
        f"everything but the models. Times follow the line through the origin within {deviation:.0%}. Memory is what the "
        "process holds at the end, most of it libraries and two blocks of up to 16,384 prompts; between the last two sizes it "
        f"grows by {growth:.0f} bytes per node. The peak is during a commit or a query, for which DuckDB keeps what it reads "
        "and writes of the file in free memory.",
        f"The quickstart with `--limit {quickstart['limit']}` and its real models ({quickstart['nodes']:,} nodes) takes "
        f"{quickstart['wall']:.0f} s there: {quickstart['model']:.1f} s in the engine, weights included, {outside:.1f} s "
        f"({outside / quickstart['hop']:.1%} of the hops) in which the engine waits, {quickstart['start']:.1f} s until the "
        f"first hop, and {quickstart.get('embedding', 0.0):.1f} s to embed and to finish.",
    ]
    paragraphs = [textwrap.fill(part, WIDTH, break_long_words=False, break_on_hyphens=False) for part in prose]
    table = markdown(header, [*rows, list(extrapolated)])
    return "\n\n".join([HEADING, paragraphs[0], table, paragraphs[1]]) + "\n"


def machine() -> str:
    """Name the machine and the versions that matter."""
    from importlib.metadata import version

    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, duckdb {version('duckdb')}"


def write(text: str) -> None:
    """Put a section in the place of the old one, or at the end of the page."""
    page = PAGE.read_text("utf-8")
    start = page.find(HEADING + "\n")
    if start < 0:
        PAGE.write_text(page.rstrip() + "\n\n" + text, "utf-8")
        return
    end = page.find("\n## ", start)
    PAGE.write_text(page[:start] + text + (page[end:] if end > 0 else ""), "utf-8")


def main() -> None:
    """Measure each part in a process of its own, and write the section."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--questions", type=int, nargs="+", default=[1000, 3000, 10_000])
    parser.add_argument("--limit", type=int, default=4, help="questions per benchmark of the quickstart")
    parser.add_argument("--only", choices=["scripted", "quickstart"], help=argparse.SUPPRESS)
    parser.add_argument("--dry", action="store_true", help="print the section, and leave the page as it is")
    arguments = parser.parse_args()
    if arguments.only == "scripted":
        print(json.dumps(generate_scripted(arguments.questions[0])))
        return
    if arguments.only == "quickstart":
        print(json.dumps(generate_quickstart(arguments.limit)))
        return
    share_cpus(os.environ)
    quickstart = in_a_process("--only", "quickstart", "--limit", str(arguments.limit))
    sizes = [in_a_process("--only", "scripted", "--questions", str(questions)) for questions in sorted(arguments.questions)]
    text = section(sizes, quickstart)
    print(text)
    if not arguments.dry:
        write(text)


if __name__ == "__main__":
    main()
