"""One run: the lease, the windows to read, the budget, and the report that says what happened and what is still open."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from evalforge.core.ports import Checkpoint, Lease, Page, Source, Store
from evalforge.core.privacy import KeyRing
from evalforge.core.window import Window, iso_ms
from evalforge.erasure import Guard
from evalforge.errors import (
    EvalForgeError,
    QuotaExhaustedError,
    RetriableError,
    RunInProgressError,
    StoreError,
    StoreUnavailableError,
)
from evalforge.events import emit
from evalforge.ingest import Judge, Reading, Tally, ingest
from evalforge.users import Lookup, Nameless, look_up_users

LEASE_NAME = "ingestion"
LEASE_LIFETIME_S = 60.0
LEASE_RENEWAL_S = 20.0

NO_SALT_HINT = (
    "PII_SALT is not set: user ids are dropped and user_hash stays empty. Set it to a secret of at least 32 bytes and every "
    "capture says which (pseudonymous) user it hit, counts affected users and can be found for erasure."
)

INCOMPLETE = {
    "time_budget": "RUN_BUDGET_S is used up; the next run goes on from here",
    "cap": "MAX_CAPTURES_PER_RUN is reached; the next run goes on from here",
    "stopped": "the run was asked to stop; the next run goes on from here",
    "lease_lost": "another run took over",
    "partial": "Datadog gave partial pages to the end; run again",
    "filter_gaps": "the query misses failures that a sample without it found; set DATADOG_FILTER=scan, or EVALUATIONS",
    "query_mode": "DATADOG_FILTER=query cannot know what the query misses; auto and scan can",
    "error": "the run ended with an error; what it stored stays, the next run goes on",
}
"""Why a report may say `complete: false`, and what follows."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The bounds of one run: seconds, captures, and an outside wish to stop (asked after each page)."""

    seconds: float
    max_captures: int
    wants_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class RunProgress:
    """What is known after a stored page, for live display. `position` is 0 to 1 of the present window, by time."""

    source: str
    step: str
    position: float
    tally: Tally
    request_count: int
    rate_limit: dict[str, float | str]


@dataclass(slots=True)
class RunReport:
    """What one run did. `complete` is True only if every failing trace of the window is known to be captured.

    `incomplete_because` holds codes of `INCOMPLETE`. `error` is None, or code, message, http_status, exit_code and
    retry_after_s of what ended the run; what was stored before stays stored. `user_lookup` is None when users
    were not looked up on roots. `expired` is how many documents were deleted because their time was over.
    """

    run_id: str
    holder: str
    window: Window
    started_at: datetime
    filter_mode: str
    user_hash_enabled: bool
    finished_at: datetime | None = None
    duration_s: float = 0.0
    tally: Tally = field(default_factory=Tally)
    sources: list[dict[str, Any]] = field(default_factory=list)
    incomplete_because: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    user_lookup: Lookup | None = None
    expired: int = 0

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.incomplete_because

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        tally = self.tally
        return {
            "run_id": self.run_id,
            "holder": self.holder,
            "window": {"from": iso_ms(self.window.from_ms), "to": iso_ms(self.window.to_ms)},
            "started_at": _iso_of(self.started_at),
            "finished_at": _iso_of(self.finished_at) if self.finished_at else None,
            "duration_s": round(self.duration_s, 3),
            "filter": self.filter_mode,
            "complete": self.complete,
            "incomplete_because": [{"code": code, "meaning": INCOMPLETE[code]} for code in self.incomplete_because],
            "items": {
                "fetched": tally.fetched,
                "healthy": tally.healthy,
                "failing": tally.failing,
                "rejected": tally.rejected,
            },
            "captures": {
                "created": tally.created,
                "updated": tally.updated,
                "unchanged": tally.unchanged,
                "refused": tally.refused,
                "kept_out": tally.kept_out,
                "created_by_type": dict(sorted(tally.by_type.items())),
            },
            "expired": self.expired,
            "sources": self.sources,
            "filter_gaps": sorted({gap for source in self.sources for gap in source["filter_gaps"]}),
            "request_count": sum(source["request_count"] for source in self.sources),
            "retry_count": sum(source["retry_count"] for source in self.sources),
            "user_hash": {
                "enabled": self.user_hash_enabled,
                "hint": None if self.user_hash_enabled else NO_SALT_HINT,
                "lookup": self.user_lookup.document() if self.user_lookup else None,
            },
            "warnings": self.warnings,
            "error": self.error,
        }


