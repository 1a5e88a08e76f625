"""The sandbox as an ASGI application: Datadog's paths, and a door of its own for tests under `/sandbox`."""

from __future__ import annotations

from collections.abc import Collection

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evalforge.sandbox import door, page
from evalforge.sandbox.back import routes as back
from evalforge.sandbox.connections import Connections
from evalforge.sandbox.guard import Guard
from evalforge.sandbox.intake import routes as intake
from evalforge.sandbox.replies import Reply, plain_error, reason, to_response
from evalforge.sandbox.search import SEARCH_PATHS
from evalforge.sandbox.search_endpoint import BOTH_KEYS, key_refusal, search_endpoint
from evalforge.sandbox.state import MONITORS_READ, Sandbox


def create_app(
    sandbox: Sandbox | None = None,
    *,
    allowed_hosts: Collection[str] | None = (),
    connections: Connections | None = None,
) -> Starlette:
    """Return the application of a sandbox, of a new and empty one if none is given.

    `allowed_hosts` are names that the `Host` header may carry besides loopback's; None allows any. `connections` lets
    the faults `reset` and `cut` reach the sockets; a server passes its own.
    """
    searches = [
        route
        for source, served in SEARCH_PATHS.items()
        for path in (served, "/{base:path}" + served)  # an origin that overrides Datadog's may have a path of its own
        for route in (
            Route(path, search_endpoint(source), methods=["GET"]),
            Route(f"{path}/search", search_endpoint(source), methods=["POST"]),
        )
    ]
    app = Starlette(
        routes=[
            Route("/api/v2/validate_keys", _validate_keys),
            Route("/api/v1/validate", _validate_api_key),
            Route("/api/v1/monitor", _monitors),
            *intake.routes(),
            *back.routes(),
            *searches,
            *door.routes(),
            *page.routes(),
        ],
        middleware=[Middleware(Guard, allowed_hosts=allowed_hosts)],
        exception_handlers={HTTPException: _no_such_route},
    )
    app.state.sandbox = sandbox if sandbox is not None else Sandbox()
    app.state.connections = connections if connections is not None else Connections()
    return app


async def _validate_keys(request: Request) -> Response:
    status = key_refusal(request, *BOTH_KEYS)
    return to_response(Reply(200, b'{"status":"ok"}') if status is None else plain_error(status, reason(status)))


async def _validate_api_key(request: Request) -> Response:
    status = key_refusal(request, "dd-api-key")
    if status is None:
        return to_response(Reply(200, b'{"valid":true}'))
    body = {
        "status": "error",
        "code": status,
        "errors": [reason(status)],
        "statuspage": "http://status.datadoghq.com",
    }
    return to_response(Reply(status, orjson.dumps(body)))


async def _monitors(request: Request) -> Response:
    """Give the monitors, of which there are none: for telling whether a key may do more than search spans."""
    status = key_refusal(request, *BOTH_KEYS, permission=MONITORS_READ)
    return to_response(Reply(200, b"[]") if status is None else plain_error(status, reason(status)))


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return to_response(plain_error(status, reason(status)))
