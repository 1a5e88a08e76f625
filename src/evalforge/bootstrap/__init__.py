"""Settings become sources, stores and a judge: the only place that chooses. Adapters are imported when they are chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evalforge.bootstrap.telemetry import telemetry_sent
from evalforge.completeness import CompletenessReport, Pair, audit_completeness
from evalforge.config import EMULATOR_PROJECT, Settings
from evalforge.core.plans import BACKFILL, AskedWindow, Plan, SinceLast
from evalforge.core.ports import DeadLetter, Erasure, FilterMode, Receiver, Selection, Source, Store
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.sites import SITES_WITHOUT_LLM_OBS
from evalforge.core.span import Json
from evalforge.core.tombstones import Tombstones
from evalforge.core.window import MS_PER_HOUR, Window
from evalforge.credentials import (
    DatadogKeys,
    datadog_keys_may_change,
    resolve_datadog_keys,
    resolve_key_ring,
    resolve_review_webhook,
)
from evalforge.dead_letters import Filter, Replay, matching, purge_letters, replay_letters
from evalforge.erasure import Packages, PackagesErased, Target, erase, erase_again, needs_ring, trace_target, user_target
from evalforge.errors import NotFoundError, SettingsError
from evalforge.exports import OfUser, erasing
from evalforge.exports.datadog.api import DatadogApi
from evalforge.exports.datadog.pushing import PushReport, push_dataset
from evalforge.exports.datadog.queueing import QueueReport, queue_traces
from evalforge.ingest import Judge
from evalforge.migration import MigrationReport, migrate
from evalforge.rehearsal import Rehearsal
from evalforge.runs import (
    RUN_RETENTION_DAYS,
    BackfillOrder,
    BackfillProgress,
    Budget,
    Order,
    RunProgress,
    RunReport,
    backfill,
    check_keys,
    run,
    runs_shown,
)
from evalforge.runs.measuring import measure_report, measure_run
from evalforge.sources.datadog.client import DatadogClient
from evalforge.sources.datadog.reading import DatadogSource
from evalforge.telemetry.recorder import Recorder
from evalforge.telling import Audience
from evalforge.upkeep import AuditReport, audit, purge
from evalforge.webhook import Webhook


def utc_now() -> datetime:
    """The clock: now, as an aware UTC datetime."""
    return datetime.now(UTC)


async def ingest_once(
    settings: Settings,
    *,
    holder: str,
    asked_by: str = "",
    lookback_hours: float | None = None,
    quality_threshold: float | None = None,
    window: Window | None = None,
    since_last: bool | None = None,
    dry_run: bool = False,
    on_begun: Callable[[str], None] = lambda run_id: None,
    on_page: Callable[[RunProgress], None] | None = None,
    wants_stop: Callable[[], bool] = lambda: False,
    must_end: Callable[[], bool] | None = None,
    telemetry: Telemetry | None = None,
) -> RunReport:
    """One run as the settings say, over `window` or else the last `lookback_hours` (default TRACE_LOOKBACK_HOURS).

    `quality_threshold` stands in for QUALITY_THRESHOLD; what APPLICATION_THRESHOLDS says of an application still holds.
    With `since_last` it reads what is new since the last such run, and again what lies before it in tiers; None means as
    SINCE_LAST says, where neither `window` nor `lookback_hours` is given. A `dry_run` reads and judges everything and
    writes nothing. Without a `telemetry` that outlives it, a run has its own, and sends it as the settings say.

    Raises:
        SettingsError, CredentialsError: nothing was read yet.
        RunInProgressError: another run holds the lease.
        StoreError, StoreUnavailableError: the store refused or did not answer before the run began.
    """
    if quality_threshold is not None:
        settings = replace(settings, quality_threshold=quality_threshold)
    plan = _plan_of(settings, window, lookback_hours, since_last)
    order = Order(
        plan,
        Budget(settings.run_budget_s, settings.max_captures_per_run, wants_stop, must_end),
        holder,
        asked_by or holder,
        settings.datadog_filter,
        resolve_users=settings.datadog_resolve_users,
        rehearsal=dry_run,
    )
    async with _heard(settings, telemetry) as heard:
        with measure_run(heard, plan.name) as told:
            keys = await resolve_datadog_keys(settings)
            ring = await resolve_key_ring(settings)
            opened = opened_rehearsal(settings) if dry_run else opened_store(settings, heard)
            async with (
                opened as store,
                opened_sources(settings, keys, heard) as sources,
                _opened_apm(settings, keys, sources, heard) as apm,
            ):
                report = await run(
                    sources,
                    store,
                    judge_of(settings, ring),
                    order,
                    clock=utc_now,
                    on_begun=on_begun,
                    on_page=on_page,
                    enriched_from=apm,
                    audience=_audience_of(settings),
                    telemetry=SILENCE if dry_run else heard,
                )
            measure_report(heard, told, report)
    return report


@asynccontextmanager
async def _heard(settings: Settings, telemetry: Telemetry | None) -> AsyncIterator[Telemetry]:
    """The telemetry that is given, else one for this run alone."""
    if telemetry is not None:
        yield telemetry
        return
    async with telemetry_sent(settings, Recorder()) as own:
        yield own


def _audience_of(settings: Settings) -> Audience | None:
    """Whom a run tells of groups; its webhook is read and made once there is something to tell."""
    if settings.review_webhook_url is None:
        return None

    async def opened() -> Receiver:
        access = await resolve_review_webhook(settings)
        assert access is not None
        return Webhook(access.url, access.secret)

    return Audience(opened, settings.review_base_url)


async def backfill_once(
    settings: Settings,
    window: Window,
    *,
    slice_ms: int,
    workers: int,
    holder: str,
    on_progress: Callable[[BackfillProgress], None] = lambda progress: None,
    wants_stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """Reads a long window in slices, `workers` of each source at once, and goes on where one that did not finish stood.

    Raises:
        RequestError: Datadog no longer holds anything of the window.
        SettingsError, CredentialsError: nothing was read yet.
        RunInProgressError: another backfill holds the lease.
        StoreError, StoreUnavailableError: the store refused or did not answer before it began.
    """
    order = BackfillOrder(
        window,
        slice_ms,
        workers,
        holder,
        holder,
        settings.datadog_filter,
        resolve_users=settings.datadog_resolve_users,
        wants_stop=wants_stop,
    )
    async with _heard(settings, None) as heard:
        with measure_run(heard, BACKFILL) as told:
            keys = await resolve_datadog_keys(settings)
            ring = await resolve_key_ring(settings)
            judge = judge_of(settings, ring)
            async with opened_store(settings, heard) as store, opened_sources(settings, keys, heard) as sources:
                report = await backfill(
                    sources, store, judge, order, clock=utc_now, on_progress=on_progress, telemetry=heard
                )
            measure_report(heard, told, report)
    return report


def _plan_of(settings: Settings, window: Window | None, lookback_hours: float | None, since_last: bool | None) -> Plan:
    if window is not None:
        return AskedWindow(window)
    if since_last or (since_last is None and lookback_hours is None and settings.since_last):
        return SinceLast(round((lookback_hours or settings.trace_lookback_hours) * MS_PER_HOUR))
    return AskedWindow(Window.last_hours(lookback_hours or settings.trace_lookback_hours, utc_now()), reads_on=True)


async def recent_runs(settings: Settings, *, limit: int) -> list[dict[str, Any]]:
    """The runs of the history that began last, the latest first, as plain JSON values.

    Raises:
        StoreError, StoreUnavailableError
    """
    async with opened_store(settings) as store:
        return await recent_runs_in(store, limit=limit)


async def recent_runs_in(store: Store, *, limit: int) -> list[dict[str, Any]]:
    """The same, of a store that is open.

    Raises:
        StoreError, StoreUnavailableError
    """
    now = utc_now()
    return await runs_shown(store, await store.recent_runs(limit=limit, now=now), now)


async def one_run(settings: Settings, run_id: str) -> dict[str, Any]:
    """One run of the history as plain JSON values.

    Raises:
        NotFoundError: there is none with this id, or it has expired.
        StoreError, StoreUnavailableError
    """
    async with opened_store(settings) as store:
        return await one_run_in(store, run_id)


async def one_run_in(store: Store, run_id: str) -> dict[str, Any]:
    """The same, of a store that is open.

    Raises:
        NotFoundError, StoreError, StoreUnavailableError
    """
    now = utc_now()
    record = await store.load_run(run_id, now=now)
    if record is None:
        raise NotFoundError(f"there is no run {run_id[:80]!a}; the history holds {RUN_RETENTION_DAYS} days")
    return (await runs_shown(store, [record], now))[0]


async def whole_signature(store: Store, given: str) -> str:
    """The signature that begins as `given`, if one group's does; one that is whole is given back as it is.

    Raises:
        NotFoundError: no group, or several have one that begins so.
        StoreError, StoreUnavailableError
    """
    if len(given) > SHORTEST_WHOLE:
        return given
    begun = {brief.signature for brief in await store.newest_by_signature(now=utc_now())}
    found = [signature for signature in begun if signature.startswith(given)] if given else []
    if len(found) != 1:
        several = f"{len(found)} groups begin" if found else "no group begins"
        raise NotFoundError(f"{several} with {given[:80]!a}; `evalforge groups list` shows what there is")
    return found[0]


SHORTEST_WHOLE = 30
"""A text longer than this is taken for a whole signature."""


async def erase_once(settings: Settings, *, actor: str, user_id: Json = None, trace_id: str | None = None) -> Erasure:
    """Erases what the store, and the export folders that the settings declare, hold of one user or of one trace.

    Exactly one of `user_id` (raw, text or number) and `trace_id` is given.

    Raises:
        RequestError: the id names nobody.
        SettingsError, CredentialsError: the hashing keys are missing or cannot be read.
        StoreError, StoreUnavailableError: the erasure is not complete; calling again goes on.
    """
    ring = await resolve_key_ring(settings)
    folders = {name: Path(folder) for name, folder in settings.export_folders.items()}
    async with opened_store(settings) as store:
        target = await _user(store, ring, user_id) if trace_id is None else await _trace(store, ring, trace_id)

        async def elsewhere(earliest: datetime) -> tuple[str, ...]:
            return await erasing.tasks_elsewhere(store, folders, earliest)

        async def rows(tombstones: Tombstones) -> PackagesErased:
            cleaning = await erasing.erase_rows(store, folders, tombstones)
            return PackagesErased(cleaning.row_count, cleaning.tasks)

        return await erase(store, ring, target, Packages(elsewhere, rows), actor=actor, clock=utc_now)


async def erase_again_once(settings: Settings) -> Mapping[str, int]:
    """Deletes what stands in the store, and in export folders, although it was erased; how many of each.

    Raises:
        SettingsError, CredentialsError: the hashing keys are missing or cannot be read.
        StoreError, StoreUnavailableError: calling again goes on.
    """
    ring = await resolve_key_ring(settings)
    folders = {name: Path(folder) for name, folder in settings.export_folders.items()}
    async with opened_store(settings) as store:
        await check_keys(store, ring)  # with a key missing, tombstones would recognise only a part

        async def nothing_elsewhere(earliest: datetime) -> tuple[str, ...]:
            return ()

        async def rows(tombstones: Tombstones) -> PackagesErased:
            cleaning = await erasing.erase_rows(store, folders, tombstones)
            return PackagesErased(cleaning.row_count, cleaning.tasks)

        return await erase_again(store, ring, Packages(nothing_elsewhere, rows), clock=utc_now)


async def user_in(settings: Settings, store: Store, user_id: Json) -> OfUser:
    """The user with this raw id, as an export can be narrowed to.

    Raises:
        RequestError: the id names nobody.
        SettingsError, CredentialsError: the hashing keys are missing or cannot be read.
        StoreError, StoreUnavailableError: the ring lacks a key that stored hashes were made with.
    """
    return OfUser((await _user(store, await resolve_key_ring(settings), user_id)).user_hashes)


async def _user(store: Store, ring: KeyRing, user_id: Json) -> Target:
    target = user_target(user_id, ring)
    await check_keys(store, ring)  # with a key missing, only a part would be found
    return target


async def _trace(store: Store, ring: KeyRing, trace_id: str) -> Target:
    if needs_ring(trace_id):
        await check_keys(store, ring)
    return trace_target(trace_id, ring)


async def audit_once(
    settings: Settings,
    report: AuditReport,
    *,
    fix: bool,
    after: str | None = None,
    on_progress: Callable[[AuditReport], None] | None = None,
) -> AuditReport:
    """Looks through the store by the present rules and settings, fills `report`, and mends what it finds if `fix`.

    Raises:
        RequestError: `after` is no position.
        SettingsError, CredentialsError: the hashing keys cannot be read.
        StoreError, StoreUnavailableError: what was mended stays; `report.position` says how far it came.
    """
    ring = await resolve_key_ring(settings)
    async with opened_store(settings) as store:
        return await audit(
            store,
            Sanitizer(ring, settings.text_policy),
            fix=fix,
            clock=utc_now,
            report=report,
            after=after,
            on_progress=on_progress,
        )


async def migrate_once(
    settings: Settings,
    report: MigrationReport,
    *,
    after: str | None = None,
    on_progress: Callable[[MigrationReport], None] | None = None,
) -> MigrationReport:
    """Writes what stands in the store in earlier versions anew in today's, unless the report is of a dry run.

    Raises:
        RequestError: `after` is no position.
        StoreError, StoreUnavailableError: what was migrated stays; `report.position` says how far it came.
    """
    async with opened_store(settings) as store:
        return await migrate(store, clock=utc_now, report=report, after=after, on_progress=on_progress)


async def audit_completeness_once(
    settings: Settings,
    report: CompletenessReport,
    *,
    holder: str,
    on_progress: Callable[[CompletenessReport], None] = lambda report: None,
) -> CompletenessReport:
    """Compares the report's window without a query with what the present query finds, and captures what that misses.

    Raises:
        SettingsError, CredentialsError: nothing was read yet.
        RunInProgressError: a run holds the lease, or took it meanwhile.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError, StoreError, StoreUnavailableError: what was captured
            stays; `report.position_ms` says how far it came.
    """
    keys = await resolve_datadog_keys(settings)
    ring = await resolve_key_ring(settings)
    async with opened_store(settings) as store, opened_client(settings, keys) as client:
        pairs = [
            Pair(_source_of(settings, client, name, "scan"), _source_of(settings, client, name, "query"))
            for name in settings.datadog_sources
        ]
        judge = judge_of(settings, ring)
        return await audit_completeness(
            pairs, store, judge, report=report, holder=holder, clock=utc_now, on_progress=on_progress
        )


async def dead_letters_matching(settings: Settings, wanted: Filter) -> list[DeadLetter]:
    """The live dead letters that match, the latest first.

    Raises:
        StoreError, StoreUnavailableError
    """
    async with opened_store(settings) as store:
        found = [letter async for letter in matching(store, wanted, now=utc_now())]
    return sorted(found, key=lambda letter: (letter.occurred_at, letter.id), reverse=True)


async def replay_once(settings: Settings, wanted: Filter, replay: Replay, *, holder: str) -> Replay:
    """Asks Datadog once more for the spans of the dead letters that match, and fills `replay`.

    Raises:
        SettingsError, CredentialsError: nothing was asked yet.
        RunInProgressError: a run holds the lease, or took it meanwhile.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError, StoreError, StoreUnavailableError: what was replayed
            stays so.
    """
    keys = await resolve_datadog_keys(settings)
    ring = await resolve_key_ring(settings)
    async with opened_store(settings) as store, opened_sources(settings, keys) as sources:
        judge = judge_of(settings, ring)
        return await replay_letters(sources, store, judge, wanted, replay=replay, holder=holder, clock=utc_now)


async def purge_letters_once(settings: Settings, wanted: Filter) -> int:
    """Deletes the dead letters that match; how many there were.

    Raises:
        StoreError, StoreUnavailableError: some may be deleted all the same.
    """
    async with opened_store(settings) as store:
        return await purge_letters(store, wanted, now=utc_now())


async def purge_once(
    settings: Settings, *, prefix: str, holder: str, on_deleted: Callable[[str, int], None] | None = None
) -> Mapping[str, int]:
    """Deletes everything under `prefix` in the store that CAPTURE_STORE names; how many documents, by collection.

    Raises:
        RunInProgressError: a run holds the lease; nothing was deleted.
        StoreError, StoreUnavailableError: some documents may be deleted all the same.
    """
    async with opened_store(replace(settings, firestore_collection_prefix=prefix)) as store:
        return await purge(store, holder=holder, clock=utc_now, on_deleted=on_deleted)


def judge_of(settings: Settings, ring: KeyRing) -> Judge:
    """The rules and the sanitizer as the settings say."""
    return Judge(
        settings.thresholds, ring, Sanitizer(ring, settings.text_policy), settings.datadog_site, settings.retention_days
    )


@asynccontextmanager
async def opened_client(
    settings: Settings, keys: DatadogKeys, telemetry: Telemetry = SILENCE
) -> AsyncIterator[DatadogClient]:
    """A Datadog client for the site or URL of the settings, closed at the end of the block.

    When its keys are refused it reads them from Secret Manager once more, if they may have changed there.
    """

    async def renew() -> tuple[str, str]:
        fresh = await resolve_datadog_keys(settings)
        return fresh.api_key, fresh.app_key

    client = DatadogClient(
        settings.api_url,
        keys.api_key,
        keys.app_key,
        retry_budget_s=settings.retry_budget_s,
        renew_keys=renew if datadog_keys_may_change(settings) else None,
        telemetry=telemetry,
    )
    try:
        yield client
    finally:
        await client.close()


async def push_dataset_once(
    settings: Settings, selection: Selection, *, project: str, dataset: str, dry_run: bool = False
) -> PushReport:
    """Appends the selected captures to a dataset of Datadog's.

    Raises:
        SettingsError, CredentialsError: nothing was read yet.
        SourceRefusedError, NotFoundError, SourceUnavailableError, QuotaExhaustedError: what was sent stays; push again.
        StoreError, StoreUnavailableError, ErasedMeanwhileError
    """
    async with opened_datadog_api(settings) as api, opened_store(settings) as store:
        return await push_dataset(store, api, selection, project=project, dataset=dataset, now=utc_now(), dry_run=dry_run)


async def queue_traces_once(settings: Settings, selection: Selection, *, queue: str, dry_run: bool = False) -> QueueReport:
    """Puts the traces of the selected captures into an annotation queue of Datadog's.

    Raises:
        SettingsError, CredentialsError: nothing was read yet.
        NotFoundError, RequestError: no queue, or several, by this id or name.
        SourceRefusedError, SourceUnavailableError, QuotaExhaustedError: what was added stays; ask again.
        StoreError, StoreUnavailableError
    """
    async with opened_datadog_api(settings) as api, opened_store(settings) as store:
        return await queue_traces(
            store, api, selection, queue=queue, site=settings.datadog_site, now=utc_now(), dry_run=dry_run
        )


@asynccontextmanager
async def opened_datadog_api(settings: Settings) -> AsyncIterator[DatadogApi]:
    """What changes datasets and annotation queues at the site or URL of the settings, closed at the end of the block.

    Raises:
        SettingsError: the site has no LLM Observability, or a key is missing.
        CredentialsError: a key cannot be read.
    """
    if settings.datadog_site in SITES_WITHOUT_LLM_OBS and settings.datadog_api_url is None:
        raise SettingsError(f"DATADOG_SITE: {settings.datadog_site} has no LLM Observability, and so no datasets or queues")
    keys = await resolve_datadog_keys(settings)

    async def renew() -> tuple[str, str]:
        fresh = await resolve_datadog_keys(settings)
        return fresh.api_key, fresh.app_key

    async with DatadogApi(
        settings.api_url,
        keys.api_key,
        keys.app_key,
        retry_budget_s=settings.retry_budget_s,
        renew_keys=renew if datadog_keys_may_change(settings) else None,
    ) as api:
        yield api


@asynccontextmanager
async def opened_sources(
    settings: Settings, keys: DatadogKeys, telemetry: Telemetry = SILENCE
) -> AsyncIterator[list[Source]]:
    """The sources that DATADOG_SOURCES names, in its order, over one client."""
    async with opened_client(settings, keys, telemetry) as client:
        yield [_source_of(settings, client, name, settings.datadog_filter) for name in settings.datadog_sources]


@asynccontextmanager
async def _opened_apm(
    settings: Settings, keys: DatadogKeys, sources: Sequence[Source], telemetry: Telemetry
) -> AsyncIterator[Source | None]:
    """APM where DATADOG_ENRICH_FROM_APM asks it what errors said: the source that is read, else one for that alone."""
    read = next((source for source in sources if source.name == "apm"), None)
    if not settings.datadog_enrich_from_apm or read is not None:
        yield read if settings.datadog_enrich_from_apm else None
        return
    async with opened_client(settings, keys, telemetry) as client:
        yield _source_of(settings, client, "apm", settings.datadog_filter)


def _source_of(settings: Settings, client: DatadogClient, name: str, filter_mode: FilterMode) -> DatadogSource:
    return DatadogSource(
        client,
        name,
        thresholds=settings.thresholds,
        filter_mode=filter_mode,
        ml_apps=settings.datadog_ml_apps,
        envs=settings.datadog_envs,
        apm_scope=settings.datadog_apm_scope,
        evaluations=settings.evaluations,
    )


@asynccontextmanager
async def opened_store(settings: Settings, telemetry: Telemetry = SILENCE, *, writers: int = 1) -> AsyncIterator[Store]:
    """The store that CAPTURE_STORE names, closed at the end of the block; one of so many `writers` at the same time.

    Raises:
        StoreError, StoreUnavailableError: the store cannot be opened.
    """
    store = _store_of(settings, telemetry, writers)
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def opened_rehearsal(settings: Settings) -> AsyncIterator[Store]:
    """A store that knows what the one of the settings holds and writes nothing; a SQLite file that is not there stays so.

    Raises:
        StoreError, StoreUnavailableError: the store cannot be opened.
    """
    path = settings.sqlite_path
    if path is not None and not Path(path).exists():  # noqa: ASYNC240 - one look, before anything runs
        settings = replace(settings, capture_store="sqlite:///:memory:")
    async with opened_store(settings) as store:
        yield Rehearsal(store)


def _store_of(settings: Settings, telemetry: Telemetry = SILENCE, writers: int = 1) -> Store:
    prefix = settings.firestore_collection_prefix
    if settings.sqlite_path is not None:
        from evalforge.stores.sqlite import SqliteStore

        return SqliteStore(settings.sqlite_path, prefix=prefix, telemetry=telemetry)
    from evalforge.stores.firestore import FirestoreStore

    emulator = settings.firestore_emulator_host
    project = settings.google_cloud_project or (EMULATOR_PROJECT if emulator else None)
    return FirestoreStore(
        project,
        settings.firestore_database,
        prefix=prefix,
        emulator_host=emulator,
        telemetry=telemetry,
        writers=writers,
    )
