"""Writes documents in guarded batches, each document on its own: one that Firestore refuses takes no other along.

Never the library's BulkWriter, which drops whole batches in silence, and never transactions, which hold locks (both
measured). Each write carries a precondition, so that a concurrent writer shows as a conflict and is never overwritten.
Documents are encoded in the request that takes them, and not before it is their turn: what waits is no copy of anything.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.api_core import exceptions as google_errors
from google.cloud.firestore_v1 import types
from google.protobuf.timestamp_pb2 import Timestamp

from evalforge.errors import StoreError, StoreUnavailableError
from evalforge.stores.firestore.connection import RETRY_AFTER_S, TRANSIENT_CODES, Connection, Turn, delays
from evalforge.stores.firestore.values import encode_fields
from evalforge.stores.merging import NOT_REPRESENTABLE

WRITES_PER_BATCH = 50
BATCH_BYTES = 1_500_000
"""One document may be larger. Below the emulator's 4 MiB, and Firestore's own 10 MiB: it bounds memory, times the batches
in flight. Source: https://firebase.google.com/docs/firestore/quotas"""
DOCUMENT_BYTES = 2_000_000
"""A document of so many protobuf bytes is beyond Firestore's 1 MiB however it counts, and is not sent."""

INVALID = "invalid_document"
TOO_LARGE = "document_too_large"

PbBatchWriteRequest: Any = types.BatchWriteRequest.pb(types.BatchWriteRequest()).__class__

_OK, _INVALID_ARGUMENT, _NOT_FOUND, _ALREADY_EXISTS, _PERMISSION_DENIED, _FAILED_PRECONDITION = 0, 3, 5, 6, 7, 9
_CONFLICTS = frozenset({_NOT_FOUND, _ALREADY_EXISTS, _FAILED_PRECONDITION})

Write = Callable[[Any], None]
"""One write: fills the protobuf Write that it is given. TypeError or ValueError says that a document has no stored form."""


class Fate(Enum):
    """What became of one write: it stands, another writer came first, or Firestore cannot hold it."""

    WRITTEN = "written"
    CONFLICT = "conflict"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fate of one write: where refused with the reason code, where written with the version that stands now."""

    fate: Fate
    reason: str = ""
    update_time: Any = None


def creation(path: str, document: Mapping[str, Any]) -> Write:
    """The write that makes a document, and conflicts where there is one."""

    def fill(write: Any) -> None:
        _set(write, path, document)
        write.current_document.exists = False

    return fill


def replacement(path: str, document: Mapping[str, Any], update_time: Any = None) -> Write:
    """The write that puts the document in place of whatever is there; with `update_time`, only of that version."""

    def fill(write: Any) -> None:
        _set(write, path, document)
        _guard(write, update_time)

    return fill


def update(path: str, fields: Mapping[str, Any], update_time: Any) -> Write:
    """The write that sets these fields of that version of a document, and touches no other field."""

    def fill(write: Any) -> None:
        _set(write, path, fields)
        write.update_mask.field_paths.extend(sorted(fields))
        _guard(write, update_time)

    return fill


def deletion(path: str, update_time: Any = None) -> Write:
    """The write that deletes a document, there or not; with `update_time`, only that version of it."""

    def fill(write: Any) -> None:
        write.delete = path
        _guard(write, update_time)

    return fill


def union(path: str, field: str, values: Iterable[str]) -> Write:
    """The write that adds strings to an array field as to a set, atomically, whatever is there."""

    def fill(write: Any) -> None:
        write.update.name = path
        write.update_mask.SetInParent()
        transform = write.update_transforms.add()
        transform.field_path = field
        for value in values:
            transform.append_missing_elements.values.add().string_value = value

    return fill


def version_text(update_time: Any) -> str:
    """A document's version as text: seconds and nanoseconds of its last write."""
    return f"{update_time.seconds}.{update_time.nanos:09d}"


def update_time_of(version: str) -> Timestamp:
    """The time that `version_text` wrote."""
    seconds, _, nanos = version.partition(".")
    return Timestamp(seconds=int(seconds), nanos=int(nanos))


def _set(write: Any, path: str, document: Mapping[str, Any]) -> None:
    write.update.name = path
    encode_fields(write.update.fields, document)


def _guard(write: Any, update_time: Any) -> None:
    if update_time is not None:
        write.current_document.update_time.CopyFrom(update_time)


async def write_all(connection: Connection, writes: Sequence[Write]) -> list[Outcome]:
    """The outcome of each write, in order; at most one write per document.

    Raises:
        StoreUnavailableError: some writes were not acknowledged in time; any of them may stand.
        StoreError: permission denied.
    """
    outcomes: dict[int, Outcome] = {}
    todo = deque(enumerate(writes))
    while todo:
        batch = await _filled(connection, todo, outcomes)
        if batch.positions:
            outcomes |= await _write_batch(connection, batch)
    return [outcomes[position] for position in range(len(writes))]


