"""The navigation of the documentation site is complete."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from typing import Any

from tests.site.pages import DOCS


def test_every_page_is_in_the_navigation() -> None:
    project = tomllib.loads((DOCS.parent / "zensical.toml").read_text("utf-8"))["project"]
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert set(_pages(project["nav"])) == pages, "add it to `nav` in zensical.toml"


def _pages(entries: list[dict[str, Any]]) -> Iterator[str]:
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _pages(target)
