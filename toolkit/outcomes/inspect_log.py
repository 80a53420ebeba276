"""Reads logs of Inspect, `.eval` and `.json`, with Inspect's own reader (the extra `inspect`).

A task is a benchmark, and the epochs of a sample are the samples of a question. Each scorer is a score; the main one is that of
the log's headline, or the first. Samples that failed or have no score are missing responses.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isnan
from pathlib import Path
from typing import Any

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import with_left_out
from toolkit.outcomes.rows import chunks

INSTALL = "pip install 'hierrouter-toolkit[inspect]'"

_JSON_START = re.compile(rb'\s*\{\s*"version":\s*\d+,\s*"status":\s*"\w+",\s*"eval":\s*\{')
_UNREAD = {"events", "events_data", "timelines", "store", "messages"}
"""Fields of a sample that are not read: they are most of a log."""
_WORDS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
"""What the values of scores mean that are no numbers, as Inspect's `value_to_float` reads them."""


@dataclass
class Log:
    """A log.

    Attributes:
        path: The file.
        header: The log without its samples, as plain values.
        samples: The samples, as plain values.
        benchmark: The task, with the arguments in which the logs of this task differ.
    """

    path: Path
    header: Mapping[str, Any]
    samples: list[Mapping[str, Any]]
    benchmark: str = field(init=False)

    def __post_init__(self) -> None:
        self.benchmark = self.spec["task"]

    @property
    def spec(self) -> Mapping[str, Any]:
        """What was evaluated: task, model, settings."""
        spec: Mapping[str, Any] = self.header["eval"]
        return spec


class InspectLog:
    """The format of Inspect."""

    title = "Inspect"
    layout = ".eval and .json logs of inspect-ai"

    def recognizes(self, source: Source) -> bool:
        """Return whether a file is an archive or a document of Inspect."""
        return any(map(_is_log, source.files))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield one row per sample, epoch and model; where several logs have it, that of the newest.

        Raises:
            BenchmarkError: inspect-ai is not installed, a file is no log, or no sample has a score.
        """
        paths = [path for path in source.files if path.suffix == ".eval" or _is_log(path)]
        left_out: dict[str, None] = {}
        rows = None
        for rows in with_left_out(self._parts(paths, left_out), left_out):
            yield rows
        if rows is None:
            raise BenchmarkError(
                f"{source.label} has no sample with a score: {', '.join(left_out) or 'there is no log of Inspect'}. Score the "
                "logs, e.g. with inspect score, or name logs whose status is success."
            )

    def _parts(self, paths: list[Path], left_out: dict[str, None]) -> Iterator[Rows]:
        """Yield the rows of the newest logs in parts, and add what is left out to `left_out`."""
        logs = sorted(map(read_log, paths), key=lambda log: str(log.spec["created"]), reverse=True)
        _name_benchmarks(logs)
        read: dict[tuple[str, str], set[tuple[str, int]]] = {}
        for log in sorted(logs, key=lambda log: (str(log.spec["model"]), log.benchmark)):
            newer = read.setdefault((log.spec["model"], log.benchmark), set())
            scored = [sample for sample in log.samples if not sample.get("error") and sample.get("scores")]
            if missing := _n_expected(log) - len(scored):
                left_out[f"{missing} samples without a score in {log.path.name} ({log.header['status']})"] = None
            fresh = [sample for sample in scored if _cell(sample) not in newer]
            if repeated := len(scored) - len(fresh):
                left_out[f"{repeated} samples of {log.path.name}, which a newer log has"] = None
            newer |= set(map(_cell, fresh))
            yield from (_rows(log, part, left_out) for part in chunks(fresh))


def _is_log(path: Path) -> bool:
    try:
        if path.suffix == ".eval":
            with zipfile.ZipFile(path) as archive:
                return not {"header.json", "_journal/start.json"}.isdisjoint(archive.namelist())
        if path.suffix == ".json":
            with path.open("rb") as file:
                return _JSON_START.match(file.read(1000)) is not None
    except (OSError, zipfile.BadZipFile):
        pass
    return False


def read_log(path: Path) -> Log:
    """Read a log with Inspect's own reader.

    Raises:
        BenchmarkError: inspect-ai is not installed, or cannot read the file.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError:
        raise BenchmarkError(f"{path} is a log of Inspect, which the package inspect-ai reads. Install it: {INSTALL}") from None
    try:
        log = read_eval_log(str(path), resolve_attachments=True, exclude_fields=_UNREAD)
    except Exception as error:  # the reader raises errors of many kinds
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'}"
        raise BenchmarkError(
            f"{path} is not a log that inspect-ai can read: {reason}. Is it complete? Inspect itself shows what is wrong: "
            f"inspect log dump {path}"
        ) from None
    samples = [sample.model_dump(exclude=_UNREAD) for sample in log.samples or []]
    return Log(path, log.model_dump(exclude={"samples", "reductions"}), samples)


