"""Reads documents as raw protobuf: by name, and page by page by query."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any

from google.cloud.firestore_v1 import types

from evalforge.core.ports import Selection, StoredCapture
from evalforge.stores import merging
from evalforge.stores.firestore.connection import Connection
from evalforge.stores.firestore.values import PbValue, decode_fields, encode, time_of
from evalforge.stores.firestore_indexes import EXPIRY, SELECTED_BY

DOCUMENTS_PER_PAGE = 100

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
        SkippableError: when it holds none, with the code `stored_document_unreadable`.
    """
    try:
        document = decode_fields(found.fields)
        capture = merging.capture_in(document)
        updated_at = document["updated_at"]
        if not isinstance(updated_at, datetime):
            raise TypeError("updated_at")
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise merging.unreadable(error) from error
    return StoredCapture(
        capture=capture, document=document, updated_at=updated_at, processed=document.get("processed") is True
    )


async def query_captures(connection: Connection, collection: str, selection: Selection) -> AsyncIterator[Any]:
    """The protobuf Documents that match, the latest start first, ties by greater name first; `limit` is the caller's.

    Descending in both, since that is the order of Firestore's own index of one field.
    """
    query = types.StructuredQuery(
        from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
        where=_all_of(_conditions(selection)),
        order_by=[_order("started_at"), _order("__name__")],
        limit=DOCUMENTS_PER_PAGE,
    )
    while True:
        page = await _run(connection, query)
        for document in page:
            yield document
        if len(page) < DOCUMENTS_PER_PAGE:
            return
        # A cursor on the time alone would lose documents that began at the same microsecond.
        last = page[-1]
        query.start_at = types.Cursor(
            values=[types.Value.wrap(last.fields["started_at"]), types.Value(reference_value=last.name)], before=False
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
        name = types.StructuredQuery.FieldReference(field_path="__name__")
        query.select = types.StructuredQuery.Projection(fields=[name])
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

    async def attempt(client: Any, timeout_s: float) -> int:
        query = types.StructuredQuery(
            from_=[types.StructuredQuery.CollectionSelector(collection_id=collection)],
            where=_condition(EXPIRY, _Operator.GREATER_THAN, now),
        )
        aggregation = types.StructuredAggregationQuery.Aggregation
        request = types.RunAggregationQueryRequest(
            parent=connection.documents_path,
            structured_aggregation_query=types.StructuredAggregationQuery(
                structured_query=query, aggregations=[aggregation(count=aggregation.Count(), alias="count")]
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


def _conditions(selection: Selection) -> list[types.StructuredQuery.Filter]:
    conditions = [
        _condition(field, _Operator.EQUAL, getattr(selection, field))
        for field in SELECTED_BY
        if getattr(selection, field) is not None
    ]
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
