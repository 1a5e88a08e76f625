"""One store for all of it, with what the privacy officer needs: erasure and upkeep."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from evalforge.core.capture import FailureCapture
from evalforge.core.ports.captures import Captures, Reviews, StoredCapture
from evalforge.core.ports.ledger import Checkpoints, DeadLetters, Erasure, Exports, Runs


class Erasures(Protocol):
    """Deletes for good, and keeps the tombstones: what was erased must not come back with the next reading."""

    async def save_erasure(self, erasure: Erasure) -> None:
        """Writes or replaces the record, then changes the epoch: whoever sees the new one finds the record.

        Raises:
            ValueError: a trace key is none.
        """
        ...

    async def erasure_epoch(self) -> str:
        """A token that changes with every saved erasure; costs one read. "" before the first."""
        ...

    def erasures(self) -> AsyncIterator[Erasure]:
        """Every record, oldest first; records are few and packed, one per request."""
        ...

    def captures_of_users(self, user_hashes: frozenset[str]) -> AsyncIterator[StoredCapture]:
        """Every stored capture with one of these in `user_hashes`, expired ones too; streamed."""
        ...

    async def delete_captures(self, trace_ids: Sequence[str], *, user_hashes: frozenset[str] = frozenset()) -> int:
        """Deletes the captures of these traces, and every one with one of these in `user_hashes`; how many were there.

        Expired ones too, and those that `captures_of_users` cannot give because they cannot be read. Idempotent.
        """
        ...

    async def delete_dead_letters(self, trace_ids: Sequence[str]) -> int:
        """Deletes the dead letters about these traces and returns how many were there. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """One document as it stands: `collection` without the prefix, its key there, plain values, and its version.

    `version` guards a rewrite: it changes whenever anybody writes the document.
    """

    collection: str
    key: str
    document: Mapping[str, Any]
    version: str


class Upkeep(Protocol):
    """What the privacy officer's commands need: to see every document, to rewrite one, to delete what is due."""

    def documents(self, collection: str, *, after: str | None = None) -> AsyncIterator[StoredDocument]:
        """Every document of one of `COLLECTIONS` with a key greater than `after`, ascending by key; streamed.

        Nothing is left out: expired ones and those that are none of ours are given too.
        """
        ...

    async def rewrite(self, capture: FailureCapture, stored: StoredDocument, *, now: datetime) -> bool:
        """Replaces the facts of a stored capture, and nothing else, if it still has that version; False when it has not.

        Reviewers' and downstream's fields stay as they are.
        """
        ...

    async def replace(self, old: StoredDocument, document: Mapping[str, Any]) -> bool:
        """Puts a record, which is no capture, in place of what was read if nobody wrote it since; False when somebody has.

        Raises:
            ValueError: `old` is a capture, which can only be rewritten.
        """
        ...

    async def outdated_layout(self) -> Sequence[str]:
        """What of the store itself, beside its documents, is not as a new one would be, in a few words each."""
        ...

    async def mend_layout(self) -> None:
        """Makes the store itself as a new one would be; programs of before then may refuse it."""
        ...

    async def remove(self, stored: StoredDocument) -> bool:
        """Deletes one document if it still has that version; False when it has not, or is gone."""
        ...

    async def delete_expired(self, *, now: datetime) -> int:
        """Deletes what has expired and returns how many documents; 0 where the store does that by itself."""
        ...

    async def purge(self, *, on_deleted: Callable[[str, int], None] | None = None) -> Mapping[str, int]:
        """Deletes every document of every collection of this prefix; how many, by collection. Safe to run again."""
        ...


COLLECTIONS = ("raw_traces", "groups", "checkpoints", "dead_letters", "runs", "exports", "tombstones")
"""Every collection that a store keeps, without its prefix; checkpoints hold leases, ids of keys and what was told too."""


class Store(Captures, Reviews, Checkpoints, DeadLetters, Runs, Exports, Erasures, Upkeep, Protocol):
    """All that one store keeps."""

    async def ping(self) -> None:
        """Returns when the store answers one cheap read; costs the same however much it holds.

        Raises:
            StoreUnavailableError, StoreError
        """
        ...

    async def close(self) -> None:
        """Frees connections; nothing may be called afterwards."""
        ...
