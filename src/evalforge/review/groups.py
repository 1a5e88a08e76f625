"""Groups: the captures that share a signature, as one row each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

from evalforge.core.ports import MAX_SIGNATURES, SELECTED_BY, Brief, Facets, Selection, Store
from evalforge.core.review import Review, ReviewState
from evalforge.core.signals import Severity
from evalforge.errors import NotFoundError
from evalforge.review.cursors import cursor_parts, cursor_text

SAMPLE = 500
"""How many of a group's newest captures are looked at for its users, models and versions."""
TREND_DAYS = 14
AT_ONCE = 16
"""How many questions a store is asked at the same time."""

_CAUSES = ("failure_type", "ml_app")
"""What captures of one signature have in common."""
_KIND = "g"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which groups: those with captures that the selection matches, in this state, regressed or not; None means any."""

    selection: Selection = field(default_factory=Selection)
    state: ReviewState | None = None
    regressed: bool | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One group: what its captures have in common, how many match what was asked for, and its review.

    `count` and what follows `last_seen_at` are of the captures that match; the two times of the whole group. `users`,
    `models`, `versions` and `envs` are of the newest 500 of them, and `is_sampled` says that there are more; counts by name,
    the most frequent first. `trend` is how many started in each of equal parts of the time from `trend_from` to `trend_to`.
    """

    signature: str
    review: Review
    newest: Brief
    first_seen_at: datetime
    last_seen_at: datetime
    is_regressed: bool
    count: int
    severity: str
    user_count: int
    models: Mapping[str, int]
    versions: Mapping[str, int]
    envs: Mapping[str, int]
    is_sampled: bool
    trend: tuple[int, ...]
    trend_from: datetime
    trend_to: datetime

    @property
    def state(self) -> ReviewState:
        """How far reviewers have come."""
        return self.review.state


@dataclass(frozen=True, slots=True)
class GroupsPage:
    """A page of groups, and the cursor of the next one. `total` is how many groups match; a floor if `is_floor`."""

    groups: Sequence[Group]
    next: str | None
    total: int
    is_floor: bool


async def list_groups(store: Store, wanted: Wanted, *, now: datetime, limit: int, cursor: str | None = None) -> GroupsPage:
    """The groups that match: regressed ones first, then those that failed last.

    Costs one read for each group there is, and for each group of the page a count, a read for its first capture and one for
    each capture looked at.

    Raises:
        RequestError: the cursor is none.
        StoreError, StoreUnavailableError
    """
    start = _start_of(cursor)
    every = await every_group(store, now=now)
    rows = [row for row in every if _may_match(row, wanted)]
    matches = await at_once(_matches(store, row.newest, wanted.selection, now) for row in rows)
    rows = sorted(
        (row for row, matched in zip(rows, matches, strict=True) if matched), key=lambda row: row.order, reverse=True
    )
    left = [row for row in rows if start is None or row.order < start]
    groups = await at_once(_group(store, row, wanted.selection, now) for row in left[:limit])
    goes_on = _cursor_of(left[limit - 1]) if len(left) > limit else None
    return GroupsPage(groups, goes_on, len(rows), len(every) >= MAX_SIGNATURES)


async def one_group(store: Store, signature: str, *, now: datetime, selection: Selection | None = None) -> Group:
    """The group of a signature, of those of its captures that match.

    Raises:
        NotFoundError: no live capture has it.
        StoreError, StoreUnavailableError
    """
    found = await store.briefs(Selection(signatures=(signature,), limit=1), now=now)
    if not found:
        raise NotFoundError(f"no capture has the signature {signature[:80]!a}; the list of groups shows those there are")
    row = Row(found[0], await store.load_review(signature))
    return await _group(store, row, selection or Selection(), now)


@dataclass(frozen=True, slots=True)
class Row:
    """A group as far as one read tells it: its newest capture, and its review."""

    newest: Brief
    review: Review

    @property
    def is_regressed(self) -> bool:
        """Whether it is resolved, and failed again since."""
        return self.review.has_regressed(self.newest.started_at)

    @property
    def order(self) -> tuple[bool, datetime, str]:
        """Greatest first."""
        return self.is_regressed, self.newest.started_at, self.newest.signature


async def every_group(store: Store, *, now: datetime) -> list[Row]:
    """Every group with its review, in any order; one read each.

    Raises:
        StoreError, StoreUnavailableError
    """
    newest = await store.newest_by_signature(now=now)
    reviews = {review.signature: review async for review in store.reviews()}
    return [Row(brief, reviews.get(brief.signature) or Review(brief.signature)) for brief in newest]


