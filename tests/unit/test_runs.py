"""A run: the lease, the windows that are due, the budget, the hashing keys, errors, and a report whose counts balance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge.core.plans import AskedWindow, Plan, SinceLast
from evalforge.core.ports import COLLECTIONS, Lease, Rejected, RunRecord, Selection, StoredDocument
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Evaluation, Span
from evalforge.core.window import Window
from evalforge.errors import (
    QuotaExhaustedError,
    RunInProgressError,
    SourceRefusedError,
    SourceUnavailableError,
    StoreError,
)
from evalforge.ingest import Judge
from evalforge.rehearsal import Rehearsal
from evalforge.runs import LEASE_NAME, Budget, RunReport, run, runs_shown
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import GENEROUS, order

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WINDOW = Window.last_hours(24, NOW)
KEY_A, KEY_B = b"a-first-key-of-some-32-bytes-or-more!", b"the-second-key-of-32-bytes-or-so-more"


def span(number: int, *, hours_ago: float = 1, status: str = "error", trace: int | None = None, **fields: Any) -> Span:
    return Span(
        source="llm_obs",
        trace_id=f"6b03dc78{trace if trace is not None else number:024x}",
        trace_id_kind="llm_obs",
        span_id=str(10_000 + number),
        parent_id=None,
        name="handle_ticket",
        kind="workflow",
        status=status,
        start_ns=int((NOW - timedelta(hours=hours_ago)).timestamp() * 1_000_000_000) + number,
        duration_ns=1000,
        **fields,
    )


def judge(*keys: bytes) -> Judge:
    ring = KeyRing(keys)
    return Judge(Thresholds(), ring, Sanitizer(ring), "datadoghq.com", 180)


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def go(
    store: SqliteStore,
    *sources: FakeSource,
    window: Window | Plan = WINDOW,
    budget: Budget = GENEROUS,
    keys: tuple[bytes, ...] = (KEY_A,),
    now: datetime = NOW,
) -> RunReport:
    return await run(sources, store, judge(*keys), order(window, budget), clock=lambda: now)


async def test_counts_balance_and_a_second_run_changes_nothing(store: SqliteStore) -> None:
    items: list[Span | Rejected] = [
        span(1),
        span(2, status="ok"),
        Rejected("missing_trace_id", {"id": "secret text"}),
        span(3, trace=1),
        span(4),
    ]
    first = await go(store, FakeSource(items))
    tally = first.tally
    assert (tally.fetched, tally.healthy, tally.failing, tally.rejected) == (5, 1, 3, 1)
    assert (tally.created, tally.updated, tally.unchanged, tally.refused) == (2, 1, 0, 0)
    assert first.complete
    assert first.error is None
    assert dict(tally.by_type) == {"execution_error": 2}
    before = [dict(stored.document) async for stored in store.select(Selection(), now=NOW)]
    second = await go(store, FakeSource(items), now=NOW + timedelta(minutes=5))
    assert (second.tally.created, second.tally.updated, second.tally.unchanged) == (0, 0, 3)
    assert [dict(stored.document) async for stored in store.select(Selection(), now=NOW)] == before
    assert await store.dead_letter_count(now=NOW) == 1
    assert await store.count(now=NOW) == 2


async def test_a_run_that_stops_early_keeps_its_place_and_the_next_goes_on(store: SqliteStore) -> None:
    items = [span(number, hours_ago=10 - number) for number in range(6)]
    stopped = await go(store, FakeSource(items), budget=Budget(seconds=60, max_captures=2))
    assert stopped.incomplete_because == ["cap"]
    assert await store.count(now=NOW) == 2
    later = NOW + timedelta(hours=1)
    source = FakeSource([*items, span(99, hours_ago=-0.5)])
    report = await go(store, source, window=Window.last_hours(24, later), now=later)
    assert report.complete
    assert [window for window, _ in source.asked] == [WINDOW, Window(WINDOW.to_ms, WINDOW.to_ms + 3_600_000)]
    assert source.asked[0][1] is not None
    assert source.asked[0][1].cursor == "2"
    assert report.tally.fetched == 5, "what was stored is not read again"
    assert await store.count(now=later) == 7


@pytest.mark.parametrize(
    ("budget", "reason"),
    [(Budget(0, 1000), "time_budget"), (Budget(60, 1), "cap"), (Budget(60, 1000, lambda: True), "stopped")],
)
async def test_every_bound_stops_at_a_page_and_says_so(store: SqliteStore, budget: Budget, reason: str) -> None:
    report = await go(store, FakeSource([span(1), span(2), span(3)]), FakeSource([span(9)], name="apm"), budget=budget)
    assert report.incomplete_because == [reason]
    assert report.tally.fetched == 2
    assert report.document()["incomplete_because"][0]["meaning"]


async def test_a_bound_that_is_met_by_the_last_page_does_not_make_the_run_incomplete(store: SqliteStore) -> None:
    assert (await go(store, FakeSource([span(1)]), budget=Budget(60, 1))).complete


async def test_only_one_run_at_a_time(store: SqliteStore) -> None:
    held = Lease(LEASE_NAME, "somebody else", "token", NOW, NOW + timedelta(seconds=60))
    assert (await store.acquire_lease(held, now=NOW)).token == "token"
    with pytest.raises(RunInProgressError, match="somebody else") as caught:
        await go(store, FakeSource([span(1)]))
    assert caught.value.since == "2026-11-23T12:00:00.000Z"
    assert (await go(store, FakeSource([span(1)]), now=NOW + timedelta(seconds=61))).complete, "a dead holder's lease ends"
    assert (await go(store, FakeSource([span(1)]))).complete, "a finished run gives it back"


async def test_a_ring_without_a_key_in_use_stops_the_run_and_names_both(store: SqliteStore) -> None:
    items = [span(1, tags=(("user.id", "u-1"),))]
    await go(store, FakeSource(items), keys=(KEY_A,))
    for keys in ((KEY_B,), ()):
        with pytest.raises(StoreError, match="PII_SALT") as caught:
            await go(store, FakeSource(items), keys=keys)
        assert KeyRing((KEY_A,)).key_ids[0] in caught.value.message
    assert (await go(store, FakeSource(items), keys=(KEY_B, KEY_A))).complete
    assert await store.known_key_ids() == set(KeyRing((KEY_A, KEY_B)).key_ids)


async def test_without_a_key_the_report_says_what_one_would_give(store: SqliteStore) -> None:
    report = (await go(store, FakeSource([span(1)]), keys=())).document()
    assert report["user_hash"]["enabled"] is False
    assert "PII_SALT" in report["user_hash"]["hint"]


@pytest.mark.parametrize(
    ("error", "status", "goes_on"),
    [
        (QuotaExhaustedError("quota", retry_after_s=900), 429, True),
        (SourceUnavailableError("down"), 502, False),
        (SourceRefusedError("no"), 502, False),
    ],
)
async def test_an_error_keeps_what_is_stored_and_the_place(
    store: SqliteStore, error: Any, status: int, goes_on: bool
) -> None:
    items = [span(number) for number in range(5)]
    other = FakeSource([span(50)], name="apm")
    report = await go(store, FakeSource(items, error=error, fail_after=1), other)
    assert report.error is not None
    assert report.error["http_status"] == status
    assert report.incomplete_because == ["error"]
    assert bool(other.asked) == goes_on
    assert report.tally.fetched == (3 if goes_on else 2)
    healed = await go(store, FakeSource(items), other)
    assert healed.error is None
    assert healed.complete
    assert await store.count(now=NOW) == 6


async def test_gaps_partial_pages_and_query_mode_make_a_report_incomplete(store: SqliteStore) -> None:
    source = FakeSource([span(1)])
    source.status.filter_gaps.append("evaluation.odd")
    source.status.partial = True
    source.status.mode = "query"
    report = await go(store, source)
    assert set(report.incomplete_because) == {"partial", "filter_gaps", "query_mode"}
    assert report.document()["filter_gaps"] == ["evaluation.odd"]


async def test_spans_of_experiments_are_never_failures(store: SqliteStore) -> None:
    odd = Span(**{**{name: getattr(span(1), name) for name in Span.__slots__}, "kind": "experiment"})
    report = await go(store, FakeSource([odd]))
    assert (report.tally.healthy, report.tally.failing) == (1, 0)


async def test_runs_that_die_before_their_first_page_are_finished_by_the_next(store: SqliteStore) -> None:
    items = [span(number, hours_ago=2.5) for number in range(4)] + [span(9, hours_ago=0.5)]
    hour = timedelta(hours=1)
    broken = FakeSource(items, error=SourceUnavailableError("down"), fail_after=0)
    for began in (NOW - 2 * hour, NOW - hour):
        report = await go(store, broken, window=AskedWindow(Window.last_hours(1, began), reads_on=True), now=began)
        assert (report.complete, report.errors_by_code) == (False, {"source_unavailable": 1})
    whole = FakeSource(items)
    report = await go(store, whole, window=AskedWindow(Window.last_hours(1, NOW), reads_on=True), now=NOW)
    assert report.complete
    three = Window.last_hours(3, NOW)
    assert [window for window, _ in whole.asked] == [
        Window(three.from_ms, three.from_ms + 3_600_000),
        Window.last_hours(2, NOW),
    ]
    assert await store.count(now=NOW) == 5


async def test_a_schedule_that_was_down_for_a_month_says_what_is_gone(store: SqliteStore) -> None:
    month_ago = NOW - timedelta(days=30)
    first = await go(store, FakeSource([]), window=SinceLast(24 * 3_600_000), now=month_ago)
    assert first.complete
    report = await go(store, FakeSource([span(1, hours_ago=14 * 24)]), window=SinceLast(24 * 3_600_000))
    assert report.incomplete_because == ["gone"]
    document = report.document()
    assert document["gone"] == [{"source": "llm_obs", "from": "2026-10-24T12:00:00.000Z", "to": "2026-11-08T12:00:00.000Z"}]
    assert await store.count(now=NOW) == 1
    again = await go(store, FakeSource([]), window=SinceLast(24 * 3_600_000), now=NOW + timedelta(minutes=5))
    assert again.complete, "it is said once"


async def test_the_report_says_which_tiers_ran(store: SqliteStore) -> None:
    plan = SinceLast(24 * 3_600_000)
    tiers = []
    for minutes in (0, 5, 6 * 60 + 5, 24 * 60 + 10):
        report = await go(store, FakeSource([]), window=plan, now=NOW + timedelta(minutes=minutes))
        tiers.append([reading["tier"] for reading in report.document()["readings"] if reading["windows"]])
        assert all(reading["finished"] for reading in report.document()["readings"])
    assert tiers == [["recent"], ["recent"], ["recent", "day"], ["recent", "day", "fortnight"]]


async def test_the_history_says_what_ran_and_who_died(store: SqliteStore) -> None:
    ended = await go(store, FakeSource([span(1)]))
    died = RunRecord("run_2", "running", "window", "somebody", "somebody", NOW, NOW + timedelta(days=30))
    await store.save_run(died)
    shown = await runs_shown(store, await store.recent_runs(limit=10, now=NOW), NOW)
    states = {one["run_id"]: one["state"] for one in shown}
    assert states == {ended.run_id: "complete", "run_2": "abandoned"}
    (record,) = [one for one in shown if one["run_id"] == ended.run_id]
    assert (record["asked_by"], record["report"]) == ("a tester", ended.document())
    lease = Lease(LEASE_NAME, "somebody", "token", NOW, NOW + timedelta(seconds=60))
    await store.acquire_lease(lease, now=NOW)
    (running,) = await runs_shown(store, [died], NOW)
    assert running["state"] == "running"


async def test_a_dry_run_judges_everything_and_writes_nothing(store: SqliteStore) -> None:
    await go(store, FakeSource([span(1), span(2)]))
    before = await everything(store)
    secret = "jane.doe@example.com"
    items = [
        span(1),
        span(2, status="ok", evaluations=(Evaluation("tone", assessment="fail"),)),
        span(3, tags=(("user.email", secret),)),
    ]
    items += [span(4, trace=3), span(5, status="ok")]
    request = order(WINDOW, rehearsal=True)
    report = await run(
        [FakeSource([*items, Rejected("no_ids", {})])], Rehearsal(store), judge(KEY_A), request, clock=lambda: NOW
    )
    assert await everything(store) == before
    document = report.document()
    assert document["dry_run"] is True
    assert document["items"] == {"fetched": 6, "healthy": 1, "failing": 4, "rejected": 1}
    rehearsal = document["rehearsal"]
    assert rehearsal["captures_by_signal"] == {"evaluation_failure": 1, "execution_error": 2}
    assert rehearsal["would_create"] == {"count": 1, "trace_ids": [span(3).trace_id]}
    assert rehearsal["would_update"] == {"count": 1, "trace_ids": [span(2).trace_id]}
    assert {example["failure_type"] for example in rehearsal["examples"]} == {"execution_error", "evaluation_failure"}
    assert secret not in str(document)
    assert document["errors_by_code"] == {"no_ids": 1}


async def everything(store: SqliteStore) -> list[StoredDocument]:
    return [stored for collection in COLLECTIONS async for stored in store.documents(collection)]


async def test_a_dry_run_can_do_nothing_that_a_run_does_not_need(store: SqliteStore) -> None:
    with pytest.raises(NotImplementedError, match="purge"):
        await Rehearsal(store).purge()
