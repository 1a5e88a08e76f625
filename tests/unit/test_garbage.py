"""A process looks for garbage in cycles once a page, not dozens of times; what somebody else chose stays."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from evalforge.cli import main
from evalforge.garbage import YOUNG_OBJECTS


@pytest.fixture(autouse=True)
def _own_rhythm() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(("before", "after"), [(700, YOUNG_OBJECTS), (2_000, YOUNG_OBJECTS), (90_000, 90_000), (0, 0)])
def test_a_command_begins_with_the_collector_set(before: int, after: int) -> None:
    gc.set_threshold(before, 7, 8)
    assert main(["--version"]) == 0
    assert gc.get_threshold() == (after, 7, 8)
