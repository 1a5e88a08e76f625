"""Upkeep in Firestore: every document as it stands, guarded rewriting, and deletion of everything."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import StoredDocument
from evalforge.errors import StoreError
from evalforge.stores import merging
from evalforge.stores.firestore import erasing, reader, writer
from evalforge.stores.firestore.connection import Connection
from evalforge.stores.firestore.values import decode_fields, plain_fields
from evalforge.stores.firestore.writer import Fate, update_time_of, version_text

NAMES_PER_PAGE = 300


async def documents(
    connection: Connection, collection: str, stored_as: str, after: str | None
) -> AsyncIterator[StoredDocument]:
    """Every document of the collection with a key greater than `after`, ascending by key; streamed.

    One that holds somebody else's idea of our escapes is given with those maps as they stand.

    Raises:
        StoreUnavailableError, StoreError
    """
    async for page in reader.documents_by_name(connection, stored_as, after=after):
        for found in page:
            yield StoredDocument(collection, found.name.rpartition("/")[2], _decoded(found), version_text(found.update_time))


async def rewrite(
    connection: Connection, captures: str, capture: FailureCapture, stored: StoredDocument, now: datetime
) -> bool:
    """Whether the facts of the capture now stand in the document, which nobody had written since `stored` was read.

    Where the answer to a write was lost, its repetition finds another version and this is False: read again and see.

    Raises:
        ValueError: `stored` is not the document of that capture.
        SkippableError: the capture has no stored form.
        StoreUnavailableError, StoreError
    """
    if stored.collection != "raw_traces" or stored.key != capture.document_id:
        raise ValueError("a capture can only be rewritten in its own place")
    await connection.client()
    _, document = merging.fitted_document(capture)
    path = connection.document_path(captures, stored.key)
    write = writer.update(path, {**document, "updated_at": now}, update_time_of(stored.version))
    return await _is_written(connection, write, f"{captures}/{stored.key}")


async def replace(connection: Connection, stored_as: str, stored: StoredDocument, document: Mapping[str, Any]) -> bool:
    """Whether the record now stands in the document's place, which nobody had written since `stored` was read.

    Where the answer to a write was lost, its repetition finds another version and this is False: read again and see.

    Raises:
        ValueError: `stored` is a capture.
        StoreUnavailableError, StoreError
    """
    if stored.collection == "raw_traces":
        raise ValueError("a capture can only be rewritten")
    await connection.client()
    path = connection.document_path(stored_as, stored.key)
    write = writer.replacement(path, document, update_time_of(stored.version))
    return await _is_written(connection, write, f"{stored_as}/{stored.key}")


async def remove(connection: Connection, stored_as: str, stored: StoredDocument) -> bool:
    """Whether the document was deleted; it stays when somebody has written it since `stored` was read.

    Raises:
        StoreUnavailableError, StoreError
    """
    await connection.client()
    path = connection.document_path(stored_as, stored.key)
    write = writer.deletion(path, update_time_of(stored.version))
    return await _is_written(connection, write, f"{stored_as}/{stored.key}")


async def purge(
    connection: Connection, by_name: Mapping[str, str], on_deleted: Callable[[str, int], None] | None
) -> Mapping[str, int]:
    """Deletes every document of these collections, given as they are stored by their names; how many, by name.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    counts = dict.fromkeys(by_name, 0)
    for name, stored_as in by_name.items():
        async for page in reader.documents_by_name(connection, stored_as, names_only=True, per_page=NAMES_PER_PAGE):
            deleted = await erasing.delete(connection, [found.name for found in page])
            counts[name] += deleted
            if on_deleted is not None:
                on_deleted(name, deleted)
    return counts


async def _is_written(connection: Connection, write: writer.Write, place: str) -> bool:
    [outcome] = await writer.write_all(connection, [write])
    if outcome.fate is Fate.REFUSED:
        raise StoreError(f"{connection} refused {place} ({outcome.reason})")
    return outcome.fate is Fate.WRITTEN


def _decoded(found: Any) -> dict[str, Any]:
    try:
        return decode_fields(found.fields)
    except (TypeError, ValueError, LookupError, AttributeError):
        return plain_fields(found.fields)
