"""ARC-Challenge: grade-school science questions that retrieval and word co-occurrence get wrong (Clark et al. 2018).

Example (test, Mercury_7175875):
    An astronomer observes that a planet rotates faster after a meteorite impact. Which is the most likely effect of this
    increase in rotation?
    A. Planetary density will decrease.
    B. Planetary years will become longer.
    C. Planetary days will become shorter.
    D. Planetary gravity will become stronger.
    Answer with the letter of the right choice.
    -> C

Scored by choice match. Licence CC-BY-SA-4.0. The questions are those of the test split, the few-shot examples
those of the training split.
"""

from benchmarks.choices import labelled
from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, lettered


def _item(row: Record, split: str) -> Item:
    question, choices, answer = labelled(row)
    shown = f"Answer: {chr(65 + choices.index(answer))}"
    return Item(str(row.get("id", "")), lettered(question, choices), (answer,), choices, shown=shown)


ARC_CHALLENGE = Benchmark(
    name="arc_challenge",
    version="1",
    field="qa",
    metric="choice_match",
    licence="CC-BY-SA-4.0",
    citation="Clark et al., Think you have solved question answering? Try ARC, arXiv 1803.05457",
    size=1172,
    dataset=Dataset(
        "allenai/ai2_arc",
        "210d026faf9955653af8916fad021475a3f00453",
        config="ARC-Challenge",
        test=DataSplit("test", ("arc_challenge/ARC-Challenge-Test.jsonl", "arc_openbookqa/ARC-Challenge.test.json")),
        examples=DataSplit("train", ("arc_challenge/ARC-Challenge-Train.jsonl",)),
    ),
    item=_item,
)
