"""Files in the layouts of other projects: small ones that their own code wrote, where `data/` has some, and larger ones.

The larger ones have the same keys and columns, with made-up questions and scores, and models that were not asked some of the
questions. The functions `..._cells` read either with json and pandas alone.
"""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from tests.outcomes.published import BENCHMARKS, MODELS, Cell, Question, asked, lines, price, questions, write_json
from tests.outcomes.wide import DATA, SMALL, cached_result, write_lines

# RouterBench


def small_routerbench(folder: Path) -> None:
    pd.read_csv(DATA / "routerbench/input_wide.csv", index_col=0).to_parquet(folder / "routerbench_0shot.parquet")


def wide_frame(made: list[Question]) -> pd.DataFrame:
    rows = []
    for question in made:
        name = f"{question.benchmark}.dev.{question.number}"
        row: dict[str, Any] = {"sample_id": name, "prompt": repr([question.text]), "eval_name": question.benchmark}
        row |= question.scores
        row |= {f"{model}|model_response": repr([question.responses[model]]) for model in MODELS}
        rows.append(row | {f"{model}|total_cost": price(question, model) for model in MODELS})
    return pd.DataFrame(rows)


def large_routerbench(folder: Path) -> None:
    wide_frame(questions()).to_parquet(folder / "routerbench_0shot.parquet")


def large_routerdc_tables(folder: Path) -> None:
    """RouterDC's tables: one per benchmark and split, named by both."""
    frame = wide_frame(questions(150))
    arith, words = (frame[frame["eval_name"] == benchmark] for benchmark in BENCHMARKS)
    (folder / "RouterDC/datasets/routerbench_zs").mkdir(parents=True)
    for name, part in (("arc_challenge", arith), ("mbpp", words[::2]), ("winograde", words[1::2])):
        cut = 2 * len(part) // 3
        for split, rows in (("train", part[:cut]), ("test", part[cut:])):
            rows.to_csv(folder / f"RouterDC/datasets/routerbench_zs/{name}_{split}.csv")


def wide_cells(folder: Path) -> Iterator[Cell]:
    for file in sorted([*folder.rglob("*.parquet"), *folder.rglob("*.csv")]):
        frame = pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file)
        split = file.stem.rpartition("_")[2] if file.suffix == ".csv" else None
        for model in (name.removesuffix("|total_cost") for name in frame if name.endswith("|total_cost")):
            for row in frame[frame[model].notna()].to_dict("records"):
                text = "\n\n".join(ast.literal_eval(row[f"{model}|model_response"]))
                yield Cell(
                    row["eval_name"],
                    row["sample_id"],
                    model,
                    row[model],
                    row[f"{model}|total_cost"],
                    response=text,
                    split=split,
                )


# LLMRouterBench


def small_llmrouterbench(folder: Path) -> None:
    shutil.copytree(DATA / "llmrouterbench/bench", folder / "results/bench")


def large_llmrouterbench(folder: Path) -> None:
    [template] = (DATA / "llmrouterbench/bench/words/test/large-v1").glob("*.json")
    document = json.loads(template.read_text("utf-8"))
    for model in MODELS:
        for benchmark in BENCHMARKS:
            records = [
                document["records"][0]
                | {"index": question.number, "origin_query": question.text, "prompt": question.text}
                | {"score": question.scores[model], "cost": price(question, model), "raw_output": question.responses[model]}
                for question in questions()
                if question.benchmark == benchmark
            ]
            changes = {"dataset_name": benchmark, "model_name": model, "records": records}
            name = f"{benchmark}-test-{model.replace('/', '_')}-20260101_120000.json"
            write_json(folder / f"results/bench/{benchmark}/test/{model.replace('/', '_')}/{name}", document | changes)


def llmrouterbench_cells(folder: Path) -> Iterator[Cell]:
    for parent in sorted({file.parent for file in folder.rglob("*.json")}):
        documents = [json.loads(file.read_text("utf-8")) for file in sorted(parent.glob("*.json"))]
        newest = [document for document in documents if not document["demo"]][-1]
        for record in newest["records"]:
            if record["score"] is not None:
                name = f"{newest['split']}-{record['index']}"
                yield Cell(newest["dataset_name"], name, newest["model_name"], record["score"], record["cost"])


# LLMRouter and RouterDC


def write_prices(folder: Path) -> None:
    prices = {model: {"size": "7B", "input_price": 0.2 * n, "output_price": 0.5 * n} for n, model in enumerate(MODELS, 1)}
    write_json(folder / "routing_data/default_llm.json", prices)


def small_llmrouter(folder: Path) -> None:
    shutil.copytree(DATA / "llmrouter", folder / "routing_data")
    write_prices(folder)


