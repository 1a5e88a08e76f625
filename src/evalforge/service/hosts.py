"""Who may talk to the service: no page of another site, and nobody through a name that is not ours.

The `Host` check stops DNS rebinding, the `Origin` and `Sec-Fetch-Site` checks stop requests that another site's page makes
in somebody's browser. Programs such as curl send neither header and pass.
Source: https://fetch.spec.whatwg.org/#origin-header and https://www.w3.org/TR/fetch-metadata/
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from evalforge.core.sites import is_loopback
from evalforge.service.problems import problem

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_PAGES = frozenset({"same-origin", "none"})
_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.\-]{1,253})(?::(\d{1,5}))?")
_DEFAULT_PORT = {"http": "80", "https": "443"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is turned away."""

    status: int
    code: str
    detail: str


class Guard:
    """ASGI middleware that refuses foreign hosts (421) and state changes from foreign pages (403)."""

    def __init__(self, app: ASGIApp, public_hosts: Collection[str] = ()) -> None:
        self._app = app
        self._public_hosts = frozenset(host.lower() for host in public_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with a problem."""
        if scope["type"] == "http":
            found = refusal(scope["method"], Headers(scope=scope), self._public_hosts)
            if found is not None:
                await problem(found.status, found.code, found.detail)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def refusal(method: str, headers: Headers, public_hosts: Collection[str]) -> Refusal | None:
    """Why a request with these headers is refused, or None when it may pass. `public_hosts` are lower-case."""
    hosts = headers.getlist("host")
    host = hosts[0].strip().lower() if len(hosts) == 1 else ""
    if not is_own_host(host, public_hosts):
        return Refusal(
            421, "foreign_host", "the Host header names another host; PUBLIC_HOSTS lists the names this service answers to"
        )
    if method in _SAFE_METHODS:
        return None
    for origin in headers.getlist("origin"):
        if not _is_same_origin(origin.strip().lower(), host):
            return Refusal(403, "foreign_origin", "a page of another origin may not change anything here")
    for site in headers.getlist("sec-fetch-site"):
        if site.strip().lower() not in _OWN_PAGES:
            return Refusal(403, "foreign_origin", "a page of another site may not change anything here")
    return None


def is_own_host(host: str, public_hosts: Collection[str]) -> bool:
    """Whether a lower-case Host header means this service: a loopback name with any port, or one of `public_hosts`.

    A public host that is given without a port matches with any.
    """
    match = _AUTHORITY.fullmatch(host)
    if match is None:
        return False
    return is_loopback(match[1].strip("[]")) or host in public_hosts or match[1] in public_hosts


def _is_same_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    default = _DEFAULT_PORT.get(parts.scheme)
    if default is None or parts.path or parts.query or parts.fragment:
        return False
    return _with_port(parts.netloc, default) == _with_port(host, default)


def _with_port(authority: str, default: str) -> tuple[str, str] | None:
    match = _AUTHORITY.fullmatch(authority)
    return (match[1], match[2] or default) if match else None
