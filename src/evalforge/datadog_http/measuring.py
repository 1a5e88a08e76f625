"""What requests to Datadog tell the telemetry: how they were answered, how long that took, and what is left of the quota."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from evalforge.core.ports.telemetry import Telemetry


@contextmanager
def measure_request(
    telemetry: Telemetry, source: str, limit: int, clock: Callable[[], float]
) -> Iterator[Callable[[int, int], None]]:
    """The stretch of one request; gives what is to be called with the answer's status and size in bytes, once it came."""
    began, code = clock(), "no_answer"
    with telemetry.stretch("evalforge.datadog.request", source=source, limit=limit, code=code) as told:

        def answered(status: int, size_bytes: int) -> None:
            nonlocal code
            code = str(status)
            told.note(code=code, size_bytes=size_bytes)

        try:
            yield answered
        finally:
            telemetry.add("evalforge.datadog.requests", source=source, code=code)
            telemetry.observe("evalforge.datadog.request.duration", clock() - began, source=source)


def measure_quota(telemetry: Telemetry, source: str, told: Mapping[str, float | str]) -> None:
    """Tells the quota of a search, as far as an answer's headers did."""
    for name in ("limit", "remaining"):
        number = told.get(name)
        if isinstance(number, int | float):
            telemetry.put(f"evalforge.datadog.quota.{name}", number, source=source)
