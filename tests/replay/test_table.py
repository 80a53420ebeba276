from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.scripted import encode, resolve_config, right_answers, scripted, suite_config
from toolkit.core.errors import IncompleteCacheError
from toolkit.core.hashing import text_key
from toolkit.core.workspace import Workspace
from toolkit.generation.generate import generate
from toolkit.replay.table import TransitionTable, load_table
from toolkit.store import Cache
from toolkit.suites.suite import Suite


def vectors(cache: Cache) -> dict[str, list[float]]:
    """Return every embedding by its key, read without the loader."""
    return {
        str(row["text"]): row["vector"]
        for row in cache.arrow("SELECT text::VARCHAR AS text, vector FROM embeddings WHERE encoder <> 'other'").to_pylist()
    }


@pytest.mark.parametrize("text", ["newest", "context"])
def test_every_decision_node_has_the_embedding_of_its_own_texts(text: str, tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c.duckdb")
    suite = resolve_config(suite_config(features={"text": text}), tmp_path)
    generate(suite, cache, Workspace(tmp_path, tmp_path), engine=scripted(right_answers(suite)), encode=encode)
    with cache.write() as con:  # embeddings of another encoder and of another suite, which must not be loaded
        con.execute("INSERT INTO embeddings SELECT text, 'other', [9.0] FROM embeddings")
        con.execute("INSERT INTO embeddings SELECT uuid(), encoder, vector FROM embeddings WHERE encoder <> 'other'")
    table, expected_vectors = load_table(cache, suite), vectors(cache)
    responses = {
        (row["question"], row["number"]): row["response"]
        for row in cache.arrow(
            "SELECT question::VARCHAR AS question, number, response FROM transitions WHERE depth = 1"
        ).to_pylist()
    }
    for row, (question, _, _) in enumerate(suite.trees()):
        for node in range(table.n_decision_nodes):
            response = responses.get((str(question.key), node))
            texts = [question.prompt, response]
            if text == "context":
                texts = [question.prompt if response is None else f"{question.prompt}\n\n{response}"]
            for part, observed in enumerate(texts):
                vector = table.vectors[table.texts[row, node, part]]
                expected = np.zeros_like(vector) if observed is None else expected_vectors[str(text_key(observed))]
                np.testing.assert_array_equal(vector, expected)


def test_a_table_does_not_depend_on_the_order_of_a_file_s_rows(cache: Cache, suite: Suite) -> None:
    before = load_table(cache, suite)
    with cache.write() as con:
        con.execute("CREATE TEMP TABLE shuffled AS FROM embeddings ORDER BY md5(text::VARCHAR)")
        con.execute("DELETE FROM embeddings")
        con.execute("INSERT INTO embeddings FROM shuffled ORDER BY md5(text::VARCHAR)")
    after = load_table(cache, suite)
    np.testing.assert_array_equal(after.vectors, before.vectors)
    np.testing.assert_array_equal(after.texts, before.texts)
    assert after.responses == before.responses
    first_seen = dict.fromkeys(before.texts.flatten().tolist())
    assert [text for text in first_seen if text] == list(range(1, len(before.vectors)))


def test_fetching_vectors_leaves_the_memory_of_duckdb_as_it_was(cache: Cache, suite: Suite) -> None:
    with cache.read() as con:
        limit = "SELECT current_setting('memory_limit')"
        before = con.execute(limit).fetchall()
        assert len(cache.embeddings.observed(suite).vectors)
        assert con.execute(limit).fetchall() == before


def test_texts_without_an_embedding_are_counted(cache: Cache, suite: Suite) -> None:
    n_embeddings = cache.arrow("FROM embeddings").num_rows
    with cache.write() as con:
        con.execute("DELETE FROM embeddings WHERE rowid IN (0, 3)")
    with pytest.raises(IncompleteCacheError, match=f"2 of {n_embeddings} embeddings of suite scripted are missing"):
        load_table(cache, suite)


def test_a_subset_has_its_rows_and_no_text_of_any_other(table: TransitionTable) -> None:
    rows = np.array([5, 2, 9])
    part = table.subset(rows)
    for name in ("quality", "cost", "benchmark", "split"):
        np.testing.assert_array_equal(getattr(part, name), getattr(table, name)[rows])
    assert part.questions == tuple(table.questions[row] for row in rows)
    np.testing.assert_array_equal(part.vectors[part.texts], table.vectors[table.texts[rows]])
    np.testing.assert_array_equal(part.texts == 0, table.texts[rows] == 0)
    assert not part.vectors[0].any()
    used = table.texts[rows]
    assert len(np.unique(part.vectors[1:], axis=0)) == len(np.unique(used[used > 0]))
    np.testing.assert_array_equal(part.question_embeddings(np.array([1])), table.vectors[table.texts[[2], 0, 0]])


def test_leaves_are_where_complete_paths_end(table: TransitionTable) -> None:
    assert [table.path(leaf) for leaf in table.leaves] == [
        ("sums", "sums"),
        ("sums", "words"),
        ("words", "sums"),
        ("words", "words"),
    ]
    assert table.path(0) == ()
