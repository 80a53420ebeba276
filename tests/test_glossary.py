"""Names in code, schema and commands use the terms of docs/explanations/glossary.md and none of the words it rules out."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from toolkit.cli.common import app

ROOT = Path(__file__).parent.parent
GLOSSARY = (ROOT / "docs/explanations/glossary.md").read_text("utf-8")
MODULES = sorted((ROOT / "toolkit").rglob("*.py"))
SCHEMAS = sorted((ROOT / "toolkit").rglob("*.sql"))
TERMS = {
    "question", "benchmark", "synthetic", "model", "pool", "hop", "path", "context", "response", "generation", "node",
    "transition", "suite", "cache", "table", "router", "policy", "run", "greedy", "sampled", "budget", "profile",
}  # fmt: skip
RULED_OUT = {
    "allowance", "answer", "answered", "answerer", "answering", "asked", "calibrate", "catalogue", "drawn", "generated",
    "layer", "recheck", "stage", "store", "watcher", "worth",
}  # fmt: skip


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    section = GLOSSARY.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


FORBIDDEN = {
    word: set(re.findall(r"`(\w+)`", packages))
    for words, _, packages in rows("Words that names do not use")
    for word in words.split(", ")
}
"""Each word that names do not use, with the packages in which it means something else."""
VAGUE = set(re.findall(r"`(\w+)`", GLOSSARY.split("## Local names that say nothing\n")[1]))


def words_of(name: str) -> list[str]:
    """Split a snake-case or camel-case name into lower-case words."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def forbidden_words(name: str, package: str) -> list[str]:
    return [word for word in words_of(name) if word in FORBIDDEN and package not in FORBIDDEN[word]]


def package_of(path: Path) -> str:
    return path.relative_to(ROOT / "toolkit").parts[0]


def variables(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the name and line of every variable and argument that is defined in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno


def definitions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield the name and line of every variable, argument, function, class and attribute that is defined in a module."""
    yield from variables(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname, node.lineno


def options(command: Any) -> Iterator[str]:
    """Yield the names of a command, of its arguments and options, and of its subcommands."""
    yield command.name or ""
    for parameter in command.params:
        yield from [*parameter.opts, *parameter.secondary_opts]
    for subcommand in getattr(command, "commands", {}).values():
        yield from options(subcommand)


def sql_names(schema: str) -> set[str]:
    """Return the identifiers of SQL text, without its comments and strings."""
    return set(re.findall(r"[a-z_]+", re.sub(r"--[^\n]*|'(?:[^']|'')*'", " ", schema)))


def test_the_glossary_has_the_terms() -> None:
    terms = {word for term, _, _ in rows("Terms") for word in re.findall(r"\w+", term)}
    assert terms >= TERMS
    assert len(rows("Terms")) == len({term for term, _, _ in rows("Terms")})


def test_the_glossary_rules_out_what_we_do_not_call_things() -> None:
    assert FORBIDDEN.keys() >= RULED_OUT
    assert {package for packages in FORBIDDEN.values() for package in packages} <= {package_of(path) for path in MODULES}
    assert "found" in VAGUE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_in_the_code_use_the_glossary(path: Path) -> None:
    names = [*definitions(ast.parse(path.read_text("utf-8"))), (path.stem, 0)]
    assert not [f"{path.relative_to(ROOT)}:{line}: {name}" for name, line in names if forbidden_words(name, package_of(path))]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_local_names_say_what_the_value_is(path: Path) -> None:
    names = variables(ast.parse(path.read_text("utf-8")))
    assert not [f"{path.relative_to(ROOT)}:{line}: {name}" for name, line in names if name in VAGUE]


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_views_and_columns_use_the_glossary(path: Path) -> None:
    names = sql_names(path.read_text("utf-8"))
    assert {"generations", "text"} <= names
    assert not [name for name in sorted(names) if forbidden_words(name, package_of(path)) or name in VAGUE]


def test_commands_and_options_use_the_glossary() -> None:
    names = set(options(typer.main.get_command(app)))
    assert {"generate", "--budget", "prune"} <= names
    assert not [name for name in sorted(names) if forbidden_words(name, "cli")]


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def recheck(): ...", "recheck"),
        ("class AnsweredBatch: ...", "AnsweredBatch"),
        ("def run(watcher): ...", "watcher"),
        ("self.allowance = 1", "allowance"),
        ("N_ANSWERED = 1", "N_ANSWERED"),
        ("import x as catalogue", "catalogue"),
    ],
)
def test_a_forbidden_word_is_seen_wherever_a_name_is_defined(source: str, name: str) -> None:
    assert [defined for defined, _ in definitions(ast.parse(source)) if forbidden_words(defined, "replay")] == [name]
