"""GSM8K: grade-school word problems whose answer is a number (Cobbe et al. 2021).

Example (test, row 2):
    A robe takes 2 bolts of blue fiber and half that much white fiber.  How many bolts in total does it take?
    Think step by step, then end with "Answer: " and the number.
    -> 3

The reference is what follows `####` in the release's solution. Scored by numeric match on the last number of the answer.
Licence MIT. The questions are those of the test split, the few-shot examples
those of the training split.
"""

import re

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record

REQUEST = 'Think step by step, then end with "Answer: " and the number.'
_CALCULATOR = re.compile(r"<<[^>]*>>")


def _item(row: Record, split: str) -> Item:
    solution, mark, answer = row["answer"].partition("\n#### ")
    if not mark:
        raise ValueError("the solution has no ####")
    shown = f"{_CALCULATOR.sub('', solution)}\nAnswer: {answer}"
    return Item("", f"{row['question'].strip()}\n{REQUEST}", (answer.strip(),), shown=shown)


GSM8K = Benchmark(
    name="gsm8k",
    version="1",
    field="mathematics",
    metric="numeric_match",
    licence="MIT",
    citation="Cobbe et al., Training verifiers to solve math word problems, arXiv 2110.14168",
    size=1319,
    dataset=Dataset(
        "openai/gsm8k",
        "740312add88f781978c0658806c59bc2815b9866",
        config="main",
        test=DataSplit("test", ("gsm8k/test.jsonl",)),
        examples=DataSplit("train", ("gsm8k/train.jsonl",)),
    ),
    item=_item,
)
