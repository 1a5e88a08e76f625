"""Captures and reviews: what is kept of failing traces, and what people decide about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from evalforge.core.capture import FailureCapture
from evalforge.core.review import Review, ReviewState
from evalforge.core.span import TraceIdKind


@dataclass(frozen=True, slots=True)
class UpsertResult:
    """What became of each capture of one `upsert`, as trace ids, and the poison ones with their reason code.

    `without_user` are those, of the first three, whose stored document names no user hash afterwards, each with the kind of
    its trace id. `untold_errors` are the failing spans in them of whose error no message is kept, as trace id and span id.
    """

    created: Sequence[str] = ()
    updated: Sequence[str] = ()
    unchanged: Sequence[str] = ()
    refused: Sequence[tuple[str, str]] = ()
    without_user: Mapping[str, TraceIdKind] = field(default_factory=dict)
    untold_errors: Sequence[tuple[str, str]] = ()

    def joined(self, other: UpsertResult) -> UpsertResult:
        """What became of the captures of both, which are of different traces."""
        return UpsertResult(
            created=(*self.created, *other.created),
            updated=(*self.updated, *other.updated),
            unchanged=(*self.unchanged, *other.unchanged),
            refused=(*self.refused, *other.refused),
            without_user={**self.without_user, **other.without_user},
            untold_errors=(*self.untold_errors, *other.untold_errors),
        )

    def without(self, removed: Collection[str]) -> UpsertResult:
        """The same, but for these traces."""

        def left(trace_ids: Sequence[str]) -> tuple[str, ...]:
            return tuple(trace_id for trace_id in trace_ids if trace_id not in removed)

        return UpsertResult(
            created=left(self.created),
            updated=left(self.updated),
            unchanged=left(self.unchanged),
            refused=tuple(one for one in self.refused if one[0] not in removed),
            without_user={trace_id: kind for trace_id, kind in self.without_user.items() if trace_id not in removed},
            untold_errors=tuple(one for one in self.untold_errors if one[0] not in removed),
        )


@dataclass(frozen=True, slots=True)
class Recognized:
    """The traces whose stored captures name an origin that was asked for: `result` has them all as unchanged.

    `absent` are those that have no stored capture at all.
    """

    result: UpsertResult = field(default_factory=UpsertResult)
    absent: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredCapture:
    """A capture as it stands in the store, with what is not ingestion's: when it was last written, and `processed`."""

    capture: FailureCapture
    document: Mapping[str, Any]
    updated_at: datetime
    processed: bool


@dataclass(frozen=True, slots=True)
class Selection:
    """Which captures: all conditions hold; None means any. Times bound `started_at`, `from` inclusive, `to` exclusive.

    `signatures` are those of which a capture has to have one; with none in it, nothing matches.
    """

    started_from: datetime | None = None
    started_to: datetime | None = None
    failure_type: str | None = None
    severity: str | None = None
    ml_app: str | None = None
    env: str | None = None
    model_name: str | None = None
    error_type: str | None = None
    signatures: tuple[str, ...] | None = None
    limit: int | None = None

    def document(self) -> dict[str, Any]:
        """The conditions that are set, as plain values, for a manifest."""
        entries = {
            "started_from": self.started_from.isoformat() if self.started_from else None,
            "started_to": self.started_to.isoformat() if self.started_to else None,
            "failure_type": self.failure_type,
            "severity": self.severity,
            "ml_app": self.ml_app,
            "env": self.env,
            "model_name": self.model_name,
            "error_type": self.error_type,
            "signatures": list(self.signatures) if self.signatures is not None else None,
            "limit": self.limit,
        }
        return {name: value for name, value in entries.items() if value is not None}


SELECTED_BY = ("failure_type", "severity", "ml_app", "env", "model_name", "error_type")
"""The fields of a capture that a `Selection` may want to equal something; nothing else but time and signature selects."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a listing of captures, the latest start first: right behind the capture of this start and document id."""

    started_at: datetime
    document_id: str


