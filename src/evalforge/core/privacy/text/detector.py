"""What a detector is: a pattern that RE2 looks for in one scan, and a check in Python of each place where it matched.

Detectors look at a shadow of the text: one byte a character, so that places agree. Letters beyond Latin-1 are `\xaa` there,
dashes `-`, typographic quotes plain ones, other characters `\xb7`.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

import re2

from evalforge.core.privacy.text.findings import Finding, TextKind

LETTER = r"A-Za-z\xaa\xb5\xba\xc0-\xd6\xd8-\xf6\xf8-\xff"
"""For use inside a character class."""

_STAND_IN_LETTER, _STAND_IN_OTHER = "\xaa", "\xb7"
_QUOTES = {**dict.fromkeys("‘’‚‛′‹›", "'"), **dict.fromkeys("“”„‟″", '"')}
_MAX_MEMORY = 64 << 20


@lru_cache(maxsize=4096)
def _stand_in(char: str) -> str:
    if char in _QUOTES:
        return _QUOTES[char]
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category == "Pd" or char == "−":
        return "-"
    if category == "Zs":
        return " "
    return _STAND_IN_LETTER if category[0] in "LM" else _STAND_IN_OTHER


def _stand_ins(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return "".join(map(_stand_in, error.object[error.start : error.end])), error.end


codecs.register_error("evalforge.stand_ins", _stand_ins)


class View(NamedTuple):
    """A text and its shadow, as bytes for RE2 and as a string for checks. All three have the same length."""

    text: str
    shadow: bytes
    plain: str
    read_to: dict[str, int]
    """How far a check has read ahead, by its name: it need not read the same again, so that its work stays linear."""

    @classmethod
    def of(cls, text: str) -> View:
        """The view of any text, lone surrogates included."""
        shadow = text.encode("latin-1", "evalforge.stand_ins")
        return cls(text, shadow, text if text.isascii() else shadow.decode("latin-1"), {})

    def before(self, at: int, length: int = 40) -> str:
        """Up to `length` characters of the shadow that end at `at`, in lower case."""
        return self.plain[max(0, at - length) : at].lower()

    def after(self, at: int, length: int = 24) -> str:
        """Up to `length` characters of the shadow from `at` on, in lower case."""
        return self.plain[at : at + length].lower()

    def found(self, start: int, end: int, kind: TextKind, identity: str = "", instead: str | None = None) -> Finding:
        """A finding; without an identity of its own it is known by its text in lower case, spaces made single."""
        return Finding(start, end, kind, identity or " ".join(self.text[start:end].casefold().split()), instead)


Match: TypeAlias = Any
"""A match of google-re2, which has no types: `start`, `end`, `span` and indexing by group, over bytes."""

Check: TypeAlias = Callable[[View, Match], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Detector:
    """One row: what is looked for, and what of each match is a finding.

    `gate` is a cheap pattern without which `pattern` cannot match; where it is empty the pattern is its own gate. One of the
    characters `needs`, if there are any, stands in every finding.
    """

    name: str
    pattern: str
    check: Check
    gate: str = ""
    needs: str = ""


def whole(kind: TextKind, group: int = 0) -> Check:
    """A check that takes every match, or one group of it, as it is."""

    def check(view: View, match: Match) -> Iterable[Finding]:
        start, end = match.span(group)
        return (view.found(start, end, kind),) if end > start else ()

    return check


def finder(detector: Detector) -> Callable[[bytes], Iterator[Match]]:
    """What gives a detector's matches in a shadow; the character that ends one may begin the next if it is only a border.

    Matches that hold nothing the detector needs may be left out.
    """
    search = compiled(detector.pattern).search
    border = 1 if _BORDER_BEHIND.search(detector.pattern) else 0
    not_needed = bytes(code for code in range(256) if chr(code) not in detector.needs) if detector.needs else b""

    def matches(shadow: bytes) -> Iterator[Match]:
        at, last = 0, len(shadow.rstrip(not_needed)) if not_needed else len(shadow) + 1
        while at < last and (match := search(shadow, at)) is not None:
            yield match
            start, end = match.span()
            at = max(end - border, start + 1)

    return matches


_BORDER_BEHIND = re.compile(r"\(\?:\$\|\[\^?[^|]{1,60}\]\)$")


def uncounted(pattern: str) -> str:
    """A pattern that matches wherever this one does, without upper bounds of repeats above 4: for gates.

    A counter in one of many expressions that are run as one multiplies the states of all others.
    """
    return _REPEAT.sub(_unbounded, pattern)


_REPEAT = re.compile(r"\{([0-9]+),([0-9]+)\}")
_MAX_COUNTED = 4


def _unbounded(repeat: re.Match[str]) -> str:
    least, most = int(repeat[1]), int(repeat[2])
    if most <= _MAX_COUNTED:
        return repeat[0]
    return {0: "*", 1: "+"}.get(least, f"{{{least},}}")


def options(max_memory: int = _MAX_MEMORY) -> Any:
    """RE2's options for patterns over shadows; `max_memory` in bytes."""
    chosen = re2.Options()
    chosen.encoding = re2.Options.Encoding.LATIN1
    chosen.max_mem = max_memory
    chosen.log_errors = False
    return chosen


def compiled(pattern: str) -> Any:
    """A pattern over shadows, compiled by RE2."""
    return re2.compile(pattern.encode("latin-1"), options())
