"""A tree of words that finds many values in a text by one scan."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from evalforge.core.privacy.keys import KeyVerdict
from evalforge.core.privacy.sensitive import kind_under, names_somebody
from evalforge.core.privacy.text.findings import MARK, Finding, TextKind
from evalforge.core.privacy.text.letters import folded_form
from evalforge.core.privacy.text.word_tables import COMMON_NAMES
from evalforge.core.privacy.vocabulary import is_name, is_word

MAX_WORDS = 24

_KINDS_ALWAYS_ECHOED = frozenset({TextKind.PERSON, TextKind.ADDRESS})
_KINDS_WITH_NUMBERS = frozenset(
    {TextKind.USER, TextKind.ID, TextKind.PHONE, TextKind.CARD, TextKind.IBAN, TextKind.SESSION, TextKind.WALLET}
)
WORD = re.compile(r"[^\W_]+")
"""A run of letters and digits."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]{2,}")
_PARTS = re.compile(r"[,;\n\r|]+")
_HYPHENED = re.compile(r"[^\W_]{1,40}(?:-[^\W_]{1,40}){1,3}")
_MAX_GAP = 4
_WHOLE = object()

AMBIGUOUS = (
    frozenset(
        "an art bill bob may mark will grace rose hope joy faith dawn dean drew frank gene grant guy jack jean jo june "
        "april august lee long max miles nick norm pat penny pierce rich rob sandy sky sue ted tony van victor wade ward "
        "young do so my you he can see in on to the and or for is it at of as be by no yes not but was are has had from "
        "with this that all any out up man son day ali amber angel autumn carol chase chance christian cliff colt crystal "
        "daisy destiny earnest eve ginger harmony heath holly hunter iris ivy jade jasmine jewel judge lance laurel lily "
        "major mason melody mercy misty olive patience pearl piper precious queen ray reed robin royal ruby ruth sage "
        "scout serenity sterling stone summer terry trinity trust violet winter woody".split()
    )
    | COMMON_NAMES
)
"""Names that are also ordinary words: as a single word they are an echo only where they begin with a capital."""


class _Echo:
    """What one found sequence of words means. `needs_capital`: it is an ordinary word too, so only `Reading` is the town."""

    __slots__ = ("identity", "kind", "needs_capital")

    def __init__(self, kind: TextKind, identity: str, needs_capital: bool) -> None:
        self.kind = kind
        self.identity = identity
        self.needs_capital = needs_capital


class Index:
    """The values as a tree of words, so that one scan finds them all."""

    __slots__ = ("_full_names", "_gates", "_names", "_tree", "_unspaced", "names")

    def __init__(
        self,
        values: Iterable[tuple[str, KeyVerdict]],
        identified: Callable[[str, KeyVerdict], tuple[TextKind, str]],
    ) -> None:
        self._tree: dict[Any, Any] = {}
        self._gates: set[str] = set()
        self._unspaced: list[tuple[str, _Echo]] = []
        self._full_names: dict[str, set[str]] = {}
        self._names: list[_Echo] = []
        later: list[tuple[tuple[str, ...], _Echo]] = []
        for text, verdict in values:
            try:
                later.extend(self._grown(text, verdict, *identified(text, verdict)))
            except Exception:  # noqa: BLE001, S112 - a value that cannot be read cannot be repeated in plain form either
                continue
        for words, echo in later:
            self._plant(words, echo)
        for echo in self._names:
            echo.identity = self.person(echo.identity)
        self.names = frozenset(word for word in self._full_names if len(word) > 2)

    def person(self, identity: str) -> str:
        words = folded_form(identity).split()
        full_names = [self._full_names.get(word, set()) for word in words]
        holding = {name for name in set.intersection(*full_names) if len(name) > len(identity)} if full_names else set()
        if not holding:
            return identity
        longest = max(holding, key=lambda name: (len(name), name))
        # `maria` belongs to Maria Lopez, also where somebody is called Maria del Carmen Lopez as well; not to two people.
        return longest if all(set(name.split()) <= set(longest.split()) for name in holding) else identity

    def _grown(
        self, text: str, verdict: KeyVerdict, kind: TextKind, identity: str
    ) -> Iterator[tuple[tuple[str, ...], _Echo]]:
        """Plants the value as a whole; gives what else of it tells who it is: single names, parts of an address."""
        folded = folded_form(text)
        words = tuple(WORD.findall(folded))
        if not words or len(words) > MAX_WORDS or kind is TextKind.URL:
            return
        is_plain = all(is_word(word) or len(word) == 1 or (word.isdigit() and len(word) < 4) for word in words)
        is_vague = kind not in _KINDS_ALWAYS_ECHOED or not names_somebody(verdict.normal)
        for run in _UNSPACED.findall(text):
            self._unspaced.append((run, _Echo(kind, identity, False)))
        if is_plain and is_vague:
            return
        needs_capital = is_plain or (len(words) == 1 and words[0] in AMBIGUOUS)
        if _is_telling(words):
            self._plant(words, _Echo(kind, identity, needs_capital))
            joined = "".join(words)
            if len(words) > 1 and 6 <= len(joined) <= 60 and not needs_capital:
                self._plant((joined,), _Echo(kind, identity, False))
        if kind is TextKind.PERSON and len(words) <= 8 and not any(sign in text for sign in "{}[]=:"):
            yield from self._single_names(words, identity)
            for joined_name in _HYPHENED.findall(folded):
                yield (given := tuple(WORD.findall(joined_name))), _Echo(kind, " ".join(given), False)
        elif kind is TextKind.EMAIL:
            local = tuple(word for word in WORD.findall(folded.partition("@")[0]) if is_name(word))
            if local:
                yield from self._single_names(local, " ".join(local))
        elif kind is TextKind.ADDRESS:
            for part in _PARTS.split(folded):
                part_words = tuple(WORD.findall(part))
                if part_words and part_words != words and _is_telling(part_words):
                    plain = all(is_word(word) or word.isdigit() for word in part_words)
                    if not plain or len(part_words) > 1:
                        yield part_words, _Echo(kind, " ".join(part_words), plain)
        if kind in _KINDS_WITH_NUMBERS:
            last = words[-1]
            if last.isdigit() and len(last) >= 4:
                for ending in {last, last[-4:]} if kind in (TextKind.CARD, TextKind.IBAN) else {last}:
                    yield (ending,), _Echo(kind, identity, False)

    def _single_names(self, words: tuple[str, ...], identity: str) -> Iterator[tuple[tuple[str, ...], _Echo]]:
        for word in words:
            if len(word) < 2 or word.isdigit():
                continue
            self._full_names.setdefault(word, set()).add(identity)
            if len(word) == 2 and len(words) > 1:
                continue
            yield (word,), _Echo(TextKind.PERSON, word, len(word) == 2 or word in AMBIGUOUS or is_word(word))

    def _plant(self, words: tuple[str, ...], echo: _Echo) -> None:
        if echo.kind is TextKind.PERSON:
            self._names.append(echo)
        node = self._tree
        for word in words:
            node = node.setdefault(word, {})
        known = node.get(_WHOLE)
        if known is None:
            node[_WHOLE] = echo
            self._gates.add(max(words, key=len))
        elif known.needs_capital and not echo.needs_capital:
            node[_WHOLE] = echo

    def find(self, text: str) -> list[Finding]:
        low = folded_form(text)
        findings = list(self._find_unspaced(text)) if self._unspaced and not text.isascii() else []
        gates = self._gates
        if not gates or (len(gates) <= 40 and not any(gate in low for gate in gates)):
            return findings
        places = [(match[0], match.start(), match.end()) for match in WORD.finditer(low)]
        if "[" in text:
            marks = [match.span() for match in MARK.finditer(text)]
            if marks:
                places = list(_outside(places, marks))
        tree, at, count = self._tree, 0, len(places)
        while at < count:
            node = tree.get(places[at][0])
            if node is None:
                at += 1
                continue
            best, best_end, ahead = None, 0, at
            start = places[at][1]
            while node is not None:
                echo = node.get(_WHOLE)
                if echo is not None and not (echo.needs_capital and text[start].islower()):
                    best, best_end, after = echo, places[ahead][2], ahead + 1
                ahead += 1
                if ahead >= count or places[ahead][1] - places[ahead - 1][2] > _MAX_GAP:
                    break
                node = node.get(places[ahead][0])
            if best is None:
                at += 1
            else:
                findings.append(Finding(start, best_end, best.kind, best.identity))
                at = after
        return findings

    def _find_unspaced(self, text: str) -> Iterator[Finding]:
        """Scripts that put no space between words: there, a value counts wherever it stands."""
        for value, echo in self._unspaced[:50]:
            at = text.find(value)
            while at >= 0:
                yield Finding(at, at + len(value), echo.kind, echo.identity)
                at = text.find(value, at + len(value))


