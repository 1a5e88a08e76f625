"""What a worker does with its part of a job: plain functions of iterators, which know of no engine.

A part may be done twice: a worker dies, its part is given to another one. So everything that is written here is an upsert,
a guarded rewrite or a dead letter whose id is its content. What travels to a worker is an `Order`, which holds no secret:
settings and keys are read where the work is done, and must be those of whoever gave the order.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from array import array
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from itertools import groupby
from typing import ParamSpec, TypeVar

from evalforge.archives import ODD_PER_PAGE, Pages, may_fail, rules_digest
from evalforge.bootstrap import judge_of, opened_store
from evalforge.bootstrap.archives import buckets_of, scope_of
from evalforge.config import Settings
from evalforge.core.canonical import digest
from evalforge.core.ports import Archive, OddItem, PackedSpan, Store
from evalforge.credentials import resolve_key_ring
from evalforge.erasure import Guard
from evalforge.errors import EvalForgeError, SettingsError
from evalforge.ingest import Judge, Reading, Tally
from evalforge.rejudging import Rejudged, rejudge
from evalforge.runs import new_run_id
from evalforge.sources.archive import Part, entries_of, ordered

KEY_DIGITS = 32
"""How many hexadecimal digits the key of a stored capture has."""

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Order:
    """What every worker of a job is told: when it began, how many write at once, and by which settings it must go.

    `began_at` is the time of fetching that every capture of the job gets, whoever makes it and however often.
    """

    began_at: datetime
    writers: int
    settings_digest: str

    def clock(self) -> datetime:
        """The one time of the job."""
        return self.began_at


def settings_digest(settings: Settings, judge: Judge) -> str:
    """What must be the same on every worker: the rules, the keys by their ids, the scope, and where captures are kept."""
    where = (settings.capture_store, settings.google_cloud_project, settings.firestore_database)
    kept = (settings.firestore_collection_prefix, settings.firestore_emulator_host, settings.retention_days)
    return digest([rules_digest(judge), list(judge.ring.key_ids), repr(scope_of(settings)), *where, *kept])


@dataclass(frozen=True, slots=True)
class _Bench:
    """What a worker works with."""

    settings: Settings
    store: Store
    judge: Judge
    guard: Guard
    reading: Reading


@asynccontextmanager
async def _opened(order: Order) -> AsyncIterator[_Bench]:
    settings = Settings.from_environment()
    ring = await resolve_key_ring(settings)
    judge = judge_of(settings, ring)
    if settings_digest(settings, judge) != order.settings_digest:
        raise SettingsError(
            "a worker has other settings than the driver: give every executor the same environment "
            "(spark.executorEnv.NAME), secrets as Secret Manager version names"
        )
    async with opened_store(settings, writers=order.writers) as store:
        # An id of its own: what two workers keep out stands in two records.
        run_id = new_run_id(order.clock)
        guard = await Guard.opened(store, ring, run_id=run_id, clock=order.clock)
        reading = Reading(run_id, judge, guard, order.clock, lambda tally: None)
        yield _Bench(settings, store, judge, guard, reading)


def _told_safely(work: Callable[P, R]) -> Callable[P, R]:
    """An engine logs what a worker raises: of an error that nobody foresaw, its place and nothing that it may quote."""

    @wraps(work)
    def safe(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return work(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - its text may quote a span
            raise _safe(error) from None

    return safe


def _safe(error: Exception) -> RuntimeError:
    if isinstance(error, EvalForgeError):
        return RuntimeError(f"[evalforge {error.code}] {error.message}")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return RuntimeError(
        f"[evalforge unexpected] {type(error).__name__} at {os.path.basename(frame.filename)}:{frame.lineno}"
    )


# -- judging archives -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """What a part of an archive holds: the places of its failing traces (packed, 8 bytes each), spans, and odd items."""

    failing: bytes
    span_count: int
    tally: Tally


@_told_safely
def found_in(parts: Iterable[Part], order: Order) -> list[Found]:
    """Which traces fail in these parts; what is odd there is kept as dead letters."""
    return [asyncio.run(_found(part, order)) for part in parts]


async def _found(part: Part, order: Order) -> Found:
    async with _opened(order) as bench:
        in_scope = scope_of(bench.settings).contains
        tally = Tally()
        pages = Pages(_archive(bench.settings), bench.store, bench.reading, tally)
        failing: set[int] = set()
        odd: list[OddItem] = []
        span_count = 0
        for entry in entries_of(part, buckets_of(bench.settings)):
            if isinstance(entry, tuple):
                odd.append(entry)
                if len(odd) == ODD_PER_PAGE:
                    await pages.keep(odd)
                    odd = []
            else:
                span_count += 1
                if entry.place not in failing and may_fail(entry.span, bench.judge, in_scope):
                    failing.add(entry.place)
        await pages.keep(odd)
    return Found(array("Q", sorted(failing)).tobytes(), span_count, tally)


def joined_places(found: Iterable[bytes]) -> bytes:
    """All failing places, each once, ascending; packed alike."""
    places: set[int] = set()
    for packed in found:
        places.update(array("Q", packed))
    return array("Q", sorted(places)).tobytes()


Row = tuple[int, str, bytes]
"""The place of a trace as a signed 64-bit number, and source and packed form of one of its spans."""

_SIGN = 1 << 63


def wanted_in(parts: Iterable[Part], failing: bytes) -> Iterator[Row]:
    """The spans of failing traces in these parts, healthy ones too; lazily."""
    try:
        yield from _wanted(parts, failing)
    except Exception as error:  # noqa: BLE001 - as above
        raise _safe(error) from None


def _wanted(parts: Iterable[Part], failing: bytes) -> Iterator[Row]:
    places = array("Q", failing)
    buckets = buckets_of(Settings.from_environment())
    for part in parts:
        for entry in entries_of(part, buckets):
            if isinstance(entry, tuple):
                continue
            at = bisect_left(places, entry.place)
            if at < len(places) and places[at] == entry.place:
                yield entry.place - _SIGN, entry.source, entry.packed


@_told_safely
def judged(rows: Iterable[Row], order: Order) -> Tally:
    """Judges and stores traces whose rows stand together; counts every row and what became of it."""
    return asyncio.run(_judged(rows, order))


async def _judged(rows: Iterable[Row], order: Order) -> Tally:
    tally = Tally()
    async with _opened(order) as bench:
        await Pages(_archive(bench.settings), bench.store, bench.reading, tally).judge(_traces(rows))
    return tally


def _traces(rows: Iterable[Row]) -> Iterator[Sequence[PackedSpan]]:
    for _, trace in groupby(rows, key=lambda row: row[0]):
        yield [(place, source, bytes(packed)) for place, source, packed in trace]


def _archive(settings: Settings) -> Archive:
    return Archive((), "", lambda: iter(()), ordered, scope_of(settings).contains)


# -- judging stored captures again ----------------------------------------------------------------------------------------


def key_ranges(count: int) -> list[tuple[str | None, str | None]]:
    """`count` equal ranges of the keys of captures, which are digests; both ends exclusive, None where there is no end.

    A range ends right before the first key of the next one: with a text that no key has but that comes before it.
    """
    step = 16**KEY_DIGITS
    bounds = [f"{step * number // count:0{KEY_DIGITS}x}"[: KEY_DIGITS - 1] for number in range(1, count)]
    return list(zip([None, *bounds], [*bounds, None], strict=True))


@_told_safely
def rejudged(ranges: Iterable[tuple[str | None, str | None]], order: Order) -> list[Rejudged]:
    """Judges the stored captures of these ranges again."""
    return [asyncio.run(_rejudged(after, before, order)) for after, before in ranges]


async def _rejudged(after: str | None, before: str | None, order: Order) -> Rejudged:
    async with _opened(order) as bench:
        return await rejudge(bench.store, bench.judge, after=after, before=before, clock=order.clock)
