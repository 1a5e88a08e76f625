"""Reading a window from Datadog so that no failure is missed and few healthy spans are fetched.

Server-side queries cannot say "any evaluation that failed", so in mode `auto` the query is tried on a random slice of the
window before the window is asked: what it misses there is learned first. A window that is small is read whole instead.
The steps are in `steps`; every page's checkpoint says in which one it was read, so that a killed run goes on exactly there.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace

from evalforge.core.ports import Checkpoint, FilterMode, Page, Reach, Rejected, SourceStatus
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span, TraceIdKind
from evalforge.core.window import Window
from evalforge.errors import SourceRefusedError
from evalforge.sources.datadog.client import DatadogClient
from evalforge.sources.datadog.paging import Pagination, Part, page_size_for
from evalforge.sources.datadog.query import (
    ANY,
    NAME,
    Scope,
    failure_query,
    learned_query,
    scope_query,
    settings_digest,
)
from evalforge.sources.datadog.report import Report
from evalforge.sources.datadog.roots import batches, roots_query
from evalforge.sources.datadog.spans import PARSERS
from evalforge.sources.datadog.steps import (
    FIRST_SLICE_MS,
    GAP,
    MAX_SLICE_FAILURES,
    MAX_SLICE_SPANS,
    SLICE_MS,
    Learned,
    Step,
    existence_of,
    is_small,
    parse_step,
    random_slice,
    shown_place,
)

_REQUEST_REFUSED = frozenset({400, 413, 414, 422})
_MAX_ROUNDS = 3


class DatadogSource:
    """One of Datadog's two searches ("llm_obs" or "apm") as a `ports.Source`.

    `evaluations` are evaluator names to ask for beyond the signal table's. `apm_scope` is the query that APM spans must
    match. `rng` chooses the slice that the query is tried on. `status` grows over all windows that are read.

    `query_digest` changes when the settings change what is fetched or how it is judged; checkpoints carry it.
    """

    def __init__(
        self,
        client: DatadogClient,
        name: str,
        *,
        thresholds: Thresholds,
        filter_mode: FilterMode = "auto",
        ml_apps: tuple[str, ...] = (),
        envs: tuple[str, ...] = (),
        apm_scope: str = "@llmobs_trace_id:*",
        evaluations: tuple[str, ...] = (),
        include_attachments: bool = False,
        rng: random.Random | None = None,
    ) -> None:
        self.client = client
        self.name = name
        self.thresholds = thresholds
        self.filter_mode: FilterMode = filter_mode
        self.scope = Scope(ml_apps, envs, apm_scope)
        self.evaluations = evaluations
        self.include_attachments = include_attachments
        self.rng = rng or random.Random()
        self.status = SourceStatus(name, mode=filter_mode)
        self.report = Report(self.status, filter_mode)
        self.query_digest = settings_digest(name, filter_mode, self.scope, thresholds, evaluations)

    def in_scope(self, span: Span) -> bool:
        """Whether `span` may count as a failure: of a wanted application and environment, and no experiment."""
        return self.scope.contains(span)

    def pages(self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all") -> AsyncGenerator[Page, None]:
        """What `fetch_recent_failures` gives."""
        return self.fetch_recent_failures(window, after)

    async def fetch_recent_failures(self, window: Window, after: Checkpoint | None = None) -> AsyncGenerator[Page, None]:
        """The pages of `window` that hold every span that could be a failure, oldest first; healthy ones come along.

        Reading goes on where `after` says, if it is an unfinished checkpoint of this window under the same settings;
        otherwise only what it has learned is used. The last page's checkpoint is `done`, except when Datadog's answers
        stayed partial: then it begins the window anew, and `status.partial` says so. APM without permission (403) is
        `status.skipped` and one empty page.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        is_first = True
        try:
            async for page in _Reading(self, window, after).pages():
                is_first = False
                yield page
        except SourceRefusedError as refused:
            if not (self.name == "apm" and refused.status == 403 and is_first):
                raise
            self.status.skipped = "the keys may not search APM spans (403)"
            learned = after.learned if after else ()
            yield Page((), (), Checkpoint(self.name, window, self.query_digest, learned=learned, done=True))

    async def roots(self, traces: Mapping[str, TraceIdKind], window: Window) -> AsyncGenerator[Sequence[Span], None]:
        """The spans that may name the users of these traces, one list for each request; see `roots`.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        parse = PARSERS[self.name]
        size = page_size_for(self.name)
        for batch in batches(self.name, traces):
            query = roots_query(self.name, batch)
            pagination = Pagination(self.client, self.name, query, window, size=size, status=self.status)
            while (part := await pagination.next()) is not None:
                if part.is_partial:
                    self.report.warn(f"{self.name}: answers stayed partial while users were looked up; some may be missing")
                yield [span for item in part.items if isinstance(span := parse(item), Span)]


class _Reading:
    """One window being read. Holds no span: of the slice only the ids of failing spans, at most 10,000."""

    def __init__(self, source: DatadogSource, window: Window, after: Checkpoint | None) -> None:
        self._source = source
        self._report = source.report
        self._window = window
        self._parse = PARSERS[source.name]
        self._size = page_size_for(source.name)
        self._learned = Learned(after.learned if after else (), source.evaluations, source.thresholds)
        self._has_history = after is not None and (after.done or bool(after.learned))
        self._resumed = _resumable(after, source, window)
        self._next: Step | None = None
        self._round_count = 0
        self._item_count = 0

    async def pages(self) -> AsyncGenerator[Page, None]:
        """Every page of the window, step by step."""
        step, cursor, last_ms = self._beginning()
        while step is not None:
            self._next = None
            reader = self._read_slice(step) if step.kind == "slice" else self._read_window(step, cursor, last_ms)
            async for page in reader:
                yield page
            step, cursor, last_ms = self._next, None, None

    def _beginning(self) -> tuple[Step | None, str | None, int | None]:
        if self._resumed is not None:
            checkpoint, step = self._resumed
            if step.was_partial:
                self._report.partial()
            return step, checkpoint.cursor, checkpoint.last_ms
        if self._source.filter_mode == "scan":
            return Step("scan"), None, None
        if self._learned.overflows:
            return self._scan_instead("more evaluator names are known than a query can carry"), None, None
        if self._source.filter_mode == "query":
            return Step("query", 0, len(self._learned)), None, None
        return Step("look"), None, None

    # -- the window ---------------------------------------------------------------------------------------------------

    async def _read_window(self, step: Step, cursor: str | None, last_ms: int | None) -> AsyncGenerator[Page, None]:
        look_from_ms = self._window.from_ms if last_ms is None else last_ms
        look_count = 0
        pagination = self._pagination(step, cursor)
        while True:
            try:
                part = await pagination.next()
            except SourceRefusedError as refused:
                if refused.status not in _REQUEST_REFUSED:
                    raise
                instead = self._instead_of(step, pagination.cursor, last_ms)
                if instead is None:
                    raise
                if instead.kind != step.kind:
                    self._next = instead
                    return
                step, pagination = instead, self._pagination(instead, None)
                continue
            if part is None:
                return
            spans, rejected = self._parsed(part)
            step = self._marked(step, part)
            last_ms = self._last_ms(spans, last_ms)
            if part.is_last:
                self._next = self._following(step)
            elif step.kind == "look":
                look_count += len(part.items)
                if not is_small(look_count, look_from_ms, last_ms or look_from_ms, self._window):
                    self._next = Step("slice", was_partial=step.was_partial)
            position = (step, part.cursor, last_ms) if self._next is None else (self._next, None, None)
            yield self._page(spans, rejected, *position, is_end=part.is_last and self._next is None)
            if self._next is not None:
                return

    def _instead_of(self, step: Step, cursor: str | None, last_ms: int | None) -> Step | None:
        """What to read after Datadog refused a request of `step`; None when nothing is left to try."""
        if cursor is not None:
            # The cursor has died. Its page began after the newest span that was read, so nothing is lost from there on.
            from_ms = self._window.from_ms if last_ms is None else last_ms
            return replace(step, from_ms=from_ms) if step.from_ms is None or step.from_ms < from_ms else None
        if step.kind in ("query", "again"):
            return self._scan_instead("Datadog refused the query (400)")
        return None

    def _following(self, step: Step) -> Step | None:
        """The step after `step` has come to its end; None when the window is read."""
        if step.kind in ("look", "scan"):
            self._report.used("scan")
            return None
        if self._learned.overflows:
            return self._scan_instead("more evaluator names were met than a query can carry")
        new = [entry for entry in self._learned.entries[step.count :] if not entry.startswith(GAP)]
        if new and self._round_count < _MAX_ROUNDS:
            self._round_count += 1
            return Step("again", step.count, len(self._learned), was_partial=step.was_partial)
        self._add_gaps(new)
        return None

    def _scan_instead(self, reason: str) -> Step:
        self._report.used("scan")
        self._report.warn(f"{self._source.name}: {reason}, so the whole window is read instead")
        return Step("scan")

    # -- the slice ----------------------------------------------------------------------------------------------------

    async def _read_slice(self, step: Step) -> AsyncGenerator[Page, None]:
        """Reads a random piece of the window without a query, then learns what the query would have missed there."""
        piece = random_slice(self._window, SLICE_MS if self._has_history else FIRST_SLICE_MS, self._source.rng)
        failing: dict[tuple[str, str], tuple[str, ...]] = {}
        count = 0
        last_ms = None
        pagination = self._pagination(step, None, piece)
        while True:
            try:
                part = await pagination.next()
            except SourceRefusedError as refused:
                if refused.status not in _REQUEST_REFUSED or pagination.cursor is None:
                    raise
                break  # the cursor has died; what was read of the slice is enough to go by
            if part is None:
                break
            spans, rejected = self._parsed(part)
            step = self._marked(step, part)
            last_ms = self._last_ms(spans, last_ms)
            count += len(part.items)
            failing.update(self._failing(spans))
            is_end = part.is_last and piece == self._window
            if is_end:
                self._report.used("scan")
            yield self._page(spans, rejected, step, None, None, is_end=is_end)
            if is_end:
                return
            if count >= MAX_SLICE_SPANS or len(failing) >= MAX_SLICE_FAILURES:
                break
        if last_ms is not None and pagination.cursor is not None:
            piece = Window(piece.from_ms, max(last_ms, piece.from_ms) + 1)
        self._next = replace(await self._calibrated(piece, failing), was_partial=step.was_partial)

    async def _calibrated(self, piece: Window, failing: Mapping[tuple[str, str], tuple[str, ...]]) -> Step:
        """The step that reads the window, after whatever the query misses among `failing` was learned."""
        if self._learned.overflows:
            return self._scan_instead("more evaluator names were met than a query can carry")
        try:
            missed = await self._missed(piece, failing)
            if missed:
                learned = [place for place in _places(missed) if self._learned.add(existence_of(place))]
                gaps = _places(await self._missed(piece, missed))
                self._add_gaps(gaps)
                self._report.learned(place for place in learned if place not in gaps)
        except SourceRefusedError as refused:
            if refused.status not in _REQUEST_REFUSED:
                raise
            return self._scan_instead("Datadog refused the query (400)")
        self._report.used("auto")
        return Step("query", 0, len(self._learned))

    async def _missed(
        self, piece: Window, failing: Mapping[tuple[str, str], tuple[str, ...]]
    ) -> dict[tuple[str, str], tuple[str, ...]]:
        """Those of `failing` that the query does not find in `piece`."""
        missed = dict(failing)
        pagination = self._pagination(Step("query", 0, len(self._learned)), None, piece)
        while missed and (part := await pagination.next()) is not None:
            for item in part.items:
                span = self._parse(item)
                if isinstance(span, Span):
                    missed.pop((span.trace_id, span.span_id), None)
        return missed

    def _failing(self, spans: list[Span]) -> dict[tuple[str, str], tuple[str, ...]]:
        found = {}
        for span in spans:
            signals = find_signals(span, self._source.thresholds) if self._source.in_scope(span) else ()
            if signals:
                found[span.trace_id, span.span_id] = tuple({signal.place for signal in signals})
        return found

    # -- pages and what is said of them -------------------------------------------------------------------------------

    def _pagination(self, step: Step, cursor: str | None, window: Window | None = None) -> Pagination:
        if window is None:
            window = self._window if step.from_ms is None else Window(step.from_ms, self._window.to_ms)
        return Pagination(
            self._source.client,
            self._source.name,
            self._query(step),
            window,
            size=self._size,
            status=self._source.status,
            cursor=cursor,
            include_attachments=self._source.include_attachments,
        )

    def _query(self, step: Step) -> str:
        source = self._source
        learned = self._learned.entries[step.first : step.count]
        if step.kind == "query":
            names = [NAME + name for name in source.evaluations]
            return failure_query(source.name, source.scope, source.thresholds, [*names, *learned])
        if step.kind == "again":
            return learned_query(source.name, source.scope, learned)
        return scope_query(source.name, source.scope)

    def _parsed(self, part: Part) -> tuple[list[Span], list[Rejected]]:
        spans: list[Span] = []
        rejected: list[Rejected] = []
        for item in part.items:
            outcome = self._parse(item)
            if isinstance(outcome, Span):
                spans.append(outcome)
            else:
                rejected.append(outcome)
        self._item_count += len(part.items)
        self._report.read(len(part.items))
        if self._source.filter_mode != "scan":
            self._report.learned(self._learned.add_names(spans))
        return spans, rejected

    def _marked(self, step: Step, part: Part) -> Step:
        if not part.is_partial:
            return step
        self._report.partial()
        return replace(step, was_partial=True)

    def _last_ms(self, spans: list[Span], last_ms: int | None) -> int | None:
        """The start of the newest span read, as far as it lies in the window: a span's own clock may be wrong."""
        for span in reversed(spans):
            start_ms = span.start_ns // 1_000_000
            if self._window.from_ms <= start_ms < self._window.to_ms:
                return start_ms
        return last_ms

    def _page(
        self,
        spans: list[Span],
        rejected: list[Rejected],
        step: Step,
        cursor: str | None,
        last_ms: int | None,
        *,
        is_end: bool,
    ) -> Page:
        checkpoint = Checkpoint(
            self._source.name, self._window, self._source.query_digest, str(step), cursor, last_ms, self._learned.entries
        )
        if is_end:
            # A window that stayed partial is to be read again from its beginning: it is not known where spans are missing.
            checkpoint = Checkpoint(
                self._source.name,
                self._window,
                self._source.query_digest,
                learned=self._learned.lasting,
                done=not step.was_partial,
            )
            if step.kind in ("query", "again"):
                self._report.gaps(self._learned.gaps)
            if not self._item_count and self._resumed is None:
                scope = self._source.scope
                self._report.nothing_found(self._source.name, is_limited=bool(scope.ml_apps or scope.envs))
        return Page(spans, rejected, checkpoint)

    def _add_gaps(self, places: list[str]) -> None:
        for place in places:
            self._learned.add(GAP + shown_place(place.removeprefix(ANY)))


def _places(missed: Mapping[tuple[str, str], tuple[str, ...]]) -> list[str]:
    return sorted({place for places in missed.values() for place in places})


def _resumable(after: Checkpoint | None, source: DatadogSource, window: Window) -> tuple[Checkpoint, Step] | None:
    if after is None or after.done or after.window != window or after.query_digest != source.query_digest:
        return None
    step = parse_step(after.step)
    if step is None or step.count > len(after.learned):
        return None
    if step.from_ms is not None and not window.from_ms <= step.from_ms < window.to_ms:
        return None
    return after, step
