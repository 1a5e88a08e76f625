"""Whatever arrives late is met: incremental runs at any times, cut at any page, over data that arrives when it likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.plans import RETENTION_MS, SinceLast
from evalforge.core.ports import Checkpoint, FoundById, Page, Reach, Selection, SourceStatus
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Evaluation, Span, TraceIdKind
from evalforge.core.window import MS_PER_HOUR, Window, datetime_of_ms, epoch_ms
from evalforge.errors import SourceUnavailableError
from evalforge.ingest import Judge
from evalforge.runs import run
from evalforge.stores.sqlite import SqliteStore
from tests.examples import examples
from tests.orders import order

BEGAN_MS = epoch_ms(datetime(2026, 11, 1, tzinfo=UTC))
LOOKBACK_MS = 24 * MS_PER_HOUR
MINUTE_MS = 60_000


@dataclass(frozen=True)
class Late:
    """A span that can be seen from `seen_ms` on, and fails from then on, or from `judged_ms` on."""

    start_ms: int
    seen_ms: int
    judged_ms: int | None = None

    @property
    def known_ms(self) -> int:
        """When it can first be known to fail."""
        return self.seen_ms if self.judged_ms is None else self.judged_ms

    def span(self, number: int, now_ms: int) -> Span | None:
        """The span as it stands at `now_ms`, if it can be seen."""
        if now_ms < self.seen_ms:
            return None
        healthy = Span(
            source="llm_obs",
            trace_id=f"{number + 1:032x}",
            trace_id_kind="llm_obs",
            span_id=str(number + 1),
            parent_id=None,
            name="handle_ticket",
            kind="workflow",
            status="error" if self.judged_ms is None else "ok",
            start_ns=self.start_ms * 1_000_000,
            duration_ns=1000,
        )
        if self.judged_ms is None or now_ms < self.judged_ms:
            return healthy
        return replace(healthy, evaluations=(Evaluation(name="tone", assessment="fail"),))


@dataclass
class LateSource:
    """Gives at `now_ms` what can be seen then, in pages of two, by time; after `pages_left` pages it breaks."""

    items: Sequence[Late]
    now_ms: int
    pages_left: int
    name: str = "llm_obs"
    status: SourceStatus = field(default_factory=lambda: SourceStatus("llm_obs", mode="scan"))
    query_digests: Mapping[Reach, str] = field(default_factory=lambda: {"all": "", "evaluated": ""})

    def in_scope(self, span: Span) -> bool:
        return True

    async def pages(
        self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all"
    ) -> AsyncGenerator[Page, None]:
        from_ms = window.from_ms
        if after is not None and not after.done and after.last_ms is not None:
            from_ms = after.last_ms
        seen = [late.span(number, self.now_ms) for number, late in enumerate(self.items)]
        held_from_ms = max(from_ms, self.now_ms - RETENTION_MS)
        inside = sorted(
            (one for one in seen if one is not None and held_from_ms <= one.start_ns // 1_000_000 < window.to_ms),
            key=lambda one: one.start_ns,
        )
        inside = [one for one in inside if reach == "all" or one.evaluations]
        for at in range(0, max(len(inside), 1), 2):
            if self.pages_left == 0:
                raise SourceUnavailableError("down")
            self.pages_left -= 1
            part = inside[at : at + 2]
            last_ms = part[-1].start_ns // 1_000_000 if part else None
            yield Page(part, [], Checkpoint(self.name, window, step="scan", last_ms=last_ms, done=at + 2 >= len(inside)))

    async def spans_before(self, window: Window, before_ms: int, limit: int) -> Sequence[Span]:
        return []

    async def roots(self, traces: Mapping[str, TraceIdKind], window: Window) -> AsyncGenerator[Sequence[Span], None]:
        for _ in ():
            yield []

    async def by_span_id(self, starts_ns: Mapping[str, int], *, before_ms: int = 0) -> AsyncGenerator[FoundById, None]:
        for _ in ():
            yield FoundById([])


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[int, int]]:
    """When runs begin, and after how many pages each breaks (-1: never)."""
    gaps = st.sampled_from([5, 30, 59, 61, 5 * 60, 7 * 60, 25 * 60, 30 * 60, 3 * 24 * 60, 8 * 24 * 60])
    times, now_ms = [], BEGAN_MS
    for gap in [0, *draw(st.lists(gaps, max_size=12))]:
        now_ms += gap * MINUTE_MS
        times.append((now_ms, draw(st.sampled_from([-1, -1, 0, 1, 2, 4]))))
    return times


@st.composite
def late_spans(draw: st.DrawFn, until_ms: int) -> list[Late]:
    """Spans that began after the first run's window did, and arrive within the overlaps."""
    found = []
    for _ in range(draw(st.integers(0, 12))):
        start_ms = draw(st.integers(BEGAN_MS - LOOKBACK_MS, until_ms))
        seen_ms = start_ms + draw(st.sampled_from([0, 10, 55, 3 * 60, 25 * 60])) * MINUTE_MS
        judged_ms = None
        if draw(st.booleans()):
            judged_ms = seen_ms + draw(st.sampled_from([3, 40, 26 * 60, 5 * 24 * 60, 13 * 24 * 60])) * MINUTE_MS
        found.append(Late(start_ms, seen_ms, judged_ms))
    return found


