"""What is still to be read of a long window: begun slices first, then the rest, and nothing that counts as read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from evalforge.core.ports import Checkpoint, Coverage
from evalforge.core.slices import PROGRESS_LIFETIME, Slice, beyond, slice_count, slices_left, valid_coverage, within
from evalforge.core.window import Window, epoch_ms

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR = 3_600_000
NONE = Coverage("s", "d", NOW)
SLOT = Checkpoint(
    "s", Window(2 * HOUR, 3 * HOUR), "d", cursor="c", tier="backfill.slot-0", began_ms=epoch_ms(NOW - timedelta(days=1))
)


def hours(*bounds: tuple[float, float]) -> list[Window]:
    return [Window(round(begin * HOUR), round(end * HOUR)) for begin, end in bounds]


def test_windows_are_taken_away_and_cut_to_bounds() -> None:
    assert beyond(hours((0, 10)), hours((1, 2), (4, 5), (9, 12))) == hours((0, 1), (2, 4), (5, 9))
    assert beyond(hours((0, 1)), []) == hours((0, 1))
    assert within(hours((0, 2), (3, 4), (5, 9)), Window(HOUR, 6 * HOUR)) == hours((1, 2), (3, 4), (5, 6))
    assert within(hours((0, 1)), Window(HOUR, 2 * HOUR)) == []
    assert slice_count(hours((0, 2), (2.5, 3.5)), HOUR) == 4


def test_begun_slices_come_first_then_the_rest_cut_by_the_clock() -> None:
    (asked,) = hours((0.5, 5.5))
    read = replace(NONE, windows=tuple(hours((1, 2))))
    assert slices_left(asked, read, [SLOT], HOUR, NOW) == [
        Slice(SLOT.window, SLOT),
        *map(Slice, hours((0.5, 1), (3, 4), (4, 5), (5, 5.5))),
    ]
    assert slices_left(asked, replace(NONE, windows=(Window(0, 9 * HOUR),)), [], HOUR, NOW) == []


@pytest.mark.parametrize(
    "slot",
    [
        replace(SLOT, done=True),
        replace(SLOT, query_digest="other"),
        replace(SLOT, began_ms=epoch_ms(NOW - PROGRESS_LIFETIME) - 1),
        replace(SLOT, began_ms=None),
        replace(SLOT, window=Window(5 * HOUR, 7 * HOUR)),
        replace(SLOT, window=Window(HOUR // 2, 2 * HOUR)),
    ],
    ids=["read to its end", "other settings", "too old", "of an unknown age", "not within", "partly read since"],
)
def test_a_place_that_does_not_count_is_read_anew(slot: Checkpoint) -> None:
    (asked,) = hours((0, 6))
    read = replace(NONE, windows=tuple(hours((0, 1))))
    assert slices_left(asked, read, [slot], HOUR, NOW) == [Slice(piece) for piece in Window(HOUR, 6 * HOUR).slices(HOUR)]


def test_of_two_places_that_overlap_one_counts() -> None:
    (asked,) = hours((0, 4))
    other = replace(SLOT, tier="backfill.slot-1", window=Window(2 * HOUR, 4 * HOUR))
    left = slices_left(asked, NONE, [SLOT, other], HOUR, NOW)
    assert left == [Slice(SLOT.window, SLOT), *map(Slice, hours((0, 1), (1, 2), (3, 4)))]


def test_coverage_is_void_under_other_settings_and_after_a_week() -> None:
    read = Coverage("s", "d", NOW - PROGRESS_LIFETIME, (Window(0, 1),))
    assert valid_coverage(read, "s", "d", NOW) == read
    assert valid_coverage(read, "s", "other", NOW) == Coverage("s", "other", NOW)
    assert valid_coverage(read, "s", "d", NOW + timedelta(seconds=1)) == Coverage("s", "d", NOW + timedelta(seconds=1))
    assert valid_coverage(None, "s", "d", NOW) == NONE
    assert valid_coverage(replace(read, saved_at=NOW + timedelta(days=1)), "s", "d", NOW).windows, "a clock was set back"
