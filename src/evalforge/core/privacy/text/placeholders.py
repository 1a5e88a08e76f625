"""Stable placeholders: within one trace the same thing always has the same name, and across traces nothing links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from evalforge.core.privacy.text.findings import MARK, TextKind
from evalforge.core.privacy.text.people import person_key


@dataclass(slots=True)
class Placeholders:
    """Gives each distinct thing of one trace its number, by kind, in the order in which they are first met."""

    _known: dict[tuple[TextKind, str], str] = field(default_factory=dict, repr=False)
    _last: Counter[TextKind] = field(default_factory=Counter)

    def reserve(self, texts: Iterable[str]) -> None:
        """Keeps clear of the placeholders that already stand in these texts: they may name other things."""
        for text in texts:
            if "_" in text and "[" in text:
                for mark in MARK.finditer(text):
                    kind = TextKind[mark["kind"]]
                    self._last[kind] = max(self._last[kind], int(mark["number"]))

    def mark(self, kind: TextKind, identity: str) -> str:
        """The placeholder of a thing, such as `[EMAIL_1]`."""
        if kind is TextKind.PERSON:
            identity = person_key(identity)
        known = self._known.get((kind, identity))
        if known is None:
            self._last[kind] += 1
            known = self._known[kind, identity] = f"[{kind.name}_{self._last[kind]}]"
        return known
