"""What errors said, where LLM Observability does not tell: asked of APM by span id, last in a run.

LLM Observability does not export the error of a failing span; APM's span of the same id carries it. A span that is found
goes the way of every span: judged, sanitized, merged. So a capture is then what it would be had the window held that span.
It is an extra: whatever stops it is a warning, and the next run that reads the same failing spans asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from evalforge.core.ports import Checkpoint, Page, Source, Store, UpsertResult
from evalforge.core.privacy import Neighbours
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.errors import EvalForgeError
from evalforge.events import emit
from evalforge.ingest import Reading, Tally, store_page

MAX_SPANS = 20_000
"""How many failing spans of one run are remembered, by ids and start only: about 6 MB."""

SAME_START_NS = 1_000_000_000
"""How far apart the starts of two spans of one id may lie that are one: both have it from one clock."""

LATER = "a run that reads their spans again asks again"


@dataclass(slots=True)
class Untold:
    """The failing spans that a run has read of whose error no message is kept, as it goes on.

    `starts_ns` are their starts by trace id and span id; `left_out_count` counts those beyond the bound.
    """

    starts_ns: dict[tuple[str, str], int] = field(default_factory=dict)
    left_out_count: int = 0

    def hear(self, page: Page, result: UpsertResult) -> None:
        """Notes what became of a page's captures: the spans of it that are still untold, and those that APM has told of."""
        untold = frozenset(result.untold_errors)
        for span in page.spans:
            # An id that may not be stored as it is cannot be asked for: it differs from the stored one.
            key = (span.trace_id, span.span_id)
            if span.source == "apm":
                self.starts_ns.pop(key, None)
            elif key not in untold or span.start_ns <= 0:
                continue
            elif key in self.starts_ns or len(self.starts_ns) < MAX_SPANS:
                self.starts_ns[key] = span.start_ns
            else:
                self.left_out_count += 1


@dataclass(slots=True)
class ErrorDetails:
    """What came of asking what errors said.

    `looked_for` counts the failing spans without a message, `found` those of which APM had a span, `written` the captures
    that changed, and `left` the spans that were not asked for.
    """

    looked_for: int = 0
    found: int = 0
    written: int = 0
    left: int = 0
    warnings: list[str] = field(default_factory=list)

    def document(self) -> dict[str, int]:
        """The counts, for a run report."""
        return {"looked_for": self.looked_for, "found": self.found, "written": self.written, "left": self.left}


async def enrich(
    apm: Source, store: Store, untold: Untold, reading: Reading, *, should_stop: Callable[[], str | None]
) -> ErrorDetails:
    """Asks `apm` for the untold spans by id; what it has of them goes the way of a page under `reading`.

    `should_stop` is asked before each request and gives the code of a reason, or None to go on. No error of the source or
    of the store gets out: it becomes a warning.
    """
    total = len(untold.starts_ns) + untold.left_out_count
    details = ErrorDetails(looked_for=total, left=total)
    if not untold.starts_ns:
        return details
    wanted = _Wanted(untold.starts_ns)
    neighbours, tally = Neighbours(), Tally()
    stopped = apm.status.skipped
    try:
        async with aclosing(apm.by_span_id(wanted.starts_ns)) as batches:
            while stopped is None and (stopped := should_stop()) is None:
                batch = await anext(batches, None)
                if batch is None:
                    break
                twins = [twin for span in batch.spans if (twin := wanted.filed(span)) is not None]
                page = Page(twins, (), Checkpoint(apm.name, wanted.window, step="twins"))
                await store_page(apm, store, page, neighbours, reading, tally)
                details.left -= wanted.count(batch.span_ids)
                details.found += len({(twin.trace_id, twin.span_id) for twin in twins})
                details.written = tally.created + tally.updated
    except EvalForgeError as error:
        stopped = error.message
    if stopped is not None:
        details.warnings.append(f"{details.left} errors were not asked of {apm.name} ({stopped}); {LATER}")
    elif untold.left_out_count:
        details.warnings.append(
            f"{untold.left_out_count} errors were not asked of {apm.name}: a run remembers {MAX_SPANS}; {LATER}"
        )
    emit("errors.enriched", run_id=reading.run_id, **details.document())
    return details


class _Wanted:
    """The untold spans by id, each with its start, and which trace a span of that id belongs to."""

    def __init__(self, untold: Mapping[tuple[str, str], int]) -> None:
        self._untold = untold
        self._traces: dict[str, list[str]] = {}
        for trace_id, span_id in untold:
            self._traces.setdefault(span_id, []).append(trace_id)
        self.starts_ns = {span_id: untold[traces[0], span_id] for span_id, traces in self._traces.items()}
        starts_ms = [start_ns // 1_000_000 for start_ns in untold.values()]
        self.window = Window(min(starts_ms), max(starts_ms) + 1)

    def count(self, span_ids: Sequence[str]) -> int:
        """How many untold spans have one of these ids."""
        return sum(len(self._traces[span_id]) for span_id in span_ids)

    def filed(self, span: Span) -> Span | None:
        """The span under the trace of the untold span that it is; None when it is another one of the same id.

        Entry spans name the trace. Of the others only id and start tell, so where several traces could be meant it is none.
        """
        traces = self._traces.get(span.span_id, [])
        if span.trace_id_kind == "llm_obs":
            return span if span.trace_id in traces else None
        close = [one for one in traces if abs(self._untold[one, span.span_id] - span.start_ns) <= SAME_START_NS]
        return replace(span, trace_id=close[0], trace_id_kind="llm_obs") if len(close) == 1 else None
