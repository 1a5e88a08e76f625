"""Our documents as Firestore's protobuf values, and back: exact for every value, whatever Firestore itself can hold.

Pure: nothing here talks to anybody. Messages are filled in place through protobuf's own classes, since the client
library's wrappers take about seven times as long for the same bytes. What Firestore has no form for (an array in an array, a
reserved or empty key, 20 levels, integers beyond 64 bits, lone surrogates) is stored as `evalforge.stores.lossless` says;
size is `evalforge.stores.fitting`'s business.

Source: https://firebase.google.com/docs/firestore/quotas#collections_documents_and_fields
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from google.cloud.firestore_v1.types import document as document_types

from evalforge.stores import lossless

PbValue: Any = document_types.Value.pb(document_types.Value()).__class__
PbDocument: Any = document_types.Document.pb(document_types.Document()).__class__

LONGEST_KEY_BYTES = 1_500
DEEPEST_LEVEL = 16
"""Maps and arrays from this level on are stored as text: an escape may take up to four of Firestore's 20 levels itself."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def encode_fields(target: Any, document: Mapping[str, Any]) -> None:
    """Fills the protobuf map `target` (as of a Document) with the fields of `document`.

    Raises:
        TypeError: for a value or key that no store holds.
        ValueError: for a time without a time zone.
    """
    for name, value in document.items():
        _ENCODERS[type(value)](target[name], value, 1)


def encode(target: Any, value: Any, level: int = 1) -> None:
    """Fills the protobuf Value `target` with `value`, which lies inside `level` - 1 maps and arrays.

    Raises:
        TypeError, ValueError: as `encode_fields`.
    """
    _ENCODERS[type(value)](target, value, level)


def decode_fields(fields: Any) -> dict[str, Any]:
    """The document in the protobuf map `fields`.

    A value of Firestore's own (somebody else's field) comes as the plainest thing: a reference as its name, a point as
    latitude and longitude, anything newer as None.

    Raises:
        ValueError, TypeError, LookupError: when it holds an escape that was not written here.
    """
    return {name: decode(value) for name, value in fields.items()}


def plain_fields(fields: Any) -> dict[str, Any]:
    """The same, but escapes stay the maps that they are stored as, so that any document has such a form."""
    return {name: decode(value, revive=_as_it_is) for name, value in fields.items()}


def decode(value: Any, *, revive: Callable[[dict[str, Any]], Any] = lossless.revive) -> Any:
    """What the protobuf Value `value` holds; `revive` says what each map in it stands for.

    Raises:
        ValueError, TypeError, LookupError: as `decode_fields`.
    """
    kind = value.WhichOneof("value_type")
    if kind in _AS_THEY_ARE:
        return getattr(value, kind)
    if kind == "map_value":
        return revive({name: decode(inner, revive=revive) for name, inner in value.map_value.fields.items()})
    if kind == "array_value":
        return [decode(inner, revive=revive) for inner in value.array_value.values]
    if kind == "timestamp_value":
        return time_of(value.timestamp_value)
    if kind == "geo_point_value":
        return {"latitude": value.geo_point_value.latitude, "longitude": value.geo_point_value.longitude}
    return None


def _as_it_is(stored: dict[str, Any]) -> Any:
    return stored


_AS_THEY_ARE = frozenset(
    {"string_value", "integer_value", "double_value", "boolean_value", "bytes_value", "reference_value"}
)


def time_of(timestamp: Any) -> datetime:
    """A protobuf Timestamp as an aware UTC datetime, to the microsecond, which is all that Firestore keeps."""
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)


@lru_cache(maxsize=10_000)  # documents repeat their keys
def stored_key(key: str) -> str | None:
    """The key that Firestore takes for `key`: itself, its escape, or None when even that is too long or not Unicode.

    Raises:
        TypeError: the key is no string.
    """
    if not isinstance(key, str):
        raise TypeError("a store cannot hold a key that is no string")
    if lossless.is_unicode(key) and key and not key.startswith(lossless.PREFIX) and not _is_reserved(key):
        stored = key
    else:
        stored = lossless.escaped_key(key)
    return stored if len(stored.encode()) <= LONGEST_KEY_BYTES else None


