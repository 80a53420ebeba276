"""`toolkit init`: write a commented suite file."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from toolkit.core.errors import SuiteError


def init(path: Annotated[Path, typer.Argument(help="The file to write, NAME.toml; never overwritten.")]) -> None:
    """Write a commented suite file to start from.

    Example: toolkit init mine.toml
    """
    import re

    from toolkit.suites.config import NAME

    if path.suffix != ".toml":
        raise SuiteError(f"A suite file ends in .toml: toolkit init {path.stem}.toml")
    if not re.fullmatch(NAME, path.stem):
        raise SuiteError(f"A suite's name is made of letters, digits, dots, dashes and underscores; {path.stem!r} is not.")
    template = (resources.files("toolkit.suites") / "template.toml").read_text("utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.replace("@SUITE@", path.stem))
    except FileExistsError:
        raise SuiteError(f"{path} is there already and is left as it is. Choose another name.") from None
    except OSError as error:
        raise SuiteError(f"{path} cannot be written: {error.strerror}.") from None
    typer.echo(f"Wrote {path}. What it would generate: toolkit plan {path}")
