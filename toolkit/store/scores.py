"""Scores: which responses of a suite a metric has scored, and which it has yet to score."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from toolkit.store.file import CacheFile

if TYPE_CHECKING:
    import pyarrow as pa

QuestionMetric = tuple[UUID, str]
"""Key of a question, and label of a metric that is to score its responses."""

_RESPONSES = """
    SELECT n.question, m.metric, g.text, g.response FROM question_metrics AS m
    JOIN suite_nodes AS n ON n.question = m.question::UUID AND n.suite = ?
    JOIN generations AS g ON g.generation = n.generation AND g.response IS NOT NULL
"""
"""The responses of a suite, once for every metric of their question."""


class UnscoredResponse(NamedTuple):
    """A response that a metric has not scored yet."""

    question: UUID
    metric: str
    response: str


class ScoreCount(NamedTuple):
    """How many distinct responses a metric is to score, and how many it has scored."""

    responses: int
    scored: int


class Scores:
    """The scores of a cache."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file

    def missing(self, suite: UUID, question_metrics: Sequence[QuestionMetric]) -> list[UnscoredResponse]:
        """Return the responses of a suite that a metric of their question has not scored yet."""
        with self._file.read() as con:
            con.register("question_metrics", _question_metrics(question_metrics))
            rows = con.execute(
                f"SELECT DISTINCT question, metric, response FROM ({_RESPONSES})"
                " ANTI JOIN scores USING (question, metric, text) ORDER BY metric, question, response",
                [suite],
            ).fetchall()
        return [UnscoredResponse(*row) for row in rows]

    def counts(self, suite: UUID, question_metrics: Sequence[QuestionMetric]) -> dict[str, ScoreCount]:
        """Count, for each metric, the distinct responses of a suite that it is to score, and those it has scored."""
        with self._file.read() as con:
            con.register("question_metrics", _question_metrics(question_metrics))
            rows = con.execute(
                "SELECT metric, count(*), count(value)"
                f" FROM (SELECT DISTINCT question, metric, text FROM ({_RESPONSES}))"
                " LEFT JOIN scores USING (question, metric, text) GROUP BY metric ORDER BY metric",
                [suite],
            ).fetchall()
        return {metric: ScoreCount(responses, scored) for metric, responses, scored in rows}


def _question_metrics(pairs: Sequence[QuestionMetric]) -> "pa.Table":
    import pyarrow as pa

    columns = {"question": [str(question) for question, _ in pairs], "metric": [metric for _, metric in pairs]}
    return pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
