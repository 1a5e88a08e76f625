"""What every test may ask for, and the order that tests run in."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.emulator import firestore_emulator
from tests.examples import register_profiles

__all__ = ["firestore_emulator"]

ROOMS = ("integration", "contract", "docs", "property", "architecture", "unit")
"""The rooms of tests, the slow ones first: files that begin last are quick, so that all workers end together."""

register_profiles()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts files by room, and in it by how many tests they have; the tests of a file stay as they stand there."""
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (ROOMS.index(room_of(item.path)), -counts[item.path], item.path))


def room_of(file: Path) -> str:
    """The folder of `tests` that a file is in."""
    return file.relative_to(Path(__file__).parent).parts[0]
