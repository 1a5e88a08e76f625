"""Runs behind the service: each in a thread and an event loop of its own, one at a time in this process.

A run outlives the request that asked for it, and nothing that it does keeps the service from answering others.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.errors import EvalForgeError, RequestError, RetriableError, RunInProgressError
from evalforge.events import emit
from evalforge.runs import RunProgress, RunReport, default_holder
from evalforge.service.quotas import Quotas
from evalforge.service.requests import RunRequest

CUT_AFTER = 0.7
"""After which part of the grace a run that has not come to the end of its page is cut."""

T = TypeVar("T")


def in_own_thread(name: str, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
    """The result to come of a coroutine that runs in a new thread with a new event loop.

    Awaiting callers may go away; the thread goes on. It does not keep the process alive.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()  # from here on nobody can cancel it

    def body() -> None:
        try:
            result.set_result(asyncio.run(work()))
        except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits for the result
            result.set_exception(error)

    threading.Thread(target=body, name=name, daemon=True).start()
    return result


@dataclass(frozen=True, slots=True)
class Started:
    """A run under way: `begun` is to have its id once it stands in the history, `report` what came of it."""

    begun: Future[str]
    report: Future[RunReport]

    async def first(self) -> str | RunReport:
        """The id of the run as soon as it has begun; its report, or its error, where it ended before that."""
        begun, report = asyncio.wrap_future(self.begun), asyncio.wrap_future(self.report)
        either: list[asyncio.Future[Any]] = [begun, report]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        return begun.result() if begun.done() else report.result()


class Runner:
    """Starts runs, one at a time, and asks the present one to stop when the service does.

    `quotas` hears what Datadog tells the runs of theirs. `grace_s` is how long a stop may take; after `CUT_AFTER` of it a
    run leaves the page that it is at. `telemetry` hears of every run.
    """

    def __init__(self, quotas: Quotas | None = None, *, grace_s: float = 8.0, telemetry: Telemetry = SILENCE) -> None:
        self.grace_s = grace_s
        self._telemetry = telemetry
        self._holder = default_holder("service")
        self._quotas = quotas or Quotas()
        self._lock = threading.Lock()
        self._since: str | None = None
        self._present: Future[RunReport] | None = None
        self._stopping_at: float | None = None

    def start(self, settings: Settings, request: RunRequest, asked_by: str = "service") -> Started:
        """A run that starts now, asked for by `asked_by`.

        Raises:
            RunInProgressError: this process already has a run going; the store's lease tells of other processes' runs.
        """
        with self._lock:
            if self._since is not None:
                raise RunInProgressError(self._holder, self._since)
            self._since = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

        begun: Future[str] = Future()

        async def work() -> RunReport:
            try:
                report = await bootstrap.ingest_once(
                    settings,
                    holder=self._holder,
                    asked_by=asked_by,
                    lookback_hours=request.lookback_hours,
                    quality_threshold=request.quality_threshold,
                    since_last=request.since_last,
                    dry_run=request.dry_run,
                    on_begun=begun.set_result,
                    on_page=self._hear,
                    wants_stop=lambda: self._stopping_at is not None,
                    must_end=self._must_end,
                    telemetry=self._telemetry,
                )
                for source in report.sources:
                    self._quotas.hear(source["name"], source["rate_limit"])
                return report
            except EvalForgeError as error:
                _tell(error)
                raise
            finally:
                self._since = None

        try:
            self._present = in_own_thread("ingestion", work)
        except RuntimeError:  # the system has no thread left; nothing began
            self._since = None
            raise
        return Started(begun, self._present)

    def _hear(self, progress: RunProgress) -> None:
        self._quotas.hear(progress.source, progress.rate_limit)

    def _must_end(self) -> bool:
        # What is left of the grace is for the lease, the record and the answer.
        return self._stopping_at is not None and time.monotonic() - self._stopping_at >= CUT_AFTER * self.grace_s

    @property
    def is_going(self) -> bool:
        """Whether a run is going on."""
        return self._present is not None and not self._present.done()

    def stop(self) -> None:
        """Asks the present run to stop at the end of its page; safe to call from a signal handler."""
        if self._stopping_at is None:
            self._stopping_at = time.monotonic()

    async def stopped(self) -> None:
        """Returns when no run is going, or `grace_s` after `stop`: what a run has stored by then stays, and it can go on."""
        self.stop()
        if self._present is not None and self._stopping_at is not None:
            left_s = max(0.0, self._stopping_at + self.grace_s - time.monotonic())
            await asyncio.wait([asyncio.ensure_future(_ended(self._present))], timeout=left_s)


def _tell(error: EvalForgeError) -> None:
    """Logs what ended a run that has no report; whoever asked may have gone, and a schedule reads no answers."""
    if not isinstance(error, RequestError | RunInProgressError):  # the caller's mistake, or another run's turn
        retry_after_s = error.retry_after_s if isinstance(error, RetriableError) else None
        emit("run.failed", code=error.code, retry_after_s=retry_after_s)


async def _ended(result: Future[RunReport]) -> None:
    await asyncio.gather(asyncio.wrap_future(result), return_exceptions=True)
