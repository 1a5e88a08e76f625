"""One run: the lease, the windows to read, the budget, and the report that says what happened and what is still open."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from evalforge.core.plans import ASKED, RECENT, TIER_NAMES, Due, Plan, learned_by
from evalforge.core.ports import Checkpoint, Page, Source, Store, UpsertResult
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.privacy import KeyRing
from evalforge.core.window import Window, epoch_ms
from evalforge.enrichment import LATER, Untold, enrich
from evalforge.erasure import Guard
from evalforge.errors import EvalForgeError, QuotaExhaustedError, RetriableError, StoreError
from evalforge.events import emit
from evalforge.ingest import Judge, Reading, Tally, ingest
from evalforge.runs.history import keep_record
from evalforge.runs.lease import held_lease
from evalforge.runs.measuring import measure_window
from evalforge.runs.report import Rehearsed, RunProgress, RunReport, TierReading
from evalforge.telling import Audience, Telling, tell
from evalforge.users import Nameless, look_up_users

END_POLL_S = 0.1
"""How often it is asked whether a run must end."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The bounds of one run: seconds, captures, and an outside wish to stop.

    `wants_stop` is asked after each page. `must_end` is asked all the time, where it is given: then the page that is being
    read or stored is left, and the place is that of the page before.
    """

    seconds: float
    max_captures: int
    wants_stop: Callable[[], bool] = lambda: False
    must_end: Callable[[], bool] | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What is wanted of a run: by whom, which plan, within what bounds, and what beyond reading.

    `holder` names the process, `asked_by` who asked for the run. A `rehearsal` writes nothing: its store sees to that, and
    its report says what would have come of it.
    """

    plan: Plan
    budget: Budget
    holder: str
    asked_by: str
    filter_mode: str
    resolve_users: bool = False
    rehearsal: bool = False


def new_run_id(clock: Callable[[], datetime]) -> str:
    """An id for a run that begins now; ids sort by time."""
    return f"run_{clock():%Y%m%dT%H%M%S}_{secrets.token_hex(4)}"


async def run(
    sources: Sequence[Source],
    store: Store,
    judge: Judge,
    order: Order,
    *,
    clock: Callable[[], datetime],
    on_begun: Callable[[str], None] = lambda run_id: None,
    on_page: Callable[[RunProgress], None] | None = None,
    enriched_from: Source | None = None,
    audience: Audience | None = None,
    telemetry: Telemetry = SILENCE,
) -> RunReport:
    """Reads from every source what the order's plan finds due into the store, under its lease, and says what came of it.

    A tier whose last run stopped early first finishes that window, then reads what is due beyond it. The record of the run
    stands in the store's history from its beginning; `on_begun` hears its id as soon as it does. `enriched_from`, one of the
    sources or another one, is asked at the end what errors said, and `audience` is told of groups that are new or have
    regressed; not in a rehearsal, whose captures are not stored.

    Raises:
        RunInProgressError: another run holds the lease.
        StoreError: the hashing keys do not match those that stored hashes were made with.
        StoreUnavailableError: the store did not answer before the run began.
    """
    now = clock()
    report = RunReport(
        run_id=new_run_id(clock),
        plan=order.plan.name,
        holder=order.holder,
        asked_by=order.asked_by,
        window=order.plan.window(epoch_ms(now)),
        started_at=now,
        filter_mode=order.filter_mode,
        user_hash_enabled=bool(judge.ring.keys),
        rehearsed=Rehearsed() if order.rehearsal else None,
    )
    began = time.monotonic()
    async with held_lease(store, order.holder, report.run_id, clock) as lease:
        await check_keys(store, judge.ring)
        guard = await Guard.opened(store, judge.ring, run_id=report.run_id, clock=clock)
        await keep_record(store, report)
        emit(
            "run.started",
            run_id=report.run_id,
            holder=order.holder,
            asked_by=order.asked_by,
            plan=order.plan.name,
            window=str(report.window),
            sources=[source.name for source in sources],
            filter=order.filter_mode,
        )
        on_begun(report.run_id)
        budget = order.budget

        def should_stop(tally: Tally) -> str | None:
            if lease.is_lost:
                return "lease_lost"
            if budget.wants_stop():
                return "stopped"
            if time.monotonic() - began >= budget.seconds:
                return "time_budget"
            return "cap" if tally.capture_count >= budget.max_captures else None

        nameless = Nameless() if order.resolve_users else None
        untold = Untold() if enriched_from is not None and not order.rehearsal else None
        listeners = [one for one in (nameless, untold) if one is not None]
        reading = Reading(report.run_id, judge, guard, clock, should_stop, fence=lease.fence, telemetry=telemetry)
        readings = _Readings(sources, store, reading, report, listeners, on_page)
        if not await _unless(budget.must_end, readings.read(order.plan, epoch_ms(now))):
            report.note("stopped")
        if nameless is not None:
            await _look_up_users(nameless, sources, store, judge.ring, guard, report, clock, should_stop)
        if untold is not None and enriched_from is not None:
            await _enrich(enriched_from, untold, store, reading, report)
        report.tally.kept_out = guard.kept_out_count
        await delete_expired(store, report, clock())
        await count_letters(store, report, clock())
        if audience is not None and not order.rehearsal:
            await _unless(budget.must_end, _tell(audience, store, report, clock, should_stop))
        for source in sources:
            conclude(source, report)
        if enriched_from is not None and enriched_from not in sources and untold is not None:
            enriched_from.status.mode = "ids"
            conclude(enriched_from, report)
        report.finished_at = clock()
        report.duration_s = time.monotonic() - began
        await keep_record(store, report)
    emit_summary(report)
    return report


