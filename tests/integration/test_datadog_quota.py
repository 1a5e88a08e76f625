"""Quotas and the client: in virtual time with many tasks at once, and against the real sandbox with small quotas."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from evalforge.core.ports import SourceStatus
from evalforge.datadog_http.pacing import ROUNDING_S
from evalforge.errors import QuotaExhaustedError
from evalforge.sandbox.limits import RateLimit
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sources.datadog.client import DatadogClient, SearchRequest
from tests import virtual_time
from tests.examples import one_in
from tests.integration.commands import PLAIN, ran_text
from tests.quota import ROUNDINGS, Quota, headers_of

SEARCH = SearchRequest("llm_obs", "", "1700000000000", "1700000600000", limit=1)


def page(headers: dict[str, str], status: int = 200) -> httpx.Response:
    return httpx.Response(status, headers=headers, stream=httpx.ByteStream(orjson.dumps({"data": [{}]})))


class Transport(httpx.AsyncBaseTransport):
    """Answers after `latency` seconds there and back, with whatever `answer` gives in the middle."""

    def __init__(self, answer: Callable[[], httpx.Response], latency: Callable[[], float] = lambda: 0.02) -> None:
        self._answer = answer
        self._latency = latency
        self.count = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        seconds = self._latency()
        await asyncio.sleep(seconds / 2)
        response = self._answer()
        await asyncio.sleep(seconds / 2)
        return response


class Waits:
    """Sleeps, and remembers how long."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked_s.append(seconds)
        await asyncio.sleep(seconds)


def client_over(
    transport: Transport, waits: Waits | None = None, retry_budget_s: float = 60.0, **ports: Any
) -> DatadogClient:
    clock = asyncio.get_running_loop().time
    return DatadogClient(
        "https://api.datadoghq.com",
        "key",
        "app",
        retry_budget_s=retry_budget_s,
        transport=transport,
        sleep=waits or Waits(),
        clock=clock,
        **ports,
    )


def answers_of(quota: Quota) -> Callable[[], httpx.Response]:
    def answer() -> httpx.Response:
        allowed, told = quota.take(asyncio.get_running_loop().time())
        return page(headers_of(told), 200 if allowed else 429)

    return answer


# -- many tasks over one client -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize(
    ("limit", "period_s", "phase_s", "workers"),
    one_in(3, [(20, 4.0, 1.3, 4), (30, 10.0, 9.9, 8), (60, 60.0, 0.0, 1), (7, 10.0, 5.0, 3)]),
)
def test_many_tasks_use_a_quota_up_without_a_refusal(
    rounding: str, limit: int, period_s: float, phase_s: float, workers: int
) -> None:
    quota = Quota(limit, period_s, phase_s, ROUNDINGS[rounding])
    rng = random.Random(limit)
    waits = Waits()
    status = SourceStatus("llm_obs")

    async def work() -> None:
        transport = Transport(answers_of(quota), lambda: rng.uniform(0.01, 0.1))
        async with client_over(transport, waits) as client:

            async def one() -> None:
                while True:
                    await client.search(SEARCH, status)

            async with asyncio.TaskGroup() as tasks:
                started = [tasks.create_task(one()) for _ in range(workers)]
                await asyncio.sleep(period_s * 6)
                for task in started:
                    task.cancel()

    virtual_time.run(work())
    assert quota.refused == 0
    assert status.retry_count == 0
    assert all(wait_s <= 60 for wait_s in waits.asked_s)
    used = [quota.used[period] for period in quota.whole_periods(period_s * 6)]
    assert len(used) >= 5
    assert min(used) >= 0.95 * limit, used


def test_somebody_else_takes_the_rest_and_the_refusal_is_waited_out() -> None:
    quota = Quota(10, 20.0)
    status, waits = SourceStatus("llm_obs"), Waits()

    async def work() -> None:
        async with client_over(Transport(answers_of(quota)), waits) as client:
            await client.search(SEARCH, status)
            while quota.take(asyncio.get_running_loop().time())[0]:
                pass
            await asyncio.gather(*(client.search(SEARCH, status) for _ in range(4)))

    virtual_time.run(work())
    assert 1 <= status.retry_count <= 4, "whoever was under way meets it, the others wait"
    assert all(wait_s <= 20 + ROUNDING_S + 0.5 for wait_s in waits.asked_s)


