"""The README and every page that is in no section run from top to bottom and print what they show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.page import name_of, pages_of


@pytest.mark.parametrize("page", pages_of("others"), ids=name_of)
def test_a_page_prints_what_it_shows(page: Path, check: Callable[[Path], None]) -> None:
    check(page)
