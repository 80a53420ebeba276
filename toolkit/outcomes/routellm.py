"""Reads RouteLLM's CSV files: a column prompt, and per model a column of True and False, perhaps also MODEL_response.

The layout is that of github.com/lm-sys/RouteLLM (routellm/evals/gsm8k and routellm/evals/mmlu/responses). A file is a
benchmark, so a folder of mmlu_SUBJECT.csv has one per subject. There are neither ids nor costs nor tokens: the item is the
number of the row.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.layouts import benchmark_in_name, check_files, check_keys, files_of, refusal, some_match
from toolkit.outcomes.reading import column_names, read_rows

KINDS = (".csv", ".parquet", ".feather", ".arrow")
RESPONSE = "_response"
INDEX = ("", "Unnamed: 0")
"""Names that pandas gives to the column of row numbers."""
OTHERS = {"sample_id", "eval_name", "benchmark", "item", "question", "model", "path", "score", "split"}
"""Columns of other tables, which name no model."""


class RouteLLM:
    """Responses of RouteLLM's evaluations."""

    title = "RouteLLM"
    layout = "CSV with a column prompt, a column of True and False per model, and perhaps MODEL_response"

    def recognizes(self, source: Source) -> bool:
        """Return whether the first rows of a table are truth values of models."""
        return some_match(files_of(source, KINDS), _is_routellm)

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows of each model, file by file."""
        files = files_of(source, KINDS)
        check_files(files, source, self)
        for file in files:
            yield from self._table(file)

    def _table(self, file: Path) -> Iterator[Rows]:
        columns = column_names(file)
        check_keys(file, "", self, columns, ["prompt"])
        models = _models(columns)
        if not models:
            others = ", ".join(name for name in columns if name != "prompt")
            raise refusal(file, "", self, f"beside prompt it has the columns {others or 'none'}")
        benchmark, done = benchmark_in_name(file).removesuffix("_responses"), 0
        for part in read_rows(file, ["prompt", *models, *(model + RESPONSE for model in models)]):
            count = len(part.places)
            shared = {
                "benchmark": [benchmark] * count,
                "item": [str(number) for number in range(done + 1, done + count + 1)],
                "question": part.columns["prompt"],
            }
            done += count
            for model in models:
                responses = part.columns.get(model + RESPONSE)
                outcomes = {"model": [model] * count, "score": part.columns[model]}
                yield Rows(part.file, part.places, shared | outcomes | ({} if responses is None else {"response": responses}))


def _models(columns: Sequence[str]) -> list[str]:
    """Return the columns that name models; none if the columns are those of another table."""
    names = [name for name in columns if name != "prompt" and name not in INDEX]
    if OTHERS.intersection(names) or any("|" in name for name in names):
        return []
    return [name for name in names if name.removesuffix(RESPONSE) not in {*names} - {name}]


def _is_routellm(file: Path) -> bool:
    columns = column_names(file)
    models = _models(columns)
    if "prompt" not in columns or not models:
        return False
    try:
        rows = next(read_rows(file, models), None)
    except BenchmarkError:
        return False
    return rows is not None and all(str(rows.columns[model][0]).lower() in ("true", "false") for model in models)


FORMAT = RouteLLM()
