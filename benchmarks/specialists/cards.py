"""Write the specialists' model cards from what training recorded and the quality that a cache holds.

python -m benchmarks.specialists.cards cache/quickstart.duckdb
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

from benchmarks.problems import Skill
from benchmarks.specialists.chains import SKILLS
from benchmarks.specialists.train import BASE, HERE, RANK
from toolkit import Cache

MEASURED = """
SELECT benchmark, model, avg(quality) AS quality, count(*) AS questions
FROM transitions WHERE suite = $suite AND depth = 1 AND status = 'ok' GROUP BY ALL
"""

CARD = """---
base_model: {base}
library_name: peft
license: apache-2.0
language: en
tags: [lora, hierrouter]
---

# {skill}

A LoRA adapter (rank {rank}) on [{base}](https://huggingface.co/{base}), one of the
three specialists that the suite `{suite}` routes between. It was trained on synthetic problems of its own skill and \
on its own step of
problems that two specialists share, with and without earlier responses, correct or wrong \
(`benchmarks/specialists/chains.py`). Its purpose is
the study of routing; it is of no use beyond these problems.

- Command: `just specialists {skill} --steps {steps} --batch {batch} --seed {seed} --own-share {own_share}`
- Data: {examples:,} examples, {tokens:,} tokens, drawn with seed {seed} from the half of all problems that no benchmark uses
- Time: {minutes:.0f} minutes on one core of a shared processor, in bfloat16 with float32 weights
- Licence: Apache-2.0, as its base model

## Quality of a single model

Mean quality at the first hop, as cached by `toolkit generate {suite}`, over {questions} questions per benchmark. \
This specialist's own
benchmark is {own}; it shares {shared} with other specialists. No specialist was trained on `errands` or `chores`.

| benchmark | {models} |
|---|{rules}|
{rows}

## Loss

| step | {steps_shown} |
|---|{loss_rules}|
| loss | {losses} |
"""


def main() -> None:
    """Write one card per specialist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", type=Path)
    parser.add_argument("--suite", default="quickstart")
    arguments = parser.parse_args()
    rows = Cache(arguments.cache).arrow(MEASURED, {"suite": arguments.suite}).to_pylist()
    for skill in get_args(Skill):
        facts = json.loads((HERE / skill / "trainer_state.json").read_text("utf-8"))
        (HERE / skill / "README.md").write_text(card(skill, arguments.suite, facts, rows), "utf-8")


def card(skill: Skill, suite: str, facts: dict[str, Any], measured: list[dict[str, Any]]) -> str:
    """Write the card of one specialist.

    Args:
        skill: Its skill.
        suite: Name of the measured suite.
        facts: What its training recorded.
        measured: Mean quality at the first hop by benchmark and model.
    """
    quality = {(row["benchmark"], row["model"]): row["quality"] for row in measured}
    models = get_args(Skill)
    names = [*SKILLS, *sorted({name for name, _ in quality} - SKILLS.keys())]
    lines = [" | ".join([f"| `{name}`", *(f"{quality[name, model]:.2f}" for model in models)]) + " |" for name in names]
    stride = max(1, len(facts["loss"]) // 10)
    curve = facts["loss"][::stride]
    return CARD.format(
        base=BASE,
        skill=skill,
        suite=suite,
        rank=RANK,
        steps=facts["steps"],
        batch=facts["batch"],
        seed=facts["seed"],
        own_share=facts["own_share"],
        tokens=facts["tokens"],
        examples=facts["steps"] * facts["batch"],
        minutes=facts["seconds"] / 60,
        questions=min(row["questions"] for row in measured),
        own=", ".join(f"`{name}`" for name, skills in SKILLS.items() if skills == (skill,)),
        shared=" and ".join(f"`{name}`" for name, skills in SKILLS.items() if skill in skills and len(skills) == 2),
        models=" | ".join(models),
        rules="|".join("---:" for _ in models),
        rows="\n".join(lines),
        steps_shown=" | ".join(str(point["step"]) for point in curve),
        loss_rules="|".join("---:" for _ in curve),
        losses=" | ".join(f"{point['loss']:.3f}" for point in curve),
    )


if __name__ == "__main__":
    main()
