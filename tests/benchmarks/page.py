"""docs/explanations/performance.md, whose sections are written by several programs: `just bench` and `just bench-generate`."""

import os
import platform
import textwrap
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs/explanations/performance.md"
WIDTH = 148
"""Width of prose."""


def machine(packages: Sequence[str]) -> str:
    """Describe the machine and the versions of packages."""
    facts = Path("/proc/cpuinfo").read_text("utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = facts.partition("model name")[2].partition("\n")[0].strip("\t :") or platform.machine()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {versions}"


def layout(parts: Sequence[str]) -> str:
    """Join paragraphs, and wrap those that are prose."""
    wrap = partial(textwrap.fill, width=WIDTH, break_on_hyphens=False)
    return "\n\n".join(part if part.startswith(("|", "#", "```")) else wrap(part) for part in parts) + "\n"


def section(page: str, heading: str) -> str:
    """Return a section of a page with its heading, up to the next heading of the same level; empty if there is none."""
    _, mark, rest = f"\n{page}".partition(f"\n{heading}\n")
    if not mark:
        return ""
    body = rest.partition("\n" + heading.partition(" ")[0] + " ")[0].rstrip()
    return f"{heading}\n{body}\n"


def replace_section(page: str, text: str) -> str:
    """Replace the section of a page that has the same heading as `text`, or append it."""
    old = section(page, text.partition("\n")[0])
    return page.replace(old, text) if old else f"{page.rstrip()}\n\n{text}"
