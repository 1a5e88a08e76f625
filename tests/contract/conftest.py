"""The stores that every contract test runs on: SQLite in a file, and Firestore on Google's emulator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from evalforge.core.ports import Store
from tests.contract.stores import FirestorePlace, Place, SqlitePlace


@pytest.fixture(params=["sqlite", "firestore"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path)
    return FirestorePlace(request.getfixturevalue("firestore_emulator"))


@pytest.fixture
async def store(place: Place) -> AsyncIterator[Store]:
    opened = place.open()
    yield opened
    await opened.close()
