"""`SqliteStore`: the embedded store, one file, nothing to install.

Facts are kept as JSON text beside the few columns that are selected by. Reviewers and downstream may set `processed`, add
columns of their own and update them: ingestion writes its own columns only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from evalforge.core.capture import FailureCapture, document_id, merge_by_trace
from evalforge.core.ports import (
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
from evalforge.stores import lossless, merging, records, sqlite_erasing, sqlite_reviewing, sqlite_upkeep
from evalforge.stores.measuring import measure_batch
from evalforge.stores.merging import Outcome
from evalforge.stores.sqlite_file import Execute, SqliteFile, mend_layout, outdated_layout
from evalforge.stores.sqlite_rows import (
    INSERT_CAPTURE,
    UPDATE_CAPTURE,
    facts_in,
    row_of,
    stored_capture,
    time_text,
)

ROWS_PER_PAGE = 200
CAPTURES_PER_TRANSACTION = 500

_PAGE = f"SELECT * FROM {{{{raw_traces}}}} WHERE {{where}} ORDER BY started_at DESC, document_id DESC LIMIT {ROWS_PER_PAGE}"  # noqa: S608


class SqliteStore:
    """A `Store` in the SQLite file at `path` (or `:memory:`), made on first use; tables begin with `prefix`.

    A lock that another process holds for longer than `timeout_s` seconds is a StoreUnavailableError. `telemetry` hears of
    each batch of captures.
    """

    def __init__(self, path: str, *, prefix: str, timeout_s: float = 30.0, telemetry: Telemetry = SILENCE) -> None:
        self._telemetry = telemetry
        self._file = SqliteFile(path, prefix=prefix, timeout_s=timeout_s)
        self._known_checkpoints: set[str] = set()

    # -- captures

    async def recognize(self, origins: Mapping[str, bytes], *, now: datetime) -> Recognized:
        """Which of these traces have a live capture that names this origin, and which have none at all."""
        return await self._file.read(partial(_recognized, origins=origins, now=now))

    async def upsert(
        self, captures: Sequence[FailureCapture], *, now: datetime, absent: Collection[str] = ()
    ) -> UpsertResult:
        """Merges each capture into the stored one of its trace and writes only what changed; see `ports.Captures`."""
        return await self._each(captures, now, writes=True)

    async def compare(self, captures: Sequence[FailureCapture], *, now: datetime) -> UpsertResult:
        """What `upsert` would make of these captures; writes nothing."""
        return await self._each(captures, now, writes=False)

    async def _each(self, captures: Sequence[FailureCapture], now: datetime, *, writes: bool) -> UpsertResult:
        result = UpsertResult()
        merged = merge_by_trace(captures)
        for start in range(0, len(merged), CAPTURES_PER_TRANSACTION):
            part = merged[start : start + CAPTURES_PER_TRANSACTION]
            run = self._file.write if writes else self._file.read
            with measure_batch(self._telemetry, "sqlite", len(part) if writes else 0):
                result = result.joined(await run(partial(_upsert, captures=part, now=now, writes=writes)))
        return result

    async def get(self, trace_id: str, *, now: datetime) -> StoredCapture | None:
        """The capture of a trace, unless it has none or it has expired.

        Raises:
            StoreUnavailableError, StoreError: the latter also when the stored row is no capture.
        """
        values = (document_id(trace_id), time_text(now))
        rows = await self._rows("SELECT * FROM {raw_traces} WHERE document_id = ? AND expires_at > ?", values)
        if not rows:
            return None
        try:
            return stored_capture(rows[0])
        except SkippableError as error:
            raise StoreError(f"the row {values[0]} of {self._file.path} is no capture: repair or delete it") from error

    async def select(
        self, selection: Selection, *, now: datetime, beyond: Position | None = None
    ) -> AsyncIterator[StoredCapture]:
        """The live captures that match, the latest start first, ties by greater document id first; streamed.

        Rows that are no captures (somebody else's) are left out.
        """
        given_count = 0
        while selection.limit is None or given_count < selection.limit:
            clause, values = sqlite_reviewing.where(sqlite_reviewing.conditions_of(selection, now, beyond))
            rows = await self._rows(_PAGE.format(where=clause), values)
            for row in rows:
                if selection.limit is not None and given_count >= selection.limit:
                    return
                try:
                    stored = stored_capture(row)
                except SkippableError:
                    continue
                given_count += 1
                yield stored
            if len(rows) < ROWS_PER_PAGE:
                return
            beyond = Position(datetime.fromisoformat(rows[-1]["started_at"]), rows[-1]["document_id"])

    async def count(self, *, now: datetime) -> int:
        """How many live captures there are."""
        rows = await self._rows("SELECT COUNT(*) FROM {raw_traces} WHERE expires_at > ?", (time_text(now),))
        return int(rows[0][0])

    async def count_matching(self, selection: Selection, *, now: datetime) -> int:
        """How many captures match, or `limit` if that is less."""
        return await sqlite_reviewing.count_matching(self._file, selection, now)

    async def briefs(self, selection: Selection, *, now: datetime) -> Sequence[Brief]:
        """The live captures that match in short, the latest start first."""
        return await sqlite_reviewing.briefs(self._file, selection, now)

    async def facets(self, selection: Selection, *, now: datetime) -> Sequence[Facets]:
        """What groups count of the live captures that match, the latest start first."""
        return await sqlite_reviewing.facets(self._file, selection, now)

    async def newest_by_signature(self, *, now: datetime) -> Sequence[Brief]:
        """The newest live capture of each signature, in short."""
        return await sqlite_reviewing.newest_by_signature(self._file, now)

    async def first_started_at(self, signature: str, *, now: datetime) -> datetime | None:
        """When the earliest live capture of a signature started."""
        return await sqlite_reviewing.first_started_at(self._file, signature, now)

    async def values_of(self, field: str, *, now: datetime) -> Sequence[str]:
        """The distinct values of one of `SELECTED_BY`, ascending."""
        return await sqlite_reviewing.values_of(self._file, field, now)

    # -- reviews

    async def load_review(self, signature: str) -> Review:
        """The review of a group; a fresh one where nobody has touched it."""
        return await sqlite_reviewing.load_review(self._file, signature)

    def reviews(self, state: ReviewState | None = None) -> AsyncIterator[Review]:
        """Every stored review, or those in that state; streamed."""
        return sqlite_reviewing.reviews(self._file, state)

    async def save_review(self, review: Review) -> bool:
        """Writes the review if the stored one still has its version."""
        return await sqlite_reviewing.save_review(self._file, review)

    # -- checkpoints, lease, key ids

    async def load_checkpoints(self, source: str, tiers: Sequence[str]) -> Mapping[str, Checkpoint]:
        """The last saved checkpoint of each of these tiers of a source that has one, by tier."""
        found = {}
        for tier in tiers:
            key = records.checkpoint_key(source, tier)
            rows = await self._rows("SELECT document FROM {checkpoints} WHERE source = ?", (key,))
            if rows:
                self._known_checkpoints.add(key)
                found[tier] = records.checkpoint_of(lossless.loads(rows[0]["document"]))
        return found

    async def save_checkpoint(self, checkpoint: Checkpoint, *, fence: int) -> bool:
        """Replaces the checkpoint of the same source and tier, unless a greater fence has saved it or it was purged."""
        key = records.checkpoint_key(checkpoint.source, checkpoint.tier)
        document = lossless.dumps(records.checkpoint_document(checkpoint, fence))

        def save(execute: Execute) -> bool:
            row = execute("SELECT document FROM {checkpoints} WHERE source = ?", (key,)).fetchone()
            if row is None and key in self._known_checkpoints:
                return False
            if row is not None and records.fence_of(lossless.loads(row["document"])) > fence:
                return False
            execute("INSERT OR REPLACE INTO {checkpoints} (source, document) VALUES (?, ?)", (key, document))
            return True

        saved = await self._file.write(save)
        if saved:
            self._known_checkpoints.add(key)
        return saved

    async def load_coverage(self, source: str) -> Coverage | None:
        """What the last backfill that did not finish has read of a source."""
        rows = await self._rows("SELECT document FROM {coverage} WHERE source = ?", (records.record_id(source),))
        return records.coverage_of(lossless.loads(rows[0]["document"])) if rows else None

    async def save_coverage(self, coverage: Coverage) -> None:
        """Replaces the source's coverage."""
        values = (records.record_id(coverage.source), lossless.dumps(records.coverage_document(coverage)))
        await self._rows("INSERT OR REPLACE INTO {coverage} (source, document) VALUES (?, ?)", values)

    async def load_told(self) -> Told | None:
        """What was told of groups; None where nothing ever was, or what is kept cannot be read."""
        rows = await self._rows("SELECT document FROM {told} WHERE name = ?", (records.TOLD_NAME,))
        with suppress(ValueError):  # no JSON: nothing that can be read
            return records.told_of(lossless.loads(rows[0]["document"])) if rows else None
        return None

    async def save_told(self, told: Told) -> None:
        """Replaces what was told."""
        values = (records.TOLD_NAME, lossless.dumps(records.told_document(told)))
        await self._rows("INSERT OR REPLACE INTO {told} (name, document) VALUES (?, ?)", values)

    async def acquire_lease(self, lease: Lease, *, now: datetime) -> Lease:
        """The lease that stands now: this one, with its fence, or that of another token which has not expired."""

        def acquire(execute: Execute) -> Lease:
            held = _lease(execute, lease.name)
            if held is not None and records.is_blocked(held, lease.token, now):
                return held
            taken = records.held_next(lease, held, now)
            _write_lease(execute, taken)
            return taken

        return await self._file.write(acquire)

    async def renew_lease(self, lease: Lease, *, now: datetime) -> bool:
        """Extends the lease to `lease.expires_at`; False when this token does not hold it any more."""

        def renew(execute: Execute) -> bool:
            held = _lease(execute, lease.name)
            if held is None or held.token != lease.token:
                return False
            _write_lease(execute, lease)
            return True

        return await self._file.write(renew)

    async def release_lease(self, lease: Lease) -> None:
        """Gives the lease back; nothing happens when it is not held by this token. Its fence is remembered."""

        def release(execute: Execute) -> None:
            held = _lease(execute, lease.name)
            if held is not None and held.token == lease.token:
                _write_lease(execute, records.given_back(held))

        await self._file.write(release)

    async def held_lease(self, name: str) -> Lease | None:
        """The lease of that name as it stands, given back or expired ones too; None when there never was one."""
        return await self._file.read(lambda execute: _lease(execute, name))

    async def known_key_ids(self) -> frozenset[str]:
        """The ids of every hashing key that stored hashes were made with."""
        return frozenset(row["key_id"] for row in await self._rows("SELECT key_id FROM {keyring}"))

    async def remember_key_ids(self, key_ids: frozenset[str]) -> None:
        """Adds key ids to the remembered ones."""

        def remember(execute: Execute) -> None:
            for key_id in sorted(key_ids):
                execute("INSERT OR IGNORE INTO {keyring} (key_id) VALUES (?)", (key_id,))

        await self._file.write(remember)

    # -- dead letters

    async def keep(self, letters: Sequence[DeadLetter]) -> int:
        """Stores the letters that are not there yet and returns how many were new; an expired one is not there."""

        def keep(execute: Execute) -> int:
            new_count = 0
            for letter in letters:
                key = records.record_id(letter.id)
                execute("DELETE FROM {dead_letters} WHERE id = ? AND expires_at <= ?", (key, time_text(letter.occurred_at)))
                values = (key, time_text(letter.expires_at), lossless.dumps(records.letter_document(letter)))
                statement = "INSERT OR IGNORE INTO {dead_letters} (id, expires_at, document) VALUES (?, ?, ?)"
                new_count += execute(statement, values).rowcount
            return new_count

        return await self._file.write(keep)

    async def dead_letter_count(self, *, now: datetime) -> int:
        """How many live dead letters there are."""
        rows = await self._rows("SELECT COUNT(*) FROM {dead_letters} WHERE expires_at > ?", (time_text(now),))
        return int(rows[0][0])

    async def dead_letters(self, *, now: datetime) -> AsyncIterator[DeadLetter]:
        """The live dead letters, ascending by id; streamed. Rows that are none (somebody else's) are left out."""
        last = ""
        while True:
            statement = f"SELECT * FROM {{dead_letters}} WHERE expires_at > ? AND id > ? ORDER BY id LIMIT {ROWS_PER_PAGE}"  # noqa: S608
            rows = await self._rows(statement, (time_text(now), last))
            for row in rows:
                with suppress(TypeError, ValueError, LookupError, AttributeError):
                    yield records.letter_of(lossless.loads(row["document"]))
            if len(rows) < ROWS_PER_PAGE:
                return
            last = rows[-1]["id"]

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        """Deletes the letters with these ids and says how many there were."""

        def remove(execute: Execute) -> int:
            keys = [records.record_id(one) for one in dict.fromkeys(ids)]
            return sum(execute("DELETE FROM {dead_letters} WHERE id = ?", (key,)).rowcount for key in keys)

        return await self._file.write(remove)

    # -- runs

    async def save_run(self, record: RunRecord) -> None:
        """Writes or replaces the record."""
        document = lossless.dumps(records.run_document(record))
        values = (records.record_id(record.id), time_text(record.started_at), time_text(record.expires_at), document)
        statement = "INSERT OR REPLACE INTO {runs} (id, started_at, expires_at, document) VALUES (?, ?, ?, ?)"
        await self._rows(statement, values)

    async def load_run(self, run_id: str, *, now: datetime) -> RunRecord | None:
        """The record of a run, unless there is none or it has expired."""
        values = (records.record_id(run_id), time_text(now))
        rows = await self._rows("SELECT document FROM {runs} WHERE id = ? AND expires_at > ?", values)
        return records.run_of(lossless.loads(rows[0]["document"])) if rows else None

    async def recent_runs(self, *, limit: int, now: datetime) -> Sequence[RunRecord]:
        """The live records that began last, the latest first."""
        statement = "SELECT document FROM {runs} WHERE expires_at > ? ORDER BY started_at DESC, id DESC LIMIT ?"
        rows = await self._rows(statement, (time_text(now), limit))
        return [records.run_of(lossless.loads(row["document"])) for row in rows]

    # -- exports

    async def save_package(self, package: ExportPackage) -> None:
        """Writes or replaces the record."""
        document = lossless.dumps(records.package_document(package))
        values = (records.record_id(package.id), time_text(package.created_at), document)
        await self._rows("INSERT OR REPLACE INTO {exports} (id, created_at, document) VALUES (?, ?, ?)", values)

    async def load_package(self, package_id: str) -> ExportPackage | None:
        """The record with this id, if there is one."""
        rows = await self._rows("SELECT document FROM {exports} WHERE id = ?", (records.record_id(package_id),))
        return records.package_of(lossless.loads(rows[0]["document"])) if rows else None

    async def packages(self, *, limit: int = 100) -> Sequence[ExportPackage]:
        """The newest records first."""
        rows = await self._rows("SELECT document FROM {exports} ORDER BY created_at DESC, id DESC LIMIT ?", (limit,))
        return [records.package_of(lossless.loads(row["document"])) for row in rows]

    # -- erasures

    async def save_erasure(self, erasure: Erasure) -> None:
        """Writes or replaces the record, and changes the epoch with it; see `ports.Erasures`."""
        await sqlite_erasing.save(self._file, erasure)

    async def erasure_epoch(self) -> str:
        """A token that changes with every saved erasure; "" before the first."""
        rows = await self._rows("SELECT epoch FROM {tombstones} ORDER BY saved DESC LIMIT 1")
        return str(rows[0]["epoch"]) if rows else ""

    def erasures(self) -> AsyncIterator[Erasure]:
        """Every record, oldest first."""
        return sqlite_erasing.erasures(self._file)

    def captures_of_users(self, user_hashes: frozenset[str]) -> AsyncIterator[StoredCapture]:
        """Every stored capture with one of these in `user_hashes`, expired ones too; streamed, ascending by key."""
        return sqlite_erasing.captures_of_users(self._file, user_hashes)

    async def delete_captures(self, trace_ids: Sequence[str], *, user_hashes: frozenset[str] = frozenset()) -> int:
        """Deletes the captures of these traces and of these users, and says how many there were."""
        return await sqlite_erasing.delete_captures(self._file, trace_ids, user_hashes)

    async def delete_dead_letters(self, trace_ids: Sequence[str]) -> int:
        """Deletes the dead letters about these traces and says how many there were."""
        return await sqlite_erasing.delete_dead_letters(self._file, trace_ids)

    # -- upkeep

    def documents(self, collection: str, *, after: str | None = None) -> AsyncIterator[StoredDocument]:
        """Every document of one of `ports.COLLECTIONS` with a key greater than `after`, ascending by key; streamed."""
        return sqlite_upkeep.documents(self._file, collection, after)

    async def rewrite(self, capture: FailureCapture, stored: StoredDocument, *, now: datetime) -> bool:
        """Replaces the facts of a stored capture if it still has that version; see `ports.Upkeep`."""
        return await sqlite_upkeep.rewrite(self._file, capture, stored, now)

    async def replace(self, old: StoredDocument, document: Mapping[str, Any]) -> bool:
        """Puts a record in place of another version of it if nobody wrote that meanwhile; see `ports.Upkeep`."""
        return await sqlite_upkeep.replace(self._file, old, document)

    async def outdated_layout(self) -> Sequence[str]:
        """What of the file is not laid out as a new one would be."""
        return await self._file.read(outdated_layout)

    async def mend_layout(self) -> None:
        """Lays the file out as a new one would be; earlier programs refuse it from then on."""
        await self._file.write(mend_layout)

    async def remove(self, stored: StoredDocument) -> bool:
        """Deletes one document if it still has that version; see `ports.Upkeep`."""
        return await sqlite_upkeep.remove(self._file, stored)

    async def delete_expired(self, *, now: datetime) -> int:
        """Deletes captures, dead letters and runs that have expired and says how many."""
        return await sqlite_upkeep.delete_expired(self._file, now)

    async def purge(self, *, on_deleted: Callable[[str, int], None] | None = None) -> Mapping[str, int]:
        """Deletes every row of every table of this prefix, and says how many by collection."""
        return await sqlite_upkeep.purge(self._file, on_deleted)

    # -- the file

    async def ping(self) -> None:
        """Returns when the file answers one read.

        Raises:
            StoreUnavailableError, StoreError
        """
        await self._rows("SELECT 1 FROM {raw_traces} LIMIT 1")

    async def close(self) -> None:
        """Closes the file; nothing may be called afterwards, except this."""
        await self._file.close()

    async def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        return await self._file.read(lambda execute: execute(statement, values).fetchall())


def _upsert(execute: Execute, *, captures: Sequence[FailureCapture], now: datetime, writes: bool) -> UpsertResult:
    outcome = Outcome()
    for capture in captures:
        try:
            fate, document, statements = _planned(execute, capture, now, outcome)
        except SkippableError as error:
            outcome.refused.append((capture.trace_id, error.code))
            continue
        outcome.note(fate, capture.trace_id, document)
        for statement, values in statements if writes else ():
            execute(statement, values)
    return outcome.result()


def _recognized(execute: Execute, *, origins: Mapping[str, bytes], now: datetime) -> Recognized:
    outcome, absent = Outcome(), set[str]()
    for trace_id, origin in origins.items():
        row = execute(
            "SELECT expires_at, facts FROM {raw_traces} WHERE document_id = ?", (document_id(trace_id),)
        ).fetchone()
        if row is None:
            absent.add(trace_id)
        elif row["expires_at"] > time_text(now):
            with suppress(SkippableError):  # the upsert says what is wrong with it
                outcome.recognize(trace_id, facts_in(row), origin)
    return Recognized(outcome.result(), frozenset(absent))


_Statements = Sequence[tuple[str, tuple[Any, ...]]]


def _planned(
    execute: Execute, capture: FailureCapture, now: datetime, outcome: Outcome
) -> tuple[list[str], Mapping[str, Any], _Statements]:
    """The list of the outcome that the capture belongs to, the document that stands then, and the statements for that.

    Raises:
        SkippableError
    """
    fitted, document = merging.fitted_document(capture)
    key = fitted.document_id
    found = execute("SELECT fingerprint, expires_at, facts FROM {raw_traces} WHERE document_id = ?", (key,))
    row = found.fetchone()
    if row is None or row["expires_at"] <= time_text(now):
        clearing = ("DELETE FROM {raw_traces} WHERE document_id = ?", (key,))
        return outcome.created, document, (clearing, (INSERT_CAPTURE, row_of(key, document, now)))
    if row["fingerprint"] == document["fingerprint"]:
        return outcome.unchanged, document, ()
    facts = facts_in(row)
    merged = merging.merged_document(fitted, facts)
    if merged is None:
        return outcome.unchanged, facts, ()
    return outcome.updated, merged, ((UPDATE_CAPTURE, (*row_of(key, merged, now), key)),)


def _lease(execute: Execute, name: str) -> Lease | None:
    row = execute("SELECT document FROM {leases} WHERE name = ?", (records.record_id(name),)).fetchone()
    return None if row is None else records.lease_of(lossless.loads(row["document"]))


def _write_lease(execute: Execute, lease: Lease) -> None:
    values = (records.record_id(lease.name), lossless.dumps(records.lease_document(lease)))
    execute("INSERT OR REPLACE INTO {leases} (name, document) VALUES (?, ?)", values)
