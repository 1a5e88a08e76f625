"""How the two reaches go about a window: which steps, which query for each, and what to do when Datadog refuses one.

`WholePlan` is after every failure. `EvaluatedPlan` is after what evaluations that came late made a failure: over a long
window, without fetching again what has been judged before. Each sees to it that names nobody listed are found too.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from evalforge.core.ports import FilterMode
from evalforge.core.signals import Thresholds
from evalforge.core.window import Window
from evalforge.sources.datadog.query import (
    ANY,
    MAX_NAMES,
    NAME,
    Scope,
    evaluated_query,
    evaluation_entries,
    failure_query,
    is_queryable,
    learned_query,
    scope_query,
)
from evalforge.sources.datadog.report import Report
from evalforge.sources.datadog.steps import GAP, Learned, Step, random_slice, spread_starts

FIRST_SLICE_MS = 3_600_000
SLICE_MS = 300_000
MAX_SLICE_SPANS = 20_000

SPREAD_SLICES = 6
SPREAD_SLICE_SPANS = 500
"""Late evaluations are sampled in so many places of the window, so many spans in each: one request each."""

_MAX_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Asking:
    """What the settings say of one source's queries."""

    source: str
    filter_mode: FilterMode
    scope: Scope
    thresholds: Thresholds
    evaluations: tuple[str, ...] = ()


class Plan(Protocol):
    """What a reading asks at each turn.

    `slice_spans` bounds what is read of one slice, `slice_page` the spans of one request there, where that is less than
    usual. `learns` tells whether names are learned from spans, `expects_spans` whether a window without any is odd.
    """

    slice_spans: int
    slice_page: int | None
    learns: bool
    expects_spans: bool

    @property
    def size(self) -> int:
        """How many entries a step can count at present."""
        ...

    def first(self) -> Step:
        """The step that a window begins with."""
        ...

    def slices(self, window: Window, rng: random.Random) -> Iterator[Window]:
        """The pieces of the window that a step "slice" reads without a query, one when the one before has been read."""
        ...

    def asking(self) -> Step:
        """The step that asks the window by everything that is known at present."""
        ...

    def is_asked_for(self, place: str) -> bool:
        """Whether the queries are meant to find failures at this place."""
        ...

    def query(self, step: Step) -> str:
        """The query of a step."""
        ...

    def instead_of(self, step: Step) -> Step | None:
        """What to read after Datadog refused the first request of a step; None when nothing is left to try."""
        ...

    def following(self, step: Step) -> Step | None:
        """The step after `step` has come to its end; None when the window is read."""
        ...

    def mode(self, step: Step) -> FilterMode:
        """How a window was read whose last step this was."""
        ...


class WholePlan:
    """Everything that could be a failure: `look`, `slice`, `query`, `again`, or `scan`; see `steps`."""

    slice_spans = MAX_SLICE_SPANS
    slice_page: int | None = None
    expects_spans = True

    def __init__(self, asking: Asking, learned: Learned, report: Report, *, has_history: bool) -> None:
        self._asking = asking
        self._learned = learned
        self._report = report
        self._slice_ms = SLICE_MS if has_history else FIRST_SLICE_MS
        self._round_count = 0
        self.learns = asking.filter_mode != "scan"

    @property
    def size(self) -> int:
        """How many entries have been learned."""
        return len(self._learned)

    def first(self) -> Step:
        """A look, or what the filter mode says; a scan where no query can carry what has been learned."""
        if self._asking.filter_mode == "scan":
            return Step("scan")
        if self._learned.overflows:
            return self._scan("more evaluator names are known than a query can carry")
        return self.asking() if self._asking.filter_mode == "query" else Step("look")

    def slices(self, window: Window, rng: random.Random) -> Iterator[Window]:
        """One piece, longer the first time."""
        yield random_slice(window, self._slice_ms, rng)

    def asking(self) -> Step:
        """The query, or a scan where no query can carry what has been learned."""
        if self._learned.overflows:
            return self._scan("more evaluator names were met than a query can carry")
        return Step("query", 0, len(self._learned))

    def is_asked_for(self, place: str) -> bool:
        """Every place is."""
        return True

    def query(self, step: Step) -> str:
        """The query of a step."""
        asking, learned = self._asking, self._learned.entries[step.first : step.count]
        if step.kind == "query":
            names = [NAME + name for name in asking.evaluations]
            return failure_query(asking.source, asking.scope, asking.thresholds, [*names, *learned])
        if step.kind == "again":
            return learned_query(asking.source, asking.scope, learned)
        return scope_query(asking.source, asking.scope)

    def instead_of(self, step: Step) -> Step | None:
        """A scan instead of a query."""
        return self._scan("Datadog refused the query (400)") if step.kind in ("query", "again") else None

    def following(self, step: Step) -> Step | None:
        """What was learned while the window was asked is asked for once more, alone."""
        if step.kind in ("look", "scan"):
            return None
        if self._learned.overflows:
            return self._scan("more evaluator names were met than a query can carry")
        new = [entry for entry in self._learned.entries[step.count :] if not entry.startswith(GAP)]
        if new and self._round_count < _MAX_ROUNDS:
            self._round_count += 1
            return Step("again", step.count, len(self._learned), was_partial=step.was_partial)
        self._learned.add_gaps(new)
        return None

    def mode(self, step: Step) -> FilterMode:
        """A window that was read whole was scanned, whatever the filter mode."""
        if step.kind in ("query", "again"):
            return "query" if self._asking.filter_mode == "query" else "auto"
        return "scan"

    def _scan(self, reason: str) -> Step:
        self._report.warn(f"{self._asking.source}: {reason}, so the whole window is read instead")
        return Step("scan")


