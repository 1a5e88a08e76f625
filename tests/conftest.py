"""What every test may ask for, and the order that tests run in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulator import firestore_emulator
from tests.examples import register_profiles

__all__ = ["firestore_emulator"]

ROOMS = ("contract", "integration", "docs", "property", "architecture", "unit")
"""The rooms of tests, the slow ones first: what is left for the last seconds is small, so both workers end together."""

register_profiles()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts by room, and what needs the emulator to the front, where one worker takes it and starts one emulator."""
    items.sort(key=lambda item: (not on_the_emulator(item), room_of(item)))


def on_the_emulator(item: pytest.Item) -> bool:
    """Whether a test needs the Firestore emulator, as far as its name and its fixtures tell."""
    return "firestore" in item.name.partition("[")[2] or "firestore_emulator" in getattr(item, "fixturenames", ())


def room_of(item: pytest.Item) -> int:
    """The place of a test's room in the order."""
    return ROOMS.index(Path(item.path).relative_to(Path(__file__).parent).parts[0])