@dataclass(frozen=True, slots=True)
class _Batch:
    """A request, and which write each of its own is."""

    request: Any
    positions: list[int]

    def only(self, places: Iterable[int]) -> _Batch:
        """Another request, with the writes at these places of this one."""
        chosen = list(places)
        request = PbBatchWriteRequest(
            database=self.request.database, writes=[self.request.writes[place] for place in chosen]
        )
        return _Batch(request, [self.positions[place] for place in chosen])


async def _filled(connection: Connection, todo: deque[tuple[int, Write]], outcomes: dict[int, Outcome]) -> _Batch:
    """As many of the first writes as a batch takes, encoded; those that can be in none have an outcome instead."""
    batch = _Batch(PbBatchWriteRequest(database=connection.database_path), [])
    writes = batch.request.writes
    batch_bytes = 0
    turn = Turn()
    while todo and len(batch.positions) < WRITES_PER_BATCH:
        await turn.shared()
        position, fill = todo[0]
        write = writes.add()
        try:
            fill(write)
            size = write.ByteSize()
        except (TypeError, ValueError):
            outcomes[position] = Outcome(Fate.REFUSED, NOT_REPRESENTABLE)
            size = 0
        if size > DOCUMENT_BYTES:
            outcomes[position] = Outcome(Fate.REFUSED, TOO_LARGE)
        is_too_much = batch.positions and batch_bytes + size > BATCH_BYTES
        if position in outcomes:
            writes.pop()
        elif is_too_much:
            writes.pop()
            break
        else:
            batch.positions.append(position)
            batch_bytes += size
        todo.popleft()
    return batch


async def _write_batch(connection: Connection, batch: _Batch) -> dict[int, Outcome]:
    clock = asyncio.get_running_loop().time
    patience_s = connection.timeout_s
    outcomes: dict[int, Outcome] = {}
    unwritten: list[int] = []
    for delay_s in delays():
        await connection.admitted(len(batch.positions))  # takes nothing from the patience: it is us who wait
        asked_at = clock()
        try:
            answers = await _send(connection, batch.request, patience_s)
        except StoreUnavailableError as error:
            if not unwritten:
                raise
            raise _not_taken(connection, len(batch.positions), unwritten) from error  # what it answered before says more
        if answers is None:
            # One malformed write fails the whole request: halve until it stands alone.
            middle, end = len(batch.positions) // 2, len(batch.positions)
            if not middle:
                return outcomes | {batch.positions[0]: Outcome(Fate.REFUSED, INVALID)}
            for half in (range(middle), range(middle, end)):
                outcomes |= await _write_batch(connection, batch.only(half))
            return outcomes
        outcomes |= {
            position: _outcome(connection, *answer)
            for position, answer in zip(batch.positions, answers, strict=True)
            if answer[0] not in TRANSIENT_CODES
        }
        left = [place for place, (code, _) in enumerate(answers) if code in TRANSIENT_CODES]
        if not left:
            return outcomes
        unwritten = sorted({answers[place][0] for place in left})
        patience_s -= clock() - asked_at + delay_s
        if patience_s <= 0:
            raise _not_taken(connection, len(left), unwritten)
        await asyncio.sleep(delay_s)
        batch = batch.only(left)
    raise AssertionError("the delays never end")


def _not_taken(connection: Connection, count: int, codes: Sequence[int]) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{connection} did not take {count} writes in {connection.timeout_s:g} s (gRPC codes {list(codes)})",
        retry_after_s=RETRY_AFTER_S,
    )


async def _send(connection: Connection, request: Any, patience_s: float) -> list[tuple[int, Any]] | None:
    """The gRPC code and the new version of each write, or None when the request as a whole was malformed."""

    async def attempt(client: Any, timeout_s: float) -> Any:
        try:
            return await client.batch_write(
                types.BatchWriteRequest.wrap(request), retry=None, timeout=timeout_s, metadata=connection.metadata
            )
        except google_errors.InvalidArgument:
            return None

    response = await connection.call(attempt, patience_s=patience_s)
    if response is None:
        return None
    answer = types.BatchWriteResponse.pb(response)
    codes = [status.code for status in answer.status]
    versions = [result.update_time for result in answer.write_results]
    versions += [None] * (len(codes) - len(versions))  # a batch of which nothing was written may have none
    return list(zip(codes, versions, strict=True))


def _outcome(connection: Connection, code: int, update_time: Any) -> Outcome:
    if code == _OK:
        return Outcome(Fate.WRITTEN, update_time=update_time)
    if code in _CONFLICTS:
        return Outcome(Fate.CONFLICT)
    if code == _PERMISSION_DENIED:
        raise StoreError(f"{connection} denied a write: give the service account the role roles/datastore.user")
    return Outcome(Fate.REFUSED, INVALID if code == _INVALID_ARGUMENT else f"grpc_code_{code}")
