"""What a benchmark is: questions, data sources, metrics, and the sandbox that runs model-written code."""

from toolkit.tasks.base import BENCHMARKS, Benchmark, Item, lettered
from toolkit.tasks.data import Dataset, DataSplit, Record
from toolkit.tasks.metrics import METRICS, Metric, Reference, Score, metric
from toolkit.tasks.sandbox import Checks
from toolkit.tasks.values import number_text

__all__ = [
    "BENCHMARKS",
    "METRICS",
    "Benchmark",
    "Checks",
    "DataSplit",
    "Dataset",
    "Item",
    "Metric",
    "Record",
    "Reference",
    "Score",
    "lettered",
    "metric",
    "number_text",
]