def _outside(places: Iterable[tuple[str, int, int]], marks: Iterable[tuple[int, int]]) -> Iterator[tuple[str, int, int]]:
    """The words that do not stand inside a placeholder; a placeholder parts the words around it."""
    ends = iter(marks)
    start, end = next(ends)
    for place in places:
        while end <= place[1]:
            start, end = next(ends, (1 << 62, 1 << 62))
        if place[2] <= start:
            yield place


def may_tell(text: str, verdict: KeyVerdict, words: frozenset[str]) -> bool:
    """Whether an index of a value may find anything in a text of these words, or know a person who is named there."""
    if not text.isascii():
        return True
    low = text.lower()
    parts = WORD.findall(low)
    if not parts:
        return False
    last = parts[-1]
    if "".join(parts) in words or (last.isdigit() and (last in words or last[-4:] in words)):  # the last digits of a card
        return True
    if words.isdisjoint(parts):
        return False
    if words.issuperset(parts) or kind_under(verdict) in _KINDS_ALWAYS_ECHOED or _READ_ANEW.search(low):
        return True
    # A part of anything else tells nothing, but the names in an e-mail address: not its domain, not the `u` of `u-8841`.
    local, at, _ = low.partition("@")
    return not words.isdisjoint(WORD.findall(local)) if at else "at" in low or "arroba" in low


_READ_ANEW = re.compile(r"[%&\\=<*\x00-\x1f\x7f]|(?<![a-z0-9])[a-z0-9](?:[^a-z0-9]+[a-z0-9](?![a-z0-9])){2}")
"""What plain form may change, or a name that is spelled: what its parts tell is left to the index."""


def gates_of(text: str) -> Iterator[str]:
    """Words of a value, one of which must stand wherever the value or a part of it is repeated."""
    words = WORD.findall(folded_form(text))
    if not words or len(words) > MAX_WORDS:
        return
    longest = max(words, key=len)
    if longest.isdigit() and len(longest) < 4:
        yield " ".join(words)
        yield folded_form(text)
    else:
        yield longest
    if len(words) > 1:
        yield from (word for word in words if len(word) > (3 if word.isdigit() else 2) and not is_word(word))
        if not longest.isdigit():
            yield "".join(words)


def _is_telling(words: tuple[str, ...]) -> bool:
    """Whether words are long enough to be told from what every text holds."""
    length = sum(map(len, words))
    if all(word.isdigit() for word in words):
        return length >= 4
    if len(words) == 1 and any(character.isdigit() for character in words[0]):
        return length >= 4
    return length >= 3 if words[0].isascii() else length >= 2
