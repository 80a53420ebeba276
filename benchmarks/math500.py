r"""MATH-500: competition problems, the 500 of MATH (Hendrycks et al. 2021) that Lightman et al. (2023) held out.

Example (test/precalculus/807.json):
    Convert the point $(0,3)$ in rectangular coordinates to polar coordinates.  Enter your answer in the form $(r,\theta),$
    where $r > 0$ and $0 \le \theta < 2 \pi.$
    Think step by step and put the final answer in \boxed{}.
    -> \left( 3, \frac{\pi}{2} \right)

Scored by symbolic equivalence (the `math-verify` package). Licence MIT. There is no other split, so there are no
few-shot examples.
"""

from toolkit.tasks import Benchmark, Dataset, DataSplit, Item, Record


def _item(row: Record, split: str) -> Item:
    prompt = f"{row['problem'].strip()}\nThink step by step and put the final answer in \\boxed{{}}."
    return Item(row["unique_id"], prompt, (row["answer"],), stratum=row["subject"])


MATH500 = Benchmark(
    name="math500",
    version="1",
    field="mathematics",
    metric="math_equal",
    licence="MIT",
    citation="Lightman et al., Let's verify step by step, arXiv 2305.20050",
    size=500,
    dataset=Dataset(
        "HuggingFaceH4/MATH-500",
        "6e4ed1a2a79af7d8630a6b768ec859cb5af4d3be",
        test=DataSplit("test", ("math500/test.jsonl",)),
    ),
    item=_item,
)
