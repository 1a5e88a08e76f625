"""What a run is to read: an unfinished window first, then on to now, and nothing that Datadog cannot hold any more."""

from __future__ import annotations

import pytest

from evalforge.core.plans import DAY, FORTNIGHT, RECENT, RETENTION_MS, AskedWindow, SinceLast
from evalforge.core.ports import Checkpoint
from evalforge.core.window import MS_PER_HOUR, Window

NOW_MS = 1_800_000_000_000
ASKED = Window(NOW_MS - 100, NOW_MS)


def back(from_ms: int, to_ms: int = 0) -> Window:
    """The window between so many milliseconds ago."""
    return Window(NOW_MS - from_ms, NOW_MS - to_ms)


@pytest.mark.parametrize(
    ("unfinished", "reads_on", "rest"),
    [
        (back(150, 50), False, [back(50)]),
        (back(80, 50), False, [back(100, 80), back(50)]),
        (back(300, 200), False, [back(100)]),
        (back(300, 200), True, [back(200)]),
        (back(150, 50), True, [back(50)]),
        (back(RETENTION_MS + 300, RETENTION_MS + 200), True, [back(RETENTION_MS)]),
        (back(100), True, []),
    ],
)
def test_an_unfinished_window_comes_first_then_what_is_beyond_it(
    unfinished: Window, reads_on: bool, rest: list[Window]
) -> None:
    place = Checkpoint("s", unfinished, cursor="c")
    (due,) = AskedWindow(ASKED, reads_on).due({"lookback": place}, NOW_MS)
    assert due.windows == ((unfinished, place), *((window, None) for window in rest))
    assert (due.gone is None) is (unfinished.from_ms >= NOW_MS - RETENTION_MS)


@pytest.mark.parametrize("checkpoints", [{}, {"lookback": Checkpoint("s", back(150, 50), done=True)}])
def test_a_finished_window_is_nothing_to_go_on_from(checkpoints: dict[str, Checkpoint]) -> None:
    (due,) = AskedWindow(ASKED, reads_on=True).due(checkpoints, NOW_MS)
    assert due.windows == ((ASKED, None),)


def test_the_first_incremental_run_reads_the_lookback_and_begins_every_tier() -> None:
    due = SinceLast(500).due({}, NOW_MS)
    assert [(one.tier, one.windows, one.began_ms) for one in due] == [
        (RECENT, ((back(500), None),), NOW_MS),
        (DAY, (), NOW_MS),
        (FORTNIGHT, (), NOW_MS),
    ]


def test_a_clock_that_was_set_back_reads_the_overlap_and_not_backwards() -> None:
    ahead = NOW_MS + 7 * MS_PER_HOUR
    checkpoints = {
        tier.name: Checkpoint("s", Window(ahead - 1, ahead), done=True, tier=tier.name, began_ms=ahead)
        for tier in (RECENT, DAY, FORTNIGHT)
    }
    (due,) = SinceLast(500).due(checkpoints, NOW_MS)
    assert due.windows == ((back(MS_PER_HOUR), None),)
    assert due.gone is None


def test_what_an_earlier_run_has_read_of_a_window_is_not_fresh() -> None:
    """The day's reading goes on from where it was cut; the fortnight's reads all of the day again."""
    hours = MS_PER_HOUR
    cut = Checkpoint(
        "s", back(50 * hours, 20 * hours), last_ms=NOW_MS - 30 * hours, tier="day", began_ms=NOW_MS - 19 * hours
    )
    checkpoints = {
        "recent": Checkpoint("s", back(5 * hours, hours), done=True, tier="recent", began_ms=NOW_MS - hours),
        "day": cut,
        "fortnight": Checkpoint(
            "s", back(90 * hours, 80 * hours), done=True, tier="fortnight", began_ms=NOW_MS - 30 * hours
        ),
    }
    recent, day, fortnight = SinceLast(500).due(checkpoints, NOW_MS)
    assert recent.windows == ((back(2 * hours), None),)
    assert (day.windows, day.began_ms) == (((cut.window, cut),), cut.began_ms)
    assert fortnight.windows == ((Window(NOW_MS - RETENTION_MS, NOW_MS - 2 * hours), None),)
