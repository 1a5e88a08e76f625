"""SIGTERM while a run of the service is going on: with a Datadog that is slow, and with one that hangs."""

from __future__ import annotations

import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import LOOKBACK
from evalforge.runs import LEASE_NAME
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.trouble import Fault
from tests.integration.test_datadog_enrichment import failing
from tests.integration.test_service_process import Service, environment_for, until

SPANS, PAGE = 1_500, 1_000


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer() as server:
        server.sandbox.store.add_llm_obs(failing(number) for number in range(SPANS))
        yield server


def settings_for(sandbox: BackgroundServer, folder: Path, **others: str) -> dict[str, str]:
    return environment_for(sandbox, folder) | {"DATADOG_FILTER": "scan", "DATADOG_SOURCES": "llm_obs"} | others


class Caller(threading.Thread):
    """Asks for a run and waits for its answer; None when the connection was closed without one."""

    def __init__(self, service: Service) -> None:
        super().__init__(daemon=True)
        self._service = service
        self.answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        try:
            self.answer = self._service.run_once()
        except httpx.HTTPError:
            self.answer = None


def test_a_stop_during_a_page_stores_it_and_the_next_run_goes_on(sandbox: BackgroundServer, tmp_path: Path) -> None:
    slow = Fault("slow", latency_s=1.0)
    sandbox.sandbox.trouble.faults = [slow]
    # A page takes a second or two; on a machine that does much else it may take longer than the usual grace.
    environment = settings_for(sandbox, tmp_path, STOP_GRACE_S="60")
    with Service(tmp_path / "first.log", environment) as service:
        caller = Caller(service)
        until(lambda: slow.hits, "the first request of the run")
        service.process.send_signal(signal.SIGTERM)
        caller.join()
        assert service.stop() == 0
    assert caller.answer is not None
    stopped = caller.answer.json()
    assert stopped["complete"] is False
    assert [one["code"] for one in stopped["incomplete_because"]] == ["stopped"]
    assert stopped["items"]["fetched"] == stopped["captures"]["created"] == PAGE
    with Service(tmp_path / "second.log", environment) as service:
        report = service.run_once().json()
    assert report["complete"] is True
    assert report["captures"]["created"] == SPANS - PAGE
    assert report["captures"]["unchanged"] <= 1, "what was stored is not fetched again"


@pytest.mark.long
async def test_a_datadog_that_hangs_does_not_keep_the_process(sandbox: BackgroundServer, tmp_path: Path) -> None:
    hanging = Fault("slow", latency_s=600.0, after=1)
    sandbox.sandbox.trouble.faults = [hanging]
    environment = settings_for(sandbox, tmp_path, STOP_GRACE_S="4")
    with Service(tmp_path / "first.log", environment) as service:
        caller = Caller(service)
        until(lambda: hanging.hits, "the second request of the run")
        assert service.stop() == 0, "the wait for it is bounded"
        caller.join()
    assert caller.answer is not None
    report = caller.answer.json()
    assert [one["code"] for one in report["incomplete_because"]] == ["stopped"]
    assert report["items"]["fetched"] == PAGE
    async with bootstrap.opened_store(Settings.from_environment(environment)) as store:
        place = (await store.load_checkpoints("llm_obs", [LOOKBACK]))[LOOKBACK]
        assert await store.count(now=bootstrap.utc_now()) == PAGE
        lease = await store.held_lease(LEASE_NAME)
    assert lease is not None
    assert not lease.token, "the next run need not wait for its end"
    assert not place.done
    assert place.last_ms == failing(PAGE - 1)["start_ns"] // 1_000_000, "the place is the end of the page before"


@pytest.mark.long
def test_a_locked_file_does_not_keep_the_process(sandbox: BackgroundServer, tmp_path: Path) -> None:
    slow = Fault("slow", latency_s=1.0)
    sandbox.sandbox.trouble.faults = [slow]
    with Service(tmp_path / "first.log", settings_for(sandbox, tmp_path, STOP_GRACE_S="2")) as service:
        Caller(service)
        until(lambda: slow.hits, "the first request of the run")
        with sqlite3.connect(tmp_path / "captures.sqlite3", isolation_level=None) as locking:
            locking.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            assert service.stop() == 0
            assert time.monotonic() - began < 20, "a call to the store waits for a lock for 30 seconds"
            locking.execute("ROLLBACK")
