"""What reviewers ask of Firestore: groups by signature, distinct values, captures in short, and the reviews themselves.

Firestore neither groups nor tells distinct values, but an index can be walked from one value to the next, at one read each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from typing import Any, TypeVar

from evalforge.core.ports import MAX_SIGNATURES, MAX_VALUES, SELECTED_BY, Brief, Facets, Selection
from evalforge.core.review import Review, ReviewState
from evalforge.errors import StoreError
from evalforge.stores import records
from evalforge.stores.firestore import reader, writer
from evalforge.stores.firestore.connection import Connection
from evalforge.stores.firestore.values import decode_fields
from evalforge.stores.firestore.writer import Fate

_FIELDS = (
    "trace_id", "signature", "started_at", "fetched_at", "expires_at", "failure_type", "severity", "ml_app", "env",
    "service_name", "model_name", "error_type", "status_code", "user_hash", "trace_payload.name",
    "trace_payload.tags.version", "signals",
)  # fmt: skip
_LANES = ("", *(f"s1_{digit:x}" for digit in range(1, 16)), None)
"""Where walks of the signatures begin and end: they are digests, so each finds about as many, all at the same time."""


_FACETS = ("started_at", "expires_at", "severity", "env", "model_name", "user_hash", "trace_payload.tags.version")

_T = TypeVar("_T")


async def briefs(connection: Connection, collection: str, selection: Selection, now: datetime) -> list[Brief]:
    """The live captures that match in short, the latest start first."""
    return await _read(connection, collection, selection, now, _FIELDS, _brief_of)


async def facets(connection: Connection, collection: str, selection: Selection, now: datetime) -> list[Facets]:
    """What groups count of the live captures that match, the latest start first."""
    return await _read(connection, collection, selection, now, _FACETS, _facets_of)


async def _read(
    connection: Connection,
    collection: str,
    selection: Selection,
    now: datetime,
    fields: Sequence[str],
    made_of: Callable[[Any], _T | None],
) -> list[_T]:
    found: list[_T] = []
    limit = selection.limit or 0
    per_page = max(1, min(limit, reader.BRIEFS_PER_PAGE))
    if limit <= 0:
        return found
    async for document in reader.query_captures(connection, collection, selection, fields=fields, per_page=per_page):
        made = None if reader.has_expired(document, now) else made_of(document)
        if made is not None:
            found.append(made)
        if len(found) == limit:
            break
    return found


async def newest_by_signature(connection: Connection, collection: str, now: datetime) -> list[Brief]:
    """The newest live capture of each signature in short."""
    found: list[Brief] = []

    async def walk(start: str, end: str | None) -> None:
        above = start
        while len(found) < MAX_SIGNATURES:
            document = await reader.next_value(connection, collection, "signature", above, end, _FIELDS)
            if document is None:
                return
            above = reader.text_in(document, "signature") or ""
            brief = _brief_of(document)
            if brief is None or reader.has_expired(document, now):
                live = await briefs(connection, collection, Selection(signatures=(above,), limit=1), now)
                brief = live[0] if live else None
            if brief is not None:
                found.append(brief)

    async with asyncio.TaskGroup() as walks:
        for start, end in pairwise(_LANES):
            walks.create_task(walk(start or "", end))
    return found[:MAX_SIGNATURES]


async def first_started_at(connection: Connection, collection: str, signature: str, now: datetime) -> datetime | None:
    """When the earliest live capture of the signature started."""
    async for document in reader.earliest_captures(connection, collection, signature):
        if not reader.has_expired(document, now):
            started_at: datetime = decode_fields(document.fields)["started_at"]
            return started_at
    return None


async def values_of(connection: Connection, collection: str, field: str) -> list[str]:
    """The distinct values of a field that selects.

    Raises:
        ValueError: no such field selects.
    """
    if field not in SELECTED_BY:
        raise ValueError(field)
    found: list[str] = []
    while len(found) < MAX_VALUES:
        document = await reader.next_value(connection, collection, field, found[-1] if found else "", None, (field,))
        if document is None:
            break
        found.append(reader.text_in(document, field) or "")
    return found


def _facets_of(document: Any) -> Facets | None:
    try:
        values = decode_fields(document.fields)
        return records.facets_of({**dict.fromkeys(_FACETS), **values}, _version_in(values))
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


def _version_in(values: Mapping[str, Any]) -> Any:
    payload = values.get("trace_payload")
    tags = payload.get("tags") if isinstance(payload, dict) else None
    return tags.get("version") if isinstance(tags, dict) else None


def _brief_of(document: Any) -> Brief | None:
    """The capture in short; None for a document of somebody else's."""
    try:
        values = decode_fields(document.fields)
        payload = values.get("trace_payload")
        name = payload.get("name") if isinstance(payload, dict) else None
        place = values["signals"][0]["place"]
        return records.brief_of({**dict.fromkeys(_FIELDS), **values, "span_name": name}, _version_in(values), place)
    except (TypeError, ValueError, LookupError, AttributeError):
        return None


# -- reviews


async def load_review(connection: Connection, collection: str, signature: str) -> Review:
    """The review of a group, or a fresh one."""
    await connection.client()
    path = connection.document_path(collection, records.record_id(signature))
    found = (await reader.read_documents(connection, [path])).get(path)
    return Review(signature) if found is None else _review_of(found)


async def reviews(connection: Connection, collection: str, state: ReviewState | None) -> AsyncIterator[Review]:
    """Every review, ascending by key."""
    async for page in reader.documents_by_name(connection, collection):
        for found in page:
            with suppress(TypeError, ValueError, LookupError, AttributeError):
                review = _review_of(found)
                if state is None or review.state is state:
                    yield review


async def save_review(connection: Connection, collection: str, review: Review) -> bool:
    """Whether the review stands now: nobody had written it since `review.version`."""
    await connection.client()
    path = connection.document_path(collection, records.record_id(review.signature))
    document = records.review_document(review)
    if review.version:
        write = writer.replacement(path, document, writer.update_time_of(review.version))
    else:
        write = writer.creation(path, document)
    [outcome] = await writer.write_all(connection, [write])
    if outcome.fate is Fate.REFUSED:
        raise StoreError(f"{connection} refused {collection}/{review.signature} ({outcome.reason})")
    return outcome.fate is Fate.WRITTEN


def _review_of(found: Any) -> Review:
    return replace(records.review_of(decode_fields(found.fields)), version=writer.version_text(found.update_time))
