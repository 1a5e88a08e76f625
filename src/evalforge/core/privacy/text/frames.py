"""Frames of stack traces: each is read by itself, once, however many traces hold it.

A trace is made of the same frames of the same libraries again and again. What of them names nobody need not be looked at in
every text anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evalforge.core.privacy.text.findings import Finding, TextKind

MAX_FRAME_LENGTH = 1_000
_MAX_REMEMBERED = 4_096

# Fixed classes and bounded repeats behind the start of a line: linear, whatever the text.
_FRAME = re.compile(
    r'^ {0,12}File "[^"\n]{1,400}", line [0-9]{1,7}(?:, in [^\n]{1,200})?(?:\n {4,40}(?!File ")[^\s][^\n]{0,400}){0,3}$'
    r"|^[ \t]{1,12}at [^\n]{1,400}:[0-9]{1,7}\)?$",
    re.MULTILINE,
)
_HOME = re.compile(r"(?i)[/\\](?:home|users|root|documents and settings)[/\\]|~")


def frames_of(text: str) -> list[tuple[int, int]]:
    """The places of the frames of Python's, JavaScript's and Java's traces in a text, with their lines of source."""
    if "line " not in text and "at " not in text:
        return []
    return [span for match in _FRAME.finditer(text) if (span := match.span())[1] - span[0] <= MAX_FRAME_LENGTH]


@dataclass(frozen=True, slots=True)
class PlainFrame:
    """A frame from which nothing goes but paths, which are cut to a file's name: `text` is what stays."""

    text: str
    path_count: int


@dataclass(slots=True)
class PlainFrames:
    """Says of frames whether they are plain; remembers those that are. `read` finds what must not be stored of a text."""

    read: Callable[[str], Sequence[Finding]]
    _known: dict[str, PlainFrame] = field(default_factory=dict, repr=False)

    def plain(self, frame: str) -> PlainFrame | None:
        """The frame as it may be stored; None where something else than a path would go, which is for others to judge."""
        found = self._known.get(frame)
        if found is None:
            findings = self.read(frame)
            if all(finding.kind is TextKind.PATH and finding.instead for finding in findings):
                found = PlainFrame(_cut(frame, findings), len(findings))
                self._remember(frame, found)
        return found

    def _remember(self, frame: str, found: PlainFrame) -> None:
        if _HOME.search(frame) is None:  # a home tells whose it is
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[frame] = found


def _cut(frame: str, findings: Sequence[Finding]) -> str:
    parts: list[str] = []
    at = 0
    for finding in findings:
        parts += (frame[at : finding.start], finding.instead or "")
        at = finding.end
    return "".join((*parts, frame[at:]))
