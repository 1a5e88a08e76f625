"""Google's ID tokens: whose they are, if they are good for this service; and the keys that they are signed with.

Two checks have to agree: our own, which is strict about every claim, and Google's library, which verifies the signature,
the times and the audience. Google's library is imported only when settings name service accounts.
Source: https://developers.google.com/identity/openid-connect/openid-connect#validatinganidtoken and
https://cloud.google.com/docs/authentication/token-types#id
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from evalforge.core.callers import Caller
from evalforge.core.sites import is_loopback
from evalforge.events import emit

ISSUERS = frozenset({"https://accounts.google.com", "accounts.google.com"})
MAX_SKEW_S = 60
"""How far this machine's clock and Google's may differ."""

MAX_LIFETIME_S = 2 * 3600
"""From `iat` to `exp`; Google's ID tokens live for an hour."""

MIN_CACHE_S = 300.0
MAX_CACHE_S = 24 * 3600.0
MAX_STALE_S = 3 * 24 * 3600.0
"""How long keys are used beyond their time while newer ones cannot be fetched."""

REFETCH_S = 60.0
"""How soon keys may be asked for again: for an unknown key id, or after a failure while there are others."""

RETRY_S = 5.0
"""How soon keys may be asked for again after a failure while there are none."""

FETCH_TIMEOUT_S = 5.0
MAX_KEYS_BYTES = 256 * 1024

_TOKEN = re.compile(r"[A-Za-z0-9_\-]{1,1024}\.[A-Za-z0-9_\-]{1,4096}\.[A-Za-z0-9_\-]{1,1024}")
_KEY_ID = re.compile(r"[A-Za-z0-9_\-]{1,128}")
_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=(\d{1,9})(?:$|[\s,])", re.IGNORECASE)
_ALGORITHM = "RS256"


class TokenRefusedError(Exception):
    """The token lets nobody in. `reason` is a code for the log; `is_ours` says that the fault is on our side."""

    def __init__(self, reason: str, *, is_ours: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_ours = is_ours


class Tokens:
    """ID tokens that are made for `audience` and name one of `accounts` (callers by e-mail address)."""

    def __init__(
        self,
        audience: str,
        accounts: Mapping[str, Caller],
        signing_keys: SigningKeys,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        from google.auth import jwt

        self._jwt = jwt
        self._audience = audience
        self._accounts = dict(accounts)
        self._signing_keys = signing_keys
        self._now = now

    async def caller_of(self, token: str) -> Caller:
        """The caller that a token stands for.

        Raises:
            TokenRefusedError: it is no such token, or (`is_ours`) nobody can tell now.
        """
        key_id, claims = self._parsed(token)
        caller = self._account_of(claims)
        # Only now, so that a token that would be refused anyway makes nobody fetch keys.
        pem = await self._signing_keys.get(key_id)
        if pem is None:
            raise TokenRefusedError("unknown_signing_key")
        try:
            self._jwt.decode(token, {key_id: pem}, audience=self._audience, clock_skew_in_seconds=MAX_SKEW_S)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError):  # the library's own errors are ValueErrors; a key of another kind is a TypeError
            raise TokenRefusedError("bad_signature") from None
        return caller

    def _parsed(self, token: str) -> tuple[str, Mapping[str, Any]]:
        """The key id and the claims of a token that is well formed; nothing of it is believed yet."""
        if _TOKEN.fullmatch(token) is None:
            raise TokenRefusedError("malformed")
        try:
            header: Mapping[str, Any] = self._jwt.decode_header(token)  # type: ignore[no-untyped-call]
            claims: Mapping[str, Any] = self._jwt.decode(token, verify=False)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, RecursionError):
            raise TokenRefusedError("malformed") from None
        key_id = header.get("kid")
        if header.get("alg") != _ALGORITHM or "crit" in header:
            raise TokenRefusedError("wrong_algorithm")
        if not isinstance(key_id, str) or _KEY_ID.fullmatch(key_id) is None:
            raise TokenRefusedError("unknown_signing_key")
        return key_id, claims

    def _account_of(self, claims: Mapping[str, Any]) -> Caller:
        if claims.get("iss") not in ISSUERS:
            raise TokenRefusedError("wrong_issuer")
        if claims.get("aud") != self._audience:
            raise TokenRefusedError("wrong_audience")
        issued_at, expires_at, not_before = (_seconds(claims, name) for name in ("iat", "exp", "nbf"))
        now = self._now()
        if issued_at is None or expires_at is None or not 0 < expires_at - issued_at <= MAX_LIFETIME_S:
            raise TokenRefusedError("wrong_lifetime")
        if now > expires_at + MAX_SKEW_S:
            raise TokenRefusedError("expired")
        if now < max(issued_at, not_before or 0) - MAX_SKEW_S:
            raise TokenRefusedError("not_yet_valid")
        if claims.get("email_verified") is not True:
            raise TokenRefusedError("email_not_verified")
        email = claims.get("email")
        caller = self._accounts.get(email) if isinstance(email, str) else None
        if caller is None:
            raise TokenRefusedError("unknown_account")
        return caller


