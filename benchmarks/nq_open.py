"""NQ-open: questions that people asked a search engine, with short answers and no document (Lee et al. 2019).

Example (dev, row 2):
    who wrote he ain't heavy he's my brother lyrics
    Answer with a few words.
    -> Bobby Scott, or Bob Russell

Scored by exact match after SQuAD normalisation, as published. Licence CC-BY-SA-3.0. The test answers are not in the
release: the questions are those of the development split, the few-shot examples those of the training split.
"""

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record


def _item(row: Record, split: str) -> Item:
    return Item("", f"{row['question'].strip()}\nAnswer with a few words.", tuple(row["answer"]))


NQ_OPEN = Benchmark(
    name="nq_open",
    version="1",
    field="qa",
    metric="exact_match",
    licence="CC-BY-SA-3.0",
    citation="Lee et al., Latent retrieval for weakly supervised open domain question answering, ACL 2019",
    size=3610,
    dataset=Dataset(
        "google-research-datasets/nq_open",
        "5dd9790a83002ad084ddeb7c420dc716852c6f28",
        config="nq_open",
        test=DataSplit("validation", ("nq_open/NQ-open.dev.jsonl",)),
        examples=DataSplit("train", ("nq_open/NQ-open.train.jsonl",)),
    ),
    item=_item,
)
