"""Turns tokens into cost: one hop costs `rate_in * prompt_tokens + rate_out * completion_tokens`, as in HierRouter."""

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Amount = TypeVar("Amount", float, npt.NDArray[np.float64])


def hop_cost(prompt_tokens: Amount, completion_tokens: Amount, rate_in: Amount, rate_out: Amount) -> Amount:
    """Return the raw cost of one hop; divide it by the suite's cost unit to compare it with quality.

    Args:
        prompt_tokens: Tokens of the rendered prompt.
        completion_tokens: Tokens of the response.
        rate_in: Price of a prompt token, in any unit that the whole suite shares.
        rate_out: Price of a completion token, in the same unit.
    """
    return rate_in * prompt_tokens + rate_out * completion_tokens


def in_cost_units(raw: Amount, cost_unit: float) -> Amount:
    """Express a raw cost in the suite's cost unit; if all rates are 0, the unit is 0 and so is every cost."""
    return raw / cost_unit if cost_unit else raw * 0.0
