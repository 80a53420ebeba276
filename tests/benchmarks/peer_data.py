"""The table on which `just peers` compares routers of several projects, and the files that the others read it from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.core.errors import SuiteError
from toolkit.replay.exact import best_model, node_outcome, rank_models
from toolkit.replay.table import Floats, Ints, TransitionTable

HELD_OUT = 7
"""Of so many training questions, one selects settings if a suite has no validation split."""


def first_hop(table: TransitionTable) -> TransitionTable:
    """Return the table of the first hop alone, since the other projects' routers choose once.

    Raises:
        SuiteError: Responses are missing, or two questions have the same text, by which LLMRouter tells them apart.
    """
    if table.available is not None:
        raise SuiteError("The comparison needs every response of the suite. Import it with --missing drop-question.")
    if len(set(table.questions)) < len(table.questions):
        raise SuiteError("Two questions of the suite have the same text, so that LLMRouter would take them for one.")
    split, train = table.split.astype("<U10"), np.random.default_rng(0).permutation(table.rows("train"))
    if not len(table.rows("validation")):
        split[train[: len(train) // HELD_OUT]] = "validation"
    ends = slice(0, 1 + table.n_models)
    return replace(
        table,
        horizon=1,
        split=split,
        quality=table.quality[:, ends],
        hop_cost=table.hop_cost[:, ends],
        texts=table.texts[:, :1],
        responses=(),
        exists=None,
    )


def pair(table: TransitionTable) -> TransitionTable:
    """Return the table of a weak and a strong model alone, in this order, since RouteLLM's routers choose between two.

    The strong one has the best quality on the training split, and the weak one is the cheapest of the others.
    """
    train, nodes = table.rows("train"), np.arange(1, 1 + table.n_models)
    strong = best_model(table, train, 0.0)
    cheapest = nodes[np.argsort(node_outcome(table, train[:, None], nodes).cost.mean(0), kind="stable")]
    weak = next(int(node) for node in cheapest if node != strong)
    columns = [0, weak, strong]
    models = (table.models[weak - 1], table.models[strong - 1])
    return replace(table, models=models, quality=table.quality[:, columns], hop_cost=table.hop_cost[:, columns])


def rewards(table: TransitionTable, rows: Ints, alpha: float) -> Floats:
    """Return the reward of every model on some rows, `(rows, M)`."""
    return node_outcome(table, rows[:, None], np.arange(1, 1 + table.n_models)).reward(alpha)


def fitted_rows(table: TransitionTable) -> Ints:
    """Return the rows that routers without a choice of settings are fitted on: training and validation questions."""
    return np.sort(np.concatenate([table.rows("train"), table.rows("validation")]))


def battles(table: TransitionTable) -> list[dict[str, Any]]:
    """Return RouteLLM's preference data: for every training question and pair of models, which has the higher quality."""
    results = []
    for row in table.rows("train").tolist():
        quality = table.quality[row, 1:]
        for left, right in combinations(range(table.n_models), 2):
            sign = int(np.sign(quality[left] - quality[right]))
            winner = {1: "model_a", -1: "model_b", 0: "tie"}[sign]
            results.append({"idx": row, "model_a": table.models[left], "model_b": table.models[right], "winner": winner})
    return results


def routing_data(table: TransitionTable, alpha: float) -> list[dict[str, Any]]:
    """Return LLMRouter's routing data, whose `performance` is the reward at a price.

    LLMRouter takes the first of equally good models as the best of a question, so that models come in the order of their means.
    """
    rows = fitted_rows(table)
    reward = rewards(table, rows, alpha)
    order = [int(node) - 1 for node in rank_models(table, rows, alpha)]
    return [
        {
            "task_name": table.benchmarks[table.benchmark[row]],
            "query": table.questions[row],
            "model_name": table.models[model],
            "performance": float(reward[place, model]),
            "embedding_id": row,
        }
        for place, row in enumerate(rows.tolist())
        for model in order
    ]


def write_lines(file: Path, records: Sequence[dict[str, Any]]) -> None:
    """Write records as JSON lines."""
    file.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")


def write_job(folder: Path, table: TransitionTable, alphas: Sequence[float], seeds: int) -> None:
    """Write what the programs of the other projects read: job.json, embeddings.npy, and a folder of LLMRouter's for each price.

    Args:
        folder: An empty folder.
        table: The table of one hop.
        alphas: Prices of cost.
        seeds: Seeds of each random router.
    """
    weak, strong = pair(table).models
    np.save(folder / "embeddings.npy", table.question_embeddings(np.arange(len(table.split))).astype(np.float32))
    job = {
        "alphas": list(alphas),
        "seeds": seeds,
        "models": table.models,
        "weak": weak,
        "strong": strong,
        "questions": table.questions,
        "validation": table.rows("validation").tolist(),
        "test": table.rows("test").tolist(),
        "battles": battles(table),
    }
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    queries = [
        {"task_name": table.benchmarks[table.benchmark[row]], "query": table.questions[row], "embedding_id": row}
        for row in table.rows("test").tolist()
    ]
    for alpha in alphas:
        place = folder / f"alpha-{alpha}"
        place.mkdir()
        write_lines(place / "routing_data_train.jsonl", routing_data(table, alpha))
        write_lines(place / "query_data_test.jsonl", queries)
        sizes = {model: {"size": "1B", "model": model} for model in table.models}
        (place / "llm_data.json").write_text(json.dumps(sizes), "utf-8")
