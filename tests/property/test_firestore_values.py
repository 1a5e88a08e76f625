"""Firestore's values give back exactly what went in, keep Firestore's rules, and are the official library's where it can."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from google.cloud.firestore_v1 import _helpers as official
from google.cloud.firestore_v1 import types
from hypothesis import given
from hypothesis import strategies as st

from evalforge.stores.firestore.values import PbValue, decode, decode_fields, encode, stored_key
from evalforge.stores.firestore.writer import creation
from tests.captures import hostile_keys, json_values

PATH = "projects/p/databases/(default)/documents/c/d"

unicode_text = st.text(st.characters(codec="utf-8"), max_size=12)
plain_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    unicode_text,
    st.binary(max_size=9),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-3))])).filter(lambda at: 1 < at.year < 9999),
)
plain_keys = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(
    lambda key: not key.startswith(("__", "evalforge:"))
)
plain_values = st.recursive(
    plain_scalars,
    lambda inner: st.one_of(
        st.dictionaries(plain_keys, inner, max_size=4),
        st.lists(st.one_of(plain_scalars, st.dictionaries(plain_keys, inner, max_size=2)), max_size=4),
    ),
    max_leaves=12,
)


def nested(value: Any, levels: list[bool]) -> Any:
    """`value` inside as many maps (True) and arrays (False) as `levels` says."""
    for is_map in levels:
        value = {"__in__": value} if is_map else [value]
    return value


def encoded(value: Any) -> Any:
    target = PbValue()
    encode(target, value)
    return target


def same(one: Any, other: Any) -> bool:
    """Equality that tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, datetime):
        return isinstance(other, datetime) and one == other
    return type(one) is type(other) and repr(one) == repr(other)


def broken_rules(value: Any, level: int = 0, in_array: bool = False) -> list[str]:
    """What Firestore would refuse in an encoded value."""
    kind = value.WhichOneof("value_type")
    if kind == "array_value":
        found = ["array in array"] * in_array + ["too deep"] * (level >= 20)
        return found + [rule for inner in value.array_value.values for rule in broken_rules(inner, level + 1, True)]
    if kind != "map_value":
        return []
    found = ["too deep"] * (level >= 20)
    for key, inner in value.map_value.fields.items():
        if not key or len(key.encode()) > 1_500 or (len(key) >= 4 and key.startswith("__") and key.endswith("__")):
            found.append(f"key {key[:20]!r}")
        found += broken_rules(inner, level + 1)
    return found


@given(json_values(), st.lists(st.booleans(), max_size=40))
def test_every_value_comes_back_and_keeps_the_rules(value: Any, levels: list[bool]) -> None:
    whole = nested(value, levels)
    message = PbValue.FromString(encoded(whole).SerializeToString())
    assert same(decode(message), whole)
    assert broken_rules(message) == []


@given(st.dictionaries(st.sampled_from("abcdef"), plain_values, max_size=4))
def test_plain_documents_are_written_as_the_official_library_writes_them(document: dict[str, Any]) -> None:
    [theirs] = official.pbs_for_create(PATH, document)
    ours = types.Write.pb(types.Write())
    creation(PATH, document)(ours)
    assert in_bytes(ours) == in_bytes(types.Write.pb(theirs))
    assert same(decode_fields(ours.update.fields), document)


def in_bytes(message: Any) -> bytes:
    """Bytes that are equal for equal messages, NaN among their numbers too."""
    serialized: bytes = message.SerializeToString(deterministic=True)
    return serialized


@given(hostile_keys, hostile_keys)
def test_two_keys_are_never_stored_as_one(one: str, other: str) -> None:
    if one != other and stored_key(one) is not None:
        assert stored_key(one) != stored_key(other)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])))
def test_times_come_back_in_utc_to_the_microsecond(instant: datetime) -> None:
    try:
        expected = instant.astimezone(UTC)
    except OverflowError:
        return
    found = decode(encoded(instant))
    assert (found, found.tzinfo) == (expected, UTC)


@pytest.mark.parametrize("value", [object(), {1, 2}, {1: "a"}, [{None: 1}], 1j], ids=lambda value: type(value).__name__)
def test_no_json_type_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encoded(value)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        encoded(datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_what_only_firestore_has_is_read_as_the_plainest_thing() -> None:
    point, reference, empty = PbValue(), PbValue(), PbValue()
    point.geo_point_value.latitude = 1.5
    reference.reference_value = "projects/p/databases/d/documents/c/d"
    assert decode(point) == {"latitude": 1.5, "longitude": 0.0}
    assert decode(reference) == "projects/p/databases/d/documents/c/d"
    assert decode(empty) is None
