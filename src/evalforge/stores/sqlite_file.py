"""One SQLite file: opened on first use by a thread of its own, with its tables, its transactions and its errors."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeVar

from evalforge.errors import StoreError, StoreUnavailableError

LAYOUT_VERSION = 2
"""The version of a file's own layout. What an older program can live with is made when a file is opened and raises nothing;
the number is raised by `mend_layout` alone, since a program that knows a lower one refuses the file from then on."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS {raw_traces} (
    document_id TEXT PRIMARY KEY, trace_id TEXT NOT NULL, fingerprint TEXT NOT NULL, started_at TEXT NOT NULL,
    failure_type TEXT NOT NULL, severity TEXT NOT NULL, ml_app TEXT, env TEXT, expires_at TEXT NOT NULL,
    updated_at TEXT NOT NULL, processed INTEGER NOT NULL DEFAULT 0, facts TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS {by_start} ON {raw_traces} (started_at, document_id);
CREATE TABLE IF NOT EXISTS {groups} (signature TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {dead_letters} (id TEXT PRIMARY KEY, expires_at TEXT NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {runs} (
    id TEXT PRIMARY KEY, started_at TEXT NOT NULL, expires_at TEXT NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {exports} (id TEXT PRIMARY KEY, created_at TEXT NOT NULL, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {checkpoints} (source TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {coverage} (source TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {told} (name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {leases} (name TEXT PRIMARY KEY, document TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS {keyring} (key_id TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS {tombstones} (
    saved INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, erased_at TEXT NOT NULL, epoch TEXT NOT NULL,
    document TEXT NOT NULL);
"""
DERIVED_COLUMNS = {
    "signature": "$.signature",
    "model_name": "$.model_name",
    "error_type": "$.error_type",
    "user_hash": "$.user_hash",
    "version": "$.trace_payload.tags.version",
}
"""Columns of captures that SQLite itself reads out of the facts: nobody writes them, so files of any age have them."""
_INDEXED_BY = ("failure_type", "severity", "ml_app", "env", "model_name", "error_type")
_INDEX_COLUMNS: Mapping[str, tuple[str, ...]] = {
    **{f"by_{column}": (column, "started_at", "document_id", "expires_at") for column in _INDEXED_BY},
    # It holds all that groups count, so that no capture needs to be read for it.
    "by_signature": (
        "signature", "started_at", "document_id", "expires_at", "severity", "env", "model_name", "user_hash", "version",
    ),
}  # fmt: skip
_TABLES = (
    "raw_traces", "by_start", "groups", "dead_letters", "runs", "exports",
    "checkpoints", "coverage", "leases", "keyring", "told", "tombstones", *_INDEX_COLUMNS,
)  # fmt: skip
# Source: https://sqlite.org/rescode.html
_REFUSALS: Mapping[int, str] = {
    sqlite3.SQLITE_FULL: "the disk is full: free some space",
    sqlite3.SQLITE_READONLY: "it is read-only: give the process write access to the file and to its folder",
    sqlite3.SQLITE_PERM: "access is denied: give the process write access to the file and to its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened: the folder must exist and be writable",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: name another file",
    sqlite3.SQLITE_CORRUPT: "it is damaged: restore it, or name another file and ingest again",
    sqlite3.SQLITE_IOERR: "the disk could not be read or written: check it",
}
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_PRIMARY_CODE = 0xFF
_WAL_DELAY_S = 0.02

_T = TypeVar("_T")


class Execute(Protocol):
    """Runs one statement, in which `{raw_traces}` and the like stand for the tables as they are called here."""

    def __call__(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """The cursor of the statement with `values` bound to its question marks."""
        ...


class SqliteFile:
    """The file at `path` (or `:memory:`), whose tables begin with `prefix`.

    A lock that another process holds for longer than `timeout_s` seconds is a StoreUnavailableError.
    """

    def __init__(self, path: str, *, prefix: str, timeout_s: float) -> None:
        self.path = path
        self._timeout_s = timeout_s
        self._tables = {name: '"' + f"{prefix}{name}".replace('"', '""') + '"' for name in _TABLES}
        self._connection: sqlite3.Connection | None = None
        # One thread owns the connection, so that calls queue up instead of meeting in a half-done transaction.
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")

    async def read(self, work: Callable[[Execute], _T]) -> _T:
        """What `work` returns, run on the file's own thread.

        Raises:
            StoreUnavailableError, StoreError
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._work, work)

    async def write(self, work: Callable[[Execute], _T]) -> _T:
        """What `work` returns; all that it writes stands, or nothing of it. Other writers wait meanwhile.

        Raises:
            StoreUnavailableError, StoreError
        """

        def in_transaction(execute: Execute) -> _T:
            with _transaction(execute):
                return work(execute)

        return await self.read(in_transaction)

    async def forget_deleted(self) -> None:
        """Empties the write-ahead log, which still holds what was deleted; without effect while another process reads."""

        def checkpoint(execute: Execute) -> None:
            with suppress(sqlite3.OperationalError):  # a reader in another process: its own checkpoint will do it later
                execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        await self.read(checkpoint)

    async def close(self) -> None:
        """Closes the file once everything that was begun has ended."""
        await asyncio.to_thread(self._executor.shutdown)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _work(self, work: Callable[[Execute], _T]) -> _T:
        with self._translated_errors():
            if self._connection is None:
                self._connection = self._open()
            return work(self._executing(self._connection))

    def _executing(self, connection: sqlite3.Connection) -> Execute:
        def execute(statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
            return connection.execute(statement.format_map(self._tables), values)

        return execute

    def _open(self) -> sqlite3.Connection:
        self._make_private()
        connection = sqlite3.connect(self.path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            execute = self._executing(connection)
            self._switch_to_wal(execute)
            execute("PRAGMA synchronous = NORMAL")
            # What is deleted is overwritten: an erased row must not stay readable in the file's free pages.
            execute("PRAGMA secure_delete = ON")
            with _transaction(execute):
                version = execute("PRAGMA user_version").fetchone()[0]
                if version > LAYOUT_VERSION:
                    raise StoreError(
                        f"{self.path} has schema version {version}, this release knows {LAYOUT_VERSION}: "
                        "update evalforge, or name another file in CAPTURE_STORE"
                    )
                for statement in _SCHEMA.split(";"):
                    execute(statement)
                _derive_columns(execute)
                for index in _INDEX_COLUMNS:
                    _make_index(execute, index)
                if version == 0:  # a new file
                    execute(f"PRAGMA user_version = {LAYOUT_VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _make_private(self) -> None:
        """Makes a new file before SQLite would, for its owner only; SQLite gives its log the same permissions."""
        if self.path == ":memory:":
            return
        with suppress(OSError):  # it is there already, or cannot be made: SQLite says so in its own words
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))

    def _switch_to_wal(self, execute: Execute) -> None:
        # The switch needs the file for itself, and SQLite does not wait for it: of two that make a file at once one is told
        # "busy" at once.
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & _PRIMARY_CODE not in _BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(_WAL_DELAY_S)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & _PRIMARY_CODE
            if code in _BUSY:
                raise StoreUnavailableError(
                    f"the SQLite file {self.path} was locked by another process for more than {self._timeout_s:g} s",
                    retry_after_s=5.0,
                ) from error
            name = getattr(error, "sqlite_errorname", type(error).__name__)
            advice = _REFUSALS.get(code, "see CAPTURE_STORE")
            raise StoreError(f"the SQLite file {self.path} refused ({name}): {advice}") from error


def _derive_columns(execute: Execute) -> None:
    there = {row["name"] for row in execute("PRAGMA table_xinfo({raw_traces})")}
    for column, place in DERIVED_COLUMNS.items():
        if column not in there:
            # Facts that somebody has damaged have no value, and must not keep anybody from writing others.
            value = f"CASE WHEN json_valid(facts) THEN json_extract(facts, '{place}') END"
            execute(f"ALTER TABLE {{raw_traces}} ADD COLUMN {column} TEXT GENERATED ALWAYS AS ({value}) VIRTUAL")


def _make_index(execute: Execute, index: str) -> None:
    execute(f"CREATE INDEX IF NOT EXISTS {{{index}}} ON {{raw_traces}} ({', '.join(_INDEX_COLUMNS[index])})")


def outdated_layout(execute: Execute) -> list[str]:
    """What of the file is not laid out as a new one would be, in a few words each."""
    version = execute("PRAGMA user_version").fetchone()[0]
    outdated = [f"layout version {version} of the file, {LAYOUT_VERSION} is today's"] if version < LAYOUT_VERSION else []
    return outdated + [f"index {index}" for index in _outdated_indexes(execute)]


def mend_layout(execute: Execute) -> None:
    """Lays the file out as a new one would be; programs that know a lower version refuse it from then on."""
    for index in _outdated_indexes(execute):
        execute(f"DROP INDEX {{{index}}}")
        _make_index(execute, index)
    execute(f"PRAGMA user_version = {LAYOUT_VERSION}")


def _outdated_indexes(execute: Execute) -> list[str]:
    def columns(index: str) -> tuple[str, ...]:
        return tuple(row["name"] for row in execute(f"PRAGMA index_info({{{index}}})"))

    return [index for index, wanted in _INDEX_COLUMNS.items() if columns(index) != wanted]


@contextmanager
def _transaction(execute: Execute) -> Iterator[None]:
    execute("BEGIN IMMEDIATE")
    try:
        yield
        execute("COMMIT")
    except BaseException:
        # The first error is the one to tell; SQLite has rolled back by itself after some of them.
        with suppress(sqlite3.Error):
            execute("ROLLBACK")
        raise
