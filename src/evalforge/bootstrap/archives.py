"""Settings become an archive that is read, judged and stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from evalforge.archives import BOUNDS, ArchiveReport, Bounds, judge_archive
from evalforge.bootstrap import judge_of, opened_store, utc_now
from evalforge.config import Settings
from evalforge.core.ports import Archive, ArchiveEntry, OddItem
from evalforge.credentials import resolve_key_ring
from evalforge.sources.archive import Part, archive_digest, entries_of, ordered, parts_of
from evalforge.sources.archive_buckets import Buckets
from evalforge.sources.datadog.query import Scope


def buckets_of(settings: Settings) -> Buckets:
    """How `gs://` places are read."""
    return Buckets(settings.google_cloud_project, settings.cloud_storage_endpoint, settings.retry_budget_s)


def scope_of(settings: Settings) -> Scope:
    """Which spans of an archive count: the applications and environments of the settings, and no experiment."""
    return Scope(settings.datadog_ml_apps, settings.datadog_envs)


def archive_of(settings: Settings, places: Sequence[str]) -> Archive:
    """The files that these places name, as an archive.

    Raises:
        RequestError: a place is not there, cannot be read or holds nothing to read.
        CredentialsError, SettingsError, SourceRefusedError, SourceUnavailableError: of Cloud Storage.
    """
    buckets = buckets_of(settings)
    parts = parts_of(places, buckets)
    scope = scope_of(settings)
    about = f"{archive_digest(parts)} {scope}"
    return Archive([part.name for part in parts], about, lambda: _read(parts, buckets), ordered, scope.contains)


def _read(parts: Sequence[Part], buckets: Buckets) -> Iterator[ArchiveEntry | OddItem]:
    for part in parts:
        yield from entries_of(part, buckets)


async def judge_archive_once(
    settings: Settings,
    places: Sequence[str],
    *,
    holder: str,
    wants_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[ArchiveReport], None] = lambda report: None,
    bounds: Bounds = BOUNDS,
) -> ArchiveReport:
    """Judges every trace of the files that these places name, and stores what fails; goes on where it stopped before.

    Raises:
        RequestError: a place is not there, cannot be read or holds nothing to read.
        SettingsError, CredentialsError, SourceRefusedError, SourceUnavailableError
        RunInProgressError: another process judges an archive.
        StoreError, StoreUnavailableError: what was stored stays.
    """
    ring = await resolve_key_ring(settings)
    archive = archive_of(settings, places)
    async with opened_store(settings) as store:
        return await judge_archive(
            archive,
            store,
            judge_of(settings, ring),
            holder=holder,
            clock=utc_now,
            wants_stop=wants_stop,
            on_progress=on_progress,
            bounds=bounds,
        )
