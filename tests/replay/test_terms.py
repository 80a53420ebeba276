"""Lexical features of questions."""

from dataclasses import replace

import numpy as np

from tests.toy import known_table
from toolkit.replay.terms import contained_terms, frequent_terms, table_terms


def test_terms_come_from_training_questions_alone() -> None:
    split = np.array(["train"] * 8 + ["test"] * 4)
    questions = tuple(f"common {'sorted' if row < 4 else 'added'} {'unseen' if row >= 8 else ''}" for row in range(12))
    terms = frequent_terms(replace(known_table(), questions=questions, split=split))
    assert {"common", "sorted", "added", "common sorted", "common added"} == set(terms)


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
