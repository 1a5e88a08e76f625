"""Reading ahead: the same spans in the same order whatever comes when, a bound on what is held, nothing left behind."""

from __future__ import annotations

import asyncio
import bisect
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalforge.core.ports import Page
from evalforge.core.signals import Thresholds
from evalforge.core.window import Window
from evalforge.errors import SourceUnavailableError
from evalforge.sources.datadog import DatadogClient, DatadogSource
from evalforge.sources.datadog.ahead import AHEAD_BYTES, MAX_AHEAD, Allowance
from tests import virtual_time
from tests.quota import Quota, headers_of

WINDOW = Window(1_700_000_000_000, 1_700_086_400_000)
LATENCY_S = 0.15


class Datadog(httpx.AsyncBaseTransport):
    """Spans at these instants (milliseconds into the window), behind a latency; `fault` may answer a request instead."""

    def __init__(
        self,
        starts_ms: Sequence[int],
        *,
        size: int = 100,
        latency: Callable[[], float] = lambda: LATENCY_S,
        quota: Quota | None = None,
        fault: Callable[[int, dict[str, Any]], httpx.Response | None] = lambda number, asked: None,
    ) -> None:
        self.starts_ms = sorted(starts_ms)
        self.asked: list[dict[str, Any]] = []
        self.under_way = self.most_under_way = 0
        self._text = "x" * size
        self._latency = latency
        self._quota = quota
        self._fault = fault

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        asked = orjson.loads(request.content)["data"]["attributes"]
        self.asked.append(asked)
        number = len(self.asked)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self._latency())
        finally:
            self.under_way -= 1
        allowed, told = self._quota.take(asyncio.get_running_loop().time()) if self._quota else (True, {})
        if not allowed:
            return httpx.Response(429, headers=headers_of(told), stream=httpx.ByteStream(b""))
        return self._fault(number, asked) or self.page(asked, headers_of(told))

    def page(self, asked: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        from_ms, to_ms = (int(asked["filter"][edge]) - WINDOW.from_ms for edge in ("from", "to"))
        end = bisect.bisect_left(self.starts_ms, to_ms)
        begin = int(asked["page"].get("cursor") or bisect.bisect_left(self.starts_ms, from_ms))
        stop = min(begin + asked["page"]["limit"], end)
        body = {
            "data": [self.item(number) for number in range(begin, stop)],
            "meta": {"page": {"after": str(stop)} if stop < end else None},
        }
        return httpx.Response(200, headers=headers, stream=httpx.ByteStream(orjson.dumps(body)))

    def item(self, number: int) -> dict[str, Any]:
        start_ns = (WINDOW.from_ms + self.starts_ms[number]) * 1_000_000
        attributes = {"trace_id": f"{number:032x}", "span_id": str(number + 1), "start_ns": start_ns, "name": self._text}
        return {"type": "span", "attributes": attributes}


def spread(count: int) -> list[int]:
    return [number * WINDOW.duration_ms // count for number in range(count)]


def source_over(datadog: Datadog) -> DatadogSource:
    clock = asyncio.get_running_loop().time
    client = DatadogClient("https://api.datadoghq.com", "key", "app", retry_budget_s=60, transport=datadog, clock=clock)
    return DatadogSource(client, "llm_obs", thresholds=Thresholds(), filter_mode="scan")


async def pages_of(datadog: Datadog) -> tuple[list[Page], DatadogSource]:
    source = source_over(datadog)
    return [page async for page in source.pages(WINDOW)], source


def ids(pages: Sequence[Page]) -> list[int]:
    return [int(span.span_id) - 1 for page in pages for span in page.spans]


def timed(work: Coroutine[Any, Any, Any]) -> tuple[Any, float]:
    async def measured() -> tuple[Any, float]:
        return await work, asyncio.get_running_loop().time()

    return virtual_time.run(measured())


def limit_at(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Pages of so many spans, without the megabytes that fill them."""
    monkeypatch.setattr("evalforge.sources.datadog.paging.FIRST_PAGE", limit)
    monkeypatch.setattr("evalforge.sources.datadog.paging.TARGET_PAGE_BYTES", limit * 235)


@pytest.fixture
def pages_of_100(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_at(monkeypatch, 100)


@pytest.mark.usefixtures("pages_of_100")
def test_a_big_window_is_read_several_answers_at_a_time_in_the_order_of_time() -> None:
    datadog = Datadog(spread(4000))
    (pages, source), seconds = timed(pages_of(datadog))
    read = ids(pages)
    assert sorted(set(read)) == list(range(4000))
    assert [page.spans[0].start_ns for page in pages] == sorted(page.spans[0].start_ns for page in pages)
    assert len(read) <= 4003, "what began at a cut is read once more"
    assert len(pages) == source.status.request_count == len(datadog.asked)
    alone = 4000 / 100
    assert len(datadog.asked) <= alone + 4
    assert 3 <= datadog.most_under_way <= MAX_AHEAD
    assert seconds < alone * LATENCY_S / 3
    assert pages[-1].checkpoint.done


@pytest.mark.usefixtures("pages_of_100")
def test_a_window_of_few_pages_is_read_along_its_cursor() -> None:
    datadog = Datadog(spread(250))
    (pages, _), _ = timed(pages_of(datadog))
    assert ids(pages) == list(range(250))
    assert [asked["page"].get("cursor") for asked in datadog.asked] == [None, "100", *datadog_cursors(datadog)[2:]]
    assert datadog.most_under_way == 1


def datadog_cursors(datadog: Datadog) -> list[str | None]:
    return [asked["page"].get("cursor") for asked in datadog.asked]


@pytest.mark.usefixtures("pages_of_100")
def test_the_next_answer_comes_while_a_page_is_worked_on() -> None:
    async def work() -> None:
        async for _ in source_over(Datadog(spread(250))).pages(WINDOW):
            await asyncio.sleep(LATENCY_S)

    assert timed(work())[1] < 4.5 * LATENCY_S  # three pages, one after the other: six


@pytest.mark.usefixtures("pages_of_100")
def test_a_scarce_quota_is_read_along_the_cursor() -> None:
    quota = Quota(400, 3600.0)
    quota.used[0] = 310
    datadog = Datadog(spread(2000), quota=quota)
    (pages, source), _ = timed(pages_of(datadog))
    assert ids(pages) == list(range(2000))
    assert (datadog.most_under_way, source.status.retry_count, quota.refused) == (1, 0, 0)


@pytest.mark.usefixtures("pages_of_100")
@pytest.mark.parametrize("shape", ["half empty", "burst", "one millisecond"])
def test_a_window_of_any_shape_costs_few_requests_more_than_its_pages(shape: str) -> None:
    rng = random.Random(shape)
    starts = {
        "half empty": [start // 2 for start in spread(3000)],
        "burst": [*spread(600), *(40_000_000 + rng.randrange(600_000) for _ in range(2400))],
        "one millisecond": [*spread(1500), *[50_000_000] * 1500],
    }[shape]
    datadog = Datadog(starts)
    (pages, _), _ = timed(pages_of(datadog))
    assert set(ids(pages)) == set(range(3000))
    assert len(ids(pages)) < 3100
    assert len(datadog.asked) <= 30 + 10


@pytest.mark.usefixtures("pages_of_100")
@pytest.mark.parametrize("killed_after", [1, 2, 5, 9, 17])
def test_a_reading_that_stops_leaves_nothing_behind_and_goes_on_where_it_was(killed_after: int) -> None:
    async def work() -> None:
        datadog = Datadog(spread(2000))
        kept: list[Page] = []
        pages = source_over(datadog).pages(WINDOW)
        async for page in pages:
            kept.append(page)
            if len(kept) == killed_after:
                break
        await pages.aclose()
        assert len(asyncio.all_tasks()) == 1
        assert datadog.under_way == 0
        rest = [page async for page in source_over(datadog).pages(WINDOW, kept[-1].checkpoint)]
        assert set(ids(kept + rest)) == set(range(2000))
        assert len(ids(kept + rest)) < 2100
        assert rest[-1].checkpoint.done

    timed(work())


@pytest.mark.usefixtures("pages_of_100")
def test_a_reading_that_is_cancelled_ends_at_once() -> None:
    async def work() -> None:
        datadog = Datadog(spread(2000))

        async def read() -> None:
            async for _ in source_over(datadog).pages(WINDOW):
                pass

        task = asyncio.ensure_future(read())
        await asyncio.sleep(4.5 * LATENCY_S)
        assert datadog.under_way > 1
        task.cancel()
        await asyncio.wait([task])
        assert (task.cancelled(), datadog.under_way, len(asyncio.all_tasks())) == (True, 0, 1)

    assert timed(work())[1] < 5 * LATENCY_S


@pytest.mark.usefixtures("pages_of_100")
def test_what_goes_wrong_ahead_is_told_when_its_turn_comes() -> None:
    def broken(number: int, asked: dict[str, Any]) -> httpx.Response | None:
        is_late = int(asked["filter"]["from"]) > WINDOW.from_ms + WINDOW.duration_ms // 2
        return httpx.Response(503, stream=httpx.ByteStream(b"")) if is_late else None

    async def work() -> None:
        kept: list[Page] = []

        async def read() -> None:
            async for page in source_over(Datadog(spread(2000), fault=broken)).pages(WINDOW):
                kept.append(page)

        with pytest.raises(SourceUnavailableError):
            await read()
        assert ids(kept)[-1] >= 999
        assert sorted(set(ids(kept))) == list(range(ids(kept)[-1] + 1))

    timed(work())


FAULTS: dict[str, Callable[[], httpx.Response]] = {
    "down": lambda: httpx.Response(503, stream=httpx.ByteStream(b"")),
    "nonsense": lambda: httpx.Response(200, stream=httpx.ByteStream(b"<html>")),
    "refused": lambda: httpx.Response(429, headers={"x-ratelimit-reset": "1"}, stream=httpx.ByteStream(b"")),
}


@settings(max_examples=20, deadline=None)
@given(
    count=st.integers(0, 500),
    crowd=st.integers(0, 60),
    limit=st.integers(5, 60),
    seed=st.integers(0, 1000),
    faults=st.dictionaries(st.integers(2, 40), st.sampled_from(sorted(FAULTS)), max_size=6),
    killed_after=st.integers(1, 30),
)
def test_whatever_comes_when_every_span_is_read_and_any_checkpoint_goes_on(
    count: int, crowd: int, limit: int, seed: int, faults: dict[int, str], killed_after: int
) -> None:
    rng = random.Random(seed)
    busy_ms = rng.randrange(1000, WINDOW.duration_ms)
    everything = [*(int(rng.triangular(0, busy_ms)) for _ in range(count)), *[WINDOW.duration_ms // 3] * crowd]

    def fault(number: int, asked: dict[str, Any]) -> httpx.Response | None:
        return FAULTS[faults[number]]() if number in faults else None

    async def work() -> None:
        datadog = Datadog(everything, latency=lambda: rng.uniform(0, 1), fault=fault)
        kept: list[Page] = []
        pages = source_over(datadog).pages(WINDOW)
        async for page in pages:
            kept.append(page)
            if len(kept) == killed_after:
                break
        await pages.aclose()
        rest = [page async for page in source_over(datadog).pages(WINDOW, kept[-1].checkpoint)]
        assert set(ids(kept + rest)) == set(range(len(everything)))
        firsts = [page.spans[0].start_ns for page in kept if page.spans]
        assert firsts == sorted(firsts)

    with pytest.MonkeyPatch.context() as patch:
        limit_at(patch, limit)
        timed(work())


@given(st.lists(st.tuples(st.booleans(), st.integers(1, AHEAD_BYTES)), max_size=60))
def test_what_is_expected_ahead_stays_within_its_bound(turns: list[tuple[bool, int]]) -> None:
    allowance, held = Allowance(), Counter[int]()
    for wants_one, size in turns:
        if wants_one:
            held[size] += allowance.take(size)
        elif held.total():
            gone = next(held.elements())
            held[gone] -= 1
            allowance.give_back(gone)
        assert held.total() == allowance.count <= MAX_AHEAD
        assert sum(held.elements()) == allowance.expected_bytes <= AHEAD_BYTES
