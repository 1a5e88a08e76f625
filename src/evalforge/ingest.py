"""The pipeline: pages of a source become captures in a store. Readable top to bottom; `runs` decides when and how long."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from evalforge.core.canonical import canonical_json
from evalforge.core.capture import SCHEMA_VERSION, SIGNATURE_VERSION, FailureCapture, capture_of, merge_by_trace
from evalforge.core.origins import Origins
from evalforge.core.ports import (
    LOOKBACK,
    Checkpoint,
    DeadLetter,
    Page,
    Reach,
    Recognized,
    Rejected,
    Scoped,
    Source,
    Store,
    UpsertResult,
)
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.privacy import (
    ALONE,
    SANITIZER_VERSION,
    KeyRing,
    Neighbours,
    Sanitizer,
    Trace,
    TraceContext,
    safe_span_id,
    safe_trace_id,
    structure_of,
)
from evalforge.core.privacy.neighbours import MAX_RECENT_SPANS
from evalforge.core.privacy.net import SECOND_NET
from evalforge.core.signals import Signal, Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.erasure import Guard
from evalforge.errors import SkippableError
from evalforge.events import emit
from evalforge.measuring import measure_captures, measure_items, measure_page

DEAD_LETTER_RETENTION_DAYS = 30
TRACES_PER_PART = 100
"""Traces of a page that are sanitized and stored together. While one part is being stored the next one is made; so a page of
failures only is not held twice."""


@dataclass(slots=True)
class Tally:
    """What a run has seen so far. Items balance: `fetched == healthy + failing + rejected`; repeats count again.

    `healthy` counts spans that are no failure or out of scope. Captures are counted apart, once per write or look:
    `created`, `updated`, `unchanged`, `refused` by the store, and `kept_out` because they were erased. `by_type` counts the
    created ones by failure type, `by_reason` the rejected items and refused captures by why.
    `new_letters` are the dead letters that were not there yet.
    """

    fetched: int = 0
    healthy: int = 0
    failing: int = 0
    rejected: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0
    kept_out: int = 0
    new_letters: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    by_reason: Counter[str] = field(default_factory=Counter)

    @property
    def capture_count(self) -> int:
        """How many captures went to the store, whatever became of them."""
        return self.created + self.updated + self.unchanged + self.refused

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """What all of these have seen together."""
        total = cls()
        for tally in tallies:
            for one in fields(cls):
                setattr(total, one.name, getattr(total, one.name) + getattr(tally, one.name))
        return total


@dataclass(frozen=True, slots=True)
class Judge:
    """Turns a span into a capture, or finds it healthy: the rules, the sanitizer, and what every capture of a run shares.

    `origins` recognizes what was judged before under the very same rules; None where hashing keys are missing.
    """

    thresholds: Thresholds
    ring: KeyRing
    sanitizer: Sanitizer
    site: str
    retention_days: int
    origins: Origins | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        rules = {
            "schema": SCHEMA_VERSION,
            "signature": SIGNATURE_VERSION,
            "sanitizer": SANITIZER_VERSION,
            "thresholds": self.thresholds,
            "texts": self.sanitizer.policy,
            "site": self.site,
        }
        object.__setattr__(self, "origins", Origins.under(self.ring, rules))

    def capture(self, span: Span, fetched_at: datetime) -> FailureCapture | None:
        """The capture of a failing span, None for a healthy one.

        Raises:
            SkippableError: the span fails but cannot be captured; its code is the reason.
        """
        signals = find_signals(span, self.thresholds)
        return self.captured(span, signals, fetched_at) if signals else None

    def captured(
        self, span: Span, signals: tuple[Signal, ...], fetched_at: datetime, trace: TraceContext = ALONE
    ) -> FailureCapture:
        """The capture of a span that these signals made a failing one; `trace` is what its neighbours tell.

        Raises:
            SkippableError: the span cannot be captured; its code is the reason.
        """
        sanitized = self.sanitizer.sanitize(span, signals, trace)
        return capture_of(sanitized, site=self.site, fetched_at=fetched_at, retention_days=self.retention_days)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one pass over a window needs to know: whose run it is, the clock, and when to stop.

    `guard` keeps out what was erased. `should_stop` is asked after each stored page and gives a reason, or None to go on.
    `fence` is that of the lease under which checkpoints are saved, `tier` the series of windows that they belong to,
    `began_ms` when its reading began, and `reach` which spans it is after. `on_captures` hears of captures before they are
    stored, `on_page` of each stored page and of what became of its captures, `telemetry` of counts and durations.
    """

    run_id: str
    judge: Judge
    guard: Guard
    clock: Callable[[], datetime]
    should_stop: Callable[[Tally], str | None]
    fence: int = 0
    tier: str = LOOKBACK
    reach: Reach = "all"
    began_ms: int | None = None
    on_captures: Callable[[Sequence[FailureCapture]], None] = lambda captures: None
    on_page: Callable[[Page, UpsertResult], None] = lambda page, result: None
    telemetry: Telemetry = SILENCE


