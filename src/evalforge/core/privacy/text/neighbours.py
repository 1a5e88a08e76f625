"""A word's neighbours in its text: what stands before and after it, and whether they may be parts of one name."""

from __future__ import annotations

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.lexicon import Lexicon
from evalforge.core.privacy.text.tokens import COVERED, Tokens
from evalforge.core.privacy.text.words import Judge, Shape, Word

_JOINTS = frozenset({" ", "-", "_", ".", "'"})
_ENDS = frozenset(".!?:;\n\r|\u2026\u3002\uff01\uff1f\u2028\u2029\x85\x0b\x0c")
_OPENERS = frozenset(" \t\"'([{*_`#>-\u201c\u2018\u00ab\u2013\u2014\u2022+")


class Neighbours:
    """The words of one text by index, and their surroundings."""

    def __init__(self, tokens: Tokens, lexicon: Lexicon) -> None:
        self.text = tokens.text
        self.words = tokens.words
        self.lexicon = lexicon
        self._tokens = tokens
        self._judge = Judge(lexicon)

    @property
    def starts(self) -> list[int]:
        """Where each word begins, in characters."""
        return self._tokens.starts

    def word(self, index: int) -> Word:
        """What the word is."""
        return self._judge.word(self.words[index])

    def start(self, index: int) -> int:
        """Where the word begins, in characters."""
        return self._tokens.starts[index]

    def end(self, index: int) -> int:
        """Where the word ends, in characters."""
        return self._tokens.starts[index] + len(self.words[index])

    def before(self, index: int) -> int | None:
        """The word before, where nothing but spaces and light punctuation part them; None at the text's start."""
        for at in range(index - 1, max(index - 5, -1), -1):
            if self.words[at]:
                gap = self.text[self.end(at) : self.start(index)]
                return None if COVERED in gap or "\n" in gap else at
        return None

    def after(self, index: int) -> int | None:
        """The word after, likewise; None at the text's end."""
        for at in range(index + 1, min(index + 5, len(self.words))):
            if self.words[at]:
                gap = self.text[self.end(index) : self.start(at)]
                return None if COVERED in gap or "\n" in gap else at
        return None

    def base_before(self, index: int) -> str:
        """The word before, in lower case; empty where there is none."""
        at = self.before(index)
        return self.words[at].lower() if at is not None else ""

    def base_after(self, index: int) -> str:
        """The word after, in lower case; empty where there is none."""
        at = self.after(index)
        return self.words[at].lower() if at is not None else ""

    def next_char(self, index: int) -> str:
        """The character after a word; a newline at the text's end."""
        end = self.end(index)
        return self.text[end] if end < len(self.text) else "\n"

    def opens_sentence(self, index: int) -> bool:
        """Whether the word stands at the start of a sentence, a line, a quotation or a cell."""
        at = self.start(index) - 1
        for _ in range(12):
            if at < 0 or self.text[at] in _ENDS:
                return True
            if self.text[at] not in _OPENERS:
                return False
            at -= 1
        return False

    def is_capital(self, index: int | None) -> bool:
        """Whether there is a word and it begins with a capital."""
        return index is not None and self.word(index).shape in (Shape.TITLE, Shape.UPPER)

    def is_joined(self, left: int, right: int | None) -> bool:
        """Whether two words may be parts of one name: one joint is between them, or an initial's full stop and a space."""
        if right is None:
            return False
        gap = self.text[self.end(left) : self.start(right)]
        return gap in _JOINTS or gap == "  " or (gap == ". " and len(self.words[left]) <= 2 and self.words[left].istitle())

    def is_initial(self, index: int) -> bool:
        """Whether the word is a single capital."""
        return len(self.words[index]) == 1 and self.words[index].isupper()

    def is_particle(self, index: int) -> bool:
        """Whether the word is a particle of names: `van`, `bin`."""
        return self.words[index].lower() in table.PARTICLES
