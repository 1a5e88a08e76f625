"""Webhooks: one signed POST to a URL that the settings declare, and to nothing else that its host's name may lead to.

The name is resolved once for an attempt, every address must be public, and the connection goes to the checked address
itself: a name that changes its mind between check and use (DNS rebinding) gains nothing. httpx's client is not used, only
its transport: no redirect, cookie, proxy or environment variable takes part, and no log line shows the URL.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from types import MappingProxyType

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from evalforge.core.sites import is_loopback
from evalforge.core.webhooks import is_public, signed_headers, signing_keys, validated_webhook_url
from evalforge.errors import DestinationRefusedError, DestinationUnavailableError, SettingsError

ATTEMPT_TIMEOUT_S = 10.0
"""How long one attempt may take in all, from the look-up of the name to the head of the answer."""

ATTEMPTS = 4
MAX_ADDRESSES = 4
"""How many addresses of a host are tried in one attempt."""

MAX_WAIT_S = 10.0
"""The longest wait between two attempts; a receiver that asks for more is left alone for now."""

_CONNECT_TIMEOUT_S = 4.0
_BACKOFF_S = 0.5
_TRY_AGAIN_STATUSES = frozenset({408, 425, 429})
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]{1,100}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,998}[\x21-\x7e])?")
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_\-]{1,100}")
_OURS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "te", "trailer", "upgrade"})

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, for a port."""


async def post_signed(
    url: str,
    secret: str,
    body: bytes,
    *,
    content_type: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    message_id: str | None = None,
) -> None:
    """Returns when the receiver at `url` has taken `body` (any 2xx); see `Webhook.post`.

    Raises:
        SettingsError: the URL or the secret is none.
        DestinationRefusedError, DestinationUnavailableError
    """
    await Webhook(url, secret).post(body, content_type=content_type, headers=headers, message_id=message_id)


