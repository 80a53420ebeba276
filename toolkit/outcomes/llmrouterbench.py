"""Reads the results of LLMRouterBench (OpenRouterBench): `bench/DATASET/SPLIT/MODEL/NAME-TIME.json` with `records`.

The layout is that of github.com/ynulihao/LLMRouterBench (data_collector/storage.py, baselines/data_loader.py). As there, the
newest file of a data set, split and model counts, files of trial runs (`demo`) do not, and routers see the prompt. A split of
LLMRouterBench is part of a data set, mostly `test`, and not what a router is trained or tested on: it becomes part of the item.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import base_name, check_files, check_keys, files_of, plain_text, refusal, rows_from, some_match
from toolkit.outcomes.reading import first_object, read_document

logger = logging.getLogger("toolkit")

KINDS = (".json",)
KEYS = ("index", "prompt", "score", "prediction")
"""Keys of a record that are needed."""

_TIME = re.compile(r"-?(\d{8}_\d{6})$")


class LLMRouterBench:
    """Result files of LLMRouterBench."""

    title = "LLMRouterBench"
    layout = f"bench/DATASET/SPLIT/MODEL/*.json, objects with records that have {', '.join(KEYS)}, cost and tokens"

    def recognizes(self, source: Source) -> bool:
        """Return whether a file is an object with records."""
        return some_match(files_of(source, KINDS), lambda file: _is_result(first_object(file)))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows of the newest file of every data set, split and model."""
        files = files_of(source, KINDS)
        check_files(files, source, self)
        for versions in _by_result(files):
            yield from self._newest(versions)

    def _newest(self, versions: list[Path]) -> Iterator[Rows]:
        """Yield the rows of the first file that is not of a trial run; `versions` are sorted, the newest first."""
        for number, file in enumerate(versions):
            document = read_document(file)
            if not _is_result(document):
                raise refusal(file, "", self, "it is no object with a list of records")
            if document.get("demo"):
                logger.info("%s is of a trial run, and is left out", file)
                continue
            if older := len(versions) - number - 1:
                logger.info("%s is the newest of its results; older files that are left out: %d", file, older)
            yield from rows_from(file, self._records(file, document))
            return

    def _records(self, file: Path, document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        dataset, split, model = (
            plain_text(document.get(key)) or folder
            for key, folder in zip(("dataset_name", "split", "model_name"), _folders(file), strict=True)
        )
        for number, record in enumerate(document["records"], 1):
            place = f"record {number}"
            if not isinstance(record, dict):
                raise refusal(file, place, self, "it is no object")
            check_keys(file, place, self, record, KEYS)
            yield (
                place,
                {
                    "benchmark": dataset,
                    "item": f"{split}-{record['index']}",
                    "question": record["prompt"] or record.get("origin_query"),
                    "model": model,
                    "score": record["score"],
                    "cost": record.get("cost"),
                    "prompt_tokens": record.get("prompt_tokens"),
                    "completion_tokens": record.get("completion_tokens"),
                    "response": _response(record),
                    "reference": plain_text(record.get("ground_truth")),
                },
            )


def _is_result(document: object) -> bool:
    if not isinstance(document, dict) or not isinstance(document.get("records"), list):
        return False
    records = document["records"]
    return not records or (isinstance(records[0], dict) and "prompt" in records[0])


def _by_result(files: list[Path]) -> list[list[Path]]:
    """Group the files of the same data set, split and model; the newest is first, by the time in its name."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for file in files:
        groups.setdefault((file.parent, _TIME.sub("", base_name(file))), []).append(file)
    return [sorted(versions, key=_time, reverse=True) for versions in groups.values()]


def _time(file: Path) -> str:
    match = _TIME.search(base_name(file))
    return match[1] if match else ""


def _folders(file: Path) -> tuple[str, str, str]:
    """Return data set, split and model, as the folders say."""
    *_, dataset, split, model = ("", "", "", *file.absolute().parent.parts)
    return dataset, split, model


def _response(record: Mapping[str, Any]) -> str | None:
    """Return what the model returned; the prediction is what the scorer took from it."""
    raw = record.get("raw_output")
    return raw if isinstance(raw, str) else plain_text(record["prediction"])


FORMAT = LLMRouterBench()
