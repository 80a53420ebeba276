"""How long work reports its progress, and how it learns that it should stop between two parts (batches, runs)."""

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a piece of work, and decides whether it goes on."""

    def stage(self, title: str) -> None:
        """Begin a new stage."""
        ...

    def advance(self, done: int) -> None:
        """Report that `done` more (nodes, scores, runs) are committed."""
        ...

    def stopped(self) -> bool:
        """Return whether to stop after the part in flight."""
        ...


class NoProgress:
    """Shows nothing and never stops."""

    def stage(self, title: str) -> None:
        """Show nothing."""

    def advance(self, done: int) -> None:
        """Show nothing."""

    def stopped(self) -> bool:
        """Return False: the work goes on."""
        return False
