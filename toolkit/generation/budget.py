"""What one run of the generation stage may spend: time, tokens or money (pure)."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from toolkit.core.errors import SuiteError

Unit = Literal["seconds", "tokens", "usd"]
SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
MULTIPLES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])")
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kmb]?)\s*tokens", re.IGNORECASE)
_MONEY = re.compile(r"(?:\$\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*usd)", re.IGNORECASE)


class Budget(NamedTuple):
    """So much of a unit: `seconds`, `tokens` (of prompts and answers newly generated) or `usd`."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return format_amount(self.amount, self.unit)


class Spent(NamedTuple):
    """What has been spent so far."""

    seconds: float
    tokens: int
    usd: float

    def of(self, unit: Unit) -> float:
        """Return it in one unit."""
        return float(getattr(self, unit))


def format_amount(amount: float, unit: Unit) -> str:
    """Write an amount as people do: `1 h 30 min`, `5.2M tokens`, `3.10 usd`."""
    if unit == "usd":
        return f"{amount:.2f} usd"
    if unit == "tokens":
        size, letter = next(((size, letter) for size, letter in ((1e6, "M"), (1e3, "k")) if amount >= size), (1.0, ""))
        return f"{amount / size:.3g}{letter} tokens"
    minutes, seconds = divmod(round(amount), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [f"{hours} h"] * bool(hours) + [f"{minutes} min"] * bool(minutes) + [f"{seconds} s"] * bool(seconds and not hours)
    return " ".join(parts) or "0 s"


def parse_budget(text: str) -> Budget:
    """Read `2h`, `1h 30min`, `5M tokens`, `10 usd` or `$10`.

    Raises:
        SuiteError: It is none of these, or nothing.
    """
    given = text.strip()
    found: Budget | None = None
    if match := _TOKENS.fullmatch(given):
        found = Budget(float(match[1]) * MULTIPLES[match[2].lower()], "tokens")
    elif match := _MONEY.fullmatch(given):
        found = Budget(float(match[1] or match[2]), "usd")
    elif not _TIME.sub("", given).strip():
        found = Budget(sum(float(number) * SECONDS[unit] for number, unit in _TIME.findall(given)), "seconds")
    if found is None or found.amount <= 0:
        raise SuiteError(f"--budget takes a time, tokens or money: 2h, '1h 30min', '5M tokens', '10 usd'; given: {text!r}.")
    return found


def dollars(
    hours: float, hourly: float, tokens: Mapping[str, tuple[float, float]], prices: Mapping[str, tuple[float, float]]
) -> float:
    """Return what a run costs, in US dollars.

    Args:
        hours: It took.
        hourly: Price of an hour of the machine.
        tokens: Of prompts and of answers, by model.
        prices: Of a million tokens of prompts and of answers, by model; one without costs nothing.
    """
    asked = sum(
        count * price / 1e6
        for model, counts in tokens.items()
        for count, price in zip(counts, prices.get(model, (0.0, 0.0)), strict=True)
    )
    return hours * hourly + asked
