"""One page of search results, with the cursor to the next, as the two search services shape them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlencode

import orjson

from evalforge.sandbox.fields import ApmFields, LlmObsFields
from evalforge.sandbox.matching import Fields, Predicate, compile_query
from evalforge.sandbox.memory import Position, Store
from evalforge.sandbox.query import QueryError
from evalforge.sandbox.replies import Refused, bad_request
from evalforge.sandbox.requests import SearchRequest
from evalforge.sandbox.spans import Json, Source, Span
from evalforge.sandbox.times import iso_ms

MAX_RESPONSE_BYTES = 50 * 1024 * 1024
"""A page ends before the response grows beyond this. Source: Datadog's LLM Observability Export API page."""

ATTACHMENT_BYTES = 25 * 1024
"""Input or output larger than this is an attachment, which a search may leave out."""

SEARCH_PATHS: dict[Source, str] = {"llm_obs": "/api/v2/llm-obs/v1/spans/events", "apm": "/api/v2/spans/events"}

_FIELDS: dict[Source, Fields[Span]] = {"llm_obs": LlmObsFields(), "apm": ApmFields()}


@dataclass(frozen=True, slots=True)
class Page:
    """The JSON items of one page; `after` is the next page's cursor, None on the last. `is_partial`: it timed out."""

    items: list[bytes]
    after: str | None
    is_partial: bool = False


