"""HTTP to Datadog's API of projects, datasets and annotation queues: paced requests, repeated without doing a thing twice.

This is the only place here that sees the keys, that retries, and that turns what Datadog answers into our errors.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import NoReturn, Self
from urllib.parse import urlsplit

import httpx

from evalforge.core.sites import is_loopback
from evalforge.core.span import Json
from evalforge.datadog_http.answers import NonsenseError, decode_json, rate_limit, retry_after_s, wait_s
from evalforge.datadog_http.body import BodyTooLargeError, BodyUnreadableError, read_body
from evalforge.datadog_http.keys import KeyHeaders, Keys, RenewKeys
from evalforge.datadog_http.pacing import ROUNDING_S, OutOfQuotaError, Pacing, Turn
from evalforge.errors import (
    CredentialsError,
    EvalForgeError,
    NotFoundError,
    QuotaExhaustedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from evalforge.exports.jsonl import json_bytes

BASE = "/api/v2/llm-obs/v1"
"""What the paths begin with. Source: https://docs.datadoghq.com/llm_observability/experiments/api/"""

PERMISSIONS = ("llm_observability_read", "llm_observability_write")
"""What the application key must be allowed to do here.

Source: https://docs.datadoghq.com/account_management/rbac/permissions/ has both. The pages of these endpoints name none;
those of prompts, which are kept beside datasets, want the second one to change something.
"""

MAX_BODY_BYTES = 64 * 1024 * 1024
"""No answer is read beyond this."""

_TIMEOUT = httpx.Timeout(60.0, connect=10.0)
_WHOLE_REQUEST_S = 180.0
_MAX_BACKOFF_S = 20.0
_AREA = "datasets"

Again = Callable[[], Awaitable[Json]]
"""What is still to be asked after an answer was lost: the body to send now, or None when all of it was done."""


