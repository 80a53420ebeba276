"""SVAMP: elementary word problems, varied so that shallow heuristics fail (Patel et al. 2021).

Example (chal-1):
    Each pack of dvds costs 76 dollars. If there is a discount of 25 dollars on each pack. How much do you have to pay to buy
    each pack?
    Think step by step, then end with "Answer: " and the number.
    -> 51

Scored by numeric match; references are written in plain decimal notation (version 1 wrote six digits, and large numbers as
`5.1e+07`). Licence MIT. The release is one challenge set of 1,000, which the hub's copy splits in two; all of
it is used, so there are no few-shot examples.
"""

from benchmarks.gsm8k import REQUEST
from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, number_text


def _item(row: Record, split: str) -> Item:
    body = row["Body"].strip()
    story = body if body.endswith((".", "?", "!", ",")) else f"{body}."
    answer = number_text(float(row["Answer"]))
    return Item(row["ID"], f"{story} {row['Question'].strip()}\n{REQUEST}", (answer,), stratum=row["Type"])


SVAMP = Benchmark(
    name="svamp",
    version="2",
    field="mathematics",
    metric="numeric_match",
    licence="MIT",
    citation="Patel et al., Are NLP models really able to solve simple math word problems?, NAACL 2021",
    size=1000,
    dataset=Dataset(
        "ChilleD/SVAMP",
        "5e0bf1e5e7c0e9c4bc39180d224f41f3f801b7ef",
        test=DataSplit("train+test", ("svamp/SVAMP.json",)),
    ),
    item=_item,
)
