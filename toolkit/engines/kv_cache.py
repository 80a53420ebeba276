"""Keys and values of a batch in buffers that are written in place, instead of copied for every new token (`DynamicLayer`)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import pad
from transformers.cache_utils import DynamicLayer

SPARE_TOKENS = 64
"""Tokens that a buffer has room for beyond those it holds, when it is allocated and whenever it grows."""


class PreallocatedLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer in buffers with room for more tokens.

    Args:
        rows: Prompts of the batch.
        width: Length of the longest of them, in tokens.
    """

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self._rows, self._width = rows, width
        self._buffers: tuple[torch.Tensor, ...] = ()

    def place(self, rows: slice, states: Sequence[torch.Tensor], shared: int) -> None:
        """Copy the keys and values of prompts into the buffers.

        Args:
            rows: Rows of these prompts.
            states: Keys and values, each `(rows, heads, tokens, size)`.
            shared: Length of the shared prefix, which is left-aligned; the other tokens are right-aligned.
        """
        if not self._buffers:
            _, heads, _, size = states[0].shape
            self._buffers = tuple(state.new_zeros(self._rows, heads, self._width + SPARE_TOKENS, size) for state in states)
            self.dtype, self.device, self.is_initialized = states[0].dtype, states[0].device, True
            self._view(self._width)
        for buffer, state in zip(self._buffers, states, strict=True):
            buffer[rows, :, :shared] = state[:, :, :shared]
            buffer[rows, :, self._width - state.shape[2] + shared : self._width] = state[:, :, shared:]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values, `(rows, heads, tokens, size)`; return all of them."""
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._buffers[0].shape[-2]:
            room = (0, 0, 0, end + SPARE_TOKENS - start)
            self._buffers = (pad(self.keys, room), pad(self.values, room))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self._view(end)
        return self.keys, self.values

    def reorder(self, order: Sequence[int]) -> None:
        """Keep the rows in `order`, in this order; only rows that change their place are copied."""
        moved = [target for target, source in enumerate(order) if target != source]
        for buffer in self._buffers:
            buffer[moved] = buffer[[order[target] for target in moved]]
        self._buffers = tuple(buffer[: len(order)] for buffer in self._buffers)
        self._view(self.keys.shape[-2])

    def _view(self, length: int) -> None:
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


class PrefillLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of prompts that are read together; they are written straight to their rows in the batch.

    Args:
        batch: The layer that holds all rows of the batch.
        rows: Rows of these prompts.
        prefix: Keys and values of the prefix that all rows share, `(1, heads, shared, size)`; None without one.
    """

    def __init__(self, batch: PreallocatedLayer, rows: slice, prefix: DynamicLayer | None) -> None:
        super().__init__()
        self._batch, self._rows = batch, rows
        if prefix is not None:
            self.dtype, self.device, self.is_initialized = prefix.dtype, prefix.device, True
            size = rows.stop - rows.start
            self.keys, self.values = (states.expand(size, -1, -1, -1) for states in (prefix.keys, prefix.values))

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values, `(rows, heads, tokens, size)`, to the batch; return all of these rows."""
        shared, states = self.get_seq_length(), (key_states, value_states)
        if shared:
            states = (torch.cat([self.keys, key_states], -2), torch.cat([self.values, value_states], -2))
        self._batch.place(self._rows, states, shared)
        return states
