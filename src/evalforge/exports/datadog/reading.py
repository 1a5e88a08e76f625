"""What Datadog answers about projects, datasets and queues, read tolerantly.

Records come in two shapes: with everything below `attributes`, as they were recorded, or flat, as the published client
models them; the answer to a change has them one by one, or in groups of `records`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import quote

from evalforge.core.span import Json
from evalforge.errors import SourceUnavailableError
from evalforge.exports.datadog.api import DatadogApi

MOST_PAGES = 10_000
"""A list that has more pages than this does not end."""

EXAMPLE_ID = "evalforge_id"
"""The key of a record's metadata that carries the example's id, whatever id Datadog gave the record."""


@dataclass(frozen=True, slots=True)
class Named:
    """A project, dataset or queue, by id and name."""

    id: str
    name: str


def path_of(*parts: str) -> str:
    """A path below the API's base; ids come from outside and are quoted."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


async def pages(api: DatadogApi, path: str, what: str, params: Mapping[str, str] | None = None) -> AsyncIterator[Json]:
    """The items of a list, page by page.

    Raises:
        SourceRefusedError, NotFoundError, SourceUnavailableError, QuotaExhaustedError
    """
    asked, seen = dict(params or {}), set[str]()
    for _ in range(MOST_PAGES):
        answer = await api.get(path, what, asked)
        for item in _listed(_mapping(answer).get("data")):
            yield item
        after = _mapping(_mapping(answer).get("meta")).get("after")
        if not isinstance(after, str) or not after:
            return
        if after in seen:
            break
        seen.add(after)
        asked = {**asked, "page[cursor]": after}
    raise SourceUnavailableError(f"{api.host} gives {what} in pages that do not end")


async def named_so(api: DatadogApi, path: str, name: str, what: str) -> Named | None:
    """The project or dataset of exactly this name, None when there is none.

    Raises:
        SourceRefusedError, NotFoundError, SourceUnavailableError, QuotaExhaustedError
    """
    async for item in pages(api, path, what, {"filter[name]": name}):
        found = named(item)
        if found is not None and found.name == name:
            return found
    return None


def named(item: Json) -> Named | None:
    """An item of JSON:API that has an id and a name; None when it has not."""
    own_id, name = _mapping(item).get("id"), _mapping(_mapping(item).get("attributes")).get("name")
    return Named(own_id, name) if isinstance(own_id, str) and own_id and isinstance(name, str) else None


def ids_of_record(item: Json) -> Iterator[str]:
    """The ids that a record goes by: its own, and the one of ours that its metadata carries."""
    record = _mapping(item)
    metadata = _mapping(_mapping(record.get("attributes", record)).get("metadata"))
    yield from (one for one in (record.get("id"), metadata.get(EXAMPLE_ID)) if isinstance(one, str))


def ids_in_change(answer: Json) -> set[str]:
    """The ids of all records that the answer to a change tells; empty when it tells none."""
    found: set[str] = set()
    for item in _listed(_mapping(answer).get("data")):
        records = _mapping(item).get("records")
        for record in records if isinstance(records, list) else [item]:
            found.update(ids_of_record(record))
    return found


def interactions_in(answer: Json, name: str) -> Iterator[Mapping[str, Json]]:
    """The interactions that an answer about a queue has under this name."""
    attributes = _mapping(_mapping(_mapping(answer).get("data")).get("attributes"))
    yield from (_mapping(one) for one in _listed(attributes.get(name)))


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, dict) else {}


def _listed(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []
