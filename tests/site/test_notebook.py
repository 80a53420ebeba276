"""The notebook of the tutorials runs, prints what it shows, and is the page of the site."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from tests.docs.printed import TOLERANCE
from tests.site.notebook import FIGURES, NOTEBOOK, PAGE, convert, run

NUMBER = re.compile(r"-?\d+\.?\d*")


def test_the_notebook_prints_what_it_shows(tmp_path: Path) -> None:
    shown, figures = convert(_committed())
    printed, drawn = convert(run(tmp_path))
    assert NUMBER.sub("0", printed) == NUMBER.sub("0", shown), "run: just notebook"
    pairs = zip(NUMBER.findall(printed), NUMBER.findall(shown), strict=True)
    assert [pair for pair in pairs if not math.isclose(*map(float, pair), abs_tol=TOLERANCE)] == [], "run: just notebook"
    assert figures.keys() == drawn.keys() == {"models.svg", "frontier.svg"}


def test_the_page_of_the_notebook_is_up_to_date() -> None:
    page, figures = convert(_committed())
    assert PAGE.read_text("utf-8") == page, "run: just docs"
    assert {path.name: path.read_text("utf-8") for path in FIGURES.iterdir()} == figures, "run: just docs"


def test_the_notebook_shows_its_outputs_without_a_network() -> None:
    code = [cell for cell in _committed()["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    data = [output["data"] for cell in code for output in cell["outputs"] if "data" in output]
    assert sum("image/svg+xml" in content for content in data) == 2
    assert not [content for content in data if "<script" in json.dumps(content)]


def _committed() -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text("utf-8"))
    return notebook
