"""Metrics: how a response is scored against a reference. One family a file; `METRICS` is the registry.

A metric is one object (`TOKEN_F1`) and one line of the entry points `toolkit.metrics` in pyproject.toml. The Python file of a
benchmark registers its own with the decorator `metric`.
"""

from toolkit.tasks.metrics.base import FILTERED, METRICS, Metric, Reference, Score, checked_score, metric
from toolkit.tasks.metrics.text import normalise

__all__ = ["FILTERED", "METRICS", "Metric", "Reference", "Score", "checked_score", "metric", "normalise"]
