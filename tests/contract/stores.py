"""One place of each kind of store, and how somebody who is not ingestion reads and writes there."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

from evalforge.core.capture import document_id
from evalforge.core.ports import Store
from evalforge.stores.firestore import FirestoreStore
from evalforge.stores.sqlite import SqliteStore

PREFIX = "evalforge_"


class Place(Protocol):
    """Somewhere that several stores may be opened on at once, and that others write to."""

    def open(self, *, timeout_s: float = 30.0) -> Store:
        """A further store on this place, as another process would open it."""
        ...

    async def review(self, trace_id: str, fields: Mapping[str, Any]) -> None:
        """Sets fields of a stored capture, as a reviewer or downstream does."""
        ...

    async def fields(self, trace_id: str) -> dict[str, Any] | None:
        """The stored fields as another client sees them, live or expired."""
        ...

    async def vandalize(self, trace_id: str) -> None:
        """Replaces the facts of a stored capture by something of no shape, leaving it unexpired and its users named."""
        ...

    async def plant(self, collection: str, key: str) -> None:
        """Puts a document of somebody else's into a collection: no shape of ours, and an escape that is none."""
        ...

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that lead a process to this place."""
        ...

    def documents(self) -> list[dict[str, Any]]:
        """Every stored capture as another client sees it, each document once."""
        ...

    def clone(self, folder: Path) -> Place:
        """Another place that holds the same; nothing may be open on this one."""
        ...


class SqlitePlace:
    """A file; downstream has added the columns `review_state` and `notes` to it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "captures.db"

    @property
    def settings(self) -> dict[str, str]:
        return {"CAPTURE_STORE": f"sqlite:///{self.path}", "FIRESTORE_COLLECTION_PREFIX": PREFIX}

    def documents(self) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            return [_plain(row) for row in connection.execute(f'SELECT * FROM "{PREFIX}raw_traces" ORDER BY document_id')]

    def clone(self, folder: Path) -> SqlitePlace:
        copy = SqlitePlace(folder)
        with closing(sqlite3.connect(self.path)) as here, closing(sqlite3.connect(copy.path)) as there:
            here.backup(there)
        return copy

    def open(self, *, timeout_s: float = 30.0) -> Store:
        return SqliteStore(str(self.path), prefix=PREFIX, timeout_s=timeout_s)

    async def review(self, trace_id: str, fields: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._review, trace_id, fields)

    def _review(self, trace_id: str, fields: Mapping[str, Any]) -> None:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            known = {row[1] for row in connection.execute(f'PRAGMA table_info("{PREFIX}raw_traces")')}
            for name in fields.keys() - known:
                connection.execute(f'ALTER TABLE "{PREFIX}raw_traces" ADD COLUMN "{name}"')
            for name, value in fields.items():
                connection.execute(
                    f'UPDATE "{PREFIX}raw_traces" SET "{name}" = ? WHERE document_id = ?', (value, document_id(trace_id))
                )

    async def fields(self, trace_id: str) -> dict[str, Any] | None:
        return await asyncio.to_thread(self._fields, trace_id)

    def _fields(self, trace_id: str) -> dict[str, Any] | None:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            query = f'SELECT * FROM "{PREFIX}raw_traces" WHERE document_id = ?'
            row = connection.execute(query, (document_id(trace_id),)).fetchone()
        return None if row is None else _plain(row)

    async def vandalize(self, trace_id: str) -> None:
        facts = {"trace_id": 7, "user_hashes": ((await self.fields(trace_id)) or {}).get("user_hashes")}
        await self.review(trace_id, {"facts": json.dumps(facts), "fingerprint": "none"})

    async def plant(self, collection: str, key: str) -> None:
        await asyncio.to_thread(self._plant, collection, key)

    def _plant(self, collection: str, key: str) -> None:
        with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            columns = connection.execute(f'PRAGMA table_info("{PREFIX}{collection}")').fetchall()
            values = {name: "foreign" for _, name, _, is_needed, _, _ in columns if is_needed}
            is_tombstone = collection == "tombstones"
            values["id" if is_tombstone else next(name for _, name, _, _, _, is_key in columns if is_key)] = key
            names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" for _ in values)
            statement = f'INSERT INTO "{PREFIX}{collection}" ({names}) VALUES ({marks})'
            connection.execute(statement, list(values.values()))


def _plain(row: sqlite3.Row) -> dict[str, Any]:
    found = {name: row[name] for name in row.keys() if row[name] is not None}  # noqa: SIM118 - a row iterates its values
    return {**json.loads(found.pop("facts")), **found, "processed": bool(found["processed"])}


class FirestorePlace:
    """A database of a project of its own on the emulator; others use Google's client as everybody does."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.project = f"test-{uuid.uuid4().hex[:12]}"
        with mock.patch.dict(os.environ, {"FIRESTORE_EMULATOR_HOST": address}):
            credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]  # the library gives it no types
            self.client = firestore.Client(project=self.project, credentials=credentials)

    def open(self, *, timeout_s: float = 30.0) -> Store:
        return FirestoreStore(self.project, "(default)", prefix=PREFIX, emulator_host=self.address, timeout_s=timeout_s)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "CAPTURE_STORE": "firestore",
            "FIRESTORE_EMULATOR_HOST": self.address,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "FIRESTORE_COLLECTION_PREFIX": PREFIX,
        }

    def documents(self) -> list[dict[str, Any]]:
        return [found.to_dict() or {} for found in self.client.collection(f"{PREFIX}raw_traces").stream()]

    def clone(self, folder: Path) -> FirestorePlace:
        copy = FirestorePlace(self.address)
        batch = copy.client.batch()
        for collection in self.client.collections():
            for found in collection.stream():
                batch.set(copy.client.collection(collection.id).document(found.id), found.to_dict())
        batch.commit()
        return copy

    def document(self, trace_id: str) -> Any:
        """The official client's reference to a capture."""
        return self.client.collection(f"{PREFIX}raw_traces").document(document_id(trace_id))

    async def review(self, trace_id: str, fields: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self.document(trace_id).update, dict(fields))

    async def fields(self, trace_id: str) -> dict[str, Any] | None:
        snapshot = await asyncio.to_thread(self.document(trace_id).get)
        found: dict[str, Any] | None = snapshot.to_dict()
        return found

    async def vandalize(self, trace_id: str) -> None:
        fields = {"signals": "gone", "fingerprint": "none", "occurrences": firestore.DELETE_FIELD}
        await self.review(trace_id, fields)

    async def plant(self, collection: str, key: str) -> None:
        fields = {"foreign": "yes", "odd": {"evalforge:integer": "no number"}, "erased_at": datetime.now(UTC)}
        await asyncio.to_thread(self.client.collection(f"{PREFIX}{collection}").document(key).set, fields)