class EvaluatedPlan:
    """Everything that an evaluation could make a failure, of LLM Observability: `slice`, then `query`.

    A step "query" counts evaluators: the signal table's and Datadog's own, those of the settings, the learned ones. Should
    Datadog refuse the query for all of them, each half is asked for alone, and so on. What is learned on the way stands at
    the end of the list, so it is asked for next.

    A window of days is sampled in several places, from a random instant on: a slice of minutes could lie in a quiet hour.
    Where the first sample shows no evaluation, and none is known by name, there seem to be none, and it stays the only one.
    """

    slice_spans = SPREAD_SLICE_SPANS
    slice_page: int | None = SPREAD_SLICE_SPANS
    learns = True
    expects_spans = False

    def __init__(self, asking: Asking, learned: Learned) -> None:
        self._asking = asking
        self._learned = learned
        known = [*evaluation_entries(asking.thresholds), *(NAME + name for name in asking.evaluations)]
        self._known = list(dict.fromkeys(known))
        self._round_count = 0
        self._planned = self.size

    @property
    def size(self) -> int:
        """How many evaluators there are to ask for."""
        return len(self._entries())

    def first(self) -> Step:
        """Samples first, unless the filter mode is to do without."""
        return self.asking() if self._asking.filter_mode == "query" else Step("slice")

    def slices(self, window: Window, rng: random.Random) -> Iterator[Window]:
        """Pieces all over the window, only one where that shows no evaluation and no name is known."""
        for piece in spread_starts(window, SPREAD_SLICES, rng):
            yield piece
            if not self._learned.knows_evaluations:
                return

    def asking(self) -> Step:
        """The query for every evaluator that is known."""
        self._planned = self.size
        return Step("query", 0, self._planned)

    def is_asked_for(self, place: str) -> bool:
        """Evaluations are: what stands elsewhere on a span came with it, and was read before."""
        return place.startswith(NAME)

    def query(self, step: Step) -> str:
        """The query of a step."""
        asking = self._asking
        if step.kind == "slice":
            return scope_query(asking.source, asking.scope)
        return evaluated_query(asking.scope, asking.thresholds, self._entries()[step.first : step.count])

    def instead_of(self, step: Step) -> Step | None:
        """The first half of the evaluators, down to one."""
        if step.kind != "query" or step.count - step.first < 2:
            return None
        return replace(step, count=(step.first + step.count) // 2, from_ms=None)

    def following(self, step: Step) -> Step | None:
        """As many evaluators as were asked for last, as long as there are any that were not."""
        size = self.size
        if self._learned.overflows:
            self._learned.add_gaps([f"{NAME}(more than {MAX_NAMES} names)"])
        if step.count >= self._planned and size > step.count:
            if self._round_count == _MAX_ROUNDS:
                self._learned.add_gaps(self._entries()[step.count :])
                return None
            self._round_count += 1
            self._planned = size
        if step.count >= size:
            return None
        count = min(step.count + max(step.count - step.first, 1), size)
        return Step("query", step.count, count, was_partial=step.was_partial)

    def mode(self, step: Step) -> FilterMode:
        """Never a scan."""
        return "query" if self._asking.filter_mode == "query" else "auto"

    def _entries(self) -> list[str]:
        entries = [*self._known, *self._learned.entries]
        places = [entry.removeprefix(ANY) for entry in entries]
        return [
            entry
            for entry, place in zip(entries, places, strict=True)
            if place.startswith(NAME) and is_queryable(place.removeprefix(NAME))
        ]
