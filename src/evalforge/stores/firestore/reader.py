"""Reads documents as raw protobuf: by name, and page by page by query."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from google.cloud.firestore_v1 import types

from evalforge.core.ports import SELECTED_BY, Position, Selection, StoredCapture
from evalforge.stores import merging
from evalforge.stores.firestore.connection import Connection
from evalforge.stores.firestore.values import PbValue, decode_fields, encode, time_of
from evalforge.stores.firestore_indexes import EXPIRY

DOCUMENTS_PER_PAGE = 100
BRIEFS_PER_PAGE = 500

_Filter = types.StructuredQuery.Filter
_Operator = types.StructuredQuery.FieldFilter.Operator
_ASCENDING = types.StructuredQuery.Direction.ASCENDING
_DESCENDING = types.StructuredQuery.Direction.DESCENDING
VALUES_PER_FILTER = 30
"""How many values `in` and `array-contains-any` take. Source: https://firebase.google.com/docs/firestore/query-data/queries"""


async def read_documents(
    connection: Connection, paths: Sequence[str], *, patience_s: float | None = None, fields: Sequence[str] | None = None
) -> dict[str, Any]:
    """The protobuf Document of each path that has one, with these of its fields only if they are given.

    Each path costs one read, found or not.
    """

    async def attempt(client: Any, timeout_s: float) -> dict[str, Any]:
        request = types.BatchGetDocumentsRequest(database=connection.database_path, documents=list(paths))
        if fields is not None:
            request.mask = types.DocumentMask(field_paths=fields)
        stream = await client.batch_get_documents(request, retry=None, timeout=timeout_s, metadata=connection.metadata)
        found = {}
        async for response in stream:
            raw = types.BatchGetDocumentsResponse.pb(response)
            if raw.WhichOneof("result") == "found":
                found[raw.found.name] = raw.found
        return found

    await connection.client()  # names need the project, which the credentials may tell
    return await connection.call(attempt, patience_s=patience_s)


def has_expired(document: Any, now: datetime) -> bool:
    """Whether the document's `expires_at` has passed; one without such a time never does."""
    if "expires_at" not in document.fields:
        return False
    value = document.fields["expires_at"]
    return value.WhichOneof("value_type") == "timestamp_value" and time_of(value.timestamp_value) <= now


def text_in(document: Any, field: str) -> str | None:
    """The document's string `field`, if it has such a one."""
    if field not in document.fields:
        return None
    value = document.fields[field]
    return value.string_value if value.WhichOneof("value_type") == "string_value" else None


def stored_capture(found: Any) -> StoredCapture:
    """The capture in a protobuf Document.

    Raises:
        NewerVersionError: a later program wrote it.
        SkippableError: when it holds none, with the code `stored_document_unreadable`.
    """
    try:
        capture, document = merging.capture_in(decode_fields(found.fields))
        updated_at = document["updated_at"]
        if not isinstance(updated_at, datetime):
            raise TypeError("updated_at")
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise merging.unreadable(error) from error
    return StoredCapture(
        capture=capture, document=document, updated_at=updated_at, processed=document.get("processed") is True
    )


async def query_captures(
    connection: Connection,
    collection: str,
    selection: Selection,
    beyond: Position | None = None,
    *,
    fields: Sequence[str] = (),
    per_page: int = DOCUMENTS_PER_PAGE,
) -> AsyncIterator[Any]:
    """The protobuf Documents that match, the latest start first, ties by greater name first; `limit` is the caller's.

    Descending in both, since that is the order of Firestore's own index of one field. With `fields` only these are read.
    A query takes so many values for one field: for more signatures there are several, whose answers are merged.
    """
    streams = []
    for part in _in_filters(selection.signatures):
        query = types.StructuredQuery(
            from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
            where=_all_of(_conditions(selection, part)),
            order_by=[_order("started_at"), _order("__name__")],
            limit=per_page,
        )
        if fields:
            query.select = _projection(fields)
        streams.append(_pages_of(connection, collection, query, beyond))
    async for document in _merged(streams):
        yield document


async def _pages_of(
    connection: Connection, collection: str, query: types.StructuredQuery, beyond: Position | None
) -> AsyncIterator[Any]:
    await connection.client()
    if beyond is not None:
        started_at = PbValue()
        encode(started_at, beyond.started_at)
        name = connection.document_path(collection, beyond.document_id)
        query.start_at = types.Cursor(values=[types.Value.wrap(started_at), types.Value(reference_value=name)], before=False)
    while True:
        page = await _run(connection, query)
        for document in page:
            yield document
        if len(page) < query.limit:
            return
        # A cursor on the time alone would lose documents that began at the same microsecond.
        last = page[-1]
        query.start_at = types.Cursor(
            values=[types.Value.wrap(last.fields["started_at"]), types.Value(reference_value=last.name)], before=False
        )


