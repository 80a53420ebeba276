"""OpenBookQA: elementary science questions that need a fact and common knowledge, without the book (Mihaylov et al. 2018).

Example (test):
    There is most likely going to be fog around:
    A. a marsh
    B. a tundra
    C. the plains
    D. a desert
    Answer with the letter of the right choice.
    -> A

Scored by choice match. Licence Apache-2.0. The questions are those of the test split, the few-shot examples
those of the training split.
"""

from benchmarks.choices import labelled
from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, lettered


def _item(row: Record, split: str) -> Item:
    question, choices, answer = labelled(row)
    shown = f"Answer: {chr(65 + choices.index(answer))}"
    return Item(str(row.get("id", "")), lettered(question, choices), (answer,), choices, shown=shown)


OPENBOOKQA = Benchmark(
    name="openbookqa",
    version="1",
    field="qa",
    metric="choice_match",
    licence="Apache-2.0",
    citation="Mihaylov et al., Can a suit of armor conduct electricity?, EMNLP 2018",
    size=500,
    dataset=Dataset(
        "allenai/openbookqa",
        "388097ea7776314e93a529163e0fea805b8a6454",
        config="main",
        test=DataSplit("test", ("openbookqa/test.jsonl", "arc_openbookqa/openbookqa.test.json")),
        examples=DataSplit("train", ("openbookqa/train.jsonl",)),
    ),
    item=_item,
)
