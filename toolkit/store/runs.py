"""TrainedRun routers, what they score, and what they decide."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from toolkit.store.file import CacheFile
from toolkit.store.rows import Row, append, arrow_keys, first


class Runs(CacheFile):
    """Runs, evaluations and decisions."""

    def add_run(self, run: Row, evaluations: Sequence[Row] = ()) -> None:
        """Record a trained router and what it scores; a run of the same name is replaced, with what was evaluated of it."""
        with self.write() as con:
            for table in ("runs", "evaluations", "decisions"):
                con.execute(f"DELETE FROM {table} WHERE run = ?", [run["run"]])
            append(con, "runs", [run])
            append(con, "evaluations", evaluations)

    def add_evaluation(self, run: str, split: str, evaluations: Iterable[Row], decisions: Iterable[Row]) -> None:
        """Record what a run's router and its baselines score, in place of an earlier evaluation on the same split and alpha.

        Decisions take the place of all earlier ones of the run at the same nodes, those of a conditioned router at other alphas
        included.
        """
        rows, decided = list(evaluations), list(decisions)
        with self.write() as con:
            for alpha in {row["alpha"] for row in rows}:
                con.execute("DELETE FROM evaluations WHERE run = ? AND split = ? AND alpha = ?", [run, split, alpha])
            append(con, "evaluations", rows)
            con.register("decided", arrow_keys([row["node"] for row in decided]))
            con.execute("DELETE FROM decisions WHERE run = ? AND node IN (SELECT key::UUID FROM decided)", [run])
            append(con, "decisions", decided)

    def add_overhead(self, run: str, encoder_seconds: float, network_seconds: float) -> None:
        """Keep with a run what one of its decisions takes, in place of an earlier measurement."""
        with self.write() as con:
            con.execute(
                "UPDATE runs SET encoder_seconds = ?, network_seconds = ? WHERE run = ?",
                [encoder_seconds, network_seconds, run],
            )

    def overhead(self, run: str) -> tuple[float, float] | None:
        """Return the seconds of encoder and network that were measured of a run's decisions, or None."""
        with self.read() as con:
            row = first(con, "SELECT encoder_seconds, network_seconds FROM runs WHERE run = ?", [run])
        return (row[0], row[1]) if row and row[0] is not None else None

    def seen_in_training(self, trained: UUID, now: UUID, split: str) -> int:
        """Count the questions of a split of suite `now` that a router trained on suite `trained` has learned from."""
        with self.read() as con:
            row = first(
                con,
                "SELECT count(DISTINCT question) FROM suite_questions WHERE suite = ? AND split = ? AND question IN"
                " (SELECT question FROM suite_questions WHERE suite = ? AND split <> 'test')",
                [now, split, trained],
            )
        return int(row[0]) if row else 0

    def newest_run(self, suite: str) -> tuple[str, str] | None:
        """Return name and policy file of the run trained last for a suite of that name, or None."""
        with self.read() as con:
            row = first(
                con,
                "SELECT run, policy FROM runs JOIN suites USING (suite) WHERE name = ? ORDER BY trained DESC LIMIT 1",
                [suite],
            )
        return (row[0], row[1]) if row else None