async def ingest(
    source: Source, store: Store, window: Window, after: Checkpoint | None, reading: Reading, tally: Tally
) -> tuple[Checkpoint | None, str | None]:
    """Reads `window` from `source` into `store`; gives the last saved checkpoint, and why it stopped early, if it did.

    A page counts as read once its captures and dead letters are stored: only then is its checkpoint saved, so whatever
    breaks in between is read again, and reading again changes nothing.
    """
    checkpoint, stopped = after, None
    neighbours = Neighbours()
    if after is not None and not after.done and after.last_ms is not None:
        # The page where an earlier run stopped may have parted a trace: what its spans there said still counts.
        neighbours.remember(await source.spans_before(window, after.last_ms, MAX_RECENT_SPANS))
    async with aclosing(source.pages(window, after, reach=reading.reach)) as pages:
        async for page in pages:
            with measure_page(reading.telemetry, source.name, page.item_count):
                await store_page(source, store, page, neighbours, reading, tally)
            saved = replace(page.checkpoint, tier=reading.tier, began_ms=reading.began_ms)
            del page  # its spans go before the next ones come
            if not await store.save_checkpoint(saved, fence=reading.fence):
                # Somebody else has read on from there while this process slept: what was stored stays, the place is theirs.
                return checkpoint, "lease_lost"
            checkpoint = saved
            stopped = reading.should_stop(tally)
            if stopped is not None and not checkpoint.done:
                break
    return checkpoint, stopped if checkpoint is not None and not checkpoint.done else None


async def store_page(
    source: Scoped,
    store: Store,
    page: Page,
    neighbours: Neighbours,
    reading: Reading,
    tally: Tally,
    *,
    in_scope: Callable[[Span], bool] | None = None,
) -> Sequence[DeadLetter]:
    """Judges one page and stores what came of it, gives its dead letters; its checkpoint is the caller's to save.

    `in_scope` says which spans may become captures, instead of the source. `neighbours` have seen the pages before.
    """
    now = reading.clock()
    judged = _judged(source.name, in_scope or source.in_scope, page, neighbours, reading.judge, now)
    known = await _known(store, judged, page, reading, now)
    stored = await _each_while_the_next_is_made(_parts(source, store, page, judged, known, reading, now))
    letters = [letter for part in stored for letter in part.letters]
    result = UpsertResult()
    for part in stored:
        result = result.joined(part.result)
        tally.by_type += part.by_type
        tally.new_letters += part.new_letters
    _count(tally, page, judged, letters, result, reading)
    emit(
        "page.stored",
        run_id=reading.run_id,
        source=source.name,
        step=page.checkpoint.step,
        item_count=page.item_count,
        failing=len(judged.failing),
        rejected=len(letters),
    )
    measure_items(reading.telemetry, source.name, page.item_count, judged.failing_count, judged.rejected_count)
    reading.on_page(page, result)
    return letters


@dataclass(frozen=True, slots=True)
class _Stored:
    """What became of one part of a page."""

    result: UpsertResult
    letters: list[DeadLetter]
    new_letters: int
    by_type: Counter[str]


async def _parts(
    source: Scoped, store: Store, page: Page, judged: _Judged, known: Recognized, reading: Reading, now: datetime
) -> AsyncGenerator[Callable[[], Awaitable[_Stored]], None]:
    """What stores each part of the page, in turn; the first has what is known of the page already."""
    unchanged = frozenset(known.result.unchanged)
    new = [trace_id for trace_id in judged.failing if trace_id not in unchanged]
    letters, result = judged.letters, known.result
    for at in range(0, max(1, len(new)), TRACES_PER_PART):
        captures, found = await _captures(judged, new[at : at + TRACES_PER_PART], reading.judge, now)
        letters = [*letters, *found]
        yield partial(_store_part, source, store, page, captures, letters, result, known.absent, reading, now)
        letters, result = [], UpsertResult()


