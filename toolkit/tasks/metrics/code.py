"""The metric for programs: extract the program from a response and run its tests in a sandbox."""

import ast
import re
import textwrap
import warnings

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
    return any(re.search(rf"^\s*(?:async\s+def|def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) for name in names)


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
    for begin, end in [(0, len(lines)), *((first, last) for last in range(len(lines), first, -1))]:
        text = "\n".join(lines[begin:end])
        if _parses(text):
            return text
    return code


def _parses(code: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # escapes such as "\\w"
        try:
            ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return True


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


PASS_AT_1 = Metric("pass_at_1", 1, pass_at_1, runs_code=True, needs="tests")
