"""PubMedQA: does an abstract answer the question of its title with yes, no or maybe (Jin et al. 2019)?

Example (21645374), abstract omitted here:
    Do mitochondria play a role in remodelling lace plant leaves during programmed cell death?
    Answer yes, no or maybe.
    -> yes

Scored by choice match. Licence MIT. The questions are all 1,000 that experts labelled, which the hub has as one split (the
official test set is the 500 of them in `test_ground_truth.json`), so there are no few-shot examples.
"""

from collections.abc import Iterable
from typing import Any

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record

CHOICES = ("yes", "no", "maybe")


def _records(document: Any) -> Iterable[Record]:
    for number, entry in document.items():
        row = {name.lower(): value for name, value in entry.items()}
        yield row | {"pubid": number, "context": {"contexts": row["contexts"]}}


def _item(row: Record, split: str) -> Item:
    abstract = "\n".join(part.strip() for part in row["context"]["contexts"])
    prompt = f"{abstract}\n\n{row['question'].strip()}\nAnswer yes, no or maybe."
    return Item(str(row["pubid"]), prompt, (row["final_decision"],), CHOICES, stratum=row["final_decision"])


PUBMEDQA = Benchmark(
    name="pubmedqa",
    version="1",
    field="qa",
    metric="choice_match",
    licence="MIT",
    citation="Jin et al., PubMedQA, EMNLP 2019",
    size=1000,
    dataset=Dataset(
        "qiaojin/PubMedQA",
        "9001f2853fb87cab8d220904e0de81ac6973b318",
        config="pqa_labeled",
        test=DataSplit("train", ("pubmedqa/ori_pqal.json",)),
        records=_records,
    ),
    item=_item,
)
