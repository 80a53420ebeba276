"""The layout that docs/explanations/architecture.md promises: packages, sizes, layers, and SQL in the store alone."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLKIT = ROOT / "toolkit"
PACKAGES = [
    "cli",
    "core",
    "engines",
    "generation",
    "live",
    "outcomes",
    "replay",
    "report",
    "routing",
    "store",
    "suites",
    "tasks",
]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_LAYERS = 13
SQL = re.compile(
    r"\b(SELECT|INSERT INTO|DELETE FROM|UPDATE \w+ SET|CREATE (TABLE|VIEW|MACRO)|ALTER TABLE|LEFT JOIN|GROUP BY)\b"
)

SOURCES = sorted(TOOLKIT.rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_the_toolkit_is_its_packages_and_nothing_else() -> None:
    entries = sorted(path.name for path in TOOLKIT.iterdir() if path.name != "__pycache__")
    assert entries == sorted([*PACKAGES, "__init__.py", "py.typed"])


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.count("\n") <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION_LINES, node.name


def texts(tree: ast.Module) -> Iterator[str]:
    """Every string of a module but docstrings and the examples of `toolkit sql`."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in docstrings else None
        if isinstance(text, str) and "toolkit sql" not in text:
            yield text


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parent != TOOLKIT / "store"], ids=name)
def test_duckdb_and_sql_occur_in_the_store_alone(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert not any(module.split(".")[0] == "duckdb" for module in modules)
    assert [text for text in texts(tree) if SQL.search(text)] == []


def test_there_is_one_layer_per_package() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    assert len(layers) <= MAX_LAYERS
    listed = [module.strip().removeprefix("toolkit.") for layer in layers for module in layer.split("|")]
    assert sorted(listed) == sorted([*PACKAGES, "benchmarks"])


def tree_paths(text: str) -> Iterator[str]:
    """The paths of an indented tree: one entry a line, followed by its meaning."""
    folders: list[str] = []
    for line in text.splitlines():
        if match := re.match(r"( *)(\S+)", line):
            depth = len(match[1]) // 4
            folders = [*folders[:depth], match[2].rstrip("/")]
            yield "/".join(folders)


@pytest.mark.parametrize(
    ("page", "before"), [("README.md", "<!-- tree -->"), ("docs/explanations/architecture.md", "## The tree")]
)
def test_the_trees_of_the_pages_are_the_layout(page: str, before: str) -> None:
    section = (ROOT / page).read_text("utf-8").partition(before)[2]
    paths = list(tree_paths(section.partition("```")[2].partition("\n")[2].partition("```")[0]))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert {f"toolkit/{package}" for package in PACKAGES} <= set(paths)


def test_the_architecture_page_names_files_that_exist() -> None:
    page = (ROOT / "docs/explanations/architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:toolkit|benchmarks|tests|cache|docs)/[\w./-]*)`", page)
    assert len(named) >= 20
    assert [path for path in named if not (ROOT / path).exists()] == []
    for package in PACKAGES:
        assert f"toolkit/{package}" in page or f"`{package}/" in page
