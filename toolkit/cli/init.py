"""`toolkit init`: write a commented suite file."""

from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from toolkit.cli.common import app
from toolkit.core.commands import command
from toolkit.core.errors import SuiteError


@app.command()
def init(path: Annotated[Path, typer.Argument(help="The file to write, NAME.toml. It must not exist.")]) -> None:
    """Write a commented suite file to start from.

    Example: toolkit init mine.toml
    """
    import re

    from toolkit.suites.config import NAME

    if path.suffix != ".toml":
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "mine"
        raise SuiteError(f"A suite file ends in .toml: {command('init', path.with_name(f'{name}.toml'))}")
    if not re.fullmatch(NAME, path.stem):
        raise SuiteError(f"A suite's name consists of letters, digits, dots, dashes and underscores; {path.stem!r} does not.")
    template = (resources.files("toolkit.suites") / "template.toml").read_text("utf-8")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.replace("@SUITE@", path.stem))
    except FileExistsError:
        raise SuiteError(f"{path} exists already and is unchanged. Choose another name.") from None
    except OSError as error:
        raise SuiteError(f"{path} cannot be written: {error.strerror}. Does its folder exist?") from None
    typer.echo(f"Wrote {path}. To see what it would generate: {command('plan', path)}")
