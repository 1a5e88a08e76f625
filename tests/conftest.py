"""What every test may ask for, and the order that tests run in."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path

import pytest

from evalforge.garbage import YOUNG_OBJECTS
from tests.emulator import firestore_emulator
from tests.examples import register_profiles

__all__ = ["firestore_emulator"]

ROOMS = ("integration", "contract", "docs", "property", "architecture", "unit")
"""The rooms of tests, the slow ones first: files that begin last are quick, so that all workers end together."""

register_profiles()
# Thousands of tests and their rows live to the end: to look through them again and again takes a twelfth of all the time.
gc.set_threshold(YOUNG_OBJECTS, 20, 50)


def pytest_collection_finish() -> None:
    """Leaves what was collected out of every later look for garbage."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts files by room, in it by how long a test of theirs may take, and then by how many they have; the tests of a file
    stay as they stand there."""
    counts = Counter(item.path for item in items)
    patience_s = dict.fromkeys(counts, 0.0)
    for item in items:
        if mark := item.get_closest_marker("timeout"):
            patience_s[item.path] = max(patience_s[item.path], float(mark.args[0]))
    place = {path: (ROOMS.index(room_of(path)), -patience_s[path], -count, path) for path, count in counts.items()}
    items.sort(key=lambda item: place[item.path])


def room_of(file: Path) -> str:
    """The folder of `tests` that a file is in."""
    return file.relative_to(Path(__file__).parent).parts[0]
