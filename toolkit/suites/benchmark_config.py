"""The table `[[benchmarks]]` of a suite file: which questions are used, and how they are scored."""

import re
from string import Formatter
from typing import Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from toolkit.core.errors import did_you_mean
from toolkit.core.registry import BENCHMARKS
from toolkit.suites.fields import Count, LocalPath, Seed
from toolkit.suites.section import RECORDED, FreeName, Section, refusal
from toolkit.tasks import METRICS
from toolkit.tasks.base import Field as BenchmarkField

MAX_WIDTH = 1000
"""Widest column or longest number that the format of a column in a prompt may ask for."""


class BenchmarkConfig(Section):
    """One benchmark of the suite and how many of its questions are used.

    A shipped benchmark is given by name. One of your own is a Python file (`file`), or a table of rows with a prompt template
    (`data` and `prompt`), in which case `answer` and `metric` say how it is scored.
    """

    name: FreeName = Field(description="A shipped benchmark (`toolkit benchmarks` lists them), or a name for your own.")
    limit: Count | None = Field(None, description="Number of questions; a larger limit contains the smaller one.")
    seed: Seed = Field(0, description="Another seed selects other questions under a limit.")
    shots: int = Field(0, ge=0, le=32, description="Examples shown before each question, from the split reserved for them.")
    quality: str | None = Field(None, description="Metric that is Q in this suite; default: the benchmark's own.")
    metrics: tuple[str, ...] = Field((), description="Further metrics to score and cache.")
    data: LocalPath | None = Field(
        None,
        description="Your copy of the data, relative to the suite file: a folder or file (JSONL, JSON, CSV, Parquet, gz, zip). "
        "Default: below $TOOLKIT_DATA, else the hub.",
    )
    file: LocalPath | None = Field(
        None, description="Your own benchmark: a Python file that defines one `Benchmark`. Its code runs: see --trust."
    )
    prompt: str | None = Field(
        None, description="Your own benchmark: the prompt of a row of `data`, with its columns in braces: `{question}`."
    )
    answer: str = Field("answer", description="With `prompt`: the column with the answer, or a list of accepted ones.")
    choices: str | None = Field(None, description="With `prompt`: the column with the list of choices.")
    id: str | None = Field(None, description="With `prompt`: the column with the id of a row; default: its number.")
    stratum: str | None = Field(None, description="With `prompt`: a column whose kinds keep their shares under a limit.")
    metric: str | None = Field(None, description="With `prompt`: the metric; required.")
    field: BenchmarkField = Field("qa", description="With `prompt`: the skill that it tests.")
    licence: str = Field("", description="With `prompt`: licence of the questions.")
    imported: bool = Field(
        False, description="Written by `toolkit import`: questions, responses and scores come from other people's results."
    )

    @model_validator(mode="after")
    def _check_kind(self, info: ValidationInfo) -> Self:
        if self.imported:
            return self
        is_own = self.file is not None or self.prompt is not None
        if not is_own and self.name not in BENCHMARKS and info.context != RECORDED:
            raise ValueError(
                f"there is no benchmark {self.name!r}; {did_you_mean(self.name, BENCHMARKS)}; one "
                "of your own needs file, or data and prompt"
            )
        if is_own and self.name in BENCHMARKS:
            raise ValueError(f"{self.name!r} is a shipped benchmark; give your own another name")
        if self.file is not None and self.prompt is not None:
            raise ValueError("give either file (Python), or data and prompt")
        if self.prompt is not None and (self.data is None or self.metric is None):
            raise ValueError("prompt also needs data and metric")
        return self

    @field_validator("prompt")
    @classmethod
    def _check_prompt(cls, prompt: str | None) -> str | None:
        if prompt is not None:
            try:
                fields = [(field, spec) for _, field, spec, _ in Formatter().parse(prompt) if field is not None]
            except ValueError as error:
                raise ValueError(f"{error}; columns are in braces, and a brace of the text is written twice") from None
            if not fields or any(not field for field, _ in fields):
                raise ValueError("it names its columns in braces, such as {question}; otherwise all questions are the same")
            if any(number > MAX_WIDTH for _, spec in fields for number in map(int, re.findall(r"[0-9]+", spec or ""))):
                raise ValueError(f"a format may be at most {MAX_WIDTH} wide")
            if any("{" in (spec or "") for _, spec in fields):
                raise ValueError("a format has no column of its own")
        return prompt

    @model_validator(mode="after")
    def _check_metrics(self, info: ValidationInfo) -> Self:
        if self.file is not None or info.context == RECORDED:  # a Python file may define metrics of its own
            return self
        for field, names in (("quality", (self.quality,)), ("metric", (self.metric,)), ("metrics", self.metrics)):
            for name in names:
                if name is not None and name not in METRICS:
                    raise refusal(field, name, f"there is no metric {name!r}; {did_you_mean(name, METRICS)}")
        return self
