"""Captures page by page, the latest failure first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from evalforge.core.ports import Position, Selection, Store, StoredCapture
from evalforge.core.review import ReviewState
from evalforge.review.cursors import cursor_parts, cursor_text
from evalforge.review.groups import every_group

_KIND = "c"


@dataclass(frozen=True, slots=True)
class CapturesPage:
    """A page of captures, and the cursor of the next one."""

    captures: Sequence[StoredCapture]
    next: str | None


async def list_captures(
    store: Store,
    selection: Selection,
    *,
    now: datetime,
    limit: int,
    state: ReviewState | None = None,
    cursor: str | None = None,
) -> CapturesPage:
    """The captures that match, and whose group is in that state.

    Raises:
        RequestError: the cursor is none.
        StoreError, StoreUnavailableError
    """
    beyond = None
    if cursor is not None:
        started_at, (document_id,) = cursor_parts(_KIND, cursor, (str,))
        beyond = Position(started_at, document_id)
    selection = replace(await in_state(store, selection, state, now=now), limit=limit + 1)
    found = [stored async for stored in store.select(selection, now=now, beyond=beyond)]
    goes_on = None
    if len(found) > limit:
        last = found[limit - 1]
        goes_on = cursor_text(_KIND, started_at_of(last), last.capture.document_id)
    return CapturesPage(found[:limit], goes_on)


def started_at_of(stored: StoredCapture) -> datetime:
    """When the capture started, as precisely as stores keep it."""
    started_at: datetime = stored.document["started_at"]
    return started_at


async def in_state(store: Store, selection: Selection, state: ReviewState | None, *, now: datetime) -> Selection:
    """The selection, narrowed to captures whose group is in that state."""
    if state is None:
        return selection
    if state is ReviewState.NEW:
        found = {row.newest.signature for row in await every_group(store, now=now) if row.review.state is state}
    else:
        found = {review.signature async for review in store.reviews(state)}
    if selection.signatures is not None:
        found &= set(selection.signatures)
    return replace(selection, signatures=tuple(sorted(found)))