def test_what_is_out_for_long_is_told_before_anything_is_sent() -> None:
    quota = Quota(5, 3600.0, phase_s=600.0)
    transport = Transport(answers_of(quota))
    status, waits = SourceStatus("llm_obs"), Waits()

    async def work() -> QuotaExhaustedError:
        async with client_over(transport, waits) as client:
            for _ in range(5):
                await client.search(SEARCH, status)
            with pytest.raises(QuotaExhaustedError) as raised:
                await client.search(SEARCH, status)
            return raised.value

    error = virtual_time.run(work())
    assert (transport.count, status.request_count, quota.refused, waits.asked_s) == (5, 5, 0, [])
    assert error.retry_after_s == pytest.approx(3000 + ROUNDING_S, abs=1)
    assert "resets in 3001 s" in error.message


WRONG: dict[str, dict[str, str]] = {
    "none": {},
    "a moment for the seconds": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1764000000"},
    "milliseconds": {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1764000000000", "x-ratelimit-period": "60"},
    "negative": {"x-ratelimit-limit": "-5", "x-ratelimit-remaining": "-1", "x-ratelimit-reset": "-1"},
    "nothing at all": {"x-ratelimit-limit": "0", "x-ratelimit-remaining": "0", "x-ratelimit-period": "0"},
    "no numbers": {"x-ratelimit-limit": "many", "x-ratelimit-remaining": "nan", "x-ratelimit-reset": "soon"},
    "more left than there is": {"x-ratelimit-limit": "1", "x-ratelimit-remaining": "1e300", "x-ratelimit-reset": "1"},
    "a reset after the period": {
        "x-ratelimit-remaining": "9",
        "x-ratelimit-limit": "10",
        "x-ratelimit-period": "1",
        "x-ratelimit-reset": "3000",
    },
    "a name that is none": {"x-ratelimit-name": "\x1b[2J" * 99, "x-ratelimit-remaining": "5"},
}


@pytest.mark.parametrize("status_code", [200, 429])
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_headers_neither_stop_nor_hang_it(wrong: str, status_code: int) -> None:
    headers = {name: value.encode("ascii", "replace").decode() for name, value in WRONG[wrong].items()}
    status, waits = SourceStatus("llm_obs"), Waits()
    ends: list[QuotaExhaustedError] = []

    async def work() -> float:
        async with client_over(Transport(lambda: page(headers, status_code)), waits) as client:
            for _ in range(20):
                try:
                    assert await client.search(SEARCH, status) is not None
                except QuotaExhaustedError as error:
                    ends.append(error)
        return asyncio.get_running_loop().time()

    took_s = virtual_time.run(work())
    assert all(wait_s <= 60 for wait_s in waits.asked_s)
    assert all((error.retry_after_s or 0) <= 86_400 + ROUNDING_S for error in ends)
    if status_code == 429:
        assert len(ends) == 20
        assert took_s <= 20 * 121
    else:
        # Only where both the end of the period and that nothing is left can be believed, that is done.
        assert len(ends) == (19 if wrong == "milliseconds" else 0)
        assert took_s <= 20


# -- the real sandbox -----------------------------------------------------------------------------------------------------


@contextmanager
def sandbox_process(*options: str) -> Iterator[str]:
    """`evalforge sandbox` as a process of its own; gives its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "evalforge", "sandbox", "--port", "0", "--empty", *options],
        env=PLAIN,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.communicate(timeout=30)


def load(url: str, llm_obs: list[dict[str, Any]]) -> None:
    httpx.post(f"{url}/sandbox/spans", json={"llm_obs": llm_obs}).raise_for_status()


def requests_of(url: str) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = httpx.get(f"{url}/sandbox/requests").json()["requests"]
    return log


def spans(count: int, at_ms: int) -> list[dict[str, Any]]:
    return [
        {
            "trace_id": f"{number + 1:032x}",
            "span_id": str(number + 1),
            "parent_id": "undefined",
            "name": "n",
            "span_kind": "llm",
            "ml_app": "app",
            "status": "error",
            "start_ns": (at_ms + number) * 1_000_000,
            "duration": 5,
        }
        for number in range(count)
    ]


async def test_all_pages_of_a_real_sandbox_with_a_small_quota() -> None:
    pages, now_ms = 26, int(datetime.now(UTC).timestamp() * 1000)
    status = SourceStatus("llm_obs")
    with sandbox_process("--rate-limit", "llm_obs=20/4") as url:
        load(url, spans(pages, now_ms - 60_000))
        async with DatadogClient(url, "key", "app", retry_budget_s=10) as client:
            cursor, seen = None, []
            while True:
                request = SearchRequest("llm_obs", "", str(now_ms - 120_000), str(now_ms), limit=1, cursor=cursor)
                answer = await client.search(request, status)
                assert answer is not None
                seen += [item["attributes"]["span_id"] for item in answer.items]
                cursor = answer.cursor
                if cursor is None:
                    break
        log = requests_of(url)
    assert seen == [str(number + 1) for number in range(pages)]
    assert {one["status"] for one in log} == {200}, "no 429 was met"
    assert (status.retry_count, status.request_count) == (0, len(log))
    assert len(log) > 20, "more than one period's quota"
    assert status.rate_limit["limit"] == 20
    resets_at = datetime.fromisoformat(str(status.rate_limit["resets_at"]))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(status.rate_limit["told_at"]))
    assert abs((resets_at - datetime.now(UTC)).total_seconds()) < 60


def ingest(environment: dict[str, str], code: int) -> subprocess.CompletedProcess[str]:
    done = ran_text("ingest", "--json", environment=environment)
    assert done.returncode == code, done.stderr
    return done


def test_a_quota_smaller_than_the_window_ends_politely_and_a_later_run_goes_on(tmp_path: Path) -> None:
    now_s = datetime.now(UTC).timestamp()
    count, at_ms = 400, int(now_s * 1000) - 3_600_000
    noon = Sandbox(
        limits={"llm_obs": RateLimit(3, 86_400)}, max_response_bytes=20_000, now=lambda: now_s // 86_400 * 86_400 + 43_200
    )
    with BackgroundServer(noon) as server:
        server.sandbox.store.add_llm_obs(spans(count, at_ms))
        environment = PLAIN | {
            "DATADOG_API_URL": server.url,
            "DATADOG_API_KEY": "key",
            "DATADOG_APP_KEY": "app",
            "DATADOG_SOURCES": "llm_obs",
            "DATADOG_FILTER": "scan",
            "CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}",
        }
        first = ingest(environment, 7)
        report = json.loads(first.stdout)
        assert report["error"]["code"] == "quota_exhausted"
        assert 43_200 - 60 < report["error"]["retry_after_s"] <= 43_201
        assert "resets in" in first.stderr.splitlines()[-1]
        (source,) = report["sources"]
        assert (source["request_count"], source["rate_limit"]["remaining"], source["retry_count"]) == (3, 0, 0)
        assert source["rate_limit"]["resets_at"] > source["rate_limit"]["told_at"]
        assert 0 < report["captures"]["created"] < count
        assert [one.status for one in server.sandbox.requests] == [200] * 3, "nothing was sent that would be refused"
        server.sandbox.set_limits({"llm_obs": RateLimit(1000, 60)})
        server.sandbox.requests.clear()
        second = json.loads(ingest(environment, 0).stdout)
        assert second["complete"] is True
        assert report["captures"]["created"] + second["captures"]["created"] == count
        assert second["captures"]["unchanged"] == 0, "nothing that was stored is read again"
        # The spans before the place are asked for once, for what they tell about those after it; they are not judged again.
        assert server.sandbox.requests.popleft().body["data"]["attributes"]["sort"] == "-timestamp"
        cursors = [one.body["data"]["attributes"]["page"].get("cursor") for one in server.sandbox.requests]
        assert cursors[0] is not None


@pytest.mark.long
async def test_a_real_sandbox_finds_its_whole_quota_used() -> None:
    period_s, limit, began = 6, 20, asyncio.get_running_loop().time()
    request = SearchRequest("llm_obs", "", "1700000000000", "1700000600000", limit=1)
    with sandbox_process("--rate-limit", f"llm_obs={limit}/{period_s}") as url:
        async with DatadogClient(url, "key", "app", retry_budget_s=10) as client:

            async def one() -> None:
                while asyncio.get_running_loop().time() < began + 5 * period_s:
                    await client.search(request, SourceStatus("llm_obs"))

            await asyncio.gather(*(one() for _ in range(4)))
        log = requests_of(url)
    assert {one["status"] for one in log} == {200}
    periods = [int(one["at"] // period_s) for one in log]
    whole = range(periods[0] + 1, periods[-1])
    assert len(whole) >= 3
    assert min(periods.count(period) for period in whole) >= 0.95 * limit
