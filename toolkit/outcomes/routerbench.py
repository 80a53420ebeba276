"""Reads RouterBench's wide tables: one row per question, and the columns MODEL, MODEL|model_response and MODEL|total_cost.

The layout is that of github.com/withmartian/routerbench (convertors/common.py). Prompts and responses are lists of texts,
written as Python does. RouterDC's CSV files of the same data have further columns, and the split in their names. RouterBench is
published as pickles, which are never read here: reading one runs whatever code it holds.
"""

import ast
import logging
import re
import shlex
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from toolkit.core.commands import command
from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import check_files, check_keys, files_of, refusal, some_match, splits_in_names
from toolkit.outcomes.reading import column_names, is_table, read_rows
from toolkit.tasks.values import is_chat

logger = logging.getLogger("toolkit")

KINDS = (".csv", ".jsonl", ".ndjson", ".parquet", ".feather", ".arrow")
PICKLES = (".pkl", ".pickle")
COST, RESPONSE = "|total_cost", "|model_response"
REMEMBERED_TEXTS = 10_000
"""Texts that are not parsed again; many responses are the same letter."""

_ONE_TEXT = re.compile(r"""\[(?:'([^'\\\n]*)'|"([^"\\\n]*)")\]""")
"""A Python list of one text in which nothing is escaped."""


class RouterBench:
    """Wide tables of RouterBench."""

    title = "RouterBench (wide table)"
    layout = "a row per question with sample_id, eval_name, prompt, and per model MODEL, MODEL|model_response, MODEL|total_cost"

    def recognizes(self, source: Source) -> bool:
        """Return whether a table has columns of models, or there is nothing but pickles."""
        if some_match(files_of(source, KINDS), lambda file: bool(_models(column_names(file)))):
            return True
        return bool(_pickles(source)) and not any(is_table(file) for file in source.files)

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows of each model, table by table."""
        files = files_of(source, KINDS)
        for pickle in _pickles(source):
            if _parquet(pickle).name not in {file.name for file in files}:
                raise _unread(pickle)
        check_files(files, source, self)
        splits = splits_in_names(files)
        if len(set(splits.values())) == 1:  # the name of a table that stands alone need not mean a split
            splits = dict.fromkeys(files)
        split_of: dict[Any, str] = {}
        for file in files:
            yield from self._table(file, splits[file], split_of)

    def _table(self, file: Path, split: str | None, split_of: dict[Any, str]) -> Iterator[Rows]:
        """Yield the rows of a file; a question that an earlier file has, too, keeps the split of that file."""
        columns = column_names(file)
        models = _models(columns)
        if not models:
            raise refusal(file, "", self, f"it has no column that ends in {COST} or {RESPONSE}")
        check_keys(file, "", self, columns, ["sample_id", "eval_name", "prompt", *models])
        needed = ["sample_id", "eval_name", "prompt", *(model + part for model in models for part in ("", COST, RESPONSE))]
        for part in read_rows(file, [name for name in needed if name in columns]):
            questions = _texts(part.columns["prompt"], is_prompt=True)
            shared: dict[str, Sequence[Any]] = {
                "benchmark": part.columns["eval_name"],
                "item": part.columns["sample_id"],
                "question": questions,
            }
            if split:
                items = zip(part.columns["eval_name"], part.columns["sample_id"], strict=True)
                shared["split"] = [split_of.setdefault(item, split) for item in items]
                if n_others := len(questions) - shared["split"].count(split):
                    logger.info("Questions of %s that keep the split of an earlier file: %d", file, n_others)
            for model in models:
                yield Rows(part.file, part.places, shared | _outcomes(part, model))


def _outcomes(part: Rows, model: str) -> dict[str, Sequence[Any]]:
    """Return the columns of one model."""
    columns: dict[str, Sequence[Any]] = {"model": [model] * len(part.places), "score": part.columns[model]}
    if (costs := part.columns.get(model + COST)) is not None:
        columns["cost"] = costs
    if (responses := part.columns.get(model + RESPONSE)) is not None:
        columns["response"] = _texts(responses)
    return columns


def _models(columns: Sequence[str]) -> list[str]:
    """Return the names of the models: what stands before the endings of columns."""
    names = (name.removesuffix(part) for name in columns for part in (COST, RESPONSE) if name.endswith(part))
    return [name for name in dict.fromkeys(names) if name]


def _texts(values: Iterable[Any], *, is_prompt: bool = False) -> list[Any]:
    """Return prompts or responses as texts, or as chats if their messages have roles; None stays None.

    A message of a prompt that is repeated counts once: RouterBench logs the prompts of some models twice.
    """
    texts: list[Any] = []
    with warnings.catch_warnings(action="ignore"):  # of texts that look like lists with escapes that are none
        for value in values:
            messages = _messages(value) if isinstance(value, str) and value.startswith("[") else value
            if isinstance(messages, list) and _are_texts(messages):
                messages = "\n\n".join(dict.fromkeys(messages) if is_prompt else messages)
            texts.append(messages)
    return texts


@lru_cache(maxsize=REMEMBERED_TEXTS)
def _messages(text: str) -> Any:
    """Return the list of texts or of messages that a text spells; the text itself if it is something else."""
    if match := _ONE_TEXT.fullmatch(text):
        return match[1] if match[2] is None else match[2]
    try:
        messages = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return messages if isinstance(messages, list) and (_are_texts(messages) or is_chat(messages)) else text


def _are_texts(messages: list[Any]) -> bool:
    return all(isinstance(message, str) for message in messages)


def _pickles(source: Source) -> list[Path]:
    return [file for file in source.files if any(suffix.lower() in PICKLES for suffix in file.suffixes[-2:])]


def _parquet(pickle: Path) -> Path:
    """Return the Parquet file that a pickle is converted to."""
    return pickle.with_name(re.split(r"\.(?:pkl|pickle)\b", pickle.name, flags=re.IGNORECASE)[0] + ".parquet")


def _unread(pickle: Path) -> BenchmarkError:
    target = _parquet(pickle)
    code = "import pandas, sys; pandas.read_pickle(sys.argv[1]).to_parquet(sys.argv[2])"
    lines = [
        f"{pickle} is a pickle. Reading one runs any code that it holds, so the toolkit does not. If you trust where it comes "
        "from, convert it in an environment of your own, and import the Parquet file:",
        "python -m venv pandas-venv",
        "pandas-venv/bin/pip install pandas pyarrow",
        shlex.join(["pandas-venv/bin/python", "-c", code, str(pickle), str(target)]),
        command("import", target, "--suite", "routerbench"),
    ]
    return BenchmarkError("\n  ".join(lines))


FORMAT = RouterBench()
