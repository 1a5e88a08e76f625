"""Reading a window from Datadog so that no failure is missed and few healthy spans are fetched.

Server-side queries cannot say "any evaluation that failed", so in mode `auto` the query is tried on random slices of the
window before the window is asked: what it misses there is learned first. A window that is small is read whole instead.
The steps are in `steps`, the choice between them in `plans`; every page's checkpoint says in which step it was read, so that
a killed run goes on exactly there.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, get_args

from evalforge.core.ports import Checkpoint, FilterMode, FoundById, Page, Reach, Rejected, SourceStatus
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span, TraceIdKind, newest_start_ms
from evalforge.core.window import Window
from evalforge.errors import SourceRefusedError
from evalforge.sources.datadog import span_ids as by_ids
from evalforge.sources.datadog.client import DatadogClient, SearchRequest
from evalforge.sources.datadog.paging import PageSize, Pagination, Part, page_size_for
from evalforge.sources.datadog.permissions import permission_for
from evalforge.sources.datadog.plans import Asking, EvaluatedPlan, Plan, WholePlan
from evalforge.sources.datadog.query import NAME, Scope, scope_query, settings_digest
from evalforge.sources.datadog.report import Report
from evalforge.sources.datadog.roots import batches, roots_query
from evalforge.sources.datadog.spans import PARSERS
from evalforge.sources.datadog.steps import (
    MAX_SLICE_FAILURES,
    SLICE_PAGES,
    Learned,
    Step,
    existence_of,
    is_small,
    lasting,
    next_to_learn,
    parse_step,
    shown_place,
)
from evalforge.sources.datadog.stretches import Stretches

_REQUEST_REFUSED = frozenset({400, 413, 414, 422})


class DatadogSource:
    """One of Datadog's two searches ("llm_obs" or "apm") as a `ports.Source`.

    `evaluations` are evaluator names to ask for beyond the signal table's. `apm_scope` is the query that APM spans must
    match. `rng` chooses the slices that the query is tried on. `status` grows over all windows that are read.

    `query_digests`, one for each reach, change when the settings change what is fetched or how it is judged; checkpoints
    carry them.
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
        self.report = Report(self.status)
        self.query_digests: Mapping[Reach, str] = {
            reach: settings_digest(name, filter_mode, self.scope, thresholds, evaluations, reach)
            for reach in get_args(Reach)
        }

    def in_scope(self, span: Span) -> bool:
        """Whether `span` may count as a failure: of a wanted application and environment, and no experiment."""
        return self.scope.contains(span)

    def next_to_learn(self, place: str, learned: Collection[str]) -> str | None:
        """The entry to add to `learned` so that the query may find more failures at this place; None when there is none."""
        return next_to_learn(place, {*learned, *(NAME + name for name in self.evaluations)})

    def shown_place(self, place: str) -> str:
        """The place as a report may show it."""
        return shown_place(place)

    def plan(self, reach: Reach, learned: Learned, *, has_history: bool) -> Plan:
        """How to go about a window."""
        asking = Asking(self.name, self.filter_mode, self.scope, self.thresholds, self.evaluations)
        if reach == "evaluated":
            return EvaluatedPlan(asking, learned)
        return WholePlan(asking, learned, self.report, has_history=has_history)

    def pages(self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all") -> AsyncGenerator[Page, None]:
        """What `fetch_recent_failures` gives."""
        return self.fetch_recent_failures(window, after, reach=reach)

    async def fetch_recent_failures(
        self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all"
    ) -> AsyncGenerator[Page, None]:
        """The pages of `window` that hold every span that could be a failure, oldest first; healthy ones come along.

        With `reach` "evaluated": every span that an evaluation could make a failure. Of APM that is none, for no request:
        what an application sets on an APM span comes with the span.

        Reading goes on where `after` says, if it is an unfinished checkpoint of this window and reach under the same
        settings; otherwise only what it has learned is used. The last page's checkpoint is `done`, except when Datadog's
        answers stayed partial: then it begins the window anew, and `status.partial` says so. APM without permission (403)
        is `status.skipped` and one empty page.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        learned = lasting(after.learned if after else ())
        nothing = Page((), (), Checkpoint(self.name, window, self.query_digests[reach], learned=learned, done=True))
        if reach == "evaluated" and self.name == "apm":
            yield nothing
            return
        is_first = True
        try:
            async with aclosing(_Reading(self, window, after, reach).pages()) as pages:
                async for page in pages:
                    is_first = False
                    yield page
                    del page  # a page may go before the next one comes
        except SourceRefusedError as refused:
            if not (self.name == "apm" and refused.status == 403 and is_first):
                raise
            self.status.skipped = "the keys may not search APM spans (403)"
            yield nothing

    async def spans_before(self, window: Window, before_ms: int, limit: int) -> Sequence[Span]:
        """The last spans in scope of `window` that began at `before_ms` or before, oldest first; none where it is refused.

        Raises:
            SourceUnavailableError, QuotaExhaustedError
        """
        query = scope_query(self.name, self.scope)
        span_of = (str(window.from_ms), str(before_ms + 1))
        request = SearchRequest(self.name, query, *span_of, limit, newest_first=True)
        try:
            answer = await self.client.search(request, self.status)
        except SourceRefusedError:  # the pages that follow say why; what can be had without is had
            return ()
        parse = PARSERS[self.name]
        items: Sequence[Any] = answer.items if answer is not None else ()  # too large to be read at all
        return [span for item in reversed(items) if isinstance(span := parse(item), Span)]

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

    async def by_span_id(
        self, starts_ns: Mapping[str, int], *, before_ms: int = by_ids.LEEWAY_MS
    ) -> AsyncGenerator[FoundById, None]:
        """The spans with these ids, for each batch the ids that it asked for; see `span_ids`.

        A batch costs one request: only where Datadog says that more follows, and some ids have no span yet, another.

        Raises:
            SourceRefusedError: 403 names the permission that the application key lacks.
            SourceUnavailableError, QuotaExhaustedError
        """
        parse = PARSERS[self.name]
        size = page_size_for(self.name)
        for span_ids, window in by_ids.batches(starts_ns, self.rng, before_ms=before_ms):
            query = by_ids.span_ids_query(self.name, span_ids)
            pagination = Pagination(self.client, self.name, query, window, size=size, status=self.status)
            found = FoundById(span_ids)
            missing = set(span_ids)
            try:
                while missing and (part := await pagination.next()) is not None:
                    for outcome in map(parse, part.items):
                        if isinstance(outcome, Span):
                            found.spans.append(outcome)
                        else:
                            found.rejected.append(outcome)
                        missing.discard(outcome.span_id or "")
                    if part.is_partial:
                        found.is_partial = True
                        self.report.warn(f"{self.name}: answers stayed partial while spans were asked for by id")
            except SourceRefusedError as refused:
                if refused.status != 403:
                    raise
                raise SourceRefusedError(
                    f"the keys may not search {self.name} spans (403): the application key lacks "
                    f"{permission_for(self.name).name}",
                    status=403,
                ) from refused
            yield found


Failing = Mapping[tuple[str, str], tuple[str, ...]]
"""Trace id and span id of failing spans, with the places of their signals."""


class _Reading:
    """One window being read. Holds no span: of slices only the ids of failing spans, at most some 10,000."""

    def __init__(self, source: DatadogSource, window: Window, after: Checkpoint | None, reach: Reach) -> None:
        self._source = source
        self._report = source.report
        self._window = window
        self._digest = source.query_digests[reach]
        self._parse = PARSERS[source.name]
        unfinished = _unfinished(after, self._digest, window)
        known = unfinished.learned if unfinished else lasting(after.learned if after else ())
        self._learned = Learned(known, source.evaluations, source.thresholds)
        self._plan: Plan = source.plan(
            reach, self._learned, has_history=after is not None and bool(after.done or after.learned)
        )
        self._size = page_size_for(source.name)
        self._slice_size = PageSize(self._plan.slice_page) if self._plan.slice_page else self._size
        self._resumed = _resumable(unfinished, window, self._plan.size)
        self._next: Step | None = None
        self._item_count = 0

    async def pages(self) -> AsyncGenerator[Page, None]:
        """Every page of the window, step by step."""
        step, cursor, last_ms = self._beginning()
        while step is not None:
            self._next = None
            reader = self._read_slices(step) if step.kind == "slice" else self._read_window(step, cursor, last_ms)
            async with aclosing(reader) as pages:
                async for page in pages:
                    yield page
                    del page
            step, cursor, last_ms = self._next, None, None

    def _beginning(self) -> tuple[Step | None, str | None, int | None]:
        if self._resumed is None:
            return self._plan.first(), None, None
        checkpoint, step = self._resumed
        if step.was_partial:
            self._report.partial()
        return step, checkpoint.cursor, checkpoint.last_ms

    # -- the window ---------------------------------------------------------------------------------------------------

    async def _read_window(self, step: Step, cursor: str | None, last_ms: int | None) -> AsyncGenerator[Page, None]:
        look_from_ms = self._window.from_ms if last_ms is None else last_ms
        look_count = 0
        stretches = self._stretches(step, cursor, last_ms)
        try:
            while True:
                try:
                    part = await stretches.next()
                except SourceRefusedError as refused:
                    if refused.status not in _REQUEST_REFUSED:
                        raise
                    instead = self._instead_of(step, stretches.cursor, last_ms)
                    if instead is None:
                        raise
                    if instead.kind != step.kind:
                        self._next = instead
                        return
                    await stretches.close()
                    step, stretches = instead, self._stretches(instead, None, last_ms)
                    continue
                if part is None:
                    return
                spans, rejected = self._parsed(part)
                step = self._marked(step, part)
                if not part.is_repeated:
                    last_ms = newest_start_ms(spans, self._window, last_ms)
                if part.is_last:
                    self._next = self._plan.following(step)
                elif step.kind == "look":
                    look_count += len(part.items)
                    if not is_small(look_count, look_from_ms, last_ms or look_from_ms, self._window):
                        self._next = Step("slice", was_partial=step.was_partial)
                position: tuple[Step, str | None, int | None] = (self._next or step, None, None)
                if self._next is None and not part.is_last:
                    place = await stretches.go_on(part, spans)
                    position = (replace(step, from_ms=place.from_ms or step.from_ms), place.cursor, last_ms)
                page = self._page(spans, rejected, *position, is_end=part.is_last and self._next is None)
                del part, spans, rejected
                yield page
                del page
                if self._next is not None:
                    return
        finally:
            await stretches.close()

    def _instead_of(self, step: Step, cursor: str | None, last_ms: int | None) -> Step | None:
        """What to read after Datadog refused a request of `step`; None when nothing is left to try."""
        if cursor is None:
            return self._plan.instead_of(step)
        # The cursor has died. Its page began after the newest span that was read, so nothing is lost from there on.
        from_ms = self._window.from_ms if last_ms is None else last_ms
        return replace(step, from_ms=from_ms) if step.from_ms is None or step.from_ms < from_ms else None

    # -- slices -------------------------------------------------------------------------------------------------------

    async def _read_slices(self, step: Step) -> AsyncGenerator[Page, None]:
        """Reads random pieces of the window without a query, then learns what the query would have missed there."""
        plan = self._plan
        sampled: list[tuple[Window, Failing]] = []
        for piece in plan.slices(self._window, self._source.rng):
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
                last_ms = newest_start_ms(spans, self._window, last_ms)
                count += len(part.items)
                failing.update(self._failing(spans))
                is_end = part.is_last and piece == self._window
                yield self._page(spans, rejected, step, None, None, is_end=is_end)
                if is_end:
                    return
                del part, spans, rejected
                if count >= min(plan.slice_spans, SLICE_PAGES * self._slice_size.limit):
                    break
                if len(failing) >= MAX_SLICE_FAILURES:
                    break
            is_cut = last_ms is not None and pagination.cursor is not None
            read_to_ms = max(last_ms or 0, piece.from_ms) + 1 if is_cut else piece.to_ms
            sampled.append((Window(piece.from_ms, read_to_ms), failing))
        self._next = replace(await self._calibrated(sampled), was_partial=step.was_partial)

    async def _calibrated(self, sampled: Sequence[tuple[Window, Failing]]) -> Step:
        """The step that reads the window, after whatever the query misses among what failed in the pieces was learned."""
        asking = self._plan.asking()
        if asking.kind == "scan":
            return asking
        try:
            missed = [(piece, await self._missed(piece, failing)) for piece, failing in sampled]
            learned = [place for place in _places(missed) if self._learned.add(existence_of(place))]
            gaps = _places([(piece, await self._missed(piece, failing)) for piece, failing in missed])
        except SourceRefusedError as refused:
            instead = self._plan.instead_of(asking) if refused.status in _REQUEST_REFUSED else None
            if instead is None:
                raise
            return instead
        self._learned.add_gaps(gaps)
        self._report.learned(place for place in learned if place not in gaps)
        return self._plan.asking()

    async def _missed(self, piece: Window, failing: Failing) -> Failing:
        """Those of `failing` that the query does not find in `piece`."""
        missed = dict(failing)
        pagination = self._pagination(self._plan.asking(), None, piece)
        while missed and (part := await pagination.next()) is not None:
            for item in part.items:
                span = self._parse(item)
                if isinstance(span, Span):
                    missed.pop((span.trace_id, span.span_id), None)
        return missed

    def _failing(self, spans: list[Span]) -> Failing:
        found = {}
        for span in spans:
            signals = find_signals(span, self._source.thresholds) if self._source.in_scope(span) else ()
            places = {signal.place for signal in signals if self._plan.is_asked_for(signal.place)}
            if places:
                found[span.trace_id, span.span_id] = tuple(places)
        return found

    # -- pages and what is said of them -------------------------------------------------------------------------------

    def _pagination(self, step: Step, cursor: str | None, window: Window, *, has_slack: bool = False) -> Pagination:
        return Pagination(
            self._source.client,
            self._source.name,
            self._plan.query(step),
            window,
            size=self._slice_size if step.kind == "slice" else self._size,
            status=self._source.status,
            cursor=cursor,
            include_attachments=self._source.include_attachments,
            has_slack=has_slack,
        )

    def _stretches(self, step: Step, cursor: str | None, last_ms: int | None) -> Stretches:
        window = self._window if step.from_ms is None else Window(step.from_ms, self._window.to_ms)
        name, client = self._source.name, self._source.client
        return Stretches(
            window,
            cursor,
            window.from_ms if last_ms is None else max(last_ms, window.from_ms),
            size=self._size,
            paginate=lambda piece, cursor, has_slack: self._pagination(step, cursor, piece, has_slack=has_slack),
            has_plenty=lambda: client.has_plenty(name),
        )

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
        if self._plan.learns:
            self._report.learned(self._learned.add_names(spans))
        return spans, rejected

    def _marked(self, step: Step, part: Part) -> Step:
        if not part.is_partial:
            return step
        self._report.partial()
        return replace(step, was_partial=True)

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
        source, digest = self._source.name, self._digest
        checkpoint = Checkpoint(source, self._window, digest, str(step), cursor, last_ms, self._learned.entries)
        if is_end:
            # A window that stayed partial is to be read again from its beginning: it is not known where spans are missing.
            checkpoint = Checkpoint(source, self._window, digest, learned=self._learned.lasting, done=not step.was_partial)
            self._report.used(self._plan.mode(step))
            if step.kind in ("query", "again"):
                self._report.gaps(self._learned.gaps)
            if not self._item_count and self._resumed is None and self._plan.expects_spans:
                scope = self._source.scope
                self._report.nothing_found(self._source.name, is_limited=bool(scope.ml_apps or scope.envs))
        return Page(spans, rejected, checkpoint)


def _places(missed: Sequence[tuple[Window, Failing]]) -> list[str]:
    return sorted({place for _, failing in missed for places in failing.values() for place in places})


def _unfinished(after: Checkpoint | None, digest: str, window: Window) -> Checkpoint | None:
    """`after`, if it stands in this window, was made under the present settings, and is not done."""
    if after is None or after.done or after.window != window or after.query_digest != digest:
        return None
    return after


def _resumable(unfinished: Checkpoint | None, window: Window, size: int) -> tuple[Checkpoint, Step] | None:
    step = parse_step(unfinished.step) if unfinished is not None else None
    if unfinished is None or step is None or step.count > size:
        return None
    if step.from_ms is not None and not window.from_ms <= step.from_ms < window.to_ms:
        return None
    return unfinished, step
