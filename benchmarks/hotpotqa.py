"""HotpotQA, distractor setting: the answer needs two of ten given paragraphs (Yang et al. 2018).

Example (dev, 5a8b57f25542995d1e6f1371), the paragraphs left out here:
    Were Scott Derrickson and Ed Wood of the same nationality?
    Answer with a few words, from the paragraphs above.
    -> yes

Scored by SQuAD token F1, as published; exact match is kept too. Licence CC-BY-SA-4.0. The test answers are secret: the
development split is asked, the training split holds the few-shot examples.
"""

from toolkit.tasks.base import Benchmark, Item
from toolkit.tasks.data import Dataset, DataSplit, Record


def _item(row: Record, split: str) -> Item:
    context = row["context"]
    pairs = zip(context["title"], context["sentences"], strict=True) if isinstance(context, dict) else context
    told = "\n\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in pairs)
    prompt = f"{told}\n\n{row['question'].strip()}\nAnswer with a few words, from the paragraphs above."
    return Item(row.get("_id") or row["id"], prompt, (row["answer"],), stratum=row["type"])


HOTPOTQA = Benchmark(
    name="hotpotqa",
    version="1",
    field="qa",
    metric="token_f1",
    metrics=("exact_match",),
    licence="CC-BY-SA-4.0",
    citation="Yang et al., HotpotQA, EMNLP 2018",
    size=7405,
    dataset=Dataset(
        "hotpotqa/hotpot_qa",
        "1908d6afbbead072334abe2965f91bd2709910ab",
        config="distractor",
        test=DataSplit("validation", ("hotpotqa/hotpot_dev_distractor_v1.json",)),
        examples=DataSplit("train", ("hotpotqa/hotpot_train_v1.1.json",)),
    ),
    item=_item,
)