def large_llmrouter(folder: Path) -> None:
    template = lines(DATA / "llmrouter/routing_data_train.jsonl")[0]
    made = questions(150)
    for split, part in (("train", made[:100]), ("test", made[100:])):
        rows = []
        for model in MODELS:
            for question in part:
                names = {"task_name": question.benchmark, "query": question.text, "model_name": model}
                tokens = dict(zip(("input_tokens", "output_tokens"), question.tokens[model], strict=True))
                row = template | names | tokens | {"embedding_id": question.number, "response": question.responses[model]}
                failed = {"response": "ERROR: timeout", "token_num": 0, "performance": 0.0}
                score = question.scores[model]
                rows.append(row | (failed if score is None else {"performance": score}))
        write_lines(folder / f"routing_data/routing_data_{split}.jsonl", rows)
    write_prices(folder)


def llmrouter_cells(folder: Path) -> Iterator[Cell]:
    prices = json.loads((folder / "routing_data/default_llm.json").read_text("utf-8"))
    for split in ("train", "test"):
        for row in lines(folder / f"routing_data/routing_data_{split}.jsonl"):
            if not row["response"].startswith("ERROR"):
                rates = prices[row["model_name"]]
                cost = (row["input_tokens"] * rates["input_price"] + row["output_tokens"] * rates["output_price"]) / 1e6
                name = f"{split}-{row['embedding_id']}"
                yield Cell(row["task_name"], name, row["model_name"], row["performance"], cost, split=split)


def small_routerdc(folder: Path) -> None:
    (folder / "datasets/split2_model7").mkdir(parents=True)
    for split in ("train", "test"):
        shutil.copy(DATA / f"routerdc/{split}.json", folder / f"datasets/split2_model7/gsm8k-{split}.json")


def large_routerdc(folder: Path) -> None:
    made = questions(80, is_binary=False)
    for split, part in (("train", made[:50]), ("test", made[50:])):
        for benchmark in BENCHMARKS:
            entries = [
                {"question": question.text, "scores": {name: x for name, x in question.scores.items() if x is not None}}
                for question in part
                if question.benchmark == benchmark
            ]
            write_json(folder / f"datasets/split2_model7/{benchmark}-{split}.json", entries)


def routerdc_cells(folder: Path) -> Iterator[Cell]:
    for file in sorted((folder / "datasets/split2_model7").glob("*.json")):
        benchmark, _, split = file.stem.rpartition("-")
        for number, entry in enumerate(json.loads(file.read_text("utf-8")), 1):
            for model, score in entry["scores"].items():
                yield Cell(benchmark, f"{split}-{number}", model, score, split=split)


# RouteLLM and RouterArena


def large_routellm(folder: Path) -> None:
    (folder / "responses").mkdir()
    for benchmark in BENCHMARKS:
        part = [question for question in questions() if question.benchmark == benchmark]
        frame = pd.DataFrame({"prompt": [question.text for question in part]})
        for model in MODELS[:2]:
            scores = [question.scores[model] for question in part]
            frame[model] = [None if score is None else bool(score) for score in scores]
        frame.to_csv(folder / f"responses/mmlu_{benchmark}.csv")


def routellm_cells(folder: Path) -> Iterator[Cell]:
    for file in sorted((folder / "responses").glob("*.csv")):
        frame = pd.read_csv(file)
        for model in MODELS[:2]:
            for number, row in enumerate(frame.to_dict("records"), 1):
                if isinstance(row[model], bool) or row[model] == row[model]:
                    text = row.get(f"{model}_response")
                    score = float(str(row[model]) == "True")
                    yield Cell(file.stem.removesuffix("_responses"), str(number), model, score, response=text)


def large_routerarena(folder: Path) -> None:
    template = cached_result(0, SMALL)
    for model in MODELS:
        rows = []
        for question in questions():
            score = question.scores[model]
            evaluation = template["evaluation_result"] | {"score": -0.1 if score == 0 else score}
            evaluation |= {"inference_cost": price(question, model), "metric": "error" if score is None else "meteor"}
            names = {"global_index": f"{question.benchmark}_{question.number}", "question": question.text}
            rows.append(template | names | {"llm_selected": model, "evaluation_result": evaluation})
        write_lines(folder / f"cached_results/{model.replace('/', '_')}.jsonl", rows)


def routerarena_cells(folder: Path) -> Iterator[Cell]:
    for file in sorted((folder / "cached_results").glob("*.jsonl")):
        for row in lines(file):
            result = row["evaluation_result"]
            if result["metric"] != "error":
                name = row["global_index"]
                score = max(0.0, result["score"])
                yield Cell(name.split("_")[0], name, row["llm_selected"], score, result["inference_cost"])


# The long format


def large_long(folder: Path) -> None:
    rows = [
        {"task": question.benchmark, "id": question.number, "query": question.text, "llm": model}
        | {"accuracy": 100 * (question.scores[model] or 0.0), "usd": price(question, model)}
        for model in MODELS
        for question in asked(model, questions(is_binary=False))
    ]
    write_lines(folder / "results.jsonl", rows)


def long_cells(folder: Path) -> Iterator[Cell]:
    for row in lines(folder / "results.jsonl"):
        yield Cell(row["task"], str(row["id"]), row["llm"], row["accuracy"] / 100, row["usd"])
