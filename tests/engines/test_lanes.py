"""Calls in lanes: every item once, in order, neighbours one after the other, and no lane idle while items wait."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from toolkit.engines.lanes import map_in_lanes


@given(st.lists(st.integers(), max_size=30), st.integers(1, 8))
def test_every_item_is_called_once_and_results_are_in_order(items: list[int], lanes: int) -> None:
    called: list[int] = []

    def double(item: int) -> int:
        called.append(item)
        return 2 * item

    assert map_in_lanes(double, items, lanes) == [2 * item for item in items]
    assert sorted(called) == sorted(items)


def test_neighbours_follow_one_another_in_a_lane() -> None:
    barrier = threading.Barrier(3)
    lane_of: dict[int, list[int]] = {}

    def call(item: int) -> None:
        barrier.wait(10)
        lane_of.setdefault(threading.get_ident(), []).append(item)

    map_in_lanes(call, range(12), 3)
    assert sorted(lane_of.values()) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]


def test_lanes_that_are_done_take_the_last_items_of_the_others() -> None:
    others_done = threading.Semaphore(0)

    def call(item: int) -> None:
        if item:
            others_done.release()
        else:
            for _ in range(9):
                assert others_done.acquire(timeout=10)

    map_in_lanes(call, range(10), 2)
