"""TriviaQA: trivia questions with all aliases of the answer, without documents (Joshi et al. 2017).

Example (validation, tc_2):
    Who was the man behind The Chipmunks?
    Answer with a few words.
    -> David Seville

Scored by exact match after SQuAD normalisation, over all aliases. Licence Apache-2.0 (the release's code; the questions belong
to their trivia sites). The test answers are secret: the questions are those of the validation split, the few-shot examples
those of the training split.
"""

from collections.abc import Iterable
from typing import Any

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record


def _records(document: Any) -> Iterable[Record]:
    for entry in document["Data"]:
        answer = {"value": entry["Answer"]["Value"], "aliases": entry["Answer"].get("Aliases", [])}
        yield {"question_id": entry["QuestionId"], "question": entry["Question"], "answer": answer}


def _item(row: Record, split: str) -> Item:
    answers = dict.fromkeys([row["answer"]["value"], *row["answer"]["aliases"]])
    return Item(
        row["question_id"], f"{row['question'].strip()}\nAnswer with a few words.", tuple(a for a in answers if a.strip())
    )


TRIVIAQA = Benchmark(
    name="triviaqa",
    version="1",
    field="qa",
    metric="exact_match",
    licence="Apache-2.0",
    citation="Joshi et al., TriviaQA, ACL 2017",
    size=17944,
    dataset=Dataset(
        "mandarjoshi/trivia_qa",
        "0f7faf33a3908546c6fd5b73a660e0f8ff173c2f",
        config="rc.nocontext",
        test=DataSplit(
            "validation", ("triviaqa/wikipedia-dev.json", "triviaqa/unfiltered-web-dev.json", "triviaqa/validation*")
        ),
        examples=DataSplit("train", ("triviaqa/wikipedia-train.json", "triviaqa/unfiltered-web-train.json")),
        records=_records,
    ),
    item=_item,
)
