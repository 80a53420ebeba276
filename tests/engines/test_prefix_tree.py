from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.engines.prefix_tree import Segment, groups_of_similar_length, prefix_tree

TOKENS = st.integers(0, 2)
PROMPTS = st.lists(st.lists(TOKENS, min_size=1, max_size=60), min_size=0, max_size=12)
MIN_SAVED = 16
LONG_PREFIX = list(range(100, 100 + MIN_SAVED))


def segments(last: list[Segment]) -> set[Segment]:
    return {segment for leaf in last for segment in leaf.path()}


def n_read(last: list[Segment]) -> int:
    return sum(len(segment.tokens) for segment in segments(last))


def distinct_prefixes(prompts: list[list[int]]) -> int:
    return len({tuple(prompt[:end]) for prompt in prompts for end in range(1, len(prompt) + 1)})


@settings(max_examples=200)
@given(PROMPTS, st.booleans())
def test_segments_join_to_the_prompts_and_each_prompt_ends_in_one_of_its_own(prompts: list[list[int]], behind: bool) -> None:
    prompts = [LONG_PREFIX * behind + prompt for prompt in prompts]
    last = prefix_tree(prompts, MIN_SAVED)
    assert len(set(last)) == len(prompts)
    for prompt, leaf in zip(prompts, last, strict=True):
        path = leaf.path()[::-1]
        assert [token for segment in path for token in segment.tokens] == prompt
        assert [segment.start for segment in path] == [
            sum(len(before.tokens) for before in path[:place]) for place in range(len(path))
        ]
        assert leaf.height == 0
        assert all(above.height > below.height for above, below in pairwise(path))
    for segment in segments(last):
        assert segment.waiting == sum(segment in leaf.path() for leaf in last)
        assert segment.tokens


@settings(max_examples=200)
@given(PROMPTS)
def test_nothing_is_read_twice_but_what_saves_little(prompts: list[list[int]]) -> None:
    last = prefix_tree(prompts, MIN_SAVED)
    most = distinct_prefixes(prompts) + (MIN_SAVED + 1) * max(0, len(prompts) - 1)
    assert distinct_prefixes(prompts) <= n_read(last) <= min(most, sum(map(len, prompts)))


def test_siblings_share_their_question_and_their_first_response() -> None:
    question, responses = [1] * 40, [[2] * 20, [3] * 20, [4] * 20]
    prompts = [question + first + second for first in responses for second in responses]
    last = prefix_tree(prompts, MIN_SAVED)
    assert n_read(last) == 40 + 3 * 20 + 9 * 20
    assert sorted(segment.height for segment in segments(last)) == [0] * 9 + [1] * 3 + [2]


def test_equal_prompts_are_read_once_but_for_their_last_token() -> None:
    assert n_read(prefix_tree([[7] * 50] * 5, MIN_SAVED)) == 49 + 5


def test_thousands_of_nested_prefixes_need_no_recursion() -> None:
    prompts = [[1] * length for length in range(1, 3000)]
    assert len(prefix_tree(prompts, MIN_SAVED)) == len(prompts)


@given(st.lists(st.integers(1, 60), max_size=30))
def test_groups_hold_similar_lengths_and_no_more_tokens_than_allowed(lengths: list[int]) -> None:
    segments_in = [Segment(None, 0, [0] * length) for length in lengths]
    groups = list(groups_of_similar_length(segments_in, 20, 100))
    assert {id(segment) for group in groups for segment in group} == set(map(id, segments_in))
    assert sum(map(len, groups)) == len(lengths)
    for group in groups:
        sizes = [len(segment.tokens) for segment in group]
        assert sum(max(sizes) - size for size in sizes) <= 20
        assert len(group) == 1 or len(group) * max(sizes) <= 100
