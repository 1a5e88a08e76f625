"""Writes documents in guarded batches, each document on its own: one that Firestore refuses takes no other along.

Never the library's BulkWriter, which drops whole batches in silence, and never transactions, which hold locks (both
measured). Each write carries a precondition, so that a concurrent writer shows as a conflict and is never overwritten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.api_core import exceptions as google_errors
from google.cloud.firestore_v1 import types

from evalforge.errors import StoreError, StoreUnavailableError
from evalforge.stores.firestore.connection import RETRY_AFTER_S, TRANSIENT_CODES, Connection, delays
from evalforge.stores.firestore.values import encode_fields

WRITES_PER_BATCH = 50
BATCH_BYTES = 3_500_000
"""Below the emulator's 4 MiB, and Firestore's own 10 MiB. Source: https://firebase.google.com/docs/firestore/quotas"""
DOCUMENT_BYTES = 2_000_000
"""A document of so many protobuf bytes is beyond Firestore's 1 MiB however it counts, and is not sent."""

INVALID = "invalid_document"
TOO_LARGE = "document_too_large"

PbWrite: Any = types.Write.pb(types.Write()).__class__
PbBatchWriteRequest: Any = types.BatchWriteRequest.pb(types.BatchWriteRequest()).__class__

_OK, _INVALID_ARGUMENT, _NOT_FOUND, _ALREADY_EXISTS, _PERMISSION_DENIED, _FAILED_PRECONDITION = 0, 3, 5, 6, 7, 9
_CONFLICTS = frozenset({_NOT_FOUND, _ALREADY_EXISTS, _FAILED_PRECONDITION})


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


def creation(path: str, document: Mapping[str, Any]) -> Any:
    """The write that makes a document, and conflicts where there is one.

    Raises:
        TypeError, ValueError: when the document has no stored form.
    """
    write = replacement(path, document)
    write.current_document.exists = False
    return write


def replacement(path: str, document: Mapping[str, Any], update_time: Any = None) -> Any:
    """The write that puts the document in place of whatever is there; with `update_time`, only of that version.

    Raises:
        TypeError, ValueError: when the document has no stored form.
    """
    write = PbWrite()
    write.update.name = path
    encode_fields(write.update.fields, document)
    return _guarded(write, update_time)


def update(path: str, fields: Mapping[str, Any], update_time: Any) -> Any:
    """The write that sets these fields of that version of a document, and touches no other field.

    Raises:
        TypeError, ValueError: when a field has no stored form.
    """
    write = replacement(path, fields, update_time)
    write.update_mask.field_paths.extend(sorted(fields))
    return write


def deletion(path: str, update_time: Any = None) -> Any:
    """The write that deletes a document, there or not; with `update_time`, only that version of it."""
    write = PbWrite()
    write.delete = path
    return _guarded(write, update_time)


def union(path: str, field: str, values: Iterable[str]) -> Any:
    """The write that adds strings to an array field as to a set, atomically, whatever is there."""
    write = PbWrite()
    write.update.name = path
    write.update_mask.SetInParent()
    transform = write.update_transforms.add()
    transform.field_path = field
    for value in values:
        transform.append_missing_elements.values.add().string_value = value
    return write


def _guarded(write: Any, update_time: Any) -> Any:
    if update_time is not None:
        write.current_document.update_time.CopyFrom(update_time)
    return write


async def write_all(connection: Connection, writes: Sequence[Any]) -> list[Outcome]:
    """The outcome of each write, in order; at most one write per document.

    Raises:
        StoreUnavailableError: some writes were not acknowledged in time; any of them may stand.
        StoreError: permission denied.
    """
    outcomes: dict[int, Outcome] = {}
    for batch in _batches(writes, outcomes):
        outcomes.update(await _write_batch(connection, batch))
    return [outcomes[position] for position in range(len(writes))]


_Batch = dict[int, Any]


