"""Who watches a long piece of work: is told how far it is, and may stop it between two parts (batches, runs)."""

from typing import Protocol


class Progress(Protocol):
    """Who is told how far the work is, and asked whether to go on."""

    def stage(self, title: str) -> None:
        """A new stage begins."""
        ...

    def advance(self, done: int) -> None:
        """So much more (nodes, scores, runs) is committed."""
        ...

    def stopped(self) -> bool:
        """Whether to stop after what is in flight."""
        ...


class NoProgress:
    """Watches nothing and never stops."""

    def stage(self, title: str) -> None:
        """Say nothing."""

    def advance(self, done: int) -> None:
        """Count nothing."""

    def stopped(self) -> bool:
        """Go on."""
        return False
