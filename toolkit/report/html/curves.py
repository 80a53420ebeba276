"""Reads the learning curves of runs from the TensorBoard logs beside their routers."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from toolkit.routing.router_file import LOG_FOLDER

TAGS = {"validation/reward": "R on the validation split (greedy)", "rollout/return": "mean return while training (sampled)"}
"""What is shown of a log, and what it is called."""
MAX_POINTS = 100
"""Points of a curve that are kept, evenly spread."""


def read_curves(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the points of a run's curves, as rows; nothing if it has no log.

    Args:
        folder: The folder of the run.
    """
    logs = sorted({file.parent for file in (folder / LOG_FOLDER).rglob("events.out.tfevents.*")}) if folder.is_dir() else []
    if not logs:
        return
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(logs[-1]), size_guidance={"scalars": 0})  # trained again: the newest
    accumulator.Reload()
    for tag, title in TAGS.items():
        if tag in accumulator.Tags()["scalars"]:
            events = accumulator.Scalars(tag)
            stride = -(-len(events) // MAX_POINTS)
            for event in events[:: max(stride, 1)]:
                yield {"curve": title, "step": event.step, "value": round(float(event.value), 6)}