async def _unless(must_end: Callable[[], bool] | None, work: Coroutine[Any, Any, None]) -> bool:
    """Does the work and gives True; leaves it where it stands and gives False once `must_end` says so."""
    if must_end is None:
        await work
        return True
    task = asyncio.ensure_future(work)
    while not task.done() and not must_end():
        await asyncio.wait([task], timeout=END_POLL_S)
    task.cancel()  # nothing happens where it is done
    with suppress(asyncio.CancelledError):
        await task
    return not task.cancelled()


_T = TypeVar("_T")


class _Readings:
    """The readings of one run: first what is newest of every source, then the tiers that look further back."""

    def __init__(
        self,
        sources: Sequence[Source],
        store: Store,
        reading: Reading,
        report: RunReport,
        listeners: Sequence[Nameless | Untold],
        on_page: Callable[[RunProgress], None] | None,
    ) -> None:
        self._sources = sources
        self._store = store
        self._reading = reading
        self._report = report
        self._listeners = listeners
        self._on_page = on_page
        self._known: dict[str, Checkpoint | None] = {}
        self._left: set[str] = set()
        self._is_over = False

    async def read(self, plan: Plan, now_ms: int) -> None:
        """Reads what is due, and notes in the report what was and what was not."""
        readings: list[tuple[Source, TierReading]] = []
        for source in self._sources:
            checkpoints = await self._tried(self._store.load_checkpoints(source.name, TIER_NAMES))
            if checkpoints is None:
                break
            self._known[source.name] = history_of(checkpoints)
            due = plan.due(checkpoints, now_ms)
            readings += [(source, TierReading(source.name, one)) for one in due]
        self._report.readings = [reading for _, reading in readings]
        windows = [window for _, reading in readings for window, _ in reading.due.windows]
        if windows:
            self._report.window = Window(min(one.from_ms for one in windows), max(one.to_ms for one in windows))
        for newest in (True, False):
            for source, reading in readings:
                if (reading.due.tier in (ASKED, RECENT)) is newest:
                    await self._read_tier(source, reading)
        for reading in self._report.gone:
            self._report.note("gone")
            emit("window.gone", run_id=self._report.run_id, source=reading.source, window=str(reading.due.gone))

    async def _read_tier(self, source: Source, reading: TierReading) -> None:
        if self._is_over or source.name in self._left:
            return
        reading.finished = await self._tried(self._read_windows(source, reading.due)) or False
        if not reading.finished:
            # What lies further back is read from the beginning of what this tier read: without that, not in this run.
            self._left.add(source.name)

    async def _read_windows(self, source: Source, due: Due) -> bool:
        """Whether every window of the tier was read to its end."""

        def heard(page: Page, result: UpsertResult) -> None:
            for listener in self._listeners:
                listener.hear(page, result)
            if self._report.rehearsed is not None:
                self._report.rehearsed.hear(result)
            if self._on_page is not None:
                self._on_page(_progress(source, page, due, self._report.tally))

        tier = due.tier
        reading = replace(self._reading, tier=tier.name, reach=tier.reach, began_ms=due.began_ms, on_page=heard)
        if self._report.rehearsed is not None:
            reading = replace(reading, on_captures=self._report.rehearsed.look_at)
        checkpoint = self._known[source.name]
        for window, after in due.windows:
            if after is None and not await self._begin(source, window, reading):
                self._report.note("lease_lost")
                self._is_over = True
                return False
            with measure_window(reading.telemetry, source.name, window):
                last, stopped = await ingest(source, self._store, window, after or checkpoint, reading, self._report.tally)
            if last is not None:
                checkpoint = self._known[source.name] = last
            if stopped is not None:
                self._report.note(stopped)
                self._is_over = True
                return False
        if not due.windows:
            # Nothing lies between this tier and what was read anew: it counts as read.
            marker = Checkpoint(source.name, self._report.window, done=True, tier=due.tier.name, began_ms=due.began_ms)
            await self._store.save_checkpoint(marker, fence=self._reading.fence)
        # A window that stayed partial is to be read again from its beginning, by the next run.
        return not due.windows or (checkpoint is not None and checkpoint.done)

    async def _begin(self, source: Source, window: Window, reading: Reading) -> bool:
        """Keeps the place before the first page: a run that dies there is finished by the next one too."""
        known = self._known[source.name]
        place = Checkpoint(
            source.name,
            window,
            learned=known.learned if known is not None else (),
            tier=reading.tier,
            began_ms=reading.began_ms,
        )
        return await self._store.save_checkpoint(place, fence=reading.fence)

    async def _tried(self, work: Awaitable[_T]) -> _T | None:
        """What `work` gives; None where it met an error, which the report tells."""
        try:
            return await work
        except EvalForgeError as error:
            report = self._report
            report.note("error")
            report.source_errors[error.code] += 1
            report.error = report.error or error_document(error)
            emit(
                "run.failed",
                run_id=report.run_id,
                code=error.code,
                retry_after_s=error.retry_after_s if isinstance(error, RetriableError) else None,
            )
            # Each source has a quota of its own; any other trouble would meet the next source too.
            self._is_over = not isinstance(error, QuotaExhaustedError)
            return None


