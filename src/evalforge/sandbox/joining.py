"""Verdicts find their spans, whichever comes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from evalforge.sandbox.spans import Json, Span

Key = tuple[Literal["span", "trace", "session", "tag"], str]
"""What a verdict is about: a span by its id, the root of a trace or of a session, the one span that has a tag."""

ROOT = frozenset({"undefined", "0", "", None})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an evaluator, or with `is_feedback` a user, says of a span; `trace_id` narrows a span's id if it is given."""

    name: str
    content: Json
    about: Key
    trace_id: str | None = None
    is_feedback: bool = False


class Joins:
    """The spans by everything that a verdict can name them by, and the verdicts that wait for theirs."""

    def __init__(self) -> None:
        self._spans: dict[Key, list[Span]] = defaultdict(list)
        self._waiting: dict[Key, list[Verdict]] = {}

    @property
    def waiting(self) -> int:
        """How many verdicts have not found their span."""
        return sum(map(len, self._waiting.values()))

    def add_span(self, span: Span) -> None:
        """Make a span known, and give it the verdicts that waited for it."""
        for key in _keys(span):
            known = self._spans[key]
            if key[0] != "tag" or len(known) < 2:  # two are enough to know that a tag is not unique
                known.append(span)
            if key in self._waiting:
                remaining = [verdict for verdict in self._waiting[key] if not self._join(verdict)]
                if remaining:
                    self._waiting[key] = remaining
                else:
                    del self._waiting[key]

    def add_verdict(self, verdict: Verdict) -> bool:
        """Give a verdict to its span and tell whether it is already there; if it is not, the verdict waits.

        A second verdict under one name replaces the first.
        """
        joined = self._join(verdict)
        if not joined:
            self._waiting.setdefault(verdict.about, []).append(verdict)
        return joined

    def _join(self, verdict: Verdict) -> bool:
        spans = self._spans.get(verdict.about, [])
        if verdict.trace_id is not None:
            spans = [span for span in spans if span.attributes.get("trace_id") == verdict.trace_id]
        if verdict.about[0] == "tag" and len(spans) != 1:
            return False
        for span in spans:
            _attach(span, verdict)
        return bool(spans)


def _keys(span: Span) -> Iterator[Key]:
    attributes = span.attributes
    span_id, trace_id = attributes.get("span_id"), attributes.get("trace_id")
    if isinstance(span_id, str):
        yield "span", span_id
    parent_id = attributes.get("parent_id")
    if parent_id is None or (isinstance(parent_id, str) and parent_id in ROOT):
        if isinstance(trace_id, str):
            yield "trace", trace_id
        for session_id in {*span.tag("session_id"), str(span.unexported.get("session_id", "")).lower()} - {""}:
            yield "session", session_id
    for tag in set(span.tags):
        yield "tag", tag


def _attach(span: Span, verdict: Verdict) -> None:
    # Replaced, not changed in place: a page that is being written keeps the verdicts it was built with.
    if verdict.is_feedback:
        known = span.unexported.get("feedback")
        feedback = {**(known if isinstance(known, dict) else {}), verdict.name: verdict.content}
        span.unexported = {**span.unexported, "feedback": feedback}
    elif isinstance(span.attributes, dict):
        known = span.attributes.get("evaluation")
        span.attributes["evaluation"] = {**(known if isinstance(known, dict) else {}), verdict.name: verdict.content}
        span.shape = None
