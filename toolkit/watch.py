"""Who watches a long piece of work: is told how far it is, and may stop it between two batches."""

from typing import Protocol


class Watcher(Protocol):
    """Who is told how far the work is, and asked whether to go on."""

    def stage(self, title: str) -> None:
        """A new stage begins."""
        ...

    def advance(self, nodes: int) -> None:
        """So many more nodes are committed."""
        ...

    def stopped(self) -> bool:
        """Whether to stop after the batch in flight."""
        ...


class Silent:
    """Watches nothing and never stops."""

    def stage(self, title: str) -> None:
        """Say nothing."""

    def advance(self, nodes: int) -> None:
        """Count nothing."""

    def stopped(self) -> bool:
        """Go on."""
        return False
