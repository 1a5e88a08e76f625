"""A dry run's store: it reads what is there and writes nothing, so that the very same run can be tried."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import (
    Checkpoint,
    Coverage,
    DeadLetter,
    Erasure,
    Lease,
    Recognized,
    RunRecord,
    Store,
    StoredCapture,
    UpsertResult,
)
from evalforge.core.review import Review, ReviewState


class Rehearsal:
    """What a run needs of a store, over a real one: reads go through, and every write is answered as if it had been made.

    `upsert` says what would become of each capture. Methods that a run does not need are the real store's own and missing
    here, so that nothing can slip through.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def recognize(self, origins: Mapping[str, bytes], *, now: datetime) -> Recognized:
        """None: a dry run is there to show what the rules make of every span."""
        return Recognized()

    async def upsert(
        self, captures: Sequence[FailureCapture], *, now: datetime, absent: Collection[str] = ()
    ) -> UpsertResult:
        """What would become of each capture."""
        return await self._store.compare(captures, now=now)

    async def get(self, trace_id: str, *, now: datetime) -> StoredCapture | None:
        """The stored capture of a trace."""
        return await self._store.get(trace_id, now=now)

    async def load_checkpoints(self, source: str, tiers: Sequence[str]) -> Mapping[str, Checkpoint]:
        """The stored checkpoints, so that a dry run reads what the next run would."""
        return await self._store.load_checkpoints(source, tiers)

    async def save_checkpoint(self, checkpoint: Checkpoint, *, fence: int) -> bool:
        """True: the place is kept as it is."""
        return True

    async def load_coverage(self, source: str) -> Coverage | None:
        """What a backfill has read."""
        return await self._store.load_coverage(source)

    async def save_coverage(self, coverage: Coverage) -> None:
        """Nothing."""

    async def acquire_lease(self, lease: Lease, *, now: datetime) -> Lease:
        """The lease as it was asked for: a dry run is in nobody's way."""
        return lease

    async def renew_lease(self, lease: Lease, *, now: datetime) -> bool:
        """True."""
        return True

    async def release_lease(self, lease: Lease) -> None:
        """Nothing."""

    async def known_key_ids(self) -> frozenset[str]:
        """The ids of the keys that stored hashes were made with."""
        return await self._store.known_key_ids()

    async def remember_key_ids(self, key_ids: frozenset[str]) -> None:
        """Nothing."""

    async def dead_letter_count(self, *, now: datetime) -> int:
        """How many there are in the store."""
        return await self._store.dead_letter_count(now=now)

    async def keep(self, letters: Sequence[DeadLetter]) -> int:
        """How many letters there are; none is kept."""
        return len(letters)

    async def save_run(self, record: RunRecord) -> None:
        """Nothing: a dry run is not history."""

    async def erasure_epoch(self) -> str:
        """The token of the last erasure."""
        return await self._store.erasure_epoch()

    def erasures(self) -> AsyncIterator[Erasure]:
        """Every record of an erasure, so that what was erased counts as kept out."""
        return self._store.erasures()

    async def save_erasure(self, erasure: Erasure) -> None:
        """Nothing."""

    async def delete_captures(self, trace_ids: Sequence[str], *, user_hashes: frozenset[str] = frozenset()) -> int:
        """0."""
        return 0

    async def delete_dead_letters(self, trace_ids: Sequence[str]) -> int:
        """0."""
        return 0

    def reviews(self, state: ReviewState | None = None) -> AsyncIterator[Review]:
        """Every stored review."""
        return self._store.reviews(state)

    async def save_review(self, review: Review) -> bool:
        """True."""
        return True

    async def delete_expired(self, *, now: datetime) -> int:
        """0."""
        return 0

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"a dry run has no use for {name}")
