"""`evalforge backfill` as a process against a local Datadog: killed, run again, out of quota, stopped, on both stores."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.ports import Checkpoint, Selection, Store
from evalforge.core.slices import SLOT_TIERS
from evalforge.core.window import Window, epoch_ms, iso_ms
from evalforge.runs import BACKFILL_LEASE_NAME
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.stores.firestore import FirestoreStore
from evalforge.stores.sqlite import SqliteStore
from tests.integration.commands import PATIENCE_S, PLAIN, evalforge, on_a_terminal
from tests.integration.test_cli_commands import SALT

HOUR_MS = 3_600_000
HOURS = 6
COUNT = 360
END_MS = (epoch_ms(datetime.now(UTC)) // HOUR_MS - 1) * HOUR_MS
WINDOW = Window(END_MS - HOURS * HOUR_MS, END_MS)
BOUNDS = ("--from", iso_ms(WINDOW.from_ms), "--to", iso_ms(WINDOW.to_ms))


def spans() -> list[dict[str, Any]]:
    """One failing trace a minute, none on the edge of a slice, which the local Datadog counts to both."""
    return [
        {
            "trace_id": f"{number + 1:032x}",
            "span_id": str(number + 1),
            "parent_id": "undefined",
            "name": "n",
            "span_kind": "llm",
            "ml_app": "app",
            "status": "error",
            "start_ns": (WINDOW.from_ms + 1000 + number * 60_000) * 1_000_000,
            "duration": 5,
        }
        for number in range(COUNT)
    ]


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(max_response_bytes=4_000)) as server:
        server.sandbox.store.add_llm_obs(spans())
        yield server


@pytest.fixture
def environment(sandbox: BackgroundServer, tmp_path: Path) -> dict[str, str]:
    return PLAIN | {
        "DATADOG_API_URL": sandbox.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "DATADOG_SOURCES": "llm_obs",
        "DATADOG_FILTER": "scan",
        "PII_SALT": SALT,
        "CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}",
        "RETRY_BUDGET_S": "0",
    }


def asked(server: BackgroundServer) -> list[tuple[Window, str | None]]:
    """The window and the cursor of each request since the last look."""
    found = []
    for one in server.sandbox.requests:
        attributes = one.body["data"]["attributes"]
        window = Window(int(attributes["filter"]["from"]), int(attributes["filter"]["to"]))
        found.append((window, attributes["page"].get("cursor")))
    server.sandbox.requests.clear()
    return found


@contextmanager
def backfill_process(environment: dict[str, str], *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "evalforge", "backfill", *BOUNDS, "--json", *options],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_hits(fault: Fault, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while fault.hits < count:
        assert time.monotonic() < deadline
        time.sleep(0.005)


async def killed_in_the_middle(server: BackgroundServer, environment: dict[str, str], store: Store) -> None:
    """Kills it while both workers wait for an answer: each slice takes four requests, so one of them is inside a slice.

    Answers are asked for ahead: what had come by then is stored before it is killed.
    """
    fault = Fault("slow", latency_s=PATIENCE_S, times=None, after=18)
    server.sandbox.trouble.faults = [fault]
    with backfill_process(environment, "--workers", "2") as process:
        await asyncio.to_thread(wait_for_hits, fault, 2)
        deadline = time.monotonic() + PATIENCE_S
        while not [slot for slot in await slots(store) if slot.cursor is not None]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        process.kill()
        await asyncio.to_thread(process.communicate, timeout=PATIENCE_S)
    server.sandbox.trouble.faults = []
    server.sandbox.requests.clear()


async def slots(store: Store) -> list[Checkpoint]:
    """The places of the slices that stand half-read."""
    return [slot for slot in (await store.load_checkpoints("llm_obs", SLOT_TIERS)).values() if not slot.done]


async def places(store: Store) -> tuple[Sequence[Window], list[Window]]:
    """What the store says was read, and the slices that stand half-read."""
    coverage = await store.load_coverage("llm_obs")
    return coverage.windows if coverage else (), [slot.window for slot in await slots(store)]


async def trace_ids(store: Store) -> list[str]:
    return sorted([stored.capture.trace_id async for stored in store.select(Selection(), now=datetime.now(UTC))])


def assert_it_went_on(
    read: Sequence[Window], begun: list[Window], requests: list[tuple[Window, str | None]], report: dict[str, Any]
) -> None:
    assert read, "it was killed before a slice was read"
    assert begun, "it was killed between two slices"
    assert not [w for w, _ in requests for one in read if w.from_ms < one.to_ms and one.from_ms < w.to_ms]
    for window in begun:
        assert next(cursor for asked_for, cursor in requests if asked_for == window) is not None, "inside the slice"
    assert report["complete"] is True
    (told,) = report["backfill"]["sources"]
    assert (told["slices"], told["done"], told["left"]) == (HOURS, HOURS, [])
    assert told["known"] == sum(window.duration_ms for window in read) // HOUR_MS
    unread = sum(one.duration_ms for one in WINDOW.without(read[0])) if len(read) == 1 else WINDOW.duration_ms
    assert report["items"]["fetched"] < unread // 60_000, "less than what was not covered: slices were begun"


async def test_killed_in_the_middle_it_goes_on(sandbox: BackgroundServer, environment: dict[str, str]) -> None:
    store = SqliteStore(environment["CAPTURE_STORE"].removeprefix("sqlite:///"), prefix="evalforge_")
    await killed_in_the_middle(sandbox, environment, store)
    read, begun = await places(store)
    held = await store.held_lease(BACKFILL_LEASE_NAME)
    assert held is not None
    await store.release_lease(held)  # as if its minute were over
    done = await asyncio.to_thread(evalforge, environment, "backfill", *BOUNDS, "--json", "--workers", "1")
    assert_it_went_on(read, begun, asked(sandbox), json.loads(done.stdout))
    events = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert events.count("slice.read") == HOURS - sum(window.duration_ms for window in read) // HOUR_MS
    assert await trace_ids(store) == [f"{number + 1:032x}" for number in range(COUNT)]
    assert await places(store) == ((), [])
    states = [record.state for record in await store.recent_runs(limit=5, now=datetime.now(UTC))]
    assert states == ["complete", "running"], "the one that was killed never said how it ended"
    await store.close()


@pytest.mark.long
async def test_on_the_emulator_too_and_a_dead_ones_lease_is_outlived(
    sandbox: BackgroundServer, environment: dict[str, str], firestore_emulator: str
) -> None:
    prefix = f"backfill{time.time_ns()}_"
    environment |= {
        "CAPTURE_STORE": "firestore",
        "FIRESTORE_EMULATOR_HOST": firestore_emulator,
        "FIRESTORE_COLLECTION_PREFIX": prefix,
    }
    store = FirestoreStore("evalforge-local", "(default)", prefix=prefix, emulator_host=firestore_emulator)
    await killed_in_the_middle(sandbox, environment, store)
    read, begun = await places(store)
    with backfill_process(environment) as process:
        out, err = await asyncio.to_thread(process.communicate, timeout=100)
    assert process.returncode == 0, err
    assert "lease.awaited" in err
    assert_it_went_on(read, begun, asked(sandbox), json.loads(out))
    assert await trace_ids(store) == [f"{number + 1:032x}" for number in range(COUNT)]
    assert await places(store) == ((), [])
    await store.close()


@pytest.mark.long
def test_sigterm_stops_at_the_page_and_the_report_says_how_to_go_on(
    sandbox: BackgroundServer, environment: dict[str, str]
) -> None:
    fault = Fault("slow", latency_s=1.0, times=None, after=9)
    sandbox.sandbox.trouble.faults = [fault]
    with backfill_process(environment) as process:
        wait_for_hits(fault, 1)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert [reason["code"] for reason in report["incomplete_because"]] == ["stopped"]
    sandbox.sandbox.trouble.faults = []
    again = report["backfill"]["again"].split()[1:]
    second = json.loads(evalforge(environment, *again, "--json").stdout)
    assert second["complete"] is True
    assert report["captures"]["created"] + second["captures"]["created"] == COUNT
    assert report["items"]["fetched"] + second["items"]["fetched"] == COUNT, "nothing is read twice"


@pytest.mark.long
def test_on_a_terminal_it_shows_how_far_it_is_and_waits_for_the_quota(
    sandbox: BackgroundServer, environment: dict[str, str]
) -> None:
    sandbox.sandbox.trouble.faults = [Fault("rate_limited", after=9, reset_s=1)]
    code, shown = on_a_terminal(environment, "backfill", *BOUNDS)
    assert code == 0
    for words in ("6 slices", "360 spans", "360 created", "/s", "llm_obs quota", "for its quota", "quota.awaited"):
        assert words in shown, words
    assert "slice.read" not in shown
    assert [one.status for one in sandbox.sandbox.requests].count(429) == 1
