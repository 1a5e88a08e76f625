"""The endpoint of a search: keys, then the rate limit, then trouble, then the page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from evalforge.sandbox.connections import Connections
from evalforge.sandbox.payloads import UnreadableError, body_of
from evalforge.sandbox.replies import (
    HTML,
    JSON_API,
    Refused,
    Reply,
    html_error,
    plain_error,
    reason,
    to_response,
    too_many,
)
from evalforge.sandbox.requests import SearchRequest, read_body, read_parameters
from evalforge.sandbox.search import invalid_cursor, response_body, search
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
        return to_response(too_many(meter.limit.limit, meter.limit.period_s), headers)
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
        refusal = fault and _refusal(fault, sandbox, source)
        if refusal:
            return to_response(refusal, headers)
        page = _page(sandbox, asked, fault, started, _base_url(request))
    except Refused as refused:
        return to_response(refused.reply, headers)
    if fault is not None and fault.kind in ("cut", "reset"):
        return await _broken_off(request, fault, page, headers)
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


def _refusal(fault: Fault, sandbox: Sandbox, source: Source) -> Reply | None:
    """Return the answer of a fault that needs no page, None for the others."""
    match fault.kind:
        case "rate_limited":
            limit = sandbox.meters[source].limit
            return html_error(429, reason(429)) if fault.body == "html" else too_many(limit.limit, limit.period_s)
        case "status" if fault.body == "html":
            return html_error(fault.status, reason(fault.status))
        case "status":
            return plain_error(fault.status, reason(fault.status))
        case "html":
            return Reply(200, b"<!DOCTYPE html><html><body><h1>Sign in to continue</h1></body></html>\n", HTML)
        case "bad_cursor":
            return invalid_cursor().reply
        case "no_index":
            return Reply(500, orjson.dumps({"errors": [{"detail": "No valid indexes specified"}]}))
    return None


async def _broken_off(request: Request, fault: Fault, page: bytes, headers: Mapping[str, str]) -> Response:
    """Lose the connection: at once for `reset`, in the middle of the body for `cut`."""
    connections: Connections = request.app.state.connections
    if fault.kind == "reset":
        connections.reset(request.client)
        return Response(status_code=503)  # nobody is left to read it

    async def half() -> AsyncIterator[bytes]:
        yield page[: len(page) // 2]
        connections.close(request.client)
        await asyncio.sleep(0.05)  # lets the server notice that the peer is gone before the body ends too early

    return StreamingResponse(half(), headers={**headers, "content-length": str(len(page))}, media_type=JSON_API)


def _decoded(body: bytes) -> Json:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return body.decode(errors="replace")
