"""HTTP to Datadog: paced search requests, each repeated until it is answered, refused or the retry budget is spent.

This is the only place that talks to Datadog, sees the keys, and retries. The official client is not used: it is several
times slower, turns texts that look like dates into dates, and waits without bound (docs/decisions/0003).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from types import TracebackType
from typing import Any, NoReturn, Self
from urllib.parse import urlsplit

import httpx
import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from evalforge.core.ports import SourceStatus
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.sites import is_loopback
from evalforge.datadog_http.answers import (
    Answer,
    NonsenseError,
    decode_answer,
    rate_limit,
    retry_after_s,
    says_keys_are_valid,
    says_no_data_yet,
    wait_s,
)
from evalforge.datadog_http.body import BodyTooLargeError, BodyUnreadableError, read_body
from evalforge.datadog_http.keys import KeyHeaders, Keys, RenewKeys
from evalforge.datadog_http.measuring import measure_quota, measure_request
from evalforge.datadog_http.pacing import ROUNDING_S, OutOfQuotaError, Pacing, Told, Turn
from evalforge.errors import CredentialsError, QuotaExhaustedError, SourceRefusedError, SourceUnavailableError
from evalforge.sources.datadog.ahead import Ahead, Allowance
from evalforge.sources.datadog.permissions import SURPLUS_PATH

MAX_BODY_BYTES = 64 * 1024 * 1024
"""No answer is read beyond this. Source: the Export API caps its own at 50 MB."""

MAX_PAGE_BYTES = 12 * 1024 * 1024
"""No answer with more than one span is read beyond this: fewer are asked for instead, which costs less memory."""

KEYS_RENEWED = "the keys were refused and had been changed in Secret Manager: the run went on with the new ones"
"""What a report says when a run changed keys."""

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

    An empty `query` asks for every span, `newest_first` for the latest instead of the earliest. Whether `to_time` is
    included is not documented; spans are merged by id, so a span that two windows share does no harm.
    """

    source: str
    query: str
    from_time: str
    to_time: str
    limit: int
    cursor: str | None = None
    include_attachments: bool = False
    newest_first: bool = False

    def body(self) -> dict[str, Any]:
        """The JSON document to post."""
        endpoint = ENDPOINTS[self.source]
        search_filter = {"from": self.from_time, "to": self.to_time}
        if self.query or self.source == "apm":
            search_filter["query"] = self.query or "*"
        page: dict[str, Any] = {"limit": self.limit}
        if self.cursor is not None:
            page["cursor"] = self.cursor
        sort = "-timestamp" if self.newest_first else "timestamp"
        attributes: dict[str, Any] = {"filter": search_filter, "page": page, "sort": sort}
        if endpoint.takes_attachments:
            attributes["options"] = {"include_attachments": self.include_attachments}
        return {"data": {"type": endpoint.body_type, "attributes": attributes}}


@dataclass(frozen=True, slots=True)
class _Response:
    status: int
    headers: httpx.Headers
    body: bytes | bytearray


@dataclass(frozen=True, slots=True)
class Look:
    """One answer as it came, whatever it says. `body` is None when it has more bytes than were wanted."""

    status: int
    headers: Mapping[str, str]
    body: bytes | bytearray | None
    duration_s: float


_Asked = tuple[_Response, KeyHeaders]
"""One answer, and the keys that were asked with."""


@dataclass(slots=True)
class _Patience:
    """How long one search may still wait for its quota, over all its attempts."""

    left_s: float


