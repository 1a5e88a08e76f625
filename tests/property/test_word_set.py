"""`WordSet` has the words that it was made of, and no others."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.privacy.word_set import WordSet

_WORDS = st.text(st.characters(exclude_characters="\n"), min_size=1, max_size=12)


@given(st.sets(_WORDS, max_size=200), st.lists(st.text(max_size=25), max_size=20))
def test_it_has_its_words_and_no_others(words: set[str], others: list[str]) -> None:
    known = WordSet(words)
    assert all(word in known for word in words)
    for other in [*others, "", "\n", *(word[:-1] for word in words), *("\n".join(words)[:at] for at in range(0, 60, 7))]:
        assert (other in known) == (other in words)


def test_neighbours_in_a_bucket_are_no_word() -> None:
    words = {f"word{number}" for number in range(50)}
    known = WordSet(words)
    assert not any(f"{one}\n{two}" in known or one + two in known for one in words for two in words)


def test_nothing_has_no_words() -> None:
    assert "" not in WordSet(set())
    assert "a" not in WordSet(set())