async def run(
    sources: Sequence[Source],
    store: Store,
    judge: Judge,
    *,
    window: Window,
    budget: Budget,
    holder: str,
    filter_mode: str,
    clock: Callable[[], datetime],
    on_page: Callable[[RunProgress], None] | None = None,
    resolve_users: bool = False,
) -> RunReport:
    """Reads `window` from every source into the store, under the store's lease, and says what came of it.

    A source whose last run stopped early first finishes that window, then reads what `window` has beyond it. With
    `resolve_users`, the users of captures that name none are looked up on the traces' roots after everything else.

    Raises:
        RunInProgressError: another run holds the lease.
        StoreError: the hashing keys do not match those that stored hashes were made with.
        StoreUnavailableError: the store did not answer before the run began.
    """
    report = RunReport(
        run_id=new_run_id(clock()),
        holder=holder,
        window=window,
        started_at=clock(),
        filter_mode=filter_mode,
        user_hash_enabled=bool(judge.ring.keys),
    )
    began = time.monotonic()
    async with held_lease(store, holder, report.run_id, clock) as lease_is_lost:
        await check_keys(store, judge.ring)
        guard = await Guard.opened(store, judge.ring, run_id=report.run_id, clock=clock)
        emit(
            "run.started",
            run_id=report.run_id,
            holder=holder,
            window=str(window),
            sources=[source.name for source in sources],
            filter=filter_mode,
        )

        def should_stop(tally: Tally) -> str | None:
            if lease_is_lost():
                return "lease_lost"
            if budget.wants_stop():
                return "stopped"
            if time.monotonic() - began >= budget.seconds:
                return "time_budget"
            return "cap" if tally.capture_count >= budget.max_captures else None

        nameless = Nameless() if resolve_users else None
        for source in sources:
            if not await _read_source(source, store, judge, guard, report, clock, should_stop, on_page, nameless):
                break
        if nameless is not None:
            await _look_up_users(nameless, sources, store, judge.ring, guard, report, clock, should_stop)
            report.tally.kept_out = guard.kept_out_count
        await _delete_expired(store, report, clock())
    for source in sources:
        _conclude(source, report)
    report.finished_at = clock()
    report.duration_s = time.monotonic() - began
    _emit_summary(report)
    return report


async def _read_source(
    source: Source,
    store: Store,
    judge: Judge,
    guard: Guard,
    report: RunReport,
    clock: Callable[[], datetime],
    should_stop: Callable[[Tally], str | None],
    on_page: Callable[[RunProgress], None] | None,
    nameless: Nameless | None,
) -> bool:
    """Reads all windows that are due from one source; False when the run should not go on to the next."""

    def heard(page: Page) -> None:
        if on_page is not None:
            on_page(_progress(source, page, report.tally))

    reading = Reading(report.run_id, judge, guard, clock, should_stop, heard)
    if nameless is not None:
        reading = replace(reading, on_captures=nameless.hear)
    try:
        checkpoint = await store.load_checkpoint(source.name)
        for window, after in windows_due(report.window, checkpoint):
            checkpoint, stopped = await ingest(source, store, window, after or checkpoint, reading, report.tally)
            if stopped is not None:
                _note(report, stopped)
                return False
    except EvalForgeError as error:
        _note(report, "error")
        report.error = report.error or _error_document(error)
        emit(
            "run.failed",
            run_id=report.run_id,
            code=error.code,
            retry_after_s=error.retry_after_s if isinstance(error, RetriableError) else None,
        )
        # Each source has a quota of its own; any other trouble would meet the next source too.
        return isinstance(error, QuotaExhaustedError)
    return True


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

    def stopped() -> str | None:
        # The cap bounds how many captures are read; these are read already.
        reason = should_stop(report.tally)
        return None if reason == "cap" else reason

    if not ring.keys:
        report.warnings.append("DATADOG_RESOLVE_USERS is on, but no user can be hashed: PII_SALT is not set")
        return
    if report.error is not None and report.error["code"] != QuotaExhaustedError.code:
        report.warnings.append("users were not looked up: the run ended with an error; a later run does")
        return
    report.user_lookup = await look_up_users(
        sources, store, ring, nameless, guard=guard, run_id=report.run_id, clock=clock, should_stop=stopped
    )
    report.warnings.extend(report.user_lookup.warnings)