class _TryAgainError(Exception):
    """This attempt failed in a way that the next one may not. `wait_s` is how long Datadog asked to wait.

    `code` says in a word how: the HTTP status, `no_answer` or `nonsense`.
    """

    def __init__(self, reason: str, *, code: str, wait_s: float | None = None, is_quota: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.wait_s = wait_s
        self.is_quota = is_quota


class DatadogClient:
    """A connection to one Datadog organisation. All sources and tasks share it; use it as a context manager or `close` it.

    `api_url` must have passed `core.sites.validated_api_url`. One fault is retried for at most `retry_budget_s` seconds,
    counted from its first failure, and one search waits at most so long for its quota. `renew_keys` is asked when a search
    is refused with 401 or 403, once until something succeeds again; None when the keys cannot change. `transport`, `sleep`,
    `clock` (seconds that only grow) and `now` are the ports to the world, for tests; `backoff_s` is the first wait where
    Datadog names none. `telemetry` hears of every search.

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
        renew_keys: RenewKeys | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        backoff_s: float = 0.5,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        telemetry: Telemetry = SILENCE,
    ) -> None:
        self._telemetry = telemetry
        self.host = urlsplit(api_url).hostname or ""
        self._retry_budget_s = retry_budget_s
        self._backoff_s = backoff_s
        self._sleep = sleep
        self._clock = clock
        self._now = now
        self._pacing = Pacing(clock)
        self._allowance = Allowance()
        self._keys = Keys(api_key, app_key, renew_keys)
        self._http = httpx.AsyncClient(
            base_url=api_url,
            headers={
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

    def has_plenty(self, source: str) -> bool:
        """Whether so much of the quota of this search is left that requests may go before their turn."""
        return self._pacing.has_plenty(source)

    def ahead(self, request: SearchRequest, status: SourceStatus, expected_bytes: int) -> Ahead[_Asked] | None:
        """The first attempt of a search whose turn is yet to come, for `search` to take up; None when there is no room.

        There is room while plenty of the quota is left and all answers ahead stay within `ahead.AHEAD_BYTES`. The attempt
        never waits for a quota, and nothing is tried again before its turn: `search` goes on from whatever came of it.
        """
        if not self.has_plenty(request.source) or not self._allowance.take(expected_bytes):
            return None

        async def attempt() -> _Asked | None:
            turn = self._pacing.spare(request.source)
            return None if turn is None else await self._sent(turn, request, status, 2 * expected_bytes)

        return Ahead(attempt(), expected_bytes, lambda: self._allowance.give_back(expected_bytes))

    async def search(
        self, request: SearchRequest, status: SourceStatus, ahead: Ahead[_Asked] | None = None
    ) -> Answer | None:
        """The page that `request` asks for, None when it is too large: ask for fewer spans.

        Too large is more than 12 MB, 64 MB for a single span, and of an answer `ahead`, which is the first attempt of this
        very search, twice what was expected.

        Counts requests and retries, and the rate limit as last told, in `status`. An organisation that has no data yet
        answers with an empty page.

        Raises:
            SourceRefusedError: the keys (401, 403), or this request (its `status` is the HTTP status) were refused.
            SourceUnavailableError: no usable answer within the retry budget.
            QuotaExhaustedError: the rate limit resets later than the retry budget; told before anything is sent, if known.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TryAgainError),
            wait=self._wait_s,
            stop=_BudgetSpent(self._retry_budget_s, self._clock),
            sleep=self._sleep,
            before_sleep=lambda state: self._count_retry(request, state),
            reraise=True,
        )
        patience = _Patience(self._retry_budget_s)
        try:
            async for attempt in retrying:
                with attempt:
                    status.retry_count += attempt.retry_state.attempt_number > 1
                    early, ahead = ahead, None
                    return await self._search_once(request, status, patience, early)
        except _TryAgainError as last:
            self._give_up(last)
        except OutOfQuotaError as out:
            self._quota_is_out(out.wait_s, out)
        except BodyTooLargeError:
            return None
        raise AssertionError("tenacity ends with an answer or an exception")

    async def validate_keys(self) -> dict[str, float | str]:
        """What the key check's answer tells of its rate limit, when Datadog accepts both keys.

        One request, no retry, at most 5 seconds: for health checks.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        what = "the key check"
        response = await self._get("/api/v2/validate_keys", what)
        try:
            _raise_for_status(response, self.host, what)
            if not says_keys_are_valid(response.body):
                raise _TryAgainError("no answer that Datadog's key check gives", code="nonsense")
        except _TryAgainError as error:
            self._give_up(error)
        return self._dated(rate_limit(response.headers))

    async def may_do_more(self) -> bool | None:
        """Whether the application key has a permission that nothing here needs; None when the answer does not say.

        One request, no retry, at most 5 seconds. What it gives is thrown away.

        Raises:
            SourceUnavailableError: no answer.
        """
        response = await self._get(SURPLUS_PATH, "the question for a permission too many")
        return {200: True, 403: False}.get(response.status)

    async def probe(self, source: str) -> None:
        """Returns when a search for one recent span is permitted; whether there is one does not matter.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError
        """
        await self.search(SearchRequest(source, "", "now-15m", "now", limit=1), SourceStatus(source))

    async def look(self, request: SearchRequest | None, *, max_bytes: int, timeout_s: float) -> Look:
        """What a search (None: the key check) is answered, good or bad: one request, no retry, its pacing left alone.

        Raises:
            SourceUnavailableError: no complete answer within `timeout_s` seconds.
        """
        head: list[httpx.Response] = []
        path = "/api/v2/validate_keys" if request is None else ENDPOINTS[request.source].path
        content = None if request is None else orjson.dumps(request.body())
        began, body = self._clock(), None
        try:
            async with asyncio.timeout(timeout_s):
                method = "GET" if content is None else "POST"
                response = await self._send(method, path, content, self._keys.headers, head.append, max_bytes)
                body = response.body
        except BodyTooLargeError:
            pass
        except TimeoutError as error:
            raise SourceUnavailableError(f"no answer within {timeout_s:g} s") from error
        except _TryAgainError as error:
            raise SourceUnavailableError(error.reason) from error
        return Look(head[0].status_code, head[0].headers, body, self._clock() - began)

    async def _get(self, path: str, what: str) -> _Response:
        try:
            async with asyncio.timeout(_HEALTH_CHECK_S):
                return await self._send("GET", path, None, self._keys.headers)
        except TimeoutError as error:
            raise SourceUnavailableError(f"{self.host} did not answer within {_HEALTH_CHECK_S:.0f} s") from error
        except BodyTooLargeError as error:
            raise SourceUnavailableError(f"{self.host} answered {what} with more than 64 MB") from error
        except _TryAgainError as error:
            self._give_up(error)

    async def _search_once(
        self, request: SearchRequest, status: SourceStatus, patience: _Patience, early: Ahead[_Asked] | None
    ) -> Answer:
        came = await early.taken() if early is not None else None
        response, keys = came if came is not None else await self._ask(request, status, patience)
        if response.status in (401, 403) and await self._renewed(request, response, keys):
            status.retry_count += 1
            self._telemetry.add("evalforge.datadog.retries", source=request.source, code="keys_renewed")
            if KEYS_RENEWED not in status.warnings:
                status.warnings.append(KEYS_RENEWED)
            response, _ = await self._ask(request, status, patience)
        # An organisation that has given spans has an index: in the middle of a reading this is an outage like others.
        if not status.item_count and request.cursor is None and says_no_data_yet(response.status, response.body):
            return Answer([])
        _raise_for_status(response, self.host, f"the {request.source} search")
        self._keys.succeeded(request.source)
        try:
            return decode_answer(response.body)
        except NonsenseError as error:
            raise _TryAgainError(f"a body that is {error}", code="nonsense") from error

    async def _renewed(self, request: SearchRequest, refused: _Response, keys: KeyHeaders) -> bool:
        """Whether there are other keys to ask with than the refused ones."""
        try:
            return await self._keys.renewed(request.source, keys)
        except CredentialsError as error:
            why = _keys_refused(refused.status, self.host, f"the {request.source} search")
            message = f"{why.message}; and the keys could not be read anew: {error.message}"
            raise SourceRefusedError(message, status=refused.status) from error

    async def _ask(self, request: SearchRequest, status: SourceStatus, patience: _Patience) -> _Asked:
        """What one request brings, when the quota has room for it."""
        turn = await self._turn(request.source, patience)
        return await self._sent(turn, request, status, MAX_BODY_BYTES if request.limit == 1 else MAX_PAGE_BYTES)

    async def _sent(self, turn: Turn, request: SearchRequest, status: SourceStatus, max_bytes: int) -> _Asked:
        """What a request brings that has its place in the quota."""
        is_answered = False

        def learn(head: httpx.Response) -> None:
            nonlocal is_answered
            is_answered = True
            news = self._pacing.answered(turn, rate_limit(head.headers), is_refusal=head.status_code == 429)
            if news:
                status.rate_limit = {**status.rate_limit, **self._dated(news)}
                measure_quota(self._telemetry, request.source, news)

        status.request_count += 1
        keys = self._keys.headers
        try:
            with measure_request(self._telemetry, request.source, request.limit, self._clock) as answered:
                async with asyncio.timeout(_WHOLE_REQUEST_S):
                    path, body = ENDPOINTS[request.source].path, orjson.dumps(request.body())
                    response = await self._send("POST", path, body, keys, learn, max_bytes)
                answered(response.status, len(response.body))
                return response, keys
        except TimeoutError as error:
            raise _TryAgainError("the answer took too long", code="no_answer") from error
        finally:
            if not is_answered:
                self._pacing.unanswered(turn)

    async def _turn(self, source: str, patience: _Patience) -> Turn:
        """Waits until the quota has room for one request to this search, and takes the place."""
        while True:
            turn = self._pacing.ask(source, patience.left_s)
            wait_s = turn.wait_s
            if turn.kind == "reset":
                # A little later each, so that not all that waited come back together.
                wait_s = min(patience.left_s, wait_s + random.uniform(0, self._backoff_s))
            if turn.kind != "poll":
                patience.left_s -= wait_s
            try:
                if wait_s > 0:
                    await self._sleep(wait_s)
            except BaseException:
                self._pacing.cancel(turn)
                raise
            if self._pacing.begin(turn):
                return turn

    def _dated(self, told: Told) -> dict[str, float | str]:
        """What was told of a rate limit, with the moments (ISO 8601, UTC) when it was told and when the quota resets."""
        if not told:
            return {}
        now = self._now()
        dated = {**told, "told_at": _iso_of(now)}
        reset_s = told.get("reset_s")
        if isinstance(reset_s, int | float):
            dated["resets_at"] = _iso_of(now + timedelta(seconds=reset_s))
        return dated

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None,
        keys: KeyHeaders,
        on_head: Callable[[httpx.Response], None] = lambda head: None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> _Response:
        headers = {**keys, "Content-Type": "application/json"} if content is not None else keys
        try:
            async with self._http.stream(method, path, content=content, headers=headers) as response:
                on_head(response)
                return _Response(response.status_code, response.headers, await read_body(response, max_bytes))
        except httpx.HTTPError as error:
            raise _TryAgainError(f"no complete answer ({type(error).__name__})", code="no_answer") from error
        except BodyUnreadableError as error:
            raise _TryAgainError(str(error), code="no_answer") from error

    def _count_retry(self, request: SearchRequest, state: RetryCallState) -> None:
        failure = state.outcome.exception() if state.outcome else None
        code = failure.code if isinstance(failure, _TryAgainError) else ""
        self._telemetry.add("evalforge.datadog.retries", source=request.source, code=code)

    def _wait_s(self, state: RetryCallState) -> float:
        failure = state.outcome.exception() if state.outcome else None
        asked_s = failure.wait_s if isinstance(failure, _TryAgainError) else None
        # Full jitter, so that callers who failed together do not come back together; after a named wait only a little.
        backoff_s = min(_MAX_BACKOFF_S, self._backoff_s * 2.0 ** (state.attempt_number - 1))
        if asked_s is None:
            return random.uniform(backoff_s / 2, backoff_s)
        rounding_s = ROUNDING_S if isinstance(failure, _TryAgainError) and failure.is_quota else 0.0
        return asked_s + rounding_s + random.uniform(0, self._backoff_s)

    def _give_up(self, last: _TryAgainError) -> NoReturn:
        if last.is_quota:
            self._quota_is_out(last.wait_s, last)
        raise SourceUnavailableError(
            f"{self.host} gave no usable answer within RETRY_BUDGET_S: {last.reason}", retry_after_s=last.wait_s
        ) from last

    def _quota_is_out(self, wait_s: float | None, cause: Exception) -> NoReturn:
        wait = f"; it resets in {wait_s:.0f} s" if wait_s is not None else ""
        raise QuotaExhaustedError(
            f"Datadog's rate limit at {self.host} is used up{wait}, later than RETRY_BUDGET_S allows", retry_after_s=wait_s
        ) from cause


class _BudgetSpent:
    """Stops when the next attempt would begin later than the budget after the first failure."""

    def __init__(self, budget_s: float, clock: Callable[[], float]) -> None:
        self._budget_s = budget_s
        self._clock = clock
        self._first_failure_at: float | None = None

    def __call__(self, state: RetryCallState) -> bool:
        failed_at = self._clock()
        if self._first_failure_at is None:
            self._first_failure_at = failed_at
        return failed_at + state.upcoming_sleep - self._first_failure_at > self._budget_s


def _raise_for_status(response: _Response, host: str, what: str) -> None:
    status = response.status
    if status == 200:
        return
    if status in (401, 403):
        raise _keys_refused(status, host, what)
    if status == 429:
        raise _TryAgainError("the rate limit (429)", code="429", wait_s=wait_s(response.headers), is_quota=True)
    if status >= 500 or status == 408:
        raise _TryAgainError(f"HTTP {status}", code=str(status), wait_s=retry_after_s(response.headers))
    if 300 <= status < 400:
        raise SourceRefusedError(
            f"{host} redirects {what} ({status}), which is not followed: check DATADOG_SITE and DATADOG_API_URL",
            status=status,
        )
    raise SourceRefusedError(f"{host} does not accept {what} ({status})", status=status)


def _keys_refused(status: int, host: str, what: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"Datadog refused {what} at {host} ({status}): check DATADOG_API_KEY and DATADOG_APP_KEY and what they may "
        "read, and that DATADOG_SITE is this organisation's site, since a wrong site answers the same",
        status=status,
    )


def _iso_of(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
