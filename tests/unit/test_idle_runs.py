"""Three runs that fetched nothing are told, in `/health` too; what is no run of the schedule does not count."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import RunRecord
from evalforge.errors import StoreUnavailableError
from evalforge.runs import fetches_nothing
from evalforge.service.health import Health
from evalforge.stores.sqlite import SqliteStore

EMPTY, FULL = ("complete", "window", 0), ("complete", "window", 5)
STOPPED = ("incomplete", "window", 0)
BACKFILL, FAILED = ("complete", "backfill", 5), ("failed", "window", 0)


def records(*runs: Any) -> list[RunRecord]:
    """The latest first."""
    now, made = datetime.now(UTC), []
    for number, (state, plan, fetched) in enumerate(runs):
        began = now - timedelta(hours=number + 1)
        report: dict[str, Any] = {"items": {"fetched": fetched}}
        if state == "incomplete":
            report["incomplete_because"] = [{"code": "stopped", "meaning": "it was asked to"}]
        made.append(RunRecord(f"run{number}", state, plan, "h", "a", began, now + timedelta(days=9), began, report))
    return made


@pytest.mark.parametrize(
    ("runs", "told"),
    [
        ([EMPTY] * 3, True),
        ([EMPTY] * 2, False),
        ([EMPTY, EMPTY, FULL, EMPTY], False),
        ([EMPTY, BACKFILL, EMPTY, FAILED, EMPTY, FULL], True),
        ([FULL, EMPTY, EMPTY, EMPTY], False),
        ([EMPTY, STOPPED, EMPTY], False),
        ([], False),
    ],
)
async def test_three_runs_that_fetched_nothing(runs: list[Any], told: bool) -> None:
    store = SqliteStore(":memory:", prefix="evalforge_")
    for record in records(*runs):
        await store.save_run(record)
    assert await fetches_nothing(store, datetime.now(UTC)) is told
    await store.close()


async def test_health_warns(tmp_path: Path) -> None:
    settings = Settings.from_environment(
        {
            "DATADOG_API_KEY": "k",
            "DATADOG_APP_KEY": "k",
            "DATADOG_API_URL": "http://127.0.0.1:9",
            "RETRY_BUDGET_S": "0",
            "CAPTURE_STORE": f"sqlite:///{tmp_path / 'c.sqlite3'}",
        }
    )
    async with bootstrap.opened_store(settings) as store:
        for record in records(EMPTY, EMPTY, EMPTY):
            await store.save_run(record)
    document = await Health(settings).document()
    assert [one["code"] for one in document["warnings"]] == ["nothing_fetched"]
    assert document["dead_letters"] == {"total": 0}
    assert document["parts"]["store"] == "ok"


async def test_a_look_that_failed_is_tried_again_with_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    health = Health(Settings(), now=lambda: clock[0])
    store = SqliteStore(str(tmp_path / "c.sqlite3"), prefix="evalforge_")
    for record in records(EMPTY, EMPTY, EMPTY):
        await store.save_run(record)
    look = vars(Health)["_look"]

    async def down(*, limit: int, now: datetime) -> list[RunRecord]:
        raise StoreUnavailableError("down")

    with monkeypatch.context() as outage:
        outage.setattr(store, "recent_runs", down)
        with pytest.raises(StoreUnavailableError):
            await look(health, store)
    clock[0] = 20.0
    await look(health, store)
    assert vars(health)["_fetches_nothing"] is True
    await store.close()
