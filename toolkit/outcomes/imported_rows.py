"""Turns results into the rows of their trees: generations, nodes and scores, in parts of complete questions."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import polars as pl

from toolkit.core.hashing import canonical_json
from toolkit.outcomes.converting import SCORE_PREFIX
from toolkit.outcomes.imported_suite import GIVEN, METRIC
from toolkit.outcomes.results import CELL, Results
from toolkit.outcomes.values import HOP
from toolkit.store import ImportedRows, now
from toolkit.suites.suite import Suite

if TYPE_CHECKING:
    import pyarrow as pa

COMMIT_ROWS = 50_000
"""Nodes that are written together, about."""


def observed_texts(results: Results) -> list[str]:
    """Return the distinct texts that decision nodes observe: questions, and responses before the last hop."""
    texts = dict.fromkeys(results.questions["question"].to_list())
    if results.horizon > 1:
        inner = results.cells.filter(pl.col("path").str.count_matches(HOP, literal=True) < results.horizon - 1)
        texts |= dict.fromkeys(inner["response"].drop_nulls().unique(maintain_order=True).to_list())
    return list(texts)


def imported_rows(suite: Suite, results: Results, cells: pl.DataFrame, source: str) -> Iterator[ImportedRows]:
    """Yield the rows of some cells; one without a result is a failure that no run retries.

    Args:
        suite: The suite.
        results: Its results.
        cells: The cells to write, by `CELL`, with those above them.
        source: Name of the table, for the errors of missing cells.
    """
    writer = _RowWriter(suite, results, source)
    depth = pl.col("path").str.count_matches(HOP, literal=True)
    for part in _parts(cells.sort("number", "sample", depth)):
        known = results.cells.filter(pl.col("number").is_between(part["number"][0], part["number"][-1]))
        chosen = part.join(known, on=CELL, how="left", maintain_order="left")
        yield writer.rows(_with_own_texts(chosen, known, results.metrics))


def _parts(cells: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Cut cells, which are sorted by question, where a question begins."""
    numbers = cells["number"]
    start = 0
    while start < cells.height:
        stop = min(start + COMMIT_ROWS, cells.height)
        while stop < cells.height and numbers[stop] == numbers[stop - 1]:
            stop += 1
        yield cells[start:stop]
        start = stop


def with_parents(cells: pl.DataFrame) -> pl.DataFrame:
    """Return cells and all those that their paths lead through, each once."""
    levels = [cells.select(CELL)]
    while True:
        inner = levels[-1].filter(pl.col("path").str.contains(HOP, literal=True))
        if not inner.height:
            return pl.concat(levels).unique(maintain_order=True)
        hops = pl.col("path").str.count_matches(HOP, literal=True)
        levels.append(inner.with_columns(pl.col("path").str.split(HOP).list.head(hops).list.join(HOP)))


def _with_own_texts(cells: pl.DataFrame, known: pl.DataFrame, metrics: Sequence[str]) -> pl.DataFrame:
    """Say which responses have a key of their own, because equal ones to the same question are scored differently.

    Args:
        cells: The cells to write.
        known: All cells of their questions.
        metrics: Columns of further scores.
    """
    scores = ["score", *metrics]
    repeated = known.filter(pl.col("response").is_not_null()).group_by("number", "response")
    counts = repeated.agg(pl.col(name).drop_nulls().n_unique() for name in scores)
    differing = counts.filter(pl.any_horizontal(pl.col(name) > 1 for name in scores)).select("number", "response")
    own = differing.with_columns(own=pl.lit(True))
    joined = cells.join(own, on=("number", "response"), how="left", maintain_order="left")
    return joined.with_columns(pl.col("own").fill_null(False))


class _Keys(NamedTuple):
    """Keys of some cells, a list per column, as text without dashes where no other key depends on the dashes."""

    node: list[str]
    root: list[str]
    question: list[str]
    parent: list[str]
    generation: list[str]
    prompt: list[str]


