"""What the corpus is made of: a span as a search returns it, a record of what was planted in it, and what must survive."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str | int, ...]
"""A place in a stored payload: keys and list indices."""

DEFAULT, ALLOWED = "default", "allowed"
PROFILES: Mapping[str, Mapping[str, str]] = {
    DEFAULT: {},
    ALLOWED: {"PII_TEXT_ALLOWLIST": "input,output,prompt,response,metadata.notes,metadata.transcript"},
}
"""The settings under which a case is judged, by the name of the profile."""


@dataclass(frozen=True, slots=True)
class Planted:
    """One personal value and where it stands: `value` as a person would write it, `surface` as it is spelled in the span.

    `kind` is what it is (`email`, `name`, ...), `form` how it is spelled (`plain`, `base64`, ...), `carrier` where it is.
    """

    kind: str
    value: str
    carrier: str
    form: str = "plain"
    surface: str | None = None

    @property
    def spelled(self) -> str:
        """The characters that stand in the span."""
        return self.value if self.surface is None else self.surface


@dataclass(frozen=True, slots=True)
class Kept:
    """One harmless value that the payload must still hold at that place; `what` names it in the report."""

    what: str
    path: Path
    value: Any


@dataclass(frozen=True, slots=True)
class Text:
    """One text: where it stands in the payload, and its harmless words (planted values left out)."""

    kind: str
    path: Path
    harmless: str


@dataclass(frozen=True, slots=True)
class Case:
    """One span: the raw item, the source whose parser reads it, and what is known of it.

    `user_id` is the id whose hash the capture must name, where it has one.
    """

    group: str
    source: str
    profile: str
    item: Mapping[str, Any]
    planted: tuple[Planted, ...] = ()
    kept: tuple[Kept, ...] = ()
    texts: tuple[Text, ...] = ()
    user_id: str | None = None
    own_ids: frozenset[str] = field(default_factory=frozenset)
