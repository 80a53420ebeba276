"""Reads logs of lm-evaluation-harness: `samples_TASK_TIME.jsonl` and the `results_TIME.json` beside it.

A log has one row for each document and filter. Here a document is a question, and its scores are called as lm-eval calls them:
`exact_match,strict-match`. The main score is the first metric of the task with its first filter. The question is what the
document contributes to the prompt (`toolkit.outcomes.prompts`).

The layout is that of lm_eval 0.4, which writes it with `--log_samples`.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import with_left_out
from toolkit.outcomes.prompts import document_text, last_user_message
from toolkit.outcomes.reading import first_object, read_document, read_objects
from toolkit.outcomes.rows import chunks

MARKS = {"doc_id", "doc", "arguments", "resps"}
"""Keys that every row of a log has."""

_SUFFIX = re.compile(r"\.jsonl(\.gz|\.zstd?)?$", re.IGNORECASE)
_TIME = re.compile(r"_(\d{4}-\d\d-\d\dT\d\d[-:]\d\d[-:]\d\d(?:\.\d+)?)$")
_FIELDS = {*MARKS, "target", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash", "target_hash"}
"""Keys that are no metrics."""
_OF_DOCUMENTS = (None, "mean", "nanmean", "median")
"""Aggregations of scores of single documents. Others, such as `perplexity` and `bleu`, score the corpus as a whole."""
_MODEL_ARGUMENTS = ("peft", "delta", "pretrained", "model", "path", "engine")
"""Arguments that name a model, in the order in which lm-eval looks for them."""


class Log(NamedTuple):
    """A file of samples, and what the file of results says about it.

    Attributes:
        path: The file.
        task: Name of the task.
        model: Name of the model.
        time: When it was written, as in its name; empty if that is unknown.
        config: Configuration of the task.
        lower: Metrics of which lower values are better.
    """

    path: Path
    task: str
    model: str
    time: str
    config: Mapping[str, Any]
    lower: Collection[str]


@dataclass
class Document:
    """A document with the scores of all filters.

    Attributes:
        place: Where its first row is.
        responses: One per sample.
        scores: By `METRIC,FILTER`, one per sample.
    """

    place: str
    question: str
    reference: str | None
    responses: list[str | None]
    scores: dict[str, list[Any]] = field(default_factory=dict)
    n_rows: int = 0


class LmEval:
    """The format of lm-evaluation-harness."""

    title = "lm-evaluation-harness (--log_samples)"
    layout = "folders with samples_TASK_TIME.jsonl and results_TIME.json"

    def recognizes(self, source: Source) -> bool:
        """Return whether a file of JSON lines has the keys of a log."""
        return any(map(_is_log, source.files))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield one row per document, model and sample; where several logs have a document, that of the newest.

        Raises:
            BenchmarkError: A file is not what lm-eval writes, or no document has a score of its own.
        """
        paths = [path for path in source.files if _is_named(path) or _is_log(path)]
        left_out: dict[str, None] = {}
        rows = None
        for rows in with_left_out(self._parts(paths, left_out), left_out):
            yield rows
        if rows is None:
            listed = ", ".join(left_out) or "there is no samples_TASK_TIME.jsonl"
            raise BenchmarkError(
                f"{source.label} has no score of single documents: {listed}. A score of a whole corpus says nothing about one "
                "question. Run lm_eval with --log_samples on a task with another metric."
            )

    def _parts(self, paths: Sequence[Path], left_out: dict[str, None]) -> Iterator[Rows]:
        """Yield the rows of the newest logs in parts, and add what is left out to `left_out`."""
        logs = sorted(map(_log, paths), key=lambda log: log.time, reverse=True)
        read: dict[tuple[str, str], set[str]] = {}
        for log in sorted(logs, key=lambda log: (log.model, log.task)):
            documents = _documents(log, left_out)
            newer = read.setdefault((log.model, log.task), set())
            if repeated := newer & documents.keys():
                left_out[f"{len(repeated)} documents of {log.path.name}, which a newer log has"] = None
            scored = [item for item, document in documents.items() if document.scores and item not in newer]
            newer.update(documents)
            yield from (_rows(log, {item: documents[item] for item in part}) for part in chunks(scored))


def _is_named(path: Path) -> bool:
    return path.name.startswith("samples_") and _SUFFIX.search(path.name) is not None


