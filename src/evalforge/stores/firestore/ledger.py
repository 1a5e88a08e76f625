"""What the small documents of a run need more than one call for: leases, fenced checkpoints, letters that are kept once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalforge.core.ports import DeadLetter, Lease
from evalforge.errors import StoreError, StoreUnavailableError
from evalforge.stores import records
from evalforge.stores.firestore import reader, writer
from evalforge.stores.firestore.connection import RETRY_AFTER_S, Connection, delays
from evalforge.stores.firestore.values import decode_fields
from evalforge.stores.firestore.writer import Fate


async def read_one(connection: Connection, collection: str, key: str) -> dict[str, Any] | None:
    """The document under a key, if there is one."""
    await connection.client()
    path = connection.document_path(collection, key)
    found = (await reader.read_documents(connection, [path])).get(path)
    return None if found is None else decode_fields(found.fields)


async def write_one(connection: Connection, collection: str, key: str, write_of: Callable[[str], Any]) -> None:
    """Sends the one write that `write_of` makes of the document's path.

    Raises:
        StoreUnavailableError, StoreError
    """
    await connection.client()
    [outcome] = await writer.write_all(connection, [write_of(connection.document_path(collection, key))])
    if outcome.fate is not Fate.WRITTEN:
        raise StoreError(f"{connection} refused {collection}/{key} ({outcome.reason or outcome.fate.value})")


async def swap_lease(
    connection: Connection, collection: str, name: str, next_of: Callable[[Lease | None], Lease | None]
) -> Lease | None:
    """The lease that stands in place of the one that `next_of` was asked about last; it says None to leave that alone.

    Every write is guarded by the version that was read, so of two that try at once one is asked again.

    Raises:
        StoreUnavailableError, StoreError
    """
    await connection.client()
    path = _lease_path(connection, collection, name)
    clock = asyncio.get_running_loop().time
    deadline = clock() + connection.timeout_s
    for delay_s in delays():
        found = (await reader.read_documents(connection, [path])).get(path)
        lease = next_of(None if found is None else records.lease_of(decode_fields(found.fields)))
        if lease is None:
            return None
        document = records.lease_document(lease)
        write = writer.creation(path, document) if found is None else writer.replacement(path, document, found.update_time)
        [outcome] = await writer.write_all(connection, [write])
        if outcome.fate is Fate.WRITTEN:
            return lease
        if outcome.fate is Fate.REFUSED:
            raise StoreError(f"{connection} refused the lease ({outcome.reason})")
        if clock() + delay_s >= deadline:
            break
        await asyncio.sleep(delay_s)
    raise StoreUnavailableError(
        f"{connection}: other runs kept changing the lease for {connection.timeout_s:g} s", retry_after_s=RETRY_AFTER_S
    )


async def held_lease(connection: Connection, collection: str, name: str) -> Lease | None:
    """The lease of that name as it stands.

    Raises:
        StoreUnavailableError, StoreError
    """
    await connection.client()
    path = _lease_path(connection, collection, name)
    found = (await reader.read_documents(connection, [path])).get(path)
    return None if found is None else records.lease_of(decode_fields(found.fields))


def _lease_path(connection: Connection, collection: str, name: str) -> str:
    return connection.document_path(collection, f"lease_{records.record_id(name)}")


class Fenced:
    """Documents of one collection that only the holder of the greatest fence may replace, each at the cost of one write.

    It remembers the versions that it has read and written, so that the guard needs no read.
    """

    def __init__(self, connection: Connection, collection: str) -> None:
        self._connection = connection
        self._collection = collection
        self._versions: dict[str, Any] = {}

    async def read(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents that are there, by key; one read for each key.

        Raises:
            StoreUnavailableError, StoreError
        """
        await self._connection.client()
        paths = {self._connection.document_path(self._collection, key): key for key in keys}
        documents = {}
        for path, found in (await reader.read_documents(self._connection, list(paths))).items():
            document = decode_fields(found.fields)
            records.fence_of(document)  # a later program's must not be known: it would be replaced unread
            self._versions[paths[path]] = found.update_time
            documents[paths[path]] = document
        return documents

    async def replace(self, key: str, document: Mapping[str, Any], fence: int) -> bool:
        """Whether the document stands now; False where a greater fence has written it, or what was known there is gone.

        Raises:
            StoreUnavailableError, StoreError
        """
        connection = self._connection
        await connection.client()
        path = connection.document_path(self._collection, key)
        clock = asyncio.get_running_loop().time
        deadline = clock() + connection.timeout_s
        for delay_s in delays():
            version = self._versions.get(key)
            write = writer.creation(path, document) if version is None else writer.replacement(path, document, version)
            [outcome] = await writer.write_all(connection, [write])
            if outcome.fate is Fate.WRITTEN:
                self._versions[key] = outcome.update_time
                return True
            if outcome.fate is Fate.REFUSED:
                raise StoreError(f"{connection} refused {self._collection}/{key} ({outcome.reason})")
            found = (await reader.read_documents(connection, [path])).get(path)
            if found is None:
                if version is not None:
                    return False
            else:
                if records.fence_of(decode_fields(found.fields)) > fence:
                    return False
                # An answer that was lost on its way, or an earlier holder's last word.
                self._versions[key] = found.update_time
            if clock() + delay_s >= deadline:
                break
            await asyncio.sleep(delay_s)
        raise StoreUnavailableError(
            f"{connection}: others kept changing a checkpoint for {connection.timeout_s:g} s", retry_after_s=RETRY_AFTER_S
        )


async def keep_letters(connection: Connection, collection: str, letters: Sequence[DeadLetter]) -> int:
    """How many of the letters were new and are stored now; an expired one counts as absent and is replaced.

    Raises:
        StoreUnavailableError, StoreError
    """
    await connection.client()
    by_path = {connection.document_path(collection, records.record_id(letter.id)): letter for letter in letters}
    writes = [writer.creation(path, records.letter_document(letter)) for path, letter in by_path.items()]
    outcomes = await writer.write_all(connection, writes)
    new_count = sum(outcome.fate is Fate.WRITTEN for outcome in outcomes)
    known = [path for path, outcome in zip(by_path, outcomes, strict=True) if outcome.fate is Fate.CONFLICT]
    for at in range(0, len(known), writer.WRITES_PER_BATCH):
        standing = await reader.read_documents(connection, known[at : at + writer.WRITES_PER_BATCH])
        renewals = [
            writer.replacement(path, records.letter_document(by_path[path]), document.update_time)
            for path, document in standing.items()
            if reader.has_expired(document, by_path[path].occurred_at)
        ]
        new_count += sum(outcome.fate is Fate.WRITTEN for outcome in await writer.write_all(connection, renewals))
    return new_count
