"""Items of a search answer, however somebody has kept them: alone, bare, in a list, or as the page that they came in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evalforge.core.span import Json

_APM_ONLY = frozenset({"custom", "start_timestamp", "end_timestamp", "resource_name", "resource_hash", "retained_by"})


def items_in(document: Json) -> Iterator[Json]:
    """The items of one JSON document, which is a list of them, a page (`{"data": …}`) or an item itself; each wrapped."""
    if isinstance(document, list):
        yield from map(wrapped, document)
    elif isinstance(document, Mapping) and isinstance(document.get("data"), list):
        yield from map(wrapped, document["data"])
    elif isinstance(document, Mapping) and isinstance(document.get("data"), Mapping):
        yield wrapped(document["data"])
    else:
        yield wrapped(document)


def wrapped(item: Json) -> Json:
    """An item as a search gives it; attributes that stand alone are put into one."""
    if isinstance(item, Mapping) and "attributes" not in item and ("span_id" in item or "trace_id" in item):
        return {"attributes": item}
    return item


def source_of(item: Json) -> str:
    """Which of the two searches, "llm_obs" or "apm", gave an item: told by its attributes."""
    attributes = item.get("attributes") if isinstance(item, Mapping) else None
    return "apm" if isinstance(attributes, Mapping) and not _APM_ONLY.isdisjoint(attributes) else "llm_obs"
