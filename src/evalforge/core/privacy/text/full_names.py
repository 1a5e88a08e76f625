"""Full names by how they are written: initials, hyphens, capitals, and a given name before a surname, all ordinary words."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import re2

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.lexicon import Kind
from evalforge.core.privacy.text.neighbours import Neighbours
from evalforge.core.privacy.text.words import Shape, Word

WRITTEN = (
    r"(?:^|[^A-Za-z0-9.])(?:([A-Z]\.[ -]?(?:[A-Z]\.[ -]?)?(?:[A-Z]\.[ -]?)?[A-Z][a-z])"  # J.K. Stone
    r"|([A-Za-z][a-z]+-[a-z]+)"  # So-young
    r"|([A-Z][A-Z]+(?: [A-Z][A-Z]+)+)"  # YUHAN ZHUGE
    r"|([a-z]+_[a-z]+)(?:'s)?(?:[^A-Za-z0-9_(=.]|$)"  # grace_long
    r"|(?i:by|from|to|cc|attn|signed|name|customer|user|client|patient|sender|owner|login|username)"
    r" ?[:=] ?[\"']?([A-Za-z][A-Za-z]+(?:[ _][A-Za-z]+)?))"  # From: hope field; user=SummerLong
)
"""Groups: initials, hyphen, capitals, underscore, behind a colon; over a text in ASCII (`letters.py`). Linear: RE2."""
_BOTH = frozenset({Kind.UNKNOWN, Kind.NAME, Kind.OFTEN_NAME})
_CHOICES = frozenset("ABCDEF")
_CHOSEN = frozenset({"is", "or", "than", "vs", "chose", "picked", "selected", "and", "be", "not", "are", "was", "of"})
_VERBS = frozenset(
    "max mark bill chase grant sue rob pat skip wade ward cash link trace judge drum dash will drew rich".split()
)
_NO_SURNAMES = table.EVERYDAY | table.CUES | table.NEVER_BESIDE | table.MONTHS
_INTRODUCING = frozenset(
    {*table.BEFORE_NAME_SURELY, *table.ROLES, *table.CALLS, "by", "from", "am", "im", "i'm", "name"}
) | {
    "user",
    "told",
    "asked",
}


def written_names(n: Neighbours, letters: bytes) -> dict[int, int]:
    """The names that only the way they are written tells: their first word, and their last. `letters`: the text in ASCII."""
    found: dict[int, int] = {}
    for match in _written().finditer(letters):
        group, start, end = next((number, *span) for number in (1, 2, 3, 4, 5) if (span := match.span(number))[0] >= 0)
        first = bisect_right(n.starts, start) - 1
        if n.text[n.starts[first] : start] not in ("", "'"):
            continue
        if group == 1:
            last = _after_initials(n, first)
        elif group == 2:
            last = _joined_syllables(n, first)
        elif group == 3:
            found.update(_in_capitals(n, first, end))
            continue
        elif group == 4:
            last = _underscored(n, first)
        elif n.words[first].isupper():
            found.update(_in_capitals(n, first, end))
            continue
        else:
            last = _behind_colon(n, first, n.text[start:end])
        if last is not None:
            found[first] = last
    return found


@cache
def _written() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return re2.compile(WRITTEN.encode("ascii"), options)


def _after_initials(n: Neighbours, first: int) -> int | None:
    """`S. Long`, `J.K. Stone`; not `Plan B. Field names`, `A. Long answers`."""
    at, count = first, 0
    while n.is_initial(at) and count < 4:
        count += 1
        after = n.after(at)
        if after is None:
            return None
        at = after
    word, before = n.word(at), n.base_before(first)
    if not _may_be_surname(word) or word.shape is not Shape.TITLE or before in table.LABELS:
        return None
    if count > 1 or word.kind >= Kind.NAME:
        return at
    cued = before in table.BY_LINES or before in table.ROLES or before in table.SPEECH
    following = n.base_after(at)
    followed = following in table.AFTER_SUBJECT or following in ("here", "speaking") or n.words[at].endswith("'s")
    if n.words[first] in _CHOICES and (before in _CHOSEN or n.opens_sentence(first)) and not cued:
        return at if followed and (word.base not in table.EVERYDAY or following in table.SPEECH) else None
    if n.opens_sentence(first) and not cued:
        return at if followed else None
    return at if cued or followed or word.base not in table.EVERYDAY else None


def _joined_syllables(n: Neighbours, first: int) -> int | None:
    """`So-young`: two syllables of Korean names; not `So-so`, `Sign-on`."""
    last = n.after(first)
    if last is None or n.next_char(last) == "-":
        return None
    one, two = n.word(first), n.word(last)
    if one.shape is Shape.LOWER and (max(one.kind, two.kind) < Kind.OFTEN_NAME or {one.base, two.base} & table.EVERYDAY):
        return None
    if one.base == two.base or not {one.base, two.base} <= table.SYLLABLES:
        return None
    return last if two.base not in table.NOT_SECOND or one.kind >= Kind.OFTEN_NAME else None


def _underscored(n: Neighbours, first: int) -> int | None:
    """`summer_long` where somebody is spoken of; not `max_long`."""
    last = n.after(first)
    if last is None or not is_full_name(n, first, last):
        return None
    before, following = n.base_before(first), n.base_after(last)
    if n.word(first).base in _VERBS - {"will"}:
        return last if following in ("here", "speaking") or following in table.SPEECH else None
    cued = before in table.BY_LINES or before in table.GREETINGS or before in table.CALLS or _is_named(n, first)
    speaks = following in table.AFTER_SUBJECT or following in ("here", "speaking")
    return last if cued or speaks or n.words[last].endswith("'s") else None


def _is_named(n: Neighbours, first: int) -> bool:
    """Whether a word in quotation marks stands behind one that says that it is a name."""
    start = n.start(first)
    lead = n.text[max(0, start - 26) : start].lower()
    return (lead[-1:] in ("'", '"') or n.words[first][0] == "'") and "name" in lead and "filename" not in lead


def _in_capitals(n: Neighbours, first: int, end: int) -> Iterator[tuple[int, int]]:
    """`YUHAN ZHUGE`, `GRACE STONE`: two words in capitals that no vocabulary has, or a given name and a surname alone."""
    places = [first]
    while (after := n.after(places[-1])) is not None and n.start(after) < end:
        places.append(after)
    for left, right in pairwise(places):
        one, two = n.word(left), n.word(right)
        before = n.base_before(left)
        cued = before in table.BY_LINES or before in table.GREETINGS or _stands_below(n, left, right)
        if one.kind in _BOTH and two.kind in _BOTH and one.base not in table.EVERYDAY and two.base not in table.EVERYDAY:
            if all(map(_is_pronounced, (one.base, two.base))) and (cued or min(len(one.base), len(two.base)) > 3):
                yield left, right
        elif is_full_name(n, left, right) and (cued or (len(places) == 2 and not {one.base, two.base} & table.EVERYDAY)):
            yield left, right


def _stands_below(n: Neighbours, left: int, right: int) -> bool:
    """Whether two words are a line of their own below one that ends with a comma: `Thanks,` and the name."""
    start, end = n.start(left), n.end(right)
    return n.text[max(0, start - 2) : start] == ",\n" and (end == len(n.text) or n.text[end] == "\n")


def _is_pronounced(word: str) -> bool:
    """Whether a word has a vowel and is no short abbreviation."""
    return len(word) > 2 and word.isalpha() and (not word.isascii() or any(vowel in word for vowel in "aeiouy"))


def _behind_colon(n: Neighbours, first: int, text: str) -> int | None:
    """`From: hope field`, `user=grace_long`, `user=SummerLong`."""
    last = n.after(first)
    if " " in text or "_" in text:
        if last is None or n.word(first).shape is not n.word(last).shape or not is_full_name(n, first, last):
            return None
        beyond = n.after(last)
        return None if beyond is not None and n.is_joined(last, beyond) and n.text[n.end(last)] != "." else last
    cut = next((at for at in range(1, len(text)) if text[at].isupper() and text[at - 1].islower()), 0)
    if not cut or len(n.words[first]) != len(text):
        return None
    kinds = [n.lexicon.kind(part.lower()) for part in (text[:cut], text[cut:])]
    given = text[:cut].lower()
    surely = kinds[0] is Kind.OFTEN_NAME or given in table.GIVEN_TOO
    return first if surely and kinds[1] >= Kind.SOMETIMES_NAME and text[cut:][1:].islower() else None


def is_full_name(n: Neighbours, given: int, surname: int) -> bool:
    """Whether two words may be a given name and a surname, whatever stands around them."""
    one = n.word(given)
    return (
        (one.kind is Kind.OFTEN_NAME or (one.base in table.GIVEN_TOO and one.kind is not Kind.PLAIN))
        and _may_be_surname(n.word(surname))
        and one.base not in table.MONTHS - {"may", "june", "april", "august"}
        and one.base != n.word(surname).base
    )


def _may_be_surname(word: Word) -> bool:
    return (
        word.kind >= Kind.SOMETIMES_NAME
        and (word.base not in table.NEVER_BESIDE or word.kind is Kind.OFTEN_NAME)
        and len(word.base) > 1
        and word.base not in table.MONTHS
    )


def full_name_at(n: Neighbours, given: int) -> int | None:
    """The last word of a full name that begins here, where the words around it say that it is one."""
    surname = n.after(given)
    if surname is not None and n.is_initial(surname) and n.next_char(surname) == "." and n.is_joined(given, surname):
        initial, surname = surname, n.after(surname)
        if surname is None or not n.is_capital(surname):
            return initial if _is_named_before(n, given) else None  # `told Summer W. that`
    elif surname is not None and not n.is_joined(given, surname):
        return None
    if surname is None or not is_full_name(n, given, surname):
        return None
    one, two = n.word(given), n.word(surname)
    if one.shape is not two.shape or n.text[n.end(given)] == ".":
        return None
    before, beyond = n.base_before(given), n.after(surname)
    following = n.base_after(surname)
    if one.shape is Shape.LOWER:
        return surname if _is_told_in_lower_case(n, given, surname, before, following) else None
    if one.shape is not Shape.TITLE or (before in table.ARTICLES and before not in ("that", "this")):
        return None
    heads = beyond is not None and n.is_joined(surname, beyond) and n.word(beyond).shape is Shape.TITLE
    if heads and n.word(beyond or 0).kind is Kind.PLAIN:
        return None
    at = n.before(given)
    if at is not None and n.is_joined(at, given) and n.is_capital(at) and not n.opens_sentence(at):
        return None
    owns = n.words[surname].lower().endswith("'s")
    if n.opens_sentence(given) and before not in table.BY_LINES:
        return surname if owns or following in table.AFTER_SUBJECT else None
    return surname if owns or before in table.BY_LINES or following in table.AFTER_SUBJECT else None


def _is_named_before(n: Neighbours, given: int) -> bool:
    one = n.word(given)
    surely = one.kind is Kind.OFTEN_NAME or (one.base in table.GIVEN_TOO and one.kind is not Kind.PLAIN)
    return surely and one.shape is Shape.TITLE and n.base_before(given) in table.BY_LINES and one.base not in table.MONTHS


def _is_told_in_lower_case(n: Neighbours, given: int, surname: int, before: str, following: str) -> bool:
    one, two = n.word(given).base, n.word(surname).base
    if one in table.EVERYDAY or n.text[n.end(given)] == "_":
        return False
    quoted = n.next_char(surname) in "'\"" or n.words[surname].endswith("'")
    if quoted and (n.text[n.start(given) - 1 : n.start(given)] in ("'", '"') or n.words[given].startswith("'")):
        return n.word(given).kind is Kind.OFTEN_NAME and one not in _VERBS
    if before not in table.BY_LINES:
        return False
    if n.next_char(surname) not in table.STOPS_AFTER and following not in table.AFTER_FULL_NAME:
        return False
    if before in _INTRODUCING:
        return one not in table.MONTHS
    surely = n.word(given).kind is Kind.OFTEN_NAME and n.word(surname).kind is Kind.OFTEN_NAME and two not in table.EVERYDAY
    return surely or (n.word(given).kind is Kind.OFTEN_NAME and one not in _VERBS and following in table.AFTER_SUBJECT)


def family_before(n: Neighbours, given: int) -> int | None:
    """The surname before a comma and the given name, in the middle of a sentence: `told Short, Penny that`."""
    surname = n.before(given)
    if surname is None or n.text[n.end(surname) : n.start(given)] != ", ":
        return None
    word = n.word(surname)
    cued = n.base_before(surname) in table.BY_LINES - {"and"}
    at = n.before(surname)
    if not cued or word.shape is not Shape.TITLE or at is None:
        return None
    surely = n.word(given).kind in (Kind.NAME, Kind.OFTEN_NAME) and not n.lexicon.is_jargon(word.base)
    if not _may_be_surname(word) and not (surely and word.kind is Kind.PLAIN and word.base not in _NO_SURNAMES):
        return None
    return surname if not n.is_capital(at) or n.opens_sentence(at) else None
