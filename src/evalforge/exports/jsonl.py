"""JSON Lines: one capture a line. Equal captures give equal bytes, and no line can drive the terminal it is shown on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

from evalforge.core.capture import unpack
from evalforge.core.inert import inert_json
from evalforge.core.ports import StoredCapture

FORMAT = "jsonl"


def capture_document(stored: StoredCapture) -> dict[str, Any]:
    """One capture as it leaves the house: JSON values only.

    `span_ids` is a list of decimal strings, ascending by value (64-bit numbers lose digits in many readers); times are ISO
    8601 in UTC with Z; other bytes are hexadecimal. `document_id`, `updated_at` and `processed` say how it stands in the
    store; `origins`, which serve the next run, stay there.
    """
    document = stored.capture.to_document()
    document["span_ids"] = [str(key) for key in sorted(unpack(document["span_ids"]))]
    del document["origins"]
    document["document_id"] = stored.capture.document_id
    document["updated_at"] = stored.updated_at
    document["processed"] = stored.processed
    plain: dict[str, Any] = _plain(document)
    return plain


def capture_line(stored: StoredCapture) -> bytes:
    """The line of one capture, with its line feed; keys are sorted."""
    return json_bytes(capture_document(stored)) + b"\n"


def json_bytes(value: Any, *, indent: bool = False, sort_keys: bool = True) -> bytes:
    """`value` as JSON in UTF-8: one form for equal values (while keys are sorted), safe to show on a terminal.

    Integers of any size and lone surrogates are kept; NaN and infinities become null.
    """
    plain = _plain(value)
    options = (orjson.OPT_INDENT_2 if indent else 0) | (orjson.OPT_SORT_KEYS if sort_keys else 0)
    try:
        text = orjson.dumps(plain, option=options).decode()
    except TypeError:
        # Integers beyond 64 bits and lone surrogates: slower, and in ASCII, which can spell both.
        separators = (",", ": ") if indent else (",", ":")
        text = json.dumps(plain, sort_keys=sort_keys, separators=separators, indent=2 if indent else None)
    return inert_json(text).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, frozenset | set):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, datetime):
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    raise TypeError(f"an export cannot hold a {type(value).__name__}")
