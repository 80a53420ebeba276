"""Finds and reads suite files, and reports every mistake in one: file, line, field, and what is allowed."""

import json
import os
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from toolkit.core.commands import command
from toolkit.core.errors import BenchmarkError, CacheError, SuiteError, did_you_mean
from toolkit.core.registry import ENGINE_SETTINGS
from toolkit.core.text import printable
from toolkit.suites.config import SuiteConfig
from toolkit.suites.lines import Loc, line_of
from toolkit.suites.section import RECORDED, ExtensibleSection, message_of
from toolkit.tasks.formats import decode

MAX_SHOWN = 80
"""Characters of a value that a message shows."""
MAX_MESSAGE = 1000
"""Characters of a message, which may quote a long name."""


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
        if os.path.isfile(path):  # False, where pathlib raises: no permission, or a name that is too long
            return path
        if os.path.exists(path) or not reference.endswith(".toml"):
            raise SuiteError(f"{printable(reference)} is not a suite file: a suite is a file whose name ends in .toml.")
        remedy = f"Write one with: {command('init', reference)}"
        raise SuiteError(printable(f"There is no suite file {reference}. {remedy}"))
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
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SuiteError(f"{path} is not valid TOML: {_toml_message(error)}.") from None
    except RecursionError:
        raise SuiteError(f"{path} is nested too deeply.") from None
    except ValueError as error:  # a number of thousands of digits
        raise SuiteError(f"{path} is not valid TOML: {error}.") from None
    try:
        return SuiteConfig.model_validate(_with_tuples(document), strict=True)
    except RecursionError:
        raise SuiteError(f"{path} is nested too deeply for a suite.") from None
    except ValidationError as error:
        mistakes = [_explain(path, text, dict(detail)) for detail in error.errors(include_url=False)]
        raise SuiteError("\n".join(message for _, message in sorted(mistakes, key=lambda mistake: mistake[0]))) from None


def _read(path: Path) -> str:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SuiteError(f"The suite file {path} cannot be read: {reason}.") from None
    try:
        text = decode(content, f"The suite file {path}")
    except BenchmarkError as error:
        raise SuiteError(str(error)) from None
    if not text.strip():
        raise SuiteError(f"The suite file {path} is empty. To start from a commented one: toolkit init NAME.toml")
    return text


def _toml_message(error: tomllib.TOMLDecodeError) -> str:
    message = printable(str(error))
    if "overwrite a value" in message or "Cannot declare" in message:
        return f"{message}: this key or table is written twice"
    return message


def _with_tuples(value: Any) -> Any:
    """Return a document with tuples for lists: strictly, only a tuple is a tuple, as only a number is a number."""
    if isinstance(value, list):
        return tuple(map(_with_tuples, value))
    return {name: _with_tuples(item) for name, item in value.items()} if isinstance(value, dict) else value


def recorded_config(text: str) -> SuiteConfig:
    """Read back a suite as a cache recorded it; engines, algorithms and benchmarks of packages need not be installed.

    Raises:
        CacheError: It has a field that this version of the toolkit does not know.
    """
    try:
        document = json.loads(text)
        engine = document.get("engine", {})
        document["engine"] = {name: value for name, value in engine.items() if not _is_default_table(name, value)}
        document["train"] = _todays_training(document.get("train", {}))
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise CacheError("The cache has a damaged suite: its settings are not a JSON object.") from None
    try:
        return SuiteConfig.model_validate(document, context=RECORDED)
    except ValidationError as error:
        unknown = ", ".join(dict.fromkeys(".".join(map(str, detail["loc"])) for detail in error.errors(include_url=False)))
        raise CacheError(
            f"The cache has a suite that this version of the toolkit does not understand ({unknown}); most likely a newer one "
            "recorded it. Update the toolkit: git pull in its clone, or install the newest release."
        ) from None


def _todays_training(train: dict[str, Any]) -> dict[str, Any]:
    """Return training settings that version 0.1 may have recorded under the names of today's."""
    train = dict(train)
    if "per_hop" in train:
        train["first_layer"] = "hop" if train.pop("per_hop") else "shared"
    exact = dict(train.get("exact", {}))
    if "patience" in exact:
        train |= {"patience": exact.pop("patience"), "exact": exact}
    return train


def _is_default_table(name: str, value: object) -> bool:
    """Return whether an `[engine.NAME]` table has defaults only: version 0.1 recorded these tables of every suite."""
    if not isinstance(value, dict) or name not in ENGINE_SETTINGS:
        return False
    try:
        return bool(ENGINE_SETTINGS[name].model_validate(value) == ENGINE_SETTINGS[name]())
    except ValidationError:
        return False


def _explain(path: Path, text: str, detail: dict[str, Any]) -> tuple[int, str]:
    """Return the line of a mistake (0 if it is about the whole file), and what a user should read about it."""
    loc: Loc = detail["loc"]
    line = line_of(text, loc)
    place = f"{path}:{line}" if line else str(path)
    field = ".".join(f"[{part + 1}]" if isinstance(part, int) else part for part in loc).replace(".[", "[")
    is_unknown = detail["type"] == "extra_forbidden"
    message = message_of(detail["type"], detail["msg"], loc, _fields_at(loc[:-1]) if is_unknown else ())
    value = detail.get("input")
    is_shown = isinstance(value, str | int | float | bool) and not is_unknown
    shown = f" (given: {repr(value)[:MAX_SHOWN]})" if is_shown else ""
    return line or 0, printable(f"{place}: {f'{field:.{MAX_MESSAGE}}: ' if field else ''}{message:.{MAX_MESSAGE}}{shown}")


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
