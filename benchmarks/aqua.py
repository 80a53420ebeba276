"""AQuA-RAT: algebraic word problems with five choices (Ling et al. 2017).

Example (dev):
    Three birds are flying at a fast rate of 900 kilometers per hour. What is their speed in miles per minute? [1km = 0.6 miles]
    A. 32400
    B. 6000
    C. 600
    D. 60000
    E. 10
    Answer with the letter of the right choice.
    -> A

Scored by choice match. Licence Apache-2.0. The questions are those of the test split, the few-shot examples
those of the development split.
"""

import re

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, lettered


def _item(row: Record, split: str) -> Item:
    choices = tuple(re.sub(r"^[A-E]\)\s*", "", option).strip() for option in row["options"])
    answer = choices["ABCDE".index(row["correct"])]
    return Item("", lettered(row["question"], choices), (answer,), choices, shown=f"Answer: {row['correct']}")


AQUA = Benchmark(
    name="aqua",
    version="1",
    field="mathematics",
    metric="choice_match",
    licence="Apache-2.0",
    citation="Ling et al., Program induction by rationale generation, ACL 2017",
    size=254,
    dataset=Dataset(
        "deepmind/aqua_rat",
        "33301c6a050c96af81f63cad5562cb5363e88971",
        config="raw",
        test=DataSplit("test", ("aqua/test.json", "aqua/test.tok.json")),
        examples=DataSplit("validation", ("aqua/dev.json",)),
    ),
    item=_item,
)
