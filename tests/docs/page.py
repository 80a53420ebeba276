"""The code of a documentation page: its fences in order, and what the page says each of them prints.

- `sh` (commands), `sql` and `python` are run, `bash` and `py` are not: a test machine lacks what they need, or the time.
- A fence with `title="FILE"` is a file that the reader writes.
- A `text` fence that follows one of these, with nothing but blank lines between, is what it prints.
- Fences of other languages, or none, are illustrations.

Fences in an HTML comment count too: they prepare what the page needs and does not show.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "cache/README.md", *sorted((ROOT / "docs").rglob("*.md")))
SECTIONS = ("tutorials", "guides", "reference", "explanations")
"""Folders of docs/ whose pages are run by a test module each; a further one runs the others."""
RUN = ("sh", "sql", "python")
NOT_RUN = {"bash": "sh", "py": "python"}
"""Languages of code that a test cannot run, by what they are."""

FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>`{3,})(?P<info>[^`\n]*)\n(?P<body>.*?)^(?P=indent)(?P=marks)[ ]*$", re.MULTILINE | re.DOTALL
)
BETWEEN = re.compile(r"(?:\s|<!--|-->)*")
"""What may stand between code and its output."""


class Fence(NamedTuple):
    """A fence of a page.

    Attributes:
        language: The first word after the marks, perhaps empty.
        title: The file that the reader writes, or None.
        body: The text, without the indentation of the fence.
        indent: That indentation.
        line: Number of the line of the opening marks.
        start: Where the body begins in the page.
        end: Where it ends.
    """

    language: str
    title: str | None
    body: str
    indent: str
    line: int
    start: int
    end: int


class Block(NamedTuple):
    """Code of a page, with the fence that shows what it prints, if there is one."""

    code: Fence
    output: Fence | None

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return self.code.title is None and self.code.language in RUN

    @property
    def is_long(self) -> bool:
        """Whether it could be run, but no test does."""
        return self.code.title is None and self.code.language in NOT_RUN


def fences(text: str) -> list[Fence]:
    """Return the fences of a page."""
    found = []
    for match in FENCE.finditer(text):
        language = (match["info"].split() or [""])[0]
        title = re.search(r'title="([^"]+)"', match["info"])
        line = text.count("\n", 0, match.start()) + 1
        body = textwrap.dedent(match["body"]) if match["indent"] else match["body"]
        found.append(Fence(language, title and title[1], body, match["indent"], line, match.start("body"), match.end("body")))
    return found


def bodies(text: str, *languages: str, title: str | None = None) -> list[str]:
    """Return what is in the fences of some languages: code without a title, or the file of a title."""
    return [fence.body for fence in fences(text) if fence.language in languages and fence.title == title]


def prose(text: str) -> str:
    """Return a page without its code."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def blocks(text: str) -> list[Block]:
    """Return the code of a page, in order, with its outputs."""
    pairs = []
    all_fences = fences(text)
    for code, following in zip(all_fences, [*all_fences[1:], None], strict=False):
        if code.title or code.language in RUN or code.language in NOT_RUN:
            after_code = text.find("\n", code.end) + 1
            is_output = (
                following is not None
                and following.language == "text"
                and not following.title
                and BETWEEN.fullmatch(text[after_code : text.rfind("\n", 0, following.start - 1) + 1])
            )
            pairs.append(Block(code, following if is_output else None))
    return pairs


def with_outputs(text: str, outputs: Mapping[int, Sequence[str]]) -> str:
    """Return a page with other lines in the outputs that begin at given lines."""
    for fence in reversed(fences(text)):
        if fence.line in outputs:
            body = "".join(f"{fence.indent}{line}".rstrip() + "\n" for line in outputs[fence.line])
            text = text[: fence.start] + body + text[fence.end :]
    return text


def pages_of(section: str) -> list[Path]:
    """Return the pages of a section, or of `others`, that have something to run."""
    folders = {page: page.parent.name if page.parent.name in SECTIONS else "others" for page in PAGES}
    return [
        page
        for page, folder in folders.items()
        if folder == section and any(block.is_run for block in blocks(page.read_text("utf-8")))
    ]


def name_of(page: Path) -> str:
    """Return the path of a page in the repository."""
    return str(page.relative_to(ROOT))
