"""Erasing in a SQLite file: the tombstones, and deletion of captures and dead letters by trace and by user."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from evalforge.core.capture import document_id
from evalforge.core.ports import Erasure, StoredCapture
from evalforge.errors import SkippableError
from evalforge.stores import lossless, records
from evalforge.stores.sqlite_file import Execute, SqliteFile
from evalforge.stores.sqlite_rows import stored_capture, time_text

ROWS_PER_PAGE = 200
ROWS_PER_TRANSACTION = 500


async def save(file: SqliteFile, erasure: Erasure) -> None:
    """Writes or replaces the record under a new epoch, in one transaction.

    Raises:
        ValueError: a trace key is none.
        StoreUnavailableError, StoreError
    """
    document = lossless.dumps(records.erasure_document(erasure))
    values = (records.record_id(erasure.id), time_text(erasure.erased_at), secrets.token_hex(8), document)

    def save_one(execute: Execute) -> None:
        # A replaced row is a new one: its `saved` is the greatest again.
        statement = "INSERT OR REPLACE INTO {tombstones} (id, erased_at, epoch, document) VALUES (?, ?, ?, ?)"
        execute(statement, values)

    await file.write(save_one)


async def erasures(file: SqliteFile) -> AsyncIterator[Erasure]:
    """Every record, oldest first, those of one instant by id; streamed.

    Raises:
        StoreUnavailableError, StoreError: the latter also when a row is no record.
    """
    after = ("", "")
    while True:
        statement = (
            "SELECT id, erased_at, document FROM {tombstones} WHERE (erased_at, id) > (?, ?) ORDER BY erased_at, id LIMIT 20"
        )
        rows = await _rows(file, statement, after)
        for row in rows:
            try:
                erasure = records.erasure_of(lossless.loads(row["document"]))
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                raise records.damaged_tombstone(f"the row {row['id']} of the tombstones in {file.path}") from error
            yield erasure
        if not rows:
            return
        after = (rows[-1]["erased_at"], rows[-1]["id"])


async def captures_of_users(file: SqliteFile, user_hashes: frozenset[str]) -> AsyncIterator[StoredCapture]:
    """Every readable capture with one of the hashes in `user_hashes`, expired ones too; streamed, ascending by key."""
    after = ""
    while True:
        rows = await _rows(file, *_page_naming(user_hashes, after))
        for row in rows:
            found = _readable(row)
            if found is not None and _names(found, user_hashes):
                yield found
        if not rows:
            return
        after = rows[-1]["document_id"]


async def delete_captures(file: SqliteFile, trace_ids: Sequence[str], user_hashes: frozenset[str]) -> int:
    """Deletes the captures of these traces, then those that name these users; how many rows there were.

    A row that cannot be read goes when its text holds one of the hashes.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    count = 0
    keys = [document_id(trace_id) for trace_id in dict.fromkeys(trace_ids) if lossless.is_unicode(trace_id)]
    for part in _parts(keys):
        count += await _delete(file, "raw_traces", "document_id", part)
    after = ""
    while True:
        rows = await _rows(file, *_page_naming(user_hashes, after))
        if not rows:
            break
        after = rows[-1]["document_id"]
        readable = {row["document_id"]: _readable(row) for row in rows}
        due = [key for key, found in readable.items() if found is None or _names(found, user_hashes)]
        count += await _delete(file, "raw_traces", "document_id", due)
    if count:
        await file.forget_deleted()
    return count


async def delete_dead_letters(file: SqliteFile, trace_ids: Sequence[str]) -> int:
    """Deletes the dead letters about these traces, in one pass over all letters; how many there were.

    Raises:
        StoreUnavailableError, StoreError: some may be deleted all the same.
    """
    wanted = frozenset(trace_ids)
    if not wanted:
        return 0
    count, after = 0, ""
    # S608: only constants of this module are put in; values are bound.
    statement = (
        "SELECT id, CASE WHEN json_valid(document) THEN json_extract(document, '$.trace_id') END AS trace_id "  # noqa: S608
        f"FROM {{dead_letters}} WHERE id > ? ORDER BY id LIMIT {ROWS_PER_TRANSACTION}"
    )
    while True:
        rows = await _rows(file, statement, (after,))
        count += await _delete(file, "dead_letters", "id", [row["id"] for row in rows if row["trace_id"] in wanted])
        if not rows:
            break
        after = rows[-1]["id"]
    if count:
        await file.forget_deleted()
    return count


def _page_naming(user_hashes: frozenset[str], after: str) -> tuple[str, tuple[str, ...]]:
    """The statement for the next rows whose facts hold one of the hashes anywhere: a plain search, much faster than JSON."""
    hashes = sorted(one for one in user_hashes if one and lossless.is_unicode(one))
    anywhere = " OR ".join("instr(facts, ?) > 0" for _ in hashes) or "0"
    statement = (
        f"SELECT * FROM {{raw_traces}} WHERE document_id > ? AND ({anywhere}) ORDER BY document_id LIMIT {ROWS_PER_PAGE}"  # noqa: S608
    )
    return statement, (after, *hashes)


def _readable(row: sqlite3.Row) -> StoredCapture | None:
    try:
        return stored_capture(row)
    except (SkippableError, TypeError, ValueError):
        return None


def _names(stored: StoredCapture, user_hashes: frozenset[str]) -> bool:
    return not user_hashes.isdisjoint(stored.document["user_hashes"])


def _parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    return (keys[at : at + ROWS_PER_TRANSACTION] for at in range(0, len(keys), ROWS_PER_TRANSACTION))


async def _delete(file: SqliteFile, table: str, column: str, keys: Sequence[str]) -> int:
    if not keys:
        return 0
    marks = ", ".join("?" for _ in keys)
    # S608: table and column are constants of this module; values are bound.
    statement = f"DELETE FROM {{{table}}} WHERE {column} IN ({marks})"  # noqa: S608
    return await file.write(lambda execute: execute(statement, keys).rowcount)


async def _rows(file: SqliteFile, statement: str, values: Sequence[Any]) -> list[sqlite3.Row]:
    return await file.read(lambda execute: execute(statement, values).fetchall())
