"""Malformed inputs end in one paragraph; `just malformed` draws many more."""

from pathlib import Path

import pytest

from tests.soak.malformed import describe, try_inputs
from tests.soak.malformed_inputs import COMMANDS, KINDS
from toolkit.cli import commands

SEED = 1
INPUTS_PER_KIND = 16


@pytest.mark.parametrize("kind", KINDS)
def test_no_malformed_input_ends_in_a_traceback_or_changes_a_file(kind: str, tmp_path: Path) -> None:
    results = try_inputs(INPUTS_PER_KIND, SEED, tmp_path, (kind,))
    assert len(results) == INPUTS_PER_KIND
    assert any(result.code != 0 for result in results)
    assert not [describe(result, SEED) for result in results if result.faults]


def test_every_command_gets_malformed_lines() -> None:
    lines = [line.split() for line in [*COMMANDS["line"], *COMMANDS["make"]]]
    assert set(commands()) - {"serve"} <= {words[0] for words in lines} | {" ".join(words[:2]) for words in lines}, (
        "serve does not end"
    )
