"""What a month of incremental runs costs, by the plan that the runs go by: requests, Firestore operations, money.

The overheads are measured: tests/contract/test_running_costs.py counts them at the emulator's door.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from evalforge.core.plans import Due, SinceLast
from evalforge.core.ports import Checkpoint
from evalforge.core.window import MS_PER_HOUR, Window

DAYS = 30
SOURCES = 2
RUN_READS = 14
"""Documents that a run over two sources reads when there is nothing to capture: checkpoints, lease, keys, tombstones."""
RUN_WRITES = 4
"""Documents that a run writes beside checkpoints and captures: the lease (twice) and its record (twice)."""
WINDOW_WRITES = 2
"""Checkpoint writes for a window of one page: the place before it, and the one after it."""
WINDOW_REQUESTS = 2
"""Datadog requests for a window beyond its pages: how dense it is, and the sample that is read without a query."""
PAGE_SPANS = 2000
"""Failing spans on a page of 8 MB, at 4 kB each."""
WRITES_PER_CAPTURE = 2
"""Each capture is created once, and changed once by a late span or evaluation."""
READ_USD, WRITE_USD = 0.03 / 100_000, 0.09 / 100_000
"""Standard edition, us-central1. Source: https://cloud.google.com/firestore/pricing"""

SCHEDULES = {"every 5 minutes": 5, "hourly": 60, "daily": 24 * 60}
FAILURES_A_DAY = (1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Month:
    """One month of one schedule."""

    requests: int
    reads: int
    writes: int

    @property
    def dollars(self) -> float:
        """What Firestore takes for it, without its free quota."""
        return self.reads * READ_USD + self.writes * WRITE_USD


def month(minutes: int, failures_a_day: int) -> Month:
    """A month of runs every `minutes` minutes, long after the first one, each failure a trace of its own."""
    requests = reads = 0
    writes = DAYS * failures_a_day * WRITES_PER_CAPTURE
    for due in _runs(minutes):
        reads += RUN_READS
        writes += RUN_WRITES
        for window in (window for one in due for window, _ in one.windows):
            failing = failures_a_day * window.duration_ms / (24 * MS_PER_HOUR)
            pages = max(1, ceil(failing / PAGE_SPANS))
            # The other source's failures are counted with the first one's; its windows are asked for all the same.
            requests += pages + 1 + SOURCES * WINDOW_REQUESTS
            reads += round(failing)
            writes += (pages - 1) + SOURCES * WINDOW_WRITES
    return Month(requests, reads, writes)


def _runs(minutes: int) -> Iterator[list[Due]]:
    """What is due in each run of a month, when the tiers have been read before."""
    plan, checkpoints = SinceLast(24 * MS_PER_HOUR), dict[str, Checkpoint]()
    run_count = DAYS * 24 * 60 // minutes
    before = 2 * 24 * 60 // minutes  # two days, until each tier has been read once
    for number in range(before + run_count):
        now_ms = number * minutes * 60_000 + 20 * 24 * MS_PER_HOUR
        due = plan.due(checkpoints, now_ms)
        for one in due:
            last = Window(now_ms - 1, now_ms)
            checkpoints[one.tier.name] = Checkpoint("", last, done=True, tier=one.tier.name, began_ms=one.began_ms)
        if number >= before:
            yield list(due)
