"""What the sandbox keeps of a span: the item it will serve, when it started, and what queries need of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

Json = Any
"""Any decoded JSON value."""

Source = Literal["llm_obs", "apm"]

Area = Literal["llm_obs", "apm", "datasets"]
"""What has a rate limit and troubles of its own: each search, and all that is about projects, datasets and queues."""

_NO_ATTRIBUTES: Mapping[str, Json] = {}


class Span:
    """One span of either source, at its place in time.

    `item` is what a search serves, usually `{"id", "type", "attributes"}`; tests may load anything, so it may be any
    JSON value, and then `attributes` is empty. `unexported` holds what Datadog can search but does not export
    (`error`, `session_id`, `feedback`, APM's `operation_name`). `position` orders spans: start in nanoseconds, then order
    of arrival. `shape` is kept by `shapes`, None until it is known.
    """

    __slots__ = ("_tags", "attributes", "item", "position", "shape", "unexported")

    def __init__(self, item: Json, position: tuple[int, int], unexported: Mapping[str, Json] | None = None) -> None:
        attributes = item.get("attributes") if isinstance(item, dict) else None
        self.item = item
        self.attributes: Mapping[str, Json] = attributes if isinstance(attributes, dict) else _NO_ATTRIBUTES
        self.unexported = unexported if unexported is not None else _NO_ATTRIBUTES
        self.position = position
        self.shape: frozenset[str] | None = None
        self._tags: list[str] | None = None

    @property
    def start_ns(self) -> int:
        """When the span started, in nanoseconds since the Unix epoch."""
        return self.position[0]

    @property
    def tags(self) -> Sequence[str]:
        """Every tag, `key:value` in lower case."""
        if self._tags is None:
            tags = self.attributes.get("tags")
            self._tags = [tag.lower() for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
        return self._tags

    def tag(self, key: str) -> Sequence[str]:
        """Every value of a tag, in lower case; a tag without a colon has the value `""`. `key` is in lower case."""
        prefix = f"{key}:"
        return [tag[len(prefix) :] for tag in self.tags if tag.startswith(prefix)] or (("",) if key in self.tags else ())


def llm_obs_item(loaded: Json) -> tuple[Json, Mapping[str, Json] | None]:
    """Return the item to serve and its unexported part, from a span's attributes or from a whole item.

    A whole item is told by its key `attributes`; it may carry `unexported` beside them.
    """
    if not isinstance(loaded, dict):
        return loaded, None
    whole = dict(loaded) if "attributes" in loaded else {"type": "span", "attributes": loaded}
    unexported = whole.pop("unexported", None)
    attributes = whole["attributes"]
    if isinstance(attributes, dict):
        whole["attributes"] = attributes = with_stored_tags(attributes)
        if "id" not in whole:
            whole = {"id": attributes.get("span_id"), **whole}
    return whole, unexported if isinstance(unexported, dict) else None


def apm_item(loaded: Json) -> tuple[Json, Mapping[str, Json] | None]:
    """Return the item to serve and its unexported part, from a whole APM item, which may carry `unexported`."""
    if not isinstance(loaded, dict):
        return loaded, None
    whole = dict(loaded)
    unexported = whole.pop("unexported", None)
    if isinstance(whole.get("attributes"), dict):
        whole["attributes"] = with_stored_tags(whole["attributes"])
    return whole, unexported if isinstance(unexported, dict) else None


def with_stored_tags(attributes: dict[str, Json]) -> dict[str, Json]:
    """Return a copy whose tag values are in lower case, as Datadog stores them, and whose evaluations are its own."""
    copy = dict(attributes)
    if isinstance(copy.get("tags"), list):
        copy["tags"] = [_stored_tag(tag) for tag in copy["tags"]]
    if isinstance(copy.get("evaluation"), dict):
        copy["evaluation"] = dict(copy["evaluation"])
    return copy


def _stored_tag(tag: Json) -> Json:
    if not isinstance(tag, str):
        return tag
    key, colon, value = tag.partition(":")
    return f"{key}{colon}{value.lower()}"


def start_of_llm_obs(attributes: Mapping[str, Json]) -> int | None:
    """Return the start in nanoseconds, None if there is none.

    The exported `start_ns` is nanoseconds from the SDK and milliseconds in Datadog's own example, so its magnitude decides.
    """
    start = attributes.get("start_ns")
    if isinstance(start, bool) or not isinstance(start, int | float) or not 0 < start < 1e19:
        return None
    scale = 1_000_000 if start < 1e14 else 1_000 if start < 1e17 else 1
    return int(start) * scale


def start_of_apm(attributes: Mapping[str, Json]) -> int | None:
    """Return the start in nanoseconds, None if `start_timestamp` is no ISO 8601 time."""
    start = attributes.get("start_timestamp")
    if not isinstance(start, str):
        return None
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000) * 1_000_000
