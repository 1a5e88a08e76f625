"""Postal addresses in prose: streets, postal codes, boxes, and the towns and names that stand with them.

Words that are in no vocabulary go anyway; these rules find what is made of plain words and numbers (`742 Evergreen
Terrace`), and join the pieces of one address into one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import re2

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.address_patterns import Patterns, has_digit, patterns, trimmed
from evalforge.core.privacy.text.naming import Run

_LATIN = re2.Options()
_LATIN.encoding = re2.Options.Encoding.LATIN1
_JOIN_WITHIN = 60
_CONTEXT = 40


@dataclass(frozen=True, slots=True)
class Place:
    """`text[start:end]` is an address, or a piece of one. `identity` is the same however commas and lines part it."""

    start: int
    end: int
    identity: str


def places_in(text: str, letters: bytes, runs: Sequence[Run], *, has_any: bool) -> tuple[list[Place], list[Run]]:
    """The addresses of a text, and the runs that stand in none of them.

    `letters` is the text in ASCII; `has_any` says whether a pattern may match in it. `runs` are the names and unknown words
    of the text in order of place; those that a house number, a postal code or a street stands beside become a part of the
    address.
    """
    if not has_any and not runs:
        return [], []
    made = patterns()
    spans = made.spans(letters, [run.start for run in runs]) if has_any else []
    if runs:
        spans = _grown(letters, runs, spans, made)
    if not spans:
        return [], list(runs)
    joined = _joined(letters, spans, made)
    places = [Place(start, end, _identity(text[start:end])) for start, end in joined]
    return places, _outside(runs, joined)


def _grown(letters: bytes, runs: Sequence[Run], spans: list[tuple[int, int]], made: Patterns) -> list[tuple[int, int]]:
    """The spans, and the unknown words that stand with a number or a word of places, as addresses too."""
    grown = list(spans)
    ends_before = 0
    for run in runs:
        if letters[run.start : run.start + 1].islower() and letters[run.start : run.start + 1] != b"x":
            continue
        start, end = run.start, run.end
        lead = letters[max(ends_before, start - _CONTEXT) : start]
        prefix = made.prefix.search(lead) if lead[-1:] in (b" ", b"-") and _begins_place(lead) else None
        if prefix is not None and (not run.is_person or prefix[1].split()[0].rstrip(b".") in _SURE_PLACE_STARTS):
            start -= len(prefix[1])
            lead = lead[: len(lead) - len(prefix[1])]
        number = made.lead.search(lead) if lead[-1:] == b" " and has_digit(lead[-9:]) else None
        follow = letters[end : end + _CONTEXT]
        code = made.code_behind.match(follow) if follow[:1] in (b" ", b",") and has_digit(follow[:16]) else None
        near = letters[max(0, start - _LEAD) : start].rsplit(b"\n", 1)[-1] if code is not None else b""
        if code is not None and has_digit(near) and (b"," in near[-24:] + follow[:2] or len(_NUMBERS.findall(near)) > 1):
            # a postal code: what stands before it has a house number
            size = code.end() - (1 if code[0][-1:] in _STOPS else 0)
            grown.append(trimmed(letters, start, end + size))
            ends_before = end + size
            continue
        suffix = made.suffix.match(follow) if follow[:1] == b" " and follow[1:2].isupper() else None
        if suffix is not None:
            end += suffix.end()
            follow = letters[end : end + _CONTEXT]
        house = (
            made.follow.match(follow)
            if not run.is_person and follow[:1] in (b" ", b",") and has_digit(follow[:10])
            else None
        )
        if number is not None and (
            not run.is_person
            or len(number[1].strip(b" ,")) >= 4
            or (follow[:2] == b", " and made.called.search(lead[: len(lead) - len(number[1])]))
        ):
            start -= len(number[1])
        elif house is None and start == run.start and end == run.end:
            ends_before = run.end
            continue
        if house is not None:
            end += house.end() - (1 if house[0][-1:] in (b" ", b",", b".", b";", b")", b"\n") else 0)
        grown.append(trimmed(letters, start, end))
        ends_before = end
    return grown


_NUMBERS = re2.compile(rb"[0-9]+", _LATIN)
_STOPS = frozenset({b" ", b",", b".", b";", b":", b")", b'"', b"'", b"\n", b"\t"})


def _begins_place(lead: bytes) -> bool:
    """Whether the last word begins a place's name: `North `, `St. `."""
    return lead[:-1].replace(b"-", b" ").rsplit(b" ", 1)[-1].strip(b"(\"',.").decode().lower() in table.PLACE_STARTS


