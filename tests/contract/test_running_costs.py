"""What a run costs at Firestore's door: the counts that docs/operations.md prices a month by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from docs import prices
from evalforge.core.plans import SinceLast
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.ingest import Judge
from evalforge.runs import RunReport, run
from evalforge.stores.firestore import FirestoreStore
from tests.contract.flaky_firestore import FlakyFirestore
from tests.contract.stores import FirestorePlace
from tests.fake_source import FakeSource
from tests.orders import order

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def place(firestore_emulator: str) -> FirestorePlace:
    return FirestorePlace(firestore_emulator)


@pytest.fixture
async def door(firestore_emulator: str) -> AsyncIterator[FlakyFirestore]:
    async with FlakyFirestore(firestore_emulator) as server:
        yield server


def failing(number: int) -> Span:
    return Span(
        source="llm_obs",
        trace_id=f"{number + 1:032x}",
        trace_id_kind="llm_obs",
        span_id=str(number + 1),
        parent_id=None,
        name="handle_ticket",
        kind="workflow",
        status="error",
        start_ns=int((NOW - timedelta(minutes=5)).timestamp() * 1_000_000_000) + number,
        duration_ns=1000,
    )


async def test_a_run_reads_each_capture_once_and_writes_what_changed(door: FlakyFirestore, place: FirestorePlace) -> None:
    store = FirestoreStore(place.project, prefix="evalforge_", emulator_host=door.address)
    ring = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
    judge = Judge(Thresholds(), ring, Sanitizer(ring), "datadoghq.com", 180)

    async def counted(minutes: int, items: list[Span]) -> tuple[RunReport, int, int]:
        door.read_counts.clear()
        door.write_counts.clear()
        sources = [FakeSource(items, page_size=100), FakeSource([], name="apm")]
        now = NOW + timedelta(minutes=minutes)
        report = await run(sources, store, judge, order(SinceLast(24 * 3_600_000)), clock=lambda: now)
        assert report.complete
        return report, sum(door.read_counts), sum(door.write_counts)

    try:
        await counted(0, [])
        windows = prices.SOURCES * prices.WINDOW_WRITES
        _, reads, writes = await counted(5, [])
        assert (reads, writes) == (prices.RUN_READS, prices.RUN_WRITES + windows)
        report, reads, writes = await counted(10, [failing(number) for number in range(60)])
        assert report.tally.created == 60
        assert (reads, writes) == (prices.RUN_READS + 60, prices.RUN_WRITES + windows + 60)
        report, reads, writes = await counted(15, [failing(number) for number in range(60)])
        assert report.tally.unchanged == 60
        assert (reads, writes) == (prices.RUN_READS + 60, prices.RUN_WRITES + windows)
    finally:
        await store.close()


def test_a_five_minute_schedule_reads_each_failure_about_thirty_times() -> None:
    """288 runs a day read 65 minutes, four of them on to 32 hours, one on to 15 days: that is what prices grow with."""
    few, many = prices.month(5, 10_000), prices.month(5, 20_000)
    per_failure = (many.reads - few.reads) / (prices.DAYS * 10_000)
    days = 288 * (65 / 60) / 24 + 4 * (32 - 65 / 60) / 24 + (15 - 32 / 24)
    assert per_failure == pytest.approx(days, rel=0.01)
