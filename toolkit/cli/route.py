"""`toolkit route`: ask a trained router a question."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.cli.common import CacheOption, Format, FormatOption, OutputOption, RunsDirOption, app
from toolkit.cli.open_live import AlphaOption, ResidentOption, RunArgument, open_live
from toolkit.cli.open_router import TrustOption
from toolkit.cli.terminal import note
from toolkit.core.errors import SuiteError

if TYPE_CHECKING:
    from toolkit.live import LivePool
    from toolkit.routing.route import Hop, Route
    from toolkit.routing.router import Router

FAILED = 3
"""Exit code if a question has no route, because a model did not respond."""
QUESTIONS_AT_ONCE = 64
"""Questions of a file that are routed side by side."""


@app.command()
def route(
    run: RunArgument,
    question: Annotated[
        str | None, typer.Argument(help="The question, as the models get it. Default: stdin.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="A file with a question on each line; .jsonl: a text, or an object with a field `question`, on each.",
            show_default=False,
        ),
    ] = None,
    interactive: Annotated[bool, typer.Option("--interactive", help="Ask for one question after the other.")] = False,
    cache: CacheOption = None,
    runs_dir: RunsDirOption = Path("runs"),
    alpha: AlphaOption = None,
    resident: ResidentOption = None,
    trust: TrustOption = False,
    format: FormatOption = Format.TABLE,
    output: OutputOption = None,
) -> None:
    """Route a question: the trained router decides hop by hop, and the suite's models respond.

    Every response goes into the cache, where `toolkit generate` would put it: asking again generates nothing. Exit code 3 if a
    model did not respond.

    Example: toolkit route quickstart "Words: girl, land, bed. Task: take word 3 - 1"

    Example: toolkit route quickstart --file questions.txt --format json
    """
    if sum((question is not None, file is not None, interactive)) > 1:
        raise SuiteError("Give a question, --file FILE or --interactive: one of them.")
    if interactive and (format != Format.TABLE or output):
        raise SuiteError("--interactive shows routes on the terminal. Leave --format and --output out, or --interactive.")
    questions = [] if interactive else _questions(question, file)
    router, pool = open_live(run, cache, runs_dir, alpha, resident, trust)
    with pool:
        if interactive:
            _converse(router, pool, alpha)
        elif len(questions) == 1 and format == Format.TABLE and not output:
            _show(router, pool, alpha, questions[0])
        else:
            _route_all(router, pool, alpha, questions, format, output)


def _questions(question: str | None, file: Path | None) -> list[str]:
    """Return the questions to route: the one of the command line, those of a file, or all of stdin as one.

    Raises:
        SuiteError: There is none, or a line of a file is none.
    """
    if question is None and not file:
        if sys.stdin.isatty():
            note("Type the question; end with Ctrl-D.")
        question = sys.stdin.read().removesuffix("\n")
    questions = list(_lines(file)) if file else [question or ""]
    if not questions or not all(text.strip() for text in questions):
        raise SuiteError('There is no question, or an empty one. Give one: toolkit route RUN "QUESTION"')
    return questions


def _lines(file: Path) -> Iterator[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SuiteError(
            f"The questions in {file} cannot be read: {reason}. Name a text file with one question on each line."
        ) from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _question_of(line, f"{file}, line {number}") if file.suffix == ".jsonl" else line


def _question_of(line: str, place: str) -> str:
    """Return the question on a line of JSON.

    Raises:
        SuiteError: There is none.
    """
    try:
        value = json.loads(line)
    except ValueError:
        value = None
    text = value.get("question") if isinstance(value, dict) else value
    if not isinstance(text, str) or not text.strip():
        raise SuiteError(f'{place} is neither a text nor an object with a text at "question". Correct that line.')
    return text


def _show(router: "Router", pool: "LivePool", alpha: float | None, question: str) -> None:
    """Route a question and show each hop when it is there.

    Raises:
        Exit: A model did not respond.
    """
    from toolkit.report.route import render_end, render_hop
    from toolkit.routing.route import run

    hops = []

    def report(_: int, hop: "Hop") -> None:
        hops.append(hop)
        typer.echo(render_hop(len(hops), hop))

    [result] = run(router, [question], pool, alpha, report)
    if isinstance(result, Exception):
        note(f"Error: {result}")
        raise typer.Exit(FAILED)
    typer.echo(render_end(result))


def _route_all(
    router: "Router", pool: "LivePool", alpha: float | None, questions: list[str], format: Format, output: Path | None
) -> None:
    """Route questions side by side, and show or write them in their order.

    Raises:
        Exit: A model did not respond to one of them.
    """
    from toolkit.report.route import render, route_row
    from toolkit.report.tables import write
    from toolkit.routing.route import run

    results: list[Route | Exception] = []
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        part = questions[start : start + QUESTIONS_AT_ONCE]
        routed = run(router, part, pool, alpha)
        results += routed
        if format == Format.TABLE and not output:
            for text, result in zip(part, routed, strict=True):
                typer.echo(f"{text}\n{f'Error: {result}' if isinstance(result, Exception) else render(result)}\n")
    if format != Format.TABLE or output:
        write([route_row(text, result) for text, result in zip(questions, results, strict=True)], format, output)
    failed = sum(isinstance(result, Exception) for result in results)
    if failed:
        note(f"{failed} of {len(results)} questions have no route.")
        raise typer.Exit(FAILED)


def _converse(router: "Router", pool: "LivePool", alpha: float | None) -> None:
    """Route what the user types, until the input ends; each question stands for itself."""
    import contextlib

    note("One question per line; end with Ctrl-D.")
    while True:
        if sys.stdin.isatty():
            typer.echo("> ", err=True, nl=False)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            with contextlib.suppress(typer.Exit):  # a model did not respond; the next question may do better
                _show(router, pool, alpha, line.rstrip("\n"))
