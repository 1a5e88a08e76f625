"""Archives on one machine: every failing trace of the files becomes the capture that a run would have made of it.

Spans of one trace tell each other what must be removed, and may stand anywhere: in other lines, in other files. So a trace
is judged whole. No raw span is ever written to be sorted: the files are read again instead, each time for a range of
traces whose spans fit into memory. First the failing traces are found (a number each), then the spans of theirs, healthy
ones too, are collected, judged and stored; where either does not fit, the range becomes smaller and another round follows.
The range that is stored is the place that is kept.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any

from evalforge import __version__
from evalforge.core.canonical import digest
from evalforge.core.ports import Archive, ArchiveEntry, Checkpoint, OddItem, PackedSpan, Page, Rejected, Store
from evalforge.core.privacy import SANITIZER_VERSION, Neighbours
from evalforge.core.signals import find_signals
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.erasure import Guard
from evalforge.events import emit
from evalforge.ingest import Judge, Reading, Tally, store_page
from evalforge.runs import ARCHIVE_LEASE_NAME, check_keys, held_lease, iso_of, new_run_id

SOURCE = "archive"
BUCKETS = 1 << 20
"""Into how many equal parts traces are spread by their places, 0 to 2^64 - 1: the steps in which a run gets on."""

PAGE_SPANS = 1_000
ODD_PER_PAGE = 500
ENTRIES_PER_STEP = 500
"""Entries that are read before others get their turn."""

_NO_WINDOW = Window(0, 1)


@dataclass(frozen=True, slots=True)
class Named:
    """Which of Datadog's searches spans of an archive are of, and which of them count."""

    name: str
    scope: Callable[[Span], bool]

    def in_scope(self, span: Span) -> bool:
        """Whether a span may count as a failure."""
        return self.scope(span)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be in memory at once: bytes of packed spans, and failing traces that are known (100 bytes each)."""

    held_bytes: int = 64 << 20
    indexed_traces: int = 1_000_000


BOUNDS = Bounds()


@dataclass(slots=True)
class ArchiveReport:
    """What became of an archive. Items balance as in every run: `fetched == healthy + failing + rejected`.

    A report counts what its own run did: spans of ranges that an earlier one had stored are not counted again, rejected
    items are, whenever the files are read from their beginning. `position` is 0 to 1 of all traces, `read_count` how often
    the files were read. `stopped` is why it ended early, if it did.
    """

    run_id: str
    files: int
    started_at: datetime
    tally: Tally = field(default_factory=Tally)
    position: float = 0.0
    resumed_at: float = 0.0
    read_count: int = 0
    duration_s: float = 0.0
    stopped: str | None = None

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        tally = self.tally
        return {
            "run_id": self.run_id,
            "files": self.files,
            "started_at": iso_of(self.started_at),
            "duration_s": round(self.duration_s, 3),
            "complete": self.stopped is None,
            "stopped": self.stopped,
            "resumed_at": round(self.resumed_at, 6),
            "position": round(self.position, 6),
            "times_read": self.read_count,
            **tally_document(tally),
        }


def tally_document(tally: Tally) -> dict[str, Any]:
    """What was seen, as plain JSON values."""
    names = ("created", "updated", "unchanged", "refused", "kept_out")
    return {
        "items": {name: getattr(tally, name) for name in ("fetched", "healthy", "failing", "rejected")},
        "captures": {name: getattr(tally, name) for name in names}
        | {"created_by_type": dict(sorted(tally.by_type.items()))},
        "dead_letters": {"new": tally.new_letters},
        "errors_by_code": dict(sorted(tally.by_reason.items())),
    }


def bucket_of(place: int) -> int:
    """The bucket of a place."""
    return place >> 44


def may_fail(span: Span, judge: Judge, in_scope: Callable[[Span], bool]) -> bool:
    """Whether the rules find a failure in a span, or break on it: then judging it makes its dead letter."""
    try:
        return bool(in_scope(span) and find_signals(span, judge.thresholds))
    except Exception:  # noqa: BLE001 - a span that nobody foresaw must not end the run
        return True


async def judge_archive(
    files: Archive,
    store: Store,
    judge: Judge,
    *,
    holder: str,
    clock: Callable[[], datetime],
    wants_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[ArchiveReport], None] = lambda report: None,
    bounds: Bounds = BOUNDS,
) -> ArchiveReport:
    """Judges every trace of the files and stores what came of it; goes on where an earlier run over them has stopped.

    Memory is bounded by `bounds`; what does not fit is read for again. Only a bucket whose failing traces are more than
    `held_bytes` is judged in pieces, of which each knows the last 200 spans before it: one trace of that size, or an archive
    with a million times as much.

    Raises:
        RunInProgressError: another process judges an archive.
        StoreError, StoreUnavailableError: what was stored stays.
        and what reading the files raises
    """
    report = ArchiveReport(new_run_id(clock), len(files.names), clock())
    began = time.monotonic()
    try:
        async with held_lease(store, holder, report.run_id, clock, name=ARCHIVE_LEASE_NAME) as lease:
            await check_keys(store, judge.ring)
            guard = await Guard.opened(store, judge.ring, run_id=report.run_id, clock=clock)

            def should_stop(tally: Tally) -> str | None:
                return "lease_lost" if lease.is_lost else "stopped" if wants_stop() else None

            reading = Reading(report.run_id, judge, guard, clock, should_stop, fence=lease.fence)
            await _Judging(files, store, reading, report, on_progress, bounds).run()
    finally:
        report.duration_s = time.monotonic() - began
    tally = report.tally
    seen = {name: getattr(tally, name) for name in ("fetched", "healthy", "failing", "rejected")}
    became = {name: getattr(tally, name) for name in ("created", "updated", "unchanged")}
    emit("archive.judged", run_id=report.run_id, files=report.files, outcome=report.stopped or "complete", **seen, **became)
    return report


def rules_digest(judge: Judge) -> str:
    """What tells whether the same span would be judged in the same way."""
    return digest([__version__, SANITIZER_VERSION, repr(judge.thresholds), repr(judge.sanitizer.policy), judge.site])


class _Judging:
    """One run over an archive: rounds of finding which traces fail, and of collecting and judging them."""

    def __init__(
        self,
        files: Archive,
        store: Store,
        reading: Reading,
        report: ArchiveReport,
        on_progress: Callable[[ArchiveReport], None],
        bounds: Bounds,
    ) -> None:
        self._files = files
        self._store = store
        self._reading = reading
        self._report = report
        self._on_progress = on_progress
        self._bounds = bounds
        self._pages = Pages(files, store, reading, report.tally)
        self._checkpoint = Checkpoint(
            SOURCE,
            _NO_WINDOW,
            query_digest=digest([rules_digest(reading.judge), files.digest]),
            tier=f"archive_{files.digest[:16]}",
        )

    async def run(self) -> None:
        """Judges what is left, unless it is to stop before."""
        begin = await self._resumed()
        self._report.position = self._report.resumed_at = begin / BUCKETS
        tells_odd = True
        while begin < BUCKETS and self._report.stopped is None:
            index = await self._found(begin, tells_odd=tells_odd)
            tells_odd = False
            while begin < index.end and self._report.stopped is None:
                begin = await self._judged_from(begin, index)
                self._report.position = begin / BUCKETS
                place = replace(self._checkpoint, step=f"{begin:x}", done=begin == BUCKETS)
                if not await self._store.save_checkpoint(place, fence=self._reading.fence):
                    self._report.stopped = "lease_lost"
                self._on_progress(self._report)

    async def _resumed(self) -> int:
        """The first bucket that is not stored yet."""
        tier = self._checkpoint.tier
        known = (await self._store.load_checkpoints(SOURCE, [tier])).get(tier)
        if known is None or known.done or known.query_digest != self._checkpoint.query_digest:
            return 0
        try:
            return min(max(int(known.step, 16), 0), BUCKETS - 1)
        except ValueError:
            return 0

    async def _found(self, begin: int, *, tells_odd: bool) -> _Index:
        """Reads the files for which traces fail; stores what is odd if it `tells_odd`."""
        judge, in_scope = self._reading.judge, self._files.in_scope
        index = _Index(begin, BUCKETS)
        odd: list[OddItem] = []
        async for step in self._steps():
            for entry in step:
                if isinstance(entry, tuple):
                    odd.append(entry)
                    continue
                bucket = bucket_of(entry.place)
                if begin <= bucket < index.end:
                    index.counts[bucket] += 1
                    if entry.place not in index.failing and may_fail(entry.span, judge, in_scope):
                        index.failing.add(entry.place)
            if len(index.failing) > self._bounds.indexed_traces:
                index.narrow()
            if not tells_odd:
                odd = []
            elif len(odd) >= ODD_PER_PAGE:
                await self._pages.keep(odd)
                odd = []
        await self._pages.keep(odd)
        return index

    async def _judged_from(self, begin: int, index: _Index) -> int:
        """Judges and stores the traces from `begin` on, as many as are held at once; the first bucket that was not."""
        held = _HeldSpans(begin, index.end)
        if any(bucket_of(place) >= begin for place in index.failing):
            async for step in self._steps():
                for entry in step:
                    if isinstance(entry, tuple) or entry.place not in index.failing:
                        continue
                    held.take(entry)
                    if held.size_bytes > self._bounds.held_bytes:
                        held.narrow(self._bounds.held_bytes // 2)
                        if held.size_bytes > self._bounds.held_bytes:
                            # One bucket is more than memory: in pieces, each of which has seen the last spans before it.
                            self._report.stopped = await self._pages.judge(held.given()) or self._report.stopped
            if self._report.stopped is not None:
                return begin
        self._report.stopped = await self._pages.judge(held.given()) or self._report.stopped
        if self._report.stopped is not None:
            return begin
        # The spans of all other traces of this range were read for nothing: they are healthy, whatever their neighbours.
        healthy_count = sum(index.counts[begin : held.end]) - held.taken_count
        self._report.tally.fetched += healthy_count
        self._report.tally.healthy += healthy_count
        return held.end

    async def _steps(self) -> AsyncGenerator[list[ArchiveEntry | OddItem], None]:
        """What the files hold, from their beginning, so many at a time; ends early once the run is to stop."""
        self._report.read_count += 1
        entries = self._files.read()
        while self._report.stopped is None:
            step = await asyncio.to_thread(lambda: list(islice(entries, ENTRIES_PER_STEP)))
            if not step:
                return
            yield step
            self._report.stopped = self._reading.should_stop(self._report.tally)


class Pages:
    """Whole traces and odd items of an archive, on their way through judging into a store, page by page."""

    def __init__(self, archive: Archive, store: Store, reading: Reading, tally: Tally) -> None:
        self._archive = archive
        self._store = store
        self._reading = reading
        self._tally = tally
        self._neighbours: dict[str, Neighbours] = {}

    async def judge(self, traces: Iterable[Sequence[PackedSpan]]) -> str | None:
        """Judges traces, each whole; gives why it has stopped before the last one, if it has."""
        pages: dict[str, list[Span]] = {}
        for trace in traces:
            for source, span in self._archive.ordered(trace):
                pages.setdefault(source, []).append(span)
            for source in [source for source, spans in pages.items() if len(spans) >= PAGE_SPANS]:
                await self._store_page(source, pages.pop(source), [])
                stopped = self._reading.should_stop(self._tally)
                if stopped is not None:
                    return stopped
        for source, spans in sorted(pages.items()):
            await self._store_page(source, spans, [])
        return None

    async def keep(self, odd: Sequence[OddItem]) -> None:
        """Keeps what is no span as dead letters."""
        for source in sorted({source for source, _ in odd}):
            await self._store_page(source, [], [one for name, one in odd if name == source])

    async def _store_page(self, source: str, spans: Sequence[Span], rejected: Sequence[Rejected]) -> None:
        # Between two pages of one source only a trace that is judged in pieces is parted.
        neighbours = self._neighbours.setdefault(source, Neighbours())
        named = Named(source, self._archive.in_scope)
        page = Page(spans, rejected, Checkpoint(SOURCE, _NO_WINDOW))
        await store_page(named, self._store, page, neighbours, self._reading, self._tally)


@dataclass(slots=True)
class _Index:
    """The failing traces of the buckets from `begin` up to `end`, by place, and how many spans each bucket has."""

    begin: int
    end: int
    failing: set[int] = field(default_factory=set)
    counts: array[int] = field(default_factory=lambda: array("Q", bytes(8 * BUCKETS)))

    def narrow(self) -> None:
        """Leaves the latter half of the failing traces, and every one of their buckets, to another round."""
        places = sorted(self.failing)
        self.end = max(bucket_of(places[len(places) // 2]), self.begin + 1)
        self.failing = {place for place in places if bucket_of(place) < self.end}


@dataclass(slots=True)
class _HeldSpans:
    """The spans of failing traces in the buckets from `begin` up to `end`, packed. `taken_count` counts those given too."""

    begin: int
    end: int
    size_bytes: int = 0
    taken_count: int = 0
    _by_place: dict[int, list[PackedSpan]] = field(default_factory=dict)

    def take(self, entry: ArchiveEntry) -> None:
        """Takes in a span, if it is of this range."""
        if self.begin <= bucket_of(entry.place) < self.end:
            self._by_place.setdefault(entry.place, []).append((entry.place, entry.source, entry.packed))
            self.size_bytes += len(entry.packed)
            self.taken_count += 1

    def narrow(self, size_bytes: int) -> None:
        """Lets go of the last buckets, so that no more than `size_bytes` are held, or one bucket only."""
        kept_bytes = 0
        for place in sorted(self._by_place):
            bucket = bucket_of(place)
            kept_bytes += sum(len(packed) for _, _, packed in self._by_place[place])
            if kept_bytes > size_bytes:
                first = bucket_of(min(self._by_place))
                self.end = min(self.end, max(bucket, first + 1))
                break
        left = {place: found for place, found in self._by_place.items() if bucket_of(place) < self.end}
        self.taken_count -= sum(len(found) for place, found in self._by_place.items() if place not in left)
        self._by_place = left
        self.size_bytes = sum(len(packed) for found in left.values() for _, _, packed in found)

    def given(self) -> Iterator[Sequence[PackedSpan]]:
        """The spans of each trace, which are held no more."""
        for place in sorted(self._by_place):
            yield self._by_place.pop(place)
        self.size_bytes = 0
