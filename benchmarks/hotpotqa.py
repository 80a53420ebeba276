"""HotpotQA, distractor setting: the answer needs two of ten given paragraphs (Yang et al. 2018).

Example (dev, 5a8b57f25542995d1e6f1371), paragraphs omitted here:
    Were Scott Derrickson and Ed Wood of the same nationality?
    Answer with a few words, from the paragraphs above.
    -> yes

Scored by SQuAD token F1, as published; exact match is scored too. Licence CC-BY-SA-4.0. The test answers are secret: the
questions are those of the development split, the few-shot examples those of the training split.
"""

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record


def _item(row: Record, split: str) -> Item:
    context = row["context"]
    pairs = zip(context["title"], context["sentences"], strict=True) if isinstance(context, dict) else context
    paragraphs = "\n\n".join(f"{title}: {''.join(sentences).strip()}" for title, sentences in pairs)
    prompt = f"{paragraphs}\n\n{row['question'].strip()}\nAnswer with a few words, from the paragraphs above."
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
