"""HTTP to Datadog: one search request at a time, repeated until it is answered, refused or the retry budget is spent.

This is the only place that talks to Datadog, sees the keys, and retries. The official client is not used: it is several
times slower, turns texts that look like dates into dates, and waits without bound (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from evalforge.core.ports import SourceStatus
from evalforge.core.sites import is_loopback
from evalforge.errors import CredentialsError, QuotaExhaustedError, SourceRefusedError, SourceUnavailableError
from evalforge.sources.datadog.answers import (
    Answer,
    NonsenseError,
    decode_answer,
    rate_limit,
    says_keys_are_valid,
    says_no_data_yet,
    wait_s,
)
from evalforge.sources.datadog.body import BodyTooLargeError, BodyUnreadableError, read_body

MAX_BODY_BYTES = 64 * 1024 * 1024
"""No answer is read beyond this. Source: the Export API caps its own at 50 MB."""

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_WHOLE_REQUEST_S = 120.0
_HEALTH_CHECK_S = 5.0
_MAX_BACKOFF_S = 20.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where and how one search is asked. `max_page` is the most spans that it gives in one page."""

    path: str
    body_type: str
    max_page: int
    takes_attachments: bool


ENDPOINTS: Mapping[str, Endpoint] = {
    "llm_obs": Endpoint("/api/v2/llm-obs/v1/spans/events/search", "spans", 5000, True),
    "apm": Endpoint("/api/v2/spans/events/search", "search_request", 1000, False),
}
"""The search behind each source's name."""


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """One page's request: `from_time` and `to_time` as Datadog takes them, epoch milliseconds as text for a pagination.

    An empty `query` asks for every span. Whether `to_time` is included is not documented; spans are merged by id, so a
    span that two windows share does no harm.
    """

    source: str
    query: str
    from_time: str
    to_time: str
    limit: int
    cursor: str | None = None
    include_attachments: bool = False

    def body(self) -> dict[str, Any]:
        """The JSON document to post."""
        endpoint = ENDPOINTS[self.source]
        search_filter = {"from": self.from_time, "to": self.to_time}
        if self.query or self.source == "apm":
            search_filter["query"] = self.query or "*"
        page: dict[str, Any] = {"limit": self.limit}
        if self.cursor is not None:
            page["cursor"] = self.cursor
        attributes: dict[str, Any] = {"filter": search_filter, "page": page, "sort": "timestamp"}
        if endpoint.takes_attachments:
            attributes["options"] = {"include_attachments": self.include_attachments}
        return {"data": {"type": endpoint.body_type, "attributes": attributes}}


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: httpx.Headers
    body: bytes


