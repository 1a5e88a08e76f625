"""Health: cached, shared by callers that come together, honest about each part; and the probes behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from evalforge import __version__
from evalforge.config import Settings
from evalforge.config.values import Secret
from evalforge.errors import SettingsError, StoreUnavailableError
from evalforge.probes import Probe, ProbeResult, probe
from evalforge.sandbox.server import BackgroundServer
from evalforge.service.health import CACHE_S, Health, health_document, probe_parts
from evalforge.service.quotas import Quotas


class Asked:
    """Counts how often the parts were asked; `gate` holds the answers back until it is set."""

    def __init__(self, *results: ProbeResult) -> None:
        self.count = 0
        self.results = list(results) or [ProbeResult("store", True, "answers")]
        self.gate = threading.Event()
        self.gate.set()

    async def __call__(self, settings: Settings) -> list[ProbeResult]:
        self.count += 1
        await asyncio.to_thread(self.gate.wait)
        return self.results


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


async def test_an_answer_stands_for_15_seconds() -> None:
    asked, clock = Asked(), Clock()
    health = Health(Settings(), now=clock, ask=asked)
    assert (await health.document())["status"] == "ok"
    clock.now_s += CACHE_S - 0.1
    await health.document()
    assert asked.count == 1
    clock.now_s += 0.2
    await health.document()
    assert asked.count == 2


async def test_callers_that_come_together_share_one_answer() -> None:
    asked, clock = Asked(), Clock()
    asked.gate.clear()
    health = Health(Settings(), now=clock, ask=asked)
    callers = [asyncio.create_task(health.document()) for _ in range(50)]
    await asyncio.sleep(0.05)
    clock.now_s += 10 * CACHE_S  # a slow answer is not asked for twice
    callers.append(asyncio.create_task(health.document()))
    await asyncio.sleep(0)  # it has come before the answer has
    callers[0].cancel()
    asked.gate.set()
    documents = await asyncio.gather(*callers, return_exceptions=True)
    assert asked.count == 1
    assert isinstance(documents[0], asyncio.CancelledError)
    assert all(isinstance(document, dict) and document["status"] == "ok" for document in documents[1:])


TOLD: dict[str, float | str] = {
    "limit": 300.0,
    "remaining": 7.0,
    "period_s": 3600.0,
    "reset_s": 12.0,
    "name": "spans_public_search_api",
    "told_at": "2026-11-23T12:00:00Z",
    "resets_at": "2026-11-23T12:00:12Z",
}
SHOWN = {name: TOLD[name] for name in ("limit", "remaining", "period_s", "told_at", "resets_at")}


async def test_the_quota_left_is_told_as_last_heard_and_not_cached() -> None:
    quotas, asked = Quotas(), Asked()
    health = Health(Settings(), quotas=quotas, ask=asked)
    assert (await health.document())["quota"] == {}, "no run of this process has heard of one"
    quotas.hear("apm", TOLD)
    assert (await health.document())["quota"] == {"apm": SHOWN}
    quotas.hear("apm", {})
    quotas.hear("llm_obs", {"remaining": 1.0})
    assert (await health.document())["quota"] == {"apm": SHOWN, "llm_obs": {"remaining": 1.0}}
    assert asked.count == 1


async def test_wrong_settings_are_an_answer_with_no_quota() -> None:
    document = await Health(SettingsError(["PORT: got 'x'; wants a port"])).document()
    assert (document["quota"], document["version"]) == ({}, __version__)


async def test_the_quota_of_the_key_check_is_heard_where_there_is_one() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\nx-ratelimit-limit: 9\r\nx-ratelimit-remaining: 8\r\n"
        b'x-ratelimit-period: 60\r\nx-ratelimit-reset: 5\r\n\r\n{"status":"ok"}'
    )

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        told = await heard_from(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert set(told) == {"key_check"}
    assert (told["key_check"]["limit"], told["key_check"]["remaining"]) == (9, 8)
    assert told["key_check"]["resets_at"] > told["key_check"]["told_at"]
    with BackgroundServer() as silent:
        assert await heard_from(silent.url) == {}, "it tells of none"


async def heard_from(url: str) -> dict[str, dict[str, Any]]:
    settings = Settings(
        datadog_api_url=url,
        datadog_api_key=Secret("key"),
        datadog_app_key=Secret("app"),
        capture_store="sqlite:///:memory:",
    )
    health = Health(settings)
    document = await health.document()
    assert document["parts"]["datadog"] == "ok", document
    quota: dict[str, dict[str, Any]] = document["quota"]
    return quota


async def test_wrong_settings_are_an_answer() -> None:
    asked = Asked()
    document = await Health(SettingsError(["PORT: got 'x'; wants a port"]), ask=asked).document()
    assert (document["status"], document["part"], document["code"]) == ("error", "settings", "bad_settings")
    assert "PORT" in document["detail"]
    assert asked.count == 0


def test_the_first_part_that_is_ill_is_named_and_all_are_listed() -> None:
    document = health_document(
        [
            ProbeResult("settings", True, "valid"),
            ProbeResult("datadog", False, "refused", "source_refused"),
            ProbeResult("store", False, "silent", "timeout", "a hint"),
        ]
    )
    assert (document["status"], document["part"], document["code"], document["detail"]) == (
        "error",
        "datadog",
        "source_refused",
        "refused",
    )
    assert document["parts"] == {"settings": "ok", "datadog": "error", "store": "error"}
    assert [error["part"] for error in document["errors"]] == ["datadog", "store"]
    assert document["hints"] == ["a hint"]


async def test_without_keys_nobody_is_asked() -> None:
    results = await probe_parts(Settings(capture_store="sqlite:///:memory:"))
    codes = {result.part: result.code for result in results}
    assert (codes["keys"], codes["datadog"]) == ("bad_settings", "not_asked")
    assert next(result.hint for result in results if result.part == "salt")


async def _well() -> str:
    return "well"


async def _silent() -> str:
    await asyncio.Event().wait()
    return "never"


async def _down() -> str:
    raise StoreUnavailableError("the store did not answer")


async def _odd() -> str:
    raise ValueError("words that nobody may read")


@pytest.mark.parametrize(
    ("ask", "ok", "code", "exit_code"),
    [
        (_well, True, None, 0),
        (_silent, False, "timeout", 1),
        (_down, False, "store_unavailable", 8),
        (_odd, False, "unexpected", 1),
    ],
)
async def test_a_probe_answers_whatever_happens(
    ask: Callable[[], Coroutine[Any, Any, str]], ok: bool, code: str | None, exit_code: int
) -> None:
    result = await probe(Probe("part", ask, "hint"), timeout_s=0.05)
    assert (result.ok, result.code, result.exit_code, result.hint) == (ok, code, exit_code, "hint")
    assert "words" not in result.message
