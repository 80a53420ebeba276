"""Turns tokens into cost: one hop costs `rate_in * prompt_tokens + rate_out * completion_tokens`, as in HierRouter."""

from typing import NamedTuple, TypeVar

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


class Money(NamedTuple):
    """What costs are in money, where a suite says that its prices are.

    Attributes:
        currency: The currency, e.g. USD.
        cost_unit: The price of one cost unit.
    """

    currency: str
    cost_unit: float

    @property
    def is_usd(self) -> bool:
        """Whether prices are US dollars."""
        return self.currency == "USD"

    def per_1000(self, cost: Amount) -> Amount:
        """Return the price of 1,000 questions, given the mean cost of a question in cost units."""
        return cost * (1000 * self.cost_unit)


def money_of(currency: str | None, cost_unit: float | None) -> Money | None:
    """Return what costs are in money, given a suite's currency and cost unit; None if it lacks one of them."""
    return Money(currency, cost_unit) if currency and cost_unit else None
