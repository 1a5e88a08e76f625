"""Runs: what is read when, under which lease and within which budget, and what is said of it afterwards."""

from evalforge.runs.backfilling import BackfillOrder, backfill
from evalforge.runs.history import (
    NOTHING_FETCHED,
    NOTHING_FETCHED_TEXT,
    RUN_RETENTION_DAYS,
    fetches_nothing,
    runs_shown,
)
from evalforge.runs.lease import (
    ARCHIVE_LEASE_NAME,
    BACKFILL_LEASE_NAME,
    LEASE_LIFETIME_S,
    LEASE_NAME,
    Held,
    default_holder,
    held_lease,
    taken_lease,
)
from evalforge.runs.report import INCOMPLETE, NO_SALT_HINT, BackfillProgress, RunProgress, RunReport, iso_of
from evalforge.runs.running import Budget, Order, check_keys, new_run_id, run

__all__ = [
    "ARCHIVE_LEASE_NAME",
    "BACKFILL_LEASE_NAME",
    "INCOMPLETE",
    "LEASE_LIFETIME_S",
    "LEASE_NAME",
    "NOTHING_FETCHED",
    "NOTHING_FETCHED_TEXT",
    "NO_SALT_HINT",
    "RUN_RETENTION_DAYS",
    "BackfillOrder",
    "BackfillProgress",
    "Budget",
    "Held",
    "Order",
    "RunProgress",
    "RunReport",
    "backfill",
    "check_keys",
    "default_holder",
    "fetches_nothing",
    "held_lease",
    "iso_of",
    "new_run_id",
    "run",
    "runs_shown",
    "taken_lease",
]
