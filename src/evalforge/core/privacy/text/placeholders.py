"""Stable placeholders: within one trace the same thing always has the same name, and across traces nothing links."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from evalforge.core.privacy.text.findings import MARK, TextKind
from evalforge.core.privacy.text.people import person_key

_NAMES = {kind: kind.name for kind in TextKind}


@dataclass(slots=True)
class Placeholders:
    """Gives each distinct thing of one trace its number, by kind, in the order in which they are first met."""

    _known: dict[tuple[str, str], str] = field(default_factory=dict, repr=False)
    _last: dict[str, int] = field(default_factory=dict)

    def reserve(self, texts: Iterable[str]) -> None:
        """Keeps clear of the placeholders that already stand in these texts: they may name other things."""
        for text in texts:
            if "_" in text and "[" in text:
                for mark in MARK.finditer(text):
                    kind = mark["kind"]
                    self._last[kind] = max(self._last.get(kind, 0), int(mark["number"]))

    def mark(self, kind: TextKind, identity: str) -> str:
        """The placeholder of a thing, such as `[EMAIL_1]`."""
        name = _NAMES[kind]
        if name == "PERSON":
            identity = person_key(identity)
        known = self._known.get((name, identity))
        if known is None:
            number = self._last[name] = self._last.get(name, 0) + 1
            known = self._known[name, identity] = f"[{name}_{number}]"
        return known
