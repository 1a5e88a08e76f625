"""Spans in memory, in the order of time, with the evaluations that belong to them."""

from __future__ import annotations

import heapq
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from operator import attrgetter

from evalforge.sandbox.joining import Joins, Verdict
from evalforge.sandbox.shapes import shape_of
from evalforge.sandbox.spans import (
    Json,
    Source,
    Span,
    apm_item,
    llm_obs_item,
    start_of_apm,
    start_of_llm_obs,
)

Position = tuple[int, int]
_position = attrgetter("position")


class Timeline:
    """Spans sorted by position. Loading is cheap: the sort happens at the next look."""

    def __init__(self) -> None:
        self._spans: list[Span] = []
        self._is_sorted = True

    def __len__(self) -> int:
        return len(self._spans)

    def add(self, span: Span) -> None:
        """Put a span in its place."""
        self._is_sorted = self._is_sorted and (not self._spans or self._spans[-1].position < span.position)
        self._spans.append(span)

    def between(self, from_ns: int, to_ns: int, after: Position | None, newest_first: bool) -> Sequence[Span]:
        """Return a copy of the spans that start in a window, both ends included, in reading order.

        `after` is the position of the last span already read.
        """
        if not self._is_sorted:
            self._spans.sort(key=_position)
            self._is_sorted = True
        low = bisect_left(self._spans, (from_ns, 0), key=_position)
        high = bisect_left(self._spans, (to_ns + 1, 0), key=_position)
        if after is not None and newest_first:
            high = min(high, bisect_left(self._spans, after, key=_position))
        elif after is not None:
            low = max(low, bisect_right(self._spans, after, key=_position))
        window = self._spans[low:high]
        return window[::-1] if newest_first else window


class Store:
    """Everything that was loaded. Safe to fill from one thread while another searches.

    `now` gives seconds since the Unix epoch: the start of a span that does not tell its own. `evaluation_delay_s` is how
    long evaluations and feedback stay unseen after they arrive, however they do.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.evaluation_delay_s = 0.0
        self.clear()

    def clear(self) -> None:
        """Forget every span and evaluation."""
        with self._lock:
            self._timelines: dict[Source, Timeline] = {"llm_obs": Timeline(), "apm": Timeline()}
            self._joins = Joins()
            self._late: list[tuple[float, int, Verdict]] = []
            self._arrivals = count(1)

    def count(self, source: Source) -> int:
        """Return how many spans of a source there are."""
        return len(self._timelines[source])

    def waiting(self) -> int:
        """Return how many evaluations and feedbacks are not on a span yet: it is not there, or they are late."""
        with self._lock:
            self._release()
            return self._joins.waiting + len(self._late)

    def add_llm_obs(self, loaded: Iterable[Json]) -> int:
        """Add LLM Observability spans and return how many; each is an export's attributes, or a whole item."""
        added = 0
        with self._lock:
            for one in loaded:
                item, unexported = llm_obs_item(one)
                span = Span(item, (0, 0), unexported)
                span.position = self._place(start_of_llm_obs(span.attributes))
                self._timelines["llm_obs"].add(span)
                if self.evaluation_delay_s:
                    self._make_late(span)
                self._joins.add_span(span)
                shape_of(span)  # now, so that no search has to wait for it
                added += 1
        return added

    def add_apm(self, loaded: Iterable[Json]) -> int:
        """Add APM items and return how many."""
        added = 0
        with self._lock:
            for one in loaded:
                item, unexported = apm_item(one)
                span = Span(item, (0, 0), unexported)
                span.position = self._place(start_of_apm(span.attributes))
                self._timelines["apm"].add(span)
                shape_of(span)
                added += 1
        return added

    def add_evaluation(self, span_id: str, name: str, content: Json, trace_id: str | None = None) -> bool:
        """Attach an evaluator's verdict to a span by its id, and tell whether it is there: `add_verdict` in short."""
        return self.add_verdict(Verdict(name, content, ("span", span_id), trace_id))

    def add_verdict(self, verdict: Verdict) -> bool:
        """Attach a verdict to its span, and tell whether it is there; it waits for its span, and for its delay."""
        with self._lock:
            if self.evaluation_delay_s:
                self._postpone(verdict)
                return False
            return self._joins.add_verdict(verdict)

    def between(
        self, source: Source, from_ns: int, to_ns: int, after: Position | None = None, newest_first: bool = False
    ) -> Sequence[Span]:
        """Return the spans of a source that start in a window, both ends included, in reading order."""
        with self._lock:
            self._release()
            return self._timelines[source].between(from_ns, to_ns, after, newest_first)

    def _place(self, start_ns: int | None) -> Position:
        return (int(self._now() * 1e9) if start_ns is None else start_ns, next(self._arrivals))

    def _make_late(self, span: Span) -> None:
        """Take from a span the evaluations that it was loaded with, for later."""
        span_id, trace_id = span.attributes.get("span_id"), span.attributes.get("trace_id")
        evaluations = span.attributes.get("evaluation")
        if isinstance(evaluations, dict) and isinstance(span_id, str) and isinstance(span.attributes, dict):
            del span.attributes["evaluation"]
            for name, content in evaluations.items():
                self._postpone(Verdict(name, content, ("span", span_id), trace_id))

    def _postpone(self, verdict: Verdict) -> None:
        heapq.heappush(self._late, (self._now() + self.evaluation_delay_s, next(self._arrivals), verdict))

    def _release(self) -> None:
        """Join the late verdicts whose time has come."""
        while self._late and self._late[0][0] <= self._now():
            self._joins.add_verdict(heapq.heappop(self._late)[2])
