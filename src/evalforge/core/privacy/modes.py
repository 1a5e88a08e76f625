"""Which texts are kept, and how: closed, scrubbed or open, by the field they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from evalforge.core.privacy.keys import KeyClass, normal_key, verdict_on


class TextMode(StrEnum):
    """What is stored of a text: a placeholder of its length; the text without what is personal; the text as it is."""

    CLOSED = "closed"
    SCRUBBED = "scrubbed"
    OPEN = "open"


WHOLE_FIELDS = ("input", "output", "prompt", "response")
"""Fields that the allow-list may name alone: each with its messages, tool arguments and results, and documents."""

SECTIONS = (*WHOLE_FIELDS, "metadata", "attributes", "tags", "evaluation", "error")
"""What a dotted path may begin with."""

WANTS = (
    "names separated by commas: input, output, prompt, response, or a dotted path such as metadata.notes or "
    "evaluation.NAME.reasoning; * is refused"
)
_PATH = re.compile(r"[A-Za-z]+(?:\.[^\s,*.\x00-\x1f][^,*.\x00-\x1f]{0,199}){0,12}")
_NEVER_KEPT = frozenset(KeyClass) - {KeyClass.TEXT, KeyClass.HARMLESS}


def parse_paths(text: str) -> tuple[str, ...]:
    """The paths that a PII_TEXT_ALLOWLIST or PII_TEXT_OPEN value names, in its order, each once.

    Raises:
        ValueError: says which part is no path, and why.
    """
    paths = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for path in paths:
        reason = _problem(path)
        if reason is not None:
            raise ValueError(reason)
    return paths


def _problem(path: str) -> str | None:
    if "*" in path:
        return "* would keep texts that nobody looked at: name each field"
    section, dot, rest = path.partition(".")
    if _PATH.fullmatch(path) is None or section.lower() not in SECTIONS:
        return f"{path[:60]!r} is no field: a path begins with one of {', '.join(SECTIONS)}"
    if not dot and section.lower() not in WHOLE_FIELDS:
        return f"{section} holds more than text: name a field in it, such as {section.lower()}.notes"
    if section.lower() == "evaluation" and "." not in rest:
        return "evaluation wants a name and a field, such as evaluation.NAME.reasoning"
    if section.lower() != "evaluation" and dot:
        verdict = verdict_on(rest[:200])
        if verdict.key_class in _NEVER_KEPT and not verdict.is_text:
            return f"{path[:60]!r} names a personal field: its value is always removed"
    return None


def canonical_path(path: str) -> str:
    """The one spelling of a path: `metadata.userNotes` and `metadata.user_notes` agree; case and separators do not count."""
    section, _, rest = path.partition(".")
    return path_of(section.lower(), normal_key(rest)) if rest else section.lower()


def path_of(section: str, normal: str) -> str:
    """The canonical path of a field in a section; `normal` is the form of `keys.normal_key`."""
    return f"{section}.{normal}" if normal else section


@dataclass(frozen=True, slots=True)
class TextPolicy:
    """Which texts a team keeps. The default keeps explanations, scrubbed, and closes everything else.

    Explanations are what evaluators and errors said: reasoning, error message and stack, a tool's error text. `scrubbed` and
    `opened` hold canonical paths; a path that is opened is scrubbed too, so opening always takes two settings.
    """

    explanations: TextMode = TextMode.SCRUBBED
    scrubbed: frozenset[str] = frozenset()
    opened: frozenset[str] = frozenset()
    names_fields: bool = field(init=False, default=False)
    """Whether any field is allow-listed at all."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names_fields", bool(self.scrubbed))

    @classmethod
    def of(cls, allowlist: Iterable[str] = (), opened: Iterable[str] = (), explanations: str = "scrubbed") -> TextPolicy:
        """The policy of the three settings.

        Raises:
            ValueError: a path is to be open that the allow-list does not name.
        """
        scrubbed = frozenset(map(canonical_path, allowlist))
        open_paths = frozenset(map(canonical_path, opened))
        missing = [path for path in opened if canonical_path(path) not in scrubbed]
        if missing:
            raise ValueError(f"PII_TEXT_ALLOWLIST does not name {', '.join(sorted(missing))}; open takes both settings")
        return cls(TextMode(explanations), scrubbed, open_paths & scrubbed)

    def mode_of(self, path: str) -> TextMode:
        """The mode of a field by its canonical path alone; what lies below a field has the field's mode."""
        if path in self.opened:
            return TextMode.OPEN
        return TextMode.SCRUBBED if path in self.scrubbed else TextMode.CLOSED

    def without_fields(self) -> TextPolicy:
        """The policy for a span that names no user: its explanations only.

        Texts that nobody could find again by their user must not be kept for the user's sake: they could not be erased.
        """
        return self if not self.names_fields else _explanations_only(self.explanations)


@lru_cache(maxsize=2)
def _explanations_only(mode: TextMode) -> TextPolicy:
    return TextPolicy(mode)
