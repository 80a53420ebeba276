"""Lexical features of questions and responses."""

from dataclasses import replace

import numpy as np

from tests.synthetic import synthetic_table
from tests.toy import known_table
from toolkit.replay.observations import Observer
from toolkit.replay.table import TransitionTable
from toolkit.replay.terms import contained_terms, frequent_response_terms, frequent_terms, table_terms


def test_terms_come_from_training_questions_alone() -> None:
    split = np.array(["train"] * 8 + ["test"] * 4)
    questions = tuple(f"common {'sorted' if row < 4 else 'added'} {'unseen' if row >= 8 else ''}" for row in range(12))
    terms = frequent_terms(replace(known_table(), questions=questions, split=split))
    assert {"common", "sorted", "added", "common sorted", "common added"} == set(terms)


def test_terms_of_responses_come_from_responses_to_training_questions_alone() -> None:
    table = with_responses(synthetic_table(50, dimensions=4))
    assert frequent_response_terms(table) == ("done", "job", "next", "next job")
    tests = table.subset(table.rows("test"))
    assert {text.split()[-1] for text in tests.responses if text} <= {"job", "done", "unseen"}
    assert len(tests.responses) == len(tests.vectors)


def test_a_policy_observes_the_terms_of_the_newest_response_unless_it_is_blind() -> None:
    table = with_responses(synthetic_table(50, dimensions=4))
    observer = Observer(table, response_terms=("done", "next"))
    row, node = np.array([3]), np.array([2])
    place = observer.layout.embeddings + observer.layout.terms
    text = table.responses[table.texts[3, 2, 1]]
    assert observer(row, node)[0, place : place + 2].tolist() == ["done" in text, "next" in text]
    assert not observer(row, np.array([0]))[0, place : place + 2].any()
    assert Observer(table, blind=True, response_terms=("done",)).layout.response_terms == 0


def with_responses(table: TransitionTable) -> TransitionTable:
    """Give a table responses that say whether a job is left; those to test questions also have a word of their own."""
    texts = [""] * len(table.vectors)
    for row, split in enumerate(table.split.tolist()):
        for text in table.texts[row, 1:, 1].tolist():
            texts[text] = ("next job" if text % 2 else "done") + (" unseen" if split == "test" else "")
    return replace(table, responses=tuple(texts))


def test_rare_terms_are_left_out() -> None:
    questions = tuple(f"always item{row}" for row in range(40))
    assert frequent_terms(replace(known_table(40), questions=questions)) == ("always",)


def test_contained_terms_are_whole_words_and_pairs() -> None:
    contained = contained_terms(["sort", "sort the", "word", "words", "the words"], ["SORT the Words", "resort, the words"])
    assert contained.tolist() == [[1, 1, 0, 1, 1], [0, 0, 0, 1, 1]]


def test_a_table_without_texts_has_no_terms() -> None:
    table = known_table()
    assert frequent_terms(table) == ()
    assert table_terms(replace(table, questions=("",) * 12)).shape == (12, 0)
