"""What the spans of one trace tell about each other: values under sensitive keys, and who the user is."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evalforge.core.privacy.echoes import NO_ECHOES, Echoes
from evalforge.core.privacy.identity import KeyRing, is_no_id, user_id_in
from evalforge.core.span import Span

MAX_RECENT_SPANS = 200
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

    def contexts(self, spans: Sequence[Span], failing: Iterable[Span], ring: KeyRing) -> dict[str, TraceContext]:
        """The context of each trace, by raw trace id, that has a failing span on this page and other spans too.

        `spans` are all of the page: healthy ones of a failing trace tell as well, healthy traces cost nothing. Only the user
        of a failing span counts: it is theirs that the capture names.
        """
        failed: dict[str, list[Span]] = {}
        for span in failing:
            failed.setdefault(span.trace_id, []).append(span)
        members: dict[str, list[Span]] = {trace_id: [] for trace_id in failed}
        if failed:
            for span in (*self._recent, *spans):
                known = members.get(span.trace_id)
                if known is not None and len(known) < MAX_SPANS_OF_TRACE:
                    known.append(span)
        self.remember(spans)
        return {
            trace_id: TraceContext(_echoes_of(known), any(_names_user(span, ring) for span in failed[trace_id]))
            for trace_id, known in members.items()
            if len(known) > 1
        }


def _echoes_of(spans: Sequence[Span]) -> Echoes:
    return NO_ECHOES.joined(Echoes.of(span) for span in spans)


def _names_user(span: Span, ring: KeyRing) -> bool:
    """Whether the span, as a part of its capture, brings a user hash."""
    try:
        return not is_no_id(span.span_id) and ring.user_hash(user_id_in(span)) is not None
    except Exception:  # noqa: BLE001 - an id that breaks the search names nobody
        return False
