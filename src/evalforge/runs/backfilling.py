"""A backfill: a long window in slices, several at a time, each of which keeps its place; what was read is not read again.

It holds a lease of its own, so that a schedule goes on beside it: writes are guarded, and documents converge. What is
finished is kept as the source's coverage until the whole window is, a slice under way in the checkpoint of its slot.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from evalforge.core.plans import BACKFILL, RETENTION_MS, TIER_NAMES, Due, Tier, learned_by
from evalforge.core.ports import Checkpoint, Coverage, Page, Source, Store, UpsertResult
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.slices import SLOT_TIERS, Slice, beyond, slice_count, slices_left, valid_coverage, within
from evalforge.core.window import Window, epoch_ms, iso_ms, joined
from evalforge.erasure import Guard
from evalforge.errors import EvalForgeError, QuotaExhaustedError, RequestError, RetriableError
from evalforge.events import emit
from evalforge.ingest import Judge, Reading, Tally, ingest
from evalforge.runs.history import keep_record
from evalforge.runs.lease import BACKFILL_LEASE_NAME, LEASE_LIFETIME_S, Held, held_lease
from evalforge.runs.measuring import measure_window
from evalforge.runs.report import Backfilled, BackfillProgress, RunReport, SourceSlices, TierReading, iso_of
from evalforge.runs.running import (
    check_keys,
    conclude,
    count_letters,
    delete_expired,
    emit_summary,
    error_document,
    history_of,
    new_run_id,
)
from evalforge.users import Lookup, Nameless, look_up_users

UNKNOWN_RESET_S = 60.0
"""How long is waited for a quota of which nobody knows when it resets."""

GRACE_MS = 60_000
"""A window that begins so little before what Datadog still holds was meant to begin there."""

POLL_S = 1.0
"""How often whoever waits looks whether it is to stop."""

LEASE_POLL_S = 2.0
"""How often whoever waits for a lease looks whether its holder shows signs of life."""


@dataclass(frozen=True, slots=True)
class BackfillOrder:
    """What is wanted of a backfill: which window, cut how, so many slices of each source at once, and by whom.

    `slice_ms` is in milliseconds, `workers` 1 to `MAX_WORKERS`. `wants_stop` is asked after each page.
    """

    window: Window
    slice_ms: int
    workers: int
    holder: str
    asked_by: str
    filter_mode: str
    resolve_users: bool = False
    wants_stop: Callable[[], bool] = lambda: False


async def backfill(
    sources: Sequence[Source],
    store: Store,
    judge: Judge,
    order: BackfillOrder,
    *,
    clock: Callable[[], datetime],
    on_progress: Callable[[BackfillProgress], None] = lambda progress: None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    telemetry: Telemetry = SILENCE,
) -> RunReport:
    """Reads what no unfinished backfill before it has read of the order's window, from every source, and reports.

    Where another backfill seems to hold the lease it waits to see whether that one has died, at most a lease's lifetime.
    When a quota is out it waits for the reset. Any other error ends it at the next page, and is in the report. Neither time
    nor the number of captures is bounded.

    Raises:
        RequestError: Datadog no longer holds anything of the window.
        RunInProgressError: another backfill holds the lease.
        StoreError: the hashing keys do not match those that stored hashes were made with.
        StoreUnavailableError: the store did not answer before it began.
    """
    now = clock()
    held_from_ms = epoch_ms(now) - RETENTION_MS
    if order.window.to_ms <= held_from_ms:
        raise RequestError(f"--to: Datadog keeps 15 days, so it holds nothing before {iso_ms(held_from_ms)}", field="--to")
    held = Window(max(order.window.from_ms, held_from_ms), order.window.to_ms)
    backfilled = Backfilled(held, order.slice_ms, order.workers)
    report = RunReport(
        run_id=new_run_id(clock),
        plan=BACKFILL,
        holder=order.holder,
        asked_by=order.asked_by,
        window=order.window,
        started_at=now,
        filter_mode=order.filter_mode,
        user_hash_enabled=bool(judge.ring.keys),
        backfilled=backfilled,
    )
    began = time.monotonic()
    await _outlive(store, order, report.run_id, clock, sleep)
    async with held_lease(store, order.holder, report.run_id, clock, name=BACKFILL_LEASE_NAME) as lease:
        await check_keys(store, judge.ring)
        await keep_record(store, report)
        emit(
            "run.started",
            run_id=report.run_id,
            holder=order.holder,
            asked_by=order.asked_by,
            plan=BACKFILL,
            window=str(order.window),
            sources=[source.name for source in sources],
            filter=order.filter_mode,
        )
        await _Backfill(sources, store, judge, order, report, backfilled, lease, clock, on_progress, sleep, telemetry).read()
        await delete_expired(store, report, clock())
        await count_letters(store, report, clock())
        for source in sources:
            conclude(source, report)
        report.finished_at = clock()
        report.duration_s = time.monotonic() - began
        await keep_record(store, report)
    emit_summary(report)
    return report


async def _outlive(
    store: Store,
    order: BackfillOrder,
    run_id: str,
    clock: Callable[[], datetime],
    sleep: Callable[[float], Awaitable[None]],
) -> None:
    """Waits for the end of a lease whose holder may have died, as after a kill -9; a holder that renews it lives."""
    standing, now = await store.held_lease(BACKFILL_LEASE_NAME), clock()
    if standing is None or not standing.token:
        return
    left_s = (standing.expires_at - now).total_seconds()
    if not 0 < left_s <= LEASE_LIFETIME_S:
        return
    since = iso_of(standing.acquired_at)
    emit("lease.awaited", run_id=run_id, holder=standing.holder, since=since, retry_after_s=round(left_s, 1))
    while left_s > 0 and not order.wants_stop():
        await sleep(min(left_s, LEASE_POLL_S))
        left_s -= LEASE_POLL_S
        if await store.held_lease(BACKFILL_LEASE_NAME) != standing:
            return


@dataclass(slots=True)
class _Lane:
    """One source of a backfill: what waits to be read, what has been, and the slots for what is under way.

    `positions_ms` says how far each slot is in its slice; of all that, `head_start_ms` was read by an earlier backfill.
    """

    source: Source
    held: Window
    coverage: Coverage
    waiting: deque[Slice]
    counts: SourceSlices
    history: Checkpoint | None
    stale: list[Checkpoint]
    free_slots: set[str] = field(default_factory=lambda: set(SLOT_TIERS))
    positions_ms: dict[str, int] = field(default_factory=dict)
    head_start_ms: int = 0
    wait_s: float = 0.0
    saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def left(self) -> list[Window]:
        """What is still to be read; nothing of a source that is left out."""
        return [] if self.source.status.skipped is not None else beyond([self.held], self.coverage.windows)

    @property
    def left_ms(self) -> int:
        """How much is still to be read, in milliseconds."""
        return max(sum(window.duration_ms for window in self.left) - sum(self.positions_ms.values()), 0)


class _Backfill:
    def __init__(
        self,
        sources: Sequence[Source],
        store: Store,
        judge: Judge,
        order: BackfillOrder,
        report: RunReport,
        backfilled: Backfilled,
        lease: Held,
        clock: Callable[[], datetime],
        on_progress: Callable[[BackfillProgress], None],
        sleep: Callable[[float], Awaitable[None]],
        telemetry: Telemetry,
    ) -> None:
        self._telemetry = telemetry
        self._sources = sources
        self._store = store
        self._judge = judge
        self._order = order
        self._report = report
        self._backfilled = backfilled
        self._held = backfilled.window
        self._lease = lease
        self._clock = clock
        self._on_progress = on_progress
        self._sleep = sleep
        self._lanes: list[_Lane] = []
        self._tallies: list[Tally] = []
        self._has_failed = False
        self._began = time.monotonic()
        self._left_at_first_ms: dict[str, int] = {}

    async def read(self) -> None:
        """Reads all slices of all sources, and leaves in the report what came of it."""
        await self._tried(self._open_lanes())
        if not self._has_failed:
            self._tell()
            works = [self._work(lane) for lane in self._lanes for _ in range(self._order.workers)]
            await _together(self._tried(work) for work in works)
        self._report.tally = Tally.total(self._tallies)
        for lane, reading in zip(self._lanes, self._report.readings, strict=False):
            lane.counts.left = lane.left
            if lane.source.status.skipped is not None:
                lane.counts.total_count = lane.counts.done_count
            reading.finished = not lane.counts.left
        if not self._has_failed and all(reading.finished for reading in self._report.readings):
            for lane in self._lanes:
                await self._tried(self._settle(lane))
        if self._order.resolve_users and not self._judge.ring.keys:
            self._report.warnings.append("DATADOG_RESOLVE_USERS is on, but no user can be hashed: PII_SALT is not set")

    async def _tried(self, work: Awaitable[None]) -> None:
        """Does the work; an error ends the backfill, and the report tells the first one."""
        try:
            await work
        except EvalForgeError as error:
            self._has_failed = True
            self._report.note("error")
            self._report.source_errors[error.code] += 1
            self._report.error = self._report.error or error_document(error)
            emit(
                "run.failed",
                run_id=self._report.run_id,
                code=error.code,
                retry_after_s=error.retry_after_s if isinstance(error, RetriableError) else None,
            )

    async def _open_lanes(self) -> None:
        for source in self._sources:
            lane = await self._lane_of(source)
            self._lanes.append(lane)
            self._left_at_first_ms[source.name] = lane.left_ms
            self._backfilled.sources.append(lane.counts)
            gone = self._gone(lane.coverage)
            due = Due(Tier(BACKFILL), epoch_ms(self._clock()), ((self._held, None),), gone)
            self._report.readings.append(TierReading(source.name, due))
            if gone is not None:
                self._report.note("not_held")

    async def _lane_of(self, source: Source) -> _Lane:
        """The source with what is left of it, after what earlier backfills that did not finish have read."""
        now, slice_ms = self._clock(), self._order.slice_ms
        stored = await self._store.load_coverage(source.name)
        coverage = valid_coverage(stored, source.name, source.query_digests["all"], now)
        checkpoints = await self._store.load_checkpoints(source.name, (*TIER_NAMES, *SLOT_TIERS))
        slots = [checkpoint for tier, checkpoint in checkpoints.items() if tier in SLOT_TIERS]
        slices = slices_left(self._held, coverage, slots, slice_ms, now)
        known_count = slice_count(within(coverage.windows, self._held), slice_ms)
        return _Lane(
            source,
            self._held,
            coverage,
            deque(slices),
            SourceSlices(source.name, known_count + len(slices), known_count, known_count),
            history_of(checkpoints),
            [slot for slot in slots if not slot.done and within([slot.window], self._held)],
        )

    def _gone(self, coverage: Coverage) -> Window | None:
        """From where to where Datadog no longer holds what was asked for and nobody has read."""
        gone = beyond(self._order.window.without(self._held), coverage.windows)
        if sum(window.duration_ms for window in gone) <= GRACE_MS:
            return None
        return Window(gone[0].from_ms, gone[-1].to_ms)

    def _reason_to_stop(self) -> str | None:
        if self._lease.is_lost:
            return "lease_lost"
        if self._order.wants_stop():
            return "stopped"
        return "error" if self._has_failed else None

    async def _work(self, lane: _Lane) -> None:
        """Reads one slice after the other, as long as any waits."""
        # Each worker has a guard and counts of its own: a guard speaks for the page that it has admitted last.
        guard = await Guard.opened(self._store, self._judge.ring, run_id=self._report.run_id, clock=self._clock)
        tally = Tally()
        self._tallies.append(tally)
        while lane.waiting and lane.source.status.skipped is None:
            stopped = self._reason_to_stop()
            if stopped is None:
                piece = lane.waiting.popleft()
                slot = piece.after.tier if piece.after is not None else min(lane.free_slots)
                lane.free_slots.discard(slot)
                stopped = await self._read_slice(lane, piece, slot, guard, tally)
                lane.positions_ms.pop(slot, None)
                lane.free_slots.add(slot)
            if stopped is not None:
                self._report.note(stopped)
                return

    async def _read_slice(self, lane: _Lane, piece: Slice, slot: str, guard: Guard, tally: Tally) -> str | None:
        """Reads one slice to its end, or gives the reason why not."""
        source, window = lane.source, piece.window
        nameless = Nameless() if self._order.resolve_users and self._judge.ring.keys else None

        def heard(page: Page, result: UpsertResult) -> None:
            if nameless is not None:
                nameless.hear(page, result)
            lane.positions_ms[slot] = _position_ms(page.checkpoint)
            self._tell()

        if piece.after is not None:
            lane.positions_ms[slot] = _position_ms(piece.after)
            lane.head_start_ms += lane.positions_ms[slot]
        reading = Reading(
            self._report.run_id,
            self._judge,
            guard,
            self._clock,
            lambda tally: self._reason_to_stop(),
            fence=self._lease.fence,
            tier=slot,
            began_ms=piece.after.began_ms if piece.after is not None else epoch_ms(self._clock()),
            on_page=heard,
            telemetry=self._telemetry,
        )
        after = piece.after
        while True:
            try:
                with measure_window(self._telemetry, source.name, window):
                    last, stopped = await ingest(source, self._store, window, after or lane.history, reading, tally)
                break
            except QuotaExhaustedError as error:
                await self._await_quota(lane, error)
                stopped = self._reason_to_stop()
                if stopped is not None:
                    return stopped
                after = await self._place(lane, window, slot)
        # A slice whose answers stayed partial is not read: the report says so, and the next backfill reads it anew.
        if stopped is None and last is not None and last.done and self._may_count(source):
            if nameless is not None:
                await self._look_up_users(nameless, guard, tally)
            await self._cover(lane, window, last, slot)
        return stopped

    def _may_count(self, source: Source) -> bool:
        """Whether what came of a slice is what the source has, and this process the one that keeps account."""
        return source.status.skipped is None and not self._lease.is_lost

    async def _place(self, lane: _Lane, window: Window, slot: str) -> Checkpoint | None:
        """Where the reading of this slice stands, None when it has not begun."""
        place = (await self._store.load_checkpoints(lane.source.name, (slot,))).get(slot)
        return place if place is not None and not place.done and place.window == window else None

    async def _await_quota(self, lane: _Lane, error: QuotaExhaustedError) -> None:
        """Waits for the reset, or until it is to stop; whoever comes first says so."""
        left_s = max(error.retry_after_s if error.retry_after_s is not None else UNKNOWN_RESET_S, POLL_S)
        if lane.wait_s <= 0:
            emit("quota.awaited", run_id=self._report.run_id, source=lane.source.name, retry_after_s=round(left_s, 1))
        # Counted in steps, not by the clock, which may be set back.
        while left_s > 0 and self._reason_to_stop() is None:
            lane.wait_s = left_s
            self._tell()
            step_s = min(left_s, POLL_S)
            await self._sleep(step_s)
            left_s -= step_s
        lane.wait_s = 0.0

    async def _look_up_users(self, nameless: Nameless, guard: Guard, tally: Tally) -> None:
        """Looks for users on the roots of what a slice has brought; whatever prevents it is a warning."""
        found = await look_up_users(
            self._sources,
            self._store,
            self._judge.ring,
            nameless,
            guard=guard,
            run_id=self._report.run_id,
            clock=self._clock,
            should_stop=self._reason_to_stop,
        )
        tally.kept_out = guard.kept_out_count
        report = self._report
        before = report.user_lookup or Lookup()
        report.user_lookup = Lookup(before.looked_for + found.looked_for, before.found + found.found)
        report.warnings.extend(warning for warning in found.warnings if warning not in report.warnings)

    async def _cover(self, lane: _Lane, window: Window, last: Checkpoint, slot: str) -> None:
        """Remembers that a slice was read to its end."""
        async with lane.saving:  # of two that are saved at once the older one might come last
            lane.coverage = replace(lane.coverage, windows=joined([*lane.coverage.windows, window]))
            lane.positions_ms.pop(slot, None)
            await self._store.save_coverage(lane.coverage)
        known = [last] if lane.history is None else [lane.history, last]
        lane.history = replace(last, learned=learned_by(known))
        lane.counts.done_count += 1
        progress = self._tell()
        emit(
            "slice.read",
            run_id=self._report.run_id,
            source=lane.source.name,
            window=str(window),
            slices_done=progress.slices_done,
            slices_total=progress.slices_total,
            fetched=progress.tally.fetched,
            created=progress.tally.created,
            updated=progress.tally.updated,
            spans_per_s=round(progress.spans_per_s, 1),
            eta_s=None if progress.eta_s is None else round(progress.eta_s),
            quota_left=lane.source.status.rate_limit.get("remaining"),
        )

    async def _settle(self, lane: _Lane) -> None:
        """Forgets what was read of a window that is finished: the next backfill of it reads it anew."""
        if not self._may_count(lane.source):
            return
        rest = tuple(beyond(lane.coverage.windows, [self._order.window]))
        await self._store.save_coverage(replace(lane.coverage, windows=rest))
        for slot in lane.stale:
            present = (await self._store.load_checkpoints(lane.source.name, (slot.tier,))).get(slot.tier)
            if present == slot:
                await self._store.save_checkpoint(replace(slot, done=True), fence=self._lease.fence)

    def _tell(self) -> BackfillProgress:
        """Says how far it is."""
        elapsed_s = max(time.monotonic() - self._began, 1e-3)
        tally = Tally.total(self._tallies)
        total_ms = self._held.duration_ms * len(self._lanes)
        left_ms = sum(lane.left_ms for lane in self._lanes)
        progress = BackfillProgress(
            slices_done=sum(lane.counts.done_count for lane in self._lanes),
            slices_total=sum(lane.counts.total_count for lane in self._lanes),
            position=1 - left_ms / total_ms if total_ms else 0.0,
            tally=tally,
            spans_per_s=tally.fetched / elapsed_s,
            eta_s=self._eta_s(elapsed_s),
            rate_limits={lane.source.name: lane.source.status.rate_limit for lane in self._lanes},
            waits_s={lane.source.name: lane.wait_s for lane in self._lanes if lane.wait_s > 0},
        )
        self._on_progress(progress)
        return progress

    def _eta_s(self, elapsed_s: float) -> float | None:
        """How long the slowest source seems to take, by what it has read so far, waits included."""
        longest_s = 0.0
        for lane in self._lanes:
            left_ms = lane.left_ms
            read_ms = self._left_at_first_ms[lane.source.name] - left_ms - lane.head_start_ms
            if left_ms and read_ms <= 0:
                return None
            if left_ms:
                longest_s = max(longest_s, elapsed_s * left_ms / read_ms)
        return longest_s


def _position_ms(checkpoint: Checkpoint) -> int:
    """How far into its window a checkpoint stands, in milliseconds."""
    window = checkpoint.window
    if checkpoint.done:
        return window.duration_ms
    return min(max((checkpoint.last_ms or window.from_ms) - window.from_ms, 0), window.duration_ms)


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Does all of it at once; the first error that nobody foresaw ends the rest and gets out as it is."""
    try:
        async with asyncio.TaskGroup() as tasks:
            for work in works:
                tasks.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
