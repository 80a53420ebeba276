"""Attention of segments that are read side by side: each sees its own tokens and those of its ancestors, and no others.

An attention function of transformers, which models choose by its name. Elsewhere than in a reading, it is their own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, Self

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "prefix_tree"
"""Name of the attention function among those of transformers."""


class Group(NamedTuple):
    """Segments of similar length, which attend together.

    Attributes:
        queries: Tokens of the pass, `(rows, longest)`; padded on the left with token 0.
        is_token: Which of these are no padding, `(rows, longest)`.
        targets: Those that are no padding, `(tokens,)`.
        keys: Places of each segment's tokens and of those before it, `(rows, width)`; padded on the left with place 0.
        mask: Which keys a query sees, `(rows, 1, longest, width)`.
    """

    queries: torch.Tensor
    is_token: torch.Tensor
    targets: torch.Tensor
    keys: torch.Tensor
    mask: torch.Tensor

    @classmethod
    def of(cls, queries: Sequence[torch.Tensor], keys: Sequence[torch.Tensor]) -> Self:
        """Return a group, given each segment's tokens in the pass, and its places and those before it."""
        padded_queries, padded_keys = left_padded(queries), left_padded(keys)
        query_before_end, key_before_end = (torch.arange(rows.shape[1] - 1, -1, -1) for rows in (padded_queries, padded_keys))
        is_token = query_before_end < torch.tensor([*map(len, queries)])[:, None]
        is_key = key_before_end < torch.tensor([*map(len, keys)])[:, None]
        mask = is_key[:, None] & (key_before_end >= query_before_end[:, None])
        return cls(
            queries=padded_queries,
            is_token=is_token,
            targets=padded_queries[is_token],
            keys=padded_keys,
            mask=mask[:, None],
        )

    def to(self, device: torch.device) -> Self:
        """Return the group on a device."""
        return type(self)(*(tensor.to(device) for tensor in self))


_groups: ContextVar[Sequence[Group] | None] = ContextVar("groups", default=None)


@contextmanager
def reading(groups: Sequence[Group]) -> Iterator[None]:
    """Let the model read segments side by side meanwhile; `groups` has all of the pass."""
    before = _groups.set(groups)
    try:
        yield
    finally:
        _groups.reset(before)


def attend(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Return what each token of a pass attends to, `(1, tokens, heads, size)`; outside of a reading, what sdpa returns.

    Args:
        module: The layer.
        query: Queries, `(1, heads, tokens, size)`.
        key: Keys by place, `(places, heads, size)`, those of the pass included.
        value: Values by place.
        mask: Not used in a reading.
        kwargs: Further arguments of sdpa.
    """
    if (groups := _groups.get()) is None:
        outside: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
        return outside
    queries = query[0].transpose(0, 1)
    output = queries.new_empty(*queries.shape[:2], value.shape[-1])
    for group in groups:
        states = (queries[group.queries], key[group.keys], value[group.keys])
        attended, _ = sdpa_attention_forward(module, *(state.transpose(1, 2) for state in states), group.mask, **kwargs)
        output[group.targets] = attended[group.is_token]
    return output[None], None


def left_padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return rows of numbers as one tensor, padded on the left with 0."""
    return pad_sequence(list(rows), batch_first=True, padding_side="left")


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
