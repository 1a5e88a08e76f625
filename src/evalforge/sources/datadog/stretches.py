"""Reading one window in the order of time, while what comes next is already on its way.

A cursor leads from one page to the next, so along one cursor only the next page can be asked for ahead. Where a window holds
many pages it is therefore cut into stretches of about a page each, by how dense the spans before them lay; several stretches
are under way at once, and are handed out one after the other. A stretch that comes half empty, or holds a little more than a
page, is a request too many: then fewer are under way, and after a few of them the rest is read along one cursor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.sources.datadog.ahead import MAX_AHEAD, on_its_way
from evalforge.sources.datadog.paging import SLACK, PageSize, Pagination, Part

MIN_PAGES = 3.0
"""Fewer pages than this are not worth a cut."""

FILLED = 0.6
"""A stretch that holds less than this share of what was expected was cut too short."""

FREE_WASTE, WASTE_SHARE = 1.0, 0.1
"""So many requests more than pages may be made of one window, and beyond that this share of the parts that were read."""

MAX_GROWTH = 4
"""A stretch is at most so many times as long as the one before, since spans may get dense again."""

FIRST_WIDTH = 3
"""How many parts are under way at first; one more with each stretch that was filled."""

REPEATED = 20
"""A cursor is left only where fewer spans than this are read once more."""

Paginate = Callable[[Window, str | None, bool], Pagination]
"""A pagination of a window from a cursor on; the flag says that a page's worth is expected in all."""


