"""The completeness audit: a window is read without any query, and whatever the present query would have missed is captured.

Page by page, so that memory does not grow with the window: the spans of a page that fail by the rules are asked for once
more over the page's own stretch of time, as a run's query would. What does not come back was missed. It is at hand, so it is
captured by the same path as a run's spans; what the query lacks is learned for the runs to come, and the report names it
clause by clause. The page is read before the query is asked: what arrives in between cannot look as if it was missed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Protocol

from evalforge.core.capture import evaluator_in
from evalforge.core.plans import TIER_NAMES, learned_by
from evalforge.core.ports import Checkpoint, Page, Source, SourceStatus, Store, UpsertResult
from evalforge.core.privacy import Neighbours
from evalforge.core.signals import Signal, find_signals
from evalforge.core.span import Json, Span, newest_start_ms
from evalforge.core.window import MS_PER_HOUR, Window, epoch_ms, iso_ms
from evalforge.erasure import Guard
from evalforge.errors import RunInProgressError
from evalforge.events import emit
from evalforge.ingest import Judge, Reading, Tally, store_page
from evalforge.runs import check_keys, held_lease, new_run_id

MAX_PIECES = 24
"""A window is compared in at most so many pieces, each of an hour or more: after each, all sources have come equally far."""

MAX_CLAUSES = 1_000
"""How many clauses a report keeps apart; what comes after them is counted under `[other]`."""

MAX_TRACES = 100_000
"""How many traces are told apart over all clauses; beyond that a clause's count of traces is a floor."""

MAX_RECENT = 20_000
"""How many failing spans are remembered, by id only, so that one which Datadog gives again is not counted again."""

MAX_LESSONS = 300
"""How much one audit adds to what a source's query asks for."""

OTHER = "[other]"

REMEDIES = {
    "learned": "the next run's query asks for it",
    "learnable": "nothing was ingested yet that could remember it: run `evalforge ingest`, then this audit again",
    "scan": "no query finds it: DATADOG_FILTER=scan",
    "unprintable": "no query can ask for such a name: rename the evaluator, or DATADOG_FILTER=scan",
}
"""What would make the query see the failures of a clause, by code."""

Key = tuple[str, str]
"""Trace id and span id."""

Failing = dict[Key, tuple[Signal, ...]]


class Asked(Source, Protocol):
    """A source that is read through a query, and can say what the query lacks."""

    def next_to_learn(self, place: str, learned: Collection[str]) -> str | None:
        """The entry to add to `learned` so that the query may find more failures at this place; None when there is none.

        An entry that is the place itself has the effect of naming the evaluator in EVALUATIONS.
        """
        ...

    def shown_place(self, place: str) -> str:
        """The place as a report may show it."""
        ...


@dataclass(frozen=True, slots=True)
class Pair:
    """The same source twice, under the same settings: read whole, and read through its query."""

    scan: Source
    query: Asked


@dataclass(slots=True)
class Clause:
    """What the query lacks: a place where failing spans were missed, with the signal that made them fail there.

    `observed` is the kind of value that was met first, such as "text" or "number". Of the `span_count` spans `open_count`
    are missed even after everything was learned that can be. `evaluator` is the name to ask for, where there is one;
    `by_name_only` says that asking for the name is all that was learned, `is_remembered` that runs to come know it.
    """

    source: str
    place: str
    signal: str
    comparison: str
    observed: str
    evaluator: str | None = None
    is_askable: bool = True
    span_count: int = 0
    open_count: int = 0
    traces: set[str] = field(default_factory=set, repr=False)
    traces_are_floor: bool = False
    by_name_only: bool = True
    is_remembered: bool = True

    @property
    def remedy(self) -> str:
        """The code of what would make the query see it."""
        if not self.is_askable:
            return "unprintable"
        if self.open_count:
            return "scan"
        return "learned" if self.is_remembered else "learnable"

    @property
    def setting(self) -> str | None:
        """The setting that has the same effect wherever it is set, if there is one."""
        if self.evaluator is None or not self.by_name_only or self.open_count:
            return None
        return None if "," in self.evaluator or self.evaluator.strip() != self.evaluator else f"EVALUATIONS={self.evaluator}"

    def document(self) -> dict[str, Any]:
        """The clause as plain JSON values; no text of any span."""
        return {
            "source": self.source,
            "place": self.place,
            "signal": self.signal,
            "comparison": self.comparison,
            "observed": self.observed,
            "spans": self.span_count,
            "traces": len(self.traces),
            "traces_are_floor": self.traces_are_floor,
            "still_missed": self.open_count,
            "remedy": {"code": self.remedy, "meaning": REMEDIES[self.remedy], "setting": self.setting},
        }


