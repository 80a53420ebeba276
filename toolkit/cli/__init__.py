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
    runs,
    report,
    route,
    serve,
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
from toolkit.cli.common import STOPPED, app
from toolkit.cli.terminal import OnceFilter, PrintableFormatter, error, guard_terminal, set_verbosity
from toolkit.core.cpus import share_cpus
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
def root(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
    quiet: bool = typer.Option(False, "-q", "--quiet", help="Show results and errors alone: no notes, no progress."),
    verbose: bool = typer.Option(False, "-v", "--verbose", help="Also show the log for debugging, on stderr."),
) -> None:
    """Cache every response of a pool of language models once; train and evaluate routers over them in seconds."""
    if quiet and verbose:
        raise typer.BadParameter("-q and -v contradict each other. Leave one out.")
    set_verbosity(quiet, verbose)
    if version:
        from toolkit import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one paragraph and exit code 2, never a traceback."""
    guard_terminal()
    share_cpus(os.environ)  # before a command loads the libraries that read it
    signal.signal(signal.SIGTERM, _interrupt)
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    handler.addFilter(OnceFilter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("toolkit").setLevel(logging.INFO)
    sys.exit(_run())  # outside any handler: an error that is still alive at the end keeps DuckDB's objects, which then complain


def _run() -> int:
    """Run the command and return its exit code."""
    try:
        app()
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except ToolkitError as failure:
        error(f"Error: {failure}")
        return 2
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as failure:
        if not failure.filename:
            raise
        error(f"Error: {failure.filename} cannot be used: {failure.strerror}. Does it exist, and may you read and write it?")
        return 2
    except KeyboardInterrupt:
        error("Interrupted.")
        return STOPPED


def _interrupt(number: int, frame: FrameType | None) -> None:
    """End the command as Ctrl-C does, so that drafts are deleted and transactions rolled back."""
    raise KeyboardInterrupt