class _TryAgainError(Exception):
    """This attempt failed in a way that the next one may not. `wait_s` is how long Datadog asked to wait."""

    def __init__(self, reason: str, *, wait_s: float | None = None, is_quota: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.is_quota = is_quota


class DatadogClient:
    """A connection to one Datadog organisation. Both sources share it; use it as a context manager or call `close`.

    `api_url` must have passed `core.sites.validated_api_url`. One fault is retried for at most `retry_budget_s` seconds,
    counted from its first failure. `transport` and `sleep` are the two ports to the world, for tests; `backoff_s` is the
    first wait where Datadog names none.

    Raises:
        CredentialsError: a key that cannot be a key: empty, or with characters that no header may hold.
    """

    def __init__(
        self,
        api_url: str,
        api_key: str,
        app_key: str,
        *,
        retry_budget_s: float,
        transport: httpx.AsyncBaseTransport | None = None,
        backoff_s: float = 0.5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.host = urlsplit(api_url).hostname or ""
        self._retry_budget_s = retry_budget_s
        self._backoff_s = backoff_s
        self._sleep = sleep
        self._http = httpx.AsyncClient(
            base_url=api_url,
            headers={
                "DD-API-KEY": _header_safe(api_key, "DATADOG_API_KEY"),
                "DD-APPLICATION-KEY": _header_safe(app_key, "DATADOG_APP_KEY"),
                "Accept": "application/json",
                "Accept-Encoding": "gzip",
                "User-Agent": f"evalforge-ingestion/{version('evalforge-ingestion')}",
            },
            timeout=_TIMEOUT,
            follow_redirects=False,
            transport=transport,
            trust_env=not is_loopback(self.host),
        )

    def __repr__(self) -> str:
        return f"DatadogClient({self.host})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Frees the connections; nothing may be called afterwards."""
        await self._http.aclose()

    async def search(self, request: SearchRequest, status: SourceStatus) -> Answer | None:
        """The page that `request` asks for, None when it is larger than 64 MB: ask for fewer spans.

        Counts requests and retries, and the rate limit as last told, in `status`. An organisation that has no data yet
        answers with an empty page.

        Raises:
            SourceRefusedError: the keys (401, 403), or this request (its `status` is the HTTP status) were refused.
            SourceUnavailableError: no usable answer within the retry budget.
            QuotaExhaustedError: the rate limit resets later than the retry budget.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TryAgainError),
            wait=self._wait_s,
            stop=_BudgetSpent(self._retry_budget_s),
            sleep=self._sleep,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    status.retry_count += attempt.retry_state.attempt_number > 1
                    return await self._search_once(request, status)
        except _TryAgainError as last:
            self._give_up(last)
        except BodyTooLargeError:
            return None
        raise AssertionError("tenacity ends with an answer or an exception")

    async def validate_keys(self) -> None:
        """Returns when Datadog accepts both keys. One request, no retry, at most 5 seconds: for health checks.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        try:
            async with asyncio.timeout(_HEALTH_CHECK_S):
                response = await self._send("GET", "/api/v2/validate_keys", None)
            _raise_for_status(response, self.host, "the key check")
            if not says_keys_are_valid(response.body):
                raise _TryAgainError("no answer that Datadog's key check gives")
        except TimeoutError as error:
            raise SourceUnavailableError(f"{self.host} did not answer within {_HEALTH_CHECK_S:.0f} s") from error
        except BodyTooLargeError as error:
            raise SourceUnavailableError(f"{self.host} answered the key check with more than 64 MB") from error
        except _TryAgainError as error:
            self._give_up(error)

    async def probe(self, source: str) -> None:
        """Returns when a search for one recent span is permitted; whether there is one does not matter.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        await self.search(SearchRequest(source, "", "now-15m", "now", limit=1), SourceStatus(source))

    async def _search_once(self, request: SearchRequest, status: SourceStatus) -> Answer:
        status.request_count += 1
        try:
            async with asyncio.timeout(_WHOLE_REQUEST_S):
                response = await self._send("POST", ENDPOINTS[request.source].path, orjson.dumps(request.body()))
        except TimeoutError as error:
            raise _TryAgainError("the answer took too long") from error
        status.rate_limit.update(rate_limit(response.headers))
        if says_no_data_yet(response.status, response.body):
            return Answer([])
        _raise_for_status(response, self.host, f"the {request.source} search")
        try:
            return decode_answer(response.body)
        except NonsenseError as error:
            raise _TryAgainError(f"a body that is {error}") from error

    async def _send(self, method: str, path: str, content: bytes | None) -> _Response:
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            async with self._http.stream(method, path, content=content, headers=headers) as response:
                return _Response(response.status_code, response.headers, await read_body(response, MAX_BODY_BYTES))
        except httpx.HTTPError as error:
            raise _TryAgainError(f"no complete answer ({type(error).__name__})") from error
        except BodyUnreadableError as error:
            raise _TryAgainError(str(error)) from error

    def _wait_s(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked_s = failure.wait_s if isinstance(failure, _TryAgainError) else None
        # Full jitter, so that callers who failed together do not come back together; after a named wait only a little.
        backoff_s = min(_MAX_BACKOFF_S, self._backoff_s * 2.0 ** (state.attempt_number - 1))
        if asked_s is None:
            return random.uniform(backoff_s / 2, backoff_s)
        return asked_s + random.uniform(0, self._backoff_s)

    def _give_up(self, last: _TryAgainError) -> NoReturn:
        if last.is_quota:
            wait = f"; it resets in {last.wait_s:.0f} s" if last.wait_s is not None else ""
            raise QuotaExhaustedError(
                f"Datadog's rate limit at {self.host} is used up{wait}, later than RETRY_BUDGET_S allows",
                retry_after_s=last.wait_s,
            ) from last
        raise SourceUnavailableError(
            f"{self.host} gave no usable answer within RETRY_BUDGET_S: {last.reason}", retry_after_s=last.wait_s
        ) from last


class _BudgetSpent:
    """Stops when the next attempt would begin later than the budget after the first failure."""

    def __init__(self, budget_s: float) -> None:
        self._budget_s = budget_s
        self._first_failure_at: float | None = None

    def __call__(self, state: RetryCallState) -> bool:
        failed_at = state.outcome_timestamp or state.start_time
        if self._first_failure_at is None:
            self._first_failure_at = failed_at
        return failed_at + state.upcoming_sleep - self._first_failure_at > self._budget_s


def _raise_for_status(response: _Response, host: str, what: str) -> None:
    status = response.status
    if status == 200:
        return
    if status in (401, 403):
        raise SourceRefusedError(
            f"Datadog refused {what} at {host} ({status}): check DATADOG_API_KEY and DATADOG_APP_KEY and what they may "
            "read, and that DATADOG_SITE is this organisation's site, since a wrong site answers the same",
            status=status,
        )
    if status == 429:
        raise _TryAgainError("the rate limit (429)", wait_s=wait_s(response.headers), is_quota=True)
    if status >= 500 or status == 408:
        raise _TryAgainError(f"HTTP {status}", wait_s=wait_s(response.headers))
    if 300 <= status < 400:
        raise SourceRefusedError(
            f"{host} redirects {what} ({status}), which is not followed: check DATADOG_SITE and DATADOG_API_URL",
            status=status,
        )
    raise SourceRefusedError(f"{host} does not accept {what} ({status})", status=status)


def _header_safe(key: str, setting: str) -> str:
    key = key.strip()
    if not key or not all("!" <= character <= "~" for character in key):
        raise CredentialsError(
            f"{setting} cannot be a key: it is empty or holds characters that keys do not have", code="malformed"
        )
    return key
