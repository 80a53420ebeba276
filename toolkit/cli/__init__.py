"""The command line: parse, call, print. What is printed for programs goes to stdout, everything else to stderr."""

import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from toolkit.cli import (
    benchmarks,
    cache,
    evaluate,
    export,
    generate,
    import_,
    init,
    plan,
    profile,
    schema,
    score,
    show,
    sql,
    status,
    sweep,
    train,
    verify,
)
from toolkit.core.errors import ToolkitError

app = typer.Typer(
    name="toolkit",
    help="Cache every answer of a pool of language models once; train and evaluate routers over them in seconds.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    init.init,
    benchmarks.benchmarks,
    plan.plan,
    profile.profile,
    generate.generate,
    status.status,
    train.train,
    evaluate.evaluate,
    sweep.sweep,
    show.show,
    sql.sql,
    schema.schema,
    score.score,
    verify.verify,
    export.export,
):
    app.command()(command)
app.command("import")(import_.import_)
app.add_typer(cache.app, name="cache")


def commands() -> dict[str, Callable[..., Any]]:
    """Return every command by the words it is called with, those of groups included."""
    found = {}
    for prefix, level in (("", app), *((f"{group.name} ", group.typer_instance) for group in app.registered_groups)):
        for known in level.registered_commands if level else ():
            assert known.callback
            found[prefix + (known.name or known.callback.__name__)] = known.callback
    return found


@app.callback(invoke_without_command=True)
def root(context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    """Cache every answer of a pool of language models once; train and evaluate routers over them in seconds."""
    if version:
        from toolkit import __version__

        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one paragraph and exit code 2, never a traceback."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("toolkit").setLevel(logging.INFO)
    try:
        app()
    except ToolkitError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe, such as head, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