def _batches(writes: Sequence[Any], outcomes: dict[int, Outcome]) -> Iterable[_Batch]:
    batch: _Batch = {}
    batch_bytes = 0
    for position, write in enumerate(writes):
        size = write.ByteSize()
        if size > DOCUMENT_BYTES:
            outcomes[position] = Outcome(Fate.REFUSED, TOO_LARGE)
            continue
        if batch and (batch_bytes + size > BATCH_BYTES or len(batch) == WRITES_PER_BATCH):
            yield batch
            batch, batch_bytes = {}, 0
        batch[position] = write
        batch_bytes += size
    if batch:
        yield batch


async def _write_batch(connection: Connection, batch: _Batch) -> dict[int, Outcome]:
    clock = asyncio.get_running_loop().time
    deadline = clock() + connection.timeout_s
    outcomes: dict[int, Outcome] = {}
    pending = batch
    unwritten: list[int] = []
    for delay_s in delays():
        try:
            answers = await _send(connection, pending, deadline - clock())
        except StoreUnavailableError as error:
            if not unwritten:
                raise
            raise _not_taken(connection, len(pending), unwritten) from error  # what it answered before says more
        if answers is None:
            # One malformed write fails the whole request: halve until it stands alone.
            if len(pending) == 1:
                return outcomes | dict.fromkeys(pending, Outcome(Fate.REFUSED, INVALID))
            for half in _halves(pending):
                outcomes |= await _write_batch(connection, half)
            return outcomes
        outcomes |= {
            position: _outcome(connection, *answer)
            for position, answer in answers.items()
            if answer[0] not in TRANSIENT_CODES
        }
        pending = {position: write for position, write in pending.items() if position not in outcomes}
        if not pending:
            break
        unwritten = sorted({code for code, _ in answers.values()} & TRANSIENT_CODES)
        if clock() + delay_s >= deadline:
            raise _not_taken(connection, len(pending), unwritten)
        await asyncio.sleep(delay_s)
    return outcomes


def _not_taken(connection: Connection, count: int, codes: Sequence[int]) -> StoreUnavailableError:
    return StoreUnavailableError(
        f"{connection} did not take {count} writes in {connection.timeout_s:g} s (gRPC codes {list(codes)})",
        retry_after_s=RETRY_AFTER_S,
    )


async def _send(connection: Connection, batch: _Batch, patience_s: float) -> dict[int, tuple[int, Any]] | None:
    """The gRPC code and the new version of each write, or None when the request as a whole was malformed."""
    request = PbBatchWriteRequest(database=connection.database_path, writes=batch.values())

    async def attempt(client: Any, timeout_s: float) -> Any:
        try:
            return await client.batch_write(
                types.BatchWriteRequest.wrap(request), retry=None, timeout=timeout_s, metadata=connection.metadata
            )
        except google_errors.InvalidArgument:
            return None

    response = await connection.call(attempt, patience_s=max(0.01, patience_s))
    if response is None:
        return None
    answer = types.BatchWriteResponse.pb(response)
    versions = [result.update_time for result in answer.write_results]
    versions += [None] * (len(answer.status) - len(versions))  # a batch of which nothing was written may have none
    codes = (status.code for status in answer.status)
    return dict(zip(batch, zip(codes, versions, strict=True), strict=True))


def _outcome(connection: Connection, code: int, update_time: Any) -> Outcome:
    if code == _OK:
        return Outcome(Fate.WRITTEN, update_time=update_time)
    if code in _CONFLICTS:
        return Outcome(Fate.CONFLICT)
    if code == _PERMISSION_DENIED:
        raise StoreError(f"{connection} denied a write: give the service account the role roles/datastore.user")
    return Outcome(Fate.REFUSED, INVALID if code == _INVALID_ARGUMENT else f"grpc_code_{code}")


def _halves(batch: _Batch) -> tuple[_Batch, _Batch]:
    entries = list(batch.items())
    middle = len(entries) // 2
    return dict(entries[:middle]), dict(entries[middle:])
