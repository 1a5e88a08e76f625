"""The words that may stay: an English word list without people's names, and the coinages of the trade.

The lists are package data in `words/`, loaded once when first needed; `words/README.md` says where they come from, under
which licences, and how they are built. A word that is not listed is unknown, whatever it looks like.
"""

from __future__ import annotations

import gzip
import re
from functools import cache
from importlib import resources

from evalforge.core.privacy.word_set import WordSet

MAX_WORD_LENGTH = 32
_PIECE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SMALL_NUMBER = re.compile("[0-9]{1,3}|20[0-9]{2}")
_WORDS_ONLY = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[ _\-/.]{1,2}[A-Za-z0-9]+)*")


def listed(text: str) -> frozenset[str]:
    """The words of a table's row."""
    return frozenset(text.split())


def pieces(text: str) -> list[str]:
    """The words and numbers of a text in lower case, split at every border: `maxTokens` and `MAX-TOKENS` agree.

    Digits are pieces of their own. What is not an ASCII letter or digit only separates.
    """
    return [piece.lower() for piece in _PIECE.findall(text)]


def is_word(word: str) -> bool:
    """Whether a lower-case word is in the vocabulary."""
    return word in _words() or word in technical_words()


def is_name(word: str) -> bool:
    """Whether a lower-case word is a given name or a surname and is not in the vocabulary."""
    return word in _names() and word not in technical_words()


def is_known_words(text: str, max_words: int = 4) -> bool:
    """Whether a text is nothing but 1 to `max_words` words of the vocabulary.

    Words are parted by a space, `_`, `-`, `.` or `/`, or by capitals. At most two small numbers (3 digits, or a year) and
    single letters may follow the first word (`rubric-v2`, `gpt-4o`); a single letter may stand alone. Empty texts and texts
    without a word are not.
    """
    if not 0 < len(text) <= max_words * MAX_WORD_LENGTH or _WORDS_ONLY.fullmatch(text) is None:
        return False
    if len(text) == 1:
        return True  # a variant, a grade or a plan
    word_count = 0
    marks = ""
    for chunk in re.split(r"[ _\-/.]+", text):
        if is_word(chunk.lower()):
            word_count += 1
            continue
        for part in pieces(chunk):
            if len(part) > 1 and is_word(part):
                word_count += 1
            elif word_count and (len(part) == 1 or _SMALL_NUMBER.fullmatch(part)):
                marks += "9" if part.isdigit() else "a"
            else:
                return False
    return 0 < word_count <= max_words and marks.count("9") <= 2 and marks.count("a") <= 1


@cache
def technical_words() -> frozenset[str]:
    """The coinages, vendors, abbreviations and proper nouns of the trade."""
    lines = _file("technical.txt").decode("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@cache
def time_zones() -> frozenset[str]:
    """The names of time zones, in lower case: a closed list, the same on every machine."""
    lines = _file("time-zones.txt").decode("utf-8").splitlines()
    rows = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return frozenset(f"{area}/{place}".strip("/").lower() for area, _, places in rows for place in places.split())


@cache
def keys_of_languages() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The sensitive words of keys in other languages than English: rows of a class and its words; `_` joins a run."""
    lines = _file("keys-languages.txt").decode("utf-8").splitlines()
    rows = (line.partition(":") for line in lines if line and not line.startswith("#"))
    return tuple((key_class, tuple(words.split()[1:])) for key_class, _, words in rows)


@cache
def _words() -> WordSet:
    return WordSet(_unpacked("words.txt.gz").split())


@cache
def _names() -> WordSet:
    return WordSet(_unpacked("names.txt.gz").split())


def _file(name: str) -> bytes:
    return resources.files(__package__).joinpath("words", name).read_bytes()


def _unpacked(name: str) -> str:
    return gzip.decompress(_file(name)).decode("ascii")
