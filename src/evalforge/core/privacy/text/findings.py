"""A finding: a place in a text that must not be stored, and what kind of thing stands there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple


class TextKind(StrEnum):
    """What was found. The name stands in the placeholder (`[EMAIL_1]`), the value in `redactions` (`email`)."""

    EMAIL = "email"
    PHONE = "phone"
    CARD = "card"
    IBAN = "iban"
    ID = "national_id"
    IP = "ip"
    MAC = "mac"
    URL = "url"
    WALLET = "wallet"
    SECRET = "secret"  # noqa: S105 - the kind, not one of them
    PATH = "path"
    GEO = "coordinates"
    DATE = "birth_date"
    PLATE = "licence_plate"
    PERSON = "person"
    ADDRESS = "address"
    USER = "user"
    SESSION = "session"
    NUMBER = "long_number"
    CODE = "code"
    WORD = "unknown_word"
    ENCODED = "encoded"


MARK = re.compile(rf"\[(?P<kind>{'|'.join(kind.name for kind in TextKind)})_(?P<number>[1-9][0-9]{{0,4}})\]")
"""A placeholder inside a text. Linear: fixed alternatives and a bounded number."""


class Finding(NamedTuple):
    """`text[start:end]` is of this kind. Findings with equal kind and `identity` are one thing and get one placeholder.

    `identity` is the thing's canonical form (an e-mail address in lower case, a card's digits); it lives in memory only.
    `instead`, where set, is harmless text that takes the place of the placeholder (a path's file name, for one).
    """

    start: int
    end: int
    kind: TextKind
    identity: str
    instead: str | None = None


def is_text_mark(text: str) -> bool:
    """Whether a text is nothing but placeholders, and what parts them."""
    return text[:1] == "[" and not any(map(str.isalnum, MARK.sub("", text)))


def settled(findings: Iterable[Finding]) -> list[Finding]:
    """The findings in order of place, none overlapping: those that touch the same characters become one over all of them.

    Of several at one place the one that was given first keeps its kind, so callers give the surest first.
    """
    given = list(findings)
    if _are_apart(given):
        return given
    ranked = sorted(enumerate(given), key=lambda entry: (entry[1].start, entry[0]))
    apart: list[tuple[int, Finding]] = []
    for rank, finding in ranked:
        if finding.end <= finding.start:
            continue
        if apart and finding.start < apart[-1][1].end:
            kept_rank, kept = apart[-1]
            end = max(kept.end, finding.end)
            sure_rank, surest = (kept_rank, kept) if kept_rank <= rank else (rank, finding)
            grown = kept.start != surest.start or end != surest.end
            instead = None if grown else surest.instead
            apart[-1] = (sure_rank, Finding(kept.start, end, surest.kind, surest.identity, instead))
        else:
            apart.append((rank, finding))
    return [finding for _, finding in apart]


def _are_apart(findings: Sequence[Finding]) -> bool:
    """Whether findings are in order of place, none empty and none overlapping: as most are."""
    at = 0
    for start, end, *_ in findings:
        if start < at or end <= start:
            return False
        at = end
    return True


def persons_joined(text: str, findings: Sequence[Finding], person: Callable[[str], str]) -> list[Finding]:
    """The findings, those as one that stand side by side and are parts of one person's name: `Ngozi` and `Okonkwo`.

    `person` gives one text for whatever a person is called. `findings` are in order of place, and so is what is returned.
    """
    joined: list[Finding] = []
    for finding in findings:
        last = joined[-1] if joined else None
        if (
            last is not None
            and finding.kind is _PERSON is last.kind
            and text[last.end : finding.start] in _BETWEEN_PARTS
            and person(finding.identity) == person(last.identity)
        ):
            joined[-1] = last._replace(end=finding.end)
        else:
            joined.append(finding)
    return joined


_PERSON = TextKind.PERSON
_BETWEEN_PARTS = frozenset({" ", "-", "_", ".", ", "})
