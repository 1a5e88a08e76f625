"""One pagination: the same query over the same absolute window, page after page, sized by bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from evalforge.core.ports import SourceStatus
from evalforge.core.span import Json
from evalforge.core.window import Window
from evalforge.datadog_http.answers import Answer
from evalforge.errors import SourceRefusedError, SourceUnavailableError
from evalforge.sources.datadog.ahead import Ahead
from evalforge.sources.datadog.client import ENDPOINTS, DatadogClient, SearchRequest

TARGET_PAGE_BYTES = 6 * 1024 * 1024
FIRST_PAGE = 1000
MAX_PARTIAL_TRIES = 3

SLACK = 1.25
"""So much more may be asked for where a page's worth is expected, so that a few spans more cost no further request."""


class PageSize:
    """How many spans to ask for: what is expected to fill 6 MB, learned from the pages before.

    Starts at 1000 spans, never more than the search gives, never less than 1.
    """

    def __init__(self, max_page: int) -> None:
        self._max_page = max_page
        self._bytes_per_item: float | None = None
        self.limit = min(FIRST_PAGE, max_page)

    @property
    def limit_with_slack(self) -> int:
        """A quarter more than the limit, as far as the search gives so many."""
        return min(self._max_page, math.ceil(self.limit * SLACK))

    @property
    def expected_bytes(self) -> int:
        """How large a page of `limit` spans is expected to be."""
        if self._bytes_per_item is None:
            return TARGET_PAGE_BYTES
        return max(1, min(TARGET_PAGE_BYTES, int(self.limit * self._bytes_per_item)))

    def learn(self, size_bytes: int, item_count: int) -> None:
        """Sets the limit by the size of a page that came."""
        if item_count:
            self._bytes_per_item = max(1.0, size_bytes / item_count)
            self.limit = min(self._max_page, max(1, int(TARGET_PAGE_BYTES / self._bytes_per_item)))

    def shrink(self, divisor: int) -> None:
        """Asks for that many times fewer, at least for one."""
        self.limit = max(1, self.limit // divisor)


@dataclass(frozen=True, slots=True)
class Part:
    """What one request brought. `cursor` is where to go on; `is_last` says that nothing follows.

    `is_partial` says that Datadog did not look at everything, even when asked again for less; `is_repeated` that it is asked
    again, so the next part begins where this one did. `is_full` says that as many spans came as were asked for.
    """

    items: list[Json]
    cursor: str | None
    is_last: bool
    is_partial: bool = False
    is_repeated: bool = False
    is_full: bool = False


class Pagination:
    """Reads one window under one query from `cursor` on. Nothing that was read is asked for twice because of a later fault.

    Where Datadog gave up half way through a page (`meta.status` timeout), its spans are handed out at once and the same
    cursor is asked again for half as many, up to three times; then what came is accepted as partial.

    `has_slack` says that a page's worth is expected in all: a few spans more are then asked for at once. Whoever has called
    `look_ahead` must `close`.
    """

    def __init__(
        self,
        client: DatadogClient,
        source: str,
        query: str,
        window: Window,
        *,
        size: PageSize,
        status: SourceStatus,
        cursor: str | None = None,
        include_attachments: bool = False,
        has_slack: bool = False,
    ) -> None:
        self._client = client
        self._source = source
        self._query = query
        self._window = window
        self._size = size
        self._status = status
        self._include_attachments = include_attachments
        self._has_slack = has_slack
        self._partial_count = 0
        self._is_over = False
        self._ahead: tuple[SearchRequest, Ahead[Any]] | None = None
        self.cursor = cursor

    @property
    def is_over(self) -> bool:
        """Whether nothing follows what was read."""
        return self._is_over

    def look_ahead(self) -> bool:
        """Asks for the next part before its turn, if there is one and room for it; whether one is under way."""
        if self._ahead is None and not self._is_over:
            request = self._request()
            ahead = self._client.ahead(request, self._status, self._size.expected_bytes)
            self._ahead = None if ahead is None else (request, ahead)
        return self._ahead is not None

    async def close(self) -> None:
        """Leaves what was asked for ahead."""
        if self._ahead is not None:
            (_, ahead), self._ahead = self._ahead, None
            await ahead.dropped()

    async def next(self) -> Part | None:
        """The next part, None after the last one.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        while not self._is_over:
            asked_for, answer = await self._ask()
            self._size.learn(answer.size_bytes, len(answer.items))
            self._warn_of(answer)
            if answer.is_partial and self._partial_count < MAX_PARTIAL_TRIES:
                self._partial_count += 1
                self._size.shrink(2)
                if answer.items:
                    return Part(answer.items, self.cursor, is_last=False, is_repeated=True)
                continue
            if answer.cursor is not None and answer.cursor == self.cursor:
                raise SourceUnavailableError(f"{self._client.host} gives the same {self._source} cursor again and again")
            self._partial_count = 0
            self.cursor = answer.cursor
            self._is_over = answer.cursor is None
            is_full = len(answer.items) >= asked_for
            return Part(answer.items, answer.cursor, self._is_over, answer.is_partial, is_full=is_full)
        return None

    def _request(self) -> SearchRequest:
        return SearchRequest(
            source=self._source,
            query=self._query,
            from_time=str(self._window.from_ms),
            to_time=str(self._window.to_ms),
            limit=self._size.limit_with_slack if self._has_slack and self.cursor is None else self._size.limit,
            cursor=self.cursor,
            include_attachments=self._include_attachments,
        )

    async def _ask(self) -> tuple[int, Answer]:
        """How many spans were asked for, and the answer."""
        while True:
            (request, ahead), self._ahead = self._ahead or (self._request(), None), None
            answer = await self._client.search(request, self._status, ahead)
            if answer is not None:
                return request.limit, answer
            if request.limit == 1 and ahead is None:
                raise SourceRefusedError(f"one {self._source} span at {self._client.host} is larger than 64 MB")
            self._size.limit = max(1, min(self._size.limit, request.limit // 4))

    def _warn_of(self, answer: Answer) -> None:
        for code in answer.warnings:
            warning = f"Datadog warned of {code} in the {self._source} search: results may be missing"
            if warning not in self._status.warnings:
                self._status.warnings.append(warning)


def page_size_for(source: str) -> PageSize:
    """A fresh page size within what the source's search gives."""
    return PageSize(ENDPOINTS[source].max_page)
