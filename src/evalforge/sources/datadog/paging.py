"""One pagination: the same query over the same absolute window, page after page, sized by bytes."""

from __future__ import annotations

from dataclasses import dataclass

from evalforge.core.ports import SourceStatus
from evalforge.core.span import Json
from evalforge.core.window import Window
from evalforge.errors import SourceRefusedError, SourceUnavailableError
from evalforge.sources.datadog.answers import Answer
from evalforge.sources.datadog.client import ENDPOINTS, DatadogClient, SearchRequest

TARGET_PAGE_BYTES = 8 * 1024 * 1024
FIRST_PAGE = 1000
MAX_PARTIAL_TRIES = 3


class PageSize:
    """How many spans to ask for: what is expected to fill 8 MB, learned from the pages before.

    Starts at 1000 spans, never more than the search gives, never less than 1.
    """

    def __init__(self, max_page: int) -> None:
        self._max_page = max_page
        self.limit = min(FIRST_PAGE, max_page)

    def learn(self, size_bytes: int, item_count: int) -> None:
        """Sets the limit by the size of a page that came."""
        if item_count:
            bytes_per_item = max(1.0, size_bytes / item_count)
            self.limit = min(self._max_page, max(1, int(TARGET_PAGE_BYTES / bytes_per_item)))

    def shrink(self, divisor: int) -> None:
        """Asks for that many times fewer, at least for one."""
        self.limit = max(1, self.limit // divisor)


@dataclass(frozen=True, slots=True)
class Part:
    """What one request brought. `cursor` is where to go on; `is_last` says that nothing follows.

    `is_partial` says that Datadog did not look at everything, even when asked again for less.
    """

    items: list[Json]
    cursor: str | None
    is_last: bool
    is_partial: bool = False


class Pagination:
    """Reads one window under one query from `cursor` on. Nothing that was read is asked for twice because of a later fault.

    Where Datadog gave up half way through a page (`meta.status` timeout), its spans are handed out at once and the same
    cursor is asked again for half as many, up to three times; then what came is accepted as partial.
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
    ) -> None:
        self._client = client
        self._source = source
        self._query = query
        self._window = window
        self._size = size
        self._status = status
        self._include_attachments = include_attachments
        self._partial_count = 0
        self._is_over = False
        self.cursor = cursor

    async def next(self) -> Part | None:
        """The next part, None after the last one.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        while not self._is_over:
            answer = await self._ask()
            self._size.learn(answer.size_bytes, len(answer.items))
            self._warn_of(answer)
            if answer.is_partial and self._partial_count < MAX_PARTIAL_TRIES:
                self._partial_count += 1
                self._size.shrink(2)
                if answer.items:
                    return Part(answer.items, self.cursor, is_last=False)
                continue
            if answer.cursor is not None and answer.cursor == self.cursor:
                raise SourceUnavailableError(f"{self._client.host} gives the same {self._source} cursor again and again")
            self._partial_count = 0
            self.cursor = answer.cursor
            self._is_over = answer.cursor is None
            return Part(answer.items, answer.cursor, is_last=self._is_over, is_partial=answer.is_partial)
        return None

    async def _ask(self) -> Answer:
        while True:
            request = SearchRequest(
                source=self._source,
                query=self._query,
                from_time=str(self._window.from_ms),
                to_time=str(self._window.to_ms),
                limit=self._size.limit,
                cursor=self.cursor,
                include_attachments=self._include_attachments,
            )
            answer = await self._client.search(request, self._status)
            if answer is not None:
                return answer
            if self._size.limit == 1:
                raise SourceRefusedError(f"one {self._source} span at {self._client.host} is larger than 64 MB")
            self._size.shrink(4)

    def _warn_of(self, answer: Answer) -> None:
        for code in answer.warnings:
            warning = f"Datadog warned of {code} in the {self._source} search: results may be missing"
            if warning not in self._status.warnings:
                self._status.warnings.append(warning)


def page_size_for(source: str) -> PageSize:
    """A fresh page size within what the source's search gives."""
    return PageSize(ENDPOINTS[source].max_page)
