"""`toolkit init`: write a commented suite file."""

import errno
import os
import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import app
from toolkit.cli.completion import complete_shipped
from toolkit.core.commands import command
from toolkit.core.errors import SuiteError
from toolkit.core.files import atomic_path
from toolkit.core.text import printable


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="The file to write, NAME.toml.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Copy a shipped suite, such as quickstart, instead of the template.",
            show_default=False,
            autocompletion=complete_shipped,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a commented suite file to start from. An existing file stays as it is.

    Example: toolkit init mine.toml

    Example: toolkit init mine.toml --from quickstart
    """
    from toolkit.suites.copying import suite_text
    from toolkit.suites.fields import check_suite_name

    if path.suffix != ".toml":
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.")[:60] or "mine"
        raise SuiteError(f"A suite file ends in .toml: {command('init', path.with_name(f'{name}.toml'))}")
    try:
        check_suite_name(path.stem)
    except ValueError as error:
        raise SuiteError(f"The file's name is the suite's name, and {path.stem!r} cannot be one: {error}.") from None
    text = suite_text(path.stem, source)
    if os.path.exists(path) and not (force and path.is_file()):
        remedy = (
            f"Choose another name, or replace it: {command('init', path, '--force')}" if path.is_file() else "It is a folder."
        )
        raise SuiteError(f"{printable(str(path))} exists already and is unchanged. {remedy}")
    try:
        with atomic_path(path, overwrite=force) as draft:
            draft.write_text(text, "utf-8")
    except OSError as error:
        folder = (
            ""
            if os.path.isdir(path.parent) or error.errno != errno.ENOENT
            else f" Its folder does not exist: mkdir -p {shlex.quote(str(path.parent))}"
        )
        raise SuiteError(f"{printable(str(path))} cannot be written: {error.strerror}.{folder}") from None
    typer.echo(printable(f"Wrote {path}. To see what it would generate: {command('plan', path)}"))
