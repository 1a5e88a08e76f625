"""What programs of each version of the documents stored (tests/data/stored), put into either store."""

from __future__ import annotations

import json
import sqlite3
import urllib.request
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from evalforge.core.ports import Selection, Store, StoredCapture
from tests.contract.stores import FirestorePlace, Place, SqlitePlace

FOLDER = Path(__file__).parent / "data" / "stored"
VERSIONS = ("1", "2", "3", "4-untold", "4")
"""Every version of captures that was ever written; those of `4-untold` have all of version 4, but tell 1."""
TODAYS = VERSIONS[-1]
OLDER = VERSIONS[:-1]
MADE_AT = datetime(2026, 11, 28, 3, tzinfo=UTC)
"""A little after the last of them was made."""
SALT = "stored-fixtures-are-made-with-this-salt"
REVIEWED = "owner_team"
"""A field that somebody downstream had set on one capture of each."""


def settings_of(place: Place) -> dict[str, str]:
    """The environment variables of a process that goes on with what was stored."""
    return {**place.settings, "PII_SALT": SALT, "DATADOG_API_KEY": "k", "DATADOG_APP_KEY": "a", "RETENTION_DAYS": "3650"}


def fill(place: Place, version: str) -> None:
    """Puts the documents of a version into a place that is empty, as that program left them."""
    if isinstance(place, SqlitePlace):
        with closing(sqlite3.connect(place.path)) as connection:
            connection.executescript((FOLDER / version / "sqlite.sql").read_text("utf-8"))
        return
    assert isinstance(place, FirestorePlace)
    root = f"projects/{place.project}/databases/(default)/documents"
    stored = json.loads((FOLDER / version / "firestore.json").read_bytes())
    writes = [
        {"update": {"name": f"{root}/{collection}/{key}", "fields": fields}}
        for collection, documents in stored.items()
        for key, fields in documents.items()
    ]
    request = urllib.request.Request(
        f"http://{place.address}/v1/{root}:commit",
        data=json.dumps({"writes": writes}).encode(),
        headers={"Authorization": "Bearer owner", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60):
        pass


async def all_captures(store: Store) -> list[StoredCapture]:
    """Every capture, the latest start first."""
    return [found async for found in store.select(Selection(), now=MADE_AT)]
