"""What a metric is: a named, versioned function of one response and one reference, with a value in [0, 1].

If a change alters the value of any input, increase the version: scores cached under the old version stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from toolkit.core import registry
from toolkit.core.registry import Registry
from toolkit.tasks.sandbox import Checks


@dataclass(frozen=True)
class Reference:
    """What a response is compared with.

    Attributes:
        answers: Accepted answers, any of which counts. For choices, the text of the right one.
        choices: All choices in the order shown (A, B, ...); empty if there are none.
        tests: For code, the tests that the program must pass.
    """

    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()
    tests: Checks | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the form in which a cache stores the reference."""
        stored: dict[str, Any] = {"answers": self.answers, "choices": self.choices}
        return stored | ({"tests": self.tests._asdict()} if self.tests else {})

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Self:
        """Read back what `to_json` returned."""
        tests = stored.get("tests")
        checks = Checks(**(tests | {"names": tuple(tests["names"])})) if tests else None
        return cls(tuple(stored["answers"]), tuple(stored["choices"]), checks)


@dataclass(frozen=True)
class Score:
    """The value of one metric for one response.

    Attributes:
        value: In [0, 1].
        extracted: The answer as read from the response; None if there is none.
        detail: Further facts, such as the verdict on a program.
    """

    value: float
    extracted: str | None
    detail: dict[str, str] = field(default_factory=dict)


Scorer = Callable[[str, Reference], Score]
"""Scores a response against a reference."""


FILTERED = "[no response: content filter]"
"""The response of a prompt whose response a server withheld, in suites that count that as quality 0.

Not empty, because an empty response is something that a model can say, and a metric may reward.
"""


def checked_score(scorer: Scorer, response: str, reference: Reference) -> Score:
    """Return the score of a response, as plain Python values.

    Raises:
        TypeError: The scorer returned something that is not a `Score` of a number.
        ValueError: The value is not in [0, 1].
    """
    score = Score(value=0.0, extracted=None) if response == FILTERED else scorer(response, reference)
    if not isinstance(score, Score):
        raise TypeError(f"it returned {score!r:.80}, not a Score")
    if isinstance(score.value, str):
        raise TypeError(f"the value of its score is {score.value!r:.80}, not a number")
    value = float(score.value)
    if not 0 <= value <= 1:
        raise ValueError(f"the value of its score is {value}, not in [0, 1]")
    extracted = None if score.extracted is None else str(score.extracted)
    return Score(value, extracted, {str(name): str(fact) for name, fact in score.detail.items()})


@dataclass(frozen=True)
class Metric:
    """A named, versioned scorer.

    Attributes:
        name: Its name in suites and results.
        version: Part of the label of every cached score.
        score: The scorer.
        runs_code: Whether the scorer runs model-written code and so needs a sandbox.
        needs: What a question must have, beside an answer, for the metric to apply.
    """

    name: str
    version: int
    score: Scorer
    runs_code: bool = False
    needs: Literal["choices", "tests"] | None = None

    def applies(self, reference: Reference) -> bool:
        """Return whether a question has what the metric needs."""
        return self.needs is None or bool(getattr(reference, self.needs))

    @property
    def is_own(self) -> bool:
        """Whether the toolkit itself defines the scorer."""
        return str(getattr(self.score, "__module__", "")).partition(".")[0] == "toolkit"

    @property
    def label(self) -> str:
        """Name and version as stored with every score, e.g. `token_f1@1`."""
        return f"{self.name}@{self.version}"


METRICS: Registry[Metric] = registry.METRICS
"""Every metric by name: built-in ones and those of installed packages (entry points), and those registered by `metric`."""


def metric(name: str, version: int, *, needs: Literal["choices", "tests"] | None = None) -> Callable[[Scorer], Scorer]:
    """Return a decorator that registers a scorer as a metric, for example in the Python file of a benchmark.

    Raises:
        ValueError: There is another metric of this name.
    """

    def register(scorer: Scorer) -> Scorer:
        existing = METRICS.get(name)
        is_rerun = existing is not None and _origin(existing.score) == _origin(scorer)  # the file is executed again
        METRICS.register(name, replace=is_rerun)(Metric(name, version, scorer, needs=needs))
        return scorer

    return register


def _origin(scorer: Scorer) -> tuple[str, str]:
    return scorer.__module__, scorer.__qualname__
