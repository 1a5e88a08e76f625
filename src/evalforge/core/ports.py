"""What we ask of the world: sources that give spans, and stores that keep what became of them.

These are shapes, not base classes: an adapter implements the methods and passes the standard suite in tests/contract.
Adapters translate foreign errors into `evalforge.errors`, each in one place.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from evalforge.core.capture import FailureCapture
from evalforge.core.review import Review, ReviewState
from evalforge.core.span import Span, TraceIdKind
from evalforge.core.window import MS_PER_HOUR, Window

# -- sources --------------------------------------------------------------------------------------------------------------

LOOKBACK = "lookback"
"""The tier of runs over a window that somebody asked for."""

Reach = Literal["all", "evaluated"]
"""Which spans a reading is after: every one that could be a failure, or those that an evaluation could make one."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a source's reading of one window stands, after all pages before it were stored.

    `step` and `cursor` belong to the source; `query_digest` tells whether the settings are still those the cursor was made
    under. `last_ms` is the start of the newest item stored (epoch milliseconds), from which reading goes on, inclusive, when
    the cursor has died. `learned` are the evaluator names (and other places) found on spans, kept for later runs.
    `done` says that the window was read to its end. `tier` says for which series of windows this one was read, and
    `began_ms` when its reading began (epoch milliseconds): both are the run's, a source leaves them alone.
    """

    source: str
    window: Window
    query_digest: str = ""
    step: str = ""
    cursor: str | None = None
    last_ms: int | None = None
    learned: tuple[str, ...] = ()
    done: bool = False
    tier: str = LOOKBACK
    began_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """What an unfinished backfill has read of a source, under the settings of `query_digest`: windows apart, ascending.

    `saved_at` is when the first of them was read.
    """

    source: str
    query_digest: str
    saved_at: datetime
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, slots=True)
class Rejected:
    """An item of a page that is no span. `item` is raw: it becomes a dead letter without text, then it is forgotten."""

    reason: str
    item: Any
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(slots=True)
class FoundById:
    """What a source has of the spans with these ids, at least one; `is_partial` says that some may be missing."""

    span_ids: Sequence[str]
    spans: list[Span] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    is_partial: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a source: every item is in `spans` or in `rejected`, so `item_count` is their sum.

    `checkpoint` is to be saved once the page is stored.
    """

    spans: Sequence[Span]
    rejected: Sequence[Rejected]
    checkpoint: Checkpoint

    @property
    def item_count(self) -> int:
        """How many items the page held."""
        return len(self.spans) + len(self.rejected)


FilterMode = Literal["query", "scan", "auto"]


@dataclass(slots=True)
class SourceStatus:
    """What a source can say of its reading so far; it grows while pages are read.

    `mode` is the filter in effect; `filter_gaps` are the places whose failures the query missed and still misses, `learned`
    those that it missed first and finds now. `partial` says that Datadog gave incomplete pages to the end. `skipped` is why
    the source was left out, where it was. `rate_limit` holds limit, remaining, period_s, reset_s, told_at and resets_at
    (ISO 8601, UTC) as last told.
    """

    name: str
    mode: str = "auto"
    request_count: int = 0
    retry_count: int = 0
    page_count: int = 0
    item_count: int = 0
    filter_gaps: list[str] = field(default_factory=list)
    learned: list[str] = field(default_factory=list)
    partial: bool = False
    skipped: str | None = None
    warnings: list[str] = field(default_factory=list)
    rate_limit: dict[str, float | str] = field(default_factory=dict)


