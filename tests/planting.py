"""Changes stored documents behind ingestion's back, as an older version could have left them."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from evalforge.core.capture import document_id
from tests.contract.stores import PREFIX, FirestorePlace, Place, SqlitePlace

Change = Callable[[dict[str, Any]], None]


async def change_capture(place: Place, trace_id: str, change: Change) -> None:
    """Lets `change` alter the stored facts of a capture in place; nothing else of the document is touched."""
    if isinstance(place, SqlitePlace):
        await asyncio.to_thread(_change_row, place, "raw_traces", "document_id", "facts", document_id(trace_id), change)
    elif isinstance(place, FirestorePlace):
        await asyncio.to_thread(_change_document, place, "raw_traces", document_id(trace_id), change)


async def change_letter(place: Place, key: str, change: Change) -> None:
    """Lets `change` alter a stored dead letter."""
    if isinstance(place, SqlitePlace):
        await asyncio.to_thread(_change_row, place, "dead_letters", "id", "document", key, change)
    elif isinstance(place, FirestorePlace):
        await asyncio.to_thread(_change_document, place, "dead_letters", key, change)


async def change_checkpoint(place: Place, source: str, change: Change) -> None:
    """Lets `change` alter the checkpoint of a source."""
    if isinstance(place, SqlitePlace):
        await asyncio.to_thread(_change_row, place, "checkpoints", "source", "document", source, change)
    elif isinstance(place, FirestorePlace):
        await asyncio.to_thread(_change_document, place, "checkpoints", f"source_{source}", change)


def _change_row(place: SqlitePlace, table: str, key_column: str, column: str, key: str, change: Change) -> None:
    with closing(sqlite3.connect(place.path, timeout=30)) as connection, connection:
        where = f'FROM "{PREFIX}{table}" WHERE "{key_column}" = ?'
        [text] = connection.execute(f'SELECT "{column}" {where}', (key,)).fetchone()
        document = json.loads(text)
        change(document)
        statement = f'UPDATE "{PREFIX}{table}" SET "{column}" = ? WHERE "{key_column}" = ?'
        connection.execute(statement, (json.dumps(document), key))


def _change_document(place: FirestorePlace, collection: str, key: str, change: Change) -> None:
    reference = place.client.collection(f"{PREFIX}{collection}").document(key)
    document = reference.get().to_dict()
    assert document is not None
    change(document)
    reference.set(document)
