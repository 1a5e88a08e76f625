"""Characters that look like other characters, and characters that nobody sees.

Source: the confusables of Unicode Technical Standard 39, reduced to letters that stand for a Latin letter.
"""

from __future__ import annotations

import re
import unicodedata

_CONFUSABLE = (
    # Cyrillic
    ("абвгеёзикмнопрстухьѕіїјѵһԁԛԝӏԍҽ", "abbreezukmhonpctyxbsiijvhdqwlge"),
    ("АВЕЁЗКМНОРСТУХЬЅІЇЈѴҺԀԚԜӀԌ", "ABEE3KMHOPCTYXBSIIJVHDQWIG"),
    # Greek
    ("αβγεηικνοπρστυχωϲϳ", "abyenikvonpotuxwcj"),
    ("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹϿ", "ABEZHIKMNOPTYXCC"),
    # Armenian, Cherokee
    ("օսհոցոյք", "ouhngnjp"),
    ("ᎪᏴᏟᎠᎬᏀᎻᎥᎫᏦᏞᎷᏁᎾᏢᏔᏚᎢᏌᏙᎳᎩᏃ", "ABCDEGHIJKLMNOPWSTUVWYZ"),
)
_OF_LETTER = {ord(odd): plain for odds, plains in _CONFUSABLE for odd, plain in zip(odds, plains, strict=True)}
"""Folded only inside a word that also has Latin letters: a word of another script is left to itself."""

_ALWAYS_ODD = "ıɑɡɩʟɴʀʏɪʜʙɢᴀᴄᴅᴇᴊᴋᴍᴏᴘᴛᴜᴠᴡᴢꜰꜱꞎƽ"
_ALWAYS_PLAIN = "iagiLNRYIHBGACDEJKMOPTUVWZFSls"
_ALWAYS: dict[int, str | None] = dict(zip(map(ord, _ALWAYS_ODD), _ALWAYS_PLAIN, strict=True))
_ALWAYS |= {
    ord("\u2028"): "\n",
    ord("\u2029"): "\n",
    ord("\x85"): "\n",
    ord("\x0b"): " ",
    ord("\x0c"): " ",
    ord("\u1680"): " ",
}
for _first in (0x1F150, 0x1F170, 0x1F1E6):  # negative circled, negative squared, regional indicator letters
    _ALWAYS |= {_first + n: chr(ord("A") + n) for n in range(26)}

_COMBINING = ((0x0300, 0x036F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
_UNSEEN = ((0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2800, 0x2800), (0x3164, 0x3164), (0xFFA0, 0xFFA0))
_SELECTORS = ((0xFE00, 0xFE0F), (0xE0100, 0xE01EF), (0xD800, 0xDFFF))
for _start, _end in (*_COMBINING, *_UNSEEN, *_SELECTORS):
    _ALWAYS |= dict.fromkeys(range(_start, _end + 1))


class _Plain(dict[int, "str | int | None"]):
    """A table for `str.translate` that works each character out when it is first met, and remembers characters only."""

    def __missing__(self, code: int) -> str | int | None:
        char = chr(code)
        answer: str | int | None = code
        category = unicodedata.category(char)
        if category == "Cf" or (category == "Cc" and char not in "\t\n\r"):
            answer = None
        elif category == "Nd" and code > 127:
            answer = str(unicodedata.decimal(char))
        elif category == "Zs":
            answer = " "
        self[code] = answer
        return answer


_PLAIN = _Plain(_ALWAYS)
_FOREIGN = "\u0370-\u052f\u0531-\u0587\u13a0-\u13ff"
_FOREIGN_LETTER = re.compile(f"[{_FOREIGN}]")
_WORD = re.compile(r"[\w.@+\-]+")
_LATIN_LETTER = re.compile(r"[A-Za-z]")


def without_disguise(text: str) -> str:
    """The text in NFKC without what nobody sees; digits of any script as ASCII ones; look-alikes in Latin words as Latin."""
    text = unicodedata.normalize("NFKC", text)
    if text.isascii():
        return text
    text = text.translate(_PLAIN)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        if _FOREIGN_LETTER.search(text):
            text = _WORD.sub(_latin, text)
    return text


def _latin(word: re.Match[str]) -> str:
    found = word[0]
    if not _LATIN_LETTER.search(found) or not _FOREIGN_LETTER.search(found):
        return found
    return found.translate(_OF_LETTER)
