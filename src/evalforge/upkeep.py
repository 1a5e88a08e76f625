"""The privacy officer's upkeep: `audit` looks for what should not be stored and mends it, `purge` removes everything."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import COLLECTIONS, Store, StoredDocument
from evalforge.core.privacy import SANITIZER_VERSION, Sanitizer
from evalforge.core.privacy.again import judged_again, structure_leaks
from evalforge.core.privacy.net import Leak, leaks_in
from evalforge.errors import EvalForgeError, SkippableError
from evalforge.events import emit
from evalforge.runs import ARCHIVE_LEASE_NAME, BACKFILL_LEASE_NAME, LEASE_NAME, taken_lease
from evalforge.sweep import ATTEMPTS, read_again, sweep

SHOWN_KEYS = 20
"""How many document keys a report names of each group of leaks."""

MAX_GROUPS = 2_000
"""How many groups a report keeps apart; what comes after them is counted under `[other]`."""

PURGE_LEASE_S = 900.0

NOT_OURS = frozenset({"processed", "updated_at"})
"""Fields beside a capture's facts that a store sets itself."""

MENDED = ("raw_traces", "checkpoints", "dead_letters")
"""The collections in which `--fix` mends what ingestion wrote; records of exports and erasures are evidence and stay."""

_OWN_ID = r"(?:export_|erasure_|run_|kept_out_run_)[0-9]{8}T[0-9]{6}Z?_[0-9a-f]{8}"
_IN_TASKS = re.compile(rf"\b{_OWN_ID}\b")
_DIGEST = re.compile("[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{64}")
_OWN_SHAPES: Mapping[str, re.Pattern[str]] = {
    "id": re.compile(rf"[0-9a-f]{{32}}|{_OWN_ID}"),
    "run_id": re.compile(_OWN_ID),
    "holder": re.compile(r"[a-z ]{1,40} [A-Za-z0-9._\-]{0,60} pid [0-9]{1,10}"),
    **dict.fromkeys(("sha256", "query_digest", "epoch", "token"), _DIGEST),
}
"""Fields of records other than captures whose values are drawn or computed: what has the shape says nothing of anybody."""


# -- audit ----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class LeakGroup:
    """Leaks of one kind in one field of one collection: how many documents, how many of them mended, the first keys.

    `is_ours` tells whether ingestion wrote the field; reviewers' and downstream's fields are never changed.
    """

    collection: str
    field: str
    kind: str
    is_ours: bool
    count: int = 0
    fixed_count: int = 0
    keys: list[str] = dataclasses.field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The group as plain JSON values."""
        return {
            "collection": self.collection,
            "field": self.field,
            "kind": self.kind,
            "owner": "ingestion" if self.is_ours else "others",
            "documents": self.count,
            "fixed": self.fixed_count,
            "keys": self.keys,
        }


@dataclass(slots=True)
class AuditReport:
    """What an audit saw and did. Documents are told by their keys, which are digests; values by nothing.

    `seen` counts documents by collection, `leaking` those with a leak, `fixed` those that were mended and `removed` those
    that were deleted. `outdated` counts captures that an older sanitizer made, `unreadable` documents among the captures
    that are none. `position` is the last document that was looked at, `collection/key`: `after` takes up from there, and
    what comes before the report's own `after` was not looked at.
    """

    fixing: bool
    after: str | None = None
    sanitizer_version: int = SANITIZER_VERSION
    seen: dict[str, int] = dataclasses.field(default_factory=lambda: dict.fromkeys(COLLECTIONS, 0))
    leaking: int = 0
    fixed: int = 0
    removed: int = 0
    outdated: int = 0
    unreadable: int = 0
    position: str | None = None
    groups: dict[tuple[str, str, str, bool], LeakGroup] = dataclasses.field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many leaks, by document and field, still stand."""
        return sum(group.count - group.fixed_count for group in self.groups.values())

    @property
    def is_clean(self) -> bool:
        """Whether nothing personal that an audit can see still stands."""
        return self.left == 0

    def note(self, stored: StoredDocument, leaks: Iterable[tuple[Leak, bool]], *, is_fixed: bool) -> None:
        """Counts the leaks of one document, each once; those in fields of others stay whatever was fixed."""
        for leak, is_ours in dict.fromkeys(leaks):
            key = (stored.collection, leak.path, leak.kind, is_ours)
            if key not in self.groups and len(self.groups) >= MAX_GROUPS:
                key = (stored.collection, "[other]", leak.kind, is_ours)
            group = self.groups.setdefault(key, LeakGroup(*key))
            group.count += 1
            group.fixed_count += is_fixed and is_ours
            if len(group.keys) < SHOWN_KEYS:
                group.keys.append(stored.key)

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values; the greatest groups first."""
        groups = sorted(self.groups.values(), key=lambda group: (-group.count, group.collection, group.field, group.kind))
        return {
            "clean": self.is_clean,
            "fixing": self.fixing,
            "after": self.after,
            "sanitizer_version": self.sanitizer_version,
            "documents": self.seen,
            "leaking_documents": self.leaking,
            "fixed_documents": self.fixed,
            "removed_documents": self.removed,
            "outdated_captures": self.outdated,
            "unreadable_documents": self.unreadable,
            "leaks_left": self.left,
            "leaks": [group.document() for group in groups],
            "position": self.position,
        }


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was found in one document, and the capture that should stand in its place, if it is one and should change."""

    leaks: Sequence[tuple[Leak, bool]] = ()
    better: FailureCapture | None = None
    is_outdated: bool = False
    is_unreadable: bool = False
    is_removable: bool = False