async def _each_while_the_next_is_made(parts: AsyncGenerator[Callable[[], Awaitable[_Stored]], None]) -> list[_Stored]:
    stored: list[_Stored] = []
    under_way: asyncio.Future[_Stored] | None = None
    try:
        async with aclosing(parts):
            async for store_part in parts:
                if under_way is not None:
                    stored.append(await under_way)
                under_way = asyncio.ensure_future(store_part())
        if under_way is not None:
            stored.append(await under_way)
    finally:
        if under_way is not None and not under_way.done():
            under_way.cancel()
            await asyncio.wait([under_way])
    return stored


async def _store_part(
    source: Scoped,
    store: Store,
    page: Page,
    captures: list[FailureCapture],
    letters: list[DeadLetter],
    known: UpsertResult,
    absent: Collection[str],
    reading: Reading,
    now: datetime,
) -> _Stored:
    """Stores captures and dead letters of a page, unless they were erased; `known` is what became of others of it."""
    captures = await reading.guard.admitted(captures, page.spans)
    reading.on_captures(captures)
    result = await store.upsert(captures, now=now, absent=absent)
    letters = reading.guard.admitted_letters([*letters, *_refused_letters(source.name, captures, result, now)])
    new_letters = await store.keep(letters)
    result = await reading.guard.confirmed(known.joined(result), captures, letters, page.spans)
    by_type = _tell(captures, result, letters, reading)
    return _Stored(result, letters, new_letters, by_type)


@dataclass(slots=True)
class _Judged:
    """What the rules found on one page: failing spans with their signals by stored trace id, and dead letters.

    `traces` has what is known of each raw trace, `origins` the origin of each stored trace that has one.
    """

    failing: dict[str, list[tuple[Span, tuple[Signal, ...]]]] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    traces: Mapping[str, Trace] = field(default_factory=dict)
    origins: dict[str, bytes] = field(default_factory=dict)
    failing_count: int = 0
    rejected_count: int = 0


def _judged(
    source: str, in_scope: Callable[[Span], bool], page: Page, neighbours: Neighbours, judge: Judge, now: datetime
) -> _Judged:
    judged = _Judged(letters=[_rejected_letter(source, rejected, judge.ring, now) for rejected in page.rejected])
    failing: list[Span] = []
    for span in page.spans:
        try:
            signals = find_signals(span, judge.thresholds) if in_scope(span) else ()
        except Exception:  # noqa: BLE001 - a span that nobody foresaw must not end the run; it is kept as a dead letter
            judged.letters.append(_span_letter(span, "unexpected_error", judge.ring, now))
        else:
            if signals:
                failing.append(span)
                judged.failing.setdefault(safe_trace_id(span.trace_id, judge.ring)[0], []).append((span, signals))
    judged.traces = neighbours.traces(page.spans, failing)
    judged.failing_count, judged.rejected_count = len(failing), len(judged.letters)
    if judge.origins is not None:
        for trace_id, found in judged.failing.items():
            trace = judged.traces[found[0][0].trace_id]
            origin = judge.origins.of((*trace.spans, *trace.failing), trace.failing)
            # Two raw ids in one stored trace are too odd to be worth a look.
            if origin is not None and len(found) == len(trace.failing):
                judged.origins[trace_id] = origin
    return judged


async def _known(store: Store, judged: _Judged, page: Page, reading: Reading, now: datetime) -> Recognized:
    """The traces that the store holds as they would come out again; not those that were erased and left."""
    if not judged.origins:
        return Recognized()
    known = await store.recognize(judged.origins, now=now)
    buried = reading.guard.buried(known.result.unchanged, page.spans)
    return replace(known, result=known.result.without(buried)) if buried else known


async def _captures(
    judged: _Judged, trace_ids: Iterable[str], judge: Judge, now: datetime
) -> tuple[list[FailureCapture], list[DeadLetter]]:
    """A capture of each of these traces, and a letter for each failing span that cannot be captured."""
    captures: list[FailureCapture] = []
    letters: list[DeadLetter] = []
    for trace_id in trace_ids:
        await asyncio.sleep(0)  # others' turn: what is being stored goes on
        found = judged.failing[trace_id]
        own: list[FailureCapture] = []
        contexts: dict[str, TraceContext] = {}
        for span, signals in found:
            try:
                context = contexts.get(span.trace_id)
                if context is None:
                    context = contexts[span.trace_id] = judged.traces[span.trace_id].context(judge.ring)
                own.append(judge.captured(span, signals, now, context))
            except Exception as error:  # noqa: BLE001 - as above
                reason = error.code if isinstance(error, SkippableError) else "unexpected_error"
                letters.append(_span_letter(span, reason, judge.ring, now))
        judged.failing_count -= len(found) - len(own)
        judged.rejected_count += len(found) - len(own)
        origin = judged.origins.get(trace_id) if len(own) == len(found) else None  # its letters are told each time
        for capture in merge_by_trace(own):
            captures.append(capture if origin is None else replace(capture, origins=frozenset({origin})))
    return captures, letters


