"""A trace as the tracer sends it (v0.4, msgpack), mapped to APM's search items and to the LLM spans that travel in it.

In the SDK's default mode an LLM span has no request of its own: it is msgpack inside its APM span's
`meta_struct._llmobs`, without id, times and status, which are the APM span's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from evalforge.sandbox.payloads import UnreadableError, decode
from evalforge.sandbox.spans import Json
from evalforge.sandbox.times import iso_ms

_LOW_HALF = (1 << 64) - 1
_LATEST_NS = 253_402_300_799 * 1_000_000_000  # the last second that a date can be written for


def spans_of(body: Json) -> Iterator[Json]:
    """Yield every span of a list of traces; whatever stands in a trace's place is yielded too, to be counted."""
    for trace in body if isinstance(body, list) else [None]:
        yield from trace if isinstance(trace, list) else [trace]


def searchable(span: Json, now_ns: int) -> Json | None:
    """Return the item that APM's search serves for a span, None if it is no span.

    Dotted names are nested under `custom`, names that begin with `_` are the tracer's own and dropped. A span that went
    well has no status. Source: recorded answers of the Spans API.
    """
    if not isinstance(span, dict) or not _is_id(span.get("span_id")):
        return None
    meta, metrics = _mapping(span.get("meta")), _mapping(span.get("metrics"))
    start_ns = _between(span.get("start"), 1, _LATEST_NS, now_ns)
    duration_ns = _between(span.get("duration"), 0, _LATEST_NS - start_ns, 0)
    trace_id = _decimal(span.get("trace_id"))
    span_id = _decimal(span["span_id"])
    env = meta.get("env") or ""
    service = span.get("service") or ""
    attributes: dict[str, Json] = {
        "custom": {**_nested({**meta, **metrics}), "duration": duration_ns},
        "start_timestamp": iso_ms(start_ns),
        "end_timestamp": iso_ms(start_ns + duration_ns),
        "env": env,
        "host": meta.get("_dd.hostname") or "localhost",
        "ingestion_reason": "auto",
        "parent_id": _decimal(span.get("parent_id")),
        "resource_hash": _hash(span.get("resource")),
        "resource_name": span.get("resource") or "",
        "retained_by": "diversity_sampling",
        "service": service,
        "single_span": False,
        "span_id": span_id,
        "tags": [f"env:{env}", f"service:{service}", "source:apm"],
        "trace_id": trace_id,
        "type": span.get("type") or "custom",
    }
    if span.get("error"):
        attributes["status"] = "error"
    return {
        "id": f"AY{_hash(f'{trace_id}:{span_id}')}",
        "type": "spans",
        "attributes": attributes,
        "unexported": {"operation_name": span.get("name") or ""},
    }


def llm_event(span: Json) -> Json | None:
    """Return the span event that travels in an APM span, as the SDK would have sent it alone; None if there is none."""
    carried = _mapping(span.get("meta_struct")).get("_llmobs") if isinstance(span, dict) else None
    if isinstance(carried, bytes):
        try:
            carried = decode(carried, "msgpack")
        except UnreadableError:
            return None
    if not isinstance(carried, dict) or not _is_id(span.get("span_id")):
        return None
    meta = _mapping(span.get("meta"))
    has_failed = bool(span.get("error"))
    tags = _mapping(carried.get("tags")) | {"error": "1" if has_failed else "0"}
    if error_type := meta.get("error.type"):
        tags["error_type"] = error_type
    return {
        **carried,
        "span_id": _decimal(span["span_id"]),
        "trace_id": carried.get("trace_id") or _llm_trace_id(meta, span),
        "name": carried.get("name") or span.get("name"),
        "start_ns": span.get("start"),
        "duration": span.get("duration"),
        "status": "error" if has_failed else "ok",
        "tags": tags,
    }


def carries_llm_span(span: Json) -> bool:
    """Tell whether a span says that an LLM span travels in it, readable or not."""
    return isinstance(span, dict) and "_llmobs" in _mapping(span.get("meta_struct"))


def _llm_trace_id(meta: Mapping[str, Json], span: Mapping[str, Json]) -> str:
    """Return the trace id of an LLM span that does not tell its own.

    The trace's propagated one (decimal, 128 bits), or else APM's, whose upper half travels apart.
    """
    propagated = meta.get("_dd.p.llmobs_trace_id")
    if isinstance(propagated, str) and propagated.isascii() and propagated.isdigit() and len(propagated) < 40:
        return f"{int(propagated):032x}"
    low = span.get("trace_id")
    try:
        high = int(meta.get("_dd.p.tid") or "0", 16)
    except (ValueError, TypeError):
        high = 0
    return f"{(high & _LOW_HALF) << 64 | (low & _LOW_HALF if isinstance(low, int) else 0):032x}"


def _mapping(value: Json) -> dict[str, Any]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, dict) else {}


def _is_id(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _decimal(value: Json) -> str:
    """Return an id as the search writes it: 64 bits in decimal, `0` for none."""
    return str(value & _LOW_HALF) if _is_id(value) else "0"


def _between(value: Json, least: int, most: int, otherwise: int) -> int:
    return value if _is_id(value) and least <= value <= most else otherwise


def _hash(value: Json) -> str:
    return hashlib.sha256(str(value).encode(errors="replace")).hexdigest()[:16]


def _nested(flat: Mapping[str, Json]) -> dict[str, Json]:
    """Return a mapping with the dots of its names as nesting; a name that a scalar is in the way of stays dotted."""
    nested: dict[str, Json] = {}
    for name, value in sorted(flat.items()):
        if name.startswith("_"):
            continue
        *path, last = name.split(".")
        place = nested
        for step in path:
            below = place.setdefault(step, {})
            if not isinstance(below, dict):
                break
            place = below
        else:
            if not isinstance(place.get(last), dict):
                place[last] = _scalar(value)
                continue
        nested[name] = _scalar(value)
    return nested


def _scalar(value: Json) -> Json:
    return value if isinstance(value, str | int | float | bool) else str(value)
