"""Reads prompts with a model: each segment of their prefix tree once, together with others of similar length.

A pass takes some time whatever it reads. Segments are cut, and read apart, only where that saves more.

Children attend to the keys and values of their ancestors, which are kept for as long as a prompt through them is waiting.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn.utils.rnn import pad_sequence

from toolkit.engines.kv_cache import Reading, SegmentCache
from toolkit.engines.prefix_tree import Segment, groups_of_similar_length, prefix_tree

PASS_TOKENS = {"cpu": 64}
"""Tokens that a device reads in the time that a pass takes for itself: for reading the weights, or launching kernels."""
PASS_TOKENS_GPU = 2048
"""The same for any other device."""
MAX_TOKENS = 2**13
"""Tokens that are read at once, unless a single segment is longer."""

Forward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Any], torch.Tensor]
"""Returns the logits of the last tokens, `(rows, vocabulary)`, given tokens, mask, positions, and keys and values."""


class Prefilled(NamedTuple):
    """Prompts that a model has read.

    Attributes:
        logits: Logits of the first token of every response, `(prompts, vocabulary)`.
        places: Places of each prompt's tokens in the reader's cache, `(prompts, longest)`; padded on the left with place 0.
        n_read: Tokens that had to be read for each prompt: those that no prompt before it has read.
    """

    logits: torch.Tensor
    places: torch.Tensor
    n_read: list[int]


class PromptReader:
    """Reads the prompts of a batch, some at a time.

    Args:
        prompts: Tokens of each prompt, at least one.
        forward: Reads tokens with the model.
        n_layers: Number of the model's layers.
        device: The model's device.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], forward: Forward, n_layers: int, device: torch.device) -> None:
        self.cache = SegmentCache(n_layers)
        self._pass_tokens = PASS_TOKENS.get(device.type, PASS_TOKENS_GPU)
        self._last = prefix_tree(prompts, self._pass_tokens // 4)
        self._forward = forward
        self._device = device
        self._first_place: dict[Segment, int] = {}

    def read(self, indices: Sequence[int]) -> Prefilled:
        """Read some of the prompts, each of which is read only once."""
        n_read, unread = [], list[Segment]()
        for index in indices:
            own = [segment for segment in self._last[index].path() if segment not in self._first_place]
            self._first_place |= dict.fromkeys(own, -1)
            unread += own
            n_read.append(sum(len(segment.tokens) for segment in own))
        self._reserve(unread)
        logits: dict[Segment, torch.Tensor] = {}
        for height in sorted({segment.height for segment in unread}, reverse=True):
            level = [segment for segment in unread if segment.height == height]
            for group in groups_of_similar_length(level, self._pass_tokens, MAX_TOKENS):
                logits |= zip(group, self._read_together(group), strict=True)
        places = _left_padded([self._places(self._last[index]) for index in indices]).to(self._device)
        last = torch.stack([logits[self._last[index]] for index in indices])
        self._forget(indices)
        return Prefilled(logits=last, places=places, n_read=n_read)

    def _reserve(self, unread: Sequence[Segment]) -> None:
        """Make room for segments, behind those that are still needed."""
        resident = [segment for segment, place in self._first_place.items() if place >= 0]
        old_places = [self._own_places(segment) for segment in resident]
        size = 0
        for segment in [*resident, *unread]:
            self._first_place[segment] = size
            size += len(segment.tokens)
        self.cache.reserve(torch.cat([torch.empty(0, dtype=torch.long), *old_places]).to(self._device), size)

    def _read_together(self, group: Sequence[Segment]) -> torch.Tensor:
        """Read segments whose ancestors are read; return the logits of their last tokens."""
        parents = [segment.parent for segment in group]
        before = _left_padded([self._places(parent) if parent else torch.empty(0, dtype=torch.long) for parent in parents])
        ids = _left_padded([torch.tensor(segment.tokens) for segment in group])
        starts = torch.tensor([segment.start for segment in group])[:, None]
        lengths = torch.tensor([len(segment.tokens) for segment in group])[:, None]
        offsets = torch.arange(ids.shape[1]) - (ids.shape[1] - lengths)
        is_token = offsets >= 0
        mask = torch.cat([torch.arange(before.shape[1]) >= before.shape[1] - starts, is_token], 1)
        places = torch.cat([self._own_places(segment) for segment in group])
        before, ids, positions, is_token, mask, places = (
            tensor.to(self._device) for tensor in (before, ids, (starts + offsets).clamp(min=0), is_token, mask, places)
        )
        self.cache.begin(Reading(before=before, places=places, is_token=is_token))
        return self._forward(ids, mask.long(), positions, self.cache)

    def _own_places(self, segment: Segment) -> torch.Tensor:
        first = self._first_place[segment]
        return torch.arange(first, first + len(segment.tokens))

    def _places(self, segment: Segment) -> torch.Tensor:
        """Return the places of a segment's tokens and of all tokens before them."""
        return torch.cat([self._own_places(part) for part in reversed(segment.path())])

    def _forget(self, indices: Sequence[int]) -> None:
        """Forget the segments that no waiting prompt goes through; their keys and values go with the next reading."""
        for index in indices:
            for segment in self._last[index].path():
                segment.waiting -= 1
                if not segment.waiting:
                    del self._first_place[segment]


def _left_padded(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return rows of numbers as one tensor, padded on the left with 0."""
    return pad_sequence(list(rows), batch_first=True, padding_side="left")
