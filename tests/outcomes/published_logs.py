"""Logs in the layouts of lm-evaluation-harness, Inspect and HELM, small and larger ones, as in `published_tables`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

from tests.outcomes.published import BENCHMARKS, MODELS, Cell, asked, lines, questions, write_json
from tests.outcomes.test_helm import stat
from tests.outcomes.wide import DATA, write_lines


def small_lm_eval(folder: Path) -> None:
    shutil.copytree(DATA / "lm_eval/models", folder / "lm_eval_output")


def large_lm_eval(folder: Path) -> None:
    [source] = (DATA / "lm_eval/models/example__small-1b").glob("samples_sums_*.jsonl")
    [results] = source.parent.glob("results_*.json")
    document = json.loads(results.read_text("utf-8"))
    templates = {row["filter"]: row for row in lines(source)}
    for model in MODELS:
        target = folder / f"lm_eval_output/{model.replace('/', '__')}"
        write_json(target / results.name, document | {"model_name": model})
        rows = []
        for question in asked(model, questions()):
            for name, template in templates.items():
                row = deepcopy(template) | {"doc_id": question.number, "doc": {"question": question.text, "answer": "7"}}
                row["arguments"]["gen_args_0"]["arg_0"] = (
                    f"Question: An example\nAnswer: 3\n\nQuestion: {question.text}\nAnswer:"
                )
                score = question.scores[model] if name == "strict-match" else 0.0
                rows.append(row | {"resps": [[question.responses[model]]], "exact_match": score})
        write_lines(target / source.name, rows)


def lm_eval_cells(folder: Path) -> Iterator[Cell]:
    """The first metric and filter of each task: strict-match of sums, accuracy of capitals, the majority of votes."""
    for file in sorted((folder / "lm_eval_output").rglob("samples_*.jsonl")):
        task = file.name.split("_")[1]
        [results] = file.parent.glob("results_*.json")
        model = json.loads(results.read_text("utf-8"))["model_name"]
        for row in lines(file):
            if row["filter"] == "flexible-extract":
                continue
            score = row["acc"] if "acc" in row else row["exact_match"]
            if "acc" in row:
                likelihoods = [float(choice[0][0]) for choice in row["resps"]]
                text = row["doc"]["choices"][likelihoods.index(max(likelihoods))]
            else:
                text = row["resps"][0][0] if len(row["resps"][0]) == 1 else row["filtered_resps"][0]
            yield Cell(task, str(row["doc_id"]), model, score, response=text)


def small_inspect(folder: Path) -> None:
    (folder / "logs").mkdir()
    for name in ("2026-01-01T00-01-00+00-00_sums_large.json", "2026-01-01T00-02-00+00-00_capitals_small.json"):
        shutil.copy(DATA / "inspect" / name, folder / "logs")


def large_inspect(folder: Path) -> None:
    source = DATA / "inspect/2026-01-01T00-02-00+00-00_capitals_small.json"
    document = json.loads(source.read_text("utf-8"))
    template, model_usage = document["samples"][0], document["samples"][0]["output"]["usage"]
    for model in MODELS:
        samples = []
        for question in questions():
            prompt, completion = question.tokens[model]
            usage = model_usage | {"input_tokens": prompt, "output_tokens": completion, "total_tokens": prompt + completion}
            sample = deepcopy(template) | {"id": question.number, "input": question.text, "choices": None}
            sample["model_usage"] = {f"mockllm/{model}": usage}
            score = question.scores[model]
            sample["scores"] = {"choice": template["scores"]["choice"] | {"value": "I" if not score else "C"}}
            samples.append(sample | ({"scores": {}} if score is None else {}))
        log = deepcopy(document) | {"samples": samples}
        log["eval"] |= {"model": f"mockllm/{model}", "dataset": {"samples": len(samples), "shuffled": False}}
        write_json(folder / f"logs/{MODELS.index(model)}.json", log)


def inspect_cells(folder: Path) -> Iterator[Cell]:
    for file in sorted((folder / "logs").glob("*.json")):
        log = json.loads(file.read_text("utf-8"))
        for sample in log["samples"]:
            if sample["scores"]:
                usage = sample["model_usage"][log["eval"]["model"]]
                value = next(iter(sample["scores"].values()))["value"]
                yield Cell(
                    log["eval"]["task"],
                    str(sample["id"]),
                    log["eval"]["model"],
                    {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}[value],
                    tokens=(usage["input_tokens"], usage["output_tokens"]),
                    sample=sample["epoch"] - 1,
                )


def large_helm(folder: Path) -> None:
    for model in MODELS:
        for benchmark in BENCHMARKS:
            part = [question for question in asked(model, questions()) if question.benchmark == benchmark]
            run = folder / f"benchmark_output/runs/v1/{benchmark}:method=joint,model={model.replace('/', '_')}"
            write_json(run / "run_spec.json", {"name": run.name, "adapter_spec": {"model": model}})
            instance = {"references": [], "split": "test"}
            states = [
                {
                    "instance": instance | {"id": f"id{question.number}", "input": {"text": question.text}},
                    "train_trial_index": 0,
                    "request": {"model": model, "prompt": question.text},
                    "result": {"success": True, "completions": [{"text": question.responses[model]}]},
                }
                for question in part
            ]
            write_json(run / "scenario_state.json", {"request_states": states})
            names = ("exact_match", "num_prompt_tokens", "num_output_tokens")
            entries = [
                {
                    "instance_id": f"id{question.number}",
                    "train_trial_index": 0,
                    "stats": [
                        stat(name, float(value or 0))
                        for name, value in zip(names, (question.scores[model], *question.tokens[model]), strict=True)
                    ],
                }
                for question in part
            ]
            write_json(run / "per_instance_stats.json", entries)


def helm_cells(folder: Path) -> Iterator[Cell]:
    for run in sorted((folder / "benchmark_output/runs/v1").iterdir()):
        model = json.loads((run / "run_spec.json").read_text("utf-8"))["adapter_spec"]["model"]
        for entry in json.loads((run / "per_instance_stats.json").read_text("utf-8")):
            means = {value["name"]["name"]: value["mean"] for value in entry["stats"]}
            tokens = int(means["num_prompt_tokens"]), int(means["num_output_tokens"])
            name = run.name.partition(",model=")[0]
            yield Cell(name, entry["instance_id"], model, means["exact_match"], tokens=tokens)
