"""The files that commands name: caches by name or path, and outputs, which never overwrite what is there."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import typer

from toolkit.core.commands import command
from toolkit.core.errors import CacheError
from toolkit.core.files import kind_of
from toolkit.core.workspace import cache_folder

ForceOption = Annotated[
    bool, typer.Option("--force", help="Overwrite the file of --output if it exists.", is_eager=True)
]  # eager: known when --output is checked

Function = TypeVar("Function", bound=Callable[..., Any])


def output_file(context: typer.Context, path: Path | None) -> Path | None:
    """Check the file of `--output` when the command line is parsed, before any work starts."""
    if path is not None:
        from toolkit.report.output import check_output

        check_output(path, overwrite=bool(context.params.get("force")))
    return path


def with_force(function: Function) -> Function:
    """Add `--force` to a command that has `--output`; its value goes to `output_file`."""
    signature = inspect.signature(function)
    if "output" not in signature.parameters or "force" in signature.parameters:
        return function

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        arguments.pop("force")
        return function(**arguments)

    force = inspect.Parameter("force", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=ForceOption)
    call.__annotations__ = function.__annotations__ | {"force": ForceOption}
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), force])  # type: ignore[attr-defined]
    return cast(Function, call)


def cache_file(cache: Path | None) -> Path | None:
    """Return the file of a cache that the user gives by path, or by name: `mini` is `cache/mini.duckdb`.

    A name has no separator and no suffix; a file of that name in the current folder comes first, but a folder does not.
    """
    if cache is None or str(cache) != cache.name or not cache.name or kind_of(cache) not in ("nothing", "a folder"):
        return cache
    named = cache_folder() / f"{cache}.duckdb"
    is_name = not cache.suffix and kind_of(cache) == "nothing"
    return named if is_name or kind_of(named) == "a file" else cache


def existing_cache(cache: Path) -> Path:
    """Return the file of a cache that has to exist.

    Raises:
        CacheError: There is neither such a file nor a cache of that name.
    """
    file = cache_file(cache) or cache
    kind = kind_of(file)
    if kind not in ("a file", "nothing"):
        raise CacheError(f"{file} is {kind}, not a cache. Name another file.")
    if kind == "nothing":
        beside = f", nor a file {file.stem}" if file == cache_folder() / f"{file.stem}.duckdb" else ""
        listing, making = command("cache", "list"), command("generate", "SUITE", cache=file)
        remedy = f"list the caches: {listing}" if cache_folder().is_dir() else f"make one: {making}"
        raise CacheError(f"There is no cache {file}{beside}. To {remedy}")
    return file
