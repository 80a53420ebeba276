"""Small results in the layouts of other projects, and what a format reads from them.

All are made from the same synthetic questions, scores and responses. The files in `data/` were written by the projects' own
code: RouterBench's `convert_to_wide_format` and `generate_oracle_routing_results`, LLMRouter's
`process_unified_embeddings_and_routing` and `preprocess_data`, and LLMRouterBench's `ResultsStorage`. The other two projects
write rows with pandas and json directly, and so do the functions below with the same columns.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from toolkit.outcomes import llmrouter, llmrouterbench, routellm, routerarena, routerbench
from toolkit.outcomes.formats import Format, find_files

DATA = Path(__file__).parent / "data"
FORMATS: dict[str, Format] = {
    "routerbench": routerbench.FORMAT,
    "routellm": routellm.FORMAT,
    "routerarena": routerarena.FORMAT,
    "llmrouter": llmrouter.FORMAT,
    "llmrouterbench": llmrouterbench.FORMAT,
}
SMALL, LARGE = MODELS = "acme/small 7b", "large-v1"
QUESTIONS = [
    ("arith", "What is 7 * 8?"),
    ("arith", "What's 17 + 18?\n(Write only the number.)"),
    ("arith", "Was ist 3 \u2212 5? “Minus” schreibst du als -."),
    ("words", "Which of these melts: ice or sand?"),
    ("words", 'Which word rhymes with "cat": hat or dog?'),
    ("words", "Spell the Greek letter \u03b1."),
]
SCORES = {SMALL: [1.0, 0.0, 0.5, 1.0, 0.0, 0.25], LARGE: [1.0, 1.0, 1.0, 1.0, 0.75, 0.0]}
RESPONSES = {
    SMALL: ["56", "3", "It is\n-2, or so", "ice", "dog", "alfa"],
    LARGE: ["It's 56.", "35", "-2", "Ice.", "hat", "\u03b1"],
}


def read(form: Format, *paths: Path) -> list[dict[str, Any]]:
    """Return the rows of some files, each with its values, its place and the name of its file."""
    rows = []
    for part in form.read(find_files([str(path) for path in paths])):
        for number, place in enumerate(part.places):
            values = {name: values[number] for name, values in part.columns.items()}
            rows.append(values | {"place": place, "file": Path(part.file).name})
    return rows


def recognized(*paths: Path) -> list[str]:
    """Return the names of the formats that recognize some files."""
    source = find_files([str(path) for path in paths])
    return [name for name, form in FORMATS.items() if form.recognizes(source)]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def write_csv(path: Path, header: list[str], rows: list[list[Any]]) -> Path:
    """Write CSV; None is an empty field."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def write_routellm(folder: Path) -> Path:
    """Write a file with responses and one per subject without, as RouteLLM's generate_responses.py do."""
    rows = [
        [question, *(SCORES[model][number] == 1 for model in MODELS), *(RESPONSES[model][number] for model in MODELS)]
        for number, (_, question) in enumerate(QUESTIONS)
    ]
    write_csv(folder / "gsm8k_responses.csv", ["prompt", *MODELS, *(f"{model}_response" for model in MODELS)], rows[:3])
    write_csv(folder / "mmlu_anatomy.csv", ["prompt", *MODELS], [row[:3] for row in rows[3:]])
    return folder


def cached_result(number: int, model: str, **changes: Any) -> dict[str, Any]:
    """Return a cached result of RouterArena, as its llm_inference/pipeline.py and evaluate_models.py write it."""
    benchmark, question = QUESTIONS[number]
    usage = {"input_tokens": len(question), "output_tokens": number + 1, "total_tokens": len(question) + number + 1}
    evaluation = {
        "extracted_answer": RESPONSES[model][number],
        "ground_truth": str(number),
        "score": SCORES[model][number],
        "metric": "mcq_accuracy",
        "inference_cost": 1e-6 * (number + 1),
    }
    return {
        "global_index": f"{benchmark}_sub ject_{number}",
        "question": question,
        "llm_selected": model,
        "generated_answer": RESPONSES[model][number],
        "token_usage": usage,
        "success": True,
        "provider": "acme",
        "error": None,
        "batch_size": None,
        "evaluation_result": evaluation,
    } | changes


def write_routerarena(folder: Path) -> Path:
    """Write the cached results of each model."""
    for model in MODELS:
        rows = [cached_result(number, model) for number in range(len(QUESTIONS))]
        write_lines(folder / f"{model.replace('/', '_')}.jsonl", rows)
    return folder
