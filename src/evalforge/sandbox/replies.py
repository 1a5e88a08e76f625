"""What Datadog answers besides data: its error bodies, in the three shapes that its services use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import orjson
from starlette.responses import Response

JSON_API = "application/vnd.api+json"
JSON = "application/json"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP answer."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)


class Refused(Exception):  # noqa: N818 - it is an answer on its way out, not a fault of the sandbox
    """The request gets `reply` instead of data."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


def to_response(reply: Reply, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply for Starlette to send, with more headers if given."""
    return Response(reply.body, reply.status, {**reply.headers, **(headers or {})}, media_type=reply.content_type)


def reason(status: int) -> str:
    """Return the standard words for a status, its number where there are none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return str(status)


def json_api_error(status: int, detail: str) -> Reply:
    """Return the error of the search services, JSON:API with a detail."""
    body = orjson.dumps({"errors": [{"title": "Generic Error", "detail": detail}]})
    return Reply(status, body, JSON_API)


def plain_error(status: int, *messages: str) -> Reply:
    """Return the error of the gateway: a list of sentences."""
    return Reply(status, orjson.dumps({"errors": list(messages)}))


def html_error(status: int, title: str) -> Reply:
    """Return the error of the edge, which speaks no JSON."""
    page = f"<html><head><title>{status} {title}</title></head><body><h1>{status} {title}</h1></body></html>\n"
    return Reply(status, page.encode(), HTML)


def bad_request(detail: str) -> Refused:
    """Return the refusal of a request that the search service cannot read."""
    return Refused(json_api_error(400, detail))


def too_many(limit: int, period_s: int) -> Reply:
    """Return the answer to a request over the rate limit. Source: terraform-provider-datadog #1371."""
    return plain_error(429, f"Rate limit of {limit} requests in {period_s} seconds reached. Please try again later.")
