"""What every answer carries: a request id, and headers that tell browsers to keep their hands off.

Source: https://cheatsheetseries.owasp.org/cheatsheets/REST_Security_Cheat_Sheet.html#security-headers
"""

from __future__ import annotations

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evalforge.core.sites import is_loopback
from evalforge.service.problems import REQUEST_ID

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Set on every answer that does not say otherwise itself."""

_HSTS = ("Strict-Transport-Security", "max-age=31536000")

# Without an underscore, so that no API key fits; shorter than any ID token.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,63}")


def request_id_of(headers: Headers) -> str:
    """The caller's own `X-Request-Id` when there is one and it is short and harmless; else a new one."""
    given = headers.getlist("x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return uuid.uuid4().hex


class Envelope:
    """ASGI middleware that gives each request its id (`scope["state"]["request_id"]`) and each answer its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, and the answer back with what it lacks."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        scope.setdefault("state", {})["request_id"] = request_id
        token = REQUEST_ID.set(request_id)

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    answer.setdefault(name, value)
                if _came_by_https(headers):
                    answer.setdefault(*_HSTS)
                answer["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, dressed)
        finally:
            REQUEST_ID.reset(token)


def _came_by_https(headers: Headers) -> bool:
    """Whether TLS ended in front of us. Anybody may claim it, but only of their own connection, so believing it is safe.

    Never for loopback names: a browser would then refuse every other local server that speaks plain http.
    """
    host = headers.get("host", "").rpartition("]")[0].lstrip("[") or headers.get("host", "").partition(":")[0]
    return headers.get("x-forwarded-proto") == "https" and not is_loopback(host.lower())
