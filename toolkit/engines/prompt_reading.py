"""Reads prompts with a model: each segment of their prefix tree once, all segments of a level side by side, without padding.

A pass takes some time whatever it reads. Segments are cut, and read apart, only where that saves more.

Children attend to the keys and values of their ancestors, which are kept for as long as a prompt through them is waiting.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch

from toolkit.engines.kv_cache import SegmentCache
from toolkit.engines.prefix_tree import Segment, groups_of_similar_length, prefix_tree
from toolkit.engines.tree_attention import Group, left_padded, reading

PASS_TOKENS = {"cpu": 64}
"""Tokens that a device reads in the time that a pass takes for itself: for reading the weights, or launching kernels."""
PASS_TOKENS_GPU = 2048
"""The same for any other device."""
MAX_TOKENS = 2**13
"""Tokens that are read at once, unless a single segment is longer."""

Forward = Callable[..., torch.Tensor]
"""Returns logits, given tokens, mask, positions, keys and values, and the tokens whose logits are needed."""


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
            groups = groups_of_similar_length(level, self._pass_tokens, MAX_TOKENS)
            for together in _passes(groups):
                logits |= zip([segment for group in together for segment in group], self._read_together(together), strict=True)
        places = left_padded([self._places(self._last[index]) for index in indices]).to(self._device)
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

    def _read_together(self, groups: Sequence[Sequence[Segment]]) -> torch.Tensor:
        """Read segments whose ancestors are read; return the logits of their last tokens, `(segments, vocabulary)`."""
        segments = [segment for group in groups for segment in group]
        lengths = [len(segment.tokens) for segment in segments]
        ids = torch.tensor([token for segment in segments for token in segment.tokens])
        positions = torch.cat([torch.arange(len(segment.tokens)) + segment.start for segment in segments])
        places = torch.cat([self._own_places(segment) for segment in segments])
        last = torch.tensor(lengths).cumsum(0) - 1
        unused_mask = torch.ones(1, 1, 1, 1, dtype=torch.bool)  # of four dimensions, so that no other one is made
        ids, unused_mask, positions, places, last = (
            tensor.to(self._device) for tensor in (ids[None], unused_mask, positions[None], places, last)
        )
        queries = iter(torch.split(torch.arange(sum(lengths)), lengths))
        self.cache.begin(places)
        with reading(
            [
                Group.of(list(islice(queries, len(group))), [self._places(segment) for segment in group]).to(self._device)
                for group in groups
            ]
        ):
            return self._forward(ids, unused_mask, positions, self.cache, last)

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


def _passes(groups: Iterator[list[Segment]]) -> Iterator[list[list[Segment]]]:
    """Put groups together that are read in one pass."""
    together: list[list[Segment]] = []
    n_tokens = 0
    for group in groups:
        size = sum(len(segment.tokens) for segment in group)
        if together and n_tokens + size > MAX_TOKENS:
            yield together
            together, n_tokens = [], 0
        together.append(group)
        n_tokens += size
    if together:
        yield together
