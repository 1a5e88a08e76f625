"""What is SQLite's alone: its files, its locks and its errors."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sqlite3
import stat
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from evalforge.core.ports import Erasure, Selection
from evalforge.errors import EvalForgeError, StoreError, StoreUnavailableError
from evalforge.stores.sqlite import SqliteStore
from evalforge.stores.sqlite_file import Execute, SqliteFile
from tests.captures import NOW, capture, captures


@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        (sqlite3.SQLITE_BUSY, StoreUnavailableError, "locked by another process"),
        (sqlite3.SQLITE_LOCKED, StoreUnavailableError, "locked by another process"),
        (sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailableError, "locked by another process"),
        (sqlite3.SQLITE_FULL, StoreError, "free some space"),
        (sqlite3.SQLITE_READONLY, StoreError, "write access"),
        (sqlite3.SQLITE_READONLY_DIRECTORY, StoreError, "write access"),
        (sqlite3.SQLITE_PERM, StoreError, "write access"),
        (sqlite3.SQLITE_CANTOPEN, StoreError, "folder must exist"),
        (sqlite3.SQLITE_NOTADB, StoreError, "no SQLite database"),
        (sqlite3.SQLITE_CORRUPT, StoreError, "damaged"),
        (sqlite3.SQLITE_IOERR_WRITE, StoreError, "the disk could not be read or written"),
        (sqlite3.SQLITE_TOOBIG, StoreError, "CAPTURE_STORE"),
    ],
)
async def test_each_error_says_what_to_do(tmp_path: Path, code: int, expected: type[EvalForgeError], said: str) -> None:
    def fail(execute: Execute) -> None:
        error = sqlite3.OperationalError("text of a value")
        error.sqlite_errorcode = code
        raise error

    file = SqliteFile(str(tmp_path / "a.db"), prefix="p_", timeout_s=1)
    with pytest.raises(expected, match=said) as caught:
        await file.read(fail)
    assert "text of a value" not in str(caught.value)
    assert "a.db" in str(caught.value)
    await file.close()


async def test_a_lock_that_stays_is_unavailable_and_ends(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_", timeout_s=0.05)
    await store.ping()
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError):
            await store.upsert([capture()], now=NOW)
        assert await store.count(now=NOW) == 0
        other.execute("ROLLBACK")
    assert (await store.upsert([capture()], now=NOW)).created
    await store.close()


@pytest.mark.parametrize("make", ["text file", "folder", "missing folder"])
async def test_what_is_no_database_is_said(tmp_path: Path, make: str) -> None:
    path = tmp_path / "a.db"
    if make == "text file":
        path.write_text("no database " * 100)
    elif make == "folder":
        path.mkdir()
    else:
        path = path / "b.db"
    store = SqliteStore(str(path), prefix="p_")
    for call in (store.ping(), store.count(now=NOW), store.upsert([capture()], now=NOW)):
        with pytest.raises(StoreError):
            await call
    await store.close()


async def test_a_file_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as other:
        other.execute("PRAGMA user_version = 99")
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
    with pytest.raises(StoreError, match="update evalforge"):
        await store.ping()
    await store.close()


async def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    file = SqliteFile(str(tmp_path / "a.db"), prefix="p_", timeout_s=1)

    def fail(execute: Execute) -> None:
        execute("INSERT INTO {keyring} (key_id) VALUES ('1a2b')")
        raise LookupError("on the way")

    with pytest.raises(LookupError):
        await file.write(fail)
    assert await file.read(lambda execute: execute("SELECT * FROM {keyring}").fetchall()) == []
    await file.close()


async def test_prefixes_keep_apart_in_one_file_however_they_are_spelled(tmp_path: Path) -> None:
    stores = [SqliteStore(str(tmp_path / "a.db"), prefix=prefix) for prefix in ("a_", "b_", "x\"; DROP TABLE y; '--")]
    for count, store in enumerate(stores, start=1):
        await store.upsert(captures(count), now=NOW)
    assert [await store.count(now=NOW) for store in stores] == [1, 2, 3]
    for store in stores:
        await store.close()


async def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    for turn in range(10):
        stores = [SqliteStore(str(tmp_path / f"{turn}.db"), prefix="p_") for _ in range(6)]
        await asyncio.gather(*(store.upsert([capture(number)], now=NOW) for number, store in enumerate(stores)))
        assert await stores[0].count(now=NOW) == 6
        for store in stores:
            await store.close()


async def test_what_is_deleted_or_replaced_is_in_no_byte_of_the_file(tmp_path: Path) -> None:
    """Long enough to need pages of its own, and read while the store is open: its log counts too."""
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
    marked = [capture(number, payload={"words": "needle in a haystack " * 400}) for number in range(30)]
    await store.upsert([*marked, *captures(60)[40:]], now=NOW)
    assert b"needle" in everything_in(tmp_path)
    [old] = [one async for one in store.documents("raw_traces") if one.key == marked[0].document_id]
    assert await store.rewrite(dataclasses.replace(marked[0], payload={}), old, now=NOW)
    assert await store.delete_captures([one.trace_id for one in marked[1:10]]) == 9
    assert await store.delete_captures([one.trace_id for one in marked[10:]]) == 20
    assert b"needle" not in everything_in(tmp_path)
    await store.upsert([dataclasses.replace(one, payload={"words": "thimble " * 900}) for one in marked[1:]], now=NOW)
    assert b"thimble" in everything_in(tmp_path)
    assert await store.delete_expired(now=NOW + timedelta(days=400)) == 50
    assert b"thimble" not in everything_in(tmp_path)
    await store.close()


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_file_of_the_first_release_opens_and_gains_what_is_new(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
    await store.upsert([capture()], now=NOW)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "a.db")) as other, other:
        other.execute("DROP TABLE p_tombstones")
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
    assert await store.erasure_epoch() == ""
    await store.save_erasure(Erasure("e", NOW, "trace", "cli"))
    assert [one.id async for one in store.erasures()] == ["e"]
    assert await store.count(now=NOW) == 1
    await store.close()


async def test_only_its_owner_can_read_the_file_and_its_log(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
        await store.upsert([capture()], now=NOW)
    finally:
        os.umask(before)
    assert modes_in(tmp_path) == {"a.db": 0o600, "a.db-shm": 0o600, "a.db-wal": 0o600}
    await store.close()


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


async def test_a_file_that_a_team_shares_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "a.db").chmod(0o660)
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
    await store.upsert([capture()], now=NOW)
    assert modes_in(tmp_path)["a.db"] == 0o660
    await store.close()


async def test_memory_is_a_path_too() -> None:
    store = SqliteStore(":memory:", prefix="p_")
    await store.upsert([capture()], now=NOW)
    assert [found.capture async for found in store.select(Selection(), now=NOW)] == [capture()]
    await store.close()


async def test_columns_can_be_read_by_anybody(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "a.db"), prefix="p_")
    await store.upsert([capture()], now=NOW)
    await store.close()
    with closing(sqlite3.connect(tmp_path / "a.db")) as other:
        query = "SELECT trace_id, failure_type, severity, started_at, json_extract(facts, '$.user_hash') FROM p_raw_traces"
        [row] = other.execute(query).fetchall()
        modes = other.execute("PRAGMA journal_mode").fetchone(), other.execute("PRAGMA user_version").fetchone()
    one = capture()
    assert row == (one.trace_id, "hallucination", "high", "2026-11-18T11:06:40.123456Z", one.user_hash)
    assert modes == (("wal",), (2,))
