"""What requests to projects, datasets and queues say: JSON checked against what is published, or refused with 400."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol, TypeVar

from evalforge.sandbox.replies import bad_request
from evalforge.sandbox.spans import Json

REFERENCES = ("trace", "experiment_trace", "session")
"""The types of interactions that refer to something by its `content_id`."""


class _Named(Protocol):
    id: str
    name: str


N = TypeVar("N", bound=_Named)


def named(there: Iterable[N], asked: Mapping[str, str]) -> list[N]:
    """Return those that `filter[name]` and `filter[id]` let through."""
    name, wanted_id = asked.get("filter[name]"), asked.get("filter[id]")
    return [one for one in there if name in (None, one.name) and wanted_id in (None, one.id)]


def attributes_of(body: Json, kind: str) -> Mapping[str, Json]:
    """Return the attributes of a request.

    Raises: Refused with 400 for another type, or another shape.
    """
    data = body.get("data") if isinstance(body, dict) else None
    if not isinstance(data, dict) or data.get("type") != kind or not isinstance(data.get("attributes"), dict):
        raise bad_request(f"invalid_argument(want data of the type {kind!r} with attributes)")
    attributes: Mapping[str, Json] = data["attributes"]
    return attributes


def text_of(attributes: Mapping[str, Json], name: str) -> str:
    """Return a text that has to be there.

    Raises: Refused with 400.
    """
    value = attributes.get(name)
    if not isinstance(value, str) or not value.strip():
        raise bad_request(f"invalid_argument(Field {name!r} is required)")
    return value


def optional_text(attributes: Mapping[str, Json], name: str) -> str | None:
    """Return a text that may be absent.

    Raises: Refused with 400.
    """
    value = attributes.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"invalid_argument(Field {name!r} is invalid)")
    return value


def flag(attributes: Mapping[str, Json], name: str, default: bool) -> bool:
    """Return a truth value that may be absent.

    Raises: Refused with 400.
    """
    value = attributes.get(name, default)
    if not isinstance(value, bool):
        raise bad_request(f"invalid_argument(Field {name!r} is invalid)")
    return value


def strings_of(attributes: Mapping[str, Json], name: str) -> list[str]:
    """Return a list of texts that may be absent.

    Raises: Refused with 400.
    """
    values = attributes.get(name) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise bad_request(f"invalid_argument(Field {name!r} is invalid)")
    return values


def records_of(
    attributes: Mapping[str, Json], name: str, *, needs: str, may_be_absent: bool = False
) -> list[Mapping[str, Json]]:
    """Return the records of a request, each with the field that it needs.

    Raises: Refused with 400.
    """
    loaded = attributes.get(name)
    if loaded is None and may_be_absent:
        return []
    if not isinstance(loaded, list) or not all(isinstance(one, dict) for one in loaded):
        raise bad_request(f"invalid_argument(Field {name!r} is a list of records)")
    for one in loaded:
        if needs not in one or not isinstance("" if one.get("id") is None else one["id"], str):
            raise bad_request(f"invalid_argument(a record of {name!r} wants the field {needs!r}, and a text as id)")
        if not isinstance({} if one.get("metadata") is None else one["metadata"], dict):
            raise bad_request("invalid_argument(Field 'metadata' is an object)")
    return loaded


def interactions_of(attributes: Mapping[str, Json]) -> list[Mapping[str, Json]]:
    """Return the interactions of a request, one at least.

    Raises: Refused with 400.
    """
    loaded = attributes.get("interactions")
    if not isinstance(loaded, list) or not loaded:
        raise bad_request("invalid_argument(Field 'interactions' must contain at least one item)")
    for one in loaded:
        kind = one.get("type") if isinstance(one, dict) else None
        refers = kind in REFERENCES and isinstance(one.get("content_id"), str) and one["content_id"]
        shows = kind == "display_block" and isinstance(one.get("display_block"), list) and one["display_block"]
        if not refers and not shows:
            raise bad_request("invalid_argument(an interaction has a type, and a content_id or a display_block)")
    return loaded