class _RowWriter:
    """Makes rows of the cells of a suite."""

    def __init__(self, suite: Suite, results: Results, source: str) -> None:
        self.suite = suite
        self.metrics = results.metrics
        self.error = f"not in {source}"
        self.models = {model.name: str(model.key) for model in suite.models}
        paths = results.cells["path"].unique().to_list()
        keys = [[self.models[model] for model in path.split(HOP)] for path in paths]
        self.paths = pl.DataFrame(
            {"path": paths, "keys": keys}, schema={"path": pl.String, "keys": pl.List(pl.String)}
        ).with_columns(depth=pl.col("keys").list.len().cast(pl.Int32), model=pl.col("keys").list.last())

    def rows(self, cells: pl.DataFrame) -> ImportedRows:
        """Return the rows of some cells, in which shorter paths of a tree come first."""
        keys = self._keys(cells)
        paths = cells.select("path").join(self.paths, on="path", how="left", maintain_order="left")
        is_ok = cells["score"].is_not_null()
        texts = self._texts(cells, keys.generation, is_ok)
        generations = cells.select("sample", "response", "prompt_tokens", "completion_tokens", "cost").with_columns(
            generation=pl.Series(keys.generation, dtype=pl.String),
            model=paths["model"],
            prompt=pl.Series(keys.prompt, dtype=pl.String),
            text=texts,
            status=pl.when(is_ok).then(pl.lit("ok")).otherwise(pl.lit("error")),
            error=pl.when(~is_ok).then(pl.lit(self.error)),
            transient=pl.when(~is_ok).then(pl.lit(False)),
            engine=pl.lit("imported"),
            created=pl.lit(now()),
        )
        names = ("node", "root", "question", "parent", "generation")
        nodes = pl.DataFrame({name: getattr(keys, name) for name in names}, schema=dict.fromkeys(names, pl.String))
        nodes = nodes.with_columns(path=paths["keys"], depth=paths["depth"], dropped_responses=pl.lit(0, pl.Int32))
        return ImportedRows(_arrow(generations), _arrow(nodes), _arrow(self._scores(cells, nodes["question"], texts)))

    def _keys(self, cells: pl.DataFrame) -> _Keys:
        keys = _Keys([], [], [], [], [], [])
        tree: tuple[int, int] | None = None
        nodes: dict[str, str] = {}
        prompts: dict[str, tuple[str, str]] = {}
        root = question_key = ""
        for number, sample, path in cells.select(CELL).iter_rows():
            if tree != (number, sample):
                tree, question = (number, sample), self.suite.questions[number]
                root, question_key = str(self.suite.root(number, sample)), str(question.key)
                nodes, prompts = {"": root}, {}
            before, _, model = path.rpartition(HOP)
            key = self.models[model]
            if before not in prompts:
                earlier = before.split(HOP) if before else []
                prompt = canonical_json([question.benchmark, question.item, question.prompt, earlier])
                prompts[before] = prompt, canonical_json(prompt)
            prompt, quoted = prompts[before]
            parent = nodes[before]
            node = nodes[path] = _dashed(_hashed(f'["node","{parent}","{key}"]'))
            generation = _hashed(f'["generation","{key}",{quoted},{sample}]')
            for column, value in zip(keys, (node, root, question_key, parent, generation, prompt), strict=True):
                column.append(value)
        return keys

    def _texts(self, cells: pl.DataFrame, generations: list[str], is_ok: pl.Series) -> pl.Series:
        """Return the key of each response; it is that of its generation if there is no text, or an equal one differs."""
        rows = zip(cells["response"], cells["own"], generations, is_ok, strict=True)
        texts = [
            _hashed(_dashed(key) if own or response is None else response) if ok else None for response, own, key, ok in rows
        ]
        return pl.Series(texts, dtype=pl.String)

    def _scores(self, cells: pl.DataFrame, questions: pl.Series, texts: pl.Series) -> pl.DataFrame:
        """Return one score of each metric per question and response."""
        labels = {"score": METRIC, **{name: name.removeprefix(SCORE_PREFIX) + GIVEN for name in self.metrics}}
        parts = [
            pl.DataFrame({"question": questions, "text": texts, "value": cells[name]}).with_columns(metric=pl.lit(label))
            for name, label in labels.items()
        ]
        scores = pl.concat(parts).filter(pl.col("value").is_not_null() & pl.col("text").is_not_null())
        return scores.unique(["question", "text", "metric"], keep="first", maintain_order=True).with_columns(
            detail=pl.lit("{}")
        )


def _hashed(text: str) -> str:
    """Return the digits of the key that `toolkit.core.hashing.text_key` gives."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _dashed(key: str) -> str:
    """Return a key as its text is hashed in other keys."""
    return f"{key[:8]}-{key[8:12]}-{key[12:16]}-{key[16:20]}-{key[20:]}"


def _arrow(frame: pl.DataFrame) -> "pa.Table":
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())
