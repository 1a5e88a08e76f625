"""Who is calling: API keys by their digests, Google's ID tokens, or nobody where nobody needs to be asked.

Every request passes `Gate` before anything of it is read. What was wrong with a credential is told to the log, as a reason
code, and never to whoever sent it.
Source: https://www.rfc-editor.org/rfc/rfc6750 (bearer tokens and WWW-Authenticate)
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from evalforge.config import Settings
from evalforge.core.callers import KEY, KEY_PREFIX, Caller, KeyRow, Role, key_digest
from evalforge.core.sites import is_loopback
from evalforge.events import emit
from evalforge.service.limits import Throttle
from evalforge.service.oidc import SigningKeys, TokenRefusedError, Tokens
from evalforge.service.problems import problem
from evalforge.service.sessions import caller_in

MAX_CREDENTIAL_CHARACTERS = 4096
"""Google's ID tokens have about 1,000; an API key has 47."""

UNNAMED = Caller("service", frozenset(Role))
"""Whoever calls where no callers are declared: on loopback, or behind a platform that checks callers."""

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/\-]+=*)", re.IGNORECASE)
_KEYS_RETRY_AFTER_S = 10


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nobody comes in: a code for the log. `is_ours` says that the fault is on our side, so that trying again helps."""

    reason: str
    is_ours: bool = False


@dataclass(frozen=True, slots=True)
class Presented:
    """The one credential of a request. Printing it shows nothing of it."""

    text: str = field(repr=False)


def presented(headers: Headers) -> Presented | Refused:
    """The credential that a request carries, as `Authorization: Bearer` or as `X-API-Key`; exactly one is taken."""
    bearer, api_key = headers.getlist("authorization"), headers.getlist("x-api-key")
    given = [*bearer, *api_key]
    if not given:
        return Refused("no_credential")
    if len(given) > 1:
        return Refused("two_credentials")
    text = given[0].strip(" \t")
    if len(text) > MAX_CREDENTIAL_CHARACTERS:
        return Refused("too_long")
    if api_key:
        return Presented(text) if KEY.fullmatch(text) else Refused("malformed")
    match = _BEARER.fullmatch(text)
    return Presented(match[1]) if match else Refused("malformed")


class Callers:
    """Everybody who may come in, as settings declare them.

    With API keys or service accounts declared, each request must show one. Without, everybody is let in who comes over
    loopback, or, if the settings say that the platform in front checks callers, everybody. Where the settings that say so
    are wrong (None) nobody is let in: who may come in is never guessed.
    """

    def __init__(self, settings: Settings | None, *, signing_keys: SigningKeys | None = None) -> None:
        self._is_closed = settings is None
        settings = settings or Settings()
        self._rows = settings.service_api_keys
        self._tokens: Tokens | None = None
        if settings.service_oidc_audience is not None:
            accounts = {caller.name: caller for caller in settings.service_oidc_callers}
            keys = signing_keys or SigningKeys(settings.service_oidc_certs_url)
            self._tokens = Tokens(settings.service_oidc_audience, accounts, keys)
        self._platform_checks = settings.service_callers_checked_by == "platform"
        self._refusals = Throttle()

    @property
    def are_declared(self) -> bool:
        """Whether settings name callers, so that each request has to be one's."""
        return bool(self._rows) or self._tokens is not None or self._is_closed

    @property
    def may_be_public(self) -> bool:
        """Whether the service may listen on an address that is not loopback."""
        return self.are_declared or self._platform_checks

    @property
    def kinds(self) -> list[str]:
        """How callers are known, for the log."""
        if self._is_closed:
            return ["nobody"]
        kinds = [name for name, there in (("api_keys", self._rows), ("oidc", self._tokens)) if there]
        return kinds or ["platform" if self._platform_checks else "loopback"]

    @property
    def rows(self) -> Sequence[KeyRow]:
        """The API keys that settings know, by their digests."""
        return self._rows

    async def identify(self, headers: Headers, server: str | None, *, takes_cookie: bool = False) -> Caller | Refused:
        """Who sends a request with these headers to the address `server` (None for a socket in the file system).

        Only with `takes_cookie` a session's cookie is a credential, and only where there is no other.
        """
        if not self.are_declared:
            return UNNAMED if self._platform_checks or server is None or is_loopback(server) else Refused("not_loopback")
        if self._is_closed:
            return Refused("misconfigured")
        credential = presented(headers)
        if isinstance(credential, Refused):
            session = caller_in(headers, self._rows) if takes_cookie and credential.reason == "no_credential" else None
            return session or credential
        if credential.text.startswith(KEY_PREFIX):
            return self._holder_of(credential.text) or Refused("unknown_key")
        if self._tokens is None:
            return Refused("unknown_credential")
        try:
            return await self._tokens.caller_of(credential.text)
        except TokenRefusedError as error:
            return Refused(error.reason, error.is_ours)

    def _holder_of(self, key: str) -> Caller | None:
        digest = key_digest(key)
        holder = None
        for row in self._rows:  # to the end, whichever fits: the time taken says nothing of the place
            if hmac.compare_digest(row.digest, digest):
                holder = row.caller
        return holder

    def refusal_count(self, route: str, reason: str) -> int | None:
        """How many refusals of this kind the log has not heard of yet; None while it has heard enough this minute."""
        return self._refusals.due(route, reason)


