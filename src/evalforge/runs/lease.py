"""The right to run: one holder at a time for a store and prefix, renewed while it works, taken over when it dies."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from evalforge.core.ports import Lease, Store
from evalforge.errors import EvalForgeError, RunInProgressError, StoreUnavailableError
from evalforge.events import emit
from evalforge.runs.report import iso_of

LEASE_NAME = "ingestion"
"""The lease of runs. Whatever deletes everything takes it too."""
BACKFILL_LEASE_NAME = "backfill"
"""The lease of backfills, apart from that of runs: a schedule goes on beside them."""
ARCHIVE_LEASE_NAME = "archive"
"""The lease of those who judge archives, or stored captures once more: beside runs and backfills."""

LEASE_LIFETIME_S = 60.0
LEASE_RENEWAL_S = 20.0


@dataclass(slots=True)
class Held:
    """A lease that this process has; `is_lost` once another has taken it, or may have."""

    lease: Lease
    is_lost: bool = False

    @property
    def fence(self) -> int:
        """What the checkpoints of this holder are saved with."""
        return self.lease.fence


async def taken_lease(
    store: Store, holder: str, now: datetime, *, name: str = LEASE_NAME, lifetime_s: float = LEASE_LIFETIME_S
) -> Lease:
    """The lease of that name, held by `holder` from now on.

    Raises:
        RunInProgressError: another holder has it; says who and since when.
        StoreError, StoreUnavailableError: the store did not answer.
    """
    wanted = Lease(name, holder, secrets.token_hex(8), now, now + timedelta(seconds=lifetime_s))
    standing = await store.acquire_lease(wanted, now=now)
    if standing.token == wanted.token:
        return standing
    since = iso_of(standing.acquired_at)
    emit("run.refused", holder=standing.holder, since=since)
    raise RunInProgressError(standing.holder, since, retry_after_s=max((standing.expires_at - now).total_seconds(), 1.0))


@asynccontextmanager
async def held_lease(
    store: Store, holder: str, run_id: str, clock: Callable[[], datetime], *, name: str = LEASE_NAME
) -> AsyncIterator[Held]:
    """The right to run while the block lasts; renewed meanwhile, given back at its end.

    Raises:
        RunInProgressError: another holder has it; says who and since when.
        StoreError, StoreUnavailableError: the store did not answer.
    """
    held = Held(await taken_lease(store, holder, clock(), name=name))
    renewal = asyncio.create_task(_renewing(store, held, run_id, clock))
    try:
        yield held
    finally:
        renewal.cancel()
        with suppress(asyncio.CancelledError):
            await renewal
        with suppress(EvalForgeError):  # it expires by itself
            await store.release_lease(held.lease)


async def _renewing(store: Store, held: Held, run_id: str, clock: Callable[[], datetime]) -> None:
    while not held.is_lost:
        await asyncio.sleep(LEASE_RENEWAL_S)
        now = clock()
        longer = replace(held.lease, expires_at=now + timedelta(seconds=LEASE_LIFETIME_S))
        try:
            held.is_lost = not await store.renew_lease(longer, now=now)
            held.lease = longer
        except StoreUnavailableError:
            held.is_lost = clock() >= held.lease.expires_at  # nobody can take it before that; the store may be back in time
        except EvalForgeError:
            held.is_lost = True
        if held.is_lost:
            emit("lease.lost", run_id=run_id, holder=held.lease.holder)


def default_holder(kind: str) -> str:
    """A name for this process as a lease holder: what it is, host and process id."""
    return f"{kind} {socket.gethostname()[:60]} pid {os.getpid()}"
