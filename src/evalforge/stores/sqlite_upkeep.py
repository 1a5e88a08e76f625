"""Upkeep of a SQLite file: every document as it stands, guarded rewriting, deletion of what is due, and of everything."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import COLLECTIONS, StoredDocument
from evalforge.errors import SkippableError
from evalforge.stores import lossless, merging
from evalforge.stores.sqlite_file import Execute, SqliteFile
from evalforge.stores.sqlite_rows import UPDATE_CAPTURE, facts_in, foreign_columns, row_of, time_text

ROWS_PER_PAGE = 200
ROWS_PER_TRANSACTION = 1_000


@dataclass(frozen=True, slots=True)
class _Table:
    """One table of a collection: its key column, and what stands before the key in the keys that are given out."""

    name: str
    key: str
    prefix: str = ""


# Checkpoints are five tables here and one collection in Firestore: their keys are spelled, and sorted, as they are there.
_TABLES: Mapping[str, tuple[_Table, ...]] = {
    "raw_traces": (_Table("raw_traces", "document_id"),),
    "groups": (_Table("groups", "signature"),),
    "checkpoints": (
        _Table("coverage", "source", "coverage_"),
        _Table("keyring", "key_id", "keyring_"),
        _Table("leases", "name", "lease_"),
        _Table("checkpoints", "source", "source_"),
        _Table("told", "name", "told_"),
    ),
    "dead_letters": (_Table("dead_letters", "id"),),
    "runs": (_Table("runs", "id"),),
    "exports": (_Table("exports", "id"),),
    "tombstones": (_Table("tombstones", "id"),),
}
_PAST = object()
"""Stands for the end of a table."""
_EXPIRING = (_Table("raw_traces", "document_id"), _Table("dead_letters", "id"), _Table("runs", "id"))


async def documents(file: SqliteFile, collection: str, after: str | None) -> AsyncIterator[StoredDocument]:
    """Every row of the collection with a key greater than `after`, ascending by key; streamed.

    Raises:
        KeyError: when there is no such collection.
        StoreUnavailableError, StoreError
    """
    for table in _TABLES[collection]:
        last = _own_part(table.prefix, after)
        while last is not _PAST:
            # S608: only constants of this module are put in; values are bound.
            where, values = ("1", ()) if last is None else (f"{table.key} > ?", (last,))
            statement = f"SELECT * FROM {{{table.name}}} WHERE {where} ORDER BY {table.key} LIMIT {ROWS_PER_PAGE}"  # noqa: S608
            rows = await file.read(partial(_fetched, statement=statement, values=values))
            for row in rows:
                key = table.prefix + row[table.key]
                yield StoredDocument(collection, key, _document(table, row), _version(row))
            last = rows[-1][table.key] if rows else _PAST


def _fetched(execute: Execute, *, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
    return execute(statement, values).fetchall()


def _own_part(prefix: str, after: str | None) -> Any:
    """The table's own key after which the keys that begin with `prefix` come after `after`; None when all of them do."""
    if after is None or after < prefix:
        return None
    return after[len(prefix) :] if after.startswith(prefix) else _PAST


async def rewrite(file: SqliteFile, capture: FailureCapture, stored: StoredDocument, now: datetime) -> bool:
    """Whether the facts of the capture now stand in the row, which nobody had written since `stored` was read.

    Raises:
        ValueError: `stored` is not the document of that capture.
        SkippableError: the capture has no stored form.
        StoreUnavailableError, StoreError
    """
    if stored.collection != "raw_traces" or stored.key != capture.document_id:
        raise ValueError("a capture can only be rewritten in its own place")
    _, document = merging.fitted_document(capture)
    values = row_of(stored.key, document, now)

    def write(execute: Execute) -> bool:
        if not _stands(execute, *_place(stored), stored.version):
            return False
        execute(UPDATE_CAPTURE, (*values, stored.key))
        return True

    return await file.write(write)