@dataclass(slots=True)
class Compared:
    """What came of one source: how many spans were read, repeats too, how many fail by the rules, each once, and how many of
    these the query missed.

    `arrived` spans fail as well but came through the query alone: they, or what makes them fail, arrived after the page
    was read; the next run has them.
    """

    scan: SourceStatus
    query: SourceStatus
    read: int = 0
    failing: int = 0
    missed: int = 0
    arrived: int = 0

    @property
    def is_partial(self) -> bool:
        """Whether Datadog's answers stayed incomplete, so that something may be told wrongly, or not at all."""
        return self.scan.partial or self.query.partial

    def document(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "name": self.scan.name,
            "read": self.read,
            "failing": self.failing,
            "found": self.failing - self.missed,
            "missed": self.missed,
            "arrived_meanwhile": self.arrived,
            "partial": self.is_partial,
            "skipped": self.scan.skipped,
            "query_replaced": self.query.mode == "scan",
            "request_count": self.scan.request_count + self.query.request_count,
            "warnings": self.scan.warnings,
        }


@dataclass(slots=True)
class CompletenessReport:
    """What an audit of completeness saw and did; it is filled while the audit goes on, so that an end by error has one too.

    `position` is up to where (epoch milliseconds) all sources are compared. `learned` is what was added to the queries.
    """

    window: Window
    run_id: str = ""
    position_ms: int | None = None
    tally: Tally = field(default_factory=Tally)
    sources: list[Compared] = field(default_factory=list)
    clauses: dict[tuple[str, str, str], Clause] = field(default_factory=dict)
    learned: list[str] = field(default_factory=list)
    trace_room: int = MAX_TRACES

    @property
    def missed(self) -> int:
        """How many failing spans the query missed."""
        return sum(source.missed for source in self.sources)

    @property
    def is_partial(self) -> bool:
        """Whether Datadog gave incomplete answers to the end."""
        return any(source.is_partial for source in self.sources)

    @property
    def is_complete(self) -> bool:
        """Whether the whole window was compared and the query missed nothing."""
        return self.position_ms == self.window.to_ms and not self.missed and not self.is_partial

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values; the greatest clauses first."""
        clauses = sorted(self.clauses.values(), key=lambda one: (-one.span_count, one.source, one.place, one.signal))
        tally = self.tally
        return {
            "run_id": self.run_id,
            "window": {"from": iso_ms(self.window.from_ms), "to": iso_ms(self.window.to_ms)},
            "compared_to": None if self.position_ms is None else iso_ms(self.position_ms),
            "complete": self.is_complete,
            "partial": self.is_partial,
            "missed": self.missed,
            "sources": [source.document() for source in self.sources],
            "captures": {
                "created": tally.created,
                "updated": tally.updated,
                "unchanged": tally.unchanged,
                "refused": tally.refused,
                "kept_out": tally.kept_out,
            },
            "rejected": tally.rejected,
            "clauses": [clause.document() for clause in clauses],
            "learned": self.learned,
        }


async def audit_completeness(
    pairs: Sequence[Pair],
    store: Store,
    judge: Judge,
    *,
    report: CompletenessReport,
    holder: str,
    clock: Callable[[], datetime],
    on_progress: Callable[[CompletenessReport], None] = lambda report: None,
) -> CompletenessReport:
    """Reads the report's window without a query, captures what the present query misses, and fills `report` as it goes.

    Holds the run lease. Whatever ends it early: what was captured and learned stays, and an audit from the report's
    position on goes on from there. Costs a page for each 5,000 spans or 6 MB, once more as many requests for the pages that
    hold a failing span, and some for those with a missed one.

    Raises:
        RunInProgressError: a run holds the lease, or took it meanwhile.
        StoreError: the hashing keys do not match those that stored hashes were made with.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError, StoreUnavailableError
    """
    report.run_id = new_run_id(clock)
    async with held_lease(store, holder, report.run_id, clock) as lease:
        await check_keys(store, judge.ring)
        guard = await Guard.opened(store, judge.ring, run_id=report.run_id, clock=clock)

        def stored(page: Page, result: UpsertResult) -> None:
            if lease.is_lost:
                raise RunInProgressError("another run, which took over from this audit", iso_ms(epoch_ms(clock())))
            on_progress(report)

        reading = Reading(report.run_id, judge, guard, clock, lambda tally: None, fence=lease.fence, on_page=stored)
        comparisons = [await _Comparison.begun(pair, store, reading, report) for pair in pairs]
        for piece in pieces(report.window):
            for comparison in comparisons:
                await comparison.compare(piece)
            report.position_ms = piece.to_ms
            on_progress(report)
    _emit_summary(report)
    return report


def pieces(window: Window) -> Iterator[Window]:
    """The window in at most `MAX_PIECES` pieces of an hour or more, the last one perhaps of less, in order."""
    length_ms = max(MS_PER_HOUR, -(-window.duration_ms // MAX_PIECES))
    for from_ms in range(window.from_ms, window.to_ms, length_ms):
        yield Window(from_ms, min(from_ms + length_ms, window.to_ms))


@dataclass(slots=True)
class _Comparison:
    """One source being compared. `present` is what stored checkpoints have learned, `lessons` what this audit adds."""

    pair: Pair
    store: Store
    reading: Reading
    report: CompletenessReport
    counts: Compared
    present: tuple[str, ...]
    is_remembered: bool
    lessons: dict[str, None] = field(default_factory=dict)
    recent: dict[Key, None] = field(default_factory=dict)
    neighbours: Neighbours = field(default_factory=Neighbours)

    @classmethod
    async def begun(cls, pair: Pair, store: Store, reading: Reading, report: CompletenessReport) -> _Comparison:
        """A comparison with what has been learned up to now; its counts are in the report."""
        counts = Compared(pair.scan.status, pair.query.status)
        report.sources.append(counts)
        checkpoints = await store.load_checkpoints(pair.scan.name, TIER_NAMES)
        return cls(pair, store, reading, report, counts, learned_by(checkpoints.values()), bool(checkpoints))

    async def compare(self, piece: Window) -> None:
        """Compares one piece of the window."""
        begin_ms = piece.from_ms
        async with aclosing(self.pair.scan.pages(piece)) as pages:
            async for page in pages:
                # Each stretch begins where the one before ended, whatever the clocks of spans say; after a page that is to
                # be asked for again, where that one began.
                place = page.checkpoint
                newest_ms = None if place.done else newest_start_ms(page.spans, piece, place.last_ms)
                end_ms = piece.to_ms if newest_ms is None else max(newest_ms, begin_ms) + 1
                await self._compare_page(page, Window(begin_ms, end_ms))
                begin_ms = begin_ms if place.done or place.last_ms is None else max(place.last_ms, begin_ms)

    async def _compare_page(self, page: Page, stretch: Window) -> None:
        failing, odd = self._judged(page.spans)
        missed = await self._missed(page, stretch, failing) if failing else {}
        await store_page(
            self.pair.scan,
            self.store,
            page,
            self.neighbours,
            self.reading,
            self.report.tally,
            in_scope=lambda span: _key(span) in missed or _key(span) in odd,
        )
        fresh = self._fresh(failing)
        self.counts.read += page.item_count
        self.counts.failing += len(fresh)
        self.counts.missed += len(fresh & missed.keys())
        if missed:
            await self._learn(missed, self._noted(missed, fresh), fresh, stretch)

    def _fresh(self, failing: Failing) -> set[Key]:
        """Those that no page before had: after a fault Datadog gives spans again."""
        fresh = {key for key in failing if key not in self.recent}
        self.recent |= dict.fromkeys(fresh)
        for key in list(islice(self.recent, max(0, len(self.recent) - MAX_RECENT))):
            del self.recent[key]
        return fresh

    def _judged(self, spans: Sequence[Span]) -> tuple[Failing, set[Key]]:
        """The spans that fail by the rules, and those that no rule can judge: the pipeline makes dead letters of these."""
        failing: Failing = {}
        odd: set[Key] = set()
        for span in spans:
            try:
                signals = self._signals(span)
            except Exception:  # noqa: BLE001 - a span that nobody foresaw must not end the audit
                odd.add(_key(span))
            else:
                if signals:
                    failing[_key(span)] = signals
        return failing, odd

    def _signals(self, span: Span) -> tuple[Signal, ...]:
        return find_signals(span, self.reading.judge.thresholds) if self.pair.scan.in_scope(span) else ()

    async def _missed(self, page: Page, stretch: Window, failing: Failing) -> Failing:
        """Those of the page's failing spans that the present query does not find; counts what only the query has."""
        missed = dict(failing)
        own = {_key(span) for span in page.spans}
        arrived: set[Key] = set()
        async for span in self._asked(stretch, self.present):
            key = _key(span)
            missed.pop(key, None)
            # At the edges the query may give what belongs to the page before, or to the next one.
            is_inside = stretch.from_ms < span.start_ns // 1_000_000 < stretch.to_ms - 1
            if key not in failing and (key in own or is_inside) and self._judged([span])[0]:
                arrived.add(key)
        self.counts.arrived += len(arrived)
        return missed

    async def _asked(self, stretch: Window, learned: tuple[str, ...]) -> AsyncIterator[Span]:
        after = Checkpoint(self.pair.query.name, stretch, learned=learned, done=True)
        async with aclosing(self.pair.query.pages(stretch, after)) as pages:
            async for page in pages:
                for span in page.spans:
                    yield span

    def _noted(self, missed: Failing, fresh: Collection[Key]) -> dict[Key, dict[str, Clause]]:
        """The clauses of each missed span by place; fresh spans are counted under each of theirs."""
        noted: dict[Key, dict[str, Clause]] = {}
        for key, signals in missed.items():
            noted[key] = {signal.place: self._clause(signal) for signal in signals}
            for clause in noted[key].values() if key in fresh else ():
                clause.span_count += 1
                if key[0] in clause.traces:
                    continue
                if self.report.trace_room:
                    self.report.trace_room -= 1
                    clause.traces.add(key[0])
                else:
                    clause.traces_are_floor = True
        return noted

    def _clause(self, signal: Signal) -> Clause:
        query, clauses = self.pair.query, self.report.clauses
        place = query.shown_place(signal.place)
        key = (query.name, place, signal.type.value)
        if key not in clauses and len(clauses) >= MAX_CLAUSES:
            place = OTHER
            key = (query.name, OTHER, signal.type.value)
        if key not in clauses:
            is_askable = query.next_to_learn(signal.place, ()) is not None
            clauses[key] = Clause(
                *key,
                comparison=signal.comparison,
                observed=kind_of(signal.observed),
                evaluator=None if place == OTHER or not is_askable else evaluator_in(place),
                is_askable=is_askable,
                is_remembered=self.is_remembered,
            )
        return clauses[key]

    async def _learn(
        self, missed: Failing, clauses: Mapping[Key, Mapping[str, Clause]], fresh: Collection[Key], stretch: Window
    ) -> None:
        """Learns what the query lacks, step by step until it finds the missed spans or there is nothing left to learn."""
        known = len(self.lessons)
        left = await self._still_missed(missed, stretch) if self.lessons else dict(missed)
        while left:
            learned = [*self.present, *self.lessons]
            lessons: dict[str, None] = {}
            for key in left:
                for place, clause in clauses[key].items():
                    entry = self.pair.query.next_to_learn(place, learned)
                    if entry is not None and len(self.lessons) + len(lessons) < MAX_LESSONS:
                        lessons[entry] = None
                        clause.by_name_only &= entry == place
            if not lessons:
                break
            self.lessons |= lessons
            left = await self._still_missed(left, stretch)
        for key in left.keys() & fresh:
            for clause in clauses[key].values():
                clause.open_count += 1
        if len(self.lessons) > known:
            await self._remember()

    async def _still_missed(self, missed: Failing, stretch: Window) -> Failing:
        left = dict(missed)
        async for span in self._asked(stretch, (*self.present, *self.lessons)):
            left.pop(_key(span), None)
        return left

    async def _remember(self) -> None:
        """Adds the lessons to every stored checkpoint of the source: one of its own would look like a run's."""
        checkpoints = await self.store.load_checkpoints(self.pair.scan.name, TIER_NAMES)
        for checkpoint in checkpoints.values():
            new = [entry for entry in self.lessons if entry not in checkpoint.learned]
            wiser = replace(checkpoint, learned=(*checkpoint.learned, *new))
            if not await self.store.save_checkpoint(wiser, fence=self.reading.fence):
                continue  # of a run that took over: it learns by its own samples
            told = (f"{self.pair.query.name}: {self.pair.query.shown_place(entry)}" for entry in new)
            self.report.learned.extend(one for one in told if one not in self.report.learned)


def kind_of(value: Json) -> str:
    """What kind of value was observed, and nothing of the value."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "number"
    return "text" if isinstance(value, str) else "list" if isinstance(value, (list, tuple)) else "object"


def _key(span: Span) -> Key:
    return span.trace_id, span.span_id


def _emit_summary(report: CompletenessReport) -> None:
    emit(
        "completeness.audited",
        run_id=report.run_id,
        window=str(report.window),
        complete=report.is_complete,
        fetched=sum(source.read for source in report.sources),
        failing=sum(source.failing for source in report.sources),
        missed=report.missed,
        arrived=sum(source.arrived for source in report.sources),
        created=report.tally.created,
        updated=report.tally.updated,
        request_count=sum(source.document()["request_count"] for source in report.sources),
    )
