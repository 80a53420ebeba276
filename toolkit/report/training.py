"""Text about a trained router: rendering only."""

from typing import Any

from toolkit.core.text import printable
from toolkit.report.estimates import with_interval
from toolkit.report.tables import count
from toolkit.routing.guard import Guard
from toolkit.routing.train import TrainedRun


def guard_sentence(guard: Guard, falls_back: bool, remedy: str) -> str:
    """Say how a router compares with the best fixed path on the validation split.

    Args:
        guard: The comparison.
        falls_back: Whether the router takes the path instead.
        remedy: The command that trains a router which falls back on the path.
    """
    path, questions = printable(guard.path), count(guard.questions, "validation question")
    if guard.is_better:
        return f"On {questions}, its R is ahead of the best fixed path ({path}) by {with_interval(guard.lead)}."
    sentence = (
        f"On {questions}, it is not significantly better than the best fixed path ({path}): its R differs by "
        f"{with_interval(guard.lead)}."
    )
    if falls_back:
        return f"{sentence} The router takes that path, because the settings say so (fallback = true)."
    return f"{sentence} To take that path instead: {remedy}"


def training_row(trained: TrainedRun, name: str | None) -> dict[str, Any]:
    """Return what was trained as a record, for programs; what is known of new runs alone is None for others."""
    guard = trained.guard
    return {
        "run": trained.run,
        "name": name,
        "path": str(trained.path),
        "trained_now": not trained.cached,
        "steps": trained.steps,
        "seconds": trained.seconds,
        "validation_questions": guard.questions if guard else None,
        "best_fixed_path": guard.path if guard else None,
        "lead": guard.lead.mean if guard else None,
        "lead_low": guard.lead.low if guard else None,
        "lead_high": guard.lead.high if guard else None,
        "falls_back": trained.falls_back,
    }
