"""Lexical features: which frequent words and pairs of words a question and the newest response contain.

An embedding blurs the wording of a task, which often says more about the right path than the topic, and the words by which a
response says what is left to do. The terms are chosen on the training split and kept with a router, so that it reads new texts
alike.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from toolkit.replay.table import TransitionTable, cached_on_table

MIN_SHARE = 0.05
"""Share of the training questions that contain a term, at least."""
MIN_RESPONSE_SHARE = 0.02
"""Share of the distinct responses to training questions that contain a term, at least: responses are of more kinds."""
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
    return _frequent([table.questions[row] for row in table.rows("train")] if table.questions else [], MIN_SHARE)


@cached_on_table
def frequent_response_terms(table: TransitionTable) -> tuple[str, ...]:
    """Return the words and pairs of neighbouring words that many responses to training questions contain, alphabetically.

    Each distinct response counts once.

    Returns:
        The terms; none if no decision node observes a response alone, the table has no texts, or no term is frequent.
    """
    if not table.responses:
        return ()
    return _frequent([table.responses[text] for text in np.unique(table.texts[table.rows("train"), 1:, 1])], MIN_RESPONSE_SHARE)


def _frequent(texts: Sequence[str], min_share: float) -> tuple[str, ...]:
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, 2), min_df=min_share, max_features=MAX_TERMS, binary=True, token_pattern=WORD)
    try:
        counter.fit(texts)
    except ValueError:  # there is no text, no word, or no frequent term
        return ()
    return tuple(counter.get_feature_names_out().tolist())


def contained_terms(terms: Sequence[str], texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Return which terms each text contains, as 1 and 0, `(texts, terms)`."""
    if not terms:
        return np.zeros((len(texts), 0), dtype=np.float32)
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(ngram_range=(1, 2), vocabulary=list(terms), binary=True, token_pattern=WORD)
    contained: npt.NDArray[np.float32] = counter.transform(texts).toarray().astype(np.float32)
    return contained


@cached_on_table
def terms_in_questions(table: TransitionTable, terms: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Return which terms each row's question contains, `(rows, terms)`; all routers that observe them share the result."""
    return contained_terms(terms, table.questions or ("",) * len(table.split))


@cached_on_table
def terms_in_responses(table: TransitionTable, terms: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Return which terms each of a table's texts contains if it is a response, `(texts, terms)`; shared likewise."""
    return contained_terms(terms, table.responses or ("",) * len(table.vectors))


@cached_on_table
def table_terms(table: TransitionTable) -> npt.NDArray[np.float32]:
    """Return which of the table's frequent terms each row's question contains, `(rows, terms)`."""
    return contained_terms(frequent_terms(table), table.questions)
