"""The toolkit's own format: a table with one row per response, as docs/guides/results.md describes it."""

from collections.abc import Container, Iterator

from toolkit.core.errors import BenchmarkError
from toolkit.outcomes.converting import SCORE_PREFIX
from toolkit.outcomes.formats import Rows, Source
from toolkit.outcomes.reading import column_names, is_table, read_rows
from toolkit.outcomes.values import COLUMNS


class _Wanted(Container[object]):
    """The columns of the long format, those of further scores, and those that the user names."""

    def __init__(self, named: Container[object]) -> None:
        self.named = named

    def __contains__(self, name: object) -> bool:
        return name in COLUMNS or name in self.named or (isinstance(name, str) and name.startswith(SCORE_PREFIX))


class LongFormat:
    """Tables with one row per response; a folder may hold several."""

    title = "the long format"
    layout = "a table with one row per response"

    def recognizes(self, source: Source) -> bool:
        """Return whether the first table has the columns that every table needs."""
        tables = [file for file in source.files if is_table(file)]
        return bool(tables) and {"model", "question", "score"} <= set(column_names(tables[0]))

    def read(self, source: Source) -> Iterator[Rows]:
        """Yield the rows of all tables.

        Raises:
            BenchmarkError: There is no table, or one cannot be read.
        """
        tables = [file for file in source.files if is_table(file)] or list(source.files[:1])
        n_rows = 0
        for table in tables:
            for rows in read_rows(table, _Wanted(source.columns)):
                n_rows += len(rows.places)
                yield rows
        if not n_rows:
            raise BenchmarkError(f"{source.label} has no rows.")


FORMAT = LongFormat()
