"""What runs tell telemetry: from their reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from evalforge.core.ports.telemetry import Telemetry, Told
from evalforge.core.window import Window
from evalforge.errors import EvalForgeError
from evalforge.runs.report import RunReport


@contextmanager
def measure_run(telemetry: Telemetry, plan: str) -> Iterator[Told]:
    """The stretch of one run; an error that leaves the block kept the run from beginning, and is counted."""
    with telemetry.stretch("evalforge.run", plan=plan) as told:
        try:
            yield told
        except Exception as error:
            code = error.code if isinstance(error, EvalForgeError) else "unexpected"
            telemetry.add("evalforge.errors", code=code)
            telemetry.add("evalforge.runs", plan=plan, outcome="not_begun")
            told.note(outcome="not_begun")
            raise


def measure_report(telemetry: Telemetry, told: Told, report: RunReport) -> None:
    """Tells what came of a run; of a dry run only that there was one."""
    outcome = "rehearsed" if report.rehearsed is not None else report.state
    telemetry.add("evalforge.runs", plan=report.plan, outcome=outcome)
    telemetry.observe("evalforge.run.duration", report.duration_s, plan=report.plan, outcome=outcome)
    tally = report.tally
    told.note(
        run_id=report.run_id,
        outcome=outcome,
        fetched=tally.fetched,
        healthy=tally.healthy,
        failing=tally.failing,
        rejected=tally.rejected,
        created=tally.created,
        updated=tally.updated,
        unchanged=tally.unchanged,
        request_count=sum(source["request_count"] for source in report.sources),
        retry_count=sum(source["retry_count"] for source in report.sources),
    )
    if report.error is not None:
        told.failed(report.error["code"])
    if report.rehearsed is not None:
        return
    for code, count in report.source_errors.items():
        telemetry.add("evalforge.errors", count, code=code)
    telemetry.add("evalforge.captures", tally.kept_out, outcome="kept_out")
    if report.letter_count is not None:
        telemetry.put("evalforge.dead_letters", report.letter_count)
    for source in report.sources:
        telemetry.put("evalforge.filter.gaps", len(source["filter_gaps"]), source=source["name"])
    for reading in report.gone:
        telemetry.add("evalforge.windows.gone", source=reading.source)
    for reading in report.readings:
        if reading.finished and reading.due.windows:
            read_to_ms = max(window.to_ms for window, _ in reading.due.windows)
            telemetry.put("evalforge.lag", read_to_ms / 1000, source=reading.source)


def measure_window(telemetry: Telemetry, source: str, window: Window) -> AbstractContextManager[Told]:
    """The stretch in which one window of a source is read."""
    return telemetry.stretch("evalforge.window", source=source, window_s=window.duration_ms / 1000)
