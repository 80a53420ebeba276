"""Lexical features of a question: which frequent words and pairs of words it contains.

An embedding blurs the wording of a task, which often says more about the right path than the topic. The terms are chosen on the
training split and kept with a router, so that it reads new questions alike.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.replay.table import TransitionTable, cached_on_table

MIN_SHARE = 0.05
"""Share of the training questions that contain a term, at least."""
MAX_TERMS = 512
"""The most frequent terms are kept, up to this number."""
WORD = r"(?u)\b\w+\b"
"""A word is a run of letters and digits."""


@cached_on_table
def frequent_terms(table: TransitionTable) -> tuple[str, ...]:
    """Return the words and pairs of neighbouring words that many training questions contain, in alphabetical order.

    Returns:
        The terms; none if the table has no texts or no term is frequent.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    questions = [table.questions[row] for row in table.rows("train")] if table.questions else []
    counter = CountVectorizer(ngram_range=(1, 2), min_df=MIN_SHARE, max_features=MAX_TERMS, binary=True, token_pattern=WORD)
    try:
        counter.fit(questions)
    except ValueError:  # there is no question, no word, or no frequent term
        return ()
    return tuple(counter.get_feature_names_out().tolist())


def contained_terms(terms: Sequence[str], questions: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return which terms each question contains, as 1 and 0, `(questions, terms)`."""
    if not terms:
        return np.zeros((len(questions), 0), dtype=np.float32)
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, 2), vocabulary=list(terms), binary=True, token_pattern=WORD)
    contained: npt.NDArray[np.float32] = counter.transform(questions).toarray().astype(np.float32)
    return contained


@cached_on_table
def table_terms(table: TransitionTable) -> npt.NDArray[np.float32]:
    """Return which of the table's frequent terms each row's question contains, `(rows, terms)`."""
    return contained_terms(frequent_terms(table), table.questions)
