"""Every kind of damage to a cache is found by its check."""

from __future__ import annotations

import pytest

from toolkit.generation.verify import verify
from toolkit.store import Cache

DAMAGE = {
    "keys of generations are unique": "INSERT INTO generations SELECT * FROM generations LIMIT 1",
    "keys of nodes are unique": "INSERT INTO nodes SELECT * FROM nodes LIMIT 1",
    "every response has its hash": "UPDATE generations SET response = response || '!' WHERE rowid = 3",
    "every generation is a response": "UPDATE generations SET completion_tokens = NULL WHERE rowid = 3",
    "every node's key is the hash": "UPDATE nodes SET node = uuid() WHERE rowid = (SELECT max(rowid) FROM nodes)",
    "every node has its parent": "DELETE FROM nodes WHERE node = (SELECT node FROM nodes WHERE depth = 1 LIMIT 1)",
    "every node has a generation": "DELETE FROM generations WHERE rowid = 3",
    "every node's question and models": "DELETE FROM questions WHERE rowid = 3",
    "every score belongs": "UPDATE scores SET value = 2 WHERE rowid = 3",
    "every score is what its metric gives": "UPDATE scores SET value = 1 - value WHERE rowid = 3",
    "every embedding has finite": "UPDATE embeddings SET vector = [1.0] WHERE rowid = 3",
    "every model's key": "UPDATE models SET identity = json_merge_patch(identity, '{\"max_tokens\": 9}') WHERE rowid = 0",
    "every question's key": "UPDATE questions SET prompt = prompt || ' ' WHERE rowid = 3",
    "every generation's key": "UPDATE generations SET prompt = prompt || ' ' WHERE rowid = 3",
    "every root's key": "UPDATE suite_questions SET root = uuid() WHERE rowid = 3",
}


def test_a_sound_cache_passes_every_check(cache: Cache) -> None:
    findings = verify(cache)
    assert [finding for finding in findings if finding.wrong] == []
    assert all(finding.rows for finding in findings if "runs" not in finding.check)


@pytest.mark.parametrize("check", DAMAGE)
def test_damage_is_found_by_its_check(check: str, cache: Cache) -> None:
    with cache.write() as con:
        con.execute(DAMAGE[check])
    (finding,) = [finding for finding in verify(cache) if finding.check.startswith(check)]
    assert finding.wrong
    assert finding.example


def test_every_check_is_tested_with_damage(cache: Cache) -> None:
    for finding in verify(cache):
        is_tested = any(finding.check.startswith(check) for check in DAMAGE)
        assert is_tested or finding.check.startswith("keys of"), finding.check
