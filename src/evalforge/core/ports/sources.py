"""Sources: what gives the spans of a window, page by page."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from evalforge.core.span import Span, TraceIdKind
from evalforge.core.window import MS_PER_HOUR, Window

LOOKBACK = "lookback"
"""The tier of runs over a window that somebody asked for."""

Reach = Literal["all", "evaluated"]
"""Which spans a reading is after: every one that could be a failure, or those that an evaluation could make one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a source's reading of one window stands, after all pages before it were stored.

    `step` and `cursor` belong to the source; `query_digest` tells whether the settings are still those the cursor was made
    under. `last_ms` is the start of the newest item stored (epoch milliseconds), from which reading goes on, inclusive, when
    the cursor has died. `learned` are the evaluator names (and other places) found on spans, kept for later runs.
    `done` says that the window was read to its end. `tier` says for which series of windows this one was read, and
    `began_ms` when its reading began (epoch milliseconds): both are the run's, a source leaves them alone.
    """

    source: str
    window: Window
    query_digest: str = ""
    step: str = ""
    cursor: str | None = None
    last_ms: int | None = None
    learned: tuple[str, ...] = ()
    done: bool = False
    tier: str = LOOKBACK
    began_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an unfinished backfill has read of a source, under the settings of `query_digest`: windows apart, ascending.

    `saved_at` is when the first of them was read.
    """

    source: str
    query_digest: str
    saved_at: datetime
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item of a page that is no span. `item` is raw: it becomes a dead letter without text, then it is forgotten."""

    reason: str
    item: Any
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(slots=True)
class FoundById:
    """What a source has of the spans with these ids, at least one; `is_partial` says that some may be missing."""

    span_ids: Sequence[str]
    spans: list[Span] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a source: every item is in `spans` or in `rejected`, so `item_count` is their sum.

    `checkpoint` is to be saved once the page is stored.
    """

    spans: Sequence[Span]
    rejected: Sequence[Rejected]
    checkpoint: Checkpoint

    @property
    def item_count(self) -> int:
        """How many items the page held."""
        return len(self.spans) + len(self.rejected)


FilterMode = Literal["query", "scan", "auto"]


@dataclass(slots=True)
class SourceStatus:
    """What a source can say of its reading so far; it grows while pages are read.

    `mode` is the filter in effect; `filter_gaps` are the places whose failures the query missed and still misses, `learned`
    those that it missed first and finds now. `partial` says that Datadog gave incomplete pages to the end. `skipped` is why
    the source was left out, where it was. `rate_limit` holds limit, remaining, period_s, reset_s, told_at and resets_at
    (ISO 8601, UTC) as last told.
    """

    name: str
    mode: str = "auto"
    request_count: int = 0
    retry_count: int = 0
    page_count: int = 0
    item_count: int = 0
    filter_gaps: list[str] = field(default_factory=list)
    learned: list[str] = field(default_factory=list)
    partial: bool = False
    skipped: str | None = None
    warnings: list[str] = field(default_factory=list)
    rate_limit: dict[str, float | str] = field(default_factory=dict)


class Scoped(Protocol):
    """What judging has to know of a source: its name, and which of its spans count."""

    @property
    def name(self) -> str:
        """The name that its dead letters and events carry."""
        ...

    def in_scope(self, span: Span) -> bool:
        """Whether a span may count as a failure."""
        ...


class Source(Protocol):
    """Something that gives spans of a window, page by page.

    `query_digests`, one for each reach, are those of the checkpoints it gives under the present settings.
    """

    name: str
    status: SourceStatus
    query_digests: Mapping[Reach, str]

    def in_scope(self, span: Span) -> bool:
        """Whether a span of this source may count as a failure: of the wanted applications and environments, no experiment.

        Pages may hold spans that are not in scope; they are healthy whatever they carry.
        """
        ...

    def pages(self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all") -> AsyncGenerator[Page, None]:
        """The pages of `window`, oldest spans first; those after `after` when it is an unfinished checkpoint of it.

        With `reach` "evaluated" they hold every span that an evaluation could make a failure, and few others, whatever the
        filter: for windows that were read before, whose spans were evaluated since. A source without evaluations gives one
        empty page for no request. A checkpoint of one reach is none of the other's.

        The last page's checkpoint is `done`, unless `status.partial`: then it begins the window anew. A window without items
        gives one empty page. `after` may also be a finished checkpoint: then only what it has learned is used.

        Raises:
            SourceRefusedError: the keys or the request were refused.
            SourceUnavailableError: down for longer than the retry budget; pages already given stay good.
            QuotaExhaustedError: the rate limit resets later than the retry budget.
        """
        ...

    async def spans_before(self, window: Window, before_ms: int, limit: int) -> Sequence[Span]:
        """The last spans of `window` that began at or before `before_ms` (epoch), at most `limit`, oldest first.

        One request, for what they tell about the spans after them; they were judged before. None where it is refused.

        Raises:
            SourceUnavailableError, QuotaExhaustedError
        """
        ...

    def roots(self, traces: Mapping[str, TraceIdKind], window: Window) -> AsyncGenerator[Sequence[Span], None]:
        """The spans of these traces (stored ids) that may name their users: roots and entry spans, healthy ones too.

        One request for each list given. Only spans that began in `window`; traces that cannot be asked for are left out.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError: spans already given stay good.
        """
        ...

    def by_span_id(self, starts_ns: Mapping[str, int], *, before_ms: int = MS_PER_HOUR) -> AsyncGenerator[FoundById, None]:
        """The spans with these ids, of whatever trace and however they ended, batch by batch.

        `starts_ns` are the ids with about when each span began (nanoseconds since the epoch): at most `before_ms` before
        that, and an hour after. Ids that cannot be asked for are left out.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError: spans already given stay good.
        """
        ...
