"""How much one request, and all of them together, may ask of the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from evalforge.events import emit
from evalforge.service.problems import problem

MAX_URL_BYTES = 4 * 1024
MAX_HEADER_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_IN_FLIGHT = 32
"""Requests of callers that may be going on at once. One is a run; exports and erasures each hold a thread and a store."""

BUSY_RETRY_AFTER_S = 5
_TOLD_EVERY_S = 60.0


class Throttle:
    """Says when something that may happen very often is told: the first time, then once a minute with its number."""

    def __init__(self, *, period_s: float = _TOLD_EVERY_S, now: Callable[[], float] = time.monotonic) -> None:
        self._period_s = period_s
        self._now = now
        self._told: dict[tuple[str, ...], tuple[float, int]] = {}

    def due(self, *kind: str) -> int | None:
        """How often this kind happened since it was last told, this time included; None when it is not to be told now."""
        now = self._now()
        told_at, untold = self._told.get(kind, (now - self._period_s, 0))
        if now - told_at < self._period_s:
            self._told[kind] = (told_at, untold + 1)
            return None
        self._told[kind] = (now, 0)
        return untold + 1


class Sizes:
    """ASGI middleware that refuses requests whose address (414) or headers (431) are larger than any of ours."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers it with a problem."""
        if scope["type"] == "http":
            headers = scope["headers"]
            address = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
            if address > MAX_URL_BYTES:
                refused = problem(414, "url_too_long", f"the address has more than {MAX_URL_BYTES} bytes")
            elif len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
                refused = problem(
                    431, "headers_too_large", f"more than {MAX_HEADERS} headers, or {MAX_HEADER_BYTES} bytes of them"
                )
            else:
                refused = None
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self._app(scope, receive, send)


class InFlight:
    """ASGI middleware: at most `limit` requests at once, `uncounted_paths` aside; 503 with Retry-After for others."""

    def __init__(self, app: ASGIApp, *, limit: int = MAX_IN_FLIGHT, uncounted_paths: Collection[str] = ()) -> None:
        self._app = app
        self._limit = limit
        self._uncounted_paths = frozenset(uncounted_paths)
        self._count = 0
        self._refusals = Throttle()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on, or answers that there are too many."""
        if scope["type"] != "http" or scope["path"] in self._uncounted_paths:
            await self._app(scope, receive, send)
            return
        if self._count >= self._limit:
            count = self._refusals.due()
            if count is not None:
                emit("service.busy", request_id=scope["state"].get("request_id"), count=count)
            refused = problem(503, "busy", "too many requests are going on", retry_after_s=BUSY_RETRY_AFTER_S)
            await refused(scope, receive, send)
            return
        self._count += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._count -= 1
