"""What multiple-choice benchmarks share: reading questions with labelled choices in the layouts of the releases."""

import re
from typing import Any, NamedTuple

from toolkit.tasks import Record


class LabelledQuestion(NamedTuple):
    """A question, its choices in order, and the right one."""

    question: str
    choices: tuple[str, ...]
    answer: str


def labelled(row: Record) -> LabelledQuestion:
    """Read a row with labelled choices: AI2's official layout, the hub's, or the instruction layout of LLM-Adapters.

    Raises:
        ValueError: No choice has the label of the right answer.
    """
    if "instruction" in row:
        return _instruction(row)
    question: Any = row.get("question_stem") or row["question"]
    choices: Any = row.get("choices")
    if isinstance(question, dict):
        question, choices = question["stem"], question["choices"]
    if isinstance(choices, dict):
        labels, texts = choices["label"], choices["text"]
    else:
        labels, texts = [choice["label"] for choice in choices], [choice["text"] for choice in choices]
    return LabelledQuestion(question, tuple(texts), texts[labels.index(row["answerKey"])])


def _instruction(row: Record) -> LabelledQuestion:
    head, _, rest = row["instruction"].partition("\n\nAnswer1: ")
    question = head.partition("Please choose the correct answer to the question: ")[2]
    texts = re.split(r"\s*Answer\d+: ", rest.rpartition("\n\nAnswer format:")[0])
    return LabelledQuestion(
        question, tuple(text.strip() for text in texts), texts[int(row["answer"].removeprefix("answer")) - 1].strip()
    )
