"""Erasing in Firestore: the tombstones, and deletion of captures and dead letters by trace and by user."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from evalforge.core.capture import document_id
from evalforge.core.ports import Erasure, StoredCapture
from evalforge.errors import SkippableError, StoreError
from evalforge.stores import lossless, records
from evalforge.stores.firestore import ledger, reader, writer
from evalforge.stores.firestore.connection import Connection
from evalforge.stores.firestore.values import decode_fields
from evalforge.stores.firestore.writer import Fate, replacement

PART_BYTES = 40_000 * records.TRACE_KEY_BYTES
"""How many bytes of trace keys one document takes; a record with more goes on in others, below 1 MiB each."""
PATHS_PER_READ = 300
RECORDS_PER_PAGE = 10

_EPOCH_KEY = "erasure_epoch"
_T = TypeVar("_T")


async def save(connection: Connection, tombstones: str, checkpoints: str, erasure: Erasure) -> None:
    """Writes the further parts of the record, then the record, then a new epoch.

    Only the record itself has an `erased_at`, so nobody finds parts whose record is not there. Keys are added at the end,
    so whoever reads in the middle of it misses none that were there before.

    Raises:
        ValueError: a trace key is none.
        StoreUnavailableError, StoreError
    """
    document = records.erasure_document(erasure)
    packed = document["trace_keys"]
    parts = [packed[at : at + PART_BYTES] for at in range(0, len(packed), PART_BYTES)]
    key = records.record_id(erasure.id)
    for number, part in reversed(list(enumerate(parts[1:], start=1))):
        further = {"id": erasure.id, "part": number, "trace_keys": part}
        await _write(connection, tombstones, _part_key(key, number), further)
    first = {**document, "trace_keys": parts[0] if parts else b"", "part_count": max(1, len(parts))}
    await _write(connection, tombstones, key, first)
    await _write(connection, checkpoints, _EPOCH_KEY, {"epoch": secrets.token_hex(8)})


async def epoch(connection: Connection, checkpoints: str) -> str:
    """The token of the last saved erasure, "" before the first.

    Raises:
        StoreUnavailableError, StoreError
    """
    document = await ledger.read_one(connection, checkpoints, _EPOCH_KEY)
    return "" if document is None else str(document["epoch"])


async def erasures(connection: Connection, tombstones: str) -> AsyncIterator[Erasure]:
    """Every record, oldest first, those of one instant by key; streamed.

    Raises:
        StoreUnavailableError, StoreError: the latter also when a document is no record, or a part of one is missing.
    """
    async for found in reader.documents_by_time(connection, tombstones, "erased_at", RECORDS_PER_PAGE):
        key = found.name.rpartition("/")[2]
        try:
            document = decode_fields(found.fields)
            parts = [document["trace_keys"]]
            for number in range(1, document["part_count"]):
                further = await ledger.read_one(connection, tombstones, _part_key(key, number))
                parts.append((further or {})["trace_keys"])
            erasure = records.erasure_of({**document, "trace_keys": b"".join(parts)})
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise records.damaged_tombstone(f"{connection}: {tombstones}/{key}") from error
        yield erasure


async def captures_of_users(
    connection: Connection, captures: str, user_hashes: frozenset[str]
) -> AsyncIterator[StoredCapture]:
    """Every readable capture with one of the hashes in `user_hashes`, expired ones too; streamed, each once.

    Raises:
        StoreUnavailableError, StoreError
    """
    given: set[str] = set()
    for hashes in _hash_parts(user_hashes):
        where = reader.array_holds_any("user_hashes", hashes)
        async for page in reader.documents_by_name(connection, captures, where):
            for found in page:
                if found.name in given:
                    continue
                if len(user_hashes) > reader.VALUES_PER_FILTER:
                    given.add(found.name)
                try:
                    yield reader.stored_capture(found)
                except SkippableError:
                    continue


async def delete_captures(
    connection: Connection, captures: str, trace_ids: Sequence[str], user_hashes: frozenset[str]
) -> int:
    """Deletes the captures of these traces, then those that name these users; how many documents there were.

    One read for each trace, one for each document that names a user, and one delete for each that is there.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    wanted = dict.fromkeys(trace_id for trace_id in trace_ids if lossless.is_unicode(trace_id))
    count = await delete_present(connection, captures, [document_id(trace_id) for trace_id in wanted])
    for hashes in _hash_parts(user_hashes):
        count += await _delete_matching(connection, captures, reader.array_holds_any("user_hashes", hashes))
    return count


async def delete_dead_letters(connection: Connection, dead_letters: str, trace_ids: Sequence[str]) -> int:
    """Deletes the dead letters about these traces; how many there were.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    count = 0
    wanted = list(dict.fromkeys(trace_id for trace_id in trace_ids if lossless.is_unicode(trace_id)))
    for part in _parts(wanted, reader.VALUES_PER_FILTER):
        count += await _delete_matching(connection, dead_letters, reader.is_one_of("trace_id", part))
    return count


async def delete_present(connection: Connection, collection: str, keys: Sequence[str]) -> int:
    """Deletes the documents with these keys; how many there were. One read for each key.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    await connection.client()
    count = 0
    for part in _parts([connection.document_path(collection, key) for key in dict.fromkeys(keys)], PATHS_PER_READ):
        count += await delete(connection, await reader.read_documents(connection, part, fields=["__name__"]))
    return count


async def delete(connection: Connection, paths: Iterable[str]) -> int:
    """Deletes documents that were found a moment ago, and says how many; those gone meanwhile count too.

    A deletion is not guarded, so it can be repeated when its answer was lost.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    outcomes = await writer.write_all(connection, [writer.deletion(path) for path in paths])
    refused = next((outcome.reason for outcome in outcomes if outcome.fate is Fate.REFUSED), None)
    if refused is not None:
        raise StoreError(f"{connection} refused a deletion ({refused})")
    return len(outcomes)


async def _delete_matching(connection: Connection, collection: str, where: Any) -> int:
    count = 0
    async for page in reader.documents_by_name(connection, collection, where, names_only=True):
        count += await delete(connection, [found.name for found in page])
    return count


async def _write(connection: Connection, collection: str, key: str, document: dict[str, Any]) -> None:
    await ledger.write_one(connection, collection, key, lambda path: replacement(path, document))


def _part_key(key: str, number: int) -> str:
    return f"{key}~{number}"  # `record_id` never gives a ~, so no record has such a key


def _hash_parts(user_hashes: frozenset[str]) -> Iterator[Sequence[str]]:
    return _parts(sorted(one for one in user_hashes if lossless.is_unicode(one)), reader.VALUES_PER_FILTER)


def _parts(values: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (values[at : at + size] for at in range(0, len(values), size))
