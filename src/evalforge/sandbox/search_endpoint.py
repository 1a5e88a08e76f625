"""The endpoint of a search: keys, then the rate limit, then trouble, then the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response

from evalforge.sandbox.breaking import broken_off, refusal
from evalforge.sandbox.payloads import UnreadableError, body_of
from evalforge.sandbox.replies import (
    JSON_API,
    Refused,
    Reply,
    plain_error,
    reason,
    to_response,
)
from evalforge.sandbox.requests import SearchRequest, read_body, read_parameters
from evalforge.sandbox.search import response_body, search
from evalforge.sandbox.spans import Json, Source
from evalforge.sandbox.state import SEARCH_PERMISSIONS, LoggedRequest, Sandbox
from evalforge.sandbox.trouble import Fault

BOTH_KEYS = ("dd-api-key", "dd-application-key")


def key_refusal(request: Request, *names: str, permission: str | None = None) -> int | None:
    """Return the status that the keys in these headers are refused with, None when they are good.

    Good keys are refused with 403, too, when the application key has not the `permission`.
    """
    sandbox: Sandbox = request.app.state.sandbox
    fault = sandbox.key_fault(*(request.headers.get(name) for name in names))
    return 403 if fault is None and permission is not None and permission not in sandbox.permissions else fault


def search_endpoint(source: Source) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint that serves one source's search, by GET and by POST, and logs what was asked."""

    async def endpoint(request: Request) -> Response:
        sandbox: Sandbox = request.app.state.sandbox
        try:
            body = await body_of(request)
        except (Refused, UnreadableError) as refused:
            return to_response(refused.reply if isinstance(refused, Refused) else plain_error(400, str(refused)))
        response = await _answer(request, sandbox, source, body)
        asked = dict(request.query_params) if request.method == "GET" else _decoded(body)
        sandbox.requests.append(
            LoggedRequest(sandbox.now(), source, request.method, request.url.path, asked, response.status_code)
        )
        return response

    return endpoint


async def _answer(request: Request, sandbox: Sandbox, source: Source, body: bytes) -> Response:
    started = time.monotonic()
    status = key_refusal(request, *BOTH_KEYS, permission=SEARCH_PERMISSIONS[source])
    if status is not None:
        return to_response(plain_error(status, reason(status)))
    meter = sandbox.meters[source]
    allowed, headers = meter.take()
    if not allowed:
        return to_response(meter.refusal(), headers)
    now_ms = int(sandbox.now() * 1000)
    try:
        asked = (
            read_parameters(source, request.query_params, now_ms)
            if request.method == "GET"
            else read_body(source, body, now_ms)
        )
        latency_s, fault = sandbox.trouble.next(source, asked.cursor is not None)
        await asyncio.sleep(latency_s)
        if fault is not None and fault.kind == "rate_limited":
            headers = meter.headers(remaining=0, reset_s=fault.reset_s)
        if fault is not None and not fault.rate_headers:
            headers = {}
        refused_with = refusal(fault, meter.limit)
        if refused_with:
            return to_response(refused_with, headers)
        page = _page(sandbox, asked, fault, started, _base_url(request))
    except Refused as refused:
        return to_response(refused.reply, headers)
    if fault is not None and fault.kind in ("cut", "reset"):
        return await broken_off(request, fault, page, headers)
    return to_response(Reply(200, page, JSON_API), headers)


def _base_url(request: Request) -> str:
    """Return what the reader put before the search's path."""
    base = request.path_params.get("base", "")
    return str(request.base_url).rstrip("/") + (f"/{base}" if base else "")


def _page(sandbox: Sandbox, asked: SearchRequest, fault: Fault | None, started: float, base_url: str) -> bytes:
    kind = fault.kind if fault is not None else None
    page = search(sandbox.store, asked, sandbox.max_response_bytes, cut_in_half=kind == "partial")
    body = response_body(page, asked, started, base_url)
    return body[: len(body) // 2] if kind == "truncated" else body


def _decoded(body: bytes) -> Json:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