def _is_log(path: Path) -> bool:
    return _SUFFIX.search(path.name) is not None and first_object(path).keys() >= MARKS


def _log(path: Path) -> Log:
    stem = _SUFFIX.sub("", path.name)
    match = _TIME.search(stem)
    time = match[1] if match else ""
    stem = stem.removesuffix(f"_{time}")
    results = _results(path, time)
    configs = results.get("configs") or {}
    task = stem.removeprefix("samples_")
    if not stem.startswith("samples_"):  # before version 0.4.3: MODEL_TASK.jsonl
        task = max((name for name in configs if stem.endswith(f"_{name}")), key=len, default="")
    if not task:
        raise BenchmarkError(
            f"{path} does not name its task, and no results_TIME.json beside it does. Rename it to samples_TASK.jsonl."
        )
    is_higher_better = (results.get("higher_is_better") or {}).get(task) or {}
    lower = [metric for metric, is_higher in is_higher_better.items() if is_higher is False]
    return Log(
        path, task, _model(results) or path.resolve().parent.name, time.replace(":", "-"), configs.get(task) or {}, lower
    )


def _results(path: Path, time: str) -> Mapping[str, Any]:
    """Return the results that were written with a file of samples: those of the same time, else the newest."""
    files = sorted(path.parent.glob("*.json"), reverse=True)
    same = [file for file in files if time and time in file.name]
    for file in same or [file for file in files if file.name.startswith("results")]:
        document = read_document(file)
        if isinstance(document, dict) and isinstance(document.get("configs"), dict):
            return document
    return {}


def _model(results: Mapping[str, Any]) -> str | None:
    """Return the name of the model in a file of results."""
    if name := results.get("model_name"):
        return str(name)
    arguments = (results.get("config") or {}).get("model_args") or ""
    if not isinstance(arguments, dict):
        arguments = dict(part.split("=", 1) for part in str(arguments).split(",") if "=" in part)
    return next((str(arguments[name]) for name in _MODEL_ARGUMENTS if arguments.get(name)), None)


def _documents(log: Log, left_out: dict[str, None]) -> dict[str, Document]:
    """Return the documents of a log by their ids, and add the metrics that are left out to `left_out`."""
    documents: dict[str, Document] = {}
    for place, row in read_objects(log.path):
        try:
            item = str(int(row["doc_id"]))
            document = documents.get(item)
            if document is None:
                document = documents[item] = _document(place, row)
            filter_name = str(row.get("filter") or _filter_name(log, document.n_rows))
            document.n_rows += 1
            for metric in (
                row["metrics"] if isinstance(row.get("metrics"), list) else [key for key in row if key not in _FIELDS]
            ):
                values = _sample_scores(row[metric], len(document.responses))
                reason = _corpus_reason(log, metric) or ("" if values else "not a number for each document")
                if reason:
                    left_out[f"{log.task}: {metric} ({reason})"] = None
                else:
                    document.scores[f"{metric},{filter_name}"] = values
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise BenchmarkError(
                f"{log.path}, {place} is not a row of lm-evaluation-harness: {type(error).__name__}: {error}. A row has "
                f"{', '.join(sorted(MARKS))} and its metrics. Log the task again with --log_samples."
            ) from None
    return documents


def _filter_name(log: Log, number: int) -> str:
    """Return the name of a document's filter by the number of its row, for versions that do not log it."""
    names = _filter_names(log)
    return names[number] if number < len(names) else str(number + 1)


def _filter_names(log: Log) -> list[str]:
    return [str(entry["name"]) for entry in log.config.get("filter_list") or [] if entry.get("name")] or ["none"]


def _metrics(log: Log) -> dict[str, Any]:
    """Return the metrics of a task, in order, with their aggregations."""
    listed = log.config.get("metric_list") or []
    return {str(entry["metric"]): entry.get("aggregation") for entry in listed if isinstance(entry, dict) and "metric" in entry}


def _corpus_reason(log: Log, metric: str) -> str | None:
    """Return why a metric is no quality of single documents."""
    aggregation = _metrics(log).get(metric)
    if aggregation in ("perplexity", "weighted_perplexity", "bits_per_byte") or metric in log.lower:
        return "lower is better"
    is_named = isinstance(aggregation, str) and aggregation.isidentifier()
    return f"a score of the whole corpus: {aggregation}" if is_named and aggregation not in _OF_DOCUMENTS else None


