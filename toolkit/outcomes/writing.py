"""Writes streamed rows as one table: Parquet, CSV or JSON lines, by the name of the file. Knows nothing of their columns."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

PARQUET = (".parquet",)
CSV = (".csv", ".csv.gz", ".csv.zst")
JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst")


def write_table(schema: "pa.Schema", tables: Iterable["pa.Table"], file: Path, ending: str) -> None:
    """Write rows to a file.

    Args:
        schema: Their columns.
        tables: The rows, in parts; each is a row group of Parquet.
        file: The file, which is overwritten.
        ending: Its format: one of the endings above.
    """
    import polars as pl
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    from toolkit.outcomes.reading import COMPRESSIONS

    if ending in PARQUET:
        with pyarrow.parquet.ParquetWriter(file, schema, compression="zstd") as parquet:
            for table in tables:
                parquet.write_table(table)
        return
    with pa.output_stream(str(file), compression=COMPRESSIONS.get(Path(ending).suffix)) as stream:
        if ending in CSV:
            with pyarrow.csv.CSVWriter(stream, schema) as csv:
                for table in tables:
                    csv.write_table(table)
            return
        for table in tables:
            stream.write(pl.DataFrame(table).write_ndjson().encode())
