"""The tree of the prefixes of some prompts: tokens that several of them begin with become one segment, to be read once.

Knows tokens only, and no tensors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Self


@dataclass(eq=False, slots=True)
class Segment:
    """Tokens that are read together, behind those of its ancestors.

    Attributes:
        parent: The segment before it; None at the root.
        start: Number of tokens before it.
        tokens: Its tokens, at least one.
        height: Number of segments below it, along the longest path.
        waiting: Number of prompts through it that are not read yet.
    """

    parent: Self | None
    start: int
    tokens: Sequence[int]
    height: int = 0
    waiting: int = 0

    def path(self) -> list[Self]:
        """Return the segments from this one up to the root."""
        segments = [self]
        while parent := segments[-1].parent:
            segments.append(parent)
        return segments


def prefix_tree(prompts: Sequence[Sequence[int]], min_saved: int) -> list[Segment]:
    """Return the last segment of every prompt; no two prompts share it, equal ones included.

    Args:
        prompts: Tokens of each prompt, at least one.
        min_saved: Tokens that a segment must save, over all prompts that share it, to be read apart from what follows it.
    """
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    last: dict[int, Segment] = {}
    ranges: list[tuple[Sequence[int], int, Segment | None]] = [(order, 0, None)] if order else []
    while ranges:
        indices, start, parent = ranges.pop()
        first = prompts[indices[0]]
        shared = min(_common(first, prompts[indices[-1]], start), len(first) - 1)  # every prompt keeps a token of its own
        if (len(indices) - 1) * (shared - start) >= min_saved:
            parent = Segment(parent, start, first[start:shared])
            start = shared
        ended = [index for index in indices if len(prompts[index]) == shared + 1]
        last |= {index: Segment(parent, start, prompts[index][start:]) for index in ended}
        longer = (index for index in indices if len(prompts[index]) > shared + 1)
        ranges += [(list(group), start, parent) for _, group in groupby(longer, key=lambda index: prompts[index][shared])]
    for segment in last.values():
        for height, ancestor in enumerate(segment.path()):
            ancestor.height = max(ancestor.height, height)
            ancestor.waiting += 1
    return [last[index] for index in range(len(prompts))]


def _common(first: Sequence[int], other: Sequence[int], start: int) -> int:
    """Return the length of the prefix that two prompts share, which is at least `start`."""
    end = min(len(first), len(other))
    return next((place for place in range(start, end) if first[place] != other[place]), end)


def groups_of_similar_length(segments: Sequence[Segment], max_padding: int, max_tokens: int) -> Iterator[list[Segment]]:
    """Cut segments, the longest first, before the padding of a group or all of its tokens become too many."""
    group: list[Segment] = []
    padding = 0
    for segment in sorted(segments, key=lambda segment: -len(segment.tokens)):
        longest = len((group or [segment])[0].tokens)
        padding += longest - len(segment.tokens)
        if padding > max_padding or (group and (len(group) + 1) * longest > max_tokens):
            yield group
            group, padding = [], 0
        group.append(segment)
    if group:
        yield group
