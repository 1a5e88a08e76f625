"""Health: cached, shared by callers that come together, honest about each part; and the probes behind it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from evalforge.config import Settings
from evalforge.errors import SettingsError, StoreUnavailableError
from evalforge.probes import Probe, ProbeResult, probe
from evalforge.service.health import CACHE_S, Health, health_document, probe_parts


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
    callers[0].cancel()
    asked.gate.set()
    documents = await asyncio.gather(*callers, return_exceptions=True)
    assert asked.count == 1
    assert isinstance(documents[0], asyncio.CancelledError)
    assert all(isinstance(document, dict) and document["status"] == "ok" for document in documents[1:])


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
