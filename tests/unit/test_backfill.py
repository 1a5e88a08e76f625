"""A backfill: slices that keep their places, whatever ends it; what counts as read; quotas that are waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from evalforge.core.plans import RETENTION_MS
from evalforge.core.ports import Coverage, Lease, Selection
from evalforge.core.slices import SLOT_TIERS
from evalforge.core.window import Window, epoch_ms
from evalforge.errors import (
    QuotaExhaustedError,
    RequestError,
    RunInProgressError,
    SourceRefusedError,
    SourceUnavailableError,
    StoreUnavailableError,
)
from evalforge.runs import (
    BACKFILL_LEASE_NAME,
    LEASE_NAME,
    BackfillOrder,
    BackfillProgress,
    RunReport,
    backfill,
    run,
    runs_shown,
)
from evalforge.stores.sqlite import SqliteStore
from tests.backfills import HOUR_MS, JUDGE, NOW, WINDOW, CountingSource, KilledError, Mortal, covered, failing, go, spread
from tests.orders import order


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def backfilled(store: SqliteStore, **ports: Any) -> RunReport:
    order = BackfillOrder(WINDOW, HOUR_MS, 1, "test", "a tester", "scan")
    return await backfill([CountingSource(spread(3))], store, JUDGE, order, **ports)


async def trace_ids(store: SqliteStore) -> list[str]:
    return sorted([stored.capture.trace_id async for stored in store.select(Selection(), now=NOW)])


@pytest.mark.parametrize("workers", [1, 3, 8])
async def test_every_slice_is_read_once_and_the_report_and_history_say_so(store: SqliteStore, workers: int) -> None:
    sources = CountingSource(spread(20)), CountingSource(spread(3), name="apm")
    report = await go(store, *sources, workers=workers)
    document = report.document()
    assert (report.complete, report.error, report.tally.fetched, report.tally.failing) == (True, None, 23, 23)
    assert (report.tally.created, report.tally.updated + report.tally.unchanged) == (20, 3)
    assert all(set(source.given.values()) == {1} for source in sources)
    assert document["plan"] == "backfill"
    told = document["backfill"]
    assert (told["slices"], told["done"], told["slice_s"], told["workers"], told["again"]) == (12, 12, 3600, workers, None)
    assert [(one["source"], one["slices"], one["left"]) for one in told["sources"]] == [("llm_obs", 6, []), ("apm", 6, [])]
    (record,) = await store.recent_runs(limit=5, now=NOW)
    assert (record.id, record.plan, record.state) == (report.run_id, "backfill", "complete")
    assert record.report["backfill"]["done"] == 12
    assert list(await covered(store)) == []


async def test_a_finished_window_is_read_anew_and_changes_nothing(store: SqliteStore) -> None:
    await go(store, CountingSource(spread(9)))
    source = CountingSource([*spread(9), failing(99, WINDOW.from_ms + 5)])
    report = await go(store, source, later=timedelta(hours=1))
    assert (report.tally.fetched, report.tally.created, report.tally.unchanged) == (10, 1, 9)


async def test_a_trace_over_the_edge_of_two_slices_is_one_capture(store: SqliteStore) -> None:
    edge = WINDOW.from_ms + HOUR_MS
    items = [failing(n, edge - 2 + n, trace=7) for n in range(4)]
    report = await go(store, CountingSource(items), workers=2)
    (stored,) = [stored async for stored in store.select(Selection(), now=NOW)]
    assert stored.capture.recurrence_count == 4
    assert (report.tally.created, report.tally.created + report.tally.updated) == (1, 2)


@pytest.mark.parametrize("dies_at", range(13))
async def test_killed_between_any_two_pages_it_goes_on_there(store: SqliteStore, dies_at: int) -> None:
    items = spread(18)  # three in an hour: two pages each
    source = CountingSource(items, dies_at=dies_at)
    if dies_at < 12:
        with pytest.raises(KilledError):
            await go(store, source)
    report = await go(store, source, later=timedelta(minutes=2))
    assert report.complete
    assert set(source.given.values()) == {1}, "nothing is read twice"
    assert await trace_ids(store) == sorted(one.trace_id for one in items)
    told = report.document()["backfill"]
    assert (told["done"], told["slices"]) == (6, 6)
    assert told["sources"][0]["known"] == (dies_at // 2 if dies_at < 12 else 0)


@pytest.mark.parametrize("workers", [2, 5])
async def test_killed_with_several_slices_under_way_it_reads_no_slice_again_that_was_read(
    store: SqliteStore, workers: int
) -> None:
    items = spread(60)
    source = CountingSource(items, dies_at=13)
    with pytest.raises(KilledError):
        await go(store, source, workers=workers)
    read = await covered(store)
    source.given.clear()
    report = await go(store, source, workers=1, slice_ms=HOUR_MS // 2)
    assert report.complete
    again = {int(one) - 10_000 for one in source.given}
    assert not [n for n in again if any(w.from_ms <= items[n].start_ns // 1_000_000 < w.to_ms for w in read)]
    assert max(source.given.values()) == 1
    assert report.tally.fetched < 60
    assert await trace_ids(store) == sorted(one.trace_id for one in items)


async def test_a_process_that_dies_at_any_call_of_the_store_loses_nothing(store: SqliteStore) -> None:
    items = spread(8)
    calls, later = 0, timedelta()
    while True:
        later += timedelta(seconds=61)  # nobody gave the lease back
        calls += 7
        try:
            report = await go(Mortal(store, calls), CountingSource(items), workers=2, later=later)
        except KilledError:
            continue
        break
    assert report.complete
    assert calls > 14
    assert await trace_ids(store) == sorted(one.trace_id for one in items)


async def test_it_stops_at_a_page_when_asked_and_says_what_is_left_and_how_to_go_on(store: SqliteStore) -> None:
    source = CountingSource(spread(18))
    report = await go(store, source, wants_stop=lambda: source.page_count >= 3)
    assert report.incomplete_because == ["stopped"]
    told = report.document()["backfill"]
    assert (told["done"], told["slices"], source.page_count) == (1, 6, 3)
    assert told["sources"][0]["left"] == [{"from": "2026-11-23T07:00:00.000Z", "to": "2026-11-23T12:00:00.000Z"}]
    assert told["again"] == (
        "evalforge backfill --from 2026-11-23T06:00:00.000Z --to 2026-11-23T12:00:00.000Z --slice 60m --workers 1"
    )
    assert (await go(store, source)).complete
    assert set(source.given.values()) == {1}


async def test_an_overlapping_window_reads_only_what_is_new_in_it(store: SqliteStore) -> None:
    source = CountingSource(spread(18))
    await go(store, source, wants_stop=lambda: source.page_count >= 4)
    wider = Window(WINDOW.from_ms - HOUR_MS, WINDOW.to_ms - 3 * HOUR_MS)
    source.asked.clear()
    assert (await go(store, source, window=wider)).complete
    assert [window for window, _ in source.asked] == [
        Window(WINDOW.from_ms - HOUR_MS, WINDOW.from_ms),
        Window(WINDOW.from_ms + 2 * HOUR_MS, WINDOW.from_ms + 3 * HOUR_MS),
    ]
    assert list(await covered(store)) == [], "what lies beyond the finished window was not read yet"


async def test_what_was_read_beyond_a_finished_window_is_remembered(store: SqliteStore) -> None:
    source = CountingSource(spread(18))
    await go(store, source, wants_stop=lambda: source.page_count >= 4)
    (first,) = await covered(store)
    assert (await go(store, source, window=Window(WINDOW.from_ms, WINDOW.from_ms + HOUR_MS))).complete
    assert list(await covered(store)) == [Window(WINDOW.from_ms + HOUR_MS, first.to_ms)]


@pytest.mark.parametrize("why", ["settings", "age"])
async def test_what_was_read_is_void_under_other_settings_or_after_a_week(store: SqliteStore, why: str) -> None:
    source = CountingSource(spread(18))
    await go(store, source, wants_stop=lambda: source.page_count >= 5)
    assert await covered(store)
    source.given.clear()
    if why == "settings":
        source.query_digests = {"all": "x", "evaluated": "y"}
    report = await go(store, source, later=timedelta(days=7, seconds=1) if why == "age" else timedelta())
    assert report.complete
    assert len(source.given) == 18
    assert (report.tally.created, report.tally.unchanged) == (10, 8)


async def test_places_that_a_finished_backfill_left_behind_are_forgotten(store: SqliteStore) -> None:
    source = CountingSource(spread(18))
    await go(store, source, workers=3, wants_stop=lambda: source.page_count >= 3)
    source.query_digests = {"all": "x", "evaluated": "y"}
    assert (await go(store, source)).complete
    source.query_digests = {"all": "d", "evaluated": "e"}
    slots = await store.load_checkpoints("llm_obs", SLOT_TIERS)
    assert len(slots) == 3
    assert all(slot.done for slot in slots.values())
    source.given.clear()
    assert (await go(store, source)).complete
    assert len(source.given) == 18


async def test_each_source_is_by_itself(store: SqliteStore) -> None:
    first = CountingSource(spread(6))
    second = CountingSource(spread(60), name="apm", dies_at=29, trouble=lambda: SourceUnavailableError("down"))
    report = await go(store, first, second)
    assert report.error is not None
    assert report.error["code"] == "source_unavailable"
    left = {one["source"]: one["left"] for one in report.document()["backfill"]["sources"]}
    assert (left["llm_obs"], len(left["apm"])) == ([], 1)
    assert (await go(store, first, second)).complete
    assert len(first.asked) == 6, "what one has read is remembered until all have"
    assert set(first.given.values()) == set(second.given.values()) == {1}
    assert (len(first.given), len(second.given)) == (6, 60)


@pytest.mark.parametrize(
    "trouble", [SourceUnavailableError("down"), SourceRefusedError("no"), StoreUnavailableError("no answer")]
)
async def test_any_other_trouble_ends_it_with_a_report_and_its_place(store: SqliteStore, trouble: Any) -> None:
    source = CountingSource(spread(18), dies_at=5, trouble=lambda: trouble)
    report = await go(store, source)
    assert report.incomplete_because == ["error"]
    assert report.error is not None
    assert report.error["exit_code"] == trouble.exit_code
    assert (report.state, source.page_count) == ("failed", 5)
    assert (await go(store, source)).complete
    assert set(source.given.values()) == {1}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("reset_s", [930.5, None])
async def test_a_quota_that_is_out_is_waited_for(store: SqliteStore, reset_s: float | None, workers: int) -> None:
    source = CountingSource(spread(18), dies_at=3, trouble=lambda: QuotaExhaustedError("out", retry_after_s=reset_s))
    slept: list[float] = []
    seen: list[BackfillProgress] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    report = await go(store, source, workers=workers, sleep=sleep, on_progress=seen.append)
    assert report.complete
    assert report.error is None
    assert sum(slept) == (reset_s or 60)
    assert max(slept) <= 1, "whoever waits hears soon that it is to stop"
    waits = [progress.waits_s["llm_obs"] for progress in seen if progress.waits_s]
    assert max(waits) == (reset_s or 60)
    assert set(source.given.values()) == {1}, "it goes on inside the slice"


async def test_waiting_for_a_quota_ends_when_asked(store: SqliteStore) -> None:
    source = CountingSource(spread(18), dies_at=3, trouble=lambda: QuotaExhaustedError("out", retry_after_s=3000))
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    report = await go(store, source, sleep=sleep, wants_stop=lambda: len(slept) >= 2)
    assert (report.incomplete_because, report.error, len(slept)) == (["stopped"], None, 2)
    assert (await go(store, source)).complete
    assert set(source.given.values()) == {1}


async def test_progress_tells_slices_spans_captures_rate_eta_and_quota(store: SqliteStore) -> None:
    source = CountingSource(spread(18))
    source.status.rate_limit = {"limit": 300, "remaining": 17}
    seen: list[BackfillProgress] = []
    await go(store, source, on_progress=seen.append)
    assert [seen[0].slices_done, seen[0].slices_total, seen[0].position, seen[0].eta_s] == [0, 6, 0, None]
    assert [progress.position for progress in seen] == sorted(progress.position for progress in seen)
    last = seen[-1]
    assert (last.slices_done, last.position, last.eta_s, last.tally.fetched, last.tally.created) == (6, 1, 0, 18, 18)
    assert last.rate_limits == {"llm_obs": {"limit": 300, "remaining": 17}}
    assert last.spans_per_s > 0
    assert all(progress.eta_s is not None for progress in seen[1:])


async def test_a_schedule_goes_on_beside_it_but_no_second_backfill(store: SqliteStore) -> None:
    def lease(name: str) -> Lease:
        return Lease(name, "somebody else", "token", NOW, NOW + timedelta(seconds=60))

    await store.acquire_lease(lease(LEASE_NAME), now=NOW)
    assert (await go(store, CountingSource(spread(3)))).complete
    await store.acquire_lease(lease(BACKFILL_LEASE_NAME), now=NOW)
    with pytest.raises(RunInProgressError, match="somebody else"):
        await go(store, CountingSource(spread(3)))
    assert (await go(store, CountingSource(spread(3)), later=timedelta(seconds=61))).complete


async def test_a_run_over_the_same_window_meanwhile_converges_to_the_same_captures(store: SqliteStore) -> None:
    items = [failing(n, WINDOW.from_ms + 1 + n * HOUR_MS // 4, trace=n // 3) for n in range(24)]
    beside = run([CountingSource(items)], store, JUDGE, order(WINDOW), clock=lambda: NOW)
    both = await asyncio.gather(go(store, CountingSource(items), workers=4), beside)
    assert all(report.complete for report in both)
    assert sum(report.tally.created for report in both) == 8
    found = [stored.capture.recurrence_count async for stored in store.select(Selection(), now=NOW)]
    assert found == [3] * 8


async def test_the_history_says_running_while_its_own_lease_is_held(store: SqliteStore) -> None:
    shown: list[str] = []

    class Looking(CountingSource):
        async def pages(self, window: Window, after: Any = None, *, reach: Any = "all") -> Any:
            async for page in super().pages(window, after, reach=reach):
                records = await store.recent_runs(limit=5, now=NOW)
                shown.extend(record["state"] for record in await runs_shown(store, records, NOW))
                yield page

    await go(store, Looking(spread(3)))
    assert set(shown) == {"running"}
    with pytest.raises(KilledError):
        await go(store, CountingSource(spread(3), dies_at=0))
    states = [record["state"] for record in await runs_shown(store, await store.recent_runs(limit=5, now=NOW), NOW)]
    assert sorted(states) == ["abandoned", "complete"]


def backfill_lease() -> Lease:
    return Lease(BACKFILL_LEASE_NAME, "a dead one", "token", NOW, NOW + timedelta(seconds=50))


@pytest.mark.parametrize("lives", [False, True])
async def test_run_again_at_once_it_waits_for_the_lease_of_a_dead_one(store: SqliteStore, lives: bool) -> None:
    await store.acquire_lease(backfill_lease(), now=NOW)
    slept = 0.0

    async def sleep(seconds: float) -> None:
        nonlocal slept
        slept += seconds
        if lives and slept == 20:
            held = await store.held_lease(BACKFILL_LEASE_NAME)
            assert held is not None
            await store.renew_lease(replace(held, expires_at=NOW + timedelta(seconds=80)), now=NOW)

    work = backfilled(store, clock=lambda: NOW + timedelta(seconds=slept), sleep=sleep)
    if lives:
        with pytest.raises(RunInProgressError, match="a dead one"):
            await work
        assert slept == 20
    else:
        assert (await work).complete
        assert slept == 50


async def test_waiting_for_a_lease_ends_when_asked(store: SqliteStore) -> None:
    await store.acquire_lease(backfill_lease(), now=NOW)
    with pytest.raises(RunInProgressError):
        await go(store, CountingSource([]), wants_stop=lambda: True)


async def test_a_holder_that_has_lost_its_lease_keeps_no_account(store: SqliteStore) -> None:
    source = CountingSource(spread(18))

    async def other() -> None:
        mine = await store.held_lease(BACKFILL_LEASE_NAME)
        assert mine is not None
        await store.release_lease(mine)
        await store.acquire_lease(Lease(BACKFILL_LEASE_NAME, "other", "t", NOW, NOW + timedelta(hours=1)), now=NOW)

    async def sleep(seconds: float) -> None:
        if not source.asked[1:]:
            raise AssertionError("nothing was read")
        await other()
        place = (await store.load_checkpoints("llm_obs", SLOT_TIERS))[SLOT_TIERS[0]]
        lease = await store.held_lease(BACKFILL_LEASE_NAME)
        assert lease is not None
        assert await store.save_checkpoint(place, fence=lease.fence)

    source.dies_at = 3
    source.trouble = lambda: QuotaExhaustedError("out", retry_after_s=0.5)
    report = await go(store, source, sleep=sleep)
    assert report.incomplete_because == ["lease_lost"]
    assert len(await covered(store)) == 1, "only what it read while the right was its own"


async def test_a_slice_that_ends_as_the_lease_is_lost_is_not_counted(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalforge.runs.lease.LEASE_RENEWAL_S", 0.0)
    lost = asyncio.Event()

    class Listening(Mortal):
        async def renew_lease(self, lease: Lease, *, now: datetime) -> bool:
            renewed = await store.renew_lease(lease, now=now)
            if not renewed:
                lost.set()
            return renewed

    class Slow(CountingSource):
        async def pages(self, window: Window, after: Any = None, *, reach: Any = "all") -> Any:
            async for page in super().pages(window, after, reach=reach):
                if page.checkpoint.done and self.page_count == 2:
                    held = await store.held_lease(BACKFILL_LEASE_NAME)
                    assert held is not None
                    await store.release_lease(held)
                    await lost.wait()
                yield page

    report = await go(Listening(store, 10_000), Slow(spread(18)))
    assert report.incomplete_because == ["lease_lost"]
    assert list(await covered(store)) == []


async def test_what_datadog_no_longer_holds_is_said_plainly(store: SqliteStore) -> None:
    now_ms = epoch_ms(NOW)
    held_from_ms = now_ms - RETENTION_MS
    source = CountingSource([])
    report = await go(store, source, window=Window(held_from_ms - 3 * HOUR_MS, held_from_ms + 2 * HOUR_MS))
    assert report.incomplete_because == ["not_held"]
    assert report.document()["gone"] == [
        {"source": "llm_obs", "from": "2026-11-08T09:00:00.000Z", "to": "2026-11-08T12:00:00.000Z"}
    ]
    assert [window.from_ms for window, _ in source.asked] == [held_from_ms, held_from_ms + HOUR_MS]
    with pytest.raises(RequestError, match="keeps 15 days"):
        await go(store, source, window=Window(held_from_ms - HOUR_MS, held_from_ms))
    assert (await go(store, source, window=Window(held_from_ms - 5000, held_from_ms + 10))).complete, "as --from 15d gives"


async def test_what_was_read_while_datadog_held_it_is_not_gone(store: SqliteStore) -> None:
    held_from_ms = epoch_ms(NOW) - RETENTION_MS
    window = Window(held_from_ms - 3 * HOUR_MS, held_from_ms + 2 * HOUR_MS)
    await store.save_coverage(Coverage("llm_obs", "d", NOW, (Window(window.from_ms, held_from_ms),)))
    assert (await go(store, CountingSource([]), window=window)).complete


async def test_a_slice_whose_answers_stay_partial_is_not_counted(store: SqliteStore) -> None:
    class Partial(CountingSource):
        async def pages(self, window: Window, after: Any = None, *, reach: Any = "all") -> Any:
            async for page in super().pages(window, after, reach=reach):
                if window.from_ms == WINDOW.from_ms and page.checkpoint.done:
                    self.status.partial = True
                    page = replace(page, checkpoint=replace(page.checkpoint, done=False))
                yield page

    report = await go(store, Partial(spread(18)))
    assert report.incomplete_because == ["partial"]
    told = report.document()["backfill"]
    assert (told["done"], told["sources"][0]["left"][0]["to"]) == (5, "2026-11-23T07:00:00.000Z")
    healed = CountingSource(spread(18))
    assert (await go(store, healed)).complete
    assert len(healed.given) == 3


async def test_a_source_that_may_not_be_read_is_left_out(store: SqliteStore) -> None:
    class Refused(CountingSource):
        async def pages(self, window: Window, after: Any = None, *, reach: Any = "all") -> Any:
            self.status.skipped = "the keys may not search APM spans (403)"
            async for page in super().pages(window, after, reach=reach):
                yield page

    refused = Refused([], name="apm")
    report = await go(store, CountingSource(spread(3)), refused)
    assert report.complete
    assert len(refused.asked) == 1
    told = report.document()["backfill"]
    assert (told["done"], told["slices"], told["again"]) == (6, 6, None)
    allowed = CountingSource([], name="apm")
    await go(store, CountingSource([]), allowed)
    assert len(allowed.asked) == 6, "nothing of it counts as read"


async def test_users_are_looked_up_slice_by_slice(store: SqliteStore) -> None:
    items = spread(6)
    roots = [failing(50 + n, WINDOW.from_ms, trace=n, tags=(("user.id", f"u-{n}"),)) for n in range(6)]
    source = CountingSource(items, root_spans=roots)
    report = await go(store, source, resolve_users=True)
    assert report.user_lookup is not None
    assert (report.user_lookup.looked_for, report.user_lookup.found) == (6, 6)
    assert len(source.asked_roots) == 6
    assert all([stored.capture.user_hash async for stored in store.select(Selection(), now=NOW)])