class Source(Protocol):
    """Something that gives spans of a window, page by page.

    `query_digests`, one for each reach, are those of the checkpoints it gives under the present settings.
    """

    name: str
    status: SourceStatus
    query_digests: Mapping[Reach, str]

    def in_scope(self, span: Span) -> bool:
        """Whether a span of this source may count as a failure: of the wanted applications and environments, no experiment.

        Pages may hold spans that are not in scope; they are healthy whatever they carry.
        """
        ...

    def pages(self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all") -> AsyncGenerator[Page, None]:
        """The pages of `window`, oldest spans first; those after `after` when it is an unfinished checkpoint of it.

        With `reach` "evaluated" they hold every span that an evaluation could make a failure, and few others, whatever the
        filter: for windows that were read before, whose spans were evaluated since. A source without evaluations gives one
        empty page for no request. A checkpoint of one reach is none of the other's.

        The last page's checkpoint is `done`, unless `status.partial`: then it begins the window anew. A window without items
        gives one empty page. `after` may also be a finished checkpoint: then only what it has learned is used.

        Raises:
            SourceRefusedError: the keys or the request were refused.
            SourceUnavailableError: down for longer than the retry budget; pages already given stay good.
            QuotaExhaustedError: the rate limit resets later than the retry budget.
        """
        ...

    async def spans_before(self, window: Window, before_ms: int, limit: int) -> Sequence[Span]:
        """The last spans of `window` that began at or before `before_ms` (epoch), at most `limit`, oldest first.

        One request, for what they tell about the spans after them; they were judged before. None where it is refused.

        Raises:
            SourceUnavailableError, QuotaExhaustedError
        """
        ...

    def roots(self, traces: Mapping[str, TraceIdKind], window: Window) -> AsyncGenerator[Sequence[Span], None]:
        """The spans of these traces (stored ids) that may name their users: roots and entry spans, healthy ones too.

        One request for each list given. Only spans that began in `window`; traces that cannot be asked for are left out.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError: spans already given stay good.
        """
        ...

    def by_span_id(self, starts_ns: Mapping[str, int], *, before_ms: int = MS_PER_HOUR) -> AsyncGenerator[FoundById, None]:
        """The spans with these ids, of whatever trace and however they ended, batch by batch.

        `starts_ns` are the ids with about when each span began (nanoseconds since the epoch): at most `before_ms` before
        that, and an hour after. Ids that cannot be asked for are left out.

        Raises:
            SourceRefusedError, SourceUnavailableError, QuotaExhaustedError: spans already given stay good.
        """
        ...


# -- stores ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that could not become part of a capture: ids, stage, reason, and its structure without any text.

    `id` is a digest of what it is about, so the same item met again is the same letter.
    """

    id: str
    source: str
    stage: Literal["parse", "sanitize", "store"]
    reason: str
    structure: Mapping[str, Any]
    occurred_at: datetime
    expires_at: datetime
    trace_id: str | None = None
    span_id: str | None = None


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


@dataclass(frozen=True, slots=True)
class PackageFile:
    """One file of a package: its name in it, with `/` between folders, the SHA-256 of its bytes, and how many they are."""

    name: str
    sha256: str
    size_bytes: int


PackageState = Literal["pending", "delivered", "failed"]

DOCUMENT_ID_BYTES = 16
MAX_PACKED_CAPTURES = 20_000
"""How many captures the record of a package names at most: 320 KB of the 1 MiB that a document may have in Firestore.

Source: https://cloud.google.com/firestore/quotas
"""


@dataclass(frozen=True, slots=True)
class ExportPackage:
    """The record of one export: what was selected, how many, what became of it, and the digest of the bytes.

    `destination` is a name that the settings declare, or "file" for the command line's own. A record is saved as "pending"
    before anything is written; one that stays so is of a process that died. `attempts` says how often it was tried, the last
    time at `attempted_at`. `files` are those of a package that is a folder, its manifest apart; `sha256` is that of the only
    file, else that of their list as sha256sum writes it, and `size_bytes` their sum. `counts` says how many captures were
    looked at and what became of them. `document_ids` are those of the captures in it, packed, `DOCUMENT_ID_BYTES` each, in
    their order; `ids_are_cut` where there were more than `MAX_PACKED_CAPTURES`.
    """

    id: str
    created_at: datetime
    format: str
    destination: str
    selection: Mapping[str, Any]
    count: int
    sha256: str
    size_bytes: int
    state: PackageState
    reason: str | None = None
    erased_count: int = 0
    attempts: int = 1
    attempted_at: datetime | None = None
    per_group: int | None = None
    test_share: float | None = None
    files: tuple[PackageFile, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    document_ids: bytes = field(default=b"", repr=False)
    ids_are_cut: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """The record of one erasure: the audit entry, and the tombstones that keep what was erased from coming back.

    `trace_keys` are keyed digests of trace ids (32 lower-case hexadecimal digits each), `user_hashes` every candidate hash
    of the user: no raw id. A trace key keeps its trace out for good; a user hash keeps out spans that started before
    `erased_at`. `actor` is who asked, as the caller says. `counts` says how many `captures`, `dead_letters` and
    `export_rows` were deleted, and is empty while the erasure has not ended; `tasks` is what a person still has to do
    elsewhere.

    A record that is saved again keeps its trace keys in place and adds to their end: whoever reads it meanwhile misses none.
    """

    id: str
    erased_at: datetime
    kind: Literal["user", "trace"]
    actor: str
    user_hashes: tuple[str, ...] = ()
    trace_keys: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """Which groups of captures a receiver knows of, so that it is told once.

    `origin` is drawn when this memory begins, and goes into the ids of what is told. `signatures` are the groups that were
    told, or were there before anybody was. `regressions` are those that were told to have regressed: by signature, when the
    group had been resolved.
    """

    origin: str
    signatures: frozenset[str] = frozenset()
    regressions: Mapping[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run, held until `expires_at` by `holder`; `token` tells two holders of one name apart.

    `fence` is the store's: greater for each further holder of a name, so that one who has slept through the end of its lease
    cannot put an old checkpoint in place of a newer one.
    """

    name: str
    holder: str
    token: str
    acquired_at: datetime
    expires_at: datetime
    fence: int = 0


RunState = Literal["running", "complete", "incomplete", "failed"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run in the history: `report` is the run report as plain values, empty while it runs.

    `asked_by` is who asked for it, as far as the service or the command line can tell. A record that still says "running"
    though nobody holds the lease is of a process that died.
    """

    id: str
    state: RunState
    plan: str
    holder: str
    asked_by: str
    started_at: datetime
    expires_at: datetime
    finished_at: datetime | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


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


class Checkpoints(Protocol):
    """Keeps where each source's reading stands, the leases, the ids of the hashing keys, and what was told of groups."""

    async def load_checkpoints(self, source: str, tiers: Sequence[str]) -> Mapping[str, Checkpoint]:
        """The last saved checkpoint of each of these tiers of a source that has one, by tier."""
        ...

    async def save_checkpoint(self, checkpoint: Checkpoint, *, fence: int) -> bool:
        """Replaces the checkpoint of the same source and tier; False when a holder with a greater fence has saved one.

        False also when what this store has saved or loaded there is gone: somebody purged it.
        """
        ...

    async def load_coverage(self, source: str) -> Coverage | None:
        """What the last backfill that did not finish has read of a source."""
        ...

    async def save_coverage(self, coverage: Coverage) -> None:
        """Replaces the source's coverage."""
        ...

    async def load_told(self) -> Told | None:
        """What was told of groups; None where nothing ever was, or what is kept cannot be read."""
        ...

    async def save_told(self, told: Told) -> None:
        """Replaces what was told."""
        ...

    async def acquire_lease(self, lease: Lease, *, now: datetime) -> Lease:
        """The lease that stands now: this one, with its fence, or that of another token which has not expired."""
        ...

    async def renew_lease(self, lease: Lease, *, now: datetime) -> bool:
        """Extends the lease to `lease.expires_at`; False when another token has taken it."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Gives the lease back; nothing happens when it is not held by this token. Its fence is remembered."""
        ...

    async def held_lease(self, name: str) -> Lease | None:
        """The lease of that name as it stands, given back or expired ones too; None when there never was one."""
        ...

    async def known_key_ids(self) -> frozenset[str]:
        """The ids of every hashing key that stored hashes were made with."""
        ...

    async def remember_key_ids(self, key_ids: frozenset[str]) -> None:
        """Adds key ids to the remembered ones."""
        ...


class DeadLetters(Protocol):
    """Keeps dead letters; the same letter twice is one."""

    async def keep(self, letters: Sequence[DeadLetter]) -> int:
        """Stores the letters that are not there yet and returns how many were new."""
        ...

    async def dead_letter_count(self, *, now: datetime) -> int:
        """How many live dead letters there are."""
        ...

    def dead_letters(self, *, now: datetime) -> AsyncIterator[DeadLetter]:
        """The live dead letters, ascending by id; streamed. Documents that are none (somebody else's) are left out."""
        ...

    async def remove_dead_letters(self, ids: Sequence[str]) -> int:
        """Deletes the letters with these ids and returns how many were there. Idempotent."""
        ...


class Runs(Protocol):
    """Keeps the history of runs."""

    async def save_run(self, record: RunRecord) -> None:
        """Writes or replaces the record."""
        ...

    async def load_run(self, run_id: str, *, now: datetime) -> RunRecord | None:
        """The record of a run, unless there is none or it has expired."""
        ...

    async def recent_runs(self, *, limit: int, now: datetime) -> Sequence[RunRecord]:
        """The live records that began last, the latest first."""
        ...


class Exports(Protocol):
    """Keeps the records of export packages."""

    async def save_package(self, package: ExportPackage) -> None:
        """Writes or replaces the record."""
        ...

    async def load_package(self, package_id: str) -> ExportPackage | None:
        """The record with this id, if there is one."""
        ...

    async def packages(self, *, limit: int = 100) -> Sequence[ExportPackage]:
        """The newest records first."""
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


# -- receivers ------------------------------------------------------------------------------------------------------------


class Receiver(Protocol):
    """Somebody outside who is told of something: takes one message at a time."""

    async def post(self, body: bytes, *, content_type: str, message_id: str) -> None:
        """Returns when the message is accepted; `message_id` stays the same however often it is sent.

        Raises:
            DestinationRefusedError: this message, or any, is not taken.
            DestinationUnavailableError: it may be later.
        """
        ...
