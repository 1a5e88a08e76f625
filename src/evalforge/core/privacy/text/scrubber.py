"""`Scrubber`: the texts of one trace, with everything personal replaced by stable placeholders."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from evalforge.core.privacy.echoes import NO_ECHOES, Echoes
from evalforge.core.privacy.text.decoding import plain_form
from evalforge.core.privacy.text.findings import MARK, Finding, TextKind, persons_joined, settled
from evalforge.core.privacy.text.frames import PlainFrames, frames_of
from evalforge.core.privacy.text.identifiers import find_identifiers
from evalforge.core.privacy.text.people import person_key
from evalforge.core.privacy.text.placeholders import Placeholders
from evalforge.core.privacy.text.prose import People, find_in_prose

_ROUNDS = 3
_APART = r"\s\[\](){},.;:'\"<>="
_IN_MARK = MARK.pattern.removeprefix(r"\[").replace("?P<kind>", "?:").replace("?P<number>", "?:")
_TOUCHING = re.compile(rf"\[(?:{_IN_MARK}(?=[^{_APART}])|(?<=[^{_APART}]\[){_IN_MARK})")
_PERSON = TextKind.PERSON
UNREADABLE = "[redacted:text {}]"
"""Stands for a text that cannot be brought into plain form, or that broke a rule: its length is all that stays."""


class Scrubber:
    """Scrubs the texts of one trace; remembers who and what has which placeholder. One per trace, used once or more.

    `echoes` are the values seen under sensitive keys of the trace: they go wherever they are repeated. `redactions` counts
    what was replaced, by kind. Linear in the length of the texts.
    """

    def __init__(self, echoes: Echoes = NO_ECHOES) -> None:
        self._echoes = echoes
        self._placeholders = Placeholders()
        self.redactions: Counter[str] = Counter()

    def mark(self, kind: TextKind, identity: str) -> str:
        """The placeholder of a thing that is removed whole, such as the value of a sensitive key; counted."""
        self.redactions[str(kind)] += 1
        return self._placeholders.mark(kind, identity)

    def scrub(self, texts: Sequence[str]) -> list[str]:
        """Each text without what must not be stored, in plain form: normalised, decoded.

        All at once, because who is named in one text is then known in all of them. Scrubbing the result changes nothing.
        """
        scrubbed = self._scrubbed_once(texts)
        for _ in range(_ROUNDS):
            # A placeholder that touches a letter or a sign may let what stands beside it look like something new.
            if not any(map(_TOUCHING.search, scrubbed)):
                break
            again = self._scrubbed_once(scrubbed)
            if again == scrubbed:
                break
            scrubbed = again
        return scrubbed

    def _scrubbed_once(self, texts: Sequence[str]) -> list[str]:
        self._placeholders.reserve(texts)
        # the same error often stands in several places of a span
        readable = {raw: plain for raw in dict.fromkeys(texts) if (plain := plain_form(raw)) is not None}
        echoes = self._echoes.among("\n".join(readable.values()))
        apart = {raw: _frames_apart(text, echoes) for raw, text in readable.items()}
        surest = {raw: _with(one.frames, _surest(one.rest, echoes)) for raw, one in apart.items()}
        people = People.named_in([one.rest for one in apart.values()], list(surest.values()), echoes.names)
        found = {
            raw: _as_persons(one.rest, _with(surest[raw], find_in_prose(one.rest, surest[raw], people)), echoes)
            for raw, one in apart.items()
        }
        scrubbed = []
        for raw in texts:
            if raw in apart:
                self.redactions[TextKind.PATH.value] += apart[raw].path_count
                scrubbed.append(self._replaced(apart[raw].rest, found[raw]))
            else:
                self.redactions[TextKind.ENCODED.value] += 1
                scrubbed.append(UNREADABLE.format(len(raw)))
        return scrubbed

    def _replaced(self, text: str, findings: Sequence[Finding]) -> str:
        parts: list[str] = []
        at = 0
        for finding in findings:
            parts.append(text[at : finding.start])
            if finding.identity != _FRAME:  # what goes from a frame is counted
                self.redactions[str(finding.kind)] += 1
            parts.append(
                finding.instead if finding.instead is not None else self._placeholders.mark(finding.kind, finding.identity)
            )
            at = finding.end
        parts.append(text[at:])
        return "".join(parts)


class _Apart(NamedTuple):
    """A text with a line break in place of each plain frame, what is to be put there, and how many paths go with them."""

    rest: str
    frames: list[Finding]
    path_count: int


def _with(surer: list[Finding], others: list[Finding]) -> list[Finding]:
    """Two lists of settled findings as one."""
    return settled([*surer, *others]) if surer and others else surer or others


def _frames_apart(text: str, echoes: Echoes) -> _Apart:
    places = frames_of(text)
    if not places:
        return _Apart(text, [], 0)
    repeated = echoes.find(text)
    parts: list[str] = []
    frames: list[Finding] = []
    at = length = path_count = 0
    for start, end in places:
        plain = _FRAMES.plain(text[start:end])
        if plain is None or any(one.start < end and one.end > start for one in repeated):
            continue
        parts += (text[at:start], "\n")
        length += start - at + 1
        frames.append(Finding(length - 1, length, TextKind.PATH, _FRAME, instead=plain.text))
        path_count += plain.path_count
        at = end
    parts.append(text[at:])
    return _Apart("".join(parts), frames, path_count)


def _as_persons(text: str, findings: Sequence[Finding], echoes: Echoes) -> list[Finding]:
    """The findings, each person as whom the echoes know (`grace` is `grace hill`), and neighbours of one person as one."""
    known = [
        finding._replace(identity=identity)
        if finding.kind is _PERSON and (identity := echoes.person(finding.identity)) != finding.identity
        else finding
        for finding in findings
    ]
    return list(persons_joined(text, known, person_key))


def _surest(text: str, echoes: Echoes) -> list[Finding]:
    """What needs no prose to be understood; `maria` inside of `maria@example.com` is a part of the address."""
    identifiers = find_identifiers(text)
    repeated = echoes.find(text)
    if not repeated or not identifiers:
        return settled([*repeated, *identifiers])
    apart = settled(identifiers)
    starts = [finding.start for finding in apart]
    own = []
    for echo in repeated:
        at = bisect_right(starts, echo.start) - 1
        around = apart[at] if at >= 0 and echo.end <= apart[at].end else None
        is_part = around is not None and around.end - around.start > echo.end - echo.start
        if around is None or not is_part or text[echo.start : echo.end] in (around.instead or ""):
            own.append(echo)
    return settled([*own, *identifiers])


def _found_alone(text: str) -> list[Finding]:
    """What must not be stored of a text that stands by itself."""
    sure = settled(find_identifiers(text))
    return settled([*sure, *find_in_prose(text, sure, People.named_in([text], [sure], frozenset()))])


_FRAMES = PlainFrames(_found_alone)
_FRAME = "\n"
"""Identifies what stands for a frame; no path has a line break."""
