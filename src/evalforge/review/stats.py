"""Figures for charts: failures over time by type and severity, by application and model, and how far reviews are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from evalforge.core.ports import Selection, Store
from evalforge.core.review import ReviewState
from evalforge.core.signals import FailureType, Severity
from evalforge.review.groups import TREND_DAYS, at_once, counts_between, edges_between, every_group

MOST_NAMES = 20
"""How many applications and models are told; the most frequent."""


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of the captures that match, which started from `edges[0]` to before `edges[-1]`.

    `by_type` and `by_severity` have a count for each part of that time between two edges; `by_app` and `by_model` one in
    all, the most frequent first. `groups` is how many groups are in each state, `regressed_count` how many have regressed:
    of all groups with captures, whenever they started.
    """

    edges: Sequence[datetime]
    total: int
    by_type: Mapping[str, Sequence[int]]
    by_severity: Mapping[str, Sequence[int]]
    by_app: Mapping[str, int]
    by_model: Mapping[str, int]
    groups: Mapping[str, int]
    regressed_count: int


async def failure_stats(store: Store, selection: Selection, *, now: datetime, part_count: int = TREND_DAYS) -> Stats:
    """The figures for the captures that match, over the selection's time or the last 14 days.

    Costs a count for each part of time, type and severity, and one for each application and model.

    Raises:
        StoreError, StoreUnavailableError
    """
    end = selection.started_to or now
    start = selection.started_from or end - timedelta(days=TREND_DAYS)
    selection = replace(selection, started_from=start, started_to=end)
    edges = edges_between(start, end, part_count)
    by_type = {}
    for failure_type in _wanted([one.value for one in FailureType], selection.failure_type):
        counts = await counts_between(store, replace(selection, failure_type=failure_type), edges, now)
        if any(counts):
            by_type[failure_type] = counts
    by_severity = {}
    for severity in _wanted([one.label for one in sorted(Severity, reverse=True)], selection.severity):
        by_severity[severity] = await counts_between(store, replace(selection, severity=severity), edges, now)
    every = await every_group(store, now=now)
    groups = Counter(row.review.state.value for row in every)
    return Stats(
        edges=edges,
        total=sum(sum(counts) for counts in by_type.values()),
        by_type=by_type,
        by_severity=by_severity,
        by_app=await _by_name(store, selection, "ml_app", now),
        by_model=await _by_name(store, selection, "model_name", now),
        groups={state.value: groups[state.value] for state in ReviewState},
        regressed_count=sum(row.is_regressed for row in every),
    )


def _wanted(names: Sequence[str], only: str | None) -> Sequence[str]:
    return [name for name in names if only is None or name == only]


_Name = Literal["ml_app", "model_name"]


def _with_name(selection: Selection, field: _Name, name: str) -> Selection:
    return replace(selection, ml_app=name) if field == "ml_app" else replace(selection, model_name=name)


async def _by_name(store: Store, selection: Selection, field: _Name, now: datetime) -> Mapping[str, int]:
    names = _wanted(await store.values_of(field, now=now), getattr(selection, field))
    selections = (_with_name(selection, field, name) for name in names)
    counts = await at_once(store.count_matching(one, now=now) for one in selections)
    ordered = sorted(zip(names, counts, strict=True), key=lambda entry: (-entry[1], entry[0]))
    return {name: count for name, count in ordered[:MOST_NAMES] if count}
