"""Writes the layout of LLMRouterBench: `bench/BENCHMARK/SPLIT/MODEL/BENCHMARK-SPLIT-MODEL-TIME.json`, with records.

A complete path of several hops is one model, named `small > large`; its costs and tokens are those of all hops. Names of
folders are simplified, and the files have the names as they are.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from toolkit.outcomes.suite_results import SuiteResults, path_result

MAX_NAME = 60
"""Longest part of the name of a file: three of them and a time stay below the 255 bytes of file systems."""
_UNSAFE = re.compile(r"[^A-Za-z0-9._+=@-]+")


def write_llmrouterbench(results: SuiteResults, folder: Path) -> None:
    """Write a folder `bench` into a folder: one file per benchmark, split and model."""
    time = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    paths = results.complete_paths()
    benchmark_names = file_names(question.benchmark for question in results.suite.questions)
    model_names = file_names(paths)
    indices = _indices(results)
    for model, path in paths.items():
        for (benchmark, split), records in _records(results, path, indices).items():
            parts = (benchmark_names[benchmark], split, model_names[model])
            target = folder.joinpath("bench", *parts)
            target.mkdir(parents=True)
            document = _document(benchmark, split, model, records)
            (target / f"{'-'.join(parts)}-{time}.json").write_text(json.dumps(document, ensure_ascii=False), "utf-8")


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Return a different file name for each name: letters, digits and a few signs stay, and equal results get numbers."""
    safe: dict[str, str] = {}
    used: set[str] = set()
    for name in dict.fromkeys(names):
        base = _UNSAFE.sub("_", name).strip(".")[:MAX_NAME] or "_"
        number, candidate = 1, base
        while candidate.lower() in used:  # some file systems take A and a for the same name
            number += 1
            candidate = f"{base}_{number}"
        used.add(candidate.lower())
        safe[name] = candidate
    return safe


def _indices(results: SuiteResults) -> list[int]:
    """Return the number of each tree within its benchmark, from 0; it is the same for all models and splits."""
    counts: defaultdict[str, int] = defaultdict(int)
    indices = []
    for position in range(results.n_trees):
        question, _ = results.tree_at(position)
        indices.append(counts[question.benchmark])
        counts[question.benchmark] += 1
    return indices


def _records(
    results: SuiteResults, path: Sequence[int], indices: Sequence[int]
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """Return the records of a path and their seconds, by benchmark and split."""
    records: defaultdict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for position, nodes in results.trees(path):
        result = path_result(path, nodes)
        if result is None:
            continue
        question, sample = results.tree_at(position)
        response = result["response"] or ""
        record = {
            "index": indices[position],
            "origin_query": question.prompt,
            "prompt": question.prompt,
            "prompt_tokens": result["prompt_tokens"],
            "completion_tokens": result["completion_tokens"],
            "cost": result["raw_cost"],
            "score": result["score"],
            "prediction": result["extracted"] or response,
            "ground_truth": next(iter(question.reference.answers), ""),
            "raw_output": response,
            "extra_fields": {"item": question.item, "sample": sample, "seconds": result["seconds"]},
        }
        records[question.benchmark, question.split].append(record)
    return records


def _document(benchmark: str, split: str, model: str, records: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the content of a file: totals, then the records."""
    totals = {name: sum(record[name] for record in records) for name in ("prompt_tokens", "completion_tokens", "cost")}
    return {
        "performance": sum(record["score"] for record in records) / len(records),
        "time_taken": sum(record["extra_fields"]["seconds"] for record in records),
        **totals,
        "counts": len(records),
        "model_name": model,
        "dataset_name": benchmark,
        "split": split,
        "demo": False,
        "extra_metrics": {},
        "data_fingerprint": "",
        "records": records,
    }
