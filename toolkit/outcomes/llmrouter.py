"""Reads the routing data of LLMRouter and xRouteBench, and the scores by model that RouterDC is trained on.

The layouts are those of github.com/ulab-uiuc/LLMRouter (llmrouter/data/README.md, benchmark_pipeline) and of
github.com/shuhao02/RouterDC. The split is in the name of a file. An embedding_id is that of a question within its split.
Costs are tokens times the prices of default_llm.json, if that is among the files; its prices are for a million tokens.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import (
    base_name,
    benchmark_in_name,
    check_files,
    check_keys,
    files_of,
    plain_text,
    refusal,
    rows_from,
    some_match,
    splits_in_names,
)
from toolkit.outcomes.reading import column_names, first_object, kind_of, read_document, read_objects, read_rows
from toolkit.tasks.values import is_chat

LINES, DOCUMENTS, TABLES = (".jsonl", ".ndjson"), (".json",), (".csv", ".parquet", ".feather", ".arrow")
KEYS = ("query", "model_name", "performance")
"""Columns of routing data."""
SCORES = ("question", "scores")
"""Keys of the objects that RouterDC is trained on."""
FAILED = ("ERROR", "API Error")
"""How the text begins that stands for the response of a call that failed."""


class Prices(NamedTuple):
    """Prices of a million prompt tokens and completion tokens by model, and the file that has them."""

    file: Path
    by_model: Mapping[str, tuple[float, float]]

    def cost(self, file: Path, place: str, model: Any, tokens: tuple[Any, Any]) -> float:
        """Return the cost of a response.

        Raises:
            BenchmarkError: The model has no price, or the row has no tokens.
        """
        if model not in self.by_model:
            raise BenchmarkError(f"{file}, {place}: {self.file} has no price of {model}. Add it there, or leave that file out.")
        try:
            return sum(float(count) * price for count, price in zip(tokens, self.by_model[model], strict=True)) / 1e6
        except (TypeError, ValueError):
            raise BenchmarkError(
                f"{file}, {place} has no input_tokens and output_tokens that the prices of {self.file} could apply to. Leave "
                "that file out."
            ) from None


class LLMRouter:
    """Routing data of LLMRouter and xRouteBench, and scores by model of RouterDC."""

    title = "LLMRouter, xRouteBench or RouterDC"
    layout = (
        f"rows with task_name, {', '.join(KEYS)}, or a JSON list with {' and '.join(SCORES)} by model; the split in the name"
    )

    def recognizes(self, source: Source) -> bool:
        """Return whether a file has the columns of routing data, or scores by model."""
        return any(some_match(files_of(source, kinds), _has_results) for kinds in (DOCUMENTS, (*LINES, *TABLES)))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows, file by file."""
        contents = {file: _content(file) for file in _without_copies(files_of(source, (*LINES, *DOCUMENTS, *TABLES)))}
        files = [file for file, content in contents.items() if content not in ("questions", "models")]
        check_files(files, source, self)
        splits = splits_in_names([file for file in files if contents[file] != "other"])
        prices = next(
            (by_model for file, content in contents.items() if content == "models" and (by_model := _prices(file))), None
        )
        for file in files:
            if contents[file] == "scores":
                yield from rows_from(file, self._scored(file, splits[file]))
                continue
            if kind_of(file) in TABLES:
                check_keys(file, "", self, column_names(file), KEYS)
            yield from rows_from(file, self._routed(file, splits.get(file), prices))

    def _routed(self, file: Path, split: str | None, prices: Prices | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield place and values of each row of routing data."""
        for place, row in _objects(file):
            yield place, self._row(file, place, row, split, prices)

    def _row(self, file: Path, place: str, row: Mapping[str, Any], split: str | None, prices: Prices | None) -> dict[str, Any]:
        check_keys(file, place, self, row, KEYS)
        tokens = row.get("input_tokens"), row.get("output_tokens")
        response, reference = plain_text(row.get("response")), plain_text(row.get("ground_truth"))
        values = {
            "benchmark": plain_text(row.get("task_name")) or benchmark_in_name(file),
            "item": _item(split, plain_text(row.get("embedding_id")) or _digest(row["query"], reference)),
            "question": _question(row["query"]),
            "model": row["model_name"],
            "score": None if _failed(response, row) else row["performance"],
            "response": response,
            "reference": reference,
        }
        if "input_tokens" in row and "output_tokens" in row:
            values |= {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
        if prices:
            values["cost"] = prices.cost(file, place, row["model_name"], tokens)
        return values | ({"split": split} if split else {})

    def _scored(self, file: Path, split: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield place and values of a row per model, given objects that have a question and all its scores."""
        benchmark = benchmark_in_name(file)
        for number, (place, entry) in enumerate(_objects(file), 1):
            check_keys(file, place, self, entry, SCORES)
            if not isinstance(entry["scores"], dict):
                raise refusal(file, place, self, "its scores are no object with a score per model")
            shared = {"benchmark": benchmark, "item": _item(split, str(number)), "question": entry["question"]}
            shared |= {"split": split} if split else {}
            for model, score in entry["scores"].items():
                yield place, shared | {"model": model, "score": score}


def _objects(file: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if kind_of(file) not in TABLES:
        yield from read_objects(file)
        return
    for part in read_rows(file):
        for place, *values in zip(part.places, *part.columns.values(), strict=True):
            yield place, dict(zip(part.columns, values, strict=True))


def _without_copies(files: Iterable[Path]) -> list[Path]:
    """Leave out the CSV files that LLMRouter writes beside JSON lines when it reads them."""
    files = list(files)
    lines = {(file.parent, base_name(file)) for file in files if kind_of(file) in LINES}
    return [file for file in files if kind_of(file) != ".csv" or (file.parent, base_name(file)) not in lines]


Content = Literal["routing", "scores", "questions", "models", "other"]


def _content(file: Path) -> Content:
    """Return what a file is about, as its first object or its header shows.

    Beside results there are files of the questions that routing data begin with, and JSON documents that describe models by
    their names: prices, descriptions or embeddings.
    """
    first = first_object(file)
    names = set(first) if first or kind_of(file) not in TABLES else set(column_names(file))
    if set(KEYS) <= names:
        return "routing"
    if set(SCORES) <= names and isinstance(first.get("scores"), dict):
        return "scores"
    if {"task_name", "query"} <= names and not names & set(KEYS[1:]):
        return "questions"
    if first and kind_of(file) in DOCUMENTS and all(isinstance(value, dict | list) for value in first.values()):
        return "models"
    return "other"


def _has_results(file: Path) -> bool:
    return _content(file) in ("routing", "scores")


def _prices(file: Path) -> Prices | None:
    models = read_document(file)
    if not isinstance(models, dict):
        return None
    keys = ("input_price", "output_price")
    by_model = {
        name: (float(model[keys[0]]), float(model[keys[1]]))
        for name, model in models.items()
        if isinstance(model, dict) and all(isinstance(model.get(key), int | float) for key in keys)
    }
    return Prices(file, by_model) if by_model else None


def _item(split: str | None, name: str) -> str:
    return f"{split}-{name}" if split else name


def _digest(query: Any, reference: str | None) -> str:
    return hashlib.sha256(json.dumps([query, reference], ensure_ascii=False, default=str).encode()).hexdigest()[:16]


def _question(query: Any) -> Any:
    """Return a question as text, or as a chat; Parquet files of xRouteBench have chats as JSON."""
    if isinstance(query, str) and query.startswith("[{"):
        try:
            chat = json.loads(query)
        except ValueError:
            return query
        return chat if is_chat(chat) else query
    return query if is_chat(query) else plain_text(query)


def _failed(response: str | None, row: Mapping[str, Any]) -> bool:
    return response is not None and response.startswith(FAILED) and row.get("token_num") in (0, "0")


FORMAT = LLMRouter()