async def captured(items: Sequence[Late], schedule: Sequence[tuple[int, int]]) -> set[str]:
    """Which spans are stored after these runs; each capture was written once for each thing that became known."""
    ring = KeyRing((b"a-key-of-some-32-bytes-or-even-more!",))
    judge = Judge(Thresholds(), ring, Sanitizer(ring), "datadoghq.com", 180)
    store = SqliteStore(":memory:", prefix="evalforge_")
    try:
        for now_ms, pages in schedule:
            source = LateSource(items, now_ms, pages)
            await run([source], store, judge, order(SinceLast(LOOKBACK_MS)), clock=partial(datetime_of_ms, now_ms))
        now = datetime_of_ms(schedule[-1][0])
        documents = [stored.document async for stored in store.select(Selection(), now=now)]
        return {occurrence["span_id"] for document in documents for occurrence in document["occurrences"]}
    finally:
        await store.close()


@examples(60)
@given(st.data())
def test_whatever_arrives_within_the_overlaps_is_captured_in_the_end(data: st.DataObject) -> None:
    schedule = data.draw(schedules())
    last_ms = schedule[-1][0]
    # A run that ends well for each tier; what became known before it began is promised.
    ending = [(last_ms + MINUTE_MS, -1), (last_ms + 25 * MS_PER_HOUR, -1)]
    items = data.draw(late_spans(last_ms))
    found = asyncio.run(captured(items, [*schedule, *ending]))
    held_from_ms = ending[-1][0] - RETENTION_MS
    promised = {
        str(number + 1)
        for number, late in enumerate(items)
        if late.known_ms <= ending[0][0] and late.start_ms >= held_from_ms
    }
    assert promised <= found
    assert found <= {str(number + 1) for number, late in enumerate(items) if late.known_ms <= ending[-1][0]}


def test_the_overlaps_are_those_of_the_specification() -> None:
    """A five-minute schedule over a day: an hour each time, 26 hours four times, 15 days once, of evaluated spans only."""
    plan, read = SinceLast(LOOKBACK_MS), []
    checkpoints: dict[str, Checkpoint] = {}
    for minutes in range(0, 24 * 60 + 5, 5):
        now_ms = BEGAN_MS + minutes * MINUTE_MS
        for due in plan.due(checkpoints, now_ms):
            last = Window(now_ms - 1, now_ms)
            for window, after in due.windows:
                assert after is None
                read.append((minutes, due.tier.name, due.tier.reach, (now_ms - window.from_ms) / MS_PER_HOUR))
                last = window
            checkpoints[due.tier.name] = Checkpoint("x", last, done=True, tier=due.tier.name, began_ms=due.began_ms)
    recent = [hours for minutes, tier, _, hours in read if tier == "recent" and minutes]
    assert {round(hours * 60) for hours in recent} == {65}
    assert len(recent) == 24 * 12
    assert [(minutes / 60, hours) for minutes, tier, _, hours in read if tier == "day"] == [
        (6, 32),
        (12, 32),
        (18, 32),
        (24, 32),
    ]
    assert [(minutes / 60, reach, hours) for minutes, tier, reach, hours in read if tier == "fortnight"] == [
        (24, "evaluated", 15 * 24)
    ]


def test_a_first_reading_that_several_runs_finish_is_where_the_later_tiers_begin() -> None:
    late = Late(BEGAN_MS - LOOKBACK_MS, BEGAN_MS + MS_PER_HOUR)
    broken = [(0, 0), (5, 0), (10, 1), (310, 1), (315, -1), (316, -1), (315 + 25 * 60, -1)]
    schedule = [(BEGAN_MS + minutes * MINUTE_MS, pages) for minutes, pages in broken]
    assert asyncio.run(captured([late], schedule)) == {"1"}
