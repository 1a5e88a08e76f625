"""Every stored document, a few at a time and from a position on, for use-cases that look through a whole store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing

from evalforge.core.ports import COLLECTIONS, Store, StoredDocument
from evalforge.errors import RequestError

DOCUMENTS_PER_STEP = 50
"""How many documents are read, and mended side by side, before progress is told."""

ATTEMPTS = 5
"""How often a document that others keep writing is read again."""


async def sweep(
    store: Store,
    look: Callable[[StoredDocument], Awaitable[None]],
    *,
    after: str | None,
    on_step: Callable[[str], None],
) -> None:
    """Looks at every document of every collection, in one order; `on_step` hears the position after each step.

    A position is `collection/key`, and `after` is such a position, to go on from. Memory does not grow with the store.

    Raises:
        RequestError: `after` is no position; nothing was looked at.
        StoreError, StoreUnavailableError
    """
    first, key = _position(after)
    for collection in COLLECTIONS[COLLECTIONS.index(first) :]:
        before = key if collection == first else None
        async for step in in_steps(store.documents(collection, after=before)):
            await asyncio.gather(*map(look, step))
            on_step(f"{collection}/{step[-1].key}")


def _position(after: str | None) -> tuple[str, str | None]:
    if after is None:
        return COLLECTIONS[0], None
    collection, slash, key = after.partition("/")
    if collection not in COLLECTIONS or not slash or not key:
        raise RequestError(
            f"--after: got {after[:80]!a}; wants the position that the command told, such as raw_traces/00ff",
            field="--after",
        )
    return collection, key


async def in_steps(documents: AsyncIterator[StoredDocument]) -> AsyncIterator[list[StoredDocument]]:
    """The documents, at most `DOCUMENTS_PER_STEP` at a time."""
    step: list[StoredDocument] = []
    async for stored in documents:
        step.append(stored)
        if len(step) == DOCUMENTS_PER_STEP:
            yield step
            step = []
    if step:
        yield step


async def read_again(store: Store, stored: StoredDocument) -> StoredDocument | None:
    """The document as it stands now; None where it is gone.

    Raises:
        StoreError, StoreUnavailableError
    """
    # Keys just before this one are few: it is the greatest that begins so.
    async with aclosing(_generator(store.documents(stored.collection, after=stored.key[:-1]))) as documents:
        async for found in documents:
            if found.key >= stored.key:
                return found if found.key == stored.key else None
    return None


async def _generator(documents: AsyncIterator[StoredDocument]) -> AsyncGenerator[StoredDocument, None]:
    async for stored in documents:
        yield stored