class _TryAgainError(Exception):
    """This attempt failed in a way that the next one may not. `may_be_done`: Datadog may have done what was asked."""

    def __init__(
        self, reason: str, *, wait_s: float | None = None, is_quota: bool = False, may_be_done: bool = True
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.is_quota = is_quota
        self.may_be_done = may_be_done


@dataclass(slots=True)
class _Patience:
    """How long one request may still wait for its quota, over all its attempts."""

    left_s: float


class DatadogApi:
    """A connection to one Datadog organisation, for changing it. Use it as a context manager, or `close` it.

    `api_url` must have passed `core.sites.validated_api_url`. A fault is retried for at most `retry_budget_s` seconds,
    counted from its first failure; as long a request waits for its quota. `renew_keys` is asked once when the keys are
    refused. `transport`, `sleep` and `clock` (seconds that only grow) are the ports to the world, for tests.

    Raises:
        CredentialsError: a key that cannot be a key.
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
    ) -> None:
        self.host = urlsplit(api_url).hostname or ""
        self._retry_budget_s = retry_budget_s
        self._backoff_s = backoff_s
        self._sleep = sleep
        self._clock = clock
        self._pacing = Pacing(clock)
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
        return f"DatadogApi({self.host})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Frees the connections; nothing may be called afterwards."""
        await self._http.aclose()

    async def get(self, path: str, what: str, params: Mapping[str, str] | None = None) -> Json:
        """What a path below `BASE` holds, decoded. `what` names it in errors.

        Raises:
            SourceRefusedError, NotFoundError, SourceUnavailableError, QuotaExhaustedError
        """
        return await self._asked("GET", path, what, None, params or {}, None)

    async def post(self, path: str, what: str, body: Json, again: Again | None = None) -> Json:
        """The answer to a change below `BASE`, decoded; None when `again` found that there is nothing left to do.

        After an answer that was lost (a broken connection, a 5xx, a page instead of JSON), `again` says what to send
        instead; without it the same is sent once more.

        Raises:
            SourceRefusedError: the keys or the request; `status` is the HTTP status.
            NotFoundError: what is to be changed is not there.
            SourceUnavailableError, QuotaExhaustedError: what was done until then stays.
        """
        return await self._asked("POST", path, what, body, {}, again)

    async def _asked(
        self, method: str, path: str, what: str, body: Json, params: Mapping[str, str], again: Again | None
    ) -> Json:
        first_failed_at: float | None = None
        attempt, patience = 0, _Patience(self._retry_budget_s)
        while True:
            try:
                return await self._sent(method, path, what, body, params, patience)
            except OutOfQuotaError as out:
                self._quota_is_out(out.wait_s, out)
            except _TryAgainError as failure:
                now = self._clock()
                first_failed_at = now if first_failed_at is None else first_failed_at
                pause_s = self._pause_s(failure, attempt)
                if now + pause_s - first_failed_at > self._retry_budget_s:
                    self._give_up(failure, what)
                await self._sleep(pause_s)
                attempt += 1
                if again is not None and failure.may_be_done:
                    body = await again()
                    if body is None:
                        return None

    async def _turn(self, patience: _Patience) -> Turn:
        """Waits until the quota has room for one request, and takes the place."""
        while True:
            turn = self._pacing.ask(_AREA, patience.left_s)
            if turn.kind != "poll":
                patience.left_s -= turn.wait_s
            try:
                if turn.wait_s > 0:
                    await self._sleep(turn.wait_s)
            except BaseException:
                self._pacing.cancel(turn)
                raise
            if self._pacing.begin(turn):
                return turn

    async def _sent(
        self, method: str, path: str, what: str, body: Json, params: Mapping[str, str], patience: _Patience
    ) -> Json:
        keys, turn = self._keys.headers, await self._turn(patience)
        response, content = await self._attempted(turn, method, path, body, params, keys)
        if response.status_code in (401, 403) and await self._renewed(response.status_code, keys, what):
            turn = await self._turn(patience)
            response, content = await self._attempted(turn, method, path, body, params, self._keys.headers)
        _raise_for_status(response, self.host, what)
        self._keys.succeeded(_AREA)
        try:
            return decode_json(content)
        except NonsenseError as error:
            raise _TryAgainError(f"a body that is {error}") from error

    async def _renewed(self, status: int, refused: KeyHeaders, what: str) -> bool:
        try:
            return await self._keys.renewed(_AREA, refused)
        except CredentialsError as error:
            why = _keys_refused(status, self.host, what)
            message = f"{why.message}; and the keys could not be read anew: {error.message}"
            raise SourceRefusedError(message, status=status) from error

    async def _attempted(
        self, turn: Turn, method: str, path: str, body: Json, params: Mapping[str, str], keys: KeyHeaders
    ) -> tuple[httpx.Response, bytearray]:
        """One request and its answer; every fault of the way is a `_TryAgainError`."""
        content = None if body is None else json_bytes(body)
        headers = dict(keys) if content is None else {**keys, "Content-Type": "application/json"}
        is_answered = False
        try:
            async with (
                asyncio.timeout(_WHOLE_REQUEST_S),
                self._http.stream(method, BASE + path, content=content, headers=headers, params=params) as response,
            ):
                is_answered = True
                self._pacing.answered(turn, rate_limit(response.headers), is_refusal=response.status_code == 429)
                return response, await read_body(response, MAX_BODY_BYTES)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _TryAgainError(f"no connection ({type(error).__name__})", may_be_done=False) from error
        except (httpx.HTTPError, TimeoutError) as error:
            raise _TryAgainError(f"no complete answer ({type(error).__name__})") from error
        except BodyUnreadableError as error:
            raise _TryAgainError(str(error)) from error
        except BodyTooLargeError as error:
            raise SourceRefusedError(f"{self.host} answered with more than 64 MB") from error
        finally:
            if not is_answered:
                self._pacing.unanswered(turn)

    def _pause_s(self, failure: _TryAgainError, attempt: int) -> float:
        backoff_s = min(_MAX_BACKOFF_S, self._backoff_s * 2.0**attempt)
        if failure.wait_s is None:
            return random.uniform(backoff_s / 2, backoff_s)
        return failure.wait_s + (ROUNDING_S if failure.is_quota else 0.0) + random.uniform(0, self._backoff_s)

    def _give_up(self, last: _TryAgainError, what: str) -> NoReturn:
        if last.is_quota:
            self._quota_is_out(last.wait_s, last)
        raise SourceUnavailableError(
            f"{self.host} gave no usable answer to {what} within RETRY_BUDGET_S: {last.reason}", retry_after_s=last.wait_s
        ) from last

    def _quota_is_out(self, wait_s: float | None, cause: Exception) -> NoReturn:
        wait = f"; it resets in {wait_s:.0f} s" if wait_s is not None else ""
        raise QuotaExhaustedError(
            f"Datadog's rate limit at {self.host} is used up{wait}, later than RETRY_BUDGET_S allows", retry_after_s=wait_s
        ) from cause


def _raise_for_status(response: httpx.Response, host: str, what: str) -> None:
    status = response.status_code
    if 200 <= status < 300:
        return
    if status == 429:
        raise _TryAgainError("the rate limit (429)", wait_s=wait_s(response.headers), is_quota=True, may_be_done=False)
    if status >= 500 or status == 408:
        raise _TryAgainError(f"HTTP {status}", wait_s=retry_after_s(response.headers))
    raise _refused(status, host, what)


def _refused(status: int, host: str, what: str) -> EvalForgeError:
    if status in (401, 403):
        return _keys_refused(status, host, what)
    if status == 404:
        return NotFoundError(f"{host} does not know {what} (404): it was deleted, or DATADOG_SITE is another organisation's")
    if 300 <= status < 400:
        return SourceRefusedError(
            f"{host} redirects {what} ({status}), which is not followed: check DATADOG_SITE and DATADOG_API_URL",
            status=status,
        )
    return SourceRefusedError(f"{host} does not accept {what} ({status})", status=status)


def _keys_refused(status: int, host: str, what: str) -> SourceRefusedError:
    return SourceRefusedError(
        f"Datadog refused {what} at {host} ({status}): check DATADOG_API_KEY and DATADOG_APP_KEY, that the application key "
        f"has {' and '.join(PERMISSIONS)}, and that DATADOG_SITE is this organisation's site, since a wrong site answers "
        "the same",
        status=status,
    )
