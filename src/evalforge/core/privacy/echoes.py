"""Echoes: values that stood under sensitive keys of a trace, found again wherever they are repeated.

The key said what the value is, so no model has to guess: where `user.name` held a name, that name goes from the evaluator's
reasoning too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from evalforge.core.privacy.gathering import MAX_VALUES, Values, sensitive_values
from evalforge.core.privacy.index import WORD, Index, gates_of, may_tell
from evalforge.core.privacy.keys import KeyVerdict
from evalforge.core.privacy.sensitive import identified
from evalforge.core.privacy.text.findings import Finding, TextKind
from evalforge.core.privacy.text.letters import folded_form
from evalforge.core.span import Span

Identified = dict[tuple[str, KeyVerdict], tuple[TextKind, str]]
"""What values are; those of a trace that are looked at again, alone or among fewer, share it."""

_BYTE_WORD = re.compile(rb"[a-z0-9\x80-\xff]+")


class Echoes:
    """The values that stood under sensitive keys, with what each is. Nothing is computed before a text is looked at.

    Holds raw values: it lives as long as the page that it was made from, and is neither written nor logged.
    """

    __slots__ = ("_gates", "_identified", "_index", "_values")

    def __init__(self, values: Values | None = None, identified: Identified | None = None) -> None:
        self._values: Values = dict(values or {})
        self._identified: Identified = {} if identified is None else identified
        self._index: Index | None = None
        self._gates: tuple[tuple[bytes, tuple[str, KeyVerdict]], ...] | None = None

    def __repr__(self) -> str:
        return f"Echoes({len(self._values)} values)"

    def __bool__(self) -> bool:
        return bool(self._values)

    @classmethod
    def of(cls, span: Span) -> Echoes:
        """The values under sensitive keys of a span; `gathering.sensitive_values` says where they are looked for."""
        found = sensitive_values(span)
        return cls(found) if found else NO_ECHOES

    def joined(self, others: Iterable[Echoes]) -> Echoes:
        """These and the others' together, at most `MAX_VALUES` of them."""
        values = dict(self._values)
        for other in others:
            for value in other._values:
                if len(values) >= MAX_VALUES:
                    break
                values[value] = None
        return self if len(values) == len(self._values) else Echoes(values)

    @property
    def names(self) -> frozenset[str]:
        """The lower-case words of people's names, those that are ordinary words included."""
        return self._made().names

    def find(self, text: str) -> list[Finding]:
        """Where the values are repeated in a text in plain form: whole words, whatever their case, accents and separators.

        One scan, linear in the length of the text however many values there are.
        """
        return self._made().find(text) if self._values and text else []

    def person(self, identity: str) -> str:
        """The identity of the one person of the trace whom a name belongs to; the name itself where it is nobody else's."""
        return self._made().person(identity) if self._values else identity

    def identified(self, text: str, verdict: KeyVerdict) -> tuple[TextKind, str]:
        """What `sensitive.identified` says of a value; it is asked once for each of these values."""
        value = (text, verdict)
        if value not in self._values:
            return identified(text, verdict)
        known = self._identified.get(value)
        if known is None:
            known = self._identified[value] = identified(text, verdict)
        return known

    def occurring_in(self, canonical: bytes) -> Echoes:
        """Those values that may occur in a document's canonical JSON; quick, and sometimes one that `find` does not find."""
        if not self._values:
            return NO_ECHOES
        if self._gates is None:
            self._gates = tuple(
                (gate.encode("utf-8", "replace"), value) for value in self._values for gate in gates_of(value[0])
            )
        if not self._gates:
            return NO_ECHOES
        if b"\\u" in canonical:
            return self  # escaped: what could not be written as it is
        low = canonical.lower() if canonical.isascii() else folded_form(canonical.decode("utf-8", "replace")).encode()
        words: frozenset[bytes] | None = None
        found: Values = {}
        for gate, value in self._gates:
            if gate in low:
                words = frozenset(_BYTE_WORD.findall(low)) if words is None else words
                if gate in words or not gate.isalnum():
                    found[value] = None
        return Echoes(found, self._identified) if found else NO_ECHOES

    def among(self, text: str) -> Echoes:
        """Those values that a text may repeat or name somebody by: they find in it what all of them do, for less work."""
        words = frozenset(WORD.findall(folded_form(text))) if self._values else frozenset()
        found: Values = {value: None for value in self._values if may_tell(*value, words)}
        if not found:
            return NO_ECHOES
        return self if len(found) == len(self._values) else Echoes(found, self._identified)

    def _made(self) -> Index:
        if self._index is None:
            self._index = Index(self._values, self.identified)
        return self._index


NO_ECHOES = Echoes()