def _name_benchmarks(logs: list[Log]) -> None:
    """Add to the names of tasks the arguments in which their logs differ: their samples may have the same ids."""
    for log in logs:
        arguments = [other.spec["task_args"] for other in logs if other.spec["task"] == log.spec["task"]]
        own = log.spec["task_args"]
        differing = sorted(name for name in own if any(other.get(name) != own[name] for other in arguments))
        if differing:
            log.benchmark += f" ({', '.join(f'{name}={own[name]}' for name in differing)})"


def _n_expected(log: Log) -> int:
    """Return how many samples, with their epochs, a log should have."""
    n_questions = len(log.spec["dataset"].get("sample_ids") or []) or len({sample["id"] for sample in log.samples})
    return max(n_questions * (log.spec["config"].get("epochs") or 1), len(log.samples))


def _cell(sample: Mapping[str, Any]) -> tuple[str, int]:
    return str(sample["id"]), int(sample["epoch"])


def _rows(log: Log, samples: list[Mapping[str, Any]], left_out: dict[str, None]) -> Rows:
    scores = [_scores(sample["scores"]) for sample in samples]
    names: dict[str, None] = {}
    for name, value in ((name, value) for row in scores for name, value in row.items()):
        if isinstance(value, str):
            left_out[f"{log.benchmark}: {name} (not a number: {value})"] = None
        else:
            names[name] = None
    main = _main_score(log, list(names))
    usages = [_usage(sample, log.spec["model"]) for sample in samples]
    columns: dict[str, list[Any]] = {
        "benchmark": [log.benchmark] * len(samples),
        "item": [str(sample["id"]) for sample in samples],
        "question": [_question(sample) for sample in samples],
        "model": [log.spec["model"]] * len(samples),
        "sample": [sample["epoch"] - 1 for sample in samples],
        "response": [sample["output"]["completion"] for sample in samples],
        "reference": ["\n".join([target] if isinstance(target := sample["target"], str) else target) for sample in samples],
        "prompt_tokens": [prompt for prompt, _ in usages],
        "completion_tokens": [completion for _, completion in usages],
        **({"score": [_number(row.get(main)) for row in scores]} if main else {}),
        **{f"score:{name}": [_number(row.get(name)) for row in scores] for name in names},
    }
    places = [f"sample {sample['id']}, epoch {sample['epoch']}" for sample in samples]
    return Rows(str(log.path), places, columns)


def _main_score(log: Log, names: list[str]) -> str | None:
    """Return the score of the headline, else the first one."""
    headline = (log.header.get("results") or {}).get("headline") or {}
    scorer, score = headline.get("scorer"), headline.get("score")
    return next((name for name in (scorer, f"{scorer}/{score}") if name in names), names[0] if names else None)


def _scores(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float | str | None]:
    """Return the values by `SCORER`, or `SCORER/KEY` if a scorer has several; None if unscored, text if it is no number."""
    values: dict[str, float | str | None] = {}
    for name, score in scores.items():
        value = score["value"]
        parts = {f"{name}/{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
        values |= {part: _to_float(entry) for part, entry in parts.items()}
    return values


def _to_float(value: Any) -> float | str | None:
    if isinstance(value, str):
        word = _WORDS.get(value, _WORDS.get(value.lower()))
        try:
            return float(value) if word is None else word
        except ValueError:
            return value
    if isinstance(value, int | float):
        return None if isnan(value) else float(value)
    return None if value is None else f"a {type(value).__name__}"


def _number(value: float | str | None) -> float | None:
    return None if isinstance(value, str) else value


def _question(sample: Mapping[str, Any]) -> Any:
    """Return the input of a sample: text with the choices below it, or a chat."""
    question, choices = sample["input"], sample.get("choices")
    if not isinstance(question, str):
        return [{"role": message["role"], "content": message["content"]} for message in question]
    lines = [f"{chr(ord('A') + number)}) {choice}" for number, choice in enumerate(choices or [])]
    return "\n".join([question, "", *lines]) if lines else question


def _usage(sample: Mapping[str, Any], model: str) -> tuple[int | None, int | None]:
    """Return the tokens of the prompt, cached ones included, and of the completion, without those of models that grade."""
    usage = (sample.get("model_usage") or {}).get(model) or sample["output"].get("usage")
    if not usage:
        return None, None
    cached = (usage.get("input_tokens_cache_read") or 0) + (usage.get("input_tokens_cache_write") or 0)
    return usage["input_tokens"] + cached, usage["output_tokens"]


FORMAT = InspectLog()
