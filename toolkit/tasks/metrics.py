"""Metrics: one response against one reference, a value in [0, 1] (pure, but for the one that runs code).

A metric has a version: change what it returns for any input and the version goes up, so that cached scores of
the old one stay what they are. Normalisation follows the SQuAD v1.1 evaluation script.
"""

import ast
import re
import string
import textwrap
import threading
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Self

from toolkit.tasks import sandbox
from toolkit.tasks.sandbox import Checks


@dataclass(frozen=True)
class Reference:
    """What a response is compared with.

    Attributes:
        answers: Accepted answers, any of which counts. For choices, the text of the right one.
        choices: All choices in the order shown (A, B, ...); empty where there are none.
        tests: What model-written code has to pass, for code.
    """

    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    tests: Checks | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what a cache keeps."""
        kept: dict[str, Any] = {"answers": self.answers, "choices": self.choices}
        return kept | ({"tests": self.tests._asdict()} if self.tests else {})

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Self:
        """Read back what `to_json` wrote."""
        tests = kept.get("tests")
        names = {"names": tuple(tests["names"])} if tests else {}
        return cls(tuple(kept["answers"]), tuple(kept["choices"]), Checks(**(tests | names)) if tests else None)


@dataclass(frozen=True)
class Score:
    """The value of one metric for one response, in [0, 1], what was read out of the response, and what else there is to say."""

    value: float
    extracted: str | None
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A named, versioned scorer; `runs_code` says that it needs a sandbox (see `toolkit.generation.scoring`).

    `needs` is what a question must have for the metric to mean anything, beside an answer.
    """

    name: str
    version: int
    score: Callable[[str, Reference], Score]
    runs_code: bool = False
    needs: Literal["choices", "tests"] | None = None

    def applies(self, reference: Reference) -> bool:
        """Tell whether a question has what the metric needs."""
        return self.needs is None or bool(getattr(reference, self.needs))

    @property
    def label(self) -> str:
        """Name and version as kept beside every score, e.g. `token_f1@1`."""
        return f"{self.name}@{self.version}"


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARKER = re.compile(r"(?:final answer|answer)\s*(?:is)?\s*[:=]\s*", re.IGNORECASE)
_NUMBER = re.compile(r"(?:(?<![\w)])[-\u2212])?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?|\.\d+)")
_LETTER = re.compile(r"^[^\w\n]*([A-Z])(?:[.):,\]]|[^\S\n]*$)", re.MULTILINE)
_LETTER_NAMED = re.compile(r"(?:(?:[Aa]nswer|[Oo]ption|[Cc]hoice)(?:\s+is)?\s*:?\s*\(?|\()([A-Z])(?:\)|\b)(?!')")
_BOXED = re.compile(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")
_MIXED = re.compile(r"(?<![\d./,])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])")
_BLOCK = re.compile(r"```(?:[Pp]ython3?|py)?[^\S\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_CODE_LINE = re.compile(r"(?:def|class|import|from|@|async def)\b|@")


def normalise(text: str) -> str:
    """Lower-case, drop punctuation and English articles, and collapse white space (SQuAD v1.1)."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def final_answer(response: str) -> str:
    """Return what follows the last `Answer:` on its line, or the whole response where there is no such mark."""
    marks = list(_MARKER.finditer(response))
    if not marks:
        return response.strip()
    rest = response[marks[-1].end() :].strip()
    return rest.splitlines()[0].strip() if rest else ""


def _token_f1(prediction: str, answer: str) -> float:
    predicted, expected = normalise(prediction).split(), normalise(answer).split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * shared / (len(predicted) + len(expected))


def token_f1(response: str, reference: Reference) -> Score:
    """Score the overlap of words with the closest accepted answer (SQuAD F1)."""
    prediction = final_answer(response)
    return Score(max(_token_f1(prediction, answer) for answer in reference.answers), prediction)


def exact_match(response: str, reference: Reference) -> Score:
    """Score 1 where the normalised response equals a normalised accepted answer (SQuAD EM)."""
    prediction = final_answer(response)
    return Score(float(normalise(prediction) in {normalise(answer) for answer in reference.answers}), prediction)


def parse_number(text: str) -> Fraction | None:
    """Return the last number in `text`: integer, decimal or fraction, thousands separators allowed; else None."""
    found = _NUMBER.findall(text)
    if not found:
        return None
    try:
        return Fraction(found[-1].replace(",", "").replace("\u2212", "-").replace(" ", ""))
    except ZeroDivisionError:
        return None


def numeric_match(response: str, reference: Reference) -> Score:
    r"""Score 1 where the last number of the answer equals an accepted one exactly.

    The answer is what follows `####` (GSM8K), stands in a `\boxed{}`, or follows `Answer:`; else the whole response.
    """
    number = parse_number(_plain_fractions(_numeric_answer(response)))
    hit = number is not None and number in {parse_number(_plain_fractions(answer)) for answer in reference.answers}
    return Score(float(hit), None if number is None else str(number))


def _numeric_answer(response: str) -> str:
    _, mark, rest = response.rpartition("####")
    if mark and parse_number(rest.strip().partition("\n")[0]) is not None:
        return rest.strip().partition("\n")[0]
    boxes = _BOXED.findall(response)
    return boxes[-1] if boxes else final_answer(response)


def _plain_fractions(text: str) -> str:
    """Write LaTeX fractions and thousands separators as plain text; the mixed number `1 1/2` becomes one fraction."""
    text = _FRACTION.sub(r"\1/\2", text).replace("{,}", ",").replace("\\!", "").replace("\\,", "").replace("\\$", "$")
    text = re.sub(r"([-\u2212])\s*\$\s*", r"\1", text)  # -$5

    def whole(found: re.Match[str]) -> str:
        return f"{int(found[1]) * int(found[3]) + int(found[2])}/{found[3]}" if int(found[3]) else found[0]

    return _MIXED.sub(whole, text)


def math_equal(response: str, reference: Reference) -> Score:
    """Score 1 where the answer is symbolically equal to an accepted one, as `math-verify` reads and compares them."""
    from math_verify import parse, verify

    seconds = 30 if threading.current_thread() is threading.main_thread() else None  # its timeout is a signal
    found = parse(response, parsing_timeout=seconds)
    hit = any(
        verify(parse(f"\\boxed{{{answer}}}", parsing_timeout=seconds), found, timeout_seconds=seconds)
        for answer in reference.answers
    )
    return Score(float(hit), str(found[-1]) if found else None)


def chosen(response: str, choices: tuple[str, ...]) -> int | None:
    """Return the position of the one choice that a response names, by letter, by text or by both; None if none or several."""
    answer = final_answer(response)
    bare = [choice.strip().casefold() for choice in choices]
    if bare.count(answer.casefold().removesuffix(".")) == 1:
        return bare.index(answer.casefold().removesuffix("."))
    by_text = _named(normalise(answer), [normalise(choice) for choice in choices])
    letters = string.ascii_uppercase[: len(choices)]
    found = {*_LETTER.findall(answer), *_LETTER_NAMED.findall(answer)}
    by_letter = {letters.index(letter) for letter in found if letter in letters}
    if len(by_letter) == 1:
        (position,) = by_letter
        return position if not by_text or position in by_text else None
    return next(iter(by_text)) if len(by_text) == 1 and not by_letter else None


def _named(answer: str, choices: list[str]) -> set[int]:
    """Return the choices that occur in an answer as words; one that only occurs within a longer one does not count."""
    spans = [
        (found.start(), found.end(), position)
        for position, choice in enumerate(choices)
        if choice
        for found in re.finditer(rf"(?<!\w){re.escape(choice)}(?!\w)", answer)
    ]
    return {
        position
        for start, end, position in spans
        if not any(a <= start and end <= b and (b - a) > (end - start) for a, b, _ in spans)
    }


def choice_match(response: str, reference: Reference) -> Score:
    """Score 1 where the response names the right choice, and only that, by letter or by text."""
    position = chosen(response, reference.choices)
    if position is None:
        return Score(0.0, None)
    return Score(float(reference.choices[position] in reference.answers), reference.choices[position])


def truthful(response: str, reference: Reference) -> Score:
    """Score 1 where the answer overlaps more with an accepted answer than with any other choice (TruthfulQA, SQuAD F1)."""
    prediction = final_answer(response)
    false = [choice for choice in reference.choices if choice not in reference.answers]
    best = max(_token_f1(prediction, answer) for answer in reference.answers)
    return Score(float(best > max((_token_f1(prediction, choice) for choice in false), default=0.0)), prediction)


def program(response: str, tests: Checks) -> str:
    """Read the program out of a response: the code block that defines what the tests ask for, or the code around it.

    Where nothing defines that, the code is taken for the body of the function that the tests' setup (the prompt) begins.
    """
    blocks = [block.strip("\n") for block in _BLOCK.findall(response)] or [response]
    defining = [block for block in blocks if _defines(block, tests.names)]
    if defining:
        return f"{tests.setup}\n{_parsable(defining[-1])}\n"
    if _defines(tests.setup, tests.names):
        lines = textwrap.dedent(blocks[0]).strip("\n").splitlines()
        inside = [line for line in lines[1:] if line[:1].isspace()]
        body = lines[:1] + (inside if lines[:1] and lines[0].rstrip().endswith(":") and not inside[:1] else lines[1:])
        indented = blocks[0].lstrip("\n")[:1].isspace()
        kept = blocks[0].strip("\n").splitlines() if indented else [f"    {line}" for line in body]
        end = next((n for n, line in enumerate(kept) if n and line.strip() and not line[:1].isspace()), len(kept))
        return tests.setup + "\n".join(kept[:end]) + "\n"
    return f"{tests.setup}\n{_parsable(blocks[-1])}\n"


def _defines(code: str, names: tuple[str, ...]) -> bool:
    return any(re.search(rf"^\s*(?:async\s+def|def|class)\s+{re.escape(name)}\b", code, re.MULTILINE) for name in names)


def _parsable(code: str) -> str:
    """Cut prose off before and after the code, where there is any that parses."""
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
    """Score 1 where the program in the response passes the tests, run in a sandbox (pass@1 of one answer).

    Raises:
        SandboxError: Running code is off, or cannot be isolated.
    """
    if reference.tests is None:
        return Score(0.0, None, {"verdict": "failed", "reason": "this question has no tests"})
    code = program(response, reference.tests)
    return judged(code, sandbox.run(code, reference.tests, mode))


def judged(code: str, verdict: sandbox.Verdict) -> Score:
    """Return the score that a verdict on a program means."""
    return Score(float(verdict.word == "passed"), code, {"verdict": verdict.word, "reason": verdict.reason})


METRICS = {
    metric.name: metric
    for metric in (
        Metric("token_f1", 1, token_f1),
        Metric("exact_match", 1, exact_match),
        Metric("numeric_match", 2, numeric_match),
        Metric("choice_match", 3, choice_match, needs="choices"),
        Metric("math_equal", 1, math_equal),
        Metric("truthful", 1, truthful, needs="choices"),
        Metric("pass_at_1", 1, pass_at_1, runs_code=True, needs="tests"),
    )
}
