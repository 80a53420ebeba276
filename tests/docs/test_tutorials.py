"""Every page of docs/tutorials runs from top to bottom and prints what it shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.page import name_of, pages_of


@pytest.mark.parametrize("page", pages_of("tutorials"), ids=name_of)
def test_a_page_prints_what_it_shows(page: Path, check: Callable[[Path], None]) -> None:
    check(page)
