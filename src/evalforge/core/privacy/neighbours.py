"""What the spans of one trace tell about each other: values under sensitive keys, and who the user is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evalforge.core.canonical import canonical_json
from evalforge.core.privacy.echoes import NO_ECHOES, Echoes
from evalforge.core.privacy.identity import KeyRing, is_no_id, user_id_in
from evalforge.core.span import Span

MAX_RECENT_SPANS = 200
MAX_RECENT_BYTES = 4 << 20
"""What the remembered spans may take as JSON; the newest one is kept however large it is."""

MAX_SPANS_OF_TRACE = 200


@dataclass(frozen=True, slots=True)
class TraceContext:
    """What is known of a trace besides the span that is sanitized.

    `echoes` are the values under sensitive keys of all its spans that were read, that one included; None where it stands
    alone. `has_user` says that the capture which the span becomes part of names its user.
    """

    echoes: Echoes | None = None
    has_user: bool = False


ALONE = TraceContext()


@dataclass(slots=True)
class Neighbours:
    """The spans read last, so that the border between two pages rarely parts a trace. Bounded; holds raw spans."""

    _recent: deque[Span] = field(default_factory=lambda: deque(maxlen=MAX_RECENT_SPANS), repr=False)

    def remember(self, spans: Sequence[Span]) -> None:
        """Takes in spans that are not judged, oldest first: those before the place where a reading goes on."""
        self._recent.extend(spans[-MAX_RECENT_SPANS:])
        size_bytes = kept = 0
        for span in reversed(self._recent):
            size_bytes += _size(span)
            if kept and size_bytes > MAX_RECENT_BYTES:
                break
            kept += 1
        for _ in range(len(self._recent) - kept):
            self._recent.popleft()

    def traces(self, spans: Sequence[Span], failing: Iterable[Span]) -> dict[str, Trace]:
        """The traces that have a failing span on this page, by raw trace id, in the order of `failing`.

        `spans` are all of the page: healthy ones of a failing trace tell as well, healthy traces cost nothing.
        """
        traces: dict[str, Trace] = {}
        for span in failing:
            traces.setdefault(span.trace_id, Trace()).failing.append(span)
        if traces:
            for span in (*self._recent, *spans):
                trace = traces.get(span.trace_id)
                if trace is not None and len(trace.spans) < MAX_SPANS_OF_TRACE:
                    trace.spans.append(span)
        self.remember(spans)
        return traces

    def contexts(self, spans: Sequence[Span], failing: Iterable[Span], ring: KeyRing) -> dict[str, TraceContext]:
        """The context of each of these traces that has other spans too, by raw trace id."""
        traces = self.traces(spans, failing)
        return {trace_id: trace.context(ring) for trace_id, trace in traces.items() if len(trace.spans) > 1}


@dataclass(slots=True)
class Trace:
    """The spans of one trace that were read, in order, at most `MAX_SPANS_OF_TRACE`, and the failing ones of this page."""

    spans: list[Span] = field(default_factory=list, repr=False)
    failing: list[Span] = field(default_factory=list, repr=False)

    def context(self, ring: KeyRing) -> TraceContext:
        """What its spans tell about each other. Only a failing span's user counts: it is theirs that the capture names."""
        if len(self.spans) < 2:
            return ALONE
        return TraceContext(_echoes_of(self.spans), any(_names_user(span, ring) for span in self.failing))


def _echoes_of(spans: Sequence[Span]) -> Echoes:
    return NO_ECHOES.joined(Echoes.of(span) for span in spans)


def _names_user(span: Span, ring: KeyRing) -> bool:
    """Whether the span, as a part of its capture, brings a user hash."""
    try:
        return not is_no_id(span.span_id) and ring.user_hash(user_id_in(span)) is not None
    except Exception:  # noqa: BLE001 - an id that breaks the search names nobody
        return False


def _size(span: Span) -> int:
    """About how many bytes a span is as JSON."""
    try:
        return len(canonical_json(span.content))
    except (TypeError, ValueError, RecursionError):
        return MAX_RECENT_BYTES // MAX_RECENT_SPANS  # too odd to be written down, which large ones are not
