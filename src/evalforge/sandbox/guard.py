"""Who may talk to the sandbox: programs on this machine, not web pages that happen to be open in its browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from evalforge.sandbox.replies import plain_error, to_response


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only mean this machine."""
    name = host.lower().strip("[]").rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware that answers 403 to a foreign `Host`, a foreign `Origin` and a cross-site browser request.

    The `Host` check stops DNS rebinding, the other two stop pages of other sites. `allowed_hosts` are further good
    names; None means any.
    """

    def __init__(self, app: ASGIApp, allowed_hosts: Collection[str] | None = ()) -> None:
        self._app = app
        self._allowed = None if allowed_hosts is None else frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and (fault := self._fault(Headers(scope=scope))):
            await to_response(plain_error(403, "Forbidden", fault))(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _fault(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        name = _hostname(f"//{host}")
        if self._allowed is not None and not (name and (is_loopback(name) or name in self._allowed)):
            return "the Host header names another host"
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}".lower():
            return "the Origin header names another site"
        if headers.get("sec-fetch-site") == "cross-site":
            return "the request comes from another site"
        return None


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None
