"""A driver for the tests: both jobs in one session, with writers that wait in the middle until the test lets them go on."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evalforge import archives
from evalforge.config import Settings
from evalforge.errors import ClusterFailedError
from evalforge.ingest import Tally
from evalforge.scale import jobs, partitions
from evalforge.scale.partitions import Order

PATIENCE_S = 300.0
WAITS_AFTER_ROWS = 12

# On workers too, which import this module with what they are sent: pages so small that something is stored before the wait.
archives.PAGE_SPANS = 4


@dataclass(frozen=True, slots=True)
class WaitingInTheMiddle:
    """Judges like the job's own, but leaves a mark after some rows and waits until the file `go` is there."""

    order: Order

    def __call__(self, rows: Iterable[Any]) -> list[Tally]:
        folder = Path(os.environ["EVALFORGE_TEST_MARKS"])

        def waiting() -> Iterator[Any]:
            for number, row in enumerate(rows):
                if number == WAITS_AFTER_ROWS:
                    (folder / f"attempt-{os.getpid()}-{time.time_ns()}").touch()
                    deadline = time.monotonic() + PATIENCE_S
                    while not (folder / "go").exists() and time.monotonic() < deadline:
                        time.sleep(0.05)
                yield tuple(row)

        return [partitions.judged(waiting(), self.order)]


async def both(spark: Any, place: str) -> dict[str, Any]:
    """What both jobs report, and what a third one says whose driver has other settings than its workers."""
    settings = Settings.from_environment()
    judged = await jobs.judge_job(settings, spark, [place], holder="test", writers=2)
    rejudged = await jobs.rejudge_job(settings, spark, holder="test", writers=3)
    try:
        # The driver's settings only: what the workers find around them is what it was.
        await jobs.rejudge_job(replace(settings, quality_threshold=0.9), spark, holder="test", writers=1)
    except ClusterFailedError as error:
        refused = error.message
    return {"judge": judged.document(), "rejudge": rejudged.document(), "refused": refused}


def main(master: str, place: str, events: str) -> None:
    """Runs the jobs on the cluster at `master` and prints their reports as one line of JSON."""
    jobs._Judging = WaitingInTheMiddle  # type: ignore[misc,assignment]
    options = {"spark.driver.host": "127.0.0.1", "spark.eventLog.enabled": "true", "spark.eventLog.dir": f"file:{events}"}
    with jobs.session(master, {**options, "spark.executor.memory": "600m"}) as spark:
        print(json.dumps(asyncio.run(both(spark, place))))  # noqa: T201 - it is what the test reads


if __name__ == "__main__":
    # By its own name, so that workers can import what they are sent.
    from tests import spark_jobs

    spark_jobs.main(*sys.argv[1:])
