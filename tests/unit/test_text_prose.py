"""Names, addresses and harmless words in prose, by the files of tests/data/prose."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache

import pytest

from evalforge.core.privacy.text.scrubber import Scrubber
from tests.prose import lines, names, sentence

_WORD = re.compile(r"[^\W\d_]{2,}")


@cache
def scrubbed(text: str) -> str:
    return Scrubber().scrub([text])[0]


HARMLESS = [text for name in ("reasoning", "errors", "chats") for text in lines(name)]


def words_lost(text: str) -> tuple[Counter[str], int]:
    """The words of a text that scrubbing takes, and how many words there are."""
    before = Counter(_WORD.findall(text))
    return before - Counter(_WORD.findall(re.sub(r"\[[A-Z]+_[0-9]+\]", " ", scrubbed(text)))), before.total()


@pytest.mark.parametrize("text", [pytest.param(text, id=text[:70]) for text in HARMLESS])
def test_a_harmless_text_keeps_its_words(text: str) -> None:
    lost, total = words_lost(text)
    assert lost.total() * 10 <= total, lost


def test_harmless_texts_keep_almost_every_word() -> None:
    lost, totals = zip(*map(words_lost, HARMLESS), strict=True)
    assert sum(one.total() for one in lost) * 100 <= sum(totals), sum(lost, Counter())


@pytest.mark.parametrize("frame", [pytest.param(frame, id=frame[:60]) for frame in lines("frames")])
def test_names_go_from_every_kind_of_sentence(frame: str) -> None:
    found = Counter[str]()
    for culture, given, family in names():
        if culture == "words":
            continue
        text = sentence(frame, given, family)
        left = scrubbed(text).lower()
        said = [
            part for part in re.findall(r"[^\W\d_]+", f"{given} {family}".lower()) if part in text.lower() and len(part) > 2
        ]
        around = Counter(re.findall(r"[^\W\d_]+", sentence(frame, "", "").lower()))
        if any(re.search(rf"\b{part}\b", left) and not around[part] for part in said):
            found[culture] += 1
    total = sum(1 for culture, _, _ in names() if culture != "words")
    assert found.total() * 33 <= total, found


def test_addresses_go() -> None:
    missed = []
    rows = [line.partition(" | ")[2] for line in lines("addresses")]
    for address in rows:
        left = scrubbed(f"Please send it to {address} before Friday.")
        if any(word in left for word in re.findall(r"[^\W_]{5,}|[0-9]{4,}", address)):
            missed.append((address, left))
    assert len(missed) * 33 <= len(rows), missed


def test_scrubbing_twice_changes_nothing() -> None:
    texts = [sentence(frame, given, family) for frame in lines("frames") for _, given, family in list(names())[::9]]
    for text in texts:
        assert scrubbed(scrubbed(text)) == scrubbed(text)
