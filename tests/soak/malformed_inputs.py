"""Malformed inputs, drawn from good ones: suites, tables, benchmark files, replies of servers, command lines, files."""

import copy
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.soak.damage import NUMBERS, TEXTS, damage_bytes, damage_document, odd_value, write_table, write_toml
from tests.soak.places import PLACES, make_places
from toolkit.cli import commands

Reply = tuple[int, bytes, dict[str, str]]
"""Status, body and headers of a server's reply."""


@dataclass
class Attempt:
    """One malformed input and the command that gets it.

    Attributes:
        kind: Its kind.
        arguments: The command line, without the program.
        damage: What was done to a good input.
        may_change: Prefixes of the existing files that the command may change if it accepts the input.
        reply: What the server replies to every request, if there is one.
    """

    kind: str
    arguments: list[str]
    damage: str
    may_change: tuple[str, ...] = ()
    reply: Reply | None = None


SERVER: dict[str, Any] = {"url": "URL", "timeout": 5.0, "retries": 0, "concurrency": 2}
SCRIPTED_MODEL = {"checkpoint": "made/up", "revision": "0" * 40, "dtype": "float32", "max_tokens": 8}
SUITE: dict[str, Any] = {
    "name": "whole",
    "horizon": 2,
    "engine": {"name": "scripted"},
    "models": [
        {**SCRIPTED_MODEL, "name": "one", "base_rate": 1.0},
        {**SCRIPTED_MODEL, "name": "two", "rate_in": 1.0, "rate_out": 4.0, "system_prompt": "Be brief.", "stop": ["\n"]},
    ],
    "benchmarks": [
        {"name": "mine", "data": "./rows.jsonl", "prompt": "{q}", "answer": "a", "metric": "exact_match", "limit": 12},
        {"name": "addition", "limit": 6},
    ],
    "train": {"timesteps": 256, "n_envs": 8, "ppo": {"n_steps": 16, "batch_size": 64}},
}
SERVED_SUITE: dict[str, Any] = {
    "name": "served",
    "horizon": 1,
    "engine": {"name": "openai", "server": SERVER},
    "models": [{"name": "a", "checkpoint": "served:default", "base_rate": 1.0}],
    "benchmarks": [
        {"name": "mine", "data": "./rows.jsonl", "prompt": "{q}", "answer": "a", "metric": "exact_match", "limit": 3},
    ],
}
TABLE = [
    {
        "benchmark": "b",
        "item": f"q{item}",
        "question": f"Question number {item}?",
        "model": model,
        "response": f"{model} says {item}",
        "reference": str(item),
        "score": float((item + (model == "a")) % 2),
        "cost": 0.25,
    }
    for item in range(12)
    for model in "ab"
]
REPLY: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "created": 0,
    "model": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}
COMMANDS = {
    "make": [
        "generate whole.toml",
        "train whole.toml",
        "import table.jsonl --suite imported",
        "export exported --cache cache/whole.duckdb",
    ],
    "line": [
        "init new.toml",
        "benchmarks show addition --limit 2",
        "benchmarks --format json",
        "plan whole.toml",
        "profile whole.toml --prompts 2",
        "generate whole.toml --limit 5 --shard 1/2",
        "generate whole.toml --budget 1h --cache cache/new.duckdb",
        "status whole",
        "train whole.toml --alpha 0.1 --seed 1 --algorithm exact --set exact.updates=2",
        "train imported --timesteps 256 --set n_envs=8 --set ppo.n_steps=16",
        "evaluate whole --split test --format json",
        "evaluate imported --output out.csv --format csv",
        "sweep whole --seeds 1 --alphas 0.1 --processes 1 --figure plot.svg",
        "report whole --output page.html",
        "route whole hello+there --format json",
        "runs list --suite whole --format csv",
        "runs show whole --cache cache/whole.duckdb",
        "runs compare one two --cache cache/whole.duckdb",
        "runs delete one --dry-run --cache cache/whole.duckdb",
        "show q3 --suite imported --cache cache/imported.duckdb",
        "sql SELECT+model,count(*)+FROM+transitions+GROUP+BY+ALL --cache cache/whole.duckdb --format csv",
        "schema",
        "score whole.toml --metric token_f1",
        "verify --cache cache/whole.duckdb --suite whole",
        "export exported2 --cache cache/whole.duckdb",
        "import exported --cache cache/copy.duckdb",
        "import table.jsonl --suite imported --prefer ours",
        "import cache/whole.duckdb --cache cache/both.duckdb",
        "cache list cache",
        "cache info --cache cache/whole.duckdb",
        "cache vacuum --cache cache/whole.duckdb",
        "cache prune --cache cache/whole.duckdb",
        "cache remove-suite whole --dry-run --cache cache/whole.duckdb",
        "cache migrate --cache cache/whole.duckdb",
    ],
}

