"""Runs: what has been evaluated, and trained if the toolkit trained it, with its evaluations and decisions."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

import duckdb

from toolkit.core.errors import PolicyError
from toolkit.core.text import printable
from toolkit.store.file import CacheFile, now
from toolkit.store.rows import Row, append, first_row, key_table


class RecordedRun(NamedTuple):
    """A run as recorded: its router's file, as it was when written, how long training took, and what trained it.

    Attributes:
        run: Its name.
        suite: Name of its suite.
        policy: Path of its router's file; empty for baselines.
        policy_sha256: Hash of that file; empty for baselines.
        seconds: Time of training, in seconds.
        algorithm: What trained the router, or what was evaluated.
        alpha: Weight of cost in the reward.
        seed: Seed of the training; None if the toolkit has not trained it.
        title: The name that the user has given it; empty if none.
    """

    run: str
    suite: str
    policy: str
    policy_sha256: str
    seconds: float
    algorithm: str
    alpha: float
    seed: int | None
    title: str = ""

    @property
    def trained(self) -> bool:
        """Whether the toolkit trained the router."""
        return self.seed is not None

    @property
    def short(self) -> str:
        """What a user types: the given name, or else the hash at the end of the run's own."""
        return self.title or short_name(self.run)


class RunRows(NamedTuple):
    """How many rows of the cache belong to a run."""

    evaluations: int
    decisions: int


class PathShares(NamedTuple):
    """The share of questions that a router routes along each path, at one alpha."""

    alpha: float
    shares: dict[str, float]


_MATCHES = "(run = $name OR runs.config->>'$.name' = $name OR (length($name) = 8 AND ends_with(run, '-' || $name)))"
"""Condition for the runs that a name means: their own, the one that the user has given, or the hash at its end."""


def short_name(run: str) -> str:
    """Return the hash at the end of a run's name, by which commands find it; all of the name if it has none."""
    digest = run.rpartition("-")[2]
    return digest if re.fullmatch("[0-9a-f]{8}", digest) else run