def _rejected_letter(source: str, rejected: Rejected, ring: KeyRing, now: datetime) -> DeadLetter:
    return _letter(
        source, "parse", rejected.reason, structure_of(rejected.item), rejected.trace_id, rejected.span_id, ring, now
    )


def _span_letter(span: Span, reason: str, ring: KeyRing, now: datetime) -> DeadLetter:
    shape = {name: getattr(span, name) for name in ("tags", "metadata", "metrics", "attributes", "input", "output", "error")}
    return _letter(span.source, "sanitize", reason, structure_of(shape), span.trace_id, span.span_id, ring, now)


def _letter(
    source: str,
    stage: Literal["parse", "sanitize", "store"],
    reason: str,
    structure: dict[str, Any],
    trace_id: str | None,
    span_id: str | None,
    ring: KeyRing,
    now: datetime,
) -> DeadLetter:
    safe_trace = safe_trace_id(trace_id, ring)[0] if trace_id else None
    safe_span = safe_span_id(span_id, ring) if span_id else None
    about = canonical_json([source, stage, reason, safe_trace, safe_span, structure])
    return DeadLetter(
        id=hashlib.sha256(about).hexdigest()[:32],
        source=source,
        stage=stage,
        reason=reason,
        structure=structure,
        occurred_at=now,
        expires_at=now + timedelta(days=DEAD_LETTER_RETENTION_DAYS),
        trace_id=safe_trace,
        span_id=safe_span,
    )


def _refused_letters(
    source: str, captures: list[FailureCapture], result: UpsertResult, now: datetime
) -> Iterator[DeadLetter]:
    """A letter for each failing span of a capture that the store could not hold; its ids are sanitized already."""
    spans = {capture.trace_id: [one.span_id for one in capture.occurrences] for capture in captures}
    for trace_id, reason in result.refused:
        for span_id in spans[trace_id]:
            yield DeadLetter(
                id=hashlib.sha256(canonical_json([source, "store", reason, trace_id, span_id])).hexdigest()[:32],
                source=source,
                stage="store",
                reason=reason,
                structure={},
                occurred_at=now,
                expires_at=now + timedelta(days=DEAD_LETTER_RETENTION_DAYS),
                trace_id=trace_id,
                span_id=span_id,
            )


def _count(
    tally: Tally, page: Page, judged: _Judged, letters: list[DeadLetter], result: UpsertResult, reading: Reading
) -> None:
    """Counts what became of one page, after it is stored."""
    tally.fetched += page.item_count
    tally.rejected += judged.rejected_count
    tally.failing += judged.failing_count
    tally.healthy += page.item_count - judged.rejected_count - judged.failing_count
    tally.created += len(result.created)
    tally.updated += len(result.updated)
    tally.unchanged += len(result.unchanged)
    tally.refused += len(result.refused)
    tally.kept_out = reading.guard.kept_out_count
    tally.by_reason.update(letter.reason for letter in letters)


def _tell(captures: list[FailureCapture], result: UpsertResult, letters: list[DeadLetter], reading: Reading) -> Counter[str]:
    """Logs what became of captures and letters; how many captures of each failure type are new."""
    created = frozenset(result.created)
    for event, trace_ids in (
        ("capture.created", result.created),
        ("capture.updated", result.updated),
        ("capture.unchanged", result.unchanged),
    ):
        for trace_id in trace_ids:
            emit(event, run_id=reading.run_id, trace_id=trace_id, action="upsert", outcome=event.partition(".")[2])
    written = created.union(result.updated)
    for capture in captures:
        if capture.trace_id in written and capture.redactions.get(SECOND_NET):
            emit(
                "second_net.hit",
                run_id=reading.run_id,
                trace_id=capture.trace_id,
                count=capture.redactions[SECOND_NET],
            )
    for letter in letters:
        emit(
            "item.rejected",
            run_id=reading.run_id,
            trace_id=letter.trace_id,
            span_id=letter.span_id,
            source=letter.source,
            stage=letter.stage,
            reason=letter.reason,
            action="dead_letter",
            outcome="kept",
        )
    by_type = Counter(capture.failure_type.value for capture in captures if capture.trace_id in created)
    measure_captures(reading.telemetry, captures, result, letters, by_type)
    return by_type
