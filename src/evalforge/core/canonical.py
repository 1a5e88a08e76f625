"""One byte form for equal values: what every digest and fingerprint is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson


def canonical_json(value: Any) -> bytes:
    """Bytes that are equal for equal values, whatever the order of their keys.

    Values are those of a document: JSON, bytes, aware datetimes. What the fast encoder refuses (integers beyond 64 bits,
    lone surrogates) goes through the standard library's; a given value always takes the same road.

    Raises:
        TypeError: for a value that is none of these.
    """
    try:
        return orjson.dumps(value, default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z)
    except TypeError:
        return json.dumps(value, default=_plain, sort_keys=True, separators=(",", ":")).encode()


def digest(value: Any) -> str:
    """128 bits over the canonical form, as 32 hexadecimal digits."""
    return hashlib.blake2b(canonical_json(value), digest_size=16).hexdigest()


def digest_of(*parts: bytes) -> str:
    """128 bits over canonical forms one after the other, as 32 hexadecimal digits."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"a document cannot hold a {type(value).__name__}")