async def _merged(streams: Sequence[AsyncIterator[Any]]) -> AsyncIterator[Any]:
    """The documents of all streams in one order, the latest start first; no more is read of each than is given."""
    heads = [(document, stream) for stream in streams if (document := await anext(stream, None)) is not None]
    while heads:
        at = max(range(len(heads)), key=lambda place: _place_of(heads[place][0]))
        document, stream = heads[at]
        yield document
        following = await anext(stream, None)
        if following is None:
            del heads[at]
        else:
            heads[at] = (following, stream)


def _place_of(document: Any) -> tuple[datetime, str]:
    return time_of(document.fields["started_at"].timestamp_value), document.name


async def next_value(
    connection: Connection, collection: str, field: str, above: str, below: str | None, fields: Sequence[str]
) -> Any | None:
    """The newest protobuf Document with the least text in `field` that is greater than `above`, and less than `below`.

    Asked again and again with the value found, it walks the distinct values of a field at one read each.
    """
    conditions = [_condition(field, _Operator.GREATER_THAN, above)]
    if below is not None:
        conditions.append(_condition(field, _Operator.LESS_THAN, below))
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        where=_all_of(conditions),
        order_by=[_order(field, _ASCENDING), _order("started_at"), _order("__name__")],
        limit=1,
        select=_projection(fields),
    )
    found = await _run(connection, query)
    return found[0] if found else None


async def earliest_captures(connection: Connection, collection: str, signature: str) -> AsyncIterator[Any]:
    """The start and expiry of the signature's protobuf Documents, the earliest start first; page by page."""
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        where=_condition("signature", _Operator.EQUAL, signature),
        order_by=[_order("started_at", _ASCENDING), _order("__name__", _ASCENDING)],
        limit=1,
        select=_projection(("started_at", EXPIRY)),
    )
    async for document in _pages_of(connection, collection, query, None):
        yield document


def _projection(fields: Sequence[str]) -> types.StructuredQuery.Projection:
    return types.StructuredQuery.Projection(
        fields=[types.StructuredQuery.FieldReference(field_path=field) for field in fields]
    )


async def documents_by_name(
    connection: Connection,
    collection: str,
    where: types.StructuredQuery.Filter | None = None,
    *,
    after: str | None = None,
    names_only: bool = False,
    per_page: int = DOCUMENTS_PER_PAGE,
) -> AsyncIterator[list[Any]]:
    """The protobuf Documents that match, ascending by name from beyond the key `after`, page by page."""
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        where=where,
        order_by=[_order("__name__", _ASCENDING)],
        limit=per_page,
    )
    if names_only:
        query.select = _projection(("__name__",))
    await connection.client()
    last = connection.document_path(collection, after) if after else None
    while True:
        if last is not None:
            query.start_at = types.Cursor(values=[types.Value(reference_value=last)], before=False)
        page = await _run(connection, query)
        if page:
            yield page
        if len(page) < per_page:
            return
        last = page[-1].name


def array_holds_any(field: str, values: Sequence[str]) -> types.StructuredQuery.Filter:
    """The filter for documents whose array `field` holds one of at most `VALUES_PER_FILTER` values."""
    return _condition(field, _Operator.ARRAY_CONTAINS_ANY, list(values))


def is_one_of(field: str, values: Sequence[str]) -> types.StructuredQuery.Filter:
    """The filter for documents whose `field` is one of at most `VALUES_PER_FILTER` values."""
    return _condition(field, _Operator.IN, list(values))


async def documents_by_time(connection: Connection, collection: str, field: str, per_page: int) -> AsyncIterator[Any]:
    """The protobuf Documents that have the time `field`, earliest first, ties by name; streamed."""
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        order_by=[_order(field, _ASCENDING), _order("__name__", _ASCENDING)],
        limit=per_page,
    )
    while True:
        page = await _run(connection, query)
        for document in page:
            yield document
        if len(page) < per_page:
            return
        last = page[-1]
        query.start_at = types.Cursor(
            values=[types.Value.wrap(last.fields[field]), types.Value(reference_value=last.name)], before=False
        )


