"""The command line: parses, calls and renders. Rows for programs go to stdout, progress and notes to stderr.

To add a command, write a file whose function registers itself with `@app.command()`, and import that file below.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import typer

# isort: off
from toolkit.cli import (  # noqa: F401 - each module registers its command; help lists them in this order
    init,
    benchmarks,
    plan,
    profile,
    generate,
    status,
    train,
    evaluate,
    sweep,
    show,
    sql,
    schema,
    score,
    verify,
    export,
    import_,
    cache,
)

# isort: on
from toolkit.cli.common import app
from toolkit.core.errors import ToolkitError

__all__ = ["app", "commands", "main"]


def commands() -> dict[str, Callable[..., Any]]:
    """Return every command by the words that call it, those of groups included."""
    levels = {"": app} | {f"{group.name} ": group.typer_instance for group in app.registered_groups if group.typer_instance}
    return {
        prefix + (command.name or command.callback.__name__): command.callback
        for prefix, level in levels.items()
        for command in level.registered_commands
        if command.callback
    }


@app.callback(invoke_without_command=True)
def root(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Cache every response of a pool of language models once; train and evaluate routers over them in seconds."""
    if version:
        from toolkit import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one paragraph and exit code 2, never a traceback."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("toolkit").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except ToolkitError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the command as Ctrl-C does, so that it cleans up after itself."""
    raise KeyboardInterrupt