_SURE_PLACE_STARTS = frozenset({b"North", b"South", b"East", b"West", b"New", b"Lake", b"Port", b"Fort", b"Mount"})


def _joined(letters: bytes, spans: Iterable[tuple[int, int]], made: Patterns) -> list[tuple[int, int]]:
    """The spans in order, those that overlap or that only commas and codes part as one, each with what follows of it."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined:
            before_start, before_end = joined[-1]
            near = start - before_end <= _JOIN_WITHIN
            if start <= before_end or (near and made.joint.fullmatch(letters[before_end:start]) is not None):
                joined[-1] = (before_start, max(before_end, end))
                continue
        joined.append((start, end))
    whole: list[tuple[int, int]] = []
    for index, (start, end) in enumerate(joined):
        limit = joined[index + 1][0] if index + 1 < len(joined) else len(letters)
        floor = whole[-1][1] if whole else 0
        if (code := made.code_behind.match(letters[end : min(limit, end + _CONTEXT)])) is not None:
            end += code.end() - (1 if code[0][-1:] in _STOPS else 0)
        if _POSTAL_CODE.search(letters[start:end]) is not None:
            start = _with_lead(letters, start, floor, made)
        if has_digit(letters[start:end]):
            end = _with_rest(letters, end, limit, made)
            begin = max(whole[-1][1] if whole else 0, start - _CONTEXT)
            house = made.house_name.search(letters[begin:start])
            start -= len(house[1]) if house is not None else 0
        whole.append((start, end))
    return whole


_POSTAL_CODE = re2.compile(rb"\b(?:[0-9]{4,6}|[A-Z]{1,2}[0-9][0-9A-Z]?\s?[0-9][A-Z]{2})(?:-[0-9]{3,4})?$", _LATIN)


def _with_lead(letters: bytes, start: int, floor: int, made: Patterns) -> int:
    """Where an address with a postal code begins: before the phrases with capitals and numbers that commas part from it."""
    before = made.before_code.search(letters[max(floor, start - _LEAD) : start])
    if before is None or not (b"," in before[1] or has_digit(before[1])):
        return start
    words = before[1].split(b" ")
    while words and words[0].decode().lower().strip(",.") in _NOT_IN_LEADS:
        words.pop(0)
    return start - len(b" ".join(words))


_LEAD = 90
"""Characters before a postal code's address that may belong to it."""
_NOT_IN_LEADS = (table.EVERYDAY | table.CUES | table.NEVER_BESIDE) - frozenset(
    "the old new north south east west upper lower long".split()
)


def _with_rest(letters: bytes, end: int, limit: int, made: Patterns) -> int:
    """Where an address ends: after the towns, regions and codes that follow, each behind a comma or a space."""
    for _ in range(12):
        following = made.next.match(letters[end : min(limit, end + _CONTEXT)])
        if following is None:
            return end
        word = following[2]
        is_region = word is not None and len(word) < 4 and word.isupper() and has_digit(letters[end : end + 9])
        if word is not None and not is_region and word.decode().lower() in table.NEVER_BESIDE - _IN_PLACES:
            return end
        size = following.end() - (0 if following.end() == limit - end else 1)
        if word is None and following[1] in (b" ", b"\n") and size < 4 and letters[end + size : end + size + 1] == b" ":
            return end  # `12 Elm Street 3 times`
        if following[1] == b"\n" and not has_digit(letters[end : end + _CONTEXT].split(b"\n")[1]):
            return end
        end += size
    return end


_IN_PLACES = frozenset("north south west east long new upper lower great little road street avenue best park".split())


def _outside(runs: Sequence[Run], spans: Sequence[tuple[int, int]]) -> list[Run]:
    outside: list[Run] = []
    at = 0
    for run in runs:
        while at < len(spans) and spans[at][1] <= run.start:
            at += 1
        if at == len(spans) or run.end <= spans[at][0] or run.start < spans[at][0] or run.end > spans[at][1]:
            outside.append(run)
    return outside


def _identity(text: str) -> str:
    return " ".join("".join(char if char.isalnum() else " " for char in text.lower()).split())
