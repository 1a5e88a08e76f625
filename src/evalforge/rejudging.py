"""Stored captures, judged again: by new thresholds and by a new sanitizer, in place; what reviewers decided is not touched.

The spans are gone. What is judged is what was kept of the greatest one: its numbers, verdicts and tags. So new rules may add
signals to a capture, never take one away (they are never withdrawn), and cannot find failures in traces that were healthy.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture, merge
from evalforge.core.ports import Store, StoredDocument
from evalforge.core.privacy.again import judged_again, span_of
from evalforge.core.privacy.neighbours import TraceContext
from evalforge.core.signals import find_signals
from evalforge.errors import SkippableError, StoreUnavailableError
from evalforge.ingest import Judge
from evalforge.sweep import ATTEMPTS, in_steps, read_again


@dataclass(slots=True)
class Rejudged:
    """What became of stored captures: `seen` = `rewritten` + `unchanged` + `unreadable`.

    `leaking` of them held what the present sanitizer removes, `outdated` were made by an older one, and `new_signals` counts
    those that were added. `unreadable` documents are none of ours, or have no stored form any more: they stay as they are.
    """

    seen: int = 0
    rewritten: int = 0
    unchanged: int = 0
    unreadable: int = 0
    leaking: int = 0
    outdated: int = 0
    new_signals: int = 0

    def add(self, other: Rejudged) -> None:
        """Counts what the other has counted too."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))

    def document(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


async def rejudge(
    store: Store, judge: Judge, *, after: str | None, before: str | None, clock: Callable[[], datetime]
) -> Rejudged:
    """Judges every capture again whose key lies between `after` and `before`, both exclusive, and rewrites what differs.

    Idempotent: what it has rewritten it leaves alone the next time. A document that others write meanwhile is read again.

    Raises:
        StoreError, StoreUnavailableError: what was rewritten stays.
    """
    counts = Rejudged()
    async for step in in_steps(_between(store, after, before)):
        for one in await asyncio.gather(*(_one(store, judge, stored, clock) for stored in step)):
            counts.add(one)
    return counts


async def _between(store: Store, after: str | None, before: str | None) -> AsyncIterator[StoredDocument]:
    async for stored in store.documents("raw_traces", after=after):
        if before is not None and stored.key >= before:
            return
        yield stored


async def _one(store: Store, judge: Judge, stored: StoredDocument, clock: Callable[[], datetime]) -> Rejudged:
    for _ in range(ATTEMPTS):
        try:
            better, seen = judged_by(stored, judge)
        except Exception:  # noqa: BLE001 - a document of whatever shape must not end the job; it is told, and left alone
            return Rejudged(seen=1, unreadable=1)
        if better is None:
            seen.unchanged = 1
            return seen
        try:
            if await store.rewrite(better, stored, now=clock()):
                seen.rewritten = 1
                return seen
        except SkippableError:
            return Rejudged(seen=1, unreadable=1)  # no stored form
        found = await read_again(store, stored)
        if found is None:
            return Rejudged()  # erased or expired meanwhile
        stored = found
    raise StoreUnavailableError(f"raw_traces/{stored.key} keeps being written by others", retry_after_s=5.0)


def judged_by(stored: StoredDocument, judge: Judge) -> tuple[FailureCapture | None, Rejudged]:
    """What should stand in the place of a stored capture by the present rules, None if that stands there; and the counts.

    Raises:
        Exception: whatever a document raises that is none of ours.
    """
    capture = FailureCapture.from_document(stored.document)
    own = capture.to_document()
    better, leaks = judged_again(
        capture, {name: stored.document[name] for name in own if name in stored.document}, judge.sanitizer
    )
    with_signals = _with_new_signals(better, judge)
    seen = Rejudged(
        seen=1,
        leaking=int(bool(leaks)),
        outdated=int(capture.greatest.sanitizer_version < better.greatest.sanitizer_version),
        new_signals=len(with_signals.signals) - len(better.signals),
    )
    return (None if with_signals.fingerprint == stored.document.get("fingerprint") else with_signals), seen


def _with_new_signals(capture: FailureCapture, judge: Judge) -> FailureCapture:
    """The capture with the signals that the present rules find in its payload and that it does not have yet."""
    span, _ = span_of(capture.payload)
    greatest = capture.greatest
    span = replace(span, trace_id=capture.trace_id, span_id=greatest.span_id)
    signals = find_signals(span, judge.thresholds)
    if not signals:
        return capture
    trace = TraceContext(has_user=capture.user_hash is not None)
    # Compared as they are stored: a value that the sanitizer has closed is no other signal.
    known = {(one.type, one.span_id, one.place, one.threshold, one.comparison) for one in capture.signals}
    new = tuple(
        one
        for one in judge.sanitizer.sanitize(span, signals, trace).signals
        if (one.type, one.span_id, one.place, one.threshold, one.comparison) not in known
    )
    if not new:
        return capture
    worst = max(one.severity for one in new)
    worse = replace(greatest, severity=max(greatest.severity, worst))
    return merge(
        replace(capture, occurrences=(worse, *capture.occurrences[1:])),
        replace(capture, occurrences=(worse, *capture.occurrences[1:]), signals=new),
    )
