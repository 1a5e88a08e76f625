"""The intake's endpoints. They ask for no key: whoever may talk to the sandbox may send to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evalforge.sandbox.intake import apm, evaluations, llm_obs
from evalforge.sandbox.payloads import UnreadableError, body_of, decode, servable
from evalforge.sandbox.replies import Refused, Reply, to_response
from evalforge.sandbox.spans import Json
from evalforge.sandbox.state import Arrival, Sandbox

LLM_OBS_PATHS = ("/api/v2/llmobs", "/api/intake/llm-obs/v1/trace/spans")
EVALUATION_PATHS = ("/api/intake/llm-obs/v2/eval-metric", "/api/intake/llm-obs/v1/eval-metric")
TRACES_PATH = "/v0.4/traces"

QUIET_PATHS = {
    "/telemetry/proxy/api/v2/apmtelemetry": 202,
    "/api/v2/apmtelemetry": 202,
    "/v0.6/stats": 200,
    "/v0.7/config": 200,
    "/v0.1/pipeline_stats": 200,
    "/profiling/v1/input": 200,
    "/debugger/v1/input": 200,
    "/debugger/v1/diagnostics": 200,
    "/symdb/v1/input": 200,
    "/tracer_flare/v1": 200,
    "/evp_proxy/{rest:path}": 202,
}
"""What tracers also call, and the status that satisfies them; every body is read and forgotten."""

INFO = {
    "version": "7.70.0",
    # The SDK sends to an agent only if it lists a proxy for LLM Observability; v0.5 would lose the LLM spans inside traces.
    "endpoints": [TRACES_PATH, "/v0.6/stats", "/v0.7/config", "/evp_proxy/v2/", "/evp_proxy/v4/", "/telemetry/proxy/"],
    "client_drop_p0s": False,
    "span_meta_structs": True,
}

Count = tuple[int, int, int]
"""Spans, evaluations and dropped items of one body."""


def routes() -> list[Route]:
    """Return the intake's routes, the more specific first.

    Spans and evaluations are taken behind any base path: an agent's proxy (`/evp_proxy/v2`, `/evp_proxy/v4`), or the path
    of the origin that the application was given.
    """
    taken: list[tuple[str, Callable[[Sandbox, Json], Count]]] = [
        *((path, take_llm_obs) for path in LLM_OBS_PATHS),
        *((path, take_evaluations) for path in EVALUATION_PATHS),
    ]
    return [
        Route("/info", _info),
        Route(TRACES_PATH, _endpoint(take_traces, Reply(200, b'{"rate_by_service":{"service:,env:":1.0}}')), methods=_SENT),
        *(
            Route(base + path, _endpoint(take, Reply(202, b"{}")), methods=_SENT)
            for path, take in taken
            for base in ("", "/{base:path}")
        ),
        *(Route(path, _quiet(status), methods=["GET", *_SENT]) for path, status in QUIET_PATHS.items()),
    ]


_SENT = ["POST", "PUT"]


async def _info(request: Request) -> Response:
    return to_response(Reply(200, orjson.dumps(INFO)))


def _quiet(status: int) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        try:
            await body_of(request)
        except Refused as refused:
            return to_response(refused.reply)
        except UnreadableError:
            pass
        return to_response(Reply(status, b"{}"))

    return endpoint


def _endpoint(take: Callable[[Sandbox, Json], Count], answer: Reply) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that takes what a body holds and always gives one answer, except to a body without bounds."""

    async def endpoint(request: Request) -> Response:
        sandbox: Sandbox = request.app.state.sandbox
        try:
            body = decode(await body_of(request), request.headers.get("content-type", ""))
            spans, verdicts, dropped = take(sandbox, body)
        except Refused as refused:
            return to_response(refused.reply)
        except UnreadableError:
            spans, verdicts, dropped = 0, 0, 1
        sandbox.arrivals.append(
            Arrival(sandbox.now(), request.method, request.url.path, spans=spans, evaluations=verdicts, dropped=dropped)
        )
        return to_response(answer)

    return endpoint


def take_llm_obs(sandbox: Sandbox, body: Json) -> Count:
    """Store the spans of a body of span events, and count them."""
    now_ns = int(sandbox.now() * 1e9)
    items = [llm_obs.exported(event, envelope, now_ns) for event, envelope in llm_obs.events_of(body)]
    return _added(sandbox, items), 0, items.count(None)


def take_evaluations(sandbox: Sandbox, body: Json) -> Count:
    """Store the evaluations and feedbacks of a body of metrics, and count them."""
    verdicts = [evaluations.verdict_of(metric) for metric in evaluations.metrics_of(servable(body))]
    for verdict in verdicts:
        if verdict is not None:
            sandbox.store.add_verdict(verdict)
    return 0, len(verdicts) - verdicts.count(None), verdicts.count(None)


def take_traces(sandbox: Sandbox, body: Json) -> Count:
    """Store the APM spans of a body of traces, and the LLM spans that travel in them, and count both."""
    now_ns = int(sandbox.now() * 1e9)
    spans = list(apm.spans_of(body))
    items = [apm.searchable(span, now_ns) for span in spans]
    sandbox.store.add_apm(servable(item) for item in items if item is not None)
    carrying = [span for span in spans if apm.carries_llm_span(span)]
    carried = [llm_obs.exported(apm.llm_event(span), {}, now_ns) for span in carrying]
    dropped = items.count(None) + carried.count(None)
    return len(items) - items.count(None) + _added(sandbox, carried), 0, dropped


def _added(sandbox: Sandbox, items: list[Json | None]) -> int:
    return sandbox.store.add_llm_obs(servable(item) for item in items if item is not None)
