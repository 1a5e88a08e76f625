"""What the pipeline tells telemetry: from counts and results that are there anyway, never from spans themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import DeadLetter, UpsertResult
from evalforge.core.ports.telemetry import Telemetry
from evalforge.core.privacy.net import SECOND_NET


@contextmanager
def measure_page(telemetry: Telemetry, source: str, item_count: int) -> Iterator[None]:
    """The stretch in which one page is judged and stored, and how long that took."""
    began = time.monotonic()
    with telemetry.stretch("evalforge.page", source=source, item_count=item_count):
        yield
    telemetry.observe("evalforge.page.duration", time.monotonic() - began, source=source)


def measure_items(telemetry: Telemetry, source: str, item_count: int, failing_count: int, rejected_count: int) -> None:
    """Tells what the items of a stored page were."""
    telemetry.add("evalforge.spans.read", item_count, source=source)
    telemetry.add("evalforge.spans.healthy", item_count - failing_count - rejected_count, source=source)
    telemetry.add("evalforge.spans.failing", failing_count, source=source)
    telemetry.add("evalforge.spans.rejected", rejected_count, source=source)


def measure_captures(
    telemetry: Telemetry,
    captures: Sequence[FailureCapture],
    result: UpsertResult,
    letters: Sequence[DeadLetter],
    by_type: Counter[str],
) -> None:
    """Tells what became of captures, what was removed from those that were written, and why letters were kept."""
    for outcome in ("created", "updated", "unchanged", "refused"):
        telemetry.add("evalforge.captures", len(getattr(result, outcome)), outcome=outcome)
    for failure_type, count in by_type.items():
        telemetry.add("evalforge.captures.new", count, failure_type=failure_type)
    written = {*result.created, *result.updated}
    removed: Counter[str] = Counter()
    for capture in captures:
        if capture.trace_id in written:
            removed.update(capture.redactions)
            telemetry.add("evalforge.second_net.hits", int(SECOND_NET in capture.redactions))
    for kind, count in removed.items():
        telemetry.add("evalforge.redactions", count, kind=kind)
    for letter in letters:
        telemetry.add("evalforge.dead_letters.kept", reason=letter.reason)
