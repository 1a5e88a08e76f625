"""A search request of either source and either method, read into one shape or refused as Datadog refuses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from evalforge.sandbox.replies import Refused, bad_request, json_api_error
from evalforge.sandbox.spans import Json, Source
from evalforge.sandbox.times import parse_time

DEFAULT_LIMIT = 10
MAX_LIMIT: Mapping[Source, int] = {"llm_obs": 5000, "apm": 1000}
BODY_TYPE: Mapping[Source, str] = {"llm_obs": "spans", "apm": "search_request"}

_STRUCTURED = ("span_id", "trace_id", "span_kind", "span_name", "ml_app")
_DIGITS = re.compile(r"[0-9]{1,9}")
_NEWEST_FIRST = {"": True, "timestamp": False, "-timestamp": True, "start_ns": False, "-start_ns": True}


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What is searched for. Times are milliseconds since the Unix epoch; `query` None means that there is none.

    `structured` and `tags` are the exact filters of the LLM Observability search, already empty when a query voids them.
    """

    source: Source
    query: str | None
    structured: Mapping[str, str]
    tags: Mapping[str, str]
    from_ms: int
    to_ms: int
    limit: int
    cursor: str | None
    sort: str
    include_attachments: bool

    @property
    def newest_first(self) -> bool:
        """Whether pages run backwards in time, which is the default: the recorded answer without a sort does."""
        return _NEWEST_FIRST[self.sort]


def read_body(source: Source, body: bytes, now_ms: int) -> SearchRequest:
    """Return the request that a POST's body makes.

    Raises: Refused, with the 400 or 422 that Datadog gives.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise bad_request("error decoding the request: invalid JSON") from None
    data = _object(document, "data")
    if data.get("type") != BODY_TYPE[source]:
        raise bad_request(f'invalid "type": expected "{BODY_TYPE[source]}", got {_shown(data.get("type"))}')
    attributes = _object(data, "attributes")
    filters = _object(attributes, "filter")
    page = _object(attributes, "page")
    options = _object(attributes, "options")
    tags = _object(filters, "tags")
    return _request(
        source,
        filters={key: _text(filters, key, "filter.") for key in ("query", "from", "to", *_STRUCTURED)},
        tags={key: _text(tags, key, "filter.tags.") or "" for key in tags},
        limit=_limit(source, page.get("limit")),
        cursor=_text(page, "cursor", "page."),
        sort=_text(attributes, "sort", ""),
        offset_s=_offset_s(source, options),
        include_attachments=_flag(options.get("include_attachments", True)),
        now_ms=now_ms,
    )


def read_parameters(source: Source, parameters: Mapping[str, str], now_ms: int) -> SearchRequest:
    """Return the request that a GET's parameters make.

    Raises: Refused, with the 400 or 422 that Datadog gives.
    """
    limit = parameters.get("page[limit]")
    return _request(
        source,
        filters={key: parameters.get(f"filter[{key}]") for key in ("query", "from", "to", *_STRUCTURED)},
        tags={
            name[len("filter[tag][") : -1]: value
            for name, value in parameters.items()
            if name.startswith("filter[tag][") and name.endswith("]")
        },
        limit=_limit(source, int(limit) if limit and _DIGITS.fullmatch(limit) else limit or None),
        cursor=parameters.get("page[cursor]"),
        sort=parameters.get("sort"),
        offset_s=0,
        include_attachments=_flag(parameters.get("include_attachments", "true")),
        now_ms=now_ms,
    )


def _request(
    source: Source,
    *,
    filters: Mapping[str, str | None],
    tags: Mapping[str, str],
    limit: int,
    cursor: str | None,
    sort: str | None,
    offset_s: int,
    include_attachments: bool,
    now_ms: int,
) -> SearchRequest:
    if (sort or "") not in _NEWEST_FIRST:
        raise bad_request(f"invalid_argument(Field 'sort' is invalid: {_shown(sort)})")
    from_ms = _time("from", filters["from"] or "now-15m", now_ms) + offset_s * 1000
    to_ms = _time("to", filters["to"] or "now", now_ms) + offset_s * 1000
    if from_ms > to_ms:
        detail = "invalid_argument(Field 'filter.from,to' is invalid: 'from' should be anterior to 'to')"
        raise Refused(json_api_error(422, detail))
    query = filters["query"]
    voided = source == "apm" or bool(query)
    return SearchRequest(
        source=source,
        query=query or None,
        structured={} if voided else {key: value for key in _STRUCTURED if (value := filters[key])},
        tags={} if voided else tags,
        from_ms=from_ms,
        to_ms=to_ms,
        limit=limit,
        cursor=cursor or None,
        sort=sort or "",
        include_attachments=include_attachments,
    )


def _object(parent: Json, key: str) -> Mapping[str, Json]:
    value = parent.get(key) if isinstance(parent, dict) else None
    if value is None and key != "data":
        return {}
    if not isinstance(value, dict):
        raise bad_request(f'error decoding attribute "{key}": invalid type {_type_name(value)}')
    return value


def _text(parent: Mapping[str, Json], key: str, path: str) -> str | None:
    value = parent.get(key)
    if value is not None and not isinstance(value, str):
        # The wording that a time in a JSON number gets: `error decoding attribute "filter.from": invalid type number`.
        raise bad_request(f'error decoding attribute "{path}{key}": invalid type {_type_name(value)}')
    return value


def _limit(source: Source, value: Json) -> int:
    if value is None:
        return DEFAULT_LIMIT
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(f'error decoding attribute "page.limit": invalid type {_type_name(value)}')
    if not 1 <= value <= MAX_LIMIT[source]:
        most = MAX_LIMIT[source]
        raise bad_request(f"invalid_argument(Field 'page.limit' is invalid: must be between 1 and {most})")
    return value


def _offset_s(source: Source, options: Mapping[str, Json]) -> int:
    if source == "apm" and options.get("timezone") is not None and options.get("timeOffset") is not None:
        raise bad_request("invalid_argument(Field 'options' is invalid: give timezone or timeOffset, not both)")
    value = options.get("timeOffset" if source == "apm" else "time_offset", 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise bad_request(f'error decoding attribute "options.time_offset": invalid type {_type_name(value)}')
    return value


def _time(key: str, text: str, now_ms: int) -> int:
    moment = parse_time(text, now_ms)
    if moment is None:
        raise bad_request(f"invalid_argument(Field 'filter.{key}' is invalid: {_shown(text)} is no time)")
    return moment


def _flag(value: Json) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise bad_request(f'error decoding attribute "include_attachments": invalid type {_type_name(value)}')


def _shown(value: Any) -> str:
    text = orjson.dumps(value).decode() if value is not None else "nothing"
    return text if len(text) <= 80 else text[:80] + "…"


def _type_name(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")
