"""Attention of segments that are read side by side: each sees its own tokens and those of its ancestors, and no others.

An attention function of transformers, which models choose by its name. Elsewhere than in a reading, it is their own.
"""

from collections.abc import Sequence
from contextvars import ContextVar, Token
from typing import Any, NamedTuple, Self

import torch
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
    def of(cls, queries: torch.Tensor, lengths: torch.Tensor, keys: torch.Tensor, widths: torch.Tensor) -> Self:
        """Return a group, given how many of each row's queries and keys are no padding, `(rows,)` each."""
        before_end = torch.arange(queries.shape[1] - 1, -1, -1)
        is_token = before_end < lengths[:, None]
        key_before_end = torch.arange(keys.shape[1] - 1, -1, -1)
        is_key = key_before_end < widths[:, None]
        mask = is_key[:, None] & (key_before_end >= before_end[:, None])
        return cls(queries=queries, is_token=is_token, targets=queries[is_token], keys=keys, mask=mask[:, None])

    def to(self, device: torch.device) -> Self:
        """Return the group on a device."""
        return type(self)(*(tensor.to(device) for tensor in self))


class Reading:
    """A pass in which segments are read side by side, for as long as the object is entered.

    Args:
        groups: All segments of the pass.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = groups
        self._entered: Token[Reading | None] | None = None

    def __enter__(self) -> None:
        self._entered = _now.set(self)

    def __exit__(self, *_: object) -> None:
        assert self._entered
        _now.reset(self._entered)


_now: ContextVar[Reading | None] = ContextVar("reading", default=None)


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
    if (reading := _now.get()) is None:
        outside: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, mask, **kwargs)
        return outside
    queries = query[0].transpose(0, 1)
    output = queries.new_empty(*queries.shape[:2], value.shape[-1])
    for group in reading.groups:
        states = (queries[group.queries], key[group.keys], value[group.keys])
        attended, _ = sdpa_attention_forward(module, *(state.transpose(1, 2) for state in states), group.mask, **kwargs)
        output[group.targets] = attended[group.is_token]
    return output[None], None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