async def _delete_expired(store: Store, report: RunReport, now: datetime) -> None:
    """Deletes what is due, if the store does not do it by itself; where that fails the next run does it."""
    try:
        report.expired = await store.delete_expired(now=now)
    except EvalForgeError as error:
        report.warnings.append(f"what has expired was not deleted ({error.code}); the next run does it")


def windows_due(asked: Window, checkpoint: Checkpoint | None) -> list[tuple[Window, Checkpoint | None]]:
    """What to read, in order: first the window that an earlier run left unfinished, then the rest of the one asked for."""
    if checkpoint is None or checkpoint.done:
        return [(asked, checkpoint)]
    return [(checkpoint.window, checkpoint), *((rest, None) for rest in asked.without(checkpoint.window))]


def _conclude(source: Source, report: RunReport) -> None:
    status = source.status
    report.sources.append(asdict(status))
    if status.partial:
        _note(report, "partial")
    if status.filter_gaps:
        _note(report, "filter_gaps")
    if status.mode == "query" and status.skipped is None:
        _note(report, "query_mode")
    for warning in status.warnings:
        report.warnings.append(f"{source.name}: {warning}")
        emit("source.warned", run_id=report.run_id, source=source.name, warning=warning)


def _note(report: RunReport, code: str) -> None:
    if code not in report.incomplete_because:
        report.incomplete_because.append(code)


def _progress(source: Source, page: Page, tally: Tally) -> RunProgress:
    checkpoint = page.checkpoint
    window = checkpoint.window
    read_ms = window.duration_ms if checkpoint.done else (checkpoint.last_ms or window.from_ms) - window.from_ms
    return RunProgress(
        source=source.name,
        step=checkpoint.step,
        position=min(max(read_ms / window.duration_ms, 0.0), 1.0),
        tally=tally,
        request_count=source.status.request_count,
        rate_limit=source.status.rate_limit,
    )


def _error_document(error: EvalForgeError) -> dict[str, Any]:
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


@asynccontextmanager
async def held_lease(
    store: Store, holder: str, run_id: str, clock: Callable[[], datetime]
) -> AsyncIterator[Callable[[], bool]]:
    """The right to run while the block lasts; gives a function that says whether it was lost to another.

    Raises:
        RunInProgressError: somebody else holds it.
        StoreError, StoreUnavailableError
    """
    now = clock()
    lease = Lease(LEASE_NAME, holder, secrets.token_hex(8), now, now + timedelta(seconds=LEASE_LIFETIME_S))
    other = await store.acquire_lease(lease, now=now)
    if other is not None:
        since = _iso_of(other.acquired_at)
        emit("run.refused", holder=other.holder, since=since)
        raise RunInProgressError(other.holder, since, retry_after_s=max((other.expires_at - now).total_seconds(), 1.0))
    lost = False

    async def renew() -> None:
        nonlocal lost, lease
        while not lost:
            await asyncio.sleep(LEASE_RENEWAL_S)
            now = clock()
            longer = Lease(lease.name, holder, lease.token, lease.acquired_at, now + timedelta(seconds=LEASE_LIFETIME_S))
            try:
                lost = not await store.renew_lease(longer, now=now)
                lease = longer
            except StoreUnavailableError:
                lost = now >= lease.expires_at  # nobody can take it before that; the store may be back in time
            if lost:
                emit("lease.lost", run_id=run_id, holder=holder)

    renewal = asyncio.create_task(renew())
    try:
        yield lambda: lost
    finally:
        renewal.cancel()
        with suppress(asyncio.CancelledError):
            await renewal
        with suppress(EvalForgeError):  # it expires by itself
            await store.release_lease(lease)


def new_run_id(now: datetime) -> str:
    """A name for what begins now, such as `run_20261123T062600_0a1b2c3d`."""
    return f"run_{now:%Y%m%dT%H%M%S}_{secrets.token_hex(4)}"


def default_holder(kind: str) -> str:
    """A name for this process as a lease holder: what it is, host and process id."""
    return f"{kind} {socket.gethostname()[:60]} pid {os.getpid()}"


def _emit_summary(report: RunReport) -> None:
    document = report.document()
    emit(
        "run.finished",
        run_id=report.run_id,
        outcome="failed" if report.error else "complete" if report.complete else "incomplete",
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


def _iso_of(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
