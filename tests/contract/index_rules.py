"""Firestore's rules for which indexes a query needs, and how many entries a document has: what the emulator does not check.

Sources: https://firebase.google.com/docs/firestore/query-data/index-overview (modes, index merging),
https://cloud.google.com/firestore/docs/reference/rest/v1/StructuredQuery (`orderBy`: what is appended to it),
https://firebase.google.com/docs/firestore/query-data/queries (`in` and `array-contains-any` are so many equalities),
https://firebase.google.com/docs/firestore/storage-size (index entries).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.cloud.firestore_v1 import types

from evalforge.stores.firestore_indexes import Index, Mode

NAME = "__name__"

_Operator = types.StructuredQuery.FieldFilter.Operator
_EQUALITIES = {_Operator.EQUAL, _Operator.IN}
_ARRAYS = {_Operator.ARRAY_CONTAINS, _Operator.ARRAY_CONTAINS_ANY}
_RANGES = {
    _Operator.LESS_THAN,
    _Operator.LESS_THAN_OR_EQUAL,
    _Operator.GREATER_THAN,
    _Operator.GREATER_THAN_OR_EQUAL,
}


@dataclass(frozen=True, slots=True)
class Query:
    """What a query asks of indexes: `equal` are pairs of a field and whether it is an array that must hold a value.

    `order` is complete: every field with a range is in it, and the name is last.
    """

    collection: str
    equal: frozenset[tuple[str, bool]]
    order: tuple[tuple[str, Mode], ...]


def query_of(query: types.StructuredQuery, prefix: str) -> Query:
    """The query, with what Firestore adds to its order.

    Raises:
        NotImplementedError: it has a part that these rules say nothing of.
    """
    known = {"select", "from_", "where", "order_by", "start_at", "end_at", "offset", "limit"}
    if strange := {name for name in types.StructuredQuery.meta.fields if name in query} - known:
        raise NotImplementedError(f"{sorted(strange)}: add its rule")
    [source] = query.from_
    if source.all_descendants or not source.collection_id.startswith(prefix):
        raise NotImplementedError("a query of a whole collection group, or of somebody else's collection")
    equal, ranged = set(), set()
    for one in _field_filters(query.where) if "where" in query else ():
        if one.op in _RANGES:
            ranged.add(one.field.field_path)
        elif one.op in _EQUALITIES | _ARRAYS:
            equal.add((one.field.field_path, one.op in _ARRAYS))
        else:
            raise NotImplementedError(f"{one.op.name}: add its rule")
    order = [(one.field.field_path, Mode(one.direction.name)) for one in query.order_by]
    direction = order[-1][1] if order else Mode.ASCENDING
    named = {field for field, _ in order}
    order += [(field, direction) for field in [*sorted(ranged - named - {NAME}), *({NAME} - named)]]
    if order[-1][0] != NAME or {field for field, _ in equal} & ({field for field, _ in order} | ranged):
        raise NotImplementedError("an order beyond the name, or by a field that must equal something")
    return Query(source.collection_id.removeprefix(prefix), frozenset(equal), tuple(order))


def _field_filters(where: types.StructuredQuery.Filter) -> Iterator[types.StructuredQuery.FieldFilter]:
    if "field_filter" in where:
        yield where.field_filter
    elif "composite_filter" in where and where.composite_filter.op.name == "AND":
        for part in where.composite_filter.filters:
            yield from _field_filters(part)
    else:
        raise NotImplementedError("a filter of one operand, or an OR: add its rule")


def lacking(query: Query, indexes: Iterable[Index]) -> list[str]:
    """What no index serves: the order alone, or each equality for which none ends in that order. Empty if all is well.

    Each equality may be served by another index, as long as all of them end in the query's order: Firestore merges them.
    """
    wanted = ", ".join(f"{field} {mode}" for field, mode in query.order)
    usable = [index for index in indexes if index.collection == query.collection and _ends_in(index, query.order)]
    if not query.equal:
        # Documents lie in the order of their names: https://github.com/GoogleCloudPlatform/magic-modules/pull/12121
        by_name = query.order == ((NAME, Mode.ASCENDING),)
        is_served = by_name or any(len(index.fields) == len(query.order) - 1 for index in usable)
        return [] if is_served else [f"{query.collection}: {wanted}"]
    served: set[tuple[str, bool]] = set()
    for index in usable:
        leading = index.fields[: len(index.fields) - len(query.order) + 1]
        fields = {(field, mode is Mode.CONTAINS) for field, mode in leading}
        if fields <= query.equal:
            served |= fields
    return [f"{query.collection}: {field}, {wanted}" for field, _ in sorted(query.equal - served)]


def _ends_in(index: Index, order: tuple[tuple[str, Mode], ...]) -> bool:
    last = index.fields[-1][1]
    whole = (*index.fields, (NAME, Mode.ASCENDING if last is Mode.CONTAINS else last))
    return whole[-len(order) :] == order


def entry_count(collection: str, document: Mapping[str, Any], indexes: Iterable[Index]) -> int:
    """How many index entries a document has: one for each index of which it has every field, of an array one an element."""
    count = 0
    for index in indexes:
        if index.collection == collection and all(field in document for field, _ in index.fields):
            arrays = [document[field] for field, mode in index.fields if mode is Mode.CONTAINS]
            count += len(set(arrays[0])) if arrays else 1
    return count


def default_entry_count(value: Any) -> int:
    """How many entries a document, or a value in it, has in the indexes that Firestore keeps where nothing is declared."""
    if isinstance(value, Mapping):
        return sum(2 + default_entry_count(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return len({repr(element) for element in value})
    return 0
