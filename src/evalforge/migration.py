"""`migrate`: every stored document of an earlier version is written anew in today's, and nothing else is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Store, StoredDocument
from evalforge.core.versions import TODAY, Kind, kind_of, todays, version_of
from evalforge.errors import NewerVersionError, SkippableError
from evalforge.events import emit
from evalforge.sweep import ATTEMPTS, read_again, sweep


@dataclass(slots=True)
class VersionCount:
    """How many documents of one kind were found in one version, and how many of them were written anew."""

    collection: str
    kind: Kind
    version: int
    count: int = 0
    migrated_count: int = 0

    def document(self) -> dict[str, Any]:
        """The count as plain JSON values, with the version that is today's."""
        return {
            "collection": self.collection,
            "kind": self.kind,
            "version": self.version,
            "today": TODAY[self.kind],
            "documents": self.count,
            "migrated": self.migrated_count,
        }


@dataclass(slots=True)
class MigrationReport:
    """What a migration found and wrote. `position` is the last document that was looked at, as for an audit.

    `older` counts documents of earlier versions, `migrated` those that were written anew, `gone` those that somebody deleted
    or wrote in today's version meanwhile. `newer` are those of later versions and `not_ours` those that are none of ours:
    both are left alone. `layout` is what of the store itself is not as a new one would be, and `is_layout_mended` whether
    that was changed.
    """

    dry_run: bool
    after: str | None = None
    newer: int = 0
    not_ours: int = 0
    gone: int = 0
    position: str | None = None
    layout: tuple[str, ...] = ()
    is_layout_mended: bool = False
    counts: dict[tuple[str, Kind, int], VersionCount] = dataclasses.field(default_factory=dict)

    @property
    def seen(self) -> int:
        """How many documents were looked at."""
        return sum(one.count for one in self.counts.values()) + self.not_ours

    @property
    def older(self) -> int:
        """How many documents of earlier versions were found."""
        return sum(one.count for one in self.counts.values() if one.version < TODAY[one.kind])

    @property
    def migrated(self) -> int:
        """How many documents were written anew."""
        return sum(one.migrated_count for one in self.counts.values())

    @property
    def left(self) -> int:
        """How many documents still stand in an earlier version."""
        return self.older - self.migrated - self.gone

    def noted(self, collection: str, kind: Kind, version: int) -> VersionCount:
        """The count of that place, kind and version, with one document more."""
        count = self.counts.setdefault((collection, kind, version), VersionCount(collection, kind, version))
        count.count += 1
        return count

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        return {
            "dry_run": self.dry_run,
            "after": self.after,
            "documents": self.seen,
            "older": self.older,
            "migrated": self.migrated,
            "gone": self.gone,
            "left": self.left,
            "newer": self.newer,
            "not_ours": self.not_ours,
            "versions": [self.counts[key].document() for key in sorted(self.counts)],
            "layout": list(self.layout),
            "layout_mended": self.is_layout_mended,
            "position": self.position,
        }


async def migrate(
    store: Store,
    *,
    clock: Callable[[], datetime],
    report: MigrationReport,
    after: str | None = None,
    on_progress: Callable[[MigrationReport], None] | None = None,
) -> MigrationReport:
    """Writes every document of an earlier version anew in today's and fills `report` as it goes; a dry run only counts.

    Each is written only if nobody wrote it since it was read, so runs and reviewers may go on meanwhile; reviewers' and
    downstream's fields stay as they are, and so do reviews. What is in today's version already is not written: whatever ends
    this early, it can be done again from the start, or `after` the report's position. When no document of an earlier version
    is left, the store itself is made as a new one would be, which earlier programs may refuse.

    Raises:
        RequestError: `after` is no position.
        StoreError, StoreUnavailableError: what was migrated stays.
    """
    report.after = after

    async def look(stored: StoredDocument) -> None:
        await _looked_at(store, report, stored, clock)

    def follow(position: str) -> None:
        report.position = position
        if on_progress is not None:
            on_progress(report)

    await sweep(store, look, after=after, on_step=follow)
    report.layout = tuple(await store.outdated_layout())
    if report.layout and not report.dry_run and not report.left and not report.newer:
        await store.mend_layout()
        report.is_layout_mended = True
    emit(
        "migrate.finished",
        dry_run=report.dry_run,
        documents=report.seen,
        older=report.older,
        migrated=report.migrated,
        left=report.left,
        newer=report.newer,
    )
    return report


async def _looked_at(store: Store, report: MigrationReport, stored: StoredDocument, clock: Callable[[], datetime]) -> None:
    kind = kind_of(stored.collection, stored.key)
    better = None if kind is None else _todays(kind, stored)
    if kind is None or better is None:
        report.not_ours += 1
        return
    version = version_of(stored.document)
    count = report.noted(stored.collection, kind, version)
    report.newer += version > TODAY[kind]
    if version >= TODAY[kind] or report.dry_run:
        return
    for _ in range(ATTEMPTS):
        try:
            if await _is_written(store, stored, better, clock):
                count.migrated_count += 1
                return
        except SkippableError:  # no stored form: it stays as it is, however often this is done
            count.count -= 1
            report.not_ours += 1
            return
        # Somebody wrote it, or the answer to our own write was lost.
        found = await read_again(store, stored)
        better = None if found is None else _todays(kind, found)
        if found is None or better is None or version_of(found.document) >= TODAY[kind]:
            report.gone += 1
            return
        stored = found


def _todays(kind: Kind, stored: StoredDocument) -> Mapping[str, Any] | FailureCapture | None:
    """What should stand there; None for what is none of ours. Of a later version: what stands there."""
    try:
        document = todays(kind, stored.document)
        return FailureCapture.from_document(document) if kind == "capture" else document
    except NewerVersionError:
        return stored.document
    except Exception:  # noqa: BLE001 - a document of whatever shape must not end the migration; it is left alone
        return None


async def _is_written(
    store: Store, stored: StoredDocument, better: Mapping[str, Any] | FailureCapture, clock: Callable[[], datetime]
) -> bool:
    if isinstance(better, FailureCapture):
        return await store.rewrite(better, stored, now=clock())
    return await store.replace(stored, better)
