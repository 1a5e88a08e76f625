"""Settings become sources, stores and a judge: the only place that chooses. Adapters are imported when they are chosen."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

from evalforge.config import EMULATOR_PROJECT, Settings
from evalforge.core.ports import Source, Store
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.window import Window
from evalforge.credentials import DatadogKeys, resolve_datadog_keys, resolve_key_ring
from evalforge.ingest import Judge
from evalforge.runs import Budget, RunProgress, RunReport, run
from evalforge.sources.datadog.client import DatadogClient
from evalforge.sources.datadog.reading import DatadogSource


def utc_now() -> datetime:
    """The clock: now, as an aware UTC datetime."""
    return datetime.now(UTC)


async def ingest_once(
    settings: Settings,
    *,
    holder: str,
    lookback_hours: float | None = None,
    quality_threshold: float | None = None,
    window: Window | None = None,
    on_page: Callable[[RunProgress], None] | None = None,
    wants_stop: Callable[[], bool] = lambda: False,
) -> RunReport:
    """One run as the settings say, over `window` or else the last `lookback_hours` (default TRACE_LOOKBACK_HOURS).

    Raises:
        SettingsError, CredentialsError: nothing was read yet.
        RunInProgressError: another run holds the lease.
        StoreError, StoreUnavailableError: the store refused or did not answer before the run began.
    """
    if quality_threshold is not None:
        settings = replace(settings, quality_threshold=quality_threshold)
    keys = await resolve_datadog_keys(settings)
    ring = await resolve_key_ring(settings)
    asked = window or Window.last_hours(lookback_hours or settings.trace_lookback_hours, utc_now())
    async with opened_store(settings) as store, opened_sources(settings, keys) as sources:
        return await run(
            sources,
            store,
            judge_of(settings, ring),
            window=asked,
            budget=Budget(settings.run_budget_s, settings.max_captures_per_run, wants_stop),
            holder=holder,
            filter_mode=settings.datadog_filter,
            clock=utc_now,
            on_page=on_page,
        )


def judge_of(settings: Settings, ring: KeyRing) -> Judge:
    """The rules and the sanitizer as the settings say."""
    return Judge(settings.thresholds, ring, Sanitizer(ring), settings.datadog_site, settings.retention_days)


@asynccontextmanager
async def opened_client(settings: Settings, keys: DatadogKeys) -> AsyncIterator[DatadogClient]:
    """A Datadog client for the site or URL of the settings, closed at the end of the block."""
    client = DatadogClient(settings.api_url, keys.api_key, keys.app_key, retry_budget_s=settings.retry_budget_s)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def opened_sources(settings: Settings, keys: DatadogKeys) -> AsyncIterator[list[Source]]:
    """The sources that DATADOG_SOURCES names, in its order, over one client."""
    async with opened_client(settings, keys) as client:
        yield [
            DatadogSource(
                client,
                name,
                thresholds=settings.thresholds,
                filter_mode=settings.datadog_filter,
                ml_apps=settings.datadog_ml_apps,
                envs=settings.datadog_envs,
                apm_scope=settings.datadog_apm_scope,
                evaluations=settings.evaluations,
            )
            for name in settings.datadog_sources
        ]


@asynccontextmanager
async def opened_store(settings: Settings) -> AsyncIterator[Store]:
    """The store that CAPTURE_STORE names, closed at the end of the block.

    Raises:
        StoreError, StoreUnavailableError: the store cannot be opened.
    """
    store = _store_of(settings)
    try:
        yield store
    finally:
        await store.close()


def _store_of(settings: Settings) -> Store:
    prefix = settings.firestore_collection_prefix
    if settings.sqlite_path is not None:
        from evalforge.stores.sqlite import SqliteStore

        return SqliteStore(settings.sqlite_path, prefix=prefix)
    from evalforge.stores.firestore import FirestoreStore

    emulator = settings.firestore_emulator_host
    project = settings.google_cloud_project or (EMULATOR_PROJECT if emulator else None)
    return FirestoreStore(project, settings.firestore_database, prefix=prefix, emulator_host=emulator)
