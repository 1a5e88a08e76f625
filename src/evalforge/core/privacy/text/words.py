"""Single words as they are written: their shape, and what the lexicon says of them without endings and quotes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from evalforge.core.privacy.text.lexicon import Kind, Lexicon


class Shape(IntEnum):
    """How a word is written."""

    LOWER = 0
    TITLE = 1
    UPPER = 2
    MIXED = 3


@dataclass(frozen=True, slots=True)
class Word:
    base: str
    """In lower case, without a possessive ending and quotes."""
    shape: Shape
    kind: Kind


NO_WORD = Word("", Shape.LOWER, Kind.PLAIN)


class Judge:
    """Says of each word of a text what it is; remembers it as long as the text is read."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self._seen: dict[str, Word] = {}

    def word(self, token: str) -> Word:
        """What a token of a text is."""
        word = self._seen.get(token)
        if word is None:
            word = self._seen[token] = self._judged(token)
        return word

    def _judged(self, token: str) -> Word:
        core = token.strip("'")
        lower = core.lower()
        if not core:
            return NO_WORD
        if core == lower:
            shape = Shape.LOWER if not is_caseless(core) else Shape.TITLE
        elif core.isupper() or (core[:-2].isupper() and lower.endswith("'s")):
            shape = Shape.UPPER if len(core) > 1 else Shape.TITLE
        else:
            shape = Shape.TITLE if core[0].isupper() and core[1:] == core[1:].lower() else Shape.MIXED
        if lower.endswith("s") and core[-1] == "s" and core[:-1].isupper() and 2 < len(core) <= 6:
            lower, shape = lower[:-1], Shape.UPPER  # acronyms: `RPCs`
        kind = self.lexicon.kind(lower)
        base = lower
        if "'" in lower and kind >= Kind.NAME:
            if lower.endswith(("'s", "s'")):
                base = lower[: -2 if lower.endswith("'s") else -1]
                kind = self.lexicon.kind(base)
            if kind is Kind.UNKNOWN and "'" in base:
                kind = self._joined_kind(base, core)
                shape = Shape.TITLE if shape is Shape.MIXED and core[0].isupper() else shape
        elif kind is Kind.UNKNOWN and lower.endswith("s") and len(lower) > 4 and self.lexicon.kind(lower[:-1]) is Kind.NAME:
            kind = Kind.NAME  # a name in the plural, or its possessive without the apostrophe
        if kind is Kind.UNKNOWN and (shape is Shape.MIXED or not core.isalpha()):
            if self.lexicon.is_plain_code(core):
                kind = Kind.PLAIN
            elif self._holds_name(core):
                kind = Kind.NAME
        return Word(base, shape, kind)

    def _joined_kind(self, base: str, core: str) -> Kind:
        """`o'brien` is a name; `users'data` is what its parts are."""
        parts = [part for part in base.split("'") if part]
        if len(parts) > 1 and len(parts[0]) <= 3 and core[0].isupper() and len(parts[1]) > 2:
            return Kind.NAME
        kinds = [self.lexicon.kind(part) for part in parts]
        if all(kind <= Kind.SOMETIMES_NAME or len(part) == 1 for kind, part in zip(kinds, parts, strict=True)):
            return Kind.PLAIN
        return max(kinds, default=Kind.PLAIN)

    def _holds_name(self, core: str) -> bool:
        """Whether a token that mixes cases or digits has a name among its pieces: `JohnSmith`, `priya88`."""
        at = 0
        for end in range(1, min(len(core), 64) + 1):
            ends = (
                end == len(core)
                or (core[end].isupper() and core[end - 1].islower())
                or core[end].isdigit() != core[end - 1].isdigit()
            )
            if ends:
                piece = core[at:end].lower()
                if len(piece) > 2 and self.lexicon.kind(piece) in (Kind.NAME, Kind.OFTEN_NAME):
                    return True
                at = end
        return False


def is_caseless(word: str) -> bool:
    """Whether a word has no letters with a case: Chinese, Arabic, Hindi, digits."""
    return word.lower() == word.upper()
