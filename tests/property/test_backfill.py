"""Whatever window, slices, workers and deaths: run again until it finishes, a backfill ends with exactly the failing set."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from evalforge.core.ports import Coverage, Selection
from evalforge.core.slices import slices_left
from evalforge.core.window import Window, joined
from evalforge.stores.sqlite import SqliteStore
from tests.backfills import HOUR_MS, NOW, WINDOW, CountingSource, KilledError, Mortal, failing, go
from tests.examples import examples

MINUTE_MS = 60_000
ATTEMPTS = st.tuples(
    st.sampled_from([5, 17, 60, 240]),  # minutes of a slice
    st.integers(1, 8),
    st.none() | st.integers(0, 60),  # dies at this call of the store
    st.none() | st.integers(0, 12),  # dies before this page
)


@examples(60)
@given(
    minutes=st.lists(st.tuples(st.integers(-30, 390), st.booleans(), st.integers(0, 9)), max_size=30),
    bounds=st.tuples(st.integers(0, 360), st.integers(0, 360)).filter(lambda pair: pair[0] < pair[1]),
    attempts=st.lists(ATTEMPTS, max_size=4),
)
@example(minutes=[(60, True, 0), (60, True, 0)], bounds=(0, 360), attempts=[(60, 2, None, 1)])
def test_it_ends_with_exactly_what_fails_in_the_window(
    minutes: list[tuple[int, bool, int]],
    bounds: tuple[int, int],
    attempts: list[tuple[int, int, int | None, int | None]],
) -> None:
    items = [
        failing(n, WINDOW.from_ms + at * MINUTE_MS, trace=trace, status="error" if fails else "ok")
        for n, (at, fails, trace) in enumerate(minutes)
    ]
    items.sort(key=lambda one: one.start_ns)
    window = Window(WINDOW.from_ms + bounds[0] * MINUTE_MS, WINDOW.from_ms + bounds[1] * MINUTE_MS)
    wanted: dict[str, int] = {}
    for one in items:
        if one.status == "error" and window.from_ms <= one.start_ns // 1_000_000 < window.to_ms:
            wanted[one.trace_id] = wanted.get(one.trace_id, 0) + 1

    async def work() -> dict[str, int]:
        store = SqliteStore(":memory:", prefix="evalforge_")
        later = timedelta()
        try:
            for slice_minutes, workers, last_call, page in attempts:
                later += timedelta(seconds=61)
                mortal = store if last_call is None else Mortal(store, last_call)
                source = CountingSource(items, dies_at=page)
                try:
                    await go(mortal, source, window=window, slice_ms=slice_minutes * MINUTE_MS, workers=workers, later=later)
                except KilledError:
                    continue
            later += timedelta(seconds=61)
            report = await go(store, CountingSource(items), window=window, workers=2, later=later)
            assert report.complete
            assert report.document()["backfill"]["again"] is None
            found = [stored.capture async for stored in store.select(Selection(), now=NOW)]
            return {capture.trace_id: capture.recurrence_count for capture in found}
        finally:
            await store.close()

    assert asyncio.run(work()) == wanted


HOURS = st.integers(0, 48)
WINDOWS = (
    st.tuples(HOURS, HOURS).filter(lambda pair: pair[0] < pair[1]).map(lambda p: Window(p[0] * HOUR_MS, p[1] * HOUR_MS))
)


@given(asked=WINDOWS, read=st.lists(WINDOWS, max_size=6), length_ms=st.integers(MINUTE_MS * 5, 24 * HOUR_MS))
def test_what_is_left_and_what_was_read_make_the_window_and_never_overlap(
    asked: Window, read: list[Window], length_ms: int
) -> None:
    coverage = Coverage("s", "d", NOW, joined(read))
    left = [one.window for one in slices_left(asked, coverage, [], length_ms, NOW)]
    assert left == sorted(left)
    for window in left:
        assert asked.covers(window)
        assert window.duration_ms <= length_ms
        assert not any(window.from_ms < one.to_ms and one.from_ms < window.to_ms for one in read)
    covering = joined([*left, *read])
    assert any(window.covers(asked) for window in covering)
    assert sum(window.duration_ms for window in left) == sum(window.duration_ms for window in joined(left))
