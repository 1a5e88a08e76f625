"""A text's words with their places: split once, by C-speed steps, so that harmless text costs a look-up per word."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import accumulate

import re2

from evalforge.core.privacy.text.findings import Finding

COVERED = "\x01"
"""Stands for each character that is not ours to judge: it is replaced already, or will be."""
_STRUCTURE_MARK = re2.compile(r"\[redacted[:a-z ]{0,20}[0-9]*\]|\[(?:[A-Z]{2,8})_[1-9][0-9]{0,4}\]")
_ASCII_BREAKS = "".join(chr(code) for code in range(128) if not chr(code).isalnum() and chr(code) != "'")
_ASCII_SPACED = {ord(char): " " for char in _ASCII_BREAKS}
_MAX_OTHER_BREAKS = 64


class Tokens:
    """The words of a text. `words[i]` begins at `starts[i]`; between two words stands exactly one character that parts them.

    An empty word stands between two separators in a row. Apostrophes belong to words. `text` is the text with everything
    that is covered as `COVERED`; it has the length of the original.
    """

    __slots__ = ("_starts", "text", "words")

    def __init__(self, text: str, taken: Sequence[Finding]) -> None:
        self.text = covered(text, taken)
        self.words = _spaced(self.text).split(" ")
        self._starts: list[int] | None = None

    @property
    def starts(self) -> list[int]:
        """Where each word begins, in characters."""
        if self._starts is None:
            self._starts = [at + index for index, at in enumerate(accumulate(map(len, self.words), initial=0))]
        return self._starts


def covered(text: str, taken: Sequence[Finding]) -> str:
    """The text with `taken` and the placeholders in it as `COVERED`, each character for itself."""
    spans = [(finding.start, finding.end) for finding in taken]
    if "[" in text:
        spans += [mark.span() for mark in _STRUCTURE_MARK.finditer(text)]
        spans.sort()
    if not spans:
        return text.replace("\u2019", "'") if not text.isascii() else text
    parts: list[str] = []
    at = 0
    for start, end in spans:
        if end <= at:
            continue
        parts += (text[at : max(start, at)], COVERED * (end - max(start, at)))
        at = end
    parts.append(text[at:])
    return "".join(parts).replace("\u2019", "'")


def _spaced(text: str) -> str:
    """The text with a space for everything that is no letter, digit or apostrophe; of the same length."""
    if text.isascii():
        return text.translate(_ASCII_SPACED)
    others = {char for char in set(text) if not char.isalnum() and char != "'" and unicodedata.category(char)[0] != "M"}
    if len(others) > _MAX_OTHER_BREAKS:
        return text.translate(dict.fromkeys(map(ord, others), " "))
    for char in others:
        text = text.replace(char, " ")
    return text
