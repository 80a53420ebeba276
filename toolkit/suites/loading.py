"""Finds and reads suite files, and reports every mistake in one: file, line, field, and what is allowed."""

import json
import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from toolkit.core.commands import command
from toolkit.core.errors import CacheError, SuiteError, did_you_mean
from toolkit.core.registry import ENGINE_SETTINGS
from toolkit.suites.config import SuiteConfig
from toolkit.suites.section import RECORDED, ExtensibleSection, message_of

Loc = tuple[int | str, ...]
"""Where a field is: names of tables and fields, and positions in arrays of tables."""


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
        raise SuiteError(f"There is no suite file {reference}. Write one with: {command('init', reference)}")
    shipped = shipped_suites()
    if reference in shipped:
        return shipped[reference]
    raise SuiteError(
        f"There is no suite {reference!r}: {did_you_mean(reference, shipped)}. "
        "Give your own suite as a path that ends in .toml; write one with: toolkit init NAME.toml"
    )


def load_config(path: Path) -> SuiteConfig:
    """Read and validate a suite file.

    Raises:
        SuiteError: One line for each mistake, with file, line (if known), field and what is allowed.
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
        lines = [_explain(path, text, dict(detail)) for detail in error.errors(include_url=False)]
        raise SuiteError("\n".join(lines)) from None


def recorded_config(text: str) -> SuiteConfig:
    """Read back a suite as a cache recorded it; engines, algorithms and benchmarks of packages need not be installed.

    Raises:
        CacheError: It has a field that this version of the toolkit does not know.
    """
    document = json.loads(text)
    engine = document.get("engine", {})
    document["engine"] = {name: value for name, value in engine.items() if not _is_default_table(name, value)}
    try:
        return SuiteConfig.model_validate(document, context=RECORDED)
    except ValidationError as error:
        unknown = ", ".join(dict.fromkeys(".".join(map(str, detail["loc"])) for detail in error.errors(include_url=False)))
        raise CacheError(
            f"The cache has a suite that this version of the toolkit does not understand ({unknown}); most likely a newer one "
            "recorded it. Update the toolkit: git pull in its clone, or install the newest release."
        ) from None


def _is_default_table(name: str, value: object) -> bool:
    """Return whether an `[engine.NAME]` table has defaults only: version 0.1 recorded these tables of every suite."""
    if not isinstance(value, dict) or name not in ENGINE_SETTINGS:
        return False
    try:
        return bool(ENGINE_SETTINGS[name].model_validate(value) == ENGINE_SETTINGS[name]())
    except ValidationError:
        return False


def _explain(path: Path, text: str, detail: dict[str, Any]) -> str:
    loc: Loc = detail["loc"]
    line = _line_of(text, loc)
    place = f"{path}:{line}" if line else str(path)
    field = ".".join(f"[{part + 1}]" if isinstance(part, int) else part for part in loc).replace(".[", "[")
    is_unknown = detail["type"] == "extra_forbidden"
    message = message_of(detail["type"], detail["msg"], loc, _fields_at(loc[:-1]) if is_unknown else ())
    value = detail.get("input")
    shown = f" (given: {value!r})" if isinstance(value, str | int | float | bool) and not is_unknown else ""
    return f"{place}: {field + ': ' if field else ''}{message}{shown}"


def _fields_at(loc: Loc) -> list[str]:
    """Return the fields and tables that a table of the suite file may have."""
    section: type[BaseModel] = SuiteConfig
    for name in loc:
        if isinstance(name, int):
            continue
        if name in section.model_fields:
            section = _section_of(section.model_fields[name].annotation)
        elif issubclass(section, ExtensibleSection):
            section = section.extensions()[name]
    further = section.extensions() if issubclass(section, ExtensibleSection) else ()
    return [*section.model_fields, *further]


def _section_of(annotation: Any) -> type[BaseModel]:
    """Return the model in the type of a field, such as `tuple[ModelConfig, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return _section_of(annotation.__args__[0])


def _line_of(text: str, loc: Loc) -> int | None:
    """Find the line of a field in TOML text, or of the header of its table if the field is not there."""
    lines = text.splitlines()
    names = [part for part in loc if isinstance(part, str)]
    positions = [part for part in loc if isinstance(part, int)]
    header, start = "", 0
    for depth in range(len(names), 0, -1):
        prefix = re.escape(".".join(names[:depth]))
        headers = [n for n, line in enumerate(lines) if re.match(rf"\s*\[\[?\s*{prefix}\s*\]\]?", line)]
        if headers:
            is_array = lines[headers[0]].lstrip().startswith("[[") and depth == 1
            start = headers[min(positions[0] if positions and is_array else 0, len(headers) - 1)] + 1
            header = ".".join(names[:depth])
            names = names[depth:]
            break
    for number, line in enumerate(lines[start:], start + 1):
        if names and re.match(rf"\s*\"?{re.escape(names[-1])}\"?\s*=", line):
            return number
        if line.lstrip().startswith("[") and number > start and not line.lstrip().startswith(f"[[{header}."):
            break
    return start or None
