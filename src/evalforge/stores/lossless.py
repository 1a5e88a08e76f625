"""What a store cannot hold as it is, in a form that gives back exactly what went in: a map with one key that names it.

`{"evalforge:integer": "9223372036854775808"}` is that integer, `{"evalforge:array": [...]}` an array within an array, and
so on down the table below. A key that cannot stand as it is, or that looks like one of these, becomes `evalforge:key:` and
the key. Reading is one rule for all stores: `revive` each map, innermost first. `dumps` and `loads` are the whole of it for
stores that keep text.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import orjson

PREFIX = "evalforge:"
INTEGER = "evalforge:integer"
"""An integer beyond 64 bits, as decimal digits."""
FLOAT = "evalforge:float"
"""A number that is not finite, where the store's text form has no word for it: "nan", "inf" or "-inf"."""
TEXT = "evalforge:text"
"""A string that is not valid Unicode (it holds lone surrogates), as bytes."""
BYTES = "evalforge:bytes"
"""Bytes in base64, where the store's text form has no bytes."""
TIME = "evalforge:time"
"""An instant in ISO 8601, where the store's text form has no instants."""
ARRAY = "evalforge:array"
"""An array that stands directly in an array."""
ENTRIES = "evalforge:entries"
"""A map with keys that no escape makes short enough, as an array of `{"key": ..., "value": ...}`."""
JSON = "evalforge:json"
"""A subtree that lies too deep, as the text that `dumps` writes."""

_KEY = "evalforge:key:"
_KEY_IN_BASE64 = "evalforge:key64:"
_LARGEST_PLAIN_INT = 2**63 - 1


def is_unicode(text: str) -> bool:
    """Whether `text` can be encoded, that is, holds no lone surrogate."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped_key(key: str) -> str:
    """The stored form of a key that cannot stand as it is."""
    if is_unicode(key):
        return _KEY + key
    return _KEY_IN_BASE64 + base64.urlsafe_b64encode(text_to_bytes(key)).decode()


def text_to_bytes(text: str) -> bytes:
    """Any string as bytes, lone surrogates too."""
    return text.encode("utf-8", "surrogatepass")


def revive(stored: dict[str, Any]) -> Any:
    """What a stored map stands for: itself where none of its keys is an escape. Its values are revived already.

    Raises:
        ValueError, TypeError, LookupError: when it holds an escape that was not written here.
    """
    for key in stored:
        if key.startswith(PREFIX):
            break
    else:
        return stored
    if len(stored) == 1:
        [(key, inner)] = stored.items()
        reader = _READERS.get(key)
        if reader is not None:
            return reader(inner)
    return {_original_key(key): value for key, value in stored.items()}


def dumps(value: Any) -> str:
    """Strict JSON text of `value`, which may hold bytes, aware datetimes, NaN, and what else the table names.

    Times are kept to the microsecond, in UTC; a tuple comes back as a list. Nesting may be about 250 levels deep.

    Raises:
        TypeError: for a type that is not held, or a key that is no string.
        ValueError: for a datetime without a time zone.
    """
    return orjson.dumps(_plain(value)).decode()


def loads(text: str) -> Any:
    """The value that `dumps` wrote.

    Raises:
        ValueError, TypeError, LookupError: when it did not write it.
    """
    return json.loads(text, object_hook=revive)


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind is str:
        return value if is_unicode(value) else {TEXT: _plain(text_to_bytes(value))}
    if value is None or kind is bool:
        return value
    if kind is dict:
        return {_key(key): _plain(inner) for key, inner in value.items()}
    if kind is int:
        return value if -_LARGEST_PLAIN_INT <= value <= _LARGEST_PLAIN_INT else {INTEGER: str(value)}
    if kind is float:
        return value if math.isfinite(value) else {FLOAT: repr(value)}
    if kind is list or kind is tuple:
        return [_plain(inner) for inner in value]
    if isinstance(value, bytes):
        return {BYTES: base64.b64encode(value).decode()}
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a stored time needs a time zone")
        return {TIME: value.isoformat()}
    for base in _BASES:
        if isinstance(value, base):
            return _plain(base(value))  # one that somebody derived from it
    if isinstance(value, Mapping):
        return _plain(dict(value))
    raise TypeError(f"a store cannot hold a {kind.__name__}")


_BASES: tuple[Any, ...] = (str, int, float, dict, list, tuple)


@lru_cache(maxsize=10_000)  # documents repeat their keys
def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a store cannot hold a key of type {type(key).__name__}")
    if key.startswith(PREFIX) or not is_unicode(key):
        return escaped_key(key)
    return str(key)


def _original_key(key: str) -> str:
    if key.startswith(_KEY):
        return key[len(_KEY) :]
    if key.startswith(_KEY_IN_BASE64):
        return base64.urlsafe_b64decode(key[len(_KEY_IN_BASE64) :]).decode("utf-8", "surrogatepass")
    return key


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogatepass")


def _time(stored: str) -> datetime:
    return datetime.fromisoformat(stored).astimezone(UTC)


def _entries(stored: list[Mapping[str, Any]]) -> dict[str, Any]:
    return {entry["key"]: entry["value"] for entry in stored}


_READERS: Mapping[str, Callable[[Any], Any]] = {
    INTEGER: int,
    FLOAT: float,
    TEXT: _text,
    BYTES: base64.b64decode,
    TIME: _time,
    ARRAY: list,
    ENTRIES: _entries,
    JSON: loads,
}
