"""Run the notebook of the tutorials again, and turn it into a page of the site.

    python -m tests.site.notebook

The page has no outputs of its own: `just docs` writes it from those that the notebook has.
"""

import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.report.tables import markdown

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs/tutorials/notebook.ipynb"
PAGE = NOTEBOOK.with_suffix(".md")
FIGURES = ROOT / "docs/images/notebook"
DOWNLOAD = "This page is a notebook: [download it](notebook.ipynb) and run it in the environment of the toolkit."
LANGUAGE = "python3"
"""Name of the language of a cell: not `python`, which is run as a file, where `!` and `%%` mean nothing."""

Cell = dict[str, Any]


def main() -> None:
    """Replace the outputs of the notebook by those of a new run, in a folder of its own, and write its page."""
    with tempfile.TemporaryDirectory() as folder:
        notebook = run(Path(folder))
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n", "utf-8")
    write()


def run(folder: Path) -> dict[str, Any]:
    """Execute a copy of the notebook in a folder with nbmake, and return it with its new outputs.

    Raises:
        RuntimeError: A cell fails.
    """
    copy = shutil.copy(NOTEBOOK, folder)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `toolkit` is that of this environment
    environment = os.environ | {"PATH": commands, "PYTHONPATH": str(ROOT), "IPYTHONDIR": str(folder / ".ipython")}
    options = ["--nbmake", "--overwrite", "--rootdir", str(folder), "-p", "no:cacheprovider", "-q"]
    pytest = subprocess.run(
        [sys.executable, "-m", "pytest", *options, copy], cwd=folder, env=environment, capture_output=True, text=True
    )
    if pytest.returncode:
        raise RuntimeError(f"The notebook cannot be run:\n{pytest.stdout}\n{pytest.stderr}")
    return _without_times(json.loads(Path(copy).read_text("utf-8")))


def _without_times(notebook: dict[str, Any]) -> dict[str, Any]:
    """Remove what differs between two runs that print the same."""
    for cell in notebook["cells"]:
        cell["metadata"].pop("execution", None)
    notebook["metadata"]["language_info"] = {"name": "python"}
    return notebook


def write() -> None:
    """Write the page of the notebook, and its figures."""
    text, figures = convert(json.loads(NOTEBOOK.read_text("utf-8")))
    shutil.rmtree(FIGURES, ignore_errors=True)
    FIGURES.mkdir(parents=True)
    for name, figure in figures.items():
        (FIGURES / name).write_text(figure, "utf-8")
    PAGE.write_text(text, "utf-8")


def convert(notebook: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Return a notebook as Markdown, and its figures as SVG, by file name."""
    parts: list[str] = []
    figures: dict[str, str] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "markdown":
            parts.append(_text(cell["source"]))
            continue
        parts.append(_fence(_text(cell["source"]), LANGUAGE))
        for kind, output in _outputs(cell):
            if kind == "image/svg+xml":
                name = f"{cell['metadata']['name']}.svg"
                figures[name] = output
                output = f"![{cell['metadata']['caption']}](../images/notebook/{name})"
            parts.append(output if kind != "text/plain" else _fence(output))
    title, *rest = parts
    return "\n\n".join([title, DOWNLOAD, *rest]) + "\n", figures


def _outputs(cell: Cell) -> Iterator[tuple[str, str]]:
    """Yield the kind and the content of each output of a cell: a figure, an HTML table or text."""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield "text/plain", _text(output["text"])
            continue
        data = output["data"]
        kind = next(kind for kind in ("image/svg+xml", "text/html", "text/plain") if kind in data)
        content = _text(data[kind])
        yield kind, _table(content) if kind == "text/html" else content


def _table(source: str) -> str:
    """Return the HTML table of a polars frame as Markdown."""
    rows = [re.findall(r"<t[hd]>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", source)]
    names, *records = [[html.unescape(cell).strip('"') for cell in row] for row in rows]
    return markdown(names, records)


def _fence(text: str, language: str = "") -> str:
    return f"```{language}\n{text.rstrip()}\n```"


def _text(lines: str | list[str]) -> str:
    return "".join(lines)


if __name__ == "__main__":
    main()
