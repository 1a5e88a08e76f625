"""Names and addresses in prose, by vocabulary: known words stay, people and places and unknown words go.

`People.named_in` reads all texts of a trace once; `find_in_prose` says what goes in one of them. Linear in the length of the
texts; no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from evalforge.core.privacy.text import word_tables as table
from evalforge.core.privacy.text.address_patterns import Gate
from evalforge.core.privacy.text.addresses import Place, places_in
from evalforge.core.privacy.text.findings import Finding, TextKind, settled
from evalforge.core.privacy.text.full_names import WRITTEN
from evalforge.core.privacy.text.letters import in_letters
from evalforge.core.privacy.text.lexicon import Kind, Lexicon, lexicon
from evalforge.core.privacy.text.naming import Reader, Run
from evalforge.core.privacy.text.people import Persons
from evalforge.core.privacy.text.tokens import Tokens


@dataclass(slots=True)
class _Reading:
    tokens: Tokens
    runs: list[Run]
    places: list[Place]
    _pieces: frozenset[str] | None = None

    @property
    def pieces(self) -> frozenset[str]:
        """The words in lower case, whole and without what follows an apostrophe."""
        if self._pieces is None:
            low = " ".join(self.tokens.words).lower()
            self._pieces = frozenset((*low.split(), *low.replace("'", " ").split()))
        return self._pieces


@dataclass(slots=True)
class People:
    """Who is named in the texts of one trace. Lives as long as the trace is worked on, in memory only."""

    _lexicon: Lexicon = field(default_factory=lexicon, repr=False)
    _readings: dict[str, tuple[Sequence[Finding], _Reading]] = field(default_factory=dict, repr=False)
    """By text; each with what goes from the text anyway."""
    _persons: Persons = field(default_factory=Persons, repr=False)
    _words: frozenset[str] = field(default=frozenset(), repr=False)
    """Words in lower case that name somebody and need a look for their own sake: they are vocabulary, or too common."""
    _common: frozenset[str] = field(default=frozenset(), repr=False)
    """Those of them that are ordinary words, too: in lower case they name somebody where the words beside them say so."""
    _lower: frozenset[str] = field(default=frozenset(), repr=False)
    """Those of them that name somebody in lower case too."""

    @classmethod
    def named_in(
        cls,
        texts: Sequence[str],
        taken: Sequence[Sequence[Finding]],
        names: frozenset[str],
        vocabulary: Lexicon | None = None,
    ) -> People:
        """The people of a trace. `taken[i]` is what goes from `texts[i]` anyway; `names` are words of names, in lower case,
        that are known from elsewhere. `vocabulary` takes the place of the package's word lists.
        """
        people = cls(vocabulary or lexicon())
        readings = [people._reading(text, sure) for text, sure in zip(texts, taken, strict=True)]
        if not names and not any(reading.runs for reading in readings):
            return people
        people._persons = Persons.of(run.parts for reading in readings for run in reading.runs if run.is_person)
        known = set(names)
        people._common = frozenset(name for name in names - table.EVERYDAY if people._lexicon.kind(name) < Kind.NAME)
        lower = set(names - people._common)
        for reading in readings:
            for run in reading.runs:
                if not run.is_person:
                    continue
                for part in run.parts:
                    if len(part) > 1 and people._lexicon.kind(part) is not Kind.NAME:
                        known.add(part)
                        if reading.tokens.text[run.start].islower() or part not in table.COMMON_NAMES:
                            lower.add(part)
        people._words = frozenset(known)
        people._lower = frozenset(lower - table.EVERYDAY)
        return people

    def found(self, text: str, taken: Sequence[Finding]) -> list[Finding]:
        """What goes from a text: people, places, unknown words; in order of place, none overlapping."""
        reading = self._reading(text, taken)
        runs = reading.runs
        if self._words:
            runs = [*runs, *self._known_in(reading)]
        findings = [Finding(place.start, place.end, TextKind.ADDRESS, place.identity) for place in reading.places]
        for run in runs:
            person = run.is_person or (len(run.parts) == 1 and run.parts[0] in self._words)
            identity = self._persons.identity(run.parts) if person else " ".join(run.parts)
            findings.append(Finding(run.start, run.end, TextKind.PERSON if person else TextKind.WORD, identity))
        return settled(findings) if findings else findings

    def _reading(self, text: str, taken: Sequence[Finding]) -> _Reading:
        known = self._readings.get(text)
        if known is not None and known[0] == taken:
            return known[1]
        tokens = Tokens(text, taken)
        letters = in_letters(tokens.text)
        is_open = _gate().is_open(letters)
        runs = Reader(tokens, self._lexicon).runs(letters if is_open else None)
        places, rest = places_in(tokens.text, letters, runs, has_any=is_open)
        reading = _Reading(tokens, rest, places)
        self._readings[text] = (taken, reading)
        return reading

    def _known_in(self, reading: _Reading) -> list[Run]:
        """The places of words that name somebody elsewhere in the trace."""
        found: list[Run] = []
        tokens = reading.tokens
        if self._words.isdisjoint(reading.pieces):
            return found
        for index, token in enumerate(tokens.words):
            word = token.lower()
            if word not in self._words:
                word = word.strip("'").removesuffix("'s")
                if word not in self._words:
                    continue
            if token == word or token.islower():
                if word not in self._lower and not (word in self._common and _is_somebody(tokens, index)):
                    continue
            elif word in table.EVERYDAY and not _stands_for_name(tokens, index):
                continue
            start = tokens.starts[index] + (len(token) - len(token.lstrip("'")))
            found.append(Run(start, start + len(word), (word,), True))
        return found


@cache
def _gate() -> Gate:
    """Most texts hold no address, and no name that only the way it is written tells: one scan says so."""
    return Gate(WRITTEN)


def _stands_for_name(tokens: Tokens, index: int) -> bool:
    """Whether an everyday word with a capital (`Will`, `Long`) stands inside a sentence."""
    start = tokens.starts[index]
    lead = tokens.text[max(0, start - 3) : start].rstrip(" \"'(")
    if tokens.words[index].lower() in table.MONTHS and index and tokens.words[index - 1].lower() in table.DATE_WORDS:
        return False
    return bool(lead) and lead[-1] not in ".!?:;\n|" and not tokens.words[index].isupper()


def _is_somebody(tokens: Tokens, index: int) -> bool:
    """Whether the words beside a common word in lower case say that somebody is meant: `and grace said`, not `the hill`."""
    words, text, start = tokens.words, tokens.text, tokens.starts[index]
    before = words[index - 1].lower() if index and text[start - 1] == " " else ""
    end = start + len(words[index])
    after = words[index + 1].lower() if index + 1 < len(words) and text[end] == " " else ""
    if before in table.ARTICLES - {"that"} or after in table.COMMON_NAMES:
        return False
    return before in table.BY_LINES or after in table.AFTER_SUBJECT or words[index].endswith("'s")


def find_in_prose(text: str, taken: Sequence[Finding], people: People) -> list[Finding]:
    """The names, addresses and unknown words of a text in plain form, in order of place.

    None overlaps `taken` or a placeholder.
    """
    return people.found(text, taken)
