"""Checks that two runs can be compared on the same questions, at one alpha."""

from collections.abc import Mapping
from typing import Any

from toolkit.core.commands import command
from toolkit.core.errors import PolicyError


def shared_alpha(first: Mapping[str, Any], second: Mapping[str, Any], alpha: float | None, at_alpha: str) -> float:
    """Return the alpha at which two routers are compared, given their cards.

    Args:
        first: Card of the first router.
        second: Card of the second.
        alpha: The alpha that the user names; None for the one that both were trained for.
        at_alpha: The command that compares them at an alpha.

    Raises:
        PolicyError: They were trained on different suites or splits, or for different alphas, and the user names none.
    """
    if first["run"] == second["run"]:
        raise PolicyError(f"Both names mean the run {first['run']}. Name two runs; to list them: toolkit runs")
    names = f"{first['run']} and {second['run']}"
    if first["suite_key"] != second["suite_key"]:
        kind = "suites" if first["suite"] != second["suite"] else "versions of the suite"
        raise PolicyError(
            f"{names} were trained on different {kind}, so they share no questions that can be compared. Train both on one: "
            f"{command('train', second['suite'])}"
        )
    holdouts = [card["settings"].get("holdout") for card in (first, second)]
    if holdouts[0] != holdouts[1]:
        raise PolicyError(
            f"{names} hold out different benchmarks ({holdouts[0] or 'none'} and {holdouts[1] or 'none'}), so their test "
            f"splits differ. Train both with one --holdout, or without: {command('train', first['suite'])}"
        )
    if alpha is not None:
        return alpha
    if float(first["alpha"]) != float(second["alpha"]):
        raise PolicyError(
            f"{names} were trained for different alphas ({first['alpha']:g} and {second['alpha']:g}), so their R are not the "
            f"same measure. Name the alpha at which to compare both: {at_alpha}"
        )
    return float(first["alpha"])
