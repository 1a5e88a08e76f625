"""`FirestoreStore`: the team's store. Google's client is imported here and nowhere else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture, document_id
from evalforge.core.ports import (
    COLLECTIONS,
    Brief,
    Checkpoint,
    Coverage,
    DeadLetter,
    Erasure,
    ExportPackage,
    Facets,
    Lease,
    Position,
    Recognized,
    RunRecord,
    Selection,
    StoredCapture,
    StoredDocument,
    Told,
    UpsertResult,
)
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.review import Review, ReviewState
from evalforge.errors import SkippableError, StoreError
from evalforge.stores import records
from evalforge.stores.firestore import erasing, ledger, reader, reviewing, upkeep, upserting
from evalforge.stores.firestore.connection import Connection
from evalforge.stores.firestore.ramp import Ramp
from evalforge.stores.firestore.values import decode_fields
from evalforge.stores.firestore.writer import replacement, union

PING_PATIENCE_S = 5.0
_KEYRING = "keyring"
_TOLD_KEY = f"told_{records.TOLD_NAME}"

__all__ = ["FirestoreStore"]


class FirestoreStore:
    """A `Store` in a Firestore database, in collections whose names begin with `prefix`.

    `project` None means the project of the credentials, `database` None the default one. `emulator_host` (`host:port`)
    reaches an emulator without credentials. Nothing is opened before the first call; the store belongs to the event loop
    of that call. What is not answered within `timeout_s` seconds is a StoreUnavailableError. `ramp` says how fast writes
    may go: unless given, by Firestore's 500/50/5 rule, shared by `writers` processes that write at the same time, and on an
    emulator as they come. `telemetry` hears of each batch of captures.
    """

    def __init__(
        self,
        project: str | None,
        database: str | None = None,
        *,
        prefix: str,
        emulator_host: str | None = None,
        timeout_s: float = 30.0,
        ramp: Ramp | None = None,
        telemetry: Telemetry = SILENCE,
        writers: int = 1,
    ) -> None:
        if ramp is None and not emulator_host:
            ramp = Ramp(time.monotonic, writers=writers)
        self._connection = Connection(project, database, emulator_host, timeout_s, ramp, telemetry)
        self._captures = f"{prefix}raw_traces"
        self._groups = f"{prefix}groups"
        self._checkpoints = f"{prefix}checkpoints"
        self._dead_letters = f"{prefix}dead_letters"
        self._runs = f"{prefix}runs"
        self._exports = f"{prefix}exports"
        self._tombstones = f"{prefix}tombstones"
        self._by_name = {name: f"{prefix}{name}" for name in COLLECTIONS}
        self._fenced = ledger.Fenced(self._connection, self._checkpoints)

    # -- captures

    async def recognize(self, origins: Mapping[str, bytes], *, now: datetime) -> Recognized:
        """Which of these traces have a live capture that names this origin, and which have none at all."""
        return await upserting.recognize(self._connection, self._captures, origins, now)

    async def upsert(
        self, captures: Sequence[FailureCapture], *, now: datetime, absent: Collection[str] = ()
    ) -> UpsertResult:
        """Merges each capture into the stored one of its trace and writes only what changed; see `ports.Captures`."""
        return await upserting.upsert(self._connection, self._captures, captures, now, absent=absent)

    async def compare(self, captures: Sequence[FailureCapture], *, now: datetime) -> UpsertResult:
        """What `upsert` would make of these captures; writes nothing."""
        return await upserting.upsert(self._connection, self._captures, captures, now, writes=False)

    async def get(self, trace_id: str, *, now: datetime) -> StoredCapture | None:
        """The capture of a trace, unless it has none or it has expired.

        Raises:
            StoreUnavailableError, StoreError: the latter also when the stored document is no capture.
        """
        key = document_id(trace_id)
        await self._connection.client()
        path = self._connection.document_path(self._captures, key)
        found = (await reader.read_documents(self._connection, [path])).get(path)
        if found is None or reader.has_expired(found, now):
            return None
        try:
            return reader.stored_capture(found)
        except SkippableError as error:
            raise StoreError(f"{self._captures}/{key} is no capture: repair or delete it") from error

    async def select(
        self, selection: Selection, *, now: datetime, beyond: Position | None = None
    ) -> AsyncIterator[StoredCapture]:
        """The live captures that match, the latest start first, ties by greater document id first; streamed.

        Documents that are no captures (somebody else's) are left out.
        """
        given_count = 0
        if selection.limit is not None and selection.limit <= 0:
            return
        async for found in reader.query_captures(self._connection, self._captures, selection, beyond):
            if reader.has_expired(found, now):
                continue
            try:
                stored = reader.stored_capture(found)
            except SkippableError:
                continue
            yield stored
            given_count += 1
            if given_count == selection.limit:
                return

    async def count(self, *, now: datetime) -> int:
        """How many live captures there are."""
        return await reader.count_live(self._connection, self._captures, now)

    async def count_matching(self, selection: Selection, *, now: datetime) -> int:
        """How many captures match, or `limit` if that is less; what has expired counts until Firestore deletes it."""
        return await reader.count_matching(self._connection, self._captures, selection)

    async def briefs(self, selection: Selection, *, now: datetime) -> Sequence[Brief]:
        """The live captures that match in short, the latest start first; one read each."""
        return await reviewing.briefs(self._connection, self._captures, selection, now)

    async def facets(self, selection: Selection, *, now: datetime) -> Sequence[Facets]:
        """What groups count of the live captures that match, the latest start first; one read each."""
        return await reviewing.facets(self._connection, self._captures, selection, now)

    async def newest_by_signature(self, *, now: datetime) -> Sequence[Brief]:
        """The newest live capture of each signature, in short; one read each, and one for each sixteenth of them."""
        return await reviewing.newest_by_signature(self._connection, self._captures, now)

    async def first_started_at(self, signature: str, *, now: datetime) -> datetime | None:
        """When the earliest live capture of a signature started; one read."""
        return await reviewing.first_started_at(self._connection, self._captures, signature, now)

    async def values_of(self, field: str, *, now: datetime) -> Sequence[str]:
        """The distinct values of one of `SELECTED_BY`, ascending; one read each."""
        return await reviewing.values_of(self._connection, self._captures, field)

    # -- reviews

    async def load_review(self, signature: str) -> Review:
        """The review of a group; a fresh one where nobody has touched it."""
        return await reviewing.load_review(self._connection, self._groups, signature)

    def reviews(self, state: ReviewState | None = None) -> AsyncIterator[Review]:
        """Every stored review, or those in that state; streamed."""
        return reviewing.reviews(self._connection, self._groups, state)

    async def save_review(self, review: Review) -> bool:
        """Writes the review if the stored one still has its version."""
        return await reviewing.save_review(self._connection, self._groups, review)

    # -- checkpoints, lease, key ids

    async def load_checkpoints(self, source: str, tiers: Sequence[str]) -> Mapping[str, Checkpoint]:
        """The last saved checkpoint of each of these tiers of a source that has one, by tier; one read for each tier."""
        keys = {_source_key(source, tier): tier for tier in tiers}
        found = await self._fenced.read(list(keys))
        return {keys[key]: records.checkpoint_of(document) for key, document in found.items()}

    async def save_checkpoint(self, checkpoint: Checkpoint, *, fence: int) -> bool:
        """Replaces the checkpoint of the same source and tier, unless a greater fence has saved it or it was purged."""
        key = _source_key(checkpoint.source, checkpoint.tier)
        return await self._fenced.replace(key, records.checkpoint_document(checkpoint, fence), fence)

    async def load_coverage(self, source: str) -> Coverage | None:
        """What the last backfill that did not finish has read of a source."""
        document = await ledger.read_one(self._connection, self._checkpoints, f"coverage_{records.record_id(source)}")
        return None if document is None else records.coverage_of(document)

    async def save_coverage(self, coverage: Coverage) -> None:
        """Replaces the source's coverage."""
        document = records.coverage_document(coverage)
        key = f"coverage_{records.record_id(coverage.source)}"
        await ledger.write_one(self._connection, self._checkpoints, key, lambda path: replacement(path, document))

    async def load_told(self) -> Told | None:
        """What was told of groups; None where nothing ever was, or what is kept cannot be read."""
        document = await ledger.read_one(self._connection, self._checkpoints, _TOLD_KEY)
        return None if document is None else records.told_of(document)

    async def save_told(self, told: Told) -> None:
        """Replaces what was told."""
        document = records.told_document(told)
        await ledger.write_one(self._connection, self._checkpoints, _TOLD_KEY, lambda path: replacement(path, document))

    async def acquire_lease(self, lease: Lease, *, now: datetime) -> Lease:
        """The lease that stands now: this one, with its fence, or that of another token which has not expired."""
        standing = lease

        def taken(held: Lease | None) -> Lease | None:
            nonlocal standing
            if held is not None and records.is_blocked(held, lease.token, now):
                standing = held
                return None
            standing = records.held_next(lease, held, now)
            return standing

        await ledger.swap_lease(self._connection, self._checkpoints, lease.name, taken)
        return standing

    async def renew_lease(self, lease: Lease, *, now: datetime) -> bool:
        """Extends the lease to `lease.expires_at`; False when this token does not hold it any more."""
        return await self._swap_own(lease, lambda held: lease)

    async def release_lease(self, lease: Lease) -> None:
        """Gives the lease back; nothing happens when it is not held by this token. Its fence is remembered."""
        await self._swap_own(lease, records.given_back)

    async def _swap_own(self, lease: Lease, next_of: Callable[[Lease], Lease]) -> bool:
        def own(held: Lease | None) -> Lease | None:
            return next_of(held) if held is not None and held.token == lease.token else None

        return await ledger.swap_lease(self._connection, self._checkpoints, lease.name, own) is not None

    async def held_lease(self, name: str) -> Lease | None:
        """The lease of that name as it stands, given back or expired ones too; None when there never was one."""
        return await ledger.held_lease(self._connection, self._checkpoints, name)

    async def known_key_ids(self) -> frozenset[str]:
        """The ids of every hashing key that stored hashes were made with."""
        document = await ledger.read_one(self._connection, self._checkpoints, _KEYRING)
        return frozenset() if document is None else frozenset(document["key_ids"])

    async def remember_key_ids(self, key_ids: frozenset[str]) -> None:
        """Adds key ids to the remembered ones."""
        if key_ids:
            added = sorted(key_ids)
            await ledger.write_one(self._connection, self._checkpoints, _KEYRING, lambda path: union(path, "key_ids", added))

    # -- dead letters

    async def keep(self, letters: Sequence[DeadLetter]) -> int:
        """Stores the letters that are not there yet and returns how many were new; an expired one is not there."""
        return await ledger.keep_letters(self._connection, self._dead_letters, letters)

    async def dead_letter_count(self, *, now: datetime) -> int:
        """How many live dead letters there are."""
        return await reader.count_live(self._connection, self._dead_letters, now)

    async def dead_letters(self, *, now: datetime) -> AsyncIterator[DeadLetter]:
        """The live dead letters, ascending by id; streamed. Documents that are none (somebody else's) are left out."""
        async for page in reader.documents_by_name(self._connection, self._dead_letters):
            for found in page:
                if not reader.has_expired(found, now):
                    with suppress(TypeError, ValueError, LookupError, AttributeError):
                        yield records.letter_of(decode_fields(found.fields))

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        """Deletes the letters with these ids and says how many there were."""
        return await erasing.delete_present(self._connection, self._dead_letters, [records.record_id(one) for one in ids])

    # -- runs

    async def save_run(self, record: RunRecord) -> None:
        """Writes or replaces the record."""
        document = records.run_document(record)
        key = records.record_id(record.id)
        await ledger.write_one(self._connection, self._runs, key, lambda path: replacement(path, document))

    async def load_run(self, run_id: str, *, now: datetime) -> RunRecord | None:
        """The record of a run, unless there is none or it has expired."""
        document = await ledger.read_one(self._connection, self._runs, records.record_id(run_id))
        record = None if document is None else records.run_of(document)
        return record if record is not None and record.expires_at > now else None

    async def recent_runs(self, *, limit: int, now: datetime) -> Sequence[RunRecord]:
        """The live records that began last, the latest first."""
        found = await reader.newest_documents(self._connection, self._runs, "started_at", limit)
        runs = [records.run_of(decode_fields(document.fields)) for document in found]
        return [record for record in runs if record.expires_at > now]

    # -- exports

    async def save_package(self, package: ExportPackage) -> None:
        """Writes or replaces the record."""
        document = records.package_document(package)
        key = records.record_id(package.id)
        await ledger.write_one(self._connection, self._exports, key, lambda path: replacement(path, document))

    async def load_package(self, package_id: str) -> ExportPackage | None:
        """The record with this id, if there is one."""
        document = await ledger.read_one(self._connection, self._exports, records.record_id(package_id))
        return None if document is None else records.package_of(document)

    async def packages(self, *, limit: int = 100) -> Sequence[ExportPackage]:
        """The newest records first."""
        found = await reader.newest_documents(self._connection, self._exports, "created_at", limit)
        return [records.package_of(decode_fields(document.fields)) for document in found]

    # -- erasures

    async def save_erasure(self, erasure: Erasure) -> None:
        """Writes or replaces the record, then changes the epoch; see `ports.Erasures`."""
        await erasing.save(self._connection, self._tombstones, self._checkpoints, erasure)

    async def erasure_epoch(self) -> str:
        """A token that changes with every saved erasure; "" before the first."""
        return await erasing.epoch(self._connection, self._checkpoints)

    def erasures(self) -> AsyncIterator[Erasure]:
        """Every record, oldest first; one read for each, and one for every further 40,000 trace keys."""
        return erasing.erasures(self._connection, self._tombstones)

    def captures_of_users(self, user_hashes: frozenset[str]) -> AsyncIterator[StoredCapture]:
        """Every stored capture with one of these in `user_hashes`, expired ones too; streamed."""
        return erasing.captures_of_users(self._connection, self._captures, user_hashes)

    async def delete_captures(self, trace_ids: Sequence[str], *, user_hashes: frozenset[str] = frozenset()) -> int:
        """Deletes the captures of these traces and of these users, and says how many there were."""
        return await erasing.delete_captures(self._connection, self._captures, trace_ids, user_hashes)

    async def delete_dead_letters(self, trace_ids: Sequence[str]) -> int:
        """Deletes the dead letters about these traces and says how many there were."""
        return await erasing.delete_dead_letters(self._connection, self._dead_letters, trace_ids)

    # -- upkeep

    def documents(self, collection: str, *, after: str | None = None) -> AsyncIterator[StoredDocument]:
        """Every document of one of `ports.COLLECTIONS` with a key greater than `after`, ascending by key; streamed."""
        return upkeep.documents(self._connection, collection, self._by_name[collection], after)

    async def rewrite(self, capture: FailureCapture, stored: StoredDocument, *, now: datetime) -> bool:
        """Replaces the facts of a stored capture if it still has that version; see `ports.Upkeep`."""
        return await upkeep.rewrite(self._connection, self._captures, capture, stored, now)

    async def replace(self, old: StoredDocument, document: Mapping[str, Any]) -> bool:
        """Puts a record in place of another version of it if nobody wrote that meanwhile; see `ports.Upkeep`."""
        return await upkeep.replace(self._connection, self._by_name[old.collection], old, document)

    async def outdated_layout(self) -> Sequence[str]:
        """Nothing: a collection has no layout. Its indexes are deployed (`evalforge firestore indexes`)."""
        return ()

    async def mend_layout(self) -> None:
        """Does nothing: there is no layout."""

    async def remove(self, stored: StoredDocument) -> bool:
        """Deletes one document if it still has that version; see `ports.Upkeep`."""
        return await upkeep.remove(self._connection, self._by_name[stored.collection], stored)

    async def delete_expired(self, *, now: datetime) -> int:
        """0: Firestore's TTL policy deletes what has expired, and every read here leaves it out until then."""
        return 0

    async def purge(self, *, on_deleted: Callable[[str, int], None] | None = None) -> Mapping[str, int]:
        """Deletes every document of every collection of this prefix, and says how many by collection."""
        return await upkeep.purge(self._connection, self._by_name, on_deleted)

    # -- the database

    async def ping(self) -> None:
        """Returns when Firestore answers one read, found or not.

        Raises:
            StoreUnavailableError: no answer within 5 s.
            StoreError
        """
        connection = self._connection
        await connection.client()
        path = connection.document_path(self._captures, "ping")
        await reader.read_documents(connection, [path], patience_s=min(PING_PATIENCE_S, connection.timeout_s))

    async def close(self) -> None:
        """Closes the channel; nothing may be called afterwards, except this."""
        await self._connection.close()


def _source_key(source: str, tier: str) -> str:
    return f"source_{records.checkpoint_key(source, tier)}"