class Gate:
    """ASGI middleware: without a caller a request gets no further than the routes that let everybody in.

    `scope["state"]["caller"]` is the `Caller`, or None on an open route.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        callers: Callers,
        unasked_paths: Collection[str] = (),
        open_paths: Collection[str] = (),
        is_page: Callable[[str], bool] = lambda path: False,
        sign_in_place: Callable[[str, bytes], str] = lambda path, query: "/",
    ) -> None:
        self._app = app
        self._callers = callers
        self._unasked_paths = frozenset(unasked_paths)
        self._open_paths = frozenset(open_paths)
        self._is_page = is_page
        self._sign_in_place = sign_in_place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on with its caller, or answers it: 401, or 503 when tokens cannot be checked now."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        found: Caller | Refused | None = None
        is_page = False
        if scope["path"] not in self._unasked_paths:
            is_page = self._is_page(scope["path"])
            found = await self._callers.identify(Headers(scope=scope), _address_of(scope), takes_cookie=is_page)
        if isinstance(found, Refused):
            if scope["path"] not in self._open_paths:
                if is_page and scope["method"] == "GET" and found.reason == "no_credential":
                    place = self._sign_in_place(scope["path"], scope["query_string"])
                    await Response(status_code=303, headers={"Location": place})(scope, receive, send)
                    return
                tell_refused(scope, self._callers, found.reason)
                await _answer(found)(scope, receive, send)
                return
            found = None
        scope.setdefault("state", {})["caller"] = found
        await self._app(scope, receive, send)


def _address_of(scope: Scope) -> str | None:
    """The address that the connection came in by: of this machine's own, not what the request says."""
    server: tuple[str, int | None] | None = scope.get("server")
    return None if server is None or server[1] is None else server[0]


def _answer(refused: Refused) -> Any:
    if refused.is_ours:
        return problem(
            503,
            "callers_unknown",
            "tokens cannot be checked now: their signing keys cannot be fetched",
            retry_after_s=_KEYS_RETRY_AFTER_S,
        )
    challenge = 'Bearer realm="evalforge"'
    if refused.reason != "no_credential":
        challenge += ', error="invalid_token"'
    return problem(
        401,
        "no_caller",
        "this needs a caller: one API key or one Google ID token that the settings know, "
        "as Authorization: Bearer, or an API key as X-API-Key",
        headers={"WWW-Authenticate": challenge},
    )


def caller_of(request: HTTPConnection) -> Caller | None:
    """Who sends the request; None only on routes that let everybody in.

    Raises:
        KeyError: nobody asked, because `Gate` does not stand in front.
    """
    caller: Caller | None = request.scope["state"]["caller"]
    return caller


def tell_refused(scope: Scope, callers: Callers, reason: str) -> None:
    """Tells the log of a refused request: its route if there is one (paths may hold anything), never its credential."""
    paths = {getattr(route, "path", None) for route in scope["app"].routes}
    route = scope["path"] if scope["path"] in paths else "other"
    count = callers.refusal_count(route, reason)
    if count is not None:
        emit("caller.refused", request_id=scope["state"].get("request_id"), route=route, reason=reason, count=count)
