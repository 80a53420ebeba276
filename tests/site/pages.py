"""Write the pages of docs/ that the program itself can tell, and that of the notebook; tests fail if they are out of date.

python -m tests.site.pages
"""

import json
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from tests.site import notebook
from toolkit.cli import commands
from toolkit.cli.common import app
from toolkit.core.registry import ALGORITHMS, ENGINE_SETTINGS, ENGINES
from toolkit.report.tables import markdown
from toolkit.store import schema_comments
from toolkit.suites import SuiteConfig

DOCS = Path(__file__).parents[2] / "docs"
WIDTH = 86
"""Columns of a block of code on the site, on a desktop."""


def cli() -> str:
    """Return the help of every command."""
    parts = ["# Commands\n\nWritten by `just docs` from `toolkit COMMAND --help`."]
    for name in commands():
        shown = CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=WIDTH, prog_name="toolkit")
        parts.append(f"## {name}\n\n```\n{shown.output.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def suite() -> str:
    """Return the fields of a suite file, one section per table."""
    schema = SuiteConfig.model_json_schema()
    sections: dict[str, dict[str, Any]] = {"The suite": schema}
    for title, name in _TITLES.items():
        sections[title] = schema["$defs"][name]
        if title == "[engine]":
            sections |= {f"[engine.{table}]": ENGINE_SETTINGS[table].model_json_schema() for table in sorted(ENGINE_SETTINGS)}
    parts = [
        "# The suite file\n\nA TOML file; `toolkit init NAME.toml` writes a commented one. Unknown fields are refused. "
        "Written by `just docs`."
    ]
    for title, section in sections.items():
        required = section.get("required", [])
        rows = [
            [f"`{name}`", _type(field), "required" if name in required else _default(field), field.get("description", "")]
            for name, field in section.get("properties", {}).items()
        ]
        tables = [markdown(["field", "type", "default", "meaning"], rows)] if rows else []
        tables += [extensions() for table, extensions in _EXTENSIONS.items() if table == title]
        parts.append("\n\n".join([f"## {title}", section.get("description", ""), *tables]))
    return "\n\n".join(parts) + "\n"


_TITLES = {
    "[[models]]": "ModelConfig",
    "few_shot": "Example",
    "[[benchmarks]]": "BenchmarkConfig",
    "[tree]": "TreeConfig",
    "[prompts]": "PromptConfig",
    "[engine]": "EngineConfig",
    "[code]": "CodeConfig",
    "[splits]": "SplitConfig",
    "[features]": "FeatureConfig",
    "encoder": "Encoder",
    "[train]": "TrainConfig",
}


def _engines() -> str:
    rows = [[f"`{name}`", ENGINES[name].__doc__.splitlines()[0], ENGINES[name].default_batch_tokens] for name in ENGINES]
    return markdown(["engine", "what it does", "default batch_tokens"], rows)


def _algorithms() -> str:
    rows = [
        [f"`{name}`", algorithm.help, f"`{json.dumps(dict(algorithm.defaults))}`"]
        for name, algorithm in ((name, ALGORITHMS[name]) for name in ALGORITHMS)
    ]
    return markdown(["algorithm", "what it is", "default arguments"], rows)


_EXTENSIONS = {"[engine]": _engines, "[train]": _algorithms}
"""The tables of registered extensions, by the section that names them."""


def _default(field: dict[str, Any]) -> str:
    if "$ref" in field:
        return "see below"
    value = field.get("default")
    if value is None:
        return "none"
    return "see below" if isinstance(value, dict) and value else f"`{json.dumps(value)}`"


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return " or ".join(_type(option) for option in field["anyOf"] if option.get("type") != "null")
    if "$ref" in field:
        return "table"
    return str(field.get("type", "table")).replace("object", "table")


def schema() -> str:
    """Return the views and tables of a cache with their columns, views first."""
    parts = ["# The cache\n\nViews are the public interface; tables may change between versions. Written by `just docs`."]
    for row in schema_comments().to_pylist():
        columns = [[f"`{c['column']}`", c["type"], c["meaning"] or ""] for c in schema_comments(row["name"]).to_pylist()]
        parts.append(
            f"## {row['kind']} `{row['name']}`\n\n{row['meaning']}\n\n{markdown(['column', 'type', 'meaning'], columns)}"
        )
    return "\n\n".join(parts) + "\n"


PAGES = {"reference/cli.md": cli, "reference/suite.md": suite, "reference/schema.md": schema}


if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write(), "utf-8")
    notebook.write()
