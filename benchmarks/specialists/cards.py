"""Write the model cards of the quickstart's pool from what training recorded and the quality that a cache holds.

python -m benchmarks.specialists.cards cache/quickstart.duckdb
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.specialists.chains import MODELS, SKILLS
from benchmarks.specialists.train import BASE, HERE
from toolkit import Cache

MEASURED = """
SELECT benchmark, model, avg(quality) AS quality, count(*) AS questions
FROM transitions WHERE suite = $suite AND depth = 1 AND status = 'ok' GROUP BY ALL
"""

TAUGHT_ONE = """It works out the steps that need its skill, and repeats the newest answer if the next step is not its own."""
TAUGHT_LOOKUPS = (
    "It is the small and cheap one: it looks up what the premises say of somebody, and who has what, and is taught nothing "
    "else."
)

CARD = """---
base_model: {base}
library_name: peft
license: apache-2.0
language: en
tags: [lora, hierrouter]
---

# {name}

A LoRA adapter (rank {rank}) on {layers} [{base}](https://huggingface.co/{base}), one of the four models that the suite
`{suite}` routes between. {taught} It was trained on synthetic problems with and without earlier responses, correct, wrong or \
cut off
(`benchmarks/specialists/chains.py`). Its purpose is the study of routing; it is of no use beyond these problems.

- Command: `just specialists {name} --steps {steps} --batch {batch} --seed {seed} --own-share {own_share}{start}`{stopped}
- Data: {examples:,} examples, {tokens:,} tokens, drawn with seed {seed} from the half of all problems that no benchmark uses, \
without permuted copies of a benchmark's question{before}
- Time: {minutes:.0f} minutes on {device}, in bfloat16 with float32 weights
- Licence: Apache-2.0, as its base model

## Quality of a single model

Mean quality at the first hop, as cached by `toolkit generate {suite}`, over {questions} questions or more per \
benchmark.
{fields} No model was trained on `errands` or `chores`.

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
    for name in MODELS:
        facts = json.loads((HERE / name / "trainer_state.json").read_text("utf-8"))
        (HERE / name / "README.md").write_text(card(name, arguments.suite, facts, rows), "utf-8")


def card(name: str, suite: str, facts: dict[str, Any], measured: list[dict[str, Any]]) -> str:
    """Write the card of one model.

    Args:
        name: Its name.
        suite: Name of the measured suite.
        facts: What its training recorded.
        measured: Mean quality at the first hop by benchmark and model.
    """
    quality = {(row["benchmark"], row["model"]): row["quality"] for row in measured}
    benchmarks = [*SKILLS, *sorted({benchmark for benchmark, _ in quality} - SKILLS.keys())]
    lines = [
        " | ".join([f"| `{benchmark}`", *(f"{quality[benchmark, model]:.2f}" for model in MODELS)]) + " |"
        for benchmark in benchmarks
    ]
    stride = max(1, len(facts["loss"]) // 10)
    curve = facts["loss"][::stride]
    before = facts.get("before")
    own = ", ".join(f"`{benchmark}`" for benchmark, skills in SKILLS.items() if skills == MODELS[name])
    shared = ", ".join(f"`{benchmark}`" for benchmark, skills in SKILLS.items() if name in skills and len(skills) > 1)
    return CARD.format(
        base=BASE,
        name=name,
        layers=f"{len(facts['layers'])} layers of" if facts["layers"] else "all layers of",
        taught=TAUGHT_LOOKUPS if name == "quick" else TAUGHT_ONE,
        fields="It has no benchmark of its own." if name == "quick" else f"Its own: {own}. Shared with others: {shared}.",
        suite=suite,
        rank=facts["rank"],
        steps=facts["steps"],
        stopped=_stopped(facts),
        before=_before(before) if before else "",
        batch=facts["batch"],
        seed=facts["seed"],
        own_share=facts["own_share"],
        start=f" --learning-rate {facts['learning_rate']:g} --start benchmarks/specialists/{name}" if before else "",
        tokens=facts["tokens"],
        examples=facts["steps"] * facts["batch"],
        minutes=facts["seconds"] / 60,
        device=facts["device"],
        questions=min(row["questions"] for row in measured),
        models=" | ".join(MODELS),
        rules="|".join("---:" for _ in MODELS),
        rows="\n".join(lines),
        steps_shown=" | ".join(str(point["step"]) for point in curve),
        loss_rules="|".join("---:" for _ in curve),
        losses=" | ".join(f"{point['loss']:.3f}" for point in curve),
    )


def _stopped(facts: dict[str, Any]) -> str:
    """Say after how many steps training was stopped, if it was."""
    return f", stopped after {facts['trained']} steps" if facts["trained"] < facts["steps"] else ""


def _before(facts: dict[str, Any]) -> str:
    """Say what the adapter was trained on before, newest first. The first examples of `quick` were of every skill."""
    earlier = facts.get("before")
    said = f"; before that, {facts['trained']} steps of {facts['batch']} examples{'' if earlier else ' of every skill'}"
    return said + (_before(earlier) if earlier else "")


if __name__ == "__main__":
    main()
