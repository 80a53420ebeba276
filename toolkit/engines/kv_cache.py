"""Keys and values of a batch, in two forms: those of segments that are read once, and those of rows that are decoded.

Buffers hold tokens side by side, `(..., tokens, heads, size)`; attention gets views of them, `(rows, heads, tokens, size)`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

SPARE_TOKENS = 64
"""Tokens that the rows have room for beyond those they hold, when their buffers are allocated and whenever they grow."""

States = tuple[torch.Tensor, ...]
"""Keys and values."""


class SegmentLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, one of each per token that was read, however many prompts go through it."""

    def __init__(self) -> None:
        super().__init__()
        self.buffers: States = ()
        self.places = torch.empty(0, dtype=torch.long)
        self._size = 0

    def reserve(self, places: torch.Tensor, size: int) -> None:
        """Move some tokens, by their places, to the beginning of buffers for `size` tokens, and drop the others."""
        self._size = size
        moved = tuple(self._empty(buffer) for buffer in self.buffers)
        for new, old in zip(moved, self.buffers, strict=True):
            new[: len(places)] = old[places]
        self.buffers = moved

    def _empty(self, like: torch.Tensor) -> torch.Tensor:
        """Return a buffer whose first token, which pads what attention sees, is finite before it is written."""
        buffer = like.new_empty(self._size, *like.shape[-2:])
        buffer[:1] = 0
        return buffer

    def get_seq_length(self) -> int:
        """Return 0: tokens have their positions and attention its own masks."""
        return 0

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> States:
        """Store keys and values, `(1, heads, tokens, size)`, at their places; return those of all places."""
        states = tuple(state[0].transpose(0, 1) for state in (key_states, value_states))
        if not self.buffers:
            self.buffers = tuple(map(self._empty, states))
        for buffer, state in zip(self.buffers, states, strict=True):
            buffer[self.places] = state
        return self.buffers


class SegmentCache(DynamicCache):  # type: ignore[misc]
    """Keys and values of segments.

    Args:
        n_layers: Number of the model's layers.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.layers = [SegmentLayer() for _ in range(n_layers)]

    def reserve(self, places: torch.Tensor, size: int) -> None:
        """Keep the tokens at some places, at the beginning, and make room for `size` tokens in all."""
        for layer in self.layers:
            layer.reserve(places, size)

    def begin(self, places: torch.Tensor) -> None:
        """Store the next keys and values at some places."""
        for layer in self.layers:
            layer.places = places


class RowLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, a row per response; all rows end at the same token.

    Attributes:
        end: Number of the buffers' tokens up to the newest.
        width: Tokens that attention sees, up to the newest; the tokens that a row has not are anything finite.
    """

    def __init__(self) -> None:
        super().__init__()
        self.end = self.width = self.n_rows = 0
        self._buffers: States = ()

    def add(self, states: States) -> None:
        """Add rows of keys and values, each `(rows, tokens, heads, size)`, that end with the others."""
        n_new, width = states[0].shape[:2]
        n_rows = self.n_rows + n_new
        if not self._buffers or n_rows > len(self._buffers[0]) or width > self.end:
            self._allocate(n_rows, max(width, self.width), self.width, states)
        for buffer, state in zip(self._buffers, states, strict=True):
            buffer[self.n_rows : n_rows, self.end - width : self.end] = state
        self.n_rows = n_rows

    def _allocate(self, n_rows: int, width: int, held: int, like: States) -> None:
        """Move the newest `held` tokens of the rows into buffers for `n_rows` rows of `width` tokens, and some more."""
        old = self._buffers or like
        self._buffers = tuple(state.new_zeros(n_rows, width + SPARE_TOKENS, *state.shape[2:]) for state in old)
        if self.n_rows:
            for buffer, state in zip(self._buffers, old, strict=True):
                buffer[: self.n_rows, width - held : width] = state[: self.n_rows, self.end - held : self.end]
        self.end = width

    def keep(self, order: Sequence[int]) -> None:
        """Keep the rows in `order`, in this order; only rows that change their place are copied."""
        moved = [target for target, source in enumerate(order) if target != source]
        for buffer in self._buffers:
            buffer[moved] = buffer[[order[target] for target in moved]]
        self.n_rows = len(order)

    def get_seq_length(self) -> int:
        """Return the number of tokens that attention sees, without the one that is read next."""
        return self.width - 1

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> States:
        """Append keys and values of one token, `(rows, heads, 1, size)`; return those that attention sees."""
        states = (key_states, value_states)
        if self.end == self._buffers[0].shape[1]:
            held = self.width - 1
            self._allocate(self.n_rows, held, held, self._buffers)
        for buffer, state in zip(self._buffers, states, strict=True):
            buffer[: self.n_rows, self.end] = state[:, :, 0]
        self.end += 1
        return tuple(buffer[: self.n_rows, self.end - self.width : self.end].transpose(1, 2) for buffer in self._buffers)


class RowCache(DynamicCache):  # type: ignore[misc]
    """Keys and values of the rows of a batch.

    Args:
        n_layers: Number of the model's layers.
    """

    def __init__(self, n_layers: int) -> None:
        super().__init__()
        self.layers = [RowLayer() for _ in range(n_layers)]

    def add(self, segments: SegmentCache, places: torch.Tensor) -> None:
        """Add rows that were read.

        Args:
            segments: Their keys and values.
            places: Places of each row's tokens there, `(rows, longest)`; padded on the left with place 0.
        """
        for layer, read in zip(self.layers, segments.layers, strict=True):
            layer.add(tuple(buffer[places] for buffer in read.buffers))

    def keep(self, order: Sequence[int]) -> None:
        """Keep the rows in `order`, in this order."""
        for layer in self.layers:
            layer.keep(order)

    def begin(self, width: int) -> None:
        """Let attention see the newest `width` tokens from now on, the one that is read next included."""
        for layer in self.layers:
            layer.width = width
