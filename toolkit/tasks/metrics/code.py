"""The metric for programs: extract the program from a response and run its tests in a sandbox."""

import ast
import re
import textwrap
import warnings
from collections.abc import Sequence

from toolkit.tasks import sandbox
from toolkit.tasks.metrics.base import Metric, Reference, Score
from toolkit.tasks.sandbox import Checks

_BLOCK = re.compile(r"```(?:[Pp]ython3?|py)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE_LINE = re.compile(r"(?:def|class|import|from|@|async def)\b|@")


def program(response: str, tests: Checks) -> str:
    """Extract the program from a response: the code block that defines what the tests use, or the code around it.

    If nothing defines that, the code is read as the body of the function that the tests' setup (the prompt) begins.
    """
    blocks = [block.strip("\n") for block in _BLOCK.findall(response)] or [response]
    defining = [block for block in blocks if _defines(block, tests.names)]
    if defining:
        return f"{tests.setup}\n{_parsable(defining[-1])}\n"
    if _defines(tests.setup, tests.names):
        return f"{tests.setup}{_function_body(blocks[0])}\n"
    return f"{tests.setup}\n{_parsable(blocks[-1])}\n"


def _defines(code: str, names: tuple[str, ...]) -> bool:
    return any(re.search(rf"^[^\S\n]*(?:async\s+def|def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) for name in names)


def _function_body(block: str) -> str:
    """Indent a block as a function body, up to its first line outside the function."""
    if block.lstrip("\n")[:1].isspace():
        body = block.strip("\n").splitlines()
    else:
        lines = textwrap.dedent(block).strip("\n").splitlines()
        is_bare_header = bool(lines) and lines[0].rstrip().endswith(":") and not any(line[:1].isspace() for line in lines[1:])
        body = [f"    {line}" for line in (lines[:1] if is_bare_header else lines)]
    end = next((n for n, line in enumerate(body) if n and line.strip() and not line[:1].isspace()), len(body))
    return "\n".join(body[:end])


def _parsable(code: str) -> str:
    """Cut off prose before and after the code, if that leaves something that parses."""
    lines = textwrap.dedent(code).splitlines()
    first = next((n for n, line in enumerate(lines) if _CODE_LINE.match(line)), 0)
    if _syntax_error(lines) is None:
        return "\n".join(lines)
    block = lines[first:]
    while block:
        error = _syntax_error(block)
        if error is None:
            return "\n".join(block)
        end = next((n for n in range(len(block), 0, -1) if not _is_blank(block[n - 1])), 1)
        block = block[: min(end, error) - 1]  # what ends behind the error, or in blank lines behind it, does not parse either
    return code


def _is_blank(line: str) -> bool:
    return line.strip().partition("#")[0] == ""


def _syntax_error(lines: Sequence[str]) -> int | None:
    """Return the line, counted from 1, of the first syntax error, or of none in particular the last; None if there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes such as "\\w"
        try:
            ast.parse("\n".join(lines))
        except SyntaxError as error:
            return max(error.lineno or len(lines), 1)
        except (ValueError, RecursionError, MemoryError):
            return len(lines)
    return None


def pass_at_1(response: str, reference: Reference, mode: sandbox.Mode = "off") -> Score:
    """Score 1 if the program in the response passes the tests, run in a sandbox (pass@1 of one response).

    Raises:
        SandboxError: Running code is off, or the code cannot be isolated.
    """
    if reference.tests is None:
        return Score(0.0, None, {"verdict": "failed", "reason": "this question has no tests"})
    code = program(response, reference.tests)
    return judged(code, sandbox.run(code, reference.tests, mode))


def judged(code: str, verdict: sandbox.Verdict) -> Score:
    """Return the score of a program, given the verdict on it."""
    return Score(float(verdict.word == "passed"), code, {"verdict": verdict.word, "reason": verdict.reason})


PASS_AT_1 = Metric("pass_at_1", 2, pass_at_1, runs_code=True, needs="tests")