def _sample_scores(value: Any, n_samples: int) -> list[Any]:
    """Return a metric's values for the samples of a document; empty if they are no numbers."""
    values = value if isinstance(value, list) else [value]
    if len(values) == n_samples and all(entry is None or _is_number(entry) for entry in values):
        return values
    return []


def _is_number(value: Any) -> bool:
    if isinstance(value, str):  # numbers of NumPy are written as text
        return value in ("True", "False") or re.fullmatch(r"-?\d+(\.\d*)?(e-?\d+)?", value) is not None
    return isinstance(value, int | float)


def _document(place: str, row: Mapping[str, Any]) -> Document:
    requests = _requests(row["arguments"])
    if requests[0][0].strip():  # acc_mutual_info also scores the choices without a prompt
        requests = [request for request in requests if request[0].strip()]
    choices = [request[1] for request in requests if len(request) > 1 and isinstance(request[1], str)]
    texts = choices if len(set(choices)) > 1 else ["".join(request[:2]) for request in requests if len(choices) > 1]
    texts = [text.strip() for text in texts]
    question = document_text(requests[0][0], row["doc"]) if requests[0][0].strip() else "\n".join(texts)
    target = None if row.get("target") is None else str(row["target"])
    if target is not None and target.isdecimal() and int(target) < len(choices) > 1:
        target = texts[int(target)]
    return Document(place, question, target, _responses(row, texts, len(requests), is_rated=bool(choices)))


def _requests(arguments: Any) -> list[list[Any]]:
    """Return the arguments of each request: lists, or objects `gen_args_0` with `arg_0`, depending on the version."""
    if not isinstance(arguments, dict | list):
        raise TypeError("arguments is neither a list nor an object")
    requests = [
        list(request.values() if isinstance(request, dict) else [request] if isinstance(request, str) else request)
        for request in (arguments.values() if isinstance(arguments, dict) else arguments)
    ]
    return [[last_user_message(request[0]), *request[1:]] for request in requests]


def _responses(row: Mapping[str, Any], choices: Sequence[str], n_requests: int, *, is_rated: bool) -> list[str | None]:
    """Return the response of each sample: the most likely choice, or the text that the model generated."""
    responses = row["resps"]
    if is_rated:
        if len(choices) < 2:
            return [None]
        likelihoods = [float(response[0][0]) for response in responses[:n_requests]]
        return [choices[likelihoods.index(max(likelihoods))]]
    texts = responses[0] if n_requests == 1 else []
    texts = [text if isinstance(text, str) else None for text in texts]
    values = [row[metric] for metric in row.get("metrics") or [] if isinstance(row[metric], list)]
    if len(texts) > 1 and not any(len(value) == len(texts) for value in values):  # one score: what the filter made of them
        filtered = (row.get("filtered_resps") or [None])[0]
        return [filtered if isinstance(filtered, str) else None]
    return texts or [None]


def _rows(log: Log, documents: Mapping[str, Document]) -> Rows:
    samples = [(item, document, n) for item, document in documents.items() for n in range(len(document.responses))]
    names = dict.fromkeys(name for document in documents.values() for name in document.scores)
    expected = [f"{metric},{filter_name}" for metric in _metrics(log) for filter_name in _filter_names(log)]
    main = next((name for name in expected if name in names), next(iter(names), None))
    scores = {name: [_nth(document.scores.get(name), n) for _, document, n in samples] for name in names}
    columns: dict[str, Sequence[Any]] = {
        "benchmark": [log.task] * len(samples),
        "item": [item for item, _, _ in samples],
        "question": [document.question for _, document, _ in samples],
        "model": [log.model] * len(samples),
        "sample": [n for _, _, n in samples],
        "response": [document.responses[n] for _, document, n in samples],
        "reference": [document.reference for _, document, _ in samples],
        **({"score": scores[main]} if main else {}),
        **{f"score:{name}": values for name, values in scores.items()},
    }
    return Rows(str(log.path), [document.place for _, document, _ in samples], columns)


def _nth(values: Sequence[Any] | None, number: int) -> Any:
    return values[number] if values else None


FORMAT = LmEval()
