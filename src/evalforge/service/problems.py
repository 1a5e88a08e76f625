"""Errors over HTTP: `application/problem+json` with a stable `code`, and never a stack trace.

Source: https://www.rfc-editor.org/rfc/rfc9457
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evalforge.errors import (
    EvalForgeError,
    MissingRoleError,
    RequestError,
    RetriableError,
    RunInProgressError,
    SettingsError,
)
from evalforge.events import emit
from evalforge.exports import json_bytes

PROBLEM_TYPE = "application/problem+json"
DEFAULT_RETRY_AFTER_S = 60
"""What a 429 says when nobody knows when the quota comes back."""

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that is being answered, as `envelope` gives it."""


def json_response(content: Any, status: int = 200) -> Response:
    """`content` as a JSON response."""
    return Response(json_bytes(content, sort_keys=False), status, media_type="application/json")


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    retry_after_s: float | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """A problem document: type, title, status, code, detail, the request's id, and whatever `more` says."""
    headers = dict(headers or {})
    if retry_after_s is None and status == HTTPStatus.TOO_MANY_REQUESTS:
        retry_after_s = DEFAULT_RETRY_AFTER_S
    if retry_after_s is not None and math.isfinite(retry_after_s):
        headers["Retry-After"] = str(max(1, math.ceil(retry_after_s)))
        more["retry_after_s"] = retry_after_s
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "code": code, "detail": detail}
    if request_id := REQUEST_ID.get():
        document["request_id"] = request_id
    return Response(json_bytes(document | more, sort_keys=False), status, headers, PROBLEM_TYPE)


def problem_of(error: EvalForgeError) -> Response:
    """The problem document of one of our errors, with the particulars of its class."""
    more: dict[str, Any] = {}
    if isinstance(error, RunInProgressError):
        more = {"holder": error.holder, "since": error.since}
    elif isinstance(error, SettingsError):
        more = {"problems": error.problems}
    elif isinstance(error, MissingRoleError):
        more = {"role": error.role}
    elif isinstance(error, RequestError) and error.field is not None:
        more = {"field": error.field}
    retry_after_s = error.retry_after_s if isinstance(error, RetriableError) else None
    return problem(error.http_status, error.code, error.message, retry_after_s=retry_after_s, **more)


class Catch:
    """ASGI middleware: an error that nobody foresaw becomes a 500 with an id that the log has too, without its text."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on and answers in its stead when that fails."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if scope["type"] != "http" or started:
                raise
            emit("request.failed", request_id=REQUEST_ID.get(), route=scope["path"][:200], code=type(error).__name__)
            answer = problem(
                500, "unexpected_error", "something went wrong that nobody foresaw; the log has more under this request_id"
            )
            await answer(scope, receive, send)
