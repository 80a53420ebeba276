"""The parts of `just bench-generate` that compute: the roofline, kinds of operations, and sections of the page."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from tests.benchmarks.hardware import Ceilings, Sizes, distinct_tokens, floor
from tests.benchmarks.operations import KINDS, OUTSIDE, kind_of, seconds_by_kind
from tests.benchmarks.page import replace_section, section

SIZES = Sizes(layers=100, head=20, token=8, number=4)


def test_distinct_tokens_are_the_distinct_prefixes() -> None:
    generator = random.Random(0)
    prompts = [[generator.randrange(2) for _ in range(generator.randint(1, 8))] for _ in range(50)]
    prefixes = {tuple(prompt[:length]) for prompt in prompts for length in range(1, len(prompt) + 1)}
    assert distinct_tokens(prompts) == len(prefixes)


def test_the_least_time_adds_prompts_and_steps() -> None:
    prompts, responses = [[1, 2, 3], [1, 2, 4, 5]], [2, 1]
    fast_memory, fast_products = Ceilings(1.0, float("inf")), Ceilings(float("inf"), 1.0)
    # 2 operations per parameter and token: 7 tokens through the layers; 2 rows and then 1 through layers and head
    assert floor(SIZES, prompts, responses, fast_memory, shared=False) == 2 * 100 * 7 + 2 * 120 * (2 + 1)
    assert floor(SIZES, prompts, responses, fast_memory, shared=True) == 2 * 100 * 5 + 2 * 120 * (2 + 1)
    # 480 bytes of weights at each of 2 steps; keys and values of 7 tokens, then of the first prompt and its first response
    assert floor(SIZES, prompts, responses, fast_products, shared=False) == 2 * 480 + 8 * (7 + 4)
    assert floor(SIZES, prompts, responses, fast_products, shared=True) == 2 * 480 + 8 * (5 + 4)


@pytest.mark.parametrize(
    ("operation", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("nvjet_tst_128x64", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "attention"),
        ("aten::copy_", "copies"),
        ("aten::cat", "copies"),
        ("aten::mul", "elementwise"),
        ("aten::view", "other operations"),
    ],
)
def test_operations_have_kinds(operation: str, kind: str) -> None:
    assert kind_of(operation) == kind


def test_a_profile_accounts_for_the_whole_time() -> None:
    layer, rows = nn.Linear(512, 512), torch.ones(512, 512)
    seconds = seconds_by_kind(lambda: [layer(rows) for _ in range(20)], torch.device("cpu"))
    assert {*KINDS, OUTSIDE} < seconds.keys()
    assert max(seconds, key=seconds.__getitem__) == "matrix products"


def test_a_section_is_replaced_and_the_others_stay() -> None:
    page = "# Page\n\n## Generation\n\nold\n\n### Details\n\nold\n\n## Sweep\n\nkept\n"
    assert section(page, "## Sweep") == "## Sweep\n\nkept\n"
    assert section(page, "## Missing") == ""
    replaced = replace_section(page, "## Generation\n\nnew\n")
    assert replaced == "# Page\n\n## Generation\n\nnew\n\n## Sweep\n\nkept\n"
    assert replace_section("# Page\n", "## Sweep\n\nkept\n") == "# Page\n\n## Sweep\n\nkept\n"