async def audit(
    store: Store,
    sanitizer: Sanitizer,
    *,
    fix: bool,
    clock: Callable[[], datetime],
    report: AuditReport,
    after: str | None = None,
    on_progress: Callable[[AuditReport], None] | None = None,
) -> AuditReport:
    """Looks through every stored document for what is personal, fills `report` as it goes, and mends what it finds if `fix`.

    Mending a capture: the present sanitizer's rules and the second net over what is stored, written only if nobody wrote the
    document meanwhile; reviewers' and downstream's fields stay. Dead letters and checkpoints with a leak are deleted: the
    next run makes them anew. Everything else is for a person. Whatever ends this early, what was mended stays, and an audit
    `after` the report's position goes on from there. Memory does not grow with the store.

    Raises:
        RequestError: `after` is no position.
        StoreError, StoreUnavailableError
    """
    report.after = after

    async def look(stored: StoredDocument) -> None:
        await _looked_at(store, sanitizer, report, stored, fix, clock)

    def follow(position: str) -> None:
        report.position = position
        if on_progress is not None:
            on_progress(report)

    await sweep(store, look, after=after, on_step=follow)
    emit(
        "audit.finished",
        fix=fix,
        documents=sum(report.seen.values()),
        leaking=report.leaking,
        fixed=report.fixed,
        removed=report.removed,
        leaks_left=report.left,
        outdated=report.outdated,
    )
    return report


async def _looked_at(
    store: Store,
    sanitizer: Sanitizer,
    report: AuditReport,
    stored: StoredDocument,
    fix: bool,
    clock: Callable[[], datetime],
) -> None:
    report.seen[stored.collection] += 1
    verdict = _verdict_on(stored, sanitizer)
    report.outdated += verdict.is_outdated
    report.unreadable += verdict.is_unreadable
    report.leaking += bool(verdict.leaks)
    is_fixed = fix and await _mended(store, sanitizer, report, stored, verdict, clock)
    report.note(stored, verdict.leaks, is_fixed=is_fixed)
    if is_fixed and verdict.is_outdated:
        report.outdated -= 1


def _verdict_on(stored: StoredDocument, sanitizer: Sanitizer) -> _Verdict:
    if stored.collection == "raw_traces":
        return _verdict_on_capture(stored, sanitizer)
    leaks = leaks_in(_read_of(stored))
    if stored.collection == "dead_letters":
        leaks += structure_leaks(stored.document)
    is_removable = stored.collection == "dead_letters" or (
        stored.collection == "checkpoints" and "cursor" in stored.document
    )
    return _Verdict([(leak, True) for leak in leaks], is_removable=is_removable)


