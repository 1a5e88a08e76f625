"""One run: the lease, the windows to read, the budget, and the report that says what happened and what is still open."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from evalforge.core.ports import Checkpoint, Lease, Page, Source, Store
from evalforge.core.privacy import KeyRing
from evalforge.core.window import Window, iso_ms
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
    retry_after_s of what ended the run; what was stored before stays stored.
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
                "created_by_type": dict(sorted(tally.by_type.items())),
            },
            "sources": self.sources,
            "filter_gaps": sorted({gap for source in self.sources for gap in source["filter_gaps"]}),
            "request_count": sum(source["request_count"] for source in self.sources),
            "retry_count": sum(source["retry_count"] for source in self.sources),
            "user_hash": {"enabled": self.user_hash_enabled, "hint": None if self.user_hash_enabled else NO_SALT_HINT},
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
) -> RunReport:
    """Reads `window` from every source into the store, under the store's lease, and says what came of it.

    A source whose last run stopped early first finishes that window, then reads what `window` has beyond it.

    Raises:
        RunInProgressError: another run holds the lease.
        StoreError: the hashing keys do not match those that stored hashes were made with.
        StoreUnavailableError: the store did not answer before the run began.
    """
    report = RunReport(
        run_id=f"run_{clock():%Y%m%dT%H%M%S}_{secrets.token_hex(4)}",
        holder=holder,
        window=window,
        started_at=clock(),
        filter_mode=filter_mode,
        user_hash_enabled=bool(judge.ring.keys),
    )
    began = time.monotonic()
    async with _held_lease(store, holder, report.run_id, clock) as lease_is_lost:
        await _check_keys(store, judge.ring)
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

        for source in sources:
            if not await _read_source(source, store, judge, report, clock, should_stop, on_page):
                break
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
    report: RunReport,
    clock: Callable[[], datetime],
    should_stop: Callable[[Tally], str | None],
    on_page: Callable[[RunProgress], None] | None,
) -> bool:
    """Reads all windows that are due from one source; False when the run should not go on to the next."""

    def heard(page: Page) -> None:
        if on_page is not None:
            on_page(_progress(source, page, report.tally))

    reading = Reading(report.run_id, judge, clock, should_stop, heard)
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


async def _check_keys(store: Store, ring: KeyRing) -> None:
    """A ring without a key that stored hashes were made with would split each user in two: stop before that."""
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
async def _held_lease(
    store: Store, holder: str, run_id: str, clock: Callable[[], datetime]
) -> AsyncIterator[Callable[[], bool]]:
    """The right to run while the block lasts; gives a function that says whether it was lost to another."""
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
        **{name: document["captures"][name] for name in ("created", "updated", "unchanged", "refused")},
        request_count=document["request_count"],
        retry_count=document["retry_count"],
        filter_gaps=document["filter_gaps"],
    )


def _iso_of(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
