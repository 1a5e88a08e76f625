"""How a fault answers: with a refusal instead of data, or with a connection that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from evalforge.sandbox.connections import Connections
from evalforge.sandbox.limits import RateLimit
from evalforge.sandbox.replies import HTML, JSON_API, Reply, html_error, plain_error, reason, too_many
from evalforge.sandbox.search import invalid_cursor
from evalforge.sandbox.trouble import Fault


def refusal(fault: Fault | None, limit: RateLimit) -> Reply | None:
    """Return the answer of a fault that needs no page, None for the others."""
    if fault is None:
        return None
    match fault.kind:
        case "rate_limited":
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


async def broken_off(request: Request, fault: Fault, page: bytes, headers: Mapping[str, str]) -> Response:
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
