"""Spans in memory, in the order of time, with the evaluations that belong to them."""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

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

    `now` gives seconds since the Unix epoch: the start of a span that does not tell its own.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget every span and evaluation."""
        with self._lock:
            self._timelines: dict[Source, Timeline] = {"llm_obs": Timeline(), "apm": Timeline()}
            self._by_span_id: dict[str, list[Span]] = defaultdict(list)
            self._waiting: dict[str, list[tuple[str | None, str, Json]]] = defaultdict(list)
            self._arrivals = 0

    def count(self, source: Source) -> int:
        """Return how many spans of a source there are."""
        return len(self._timelines[source])

    def add_llm_obs(self, loaded: Iterable[Json]) -> int:
        """Add LLM Observability spans and return how many; each is an export's attributes, or a whole item."""
        added = 0
        with self._lock:
            for one in loaded:
                item, unexported = llm_obs_item(one)
                span = Span(item, (0, 0), unexported)
                span.position = self._place(start_of_llm_obs(span.attributes))
                self._timelines["llm_obs"].add(span)
                self._join_waiting(span)
                added += 1
        return added

    def add_apm(self, loaded: Iterable[Json]) -> int:
        """Add APM items and return how many."""
        added = 0
        with self._lock:
            for one in loaded:
                span = Span(apm_item(one), (0, 0))
                span.position = self._place(start_of_apm(span.attributes))
                self._timelines["apm"].add(span)
                added += 1
        return added

    def add_evaluation(self, span_id: str, name: str, verdict: Json, trace_id: str | None = None) -> bool:
        """Attach an evaluator's verdict to a span, and tell whether the span is already there.

        A verdict that comes before its span waits for it. A second verdict under one name replaces the first.
        """
        with self._lock:
            spans = [s for s in self._by_span_id.get(span_id, ()) if _is_of_trace(s, trace_id)]
            for span in spans:
                _attach(span, name, verdict)
            if not spans:
                self._waiting[span_id].append((trace_id, name, verdict))
            return bool(spans)

    def between(
        self, source: Source, from_ns: int, to_ns: int, after: Position | None = None, newest_first: bool = False
    ) -> Sequence[Span]:
        """Return the spans of a source that start in a window, both ends included, in reading order."""
        with self._lock:
            return self._timelines[source].between(from_ns, to_ns, after, newest_first)

    def _place(self, start_ns: int | None) -> Position:
        self._arrivals += 1
        return (int(self._now() * 1e9) if start_ns is None else start_ns, self._arrivals)

    def _join_waiting(self, span: Span) -> None:
        span_id = span.attributes.get("span_id")
        if not isinstance(span_id, str):
            return
        self._by_span_id[span_id].append(span)
        waiting = self._waiting.pop(span_id, [])
        for trace_id, name, verdict in waiting:
            if _is_of_trace(span, trace_id):
                _attach(span, name, verdict)
            else:
                self._waiting[span_id].append((trace_id, name, verdict))


def _is_of_trace(span: Span, trace_id: str | None) -> bool:
    return trace_id is None or span.attributes.get("trace_id") == trace_id


def _attach(span: Span, name: str, verdict: Json) -> None:
    if not isinstance(span.attributes, dict):
        return
    # Replaced, not changed in place: a page that is being written keeps the verdicts it was built with.
    known = span.attributes.get("evaluation")
    span.attributes["evaluation"] = {**(known if isinstance(known, dict) else {}), name: verdict}