def history_of(checkpoints: Mapping[str, Checkpoint]) -> Checkpoint | None:
    """A finished checkpoint that knows what all tiers have learned; None where none of them was ever read to an end."""
    finished = [checkpoint for checkpoint in checkpoints.values() if checkpoint.done]
    if not finished:
        return None
    return replace(finished[0], learned=learned_by(checkpoints.values()))


async def _look_up_users(
    nameless: Nameless,
    sources: Sequence[Source],
    store: Store,
    ring: KeyRing,
    guard: Guard,
    report: RunReport,
    clock: Callable[[], datetime],
    should_stop: Callable[[Tally], str | None],
) -> None:
    """Looks for users on roots, if the run may go on; whatever prevents it is a warning."""
    if not ring.keys:
        report.warnings.append("DATADOG_RESOLVE_USERS is on, but no user can be hashed: PII_SALT is not set")
        return
    if report.error is not None and report.error["code"] != QuotaExhaustedError.code:
        report.warnings.append("users were not looked up: the run ended with an error; a later run does")
        return
    stopped = partial(_stopped, report, should_stop)
    report.user_lookup = await look_up_users(
        sources, store, ring, nameless, guard=guard, run_id=report.run_id, clock=clock, should_stop=stopped
    )
    report.warnings.extend(report.user_lookup.warnings)


async def _enrich(apm: Source, untold: Untold, store: Store, reading: Reading, report: RunReport) -> None:
    """Asks what errors said, if the run may go on; whatever prevents it is a warning."""
    if report.error is not None and report.error["code"] != QuotaExhaustedError.code:
        report.warnings.append(f"errors were not asked of {apm.name}: the run ended with an error; {LATER}")
        return
    stopped = partial(_stopped, report, reading.should_stop)
    report.error_detail = await enrich(apm, store, untold, reading, should_stop=stopped)
    report.warnings.extend(report.error_detail.warnings)


