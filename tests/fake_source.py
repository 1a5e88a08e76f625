"""A source at the port: it gives the pages it was given, honours checkpoints, and fails where it is told to."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from evalforge.core.ports import Checkpoint, FoundById, Page, Reach, Rejected, SourceStatus
from evalforge.core.span import Span, TraceIdKind
from evalforge.core.window import MS_PER_HOUR, Window
from evalforge.errors import EvalForgeError


@dataclass
class FakeSource:
    """Spans in pages of `page_size`, oldest first. `fail_after` pages it raises `error` instead of the next page.

    With `everything`, spans are given whatever the window. The reach "evaluated" has the spans with evaluations.
    `root_spans` are what `roots` finds, for `page_size` traces a request; after `fail_roots_after` of these it raises
    `error`. `twin_spans` are what `by_span_id` finds, likewise; it too fails after `fail_roots_after` requests.
    """

    items: Sequence[Span | Rejected]
    name: str = "llm_obs"
    page_size: int = 2
    error: EvalForgeError | None = None
    fail_after: int = 1_000_000
    everything: bool = False
    status: SourceStatus = field(init=False)
    query_digests: Mapping[Reach, str] = field(default_factory=lambda: {"all": "d", "evaluated": "e"})
    asked: list[tuple[Window, Checkpoint | None]] = field(default_factory=list)
    asked_reaches: list[Reach] = field(default_factory=list)
    root_spans: Sequence[Span] = ()
    fail_roots_after: int = 1_000_000
    asked_roots: list[list[str]] = field(default_factory=list)
    twin_spans: Sequence[Span | Rejected] = ()
    asked_twins: list[list[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.status = SourceStatus(self.name, mode="scan")

    def in_scope(self, span: Span) -> bool:
        return span.kind != "experiment"

    async def pages(
        self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all"
    ) -> AsyncGenerator[Page, None]:
        self.asked.append((window, after))
        self.asked_reaches.append(reach)
        inside = [
            item
            for item in self.items
            if self.everything
            or not isinstance(item, Span)
            or (window.from_ms <= ms(item) < window.to_ms and (reach == "all" or item.evaluations))
        ]
        begin = int(after.cursor or 0) if after is not None and not after.done else 0
        for number, at in enumerate(range(begin, max(len(inside), begin + 1), self.page_size)):
            if number >= self.fail_after and self.error is not None:
                raise self.error
            part = inside[at : at + self.page_size]
            done = at + self.page_size >= len(inside)
            spans = [item for item in part if isinstance(item, Span)]
            self.status.request_count += 1
            yield Page(
                spans=spans,
                rejected=[item for item in part if isinstance(item, Rejected)],
                checkpoint=Checkpoint(
                    self.name,
                    window,
                    query_digest=self.query_digests[reach],
                    step="scan",
                    cursor=None if done else str(at + self.page_size),
                    last_ms=max((ms(span) for span in spans), default=None),
                    done=done,
                ),
            )

    async def spans_before(self, window: Window, before_ms: int, limit: int) -> Sequence[Span]:
        inside = [item for item in self.items if isinstance(item, Span) and window.from_ms <= ms(item) <= before_ms]
        return inside[-limit:]

    async def roots(self, traces: Mapping[str, TraceIdKind], window: Window) -> AsyncGenerator[Sequence[Span], None]:
        wanted = list(traces)
        for at in range(0, len(wanted), self.page_size):
            self.asked_roots.append(wanted[at : at + self.page_size])
            if len(self.asked_roots) > self.fail_roots_after:
                raise self.error or AssertionError("no error was given")
            self.status.request_count += 1
            yield [span for span in self.root_spans if span.trace_id in self.asked_roots[-1]]

    async def by_span_id(
        self, starts_ns: Mapping[str, int], *, before_ms: int = MS_PER_HOUR
    ) -> AsyncGenerator[FoundById, None]:
        wanted = list(starts_ns)
        for at in range(0, len(wanted), self.page_size):
            self.asked_twins.append(wanted[at : at + self.page_size])
            if len(self.asked_twins) > self.fail_roots_after:
                raise self.error or AssertionError("no error was given")
            self.status.request_count += 1
            found = [item for item in self.twin_spans if item.span_id in self.asked_twins[-1]]
            spans = [item for item in found if isinstance(item, Span)]
            yield FoundById(self.asked_twins[-1], spans, [item for item in found if isinstance(item, Rejected)])


def ms(span: Span) -> int:
    """When the span began, in epoch milliseconds."""
    return span.start_ns // 1_000_000
