"""`People`: who is named in the texts of one trace, so that one person keeps one placeholder whatever they are called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from evalforge.core.privacy.text.letters import folded_form

_MAX_SHARED = 8
"""Persons who may share a name part before it stops saying who is meant."""


@dataclass(slots=True)
class Persons:
    """The full names of a trace. A part that belongs to exactly one of them stands for that person."""

    _by_part: dict[str, list[tuple[str, ...]]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, runs: Iterable[tuple[str, ...]]) -> Persons:
        """The persons of these names, each a tuple of parts in lower case. A name that is part of another is no new one."""
        persons = cls()
        for parts in sorted(dict.fromkeys(map(_folded, runs)), key=len, reverse=True):
            if parts and not persons._holding(parts):
                for part in set(parts):
                    persons._by_part.setdefault(part, []).append(parts)
        return persons

    def identity(self, parts: tuple[str, ...]) -> str:
        """One text for every way of naming a person: the full name where only one fits, else the name itself."""
        parts = _folded(parts)
        holding = self._holding(parts)
        return " ".join(holding[0] if len(holding) == 1 else parts)

    def _holding(self, parts: tuple[str, ...]) -> list[tuple[str, ...]]:
        """The full names that hold all these parts."""
        candidates = min((self._by_part.get(part, []) for part in parts), key=len, default=[])
        if len(candidates) > _MAX_SHARED:
            return []
        return [name for name in candidates if all(part in name for part in parts)]


def _folded(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The parts without accents: `Ayşe` and `Ayse` are one."""
    return tuple(map(folded_form, parts))


def person_key(identity: str) -> str:
    """One text for a name in whatever order, with whatever accents and hyphens it is written."""
    return " ".join(sorted(set(folded_form(identity).replace("-", " ").split()))) or identity