FILES = ["cache/whole.duckdb", "cache", "whole.toml", "rows.jsonl", "exported", "runs", "new.csv", "whole", "imported"]
ODD_WORDS = [
    "--limit",
    "0",
    "-1",
    "nan",
    "inf",
    "1e400",
    "--cache",
    "--suite",
    "--format",
    "xml",
    "--nonsense",
    "-",
    "--",
    "=",
    "a=b=c",
]


def _damaged_file(path: Path, rng: Random) -> str:
    data, damage = damage_bytes(path.read_bytes(), rng)
    path.write_bytes(data)
    return f"{path.name}: {damage}"


def malformed_suite(rng: Random, folder: Path) -> Attempt:
    """Draw a suite file, for a command that reads it."""
    suite = copy.deepcopy(SUITE) | {"name": rng.choice(["whole", "other"])}
    damage = damage_document(suite, rng)
    write_toml(folder / "suite.toml", suite)
    if rng.random() < 0.2:
        damage = _damaged_file(folder / "suite.toml", rng)
    command = rng.choice(["plan", "generate", "generate", "train", "score", "status", "profile"])
    return Attempt("suite", [command, "suite.toml", *_cap(command)], damage, ("cache/", "runs/"))


def malformed_table(rng: Random, folder: Path) -> Attempt:
    """Draw a table of results in any format."""
    rows = copy.deepcopy(TABLE)
    if rng.random() < 0.2:  # one column of all rows
        column, value = rng.choice(list(rows[0])), odd_value(rng)
        for row in rows:
            row[column] = value
        damage = f"every {column} = {value!r:.80}"
    else:
        damage = damage_document(rows, rng)
    path = write_table(folder / "results", rows, rng.choice(["jsonl", "csv", "parquet", "json"]))
    if rng.random() < 0.2:
        damage = _damaged_file(path, rng)
    suite = rng.choice(["imported", "new", "whole"])
    return Attempt("table", ["import", path.name, "--suite", suite], damage, ("cache/",))


def malformed_benchmark(rng: Random, folder: Path) -> Attempt:
    """Draw the data file of a declared benchmark."""
    rows: list[Any] = [{"q": f"What is {i} + 1?", "a": str(i + 1)} for i in range(12)]
    damage = damage_document(rows, rng)
    path = write_table(folder / "data", rows, rng.choice(["jsonl", "jsonl", "csv", "parquet", "json"]))
    if rng.random() < 0.2:
        damage = _damaged_file(path, rng)
    suite = copy.deepcopy(SUITE) | {"name": "mine"}
    suite["benchmarks"] = [{**suite["benchmarks"][0], "data": f"./{path.name}"}]
    if rng.random() < 0.3:
        suite["benchmarks"][0]["metric"] = rng.choice(["numeric_match", "token_f1", "choice_match", "math_equal", "truthful"])
    write_toml(folder / "suite.toml", suite)
    return Attempt("benchmark", [rng.choice(["plan", "generate", "generate"]), "suite.toml"], damage, ("cache/",))


def malformed_reply(rng: Random, folder: Path) -> Attempt:
    """Draw what a server replies to every request."""
    reply = copy.deepcopy(REPLY)
    damage = damage_document(reply, rng) if rng.random() < 0.85 else "nothing"
    body = json.dumps(reply).encode()
    if rng.random() < 0.15:
        body, damage = damage_bytes(body, rng)
    status = rng.choice([200] * 8 + [204, 301, 400, 401, 403, 404, 422, 429, 500, 503, 599])
    kind = rng.choice(["application/json"] * 6 + ["text/html", "text/event-stream"])
    write_toml(folder / "served.toml", SERVED_SUITE)
    arguments = ["generate", "served.toml"]
    return Attempt("reply", arguments, f"{status}, {kind}, {damage}", ("cache/",), (status, body, {"Content-Type": kind}))


