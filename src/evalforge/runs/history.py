"""The history of runs: what ran, when, by whom, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from evalforge.core.plans import BACKFILL
from evalforge.core.ports import Lease, RunRecord, RunState, Store
from evalforge.errors import EvalForgeError
from evalforge.events import emit
from evalforge.runs.lease import BACKFILL_LEASE_NAME, LEASE_NAME
from evalforge.runs.report import RunReport, iso_of

RUN_RETENTION_DAYS = 30


def record_of(report: RunReport) -> RunRecord:
    """The record of a run as its report stands; without the examples of a dry run, which is not kept anyway."""
    return RunRecord(
        id=report.run_id,
        state=report.state,
        plan=report.plan,
        holder=report.holder,
        asked_by=report.asked_by,
        started_at=report.started_at,
        finished_at=report.finished_at,
        expires_at=report.started_at + timedelta(days=RUN_RETENTION_DAYS),
        report=report.document() if report.finished_at is not None else {},
    )


async def keep_record(store: Store, report: RunReport) -> None:
    """Stores the record; where that fails the run goes on, and the log says so: its captures matter more."""
    try:
        await store.save_run(record_of(report))
    except EvalForgeError as error:
        emit("run.not_recorded", run_id=report.run_id, code=error.code)


IDLE_RUNS = 3
_LOOKED_AT = 10

NOTHING_FETCHED = "nothing_fetched"
NOTHING_FETCHED_TEXT = (
    f"the last {IDLE_RUNS} runs fetched nothing: check DATADOG_ML_APPS and DATADOG_ENVS, the permissions of the key "
    "(`evalforge check`), DATADOG_SITE, and whether the applications send spans and keep them (sampling)"
)


async def fetches_nothing(store: Store, now: datetime) -> bool:
    """Whether the last `IDLE_RUNS` runs that ended well enough to tell fetched nothing; backfills are not counted.

    Raises:
        StoreError, StoreUnavailableError
    """
    records = await store.recent_runs(limit=_LOOKED_AT, now=now)
    counted = [one for one in records if one.plan != BACKFILL and _had_its_time(one)]
    return len(counted) >= IDLE_RUNS and not any(one.report["items"]["fetched"] for one in counted[:IDLE_RUNS])


def _had_its_time(record: RunRecord) -> bool:
    """Whether the run read as long as it wanted to; one that was stopped, or failed, says nothing of what there is."""
    stops = {one["code"] for one in record.report.get("incomplete_because", ())} & {"stopped", "lease_lost", "time_budget"}
    return record.state in ("complete", "incomplete") and bool(record.report) and not stops


ABANDONED = "abandoned"
"""What a run is called that was never finished: its process died, or lost its lease for good."""


async def runs_shown(store: Store, records: Sequence[RunRecord], now: datetime) -> list[dict[str, Any]]:
    """The records as plain JSON values, each with its state as people should read it."""
    names = {_lease_name(record) for record in records if record.state == "running"}
    leases = {name: await store.held_lease(name) for name in names}
    return [_document(record, shown_state(record, leases.get(_lease_name(record)), now)) for record in records]


def _lease_name(record: RunRecord) -> str:
    return BACKFILL_LEASE_NAME if record.plan == BACKFILL else LEASE_NAME


def _document(record: RunRecord, state: str) -> dict[str, Any]:
    return {
        "run_id": record.id,
        "state": state,
        "plan": record.plan,
        "holder": record.holder,
        "asked_by": record.asked_by,
        "started_at": iso_of(record.started_at),
        "finished_at": iso_of(record.finished_at) if record.finished_at else None,
        "expires_at": iso_of(record.expires_at),
        "report": record.report or None,
    }


def shown_state(record: RunRecord, lease: Lease | None, now: datetime) -> RunState | str:
    """The state of a run as people should read it; `lease` is the one that such runs hold, as it stands now."""
    if record.state != "running":
        return record.state
    is_held = lease is not None and lease.holder == record.holder and bool(lease.token) and lease.expires_at > now
    return record.state if is_held else ABANDONED