async def resolved(host: str, port: int) -> Sequence[str]:
    """The addresses that this machine's resolver gives for a host, in its order of preference.

    Raises:
        OSError, UnicodeError: the name leads nowhere, or cannot be one.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(address[4][0]) for address in found]


class Webhook:
    """A receiver of signed posts at `url`; `secret` is `whsec_…`, or several of those, each of which signs.

    What follows is for tests: `resolve` looks names up, `allows` says which addresses may be called, `trusted` are the
    certificates that are good (the public ones unless given).

    Raises:
        SettingsError: the URL or the secret is none.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        resolve: Resolve = resolved,
        allows: Callable[[str], bool] = is_public,
        trusted: ssl.SSLContext | None = None,
        timeout_s: float = ATTEMPT_TIMEOUT_S,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        try:
            self._url = httpx.URL(validated_webhook_url(url))
            self._keys = signing_keys(secret)
        except (ValueError, httpx.InvalidURL) as wrong:
            raise SettingsError(f"the webhook cannot be used: {wrong}") from None
        # As it is sent and certified: `host` would spell an international name out, and two readers could spell it back.
        self.host = self._url.raw_host.decode("ascii")
        self._port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self._resolve = resolve
        # Whoever names this machine in the settings means it; a name on the internet that leads here does not count.
        self._allows = is_loopback if is_loopback(self.host) else allows
        self._trusted = trusted
        self._timeout_s = timeout_s
        self._sleep = sleep
        self._now = now

    def __repr__(self) -> str:
        return f"Webhook({self.host})"

    async def post(
        self,
        body: bytes,
        *,
        content_type: str,
        headers: Mapping[str, str] = MappingProxyType({}),
        message_id: str | None = None,
    ) -> None:
        """Returns when the receiver has taken `body`, with any 2xx; nothing more of its answer is read.

        `message_id` (letters, digits, _ and -) stays the same however often something is sent, so that the receiver can
        tell; without one it is drawn. Tried up to 4 times, 10 seconds each, while the receiver cannot be reached or answers
        408, 425, 429 or 5xx. Delivery is at least once: an answer that is lost makes it twice.

        Raises:
            ValueError: a header or the id is none that may be sent.
            DestinationRefusedError: a redirect or another 4xx, a bad certificate, or an address that is not public.
            DestinationUnavailableError: no answer in the end; `retry_after_s` where the receiver says.
        """
        sent = _checked_headers(content_type, headers)
        message_id = message_id if message_id is not None else f"msg_{secrets.token_hex(16)}"
        if _MESSAGE_ID.fullmatch(message_id) is None:
            raise ValueError("the id of a message has letters, digits, _ and - only")
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_TryAgainError), wait=_wait_s, stop=_is_enough, sleep=self._sleep, reraise=True
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._attempt(body, sent, message_id)
        except _TryAgainError as last:
            raise DestinationUnavailableError(
                f"the webhook at {self.host} took nothing: {last.reason}", retry_after_s=last.wait_s
            ) from last

    async def _attempt(self, body: bytes, headers: Mapping[str, str], message_id: str) -> None:
        signature = signed_headers(self._keys, message_id, int(self._now()), body)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, wait_s = await self._sent(body, {**headers, **signature})
        except TimeoutError as error:
            raise _TryAgainError(f"no answer within {self._timeout_s:g} s") from error
        if 200 <= status < 300:
            return
        if status in _TRY_AGAIN_STATUSES or status >= 500:
            raise _TryAgainError(f"HTTP {status}", wait_s=wait_s)
        if 300 <= status < 400:
            raise self._refused(f"redirects ({status}), which is not followed: give the address where it really is")
        raise self._refused(f"does not accept this ({status})")

    async def _sent(self, body: bytes, headers: Mapping[str, str]) -> tuple[int, float | None]:
        """The status of the answer, and how many seconds it asks to wait."""
        failure: httpx.TransportError | None = None
        async with httpx.AsyncHTTPTransport(verify=self._context, trust_env=False) as transport:
            for address in await self._addresses():
                request = httpx.Request(
                    "POST",
                    self._url.copy_with(host=address),
                    content=body,
                    headers={"Host": self._url.netloc.decode("ascii"), **headers},
                    # The certificate has to name the host, not the address that it was found at.
                    extensions={"sni_hostname": self.host, "timeout": {"connect": _CONNECT_TIMEOUT_S}},
                )
                try:
                    response = await transport.handle_async_request(request)
                except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                    if _is_bad_certificate(error):
                        raise self._refused("shows a certificate that is not good for this name") from error
                    failure = error
                    continue
                except httpx.TransportError as error:
                    raise _TryAgainError(f"no complete answer ({type(error).__name__})") from error
                await response.aclose()
                return response.status_code, _retry_after_s(response.headers)
        raise _TryAgainError(f"no connection ({type(failure).__name__})") from failure

    async def _addresses(self) -> Sequence[str]:
        """The addresses to connect to, all of them checked."""
        try:
            found = list(dict.fromkeys(await self._resolve(self.host, self._port)))
        except OSError as error:
            raise _TryAgainError("its name leads nowhere") from error
        except UnicodeError as error:
            raise self._refused("has a name that none can have") from error
        if not found:
            raise _TryAgainError("its name leads nowhere")
        if not all(map(self._allows, found)):
            raise self._refused("leads to an address that is not public, which is never called")
        return found[:MAX_ADDRESSES]

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._trusted or httpx.create_ssl_context(trust_env=False)

    def _refused(self, why: str) -> DestinationRefusedError:
        return DestinationRefusedError(f"the webhook at {self.host} {why}")


class _TryAgainError(Exception):
    """This attempt failed, the next may not."""

    def __init__(self, reason: str, *, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s


def _asked_wait_s(state: RetryCallState) -> float | None:
    failure = state.outcome.exception() if state.outcome else None
    return failure.wait_s if isinstance(failure, _TryAgainError) else None


def _wait_s(state: RetryCallState) -> float:
    # Jitter, so that callers who failed together do not come back together.
    backoff_s = min(MAX_WAIT_S, _BACKOFF_S * 2.0**state.attempt_number)
    return max(_asked_wait_s(state) or 0.0, random.uniform(backoff_s / 2, backoff_s))


def _is_enough(state: RetryCallState) -> bool:
    return state.attempt_number >= ATTEMPTS or (_asked_wait_s(state) or 0.0) > MAX_WAIT_S


def _retry_after_s(headers: httpx.Headers) -> float | None:
    """So many seconds, at most a day; the other form, a date, is taken for nothing."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 86_400 else None


def _is_bad_certificate(error: BaseException) -> bool:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _checked_headers(content_type: str, headers: Mapping[str, str]) -> dict[str, str]:
    """What is sent as headers besides the signature.

    Raises:
        ValueError: a name or a value could be more than one header, or is ours to set.
    """
    for name, value in (*headers.items(), ("content-type", content_type)):
        if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
            raise ValueError("a header has a name, and a value of 1 to 1000 printable ASCII characters")
    if any(name.lower() in _OURS or name.lower().startswith(("webhook-", "proxy-")) for name in headers):
        raise ValueError("a header of the webhook itself cannot be given")
    return {
        "User-Agent": f"evalforge-ingestion/{version('evalforge-ingestion')}",
        "Accept": "*/*",
        **headers,
        "Content-Type": content_type,
    }
