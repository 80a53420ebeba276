"""Calls a function for many items at a time, so that neighbours follow one another."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Lock
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_lanes(function: Callable[[Item], Result], items: Sequence[Item], lanes: int) -> list[Result]:
    """Return the result for every item, in order, with as many calls at a time as there are lanes.

    Each lane works through neighbouring items one after the other. Prompts with a common prefix are neighbours, and some
    servers reuse only what the same slot has read before; those that share prefixes among all requests lose nothing. A lane
    that is done takes the last item of the lane that has most left.
    """
    bounds = [len(items) * lane // lanes for lane in range(lanes + 1)]
    waiting = [deque(range(start, end)) for start, end in pairwise(bounds)]
    results: dict[int, Result] = {}
    lock = Lock()

    def next_item(own: deque[int]) -> int | None:
        with lock:
            if own:
                return own.popleft()
            longest = max(waiting, key=len)
            return longest.pop() if longest else None

    def work(own: deque[int]) -> None:
        while (index := next_item(own)) is not None:
            results[index] = function(items[index])

    with ThreadPoolExecutor(lanes) as pool:
        list(pool.map(work, waiting))
    return [results[index] for index in range(len(items))]