@dataclass(slots=True)
class _Stretch:
    """A piece of the window: `pages` once it is under way, `expected` spans where it was cut to hold so many.

    `count` spans in `part_count` parts have come of it.
    """

    window: Window
    pages: Pagination | None = None
    expected: int | None = None
    count: int = 0
    part_count: int = 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a later reading goes on: at this cursor, or from this instant on, inclusive (epoch milliseconds)."""

    cursor: str | None = None
    from_ms: int | None = None


class Stretches:
    """The parts of a window, from `cursor` on, in the order of time; whoever has called `go_on` must `close`.

    After each part but the last comes `go_on`, which sees to what is read next. `read_to_ms` is up to where the window has
    been read already, `size` the page size that all paginations share; `has_plenty` tells whether there is quota enough to
    ask for stretches.
    """

    def __init__(
        self,
        window: Window,
        cursor: str | None,
        read_to_ms: int,
        *,
        size: PageSize,
        paginate: Paginate,
        has_plenty: Callable[[], bool],
    ) -> None:
        self._size = size
        self._paginate = paginate
        self._has_plenty = has_plenty
        self._stretch = _Stretch(window)
        self._pages = self._stretch.pages = paginate(window, cursor, False)
        self._following: list[_Stretch] = []
        self._is_whole = True
        self._read_to_ms = read_to_ms
        self._recent_count, self._recent_ms = 0.0, 0.0
        self._length_ms: float | None = None
        self._width = FIRST_WIDTH
        self._part_count = 0
        self._waste = 0.0

    @property
    def cursor(self) -> str | None:
        """The cursor that the next request goes by."""
        return self._pages.cursor

    async def next(self) -> Part | None:
        """The next part, None after the last one; `is_last` says that it is the last one of the window.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        part = await self._pages.next()
        if part is None:
            return None
        self._stretch.count += len(part.items)
        self._stretch.part_count += 1
        return replace(part, is_last=part.is_last and not self._following)

    async def go_on(self, part: Part, spans: Sequence[Span]) -> Place:
        """Where a later reading would go on after `part`, which holds these spans; asks ahead for what follows it."""
        end_ms = self._stretch.window.to_ms
        starts_ms = [span.start_ns // 1_000_000 for span in spans]
        inside = [start_ms for start_ms in starts_ms if self._read_to_ms <= start_ms < end_ms]
        is_over = self._pages.is_over
        if not part.is_repeated:
            self._learn(part, end_ms if is_over else max(inside, default=self._read_to_ms))
        place = Place(part.cursor) if self._is_whole else Place(from_ms=self._read_to_ms)
        if is_over:
            self._advance()
        elif part.is_full and starts_ms == sorted(starts_ms):
            self._cut_after(inside)
        if self._ask_ahead():
            await on_its_way()
        return place

    async def close(self) -> None:
        """Leaves everything that was asked for ahead."""
        for stretch in (self._stretch, *self._following):
            if stretch.pages is not None:
                await stretch.pages.close()

    def _learn(self, part: Part, read_to_ms: int) -> None:
        """Takes in how dense the spans of this part lay, and whether its stretch was cut well."""
        self._recent_count = self._recent_count / 2 + len(part.items)
        self._recent_ms = self._recent_ms / 2 + read_to_ms - self._read_to_ms
        self._read_to_ms = read_to_ms
        self._part_count += 1
        expected = self._stretch.expected
        if expected is not None and self._pages.is_over:
            filled = self._stretch.count / expected
            self._waste += max(0.0, self._stretch.part_count - filled)
            self._width = min(self._width + 1, MAX_AHEAD) if filled >= FILLED else max(1, self._width // 2)

    def _ask_ahead(self) -> bool:
        """Asks for the next part of this stretch, and for the first ones of those that follow; whether any is under way."""
        is_any = self._pages.look_ahead()
        index = 0
        while is_any and index < min(self._width - 1, len(self._following)):
            if not self._begun(index).look_ahead():
                break
            index += 1
        return is_any

    def _advance(self) -> None:
        self._begun(0)
        self._stretch = self._following.pop(0)
        assert self._stretch.pages is not None
        self._pages = self._stretch.pages
        self._read_to_ms = self._stretch.window.from_ms
        self._is_whole = False

    def _cut_after(self, starts_ms: Sequence[int]) -> None:
        """Leaves the cursor here, if what is left holds so many pages that it is worth it.

        Not at the last start: should its clock alone be wrong, nothing before it is passed over. What began at the cut is
        read once more, so that should not be many.
        """
        length_ms = self._page_ms()
        if length_ms is None or len(starts_ms) <= REPEATED or starts_ms[-2] <= starts_ms[-REPEATED]:
            return
        rest = Window(starts_ms[-2], self._stretch.window.to_ms)
        if rest.duration_ms >= MIN_PAGES * length_ms:
            self._following.insert(0, _Stretch(rest))
            self._advance()

    def _begun(self, index: int) -> Pagination:
        """The pagination of a stretch that follows; before it begins, it is cut to hold about a page."""
        stretch = self._following[index]
        if stretch.pages is None:
            begin_ms, end_ms = stretch.window.from_ms, stretch.window.to_ms
            length_ms = self._page_ms()
            if length_ms is not None:
                cut_ms = begin_ms + round(length_ms)
                if begin_ms + SLACK * length_ms < end_ms:
                    stretch.window = Window(begin_ms, cut_ms)
                    self._following.insert(index + 1, _Stretch(Window(cut_ms, end_ms)))
                stretch.expected = max(1, round(self._page_count * stretch.window.duration_ms / length_ms))
                self._length_ms = stretch.window.duration_ms
            stretch.pages = self._paginate(stretch.window, None, stretch.expected is not None)
        return stretch.pages

    @property
    def _page_count(self) -> float:
        """How many spans a stretch is cut to hold: a page, a little less where the search gives no more than a page."""
        return min(self._size.limit, 0.95 * self._size.limit_with_slack)

    def _page_ms(self) -> float | None:
        """How long a stretch of about a page is, as far as one can tell; None when the window is not to be cut."""
        if not self._has_plenty() or self._waste > FREE_WASTE + WASTE_SHARE * self._part_count:
            return None
        longest_ms = math.inf if self._length_ms is None else MAX_GROWTH * self._length_ms
        if self._recent_count > 0:
            longest_ms = min(longest_ms, self._page_count * self._recent_ms / self._recent_count)
        return longest_ms if 2 <= longest_ms < math.inf else None