async def _tell(
    audience: Audience,
    store: Store,
    report: RunReport,
    clock: Callable[[], datetime],
    should_stop: Callable[[Tally], str | None],
) -> None:
    """Tells of groups whatever the run came to, since they are there all the same; not once it is to end."""
    report.telling = Telling()

    def stopped() -> str | None:
        # Neither bound of reading counts here: telling has its own, and a run that always uses its time up would never tell.
        reason = should_stop(report.tally)
        return reason if reason in ("lease_lost", "stopped") else None

    await tell(
        audience, store, report.telling, run_id=report.run_id, began_at=report.started_at, clock=clock, should_stop=stopped
    )
    report.warnings.extend(report.telling.warnings)


def _stopped(report: RunReport, should_stop: Callable[[Tally], str | None]) -> str | None:
    # The cap bounds how many captures are read; those that come after the reading are about captures already read.
    reason = should_stop(report.tally)
    return None if reason == "cap" else reason


async def delete_expired(store: Store, report: RunReport, now: datetime) -> None:
    """Deletes what is due, if the store does not do it by itself; where that fails the next run does it."""
    try:
        report.expired = await store.delete_expired(now=now)
    except EvalForgeError as error:
        report.warnings.append(f"what has expired was not deleted ({error.code}); the next run does it")


async def count_letters(store: Store, report: RunReport, now: datetime) -> None:
    """Notes how many dead letters there are; a store that does not say is no failure of the run."""
    with suppress(EvalForgeError):
        report.letter_count = await store.dead_letter_count(now=now)


def conclude(source: Source, report: RunReport) -> None:
    """Puts what a source says of its reading into the report."""
    status = source.status
    report.sources.append(asdict(status))
    if status.partial:
        report.note("partial")
    if status.filter_gaps:
        report.note("filter_gaps")
    if status.mode == "query" and status.skipped is None:
        report.note("query_mode")
    for warning in status.warnings:
        report.warnings.append(f"{source.name}: {warning}")
        emit("source.warned", run_id=report.run_id, source=source.name, warning=warning)


def _progress(source: Source, page: Page, due: Due, tally: Tally) -> RunProgress:
    checkpoint = page.checkpoint
    window = checkpoint.window
    read_ms = window.duration_ms if checkpoint.done else (checkpoint.last_ms or window.from_ms) - window.from_ms
    return RunProgress(
        source=source.name,
        tier=due.tier.name,
        step=checkpoint.step,
        position=min(max(read_ms / window.duration_ms, 0.0), 1.0),
        tally=tally,
        request_count=source.status.request_count,
        rate_limit=source.status.rate_limit,
    )


def error_document(error: EvalForgeError) -> dict[str, Any]:
    """An error as a report tells it."""
    return {
        "code": error.code,
        "message": error.message,
        "http_status": error.http_status,
        "exit_code": error.exit_code,
        "retry_after_s": error.retry_after_s if isinstance(error, RetriableError) else None,
    }


async def check_keys(store: Store, ring: KeyRing) -> None:
    """Makes sure that the ring has every key that stored hashes were made with, and remembers all of its own.

    Without one of them each user would be split in two, and nobody could be found whole.

    Raises:
        StoreError: a key is missing; names the ids of both.
        StoreUnavailableError
    """
    known = await store.known_key_ids()
    present = frozenset(ring.key_ids)
    missing = sorted(known - present)
    if missing:
        raise StoreError(
            f"PII_SALT: stored user hashes were made with the key ids {', '.join(sorted(known))}; the ring has "
            f"{', '.join(sorted(present)) or 'none'}. Put the missing {', '.join(missing)} back (older keys go last)"
        )
    if present - known:
        await store.remember_key_ids(present)


def emit_summary(report: RunReport) -> None:
    """Writes the one summary line of a run."""
    document = report.document()
    emit(
        "run.finished",
        run_id=report.run_id,
        outcome=report.state,
        dry_run=report.rehearsed is not None,
        complete=report.complete,
        incomplete_because=report.incomplete_because,
        window=str(report.window),
        duration_s=document["duration_s"],
        **document["items"],
        **{name: document["captures"][name] for name in ("created", "updated", "unchanged", "refused", "kept_out")},
        expired=report.expired,
        request_count=document["request_count"],
        retry_count=document["retry_count"],
        filter_gaps=document["filter_gaps"],
    )
