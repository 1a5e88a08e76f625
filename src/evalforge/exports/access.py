"""What is held of one person, as JSON Lines: the answer to an access request."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from evalforge.core.ports import SELECTED_BY, Selection, Store, StoredCapture
from evalforge.exports.jsonl import capture_line, json_bytes

MEMORY_BYTES = 16_000_000
"""How much of the lines waits in memory to be put in order; more waits in a temporary file that has no name."""


@dataclass(frozen=True, slots=True)
class OfUser:
    """Narrows an export to one person, by every hash that their id may be stored under."""

    user_hashes: frozenset[str]


async def user_lines(store: Store, user: OfUser, selection: Selection) -> AsyncIterator[bytes]:
    """The lines of the person's captures that match, the latest start first, then those of dead letters about their traces.

    Captures that have expired and are not deleted yet are among them: they are held. A dead letter's line has one key,
    `dead_letter`.

    Raises:
        StoreError, StoreUnavailableError
    """
    traces: set[str] = set()
    order: list[tuple[int, str, int, int]] = []
    with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as waiting:
        async for stored in store.captures_of_users(user.user_hashes):
            if not matches(stored, selection):
                continue
            line = capture_line(stored)
            order.append((stored.capture.started_ns, stored.capture.document_id, waiting.tell(), len(line)))
            waiting.write(line)
            traces.add(stored.capture.trace_id)
        for _, _, at, length in sorted(order, reverse=True)[: selection.limit]:
            waiting.seek(at)
            yield waiting.read(length)
    if not traces:
        return
    async for letter in store.documents("dead_letters"):
        if letter.document.get("trace_id") in traces:
            yield json_bytes({"dead_letter": dict(letter.document)}) + b"\n"


def matches(stored: StoredCapture, selection: Selection) -> bool:
    """Whether a capture has all that the selection asks, its `limit` apart."""
    document = stored.capture.to_document()
    if selection.signatures is not None and document["signature"] not in selection.signatures:
        return False
    for name in SELECTED_BY:
        wanted = getattr(selection, name)
        if wanted is not None and document[name] != wanted:
            return False
    started_at = document["started_at"]
    if selection.started_from is not None and started_at < selection.started_from:
        return False
    return selection.started_to is None or started_at < selection.started_to