def _read_of(stored: StoredDocument) -> Mapping[str, Any]:
    """What an audit reads of a record that is no capture: all but what only looks like something personal.

    One digest in 200 looks like a bank account, one id of a run in 12 like a telephone number. Who asked for an erasure
    must stand in its record, whose tasks are our own sentences about packages: their ids look like codes there.
    """
    read = _without_own_shapes(stored.document)
    if stored.collection == "runs" and isinstance(read.get("report"), Mapping):
        read["report"] = _without_own_shapes(read["report"])
    if stored.collection == "exports" and isinstance(read.get("files"), (list, tuple)):
        read["files"] = [_without_own_shapes(one) if isinstance(one, Mapping) else one for one in read["files"]]
    if stored.collection == "tombstones":
        read.pop("actor", None)
        tasks = read.get("tasks")
        if isinstance(tasks, (list, tuple)):
            read["tasks"] = [_IN_TASKS.sub("it", task) if isinstance(task, str) else task for task in tasks]
    return read


def _without_own_shapes(document: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in document.items()
        if not (name in _OWN_SHAPES and isinstance(value, str) and _OWN_SHAPES[name].fullmatch(value))
    }


def _verdict_on_capture(stored: StoredDocument, sanitizer: Sanitizer) -> _Verdict:
    try:
        capture = FailureCapture.from_document(stored.document)
        own = capture.to_document()
        ours = {name: value for name, value in stored.document.items() if name in own}
        better, found = judged_again(capture, ours, sanitizer)
    except Exception:  # noqa: BLE001 - a document of whatever shape must not end the audit; it is told, and left alone
        return _Verdict([(leak, False) for leak in leaks_in(stored.document)], is_unreadable=True)
    others = {name: value for name, value in stored.document.items() if name not in own and name not in NOT_OURS}
    leaks = [(leak, True) for leak in found] + [(leak, False) for leak in leaks_in(others)]
    is_outdated = capture.greatest.sanitizer_version < SANITIZER_VERSION
    return _Verdict(leaks, better if found or is_outdated else None, is_outdated)


async def _mended(
    store: Store,
    sanitizer: Sanitizer,
    report: AuditReport,
    stored: StoredDocument,
    verdict: _Verdict,
    clock: Callable[[], datetime],
) -> bool:
    """Whether what ingestion wrote in this document is as it should be now."""
    for _ in range(ATTEMPTS):
        if verdict.is_removable and verdict.leaks:
            if await store.remove(stored):
                report.removed += 1
                return True
        elif verdict.better is None:
            return not any(is_ours for _, is_ours in verdict.leaks)
        else:
            try:
                if await store.rewrite(verdict.better, stored, now=clock()):
                    report.fixed += 1
                    return True
            except SkippableError:
                return False  # no stored form: it stays in the report
        # Somebody wrote it, or the answer to our own write was lost.
        found = await read_again(store, stored)
        if found is None:
            return True
        stored, verdict = found, _verdict_on(found, sanitizer)
    return False


# -- purge ----------------------------------------------------------------------------------------------------------------


async def purge(
    store: Store,
    *,
    holder: str,
    clock: Callable[[], datetime],
    on_deleted: Callable[[str, int], None] | None = None,
) -> Mapping[str, int]:
    """Deletes every document of every collection of the store's prefix; how many, by collection.

    Holds the leases of runs, backfills and archives, so that none is going on when it begins. Safe to run again after
    whatever ended it early.

    Raises:
        RunInProgressError: a run holds the lease; nothing was deleted.
        StoreError, StoreUnavailableError: some documents may be deleted all the same.
    """
    now = clock()
    leases = []
    try:
        for name in (LEASE_NAME, BACKFILL_LEASE_NAME, ARCHIVE_LEASE_NAME):
            leases.append(await taken_lease(store, holder, now, name=name, lifetime_s=PURGE_LEASE_S))
        counts = await store.purge(on_deleted=on_deleted)
    finally:
        for lease in leases:
            with suppress(EvalForgeError):  # it went with the rest, or expires by itself
                await store.release_lease(lease)
    emit("store.purged", holder=holder, **{name: count for name, count in counts.items() if name in COLLECTIONS})
    return counts