async def newest_documents(connection: Connection, collection: str, field: str, limit: int) -> list[Any]:
    """The `limit` protobuf Documents with the greatest `field`, greatest first."""
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        order_by=[_order(field), _order("__name__")],
        limit=limit,
    )
    return await _run(connection, query)


async def count_live(connection: Connection, collection: str, now: datetime) -> int:
    """How many documents of the collection expire after `now`; billed as one read per 1,000."""
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        where=_condition(EXPIRY, _Operator.GREATER_THAN, now),
    )
    return await _counted(connection, query, None)


async def count_matching(connection: Connection, collection: str, selection: Selection) -> int:
    """How many documents match, or the selection's limit if that is less; billed as one read per 1,000."""
    count = 0
    for part in _in_filters(selection.signatures):
        query = types.StructuredQuery(
            from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
            where=_all_of(_conditions(selection, part)),
            order_by=[_order("started_at"), _order("__name__")],
        )
        left = None if selection.limit is None else selection.limit - count
        count += await _counted(connection, query, left)
        if selection.limit is not None and count >= selection.limit:
            break
    return count


async def _counted(connection: Connection, query: types.StructuredQuery, up_to: int | None) -> int:
    aggregation = types.StructuredAggregationQuery.Aggregation

    async def attempt(client: Any, timeout_s: float) -> int:
        request = types.RunAggregationQueryRequest(
            parent=connection.documents_path,
            structured_aggregation_query=types.StructuredAggregationQuery(
                structured_query=query, aggregations=[aggregation(count=aggregation.Count(up_to=up_to), alias="count")]
            ),
        )
        stream = await client.run_aggregation_query(request, retry=None, timeout=timeout_s, metadata=connection.metadata)
        count = 0
        async for response in stream:
            if "count" in response.result.aggregate_fields:
                count += types.Value.pb(response.result.aggregate_fields["count"]).integer_value
        return count

    await connection.client()
    return await connection.call(attempt)


async def _run(connection: Connection, query: types.StructuredQuery) -> list[Any]:
    async def attempt(client: Any, timeout_s: float) -> list[Any]:
        request = types.RunQueryRequest(parent=connection.documents_path, structured_query=query)
        stream = await client.run_query(request, retry=None, timeout=timeout_s, metadata=connection.metadata)
        raw = [types.RunQueryResponse.pb(response) async for response in stream]
        return [response.document for response in raw if response.HasField("document")]

    await connection.client()
    return await connection.call(attempt)


def _in_filters(values: Sequence[str] | None) -> list[Sequence[str] | None]:
    """The values in parts that a filter takes; None, which asks for nothing, is one part."""
    if values is None:
        return [None]
    return [values[at : at + VALUES_PER_FILTER] for at in range(0, len(values), VALUES_PER_FILTER)]


def _conditions(selection: Selection, signatures: Sequence[str] | None) -> list[types.StructuredQuery.Filter]:
    conditions = [
        _condition(field, _Operator.EQUAL, getattr(selection, field))
        for field in SELECTED_BY
        if getattr(selection, field) is not None
    ]
    if signatures is not None:
        conditions.append(is_one_of("signature", signatures))
    if selection.started_from is not None:
        conditions.append(_condition("started_at", _Operator.GREATER_THAN_OR_EQUAL, selection.started_from))
    if selection.started_to is not None:
        conditions.append(_condition("started_at", _Operator.LESS_THAN, selection.started_to))
    return conditions


def _condition(field: str, operator: Any, value: Any) -> types.StructuredQuery.Filter:
    encoded = PbValue()
    encode(encoded, value)
    reference = types.StructuredQuery.FieldReference(field_path=field)
    return _Filter(
        field_filter=types.StructuredQuery.FieldFilter(field=reference, op=operator, value=types.Value.wrap(encoded))
    )


def _all_of(conditions: Sequence[types.StructuredQuery.Filter]) -> types.StructuredQuery.Filter | None:
    if len(conditions) < 2:
        return conditions[0] if conditions else None
    together = types.StructuredQuery.CompositeFilter(
        op=types.StructuredQuery.CompositeFilter.Operator.AND, filters=list(conditions)
    )
    return _Filter(composite_filter=together)


def _order(field: str, direction: Any = _DESCENDING) -> types.StructuredQuery.Order:
    reference = types.StructuredQuery.FieldReference(field_path=field)
    return types.StructuredQuery.Order(field=reference, direction=direction)
