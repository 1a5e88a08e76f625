"""Backfills for tests: over a source that counts what it gives, on a store whose process can die at any call."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from evalforge.core.ports import Checkpoint, Page, Reach, Store
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.ingest import Judge
from evalforge.runs import BackfillOrder, RunReport, backfill
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.spans import span

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WINDOW = Window.last_hours(6, NOW)
HOUR_MS = 3_600_000
RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
JUDGE = Judge(Thresholds(), RING, Sanitizer(RING), "datadoghq.com", 180)


class KilledError(Exception):
    """The process died here."""


@dataclass
class CountingSource(FakeSource):
    """Counts the pages and the spans that it gives; before the page `dies_at` (from 0) it raises `trouble` once."""

    given: Counter[str] = field(default_factory=Counter)
    page_count: int = 0
    dies_at: int | None = None
    trouble: Callable[[], Exception] = KilledError

    async def pages(
        self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all"
    ) -> AsyncGenerator[Page, None]:
        async with aclosing(super().pages(window, after, reach=reach)) as pages:
            async for page in pages:
                if self.page_count == self.dies_at:
                    self.dies_at = None
                    raise self.trouble()
                self.page_count += 1
                self.given.update(one.span_id for one in page.spans)
                yield page


class Mortal:
    """A store whose process dies at the `last`th call, and does nothing more: not even give its lease back."""

    def __init__(self, store: SqliteStore, last: int) -> None:
        self._store = store
        self._left = last

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)

        def call(*values: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left < 0:
                raise KilledError
            return found(*values, **named)

        return call


def failing(number: int, at_ms: int, trace: int | None = None, **fields: Any) -> Span:
    """A failing span that began then, of a trace of its own unless one is given."""
    return span(
        trace_id=f"6b03dc78{number if trace is None else trace:024x}",
        span_id=str(10_000 + number),
        start_ns=at_ms * 1_000_000 + number,
        **{"status": "error"} | fields,
    )


def spread(count: int, window: Window = WINDOW) -> list[Span]:
    """Failing spans, evenly over the window."""
    return [failing(n, window.from_ms + window.duration_ms * n // count) for n in range(count)]


async def go(
    store: SqliteStore | Mortal,
    *sources: FakeSource,
    window: Window = WINDOW,
    slice_ms: int = HOUR_MS,
    workers: int = 1,
    now: datetime = NOW,
    later: timedelta = timedelta(),
    **ports: Any,
) -> RunReport:
    """One backfill; what is none of `backfill`'s ports is the order's."""
    ports.setdefault("sleep", no_sleep)
    own = {name: ports.pop(name) for name in ("wants_stop", "resolve_users") if name in ports}
    order = BackfillOrder(window, slice_ms, workers, "test", "a tester", "scan", **own)
    return await backfill(sources, cast(Store, store), JUDGE, order, clock=lambda: now + later, **ports)


async def no_sleep(seconds: float) -> None:
    """Waits in no time."""


async def covered(store: SqliteStore, source: str = "llm_obs") -> Sequence[Window]:
    """What the store says was read of a source."""
    coverage = await store.load_coverage(source)
    return coverage.windows if coverage is not None else ()