def search(
    store: Store,
    request: SearchRequest,
    max_bytes: int = MAX_RESPONSE_BYTES,
    cut_in_half: bool = False,
) -> Page:
    """Return the page that a request asks for.

    `cut_in_half` gives the partial page of a search that timed out: half of the rows, and a cursor that goes on from them.

    Raises: Refused for a query or a cursor that Datadog cannot read.
    """
    try:
        matches = _predicate(request)
    except QueryError as error:
        raise bad_request(f"invalid_argument(Field 'filter.query' is invalid: {error})") from None
    after = None if request.cursor is None else _read_cursor(request, request.cursor)
    window = store.between(
        request.source, request.from_ms * 1_000_000, request.to_ms * 1_000_000 + 999_999, after, request.newest_first
    )
    found = _first(window, matches, request.limit)
    rows = found[: (len(found) + 1) // 2] if cut_in_half else found
    items = _within(rows, max_bytes, request.include_attachments)
    # Nobody looks ahead: a page that fills its limit gets a cursor, and perhaps an empty page follows. APM gives every
    # page with rows a cursor, as recorded: one row at a limit of two, a cursor, then the empty page.
    is_full = len(found) == request.limit or len(items) < len(found)
    goes_on = is_full or cut_in_half or request.source == "apm"
    last = rows[len(items) - 1] if items else None
    return Page(items, _cursor(request, last) if goes_on and last is not None else None, cut_in_half)


def response_body(page: Page, request: SearchRequest, started: float, base_url: str) -> bytes:
    """Return the response of a page. `started` is the `time.monotonic()` of the request's arrival."""
    parts = [b'{"data":[', b",".join(page.items), b"]"]
    is_bare = request.source == "apm" and not page.items
    if not is_bare:  # APM's empty last page is recorded as {"data":[]}, without meta
        meta: dict[str, Json] = {
            "elapsed": int((time.monotonic() - started) * 1000),
            "request_id": f"pddv1{uuid.uuid4().hex}",
            "status": "timeout" if page.is_partial else "done",
        }
        if page.after is not None:
            meta["page"] = {"after": page.after}
        elif request.source == "llm_obs":
            meta["page"] = None
        parts += [b',"meta":', orjson.dumps(meta)]
        if page.after is not None:
            parts += [b',"links":', orjson.dumps({"next": _next_link(request, page.after, base_url)})]
    return b"".join([*parts, b"}"])


def _predicate(request: SearchRequest) -> Predicate[Span] | None:
    if request.query is not None:
        return _compiled(request.source, request.query)
    wanted = [({"span_name": "name"}.get(key, key), value) for key, value in request.structured.items()]
    tags = [(key.lower(), value.lower()) for key, value in request.tags.items()]
    if not wanted and not tags:
        return None
    return lambda span: (
        all(span.attributes.get(key) == value for key, value in wanted)
        and all(value in span.tag(key) for key, value in tags)
    )


@lru_cache(maxsize=32)
def _compiled(source: Source, query: str) -> Predicate[Span]:
    """Return a query as a test. Remembered, for every page of a reading asks the same."""
    return compile_query(query, _FIELDS[source])


def _first(window: Sequence[Span], matches: Predicate[Span] | None, limit: int) -> Sequence[Span]:
    if matches is None:
        return window[:limit]
    found: list[Span] = []
    for span in window:
        if matches(span):
            found.append(span)
            if len(found) == limit:
                break
    return found


def _within(rows: Sequence[Span], max_bytes: int, include_attachments: bool) -> list[bytes]:
    """Write the rows out until the response is full; the first row always goes, or no reader could ever pass it."""
    items: list[bytes] = []
    size = 0
    for span in rows:
        item = span.item if include_attachments else _without_attachments(span.item)
        line = written(item)
        size += len(line) + 1
        if items and size > max_bytes:
            break
        items.append(line)
    return items


def written(item: Json) -> bytes:
    """Return an item as the JSON that the response holds."""
    try:
        return orjson.dumps(item)
    except TypeError:
        # Valid JSON that the fast library does not write: integers beyond 64 bits, lone surrogates, deep nesting.
        return json.dumps(item, separators=(",", ":")).encode()


def _without_attachments(item: Json) -> Json:
    attributes = item.get("attributes") if isinstance(item, dict) else None
    if not isinstance(attributes, dict):
        return item
    short = {
        side: _cut(attributes[side], [ATTACHMENT_BYTES])
        for side in ("input", "output")
        if side in attributes and len(written(attributes[side])) > ATTACHMENT_BYTES
    }
    return {**item, "attributes": {**attributes, **short}} if short else item


_LABEL_LENGTH = 64  # roles, names and ids are never what makes a message large


def _cut(value: Json, room: list[int]) -> Json:
    """Copy a value with its strings cut where `room`, shared by all of them, ends."""
    if isinstance(value, str):
        if len(value) <= _LABEL_LENGTH:
            return value
        kept = value[: max(0, room[0])]
        room[0] -= len(kept)
        return kept
    if isinstance(value, dict):
        return {key: _cut(inner, room) for key, inner in value.items()}
    return [_cut(inner, room) for inner in value] if isinstance(value, list) else value


def _cursor(request: SearchRequest, last: Span) -> str:
    place = orjson.dumps([*last.position, _digest(request)])
    content = {
        "after": base64.b64encode(place).decode(),
        "values": [iso_ms(last.start_ns), last.position[1]],
    }
    return base64.b64encode(orjson.dumps(content)).decode()


def _read_cursor(request: SearchRequest, cursor: str) -> Position:
    try:
        content = orjson.loads(base64.b64decode(cursor, validate=True))
        start_ns, arrival, digest = orjson.loads(base64.b64decode(content["after"], validate=True))
        position = (int(start_ns), int(arrival))
    except (binascii.Error, ValueError, TypeError, KeyError, OverflowError):
        raise invalid_cursor() from None
    if digest != _digest(request):
        raise invalid_cursor()
    return position


def invalid_cursor() -> Refused:
    """Return the refusal of a cursor that is damaged, or was given for another search."""
    return bad_request("invalid_argument(Field 'page.cursor' is invalid: the cursor cannot be read)")


def _digest(request: SearchRequest) -> str:
    """Name what must stay the same from page to page. The limit may shrink: a client may ask for less after a timeout."""
    same = [request.source, request.query, request.newest_first, sorted(request.structured.items())]
    same.append(sorted(request.tags.items()))
    return hashlib.sha256(orjson.dumps(same)).hexdigest()[:12]


def _next_link(request: SearchRequest, after: str, base_url: str) -> str:
    """Return the GET form of the next page, with the window frozen to milliseconds."""
    parameters: dict[str, str | int] = {"filter[from]": request.from_ms}
    if request.query is not None:
        parameters["filter[query]"] = request.query
    parameters["filter[to]"] = request.to_ms
    parameters |= {f"filter[{key}]": value for key, value in request.structured.items()}
    parameters |= {f"filter[tag][{key}]": value for key, value in request.tags.items()}
    parameters |= {"page[cursor]": after, "page[limit]": request.limit}
    if request.sort:
        parameters["sort"] = request.sort
    if not request.include_attachments:
        parameters["include_attachments"] = "false"
    return f"{base_url}{SEARCH_PATHS[request.source]}?{urlencode(parameters)}"
