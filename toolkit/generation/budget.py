"""The budget of a generate run: time, tokens or money, and what the run has spent of it."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from toolkit.core.errors import SuiteError
from toolkit.engines.guard import PREFETCH_BATCHES
from toolkit.suites.config import EngineConfig

Unit = Literal["seconds", "tokens", "usd"]
SECONDS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
MULTIPLES = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9}
_TIME = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhd])")
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*([kmb]?)\s*tokens", re.IGNORECASE)
_MONEY = re.compile(r"(?:\$\s*(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s*usd)", re.IGNORECASE)


class Budget(NamedTuple):
    """An amount of a unit: `seconds`, `tokens` (of newly generated prompts and responses) or `usd`."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return format_amount(self.amount, self.unit)


class Spent(NamedTuple):
    """What a run has spent so far."""

    seconds: float
    tokens: int
    usd: float

    def of(self, unit: Unit) -> float:
        """Return the amount in one unit."""
        return float(getattr(self, unit))


@dataclass
class Spending:
    """Keeps account of what a run spends.

    Attributes:
        budget: What the run may spend; None for no limit.
        engine: The suite's `[engine]` table, which has the prices.
        started: When the run began, by the monotonic clock.
        tokens: Prompt and completion tokens newly generated, by model.
        largest_batch: The most that one batch has taken of the budget.
        prefetch: Number of batches submitted at a time.
    """

    budget: Budget | None
    engine: EngineConfig
    started: float = field(default_factory=lambda: time.monotonic())
    tokens: dict[str, tuple[int, int]] = field(default_factory=dict)
    largest_batch: float = 0.0
    prefetch: int = PREFETCH_BATCHES

    def add(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Add the tokens of a completed generation."""
        prompts, completions = self.tokens.get(model, (0, 0))
        self.tokens = self.tokens | {model: (prompts + prompt_tokens, completions + completion_tokens)}

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.started

    @property
    def spent(self) -> Spent:
        """What the run has spent."""
        seconds, tokens = self.seconds, self.tokens
        usd = dollars(seconds / 3600, self.engine.usd_per_hour, tokens, self.engine.usd_per_million_tokens)
        return Spent(seconds=seconds, tokens=sum(map(sum, tokens.values())), usd=usd)

    @property
    def left(self) -> float:
        """What is left of the budget."""
        return self.budget.amount - self.spent.of(self.budget.unit) if self.budget else float("inf")

    @property
    def reserve(self) -> float:
        """What the batches in flight may still take of the budget."""
        is_time = self.budget is not None and self.budget.unit == "seconds"  # workers run side by side
        return (PREFETCH_BATCHES if is_time else self.prefetch) * self.largest_batch

    @property
    def is_exhausted(self) -> bool:
        """Whether another batch, with those in flight, might exceed the budget."""
        return self.left <= self.reserve

    def finish_batch(self, seconds: float, left_before: float) -> None:
        """Account for a finished batch.

        Args:
            seconds: Time that the engine took.
            left_before: What was left of the budget before the run waited for the batch.
        """
        if self.budget:
            amount = seconds if self.budget.unit == "seconds" else left_before - self.left
            self.largest_batch = max(self.largest_batch, amount)


def format_amount(amount: float, unit: Unit) -> str:
    """Format an amount for people: `1 h 30 min`, `5.2M tokens`, `3.10 usd`."""
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
    """Parse `2h`, `1h 30min`, `5M tokens`, `10 usd` or `$10`.

    Raises:
        SuiteError: The text is none of these, or the amount is zero.
    """
    stripped = text.strip()
    budget: Budget | None = None
    if match := _TOKENS.fullmatch(stripped):
        budget = Budget(float(match[1]) * MULTIPLES[match[2].lower()], "tokens")
    elif match := _MONEY.fullmatch(stripped):
        budget = Budget(float(match[1] or match[2]), "usd")
    elif not _TIME.sub("", stripped).strip():
        budget = Budget(sum(float(number) * SECONDS[unit] for number, unit in _TIME.findall(stripped)), "seconds")
    if budget is None or budget.amount <= 0:
        raise SuiteError(
            f"--budget takes a time, tokens or money, not {text!r}. Examples: 2h, '1h 30min', '5M tokens', '10 usd'"
        )
    return budget


def dollars(
    hours: float,
    usd_per_hour: float,
    tokens: Mapping[str, tuple[float, float]],
    usd_per_million_tokens: Mapping[str, tuple[float, float]],
) -> float:
    """Return the cost of a run in US dollars.

    Args:
        hours: Duration of the run.
        usd_per_hour: Price of the machine.
        tokens: Prompt and completion tokens, by model.
        usd_per_million_tokens: Prices of prompt and completion tokens, by model; a model without prices is free.
    """
    token_prices = sum(
        count * price / 1e6
        for model, counts in tokens.items()
        for count, price in zip(counts, usd_per_million_tokens.get(model, (0.0, 0.0)), strict=True)
    )
    return hours * usd_per_hour + token_prices