def _seconds(claims: Mapping[str, Any], name: str) -> int | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**40:
        raise TokenRefusedError("wrong_lifetime")
    return value


class SigningKeys:
    """The keys of `url` by key id, fetched when they are needed and kept as long as the answer says (5 minutes to a day).

    A failing server does not matter while there are keys that are at most 3 days beyond their time.
    """

    def __init__(self, url: str, *, now: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._now = now
        self._pems: dict[str, str] = {}
        self._fresh_until = 0.0
        self._next_fetch_at = float("-inf")
        self._lock = asyncio.Lock()

    async def get(self, key_id: str) -> str | None:
        """The key with this id, as PEM; None when there is none, by what is known within the last minute.

        Raises:
            TokenRefusedError: (`is_ours`) there are no keys, and none can be fetched.
        """
        if not self._is_at_hand(key_id):
            async with self._lock:  # callers that come together share one fetch
                if not self._is_at_hand(key_id) and self._now() >= self._next_fetch_at:
                    await self._fetch()
        if not self._are_usable():
            raise TokenRefusedError("no_signing_keys", is_ours=True)
        return self._pems.get(key_id)

    def _is_at_hand(self, key_id: str) -> bool:
        return key_id in self._pems and self._now() < self._fresh_until

    def _are_usable(self) -> bool:
        return bool(self._pems) and self._now() < self._fresh_until + MAX_STALE_S

    async def _fetch(self) -> None:
        try:
            pems, lifetime_s = await _fetched(self._url)
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            usable = self._are_usable()
            self._next_fetch_at = self._now() + (REFETCH_S if usable else RETRY_S)
            emit("signing_keys.failed", code=type(error).__name__, usable=usable)
            return
        now = self._now()
        self._pems = pems
        self._fresh_until = now + lifetime_s
        self._next_fetch_at = now + REFETCH_S


async def _fetched(url: str) -> tuple[dict[str, str], float]:
    """The keys at `url`, and for how many seconds they may be kept.

    Raises:
        httpx.HTTPError, TimeoutError, ValueError: there are none to be had.
    """
    from google.auth import crypt

    async with (
        asyncio.timeout(FETCH_TIMEOUT_S),
        httpx.AsyncClient(
            timeout=FETCH_TIMEOUT_S,
            follow_redirects=False,
            trust_env=not is_loopback(urlsplit(url).hostname or ""),
            headers={"Accept": "application/json"},
        ) as http,
        http.stream("GET", url) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise ValueError("no keys")
        body = bytearray()
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > MAX_KEYS_BYTES:
                raise ValueError("too long")
    found = _pems_in(bytes(body))
    pems = {}
    for key_id, pem in found.items():
        try:
            crypt.RSAVerifier.from_string(pem)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError):
            continue  # a key of a kind that we do not use, beside others that we do
        pems[key_id] = pem
    if not pems:
        raise ValueError("no keys")
    return pems, _lifetime_s(answer.headers)


def _pems_in(body: bytes) -> dict[str, str]:
    try:
        document = json.loads(body)
    except RecursionError:
        raise ValueError("no JSON") from None
    if not isinstance(document, dict):
        raise ValueError("no object")
    return {
        key_id: pem for key_id, pem in document.items() if isinstance(pem, str) and _KEY_ID.fullmatch(key_id) is not None
    }


def _lifetime_s(headers: httpx.Headers) -> float:
    """What is left of `max-age`, within our bounds."""
    max_age = _MAX_AGE.search(headers.get("cache-control", ""))
    age = headers.get("age", "0")
    left = int(max_age[1]) - (int(age) if age.isascii() and age.isdecimal() and len(age) < 10 else 0) if max_age else 0
    return min(max(float(left), MIN_CACHE_S), MAX_CACHE_S)
