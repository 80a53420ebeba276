"""CommonsenseQA: questions about everyday concepts (Talmor et al. 2019).

Example (dev):
    A revolving door is convenient for two direction travel, but it also serves as a security measure at a what?
    A. bank
    B. library
    C. department store
    D. mall
    E. new york
    Answer with the letter of the right choice.
    -> A

Scored by choice match. Licence MIT. The test labels are secret: the questions are those of the
development split, the few-shot examples those of the training split.
"""

from benchmarks.choices import labelled
from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, lettered


def _item(row: Record, split: str) -> Item:
    question, choices, answer = labelled(row)
    shown = f"Answer: {chr(65 + choices.index(answer))}"
    return Item(str(row["id"]), lettered(question, choices), (answer,), choices, shown=shown)


COMMONSENSEQA = Benchmark(
    name="commonsenseqa",
    version="1",
    field="qa",
    metric="choice_match",
    licence="MIT",
    citation="Talmor et al., CommonsenseQA, NAACL 2019",
    size=1221,
    dataset=Dataset(
        "tau/commonsense_qa",
        "94630fe30dad47192a8546eb75f094926d47e155",
        test=DataSplit("validation", ("commonsenseqa/dev_rand_split.jsonl",)),
        examples=DataSplit("train", ("commonsenseqa/train_rand_split.jsonl",)),
    ),
    item=_item,
)
