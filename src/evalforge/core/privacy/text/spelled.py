"""What is taken apart so that no pattern knows it: letters and digits one by one, and codes of characters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise

from evalforge.core.privacy.text.checksums import is_national_id, luhn
from evalforge.core.privacy.text.detector import LETTER, Detector, Match, View
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.text.lexicon import Kind, lexicon
from evalforge.core.privacy.vocabulary import is_name, is_word

_UNIT = rf"[0-9{LETTER}]"
_BETWEEN = rf"[^0-9{LETTER}\n]"

# -- letters one by one ---------------------------------------------------------------------------------------------------

_MIN_LETTERS = 4
_MIN_UNKNOWN = 6
"""Letters that a spelled word needs to go, where no list of names has it."""
_MIN_MIXED = 12
_ONE_UNIT = re.compile(_UNIT)
_LISTING_MARKS = frozenset(",;|/+=:&<>()[]")


def _one_by_one(view: View, match: Match) -> Iterable[Finding]:
    """`M a r i a   L o p e z`, `J-O-H-N S-M-I-T-H`, `m-v-o-@-w-a-n-a-d-o-o-.-f-r`: all of the run goes."""
    start, end = match.span(1)
    body = view.plain[start:end]
    units = [unit.start() for unit in _ONE_UNIT.finditer(body)]
    betweens = [body[a + 1 : b] for a, b in pairwise(units)]
    separator, count = Counter(betweens).most_common(1)[0]
    if count * 5 < len(betweens) * 3:
        return ()
    words = _spelled_words(view.text[start:end], units, betweens, separator)
    letters = sum(char.isalpha() for word in words for char in word)
    if letters < 3:
        return ()
    identity = " ".join(words).casefold()
    if "@" in body and letters >= _MIN_UNKNOWN:
        said = "".join(body[at] + _gap(between, separator) for at, between in zip(units, [*betweens, ""], strict=True))
        return (view.found(start, end, TextKind.EMAIL, said.casefold()),)
    is_list = not _LISTING_MARKS.isdisjoint(separator)
    if any(_is_somebody(word, is_list=is_list) for word in words):
        return (view.found(start, end, TextKind.PERSON, identity),)
    if is_list:
        return ()
    least = _MIN_MIXED if separator.isspace() else _MIN_LETTERS + 3
    is_mixed = any(len(word) >= least and not word.isalpha() for word in words)
    return (view.found(start, end, TextKind.ENCODED, identity),) if is_mixed or any(map(_is_odd, words)) else ()


def _spelled_words(text: str, units: list[int], betweens: list[str], separator: str) -> list[str]:
    words = [text[units[0]]]
    for at, between in zip(units[1:], betweens, strict=True):
        if between == separator:
            words[-1] += text[at]
        else:
            words.append(text[at])
    return words


def _gap(between: str, separator: str) -> str:
    """What is spelled between two letters: in `-@-` by dashes, it is `@`."""
    if between == separator:
        return ""
    return between[len(separator) :: 1 + len(separator)] if between.startswith(separator) else between


def _is_somebody(word: str, *, is_list: bool) -> bool:
    if len(word) < _MIN_LETTERS or not word.isalpha() or _is_sequence(word):
        return False
    kind = lexicon().kind(word.lower())
    return kind is Kind.NAME or (kind is Kind.OFTEN_NAME and not is_list)


def _is_odd(word: str) -> bool:
    """Whether a spelled word is none of the vocabulary, no row of options or variables, and no acronym."""
    if (
        not word.isalpha()
        or len(word) < _MIN_LETTERS
        or _is_sequence(word)
        or lexicon().kind(word.lower()) <= Kind.OFTEN_NAME
    ):
        return False
    if word.isupper():
        return len(word) >= _MIN_UNKNOWN and len(set(word)) > 4 and not set(word) <= set("ABCDEF")
    return len(word) >= _MIN_UNKNOWN or (word[0].isupper() and word[1:].islower())


def _is_sequence(word: str) -> bool:
    """`abcd`, `xyz`, `aeiou`: letters in their order."""
    codes = [ord(char) for char in word.lower()]
    return all(a < b <= a + 2 for a, b in pairwise(codes)) or set(word.lower()) <= set("aeiou")


# -- digits one by one ----------------------------------------------------------------------------------------------------

_MIN_DIGITS = 9
_GROUP = re.compile("[0-9]+")
_LISTING = frozenset(",;|\n\r\t ")
_CUE = re.compile(
    r"(?:phone|tel|mobile|cell|call|dial|card|number|iban|account|passport|ssn|id|nhs|pin|contact|digits?)\b[^0-9\n]{0,24}$"
)
_CALLING = {
    **{code: range(10, 11) for code in "1".split()},
    **{code: range(10, 11) for code in "7 20 90 91 92 61 86 84 63 98".split()},
    **{code: range(9, 10) for code in "27 30 31 32 33 34 40 41 46 48 51 56 61 64 66 94".split()},
    **{code: range(9, 12) for code in "36 39 43 44 45 47 49 52 54 55 57 58 60 62 65 81 82 86 95".split()},
    **{code: range(8, 11) for code in "212 213 216 218 220 221 225 233 234 237 249 250 251 254 255 256 260 263".split()},
    **{code: range(8, 11) for code in "351 352 353 354 355 356 357 358 359 370 371 372 373 374 375 377 380 381 385".split()},
    **{code: range(8, 11) for code in "386 387 389 420 421 423 502 503 504 505 506 507 591 593 595 598".split()},
    **{code: range(8, 11) for code in "852 853 855 856 880 886 960 961 962 963 964 965 966 967 968 970 971 972 973".split()},
    **{code: range(8, 11) for code in "974 975 976 977 992 993 994 995 996 998".split()},
}
"""Calling codes with the number of digits behind them. Source: ITU-T E.164, list of assigned country codes."""


def _digits(view: View, match: Match) -> Iterable[Finding]:
    """`4, 1, 7, 9, ...`, `'4' '1' '7' ...`, two digits a line: joined again they must be something."""
    start, end = match.span(1)
    for run_start, run_end, groups, separator in _even_runs(view.plain, start, end):
        kind = _kind_of_digits(view, run_start, groups, separator)
        if kind is not None:
            yield view.found(run_start, run_end, kind, "".join(groups))


def _even_runs(plain: str, start: int, end: int) -> Iterator[tuple[int, int, list[str], str]]:
    """The longest rows of groups that one repeated separator parts."""
    places = [group.span() for group in _GROUP.finditer(plain, start, end)]
    first = 0
    while first + 1 < len(places):
        separator = plain[places[first][1] : places[first + 1][0]]
        last = first + 1
        while last + 1 < len(places) and plain[places[last][1] : places[last + 1][0]] == separator:
            last += 1
        groups = [plain[slice(*places[n])] for n in range(first, last + 1)]
        yield places[first][0], places[last][1], groups, separator
        first = last


def _kind_of_digits(view: View, start: int, groups: list[str], separator: str) -> TextKind | None:
    digits = "".join(groups)
    is_single = all(len(group) == 1 for group in groups)
    if not _MIN_DIGITS <= len(digits) <= 40 or len(set(digits)) < 2 or (_is_ordered(groups) and len(digits) != 16):
        return None
    is_list = set(separator.replace("'", " ").replace('"', " ")) <= _LISTING and ("'" not in separator or "," in separator)
    if not is_single:
        if any(len(group) != 2 for group in groups[:-1]) or len(groups[-1]) > 2 or not is_list:
            return None
        if "\n" not in separator and not any(group[0] == "0" for group in groups):
            return None  # numbers of two digits in a list; nobody writes those with a zero in front
    is_told = _CUE.search(view.before(start, 40)) is not None
    may_be_ratings = not is_told and set(digits) <= set("12345")
    if 13 <= len(digits) <= 19 and digits[0] in "23456" and luhn(digits) and (len(digits) in (15, 16) or not may_be_ratings):
        return TextKind.CARD
    if len(set(digits)) < 4 or may_be_ratings:
        return None
    if is_national_id(digits):
        return TextKind.ID
    if _is_phone(digits):
        return TextKind.PHONE
    return TextKind.NUMBER if is_told or (is_single and not is_list) else None


def _is_ordered(groups: list[str]) -> bool:
    """Counting, sorted numbers, weights, and the ranks of some things in another order."""
    values = [int(group) for group in groups]
    steps = [b - a for a, b in pairwise(values)]
    if sum(abs(step) <= 1 for step in steps) * 3 >= len(steps) * 2:
        return True
    is_sorted = min(steps) >= 0 or max(steps) <= 0
    return is_sorted or (sorted(values) == list(range(min(values), min(values) + len(values))))


def _is_phone(digits: str) -> bool:
    """Whether digits can be a telephone with its trunk or calling code."""
    if digits[0] == "0":
        return 9 <= len(digits) <= 15
    return any(len(digits) - n in _CALLING.get(digits[:n], ()) for n in (1, 2, 3))


# -- codes of characters --------------------------------------------------------------------------------------------------

_CODE = r"(?:0[xX][0-9A-Fa-f]{1,5}|[0-9]{1,6})"
_CODES = rf"\(? ?\[?\s?{_CODE}(?:\s?[,;]\s?{_CODE}){{2,}}"
_CALL = r"(?i:(?:string\.)?from_?(?:char_?code|code_?point)s?|u?nichr|chr|char|bytes|bytearray|uint8array|buffer\.from|of)"
_ONE_CALL = r"(?i:chr|char|unichr|string\.fromcharcode)\(\s?(?:0x)?[0-9A-Fa-f]{1,6}\s?\)"
_SOME_CODE = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_SAID = re.compile(r"[^\W\d_]{2,}")


def _codes(view: View, match: Match) -> Iterable[Finding]:
    """`String.fromCharCode(109, 118, 111)`, `chr(109)+chr(118)`: what is said to be characters."""
    start, end = match.span(1)
    said = _decoded(view.plain[start:end])
    return (view.found(start, end, TextKind.ENCODED, said),) if said is not None else ()


def _bare_codes(view: View, match: Match) -> Iterable[Finding]:
    """`[109, 118, 111, ...]`: characters, where these make words, a number or an address."""
    start, end = match.span(1)
    said = _decoded(view.plain[start:end])
    if said is None or not _says_something(said):
        return ()
    return (view.found(start, end, TextKind.ENCODED, said),)


def _decoded(body: str) -> str | None:
    codes = [int(code, 16 if code[:2].lower() == "0x" else 10) for code in _SOME_CODE.findall(body)]
    if not all(32 <= code < 0x3000 or code in (9, 10, 13) for code in codes):
        return None
    return "".join(map(chr, codes))


def _says_something(said: str) -> bool:
    words = _SAID.findall(said)
    letters = sum(map(len, words))
    if letters * 10 >= len(said) * 7:
        known = sum(len(word) for word in words if is_name(word.lower()) or is_word(word.lower()))
        return known * 2 >= letters or (re.search(r"\w@\w+\.\w", said) is not None)
    return re.fullmatch(r"[+(]?[0-9][0-9 ().\-/]{7,}", said) is not None and len(set(said)) > 3


_EDGE, _END = rf"(?:^|[^0-9{LETTER}])", rf"(?:$|[^0-9{LETTER}])"

DETECTORS: tuple[Detector, ...] = (
    Detector(
        "character_codes",
        rf"\b((?:{_CALL}\s?{_CODES}\s?\]?\s?\)?|{_ONE_CALL}(?:\s?(?:[+.&,]|\|\||\s)\s?{_ONE_CALL}){{2,}}))",
        _codes,
        gate=rf"(?i)(?:code|point|points|codes|chr|char|bytes|bytearray|uint8array|from|of)\s?\(? ?\[?\s?{_CODE}\s?[,;)]",
    ),
    Detector(
        "bare_character_codes",
        r"(?:^|[^0-9.,])([0-9]{2,3}(?:\s?,\s?[0-9]{2,3}){4,})(?:$|[^0-9.,])",
        _bare_codes,
    ),
    Detector(
        "letters_one_by_one",
        rf"{_EDGE}({_UNIT}(?:{_BETWEEN}{{1,7}}{_UNIT}){{3,}}){_END}",
        _one_by_one,
        gate=rf"{_EDGE}{_UNIT}(?:{_BETWEEN}+{_UNIT}){{3}}{_END}",
    ),
    Detector(
        "digits_one_by_one",
        rf"(?:^|[^0-9{LETTER}.])([0-9]{{1,2}}(?:[^0-9{LETTER}]{{1,4}}[0-9]{{1,2}}){{4,}})(?:$|[^0-9{LETTER}])",
        _digits,
    ),
)