def malformed_line(rng: Random, folder: Path) -> Attempt:
    """Draw a command line: words are replaced, dropped, repeated or added."""
    make_places(folder)
    line = rng.choice(COMMANDS["line"])
    words = [word.replace("+", " ") for word in line.split()]
    damage = []
    if rng.random() < 0.4:
        option = rng.choice(_options(line))
        words += [option, str(rng.choice([*TEXTS, *ODD_WORDS, *PLACES, *NUMBERS]))]
        damage.append(option)
    for _ in range(0 if damage else rng.choice([1, 1, 2])):
        at = rng.randrange(len(words))
        odd = rng.choice([*TEXTS, *ODD_WORDS, *PLACES])
        match rng.choice(["value", "value", "replace", "drop", "add", "repeat"]):
            case "value" if values := [place for place in range(1, len(words)) if words[place - 1].startswith("--")]:
                at = rng.choice(values)
                words[at] = rng.choice([odd, *FILES, *map(str, NUMBERS)])
            case "replace":
                words[at] = odd
            case "drop":
                del words[at]
            case "repeat":
                words.insert(at, words[at])
            case _:
                words.insert(at, odd)
        damage.append(f"word {at}")
        if not words:
            break
    words = [word.replace("\x00", "") for word in words]  # no shell can pass one
    return Attempt("line", words, ", ".join(damage), ("cache/", "runs/"))


def malformed_file(rng: Random, folder: Path) -> Attempt:
    """Damage a file that the toolkit wrote itself, and read it."""
    router = next((path for path in sorted((folder / "runs").rglob("*")) if path.suffix in {".safetensors", ".zip"}), None)
    choices: list[tuple[Path, list[str]]] = [
        (folder / "cache" / "whole.duckdb", ["status", "whole"]),
        (folder / "cache" / "whole.duckdb", ["import", "cache/whole.duckdb", "--cache", "cache/imported.duckdb"]),
        *(
            (path, ["import", "exported", "--cache", "cache/copy.duckdb"])
            for path in sorted((folder / "exported").iterdir())
            if rng.random() < 0.5
        ),
    ]
    if router:
        choices += [(router, ["evaluate", str(router.relative_to(folder)), "--cache", "cache/whole.duckdb"])] * 2
    path, arguments = rng.choice(choices)
    if path.name == "manifest.json" and rng.random() < 0.7:
        manifest = json.loads(path.read_text())
        damage = damage_document(manifest, rng)
        path.write_text(json.dumps(manifest))
    else:
        damage = _damaged_file(path, rng)
    return Attempt("file", arguments, damage, ("cache/",))


KINDS: dict[str, Callable[[Random, Path], Attempt]] = {
    "suite": malformed_suite,
    "table": malformed_table,
    "benchmark": malformed_benchmark,
    "reply": malformed_reply,
    "line": malformed_line,
    "file": malformed_file,
}


def _options(line: str) -> list[str]:
    """Return every option of the command that a line calls."""
    names = commands()
    function = names.get(" ".join(line.split()[:2])) or names[line.split()[0]]
    parameters = inspect.signature(function).parameters.values()
    options = [
        parameter.annotation.__metadata__[0] for parameter in parameters if hasattr(parameter.annotation, "__metadata__")
    ]
    declared = [name for option in options for name in getattr(option, "param_decls", None) or () if name.startswith("--")]
    plain = [f"--{parameter.name.replace('_', '-')}" for parameter in parameters if parameter.default is not parameter.empty]
    return sorted({name.split("/")[0] for name in [*declared, *plain]} - {"--executor", "--address"}) or ["--help"]


def _cap(command: str) -> list[str]:
    """Return options that keep a command short, whatever the suite asks for."""
    return {"profile": ["--prompts", "2"], "train": ["--timesteps", "256"]}.get(command, [])