def _is_reserved(key: str) -> bool:
    # The emulator lets `____` pass; the documented pattern `__.*__` does not.
    return len(key) >= 4 and key.startswith("__") and key.endswith("__")


# -- one encoder for each type


def _encode_none(target: Any, value: None, level: int) -> None:
    target.null_value = 0


def _encode_bool(target: Any, value: bool, level: int) -> None:
    target.boolean_value = value


def _encode_int(target: Any, value: int, level: int) -> None:
    if -(2**63) <= value < 2**63:
        target.integer_value = value
    else:
        target.map_value.fields[lossless.INTEGER].string_value = str(int(value))


def _encode_float(target: Any, value: float, level: int) -> None:
    target.double_value = value


def _encode_text(target: Any, text: str, level: int) -> None:
    try:
        target.string_value = text
    except UnicodeEncodeError:
        target.map_value.fields[lossless.TEXT].bytes_value = lossless.text_to_bytes(text)


def _encode_bytes(target: Any, value: bytes, level: int) -> None:
    target.bytes_value = value


def _encode_time(target: Any, instant: datetime, level: int) -> None:
    if instant.tzinfo is None:
        raise ValueError("a stored time needs a time zone")
    since = instant - _EPOCH
    timestamp = target.timestamp_value
    timestamp.seconds = since.days * 86_400 + since.seconds
    timestamp.nanos = since.microseconds * 1_000


def _encode_map(target: Any, value: Mapping[str, Any], level: int) -> None:
    if level >= DEEPEST_LEVEL:
        target.map_value.fields[lossless.JSON].string_value = lossless.dumps(value)
        return
    target.map_value.SetInParent()
    fields = target.map_value.fields
    for key, inner in value.items():
        stored = stored_key(key)
        if stored is None:
            fields.clear()
            _encode_entries(fields[lossless.ENTRIES], value, level)
            return
        _ENCODERS[type(inner)](fields[stored], inner, level + 1)


def _encode_entries(target: Any, value: Mapping[str, Any], level: int) -> None:
    target.array_value.SetInParent()
    for key, inner in value.items():
        entry = target.array_value.values.add().map_value.fields
        _encode_text(entry["key"], key, level + 3)
        encode(entry["value"], inner, level + 3)


def _encode_array(target: Any, value: list[Any] | tuple[Any, ...], level: int) -> None:
    if level >= DEEPEST_LEVEL:
        target.map_value.fields[lossless.JSON].string_value = lossless.dumps(value)
        return
    target.array_value.SetInParent()
    add = target.array_value.values.add
    for inner in value:
        encoder = _ENCODERS[type(inner)]
        if encoder is _encode_array:
            _encode_array(add().map_value.fields[lossless.ARRAY], inner, level + 2)
        else:
            encoder(add(), inner, level + 1)


_Encoder = Callable[[Any, Any, int], None]


class _Encoders(dict[type, _Encoder]):
    """How each type is encoded; a type that is met for the first time as the first of these that it is a kind of."""

    def __missing__(self, kind: type) -> _Encoder:
        for base, encoder in _BY_BASE.items():
            if issubclass(kind, base):
                self[kind] = encoder
                return encoder
        raise TypeError(f"a store cannot hold a {kind.__name__}")


_BY_BASE: Mapping[type, _Encoder] = {
    str: _encode_text,
    type(None): _encode_none,
    bool: _encode_bool,  # an int too, so it comes first
    int: _encode_int,
    float: _encode_float,
    Mapping: _encode_map,
    list: _encode_array,
    tuple: _encode_array,
    bytes: _encode_bytes,
    datetime: _encode_time,
}
_ENCODERS = _Encoders()
