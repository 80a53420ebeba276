"""MedQA: questions of the US medical licensing examination with four choices (Jin et al. 2021).

Example (test, row 1), the case shortened:
    A junior orthopaedic surgery resident is completing a carpal tunnel repair [...] Which of the following is the correct next
    action for the resident to take?
    A. Disclose the error to the patient and put it in the operative report
    B. Tell the attending that he cannot fail to disclose this mistake
    C. Report the physician to the ethics committee
    D. Refuse to dictate the operative report
    Answer with the letter of the right choice.
    -> B

Scored by choice match. Licence MIT. The questions are those of the test split, the few-shot examples
those of the training split.
"""

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, lettered


def _item(row: Record, split: str) -> Item:
    choices = tuple(text.strip() for _, text in sorted(row["options"].items()))
    answer = row["answer"].strip()
    shown = f"Answer: {chr(65 + choices.index(answer))}"
    return Item("", lettered(row["question"], choices), (answer,), choices, shown=shown)


MEDQA = Benchmark(
    name="medqa",
    version="1",
    field="qa",
    metric="choice_match",
    licence="MIT",
    citation="Jin et al., What disease does this patient have?, Applied Sciences 2021",
    size=1273,
    dataset=Dataset(
        "GBaker/MedQA-USMLE-4-options",
        "0fb93dd23a7339b6dcd27e241cb9b5eca62d4d18",
        test=DataSplit("test", ("medqa/test.jsonl", "medqa/phrases_no_exclude_test.jsonl")),
        examples=DataSplit("train", ("medqa/train.jsonl", "medqa/phrases_no_exclude_train.jsonl")),
    ),
    item=_item,
)