async def replace(file: SqliteFile, stored: StoredDocument, document: Mapping[str, Any]) -> bool:
    """Whether the record now stands in its row, which nobody had written since `stored` was read.

    Raises:
        ValueError: `stored` is a capture.
        StoreUnavailableError, StoreError
    """
    if stored.collection == "raw_traces":
        raise ValueError("a capture can only be rewritten")
    table, key = _place(stored)
    text = lossless.dumps(document)

    def write(execute: Execute) -> bool:
        if not _stands(execute, table, key, stored.version):
            return False
        execute(f"UPDATE {{{table.name}}} SET document = ? WHERE {table.key} = ?", (text, key))  # noqa: S608
        return True

    return await file.write(write)


async def remove(file: SqliteFile, stored: StoredDocument) -> bool:
    """Whether the row was deleted; it stays when somebody has written it since `stored` was read.

    Raises:
        KeyError: when there is no such collection.
        StoreUnavailableError, StoreError
    """
    table, key = _place(stored)

    def delete(execute: Execute) -> bool:
        if not _stands(execute, table, key, stored.version):
            return False
        execute(f"DELETE FROM {{{table.name}}} WHERE {table.key} = ?", (key,))  # noqa: S608
        return True

    removed = await file.write(delete)
    if removed:
        await file.forget_deleted()
    return removed


async def delete_expired(file: SqliteFile, now: datetime) -> int:
    """Deletes captures, dead letters and runs that have expired, a bounded number in each transaction; how many.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    count = 0
    for table in _EXPIRING:
        count += await _delete_all(file, table, "expires_at <= ?", (time_text(now),), None)
    if count:
        await file.forget_deleted()
    return count


async def purge(file: SqliteFile, on_deleted: Callable[[str, int], None] | None) -> Mapping[str, int]:
    """Deletes every row of every table; how many, by collection.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    counts = dict.fromkeys(COLLECTIONS, 0)
    for collection, tables in _TABLES.items():
        for table in tables:

            def heard(number: int, collection: str = collection) -> None:
                if on_deleted is not None:
                    on_deleted(collection, number)

            counts[collection] += await _delete_all(file, table, "1", (), heard)
    await file.forget_deleted()
    return counts


async def _delete_all(
    file: SqliteFile, table: _Table, where: str, values: tuple[Any, ...], heard: Callable[[int], None] | None
) -> int:
    statement = (
        f"DELETE FROM {{{table.name}}} WHERE {table.key} IN "  # noqa: S608
        f"(SELECT {table.key} FROM {{{table.name}}} WHERE {where} LIMIT {ROWS_PER_TRANSACTION})"
    )
    count = 0
    while True:
        deleted = await file.write(lambda execute: execute(statement, values).rowcount)
        if not deleted:
            return count
        count += deleted
        if heard is not None:
            heard(deleted)


def _place(stored: StoredDocument) -> tuple[_Table, str]:
    """The table of a document, and its key there."""
    table = next(table for table in reversed(_TABLES[stored.collection]) if stored.key.startswith(table.prefix))
    return table, stored.key[len(table.prefix) :]


def _stands(execute: Execute, table: _Table, key: str, version: str) -> bool:
    # S608: only constants of this module are put in; values are bound.
    row = execute(f"SELECT * FROM {{{table.name}}} WHERE {table.key} = ?", (key,)).fetchone()  # noqa: S608
    return row is not None and _version(row) == version


def _document(table: _Table, row: sqlite3.Row) -> Mapping[str, Any]:
    if table.name == "keyring":
        return {"key_ids": [row["key_id"]]}
    columns = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a row iterates its values
    try:
        if table.name == "raw_traces":
            facts = facts_in(row)
            others = {"updated_at": datetime.fromisoformat(row["updated_at"]), "processed": bool(row["processed"])}
            return {**foreign_columns(row), **facts, **others}
        document = lossless.loads(row["document"])
    except (SkippableError, TypeError, ValueError, LookupError):
        return columns  # none of ours: as it stands
    return document if isinstance(document, dict) else columns


def _version(row: sqlite3.Row) -> str:
    """A digest of the whole row, other people's columns too: any change is a new version."""
    return hashlib.sha256(repr([(name, row[name]) for name in row.keys()]).encode("utf-8", "surrogatepass")).hexdigest()  # noqa: SIM118
