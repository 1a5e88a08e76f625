"""What stores tell the telemetry of the captures that they write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from evalforge.core.ports.telemetry import Telemetry


@contextmanager
def measure_batch(telemetry: Telemetry, store: str, write_count: int) -> Iterator[None]:
    """The stretch in which a batch of captures is written, its fate and how long it took; nothing where none is written."""
    if not write_count:
        yield
        return
    began, fate = time.monotonic(), "failed"
    with telemetry.stretch("evalforge.store.write", store=store, write_count=write_count):
        try:
            yield
            fate = "written"
        finally:
            telemetry.add("evalforge.store.write_batches", store=store, outcome=fate)
            telemetry.observe("evalforge.store.write.duration", time.monotonic() - began, store=store)