@dataclass(frozen=True, slots=True)
class Brief:
    """What a capture is in short, for rows that stand for many: read without the rest of it.

    `evaluator` is the one whose verdict its worst signal is, if it is one's.
    """

    trace_id: str
    signature: str
    started_at: datetime
    fetched_at: datetime
    failure_type: str
    severity: str
    span_name: str | None
    ml_app: str | None
    env: str | None
    service_name: str | None
    model_name: str | None
    error_type: str | None
    evaluator: str | None
    status_code: int | None
    user_hash: str | None
    version: str | None


@dataclass(frozen=True, slots=True)
class Facets:
    """What a group counts of each of its captures: the least that can be read of one."""

    started_at: datetime
    severity: str
    env: str | None
    model_name: str | None
    user_hash: str | None
    version: str | None


MAX_SIGNATURES = 2_000
"""How many groups are told apart; a store with more of them says of the rest nothing."""
MAX_VALUES = 200
"""How many distinct values of a field are listed."""


class Captures(Protocol):
    """Keeps captures; owns no fact of its own but `updated_at` and a fresh document's `processed: false`."""

    async def recognize(self, origins: Mapping[str, bytes], *, now: datetime) -> Recognized:
        """Which of these traces have a live capture that names this origin (`core.origins`); one read for each.

        Raises:
            StoreUnavailableError, StoreError
        """
        ...

    async def upsert(
        self, captures: Sequence[FailureCapture], *, now: datetime, absent: Collection[str] = ()
    ) -> UpsertResult:
        """Merges each capture into the stored one of its trace and writes it only if a fact changed.

        At most one capture per trace in a call. `absent` are traces that had no capture when the store was last asked: they
        need not be looked up once more, and are all the same merged with what was written since. A document that the store
        cannot hold is represented or cut; one that it still refuses is in `refused` and takes no other along. Fields that
        are not ingestion's are never touched.
        Expired stored captures count as absent.

        Raises:
            StoreUnavailableError, StoreError
            NewerVersionError: a later program wrote a stored capture; it is left as it is, others may be written.
        """
        ...

    async def compare(self, captures: Sequence[FailureCapture], *, now: datetime) -> UpsertResult:
        """What `upsert` would make of these captures; writes nothing."""
        ...

    async def get(self, trace_id: str, *, now: datetime) -> StoredCapture | None:
        """The capture of a trace, unless it has none or it has expired."""
        ...

    def select(self, selection: Selection, *, now: datetime, beyond: Position | None = None) -> AsyncIterator[StoredCapture]:
        """The live captures that match, the latest start first, ties by greater document id first; streamed.

        With `beyond` only those that come after that position.
        """
        ...

    async def count(self, *, now: datetime) -> int:
        """How many live captures there are."""
        ...

    async def count_matching(self, selection: Selection, *, now: datetime) -> int:
        """How many captures match, or `limit` if that is less.

        A store that deletes by itself what has expired may count it until then: Firestore takes a day at most, usually.
        """
        ...

    async def briefs(self, selection: Selection, *, now: datetime) -> Sequence[Brief]:
        """The live captures that match in short, the latest start first; `limit` must be set."""
        ...

    async def facets(self, selection: Selection, *, now: datetime) -> Sequence[Facets]:
        """The same of the captures that match as `briefs`, in the same order, but only what groups count."""
        ...

    async def newest_by_signature(self, *, now: datetime) -> Sequence[Brief]:
        """The newest live capture of each signature, in short, in any order; of at most `MAX_SIGNATURES`."""
        ...

    async def first_started_at(self, signature: str, *, now: datetime) -> datetime | None:
        """When the earliest live capture of a signature started; None where there is none."""
        ...

    async def values_of(self, field: str, *, now: datetime) -> Sequence[str]:
        """The distinct values of one of `SELECTED_BY` among stored captures, ascending; at most `MAX_VALUES`."""
        ...


class Reviews(Protocol):
    """Keeps what reviewers decided, a document for each group that somebody has touched."""

    async def load_review(self, signature: str) -> Review:
        """The review of a group; a fresh one, of version "", where nobody has touched it."""
        ...

    def reviews(self, state: ReviewState | None = None) -> AsyncIterator[Review]:
        """Every stored review, or those in that state, in any order; streamed. What is none of ours is left out."""
        ...

    async def save_review(self, review: Review) -> bool:
        """Writes the review if the stored one still has its `version`; False when somebody else was faster."""
        ...
