"""Finds and reads suite files, and says of a wrong one where it is wrong: file, line, field, and what is allowed."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from toolkit.core.errors import CacheError, SuiteError, did_you_mean
from toolkit.suites.config import SuiteConfig


def shipped_suites() -> dict[str, Path]:
    """Return the suites that the package ships, by name."""
    folder = Path(str(resources.files("benchmarks"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find_suite(reference: str) -> Path:
    """Return the file that a user's reference means: a path, or the name of a shipped suite.

    Raises:
        SuiteError: There is no such file and no such name.
    """
    if reference.endswith(".toml") or "/" in reference:
        path = Path(reference)
        if path.is_file():
            return path
        raise SuiteError(f"There is no suite file {reference}. Write one with: toolkit init {reference}")
    shipped = shipped_suites()
    if reference in shipped:
        return shipped[reference]
    raise SuiteError(
        f"There is no suite {reference!r}: {did_you_mean(reference, shipped)}. "
        "Your own suite is given as a path that ends in .toml; write one with: toolkit init NAME.toml"
    )


def load_config(path: Path) -> SuiteConfig:
    """Read and check a suite file.

    Raises:
        SuiteError: With file, line (where it can be had), field and what is allowed, one line a mistake.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise SuiteError(f"The suite file {path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise SuiteError(f"The suite file {path} is not UTF-8 text (byte {error.start}). Save it as UTF-8.") from None
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path} is not valid TOML: {error}.") from None
    try:
        return SuiteConfig.model_validate(document)
    except ValidationError as error:
        mistakes = [_explain(path, text, dict(detail)) for detail in error.errors(include_url=False)]
        raise SuiteError("\n".join(mistakes)) from None


def recorded_config(text: str) -> SuiteConfig:
    """Read back a suite as a cache has recorded it.

    Raises:
        CacheError: It names something that this version of the toolkit does not know.
    """
    try:
        return SuiteConfig.model_validate_json(text)
    except ValidationError as error:
        unknown = ", ".join(dict.fromkeys(".".join(map(str, detail["loc"])) for detail in error.errors(include_url=False)))
        raise CacheError(
            f"The cache has a suite that this version of the toolkit does not understand ({unknown}); most likely a newer one "
            "recorded it. Update the toolkit: python -m pip install --upgrade hierrouter-toolkit"
        ) from None


def _explain(path: Path, text: str, detail: dict[str, Any]) -> str:
    loc = tuple(detail["loc"])
    line = _line_of(text, loc)
    place = f"{path}:{line}" if line else str(path)
    field = ".".join(f"[{part + 1}]" if isinstance(part, int) else str(part) for part in loc).replace(".[", "[")
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = f"unknown field; {did_you_mean(str(loc[-1]), _fields_at(loc[:-1]))}"
    elif detail["type"] == "missing":
        message = "this field is required"
    given = detail.get("input")
    shown = (
        f" (given: {given!r})" if isinstance(given, str | int | float | bool) and detail["type"] != "extra_forbidden" else ""
    )
    return f"{place}: {field + ': ' if field else ''}{message[0].lower() + message[1:]}{shown}"


def _fields_at(loc: tuple[str | int, ...]) -> list[str]:
    schema = SuiteConfig.model_json_schema()
    here: dict[str, Any] = schema
    for part in loc:
        here = here["items"] if isinstance(part, int) else here["properties"][part]
        here = schema["$defs"][here["$ref"].rsplit("/", 1)[1]] if "$ref" in here else here
    return list(here.get("properties", {}))


def _line_of(text: str, loc: tuple[str | int, ...]) -> int | None:
    """Find the line of a field in TOML text; the header of its table where the field is not written."""
    lines = text.splitlines()
    names = [part for part in loc if isinstance(part, str)]
    counts = [part for part in loc if isinstance(part, int)]
    header, start = "", 0
    for depth in range(len(names), 0, -1):
        prefix = re.escape(".".join(names[:depth]))
        found = [n for n, line in enumerate(lines) if re.match(rf"\s*\[\[?\s*{prefix}\s*\]\]?", line)]
        if found:
            index = counts[0] if counts and lines[found[0]].lstrip().startswith("[[") and depth == 1 else 0
            start = found[min(index, len(found) - 1)] + 1
            header = ".".join(names[:depth])
            names = names[depth:]
            break
    for number, line in enumerate(lines[start:], start + 1):
        if names and re.match(rf"\s*\"?{re.escape(names[-1])}\"?\s*=", line):
            return number
        if line.lstrip().startswith("[") and number > start and not line.lstrip().startswith(f"[[{header}."):
            break
    return start or None