def _start_of(cursor: str | None) -> tuple[bool, datetime, str] | None:
    if cursor is None:
        return None
    started_at, (is_regressed, signature) = cursor_parts(_KIND, cursor, (bool, str))
    return is_regressed, started_at, signature


def _cursor_of(row: Row) -> str:
    return cursor_text(_KIND, row.newest.started_at, row.is_regressed, row.newest.signature)


def _may_match(row: Row, wanted: Wanted) -> bool:
    """Whether the group may match, by what needs no further question."""
    selection = wanted.selection
    if wanted.state is not None and row.review.state is not wanted.state:
        return False
    if wanted.regressed is not None and row.is_regressed is not wanted.regressed:
        return False
    if selection.signatures is not None and row.newest.signature not in selection.signatures:
        return False
    if selection.started_from is not None and row.newest.started_at < selection.started_from:
        return False
    wishes = {name: getattr(selection, name) for name in _CAUSES}
    return all(wish is None or wish == getattr(row.newest, name) for name, wish in wishes.items())


async def _matches(store: Store, newest: Brief, selection: Selection, now: datetime) -> bool:
    """Whether a capture of the group matches: mostly its newest does, and nothing need be asked."""
    wishes = {name: getattr(selection, name) for name in SELECTED_BY}
    is_in_time = selection.started_to is None or newest.started_at < selection.started_to
    if is_in_time and all(wish is None or wish == getattr(newest, name) for name, wish in wishes.items()):
        return True
    return await store.count_matching(replace(selection, signatures=(newest.signature,), limit=1), now=now) > 0


async def _group(store: Store, row: Row, selection: Selection, now: datetime) -> Group:
    signature = row.newest.signature
    own = replace(selection, signatures=(signature,), limit=None)
    trend_to = selection.started_to or now
    trend_from = selection.started_from or trend_to - timedelta(days=TREND_DAYS)
    sample = await store.facets(replace(own, limit=SAMPLE), now=now)
    count = len(sample) if len(sample) < SAMPLE else await store.count_matching(own, now=now)
    first = await store.first_started_at(signature, now=now)
    edges = edges_between(trend_from, trend_to, TREND_DAYS)
    if count == len(sample):
        trend = _counted(sample, edges)
    else:
        trend = await counts_between(store, own, edges, now)
    return Group(
        signature=signature,
        review=row.review,
        newest=row.newest,
        first_seen_at=first or row.newest.started_at,
        last_seen_at=row.newest.started_at,
        is_regressed=row.is_regressed,
        count=count,
        severity=max((one.severity for one in sample), key=_rank, default=row.newest.severity),
        user_count=len({one.user_hash for one in sample if one.user_hash}),
        models=_by_frequency(one.model_name for one in sample),
        versions=_by_frequency(one.version for one in sample),
        envs=_by_frequency(one.env for one in sample),
        is_sampled=count > len(sample),
        trend=trend,
        trend_from=trend_from,
        trend_to=trend_to,
    )


def edges_between(start: datetime, end: datetime, part_count: int) -> list[datetime]:
    """The borders of so many equal parts of the time between the two."""
    return [start + (end - start) * number / part_count for number in range(part_count + 1)]


async def counts_between(store: Store, selection: Selection, edges: Sequence[datetime], now: datetime) -> tuple[int, ...]:
    """How many captures that match started between each two edges, the later one excluded."""
    parts = [replace(selection, started_from=a, started_to=b) for a, b in pairwise(edges)]
    return tuple(await at_once(store.count_matching(part, now=now) for part in parts))


def _counted(sample: Sequence[Facets], edges: Sequence[datetime]) -> tuple[int, ...]:
    starts = [one.started_at for one in sample]
    return tuple(sum(a <= start < b for start in starts) for a, b in pairwise(edges))


def _by_frequency(names: Iterable[str | None]) -> dict[str, int]:
    counts = Counter(name for name in names if name)
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _rank(severity: str) -> int:
    return next((int(one) for one in Severity if one.label == severity), 0)


async def at_once(questions: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The answers, in order, to questions of which at most `AT_ONCE` are under way."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def asked(question: Coroutine[Any, Any, T]) -> T:
        async with turns:
            return await question

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(asked(question)) for question in questions]
    return [task.result() for task in tasks]
