"""A page is stored in parts: what is counted, what overlaps, and what happens where one part breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from evalforge import ingest
from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Selection
from evalforge.core.privacy import Sanitizer
from evalforge.core.span import Span
from evalforge.errors import StoreUnavailableError
from evalforge.runs import RunReport, run
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import order
from tests.unit.test_runs import KEY_A, NOW, WINDOW, judge, span


@pytest.fixture(autouse=True)
def parts_of_ten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "TRACES_PER_PART", 10)


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


class Watched:
    """A store whose upserts are noted, and break where they are told to."""

    def __init__(self, store: SqliteStore, *, breaks_at: int = 0) -> None:
        self.store = store
        self.breaks_at = breaks_at
        self.sizes: list[int] = []
        self.noted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    async def upsert(self, captures: Sequence[FailureCapture], **others: Any) -> Any:
        self.sizes.append(len(captures))
        self.noted.append("begun")
        if len(self.sizes) == self.breaks_at:
            raise StoreUnavailableError("the store is gone", retry_after_s=1)
        try:
            for _ in range(100):  # a store that takes its time
                await asyncio.sleep(0)
            result = await self.store.upsert(captures, **others)
        except asyncio.CancelledError:
            self.noted.append("left")
            raise
        self.noted.append("done")
        return result


ITEMS = [span(number) for number in range(35)]


async def go(store: Any, *items: Any) -> RunReport:
    source = FakeSource(items or ITEMS, page_size=100)
    return await run([source], store, judge(KEY_A), order(WINDOW), clock=lambda: NOW)


async def traces(store: SqliteStore) -> set[str]:
    return {one.capture.trace_id async for one in store.select(Selection(), now=NOW)}


async def test_every_part_is_counted_once(store: SqliteStore) -> None:
    watched = Watched(store)
    odd = replace(span(40), span_id="undefined")
    for turn in ("created", "unchanged"):
        report = await go(watched, *ITEMS, odd, span(41, status="ok"))
        tally = report.tally
        assert (tally.fetched, tally.healthy, tally.failing, tally.rejected) == (37, 1, 35, 1)
        assert {name: getattr(tally, name) for name in ("created", "updated", "unchanged")} == {
            "created": 0,
            "updated": 0,
            "unchanged": 0,
            turn: 35,
        }
        assert report.document()["dead_letters"] == {"new": int(turn == "created"), "total": 1}
    assert watched.sizes == [10, 10, 10, 5, 0]
    assert len(await traces(store)) == 35


async def test_a_trace_is_never_parted(store: SqliteStore) -> None:
    items = [replace(span(100 + number), trace_id=ITEMS[number % 20].trace_id) for number in range(20)]
    watched = Watched(store)
    report = await go(watched, *ITEMS[:20], *items)
    assert watched.sizes == [10, 10]
    assert (report.tally.created, report.tally.updated) == (20, 0)


async def test_the_next_part_is_sanitized_while_one_is_stored(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(store)
    real = Sanitizer.sanitize

    def sanitize(self: Sanitizer, one: Span, *others: Any) -> Any:
        watched.noted.append("sanitized")
        return real(self, one, *others)

    monkeypatch.setattr(Sanitizer, "sanitize", sanitize)
    await go(watched)
    first = watched.noted.index("begun")
    assert "sanitized" in watched.noted[first : watched.noted.index("done")]
    under_way = 0
    for what in watched.noted:
        under_way += {"begun": 1, "done": -1}.get(what, 0)
        assert under_way <= 1, "one part at a time is on its way to the store"


@pytest.mark.parametrize("breaks_at", [1, 2, 3, 4])
async def test_where_a_part_breaks_the_page_is_read_again(store: SqliteStore, breaks_at: int) -> None:
    watched = Watched(store, breaks_at=breaks_at)
    report = await go(watched)
    assert report.error is not None
    assert report.error["code"] == "store_unavailable"
    assert report.tally.fetched == 0, "a page counts once it is stored"
    assert len(await traces(store)) == 10 * (breaks_at - 1)
    assert watched.noted.count("begun") == breaks_at, "nothing is begun after it"
    again = await go(store)
    assert (again.tally.created, again.tally.unchanged) == (35 - 10 * (breaks_at - 1), 10 * (breaks_at - 1))


async def test_what_breaks_the_sanitizing_of_a_part_leaves_none_behind(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no rule foresaw and no letter can hold ends the run, and the part that was being stored with it."""
    watched = Watched(store)
    real = ingest._span_letter
    monkeypatch.setattr(Sanitizer, "sanitize", broken_at(ITEMS[12].span_id))

    def letter(*about: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(ingest, "_span_letter", letter)
    with pytest.raises(MemoryError):
        await go(watched)
    assert watched.noted == ["begun", "left"]
    monkeypatch.undo()
    assert ingest._span_letter is real
    assert (await go(store)).tally.created == 35


def broken_at(span_id: str) -> Any:
    real = Sanitizer.sanitize

    def sanitize(self: Sanitizer, one: Span, *others: Any) -> Any:
        if one.span_id == span_id:
            raise ValueError
        return real(self, one, *others)

    return sanitize
