"""What a run keeps beside captures: checkpoints, leases, its history, dead letters, packages, what was told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from evalforge.core.ports.sources import Checkpoint, Coverage


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
