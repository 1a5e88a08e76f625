"""A text in ASCII, one byte a character, for patterns that must read every script: `Straße` is `Strase`, `ул.` is `ul.`.

Accents go, Cyrillic and Greek letters become their nearest single letter, letters of other scripts `x`. Places agree with
the text's.
"""

from __future__ import annotations

import codecs
import unicodedata
from functools import lru_cache

OTHER = "\x03"
"""Stands for what is neither letter, digit nor known punctuation."""
_SINGLE = {
    **dict(zip("ßæœøðþłđıſ", "saoodtldis", strict=True)),
    **dict(zip("абвгдеёжзийклмнопрстуфхцчшщъыьэюяіїєґў", "abvgdeezzijklmnoprstufhccssxyxeuaiiegu", strict=True)),
    **dict(zip("αβγδεζηθικλμνξοπρσςτυφχψω", "abgdezitiklmnxoprsstyfhpo", strict=True)),
    **dict(zip("º°ª№’‘“”", "ooo#''\"\"", strict=True)),
    "〒": "@",
}


@lru_cache(maxsize=4096)
def _letter(char: str) -> str:
    lower = char.lower()
    single = _SINGLE.get(lower)
    if single is None:
        category = unicodedata.category(char)
        if category == "Nd":
            return str(unicodedata.decimal(char))
        if category == "Pd":
            return "-"
        if category[0] == "Z":
            return " "
        if category[0] not in "LM":
            return OTHER
        plain = unicodedata.normalize("NFKD", lower)[0]
        single = plain if plain.isascii() and plain.isalpha() else _SINGLE.get(plain, "x")
    return single.upper() if char != lower else single


def _letters(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # narrows the type: the codec raises nothing else
    return "".join(map(_letter, error.object[error.start : error.end])), error.end


codecs.register_error("evalforge.letters", _letters)


def in_letters(text: str) -> bytes:
    """The text in ASCII, one byte a character; any text, lone surrogates included."""
    return text.encode("ascii", "evalforge.letters")


def folded_form(text: str) -> str:
    """The text in lower case and without accents, character by character, so that places stay what they were."""
    return text.lower() if text.isascii() else "".join(map(_folded, text))


@lru_cache(maxsize=4096)
def _folded(character: str) -> str:
    if character < "\x80":
        return character.lower()
    base = _STROKES.get(character.lower()) or unicodedata.normalize("NFD", character)[0].lower()
    return base if len(base) == 1 else character


_STROKES = {"ı": "i", "ł": "l", "ø": "o", "đ": "d"}
"""Letters whose stroke, or missing dot, is no accent to Unicode."""
