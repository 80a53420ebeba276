"""SQuAD in the English part of XQuAD: 240 paragraphs of SQuAD v1.1's development set (Artetxe et al. 2020).

Example (56beb4343aeaaa14008c925b), paragraph omitted here:
    How many points did the Panthers defense surrender?
    Answer with a few words, from the paragraph above.
    -> 308

Scored by SQuAD token F1; exact match is scored too. Licence CC-BY-SA-4.0. There is no training split, so there are no few-shot
examples.
"""

from collections.abc import Iterable
from typing import Any

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record


def _records(document: Any) -> Iterable[Record]:
    for article in document["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                yield question | {"context": paragraph["context"]}


def _item(row: Record, split: str) -> Item:
    answers = row["answers"]
    texts = answers["text"] if isinstance(answers, dict) else [answer["text"] for answer in answers]
    prompt = f"{row['context'].strip()}\n\n{row['question'].strip()}\nAnswer with a few words, from the paragraph above."
    return Item(row["id"], prompt, tuple(dict.fromkeys(texts)))


SQUAD = Benchmark(
    name="squad",
    version="1",
    field="qa",
    metric="token_f1",
    metrics=("exact_match",),
    licence="CC-BY-SA-4.0",
    citation="Rajpurkar et al., SQuAD, EMNLP 2016; Artetxe et al., XQuAD, ACL 2020",
    size=1190,
    repeats=True,
    dataset=Dataset(
        "google/xquad",
        "51adfef1c1287aab1d2d91b5bead9bcfb9c68583",
        config="xquad.en",
        test=DataSplit("validation", ("xquad_en/xquad.en.json", "squad/xquad.en.json", "squad/dev-v1.1.json")),
        records=_records,
    ),
    item=_item,
)
