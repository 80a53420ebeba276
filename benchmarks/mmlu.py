"""MMLU: 57 subjects from school to profession with four choices (Hendrycks et al. 2021); `mmlu_SUBJECT` is one of them.

Example of `mmlu_abstract_algebra` (test, row 1):
    Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.
    A. 0
    B. 4
    C. 2
    D. 6
    Answer with the letter of the right choice.
    -> B

Scored by choice match. Licence MIT. The questions are those of the test split, the few-shot examples
those of the development split, by subject.
"""

from functools import partial

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record, lettered

SUBJECTS = [
    "abstract_algebra",
    "anatomy",
    "astronomy",
    "business_ethics",
    "clinical_knowledge",
    "college_biology",
    "college_chemistry",
    "college_computer_science",
    "college_mathematics",
    "college_medicine",
    "college_physics",
    "computer_security",
    "conceptual_physics",
    "econometrics",
    "electrical_engineering",
    "elementary_mathematics",
    "formal_logic",
    "global_facts",
    "high_school_biology",
    "high_school_chemistry",
    "high_school_computer_science",
    "high_school_european_history",
    "high_school_geography",
    "high_school_government_and_politics",
    "high_school_macroeconomics",
    "high_school_mathematics",
    "high_school_microeconomics",
    "high_school_physics",
    "high_school_psychology",
    "high_school_statistics",
    "high_school_us_history",
    "high_school_world_history",
    "human_aging",
    "human_sexuality",
    "international_law",
    "jurisprudence",
    "logical_fallacies",
    "machine_learning",
    "management",
    "marketing",
    "medical_genetics",
    "miscellaneous",
    "moral_disputes",
    "moral_scenarios",
    "nutrition",
    "philosophy",
    "prehistory",
    "professional_accounting",
    "professional_law",
    "professional_medicine",
    "professional_psychology",
    "public_relations",
    "security_studies",
    "sociology",
    "us_foreign_policy",
    "virology",
    "world_religions",
]


def _item(row: Record, split: str, only_subject: str = "") -> Item | None:
    subject = row["subject"] if "subject" in row else row["file"].rpartition("_")[0]
    if only_subject and subject != only_subject:
        return None
    choices = tuple(row["choices"]) if "choices" in row else tuple(row[letter] for letter in "ABCD")
    position = row["answer"] if isinstance(row["answer"], int) else "ABCD".index(row["answer"])
    shown = f"Answer: {'ABCD'[position]}"
    return Item("", lettered(row["question"], choices), (choices[position],), choices, stratum=subject, shown=shown)


def _files(split: str) -> tuple[str, ...]:
    pattern = f"data/{split}/*_{split}.csv"
    return (f"mmlu/mmlu.zip::{pattern}", f"mmlu/{pattern}", f"mmlu/{split}/*_{split}.csv")


DATASET = Dataset(
    "cais/mmlu",
    "c30699e8356da336a370243923dbaf21066bb9fe",
    config="all",
    test=DataSplit("test", _files("test")),
    examples=DataSplit("dev", _files("dev")),
    columns=("question", "A", "B", "C", "D", "answer"),
)
_mmlu = partial(
    Benchmark,
    version="1",
    field="qa",
    metric="choice_match",
    licence="MIT",
    citation="Hendrycks et al., Measuring massive multitask language understanding, ICLR 2021",
    repeats=True,
    dataset=DATASET,
)
MMLU = _mmlu(name="mmlu", size=14042, item=_item)
BY_SUBJECT = {
    f"mmlu_{subject}": _mmlu(name=f"mmlu_{subject}", item=partial(_item, only_subject=subject)) for subject in SUBJECTS
}