class Runs:
    """The runs, evaluations and decisions of a cache."""

    def __init__(self, file: CacheFile) -> None:
        self._file = file

    def add(self, run: Row, evaluations: Sequence[Row] = ()) -> None:
        """Record a trained router and its evaluations; a run of the same name is replaced, with everything evaluated of it.

        The name that the user has given to the run stays.
        """
        with self._file.write() as con:
            named = first_row(con, "SELECT config->>'$.name' FROM runs WHERE run = ?", [run["run"]])
            _delete(con, run["run"])
            append(con, "runs", [run])
            append(con, "evaluations", evaluations)
            if named and named[0]:
                _rename(con, run["run"], named[0])

    def rename(self, run: str, title: str) -> None:
        """Give a run a name by which commands find it."""
        with self._file.write() as con:
            _rename(con, run, title)

    def renew(self, run: str) -> None:
        """Make a run the newest of its suite, because it has been asked for again."""
        with self._file.write() as con:
            con.execute("UPDATE runs SET trained = ? WHERE run = ?", [now(), run])

    def add_evaluation(
        self, run: str, split: str, evaluations: Iterable[Row], decisions: Iterable[Row], run_row: Row | None = None
    ) -> None:
        """Record an evaluation of a run, replacing an earlier one on the same split and alpha.

        The decisions replace all earlier decisions of the run at the same nodes, at other alphas too. A run that is not
        recorded by its training comes with its own row.
        """
        evaluation_rows, decision_rows = list(evaluations), list(decisions)
        with self._file.write() as con:
            if run_row:
                con.execute("DELETE FROM runs WHERE run = ?", [run])
                append(con, "runs", [run_row])
            for alpha in {row["alpha"] for row in evaluation_rows}:
                con.execute("DELETE FROM evaluations WHERE run = ? AND split = ? AND alpha = ?", [run, split, alpha])
            append(con, "evaluations", evaluation_rows)
            con.register("decided", key_table([row["node"] for row in decision_rows]))
            con.execute("DELETE FROM decisions WHERE run = ? AND node IN (SELECT key::UUID FROM decided)", [run])
            append(con, "decisions", decision_rows)

    def add_overhead(self, run: str, encoder_seconds: float, network_seconds: float) -> None:
        """Record the measured overhead of one decision of a run, replacing an earlier measurement."""
        with self._file.write() as con:
            con.execute(
                "UPDATE runs SET encoder_seconds = ?, network_seconds = ? WHERE run = ?",
                [encoder_seconds, network_seconds, run],
            )

    def get(self, name: str) -> RecordedRun | None:
        """Return a run, by its own name, by the one that the user has given it, or by the hash at its end; or None.

        Raises:
            PolicyError: Several runs have the name, such as one of this cache and one that was imported.
        """
        with self._file.read() as con:
            rows = con.execute(
                "SELECT run, coalesce(name, ''), coalesce(policy, ''), coalesce(policy_sha256, ''), seconds, algorithm,"
                " alpha, seed, coalesce(runs.config->>'$.name', '') FROM runs LEFT JOIN suites USING (suite)"
                f" WHERE {_MATCHES} ORDER BY run = $name DESC, run",
                {"name": name},
            ).fetchall()
        if len(rows) > 1 and rows[0][0] != name:
            names = ", ".join(printable(row[0]) for row in rows)
            raise PolicyError(f"Several runs of {self._file.path} are called {printable(name)!r}: {names}. Use the whole name.")
        return RecordedRun(*rows[0]) if rows else None

    def names(self) -> list[str]:
        """Return what runs are called, newest first: the names that the user has given, and the others' own."""
        with self._file.read() as con:
            rows = con.execute("SELECT coalesce(config->>'$.name', run) FROM runs ORDER BY trained DESC, run").fetchall()
        return [row[0] for row in rows]

    def summaries(self, suite: str | None) -> list[Row]:
        """Return a row for each run of the suites of a name (None: of all), newest first, with Q, C and R on its test split."""
        return list(self._file.query("run_summaries", name=suite).to_pylist())

    def evaluations(self, run: str) -> list[Row]:
        """Return Q, C and R of the router of a run, or of the reference, on average in each of its evaluations."""
        return list(self._file.query("run_evaluations", run=run).to_pylist())

    def row(self, run: str) -> Row:
        """Return the row of a run, by column; empty if there is none."""
        return next(iter(self._file.query("run_row", run=run).to_pylist()), {})

    def count(self, run: str) -> RunRows:
        """Count the evaluations and decisions of a run."""
        with self._file.read() as con:
            counts = [
                con.execute(f"SELECT count(*) FROM {table} WHERE run = ?", [run]).fetchall()[0][0]
                for table in ("evaluations", "decisions")
            ]
        return RunRows(*counts)

    def delete(self, run: str) -> None:
        """Delete a run, its evaluations and its decisions."""
        with self._file.write() as con:
            _delete(con, run)

    def of_suite(self, suite: str) -> list[RecordedRun]:
        """Return the runs that the toolkit trained for suites of a name, newest first."""
        return [RecordedRun(**row) for row in self._file.query("recorded_runs", suite=suite).to_pylist()]

    def overhead(self, run: str) -> tuple[float, float] | None:
        """Return the measured seconds of encoder and network per decision of a run, or None."""
        with self._file.read() as con:
            row = first_row(con, "SELECT encoder_seconds, network_seconds FROM runs WHERE run = ?", [run])
        return (row[0], row[1]) if row and row[0] is not None else None

    def training_questions(self, trained: UUID, evaluated: UUID, split: str) -> int:
        """Count the questions of a split of suite `evaluated` that a router trained on suite `trained` has learned from."""
        with self._file.read() as con:
            row = first_row(
                con,
                "SELECT count(DISTINCT question) FROM suite_questions WHERE suite = ? AND split = ? AND question IN"
                " (SELECT question FROM suite_questions WHERE suite = ? AND split <> 'test')",
                [evaluated, split, trained],
            )
        return int(row[0]) if row else 0

    def evaluated_alphas(self) -> set[tuple[str, float]]:
        """Return run and alpha of every evaluation on a test split."""
        return {(row["run"], row["alpha"]) for row in self._file.query("evaluated_alphas").to_pylist()}

    def path_shares(self, runs: Sequence[str], policy: str) -> list[PathShares]:
        """Return the path shares of a policy in each evaluation of the given runs, on test splits and overall."""
        rows = self._file.query("path_shares", runs=list(runs), policy=policy).to_pylist()
        return [PathShares(row["alpha"], json.loads(row["paths"])) for row in rows]


def _delete(con: duckdb.DuckDBPyConnection, run: str) -> None:
    for table in ("runs", "evaluations", "decisions"):
        con.execute(f"DELETE FROM {table} WHERE run = ?", [run])


def _rename(con: duckdb.DuckDBPyConnection, run: str, title: str) -> None:
    con.execute(
        "UPDATE runs SET config = json_merge_patch(config, json_object('name', ?::VARCHAR)) WHERE run = ?", [title, run]
    )
