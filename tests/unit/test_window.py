"""Windows: half-open milliseconds, and what remains of one when another is taken away."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.window import Window, datetime_of_ms, epoch_ms, iso_ms

instants = st.integers(min_value=0, max_value=4_000_000_000_000)
windows = st.lists(instants, min_size=2, max_size=2, unique=True).map(lambda bounds: Window(min(bounds), max(bounds)))


@pytest.mark.parametrize("bounds", [(5, 5), (6, 5)])
def test_a_window_must_end_after_it_begins(bounds: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must end after"):
        Window(*bounds)


def test_the_last_hours_end_now() -> None:
    now = datetime(2026, 11, 23, 12, tzinfo=UTC)
    window = Window.last_hours(1.5, now)
    assert str(window) == "2026-11-23T10:30:00.000Z/2026-11-23T12:00:00.000Z"
    assert window.duration_ms == 5_400_000


def test_times_need_a_zone_and_keep_their_milliseconds() -> None:
    with pytest.raises(ValueError, match="time zone"):
        epoch_ms(datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test
    east = datetime(2026, 11, 23, 7, 26, 0, 813_999, tzinfo=timezone(timedelta(hours=1)))
    assert iso_ms(epoch_ms(east)) == "2026-11-23T06:26:00.813Z"


@given(instants)
def test_milliseconds_survive_the_way_through_datetimes(ms: int) -> None:
    assert epoch_ms(datetime_of_ms(ms)) == ms


@given(windows, windows)
def test_what_remains_and_what_was_covered_make_up_the_window(whole: Window, covered: Window) -> None:
    rest = whole.without(covered)
    assert rest == sorted(rest)
    overlap = max(0, min(whole.to_ms, covered.to_ms) - max(whole.from_ms, covered.from_ms))
    assert sum(part.duration_ms for part in rest) + overlap == whole.duration_ms
    for part in rest:
        assert whole.covers(part)
        assert part.to_ms <= covered.from_ms or covered.to_ms <= part.from_ms
    assert covered.covers(whole) == (rest == [])
