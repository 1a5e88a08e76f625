"""Settings become destinations, and an export is made, listed and delivered again with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from evalforge.bootstrap import opened_store, user_in, utc_now
from evalforge.config import Settings
from evalforge.core.ports import ExportPackage, Selection, Store
from evalforge.core.span import Json
from evalforge.credentials import resolve_export_secret
from evalforge.errors import NotFoundError, RequestError
from evalforge.exports import Destination, Shape, Written, write_again, write_package
from evalforge.exports.buckets import Bucket
from evalforge.exports.destinations import OWN_FILE
from evalforge.exports.selecting import selection_of_record
from evalforge.exports.shown import ABANDONED, package_shown, shown_state
from evalforge.exports.webhooks import Webhook
from evalforge.webhook import post_signed


async def declared_destination(settings: Settings, name: str) -> Destination:
    """The destination that EXPORT_DESTINATIONS declares under this name.

    Raises:
        NotFoundError: there is none.
        SettingsError, CredentialsError: the webhook's secret is not there.
    """
    place = dict(settings.export_destinations).get(name)
    if place is None:
        declared = ", ".join(one for one, _ in settings.export_destinations) or "none"
        raise NotFoundError(f"no such destination; EXPORT_DESTINATIONS declares {declared}", field="destination")
    if place.startswith("gs://"):
        bucket, _, prefix = place.removeprefix("gs://").partition("/")
        return Destination(
            name,
            away=Bucket(
                name,
                bucket,
                prefix.rstrip("/"),
                project=settings.google_cloud_project,
                endpoint=settings.cloud_storage_endpoint,
                retry_budget_s=settings.retry_budget_s,
            ),
        )
    if "://" in place:
        return Destination(name, away=Webhook(name, place, await resolve_export_secret(settings), post_signed))
    return Destination(name, folder=Path(place))


async def export_once(
    settings: Settings, selection: Selection, shape: Shape, destination: Destination, *, user_id: Json = None
) -> Written:
    """One export as `write_package` makes it, with the right answers that reviewers gave.

    Raises:
        SettingsError, CredentialsError, RequestError, NothingToExportError, ErasedMeanwhileError
        DestinationRefusedError, DestinationUnavailableError
        StoreError, StoreUnavailableError
    """
    async with opened_store(settings) as store:
        of_user = None if user_id is None else await user_in(settings, store, user_id)
        return await write_package(
            store,
            selection,
            destination,
            now=utc_now(),
            shape=shape,
            of_user=of_user,
            expected_outputs=await _expected_outputs(store) if shape.makes_examples else None,
        )


async def _expected_outputs(store: Store) -> dict[str, str]:
    return {trace_id: text async for review in store.reviews() for trace_id, text in review.expected_outputs.items()}


async def recent_packages(settings: Settings, store: Store, *, limit: int) -> list[dict[str, Any]]:
    """The newest records of packages as plain values, without the ids of their captures.

    Raises:
        StoreError, StoreUnavailableError
    """
    now = utc_now()
    return [
        package_shown(package, now, settings.run_budget_s, in_full=False) for package in await store.packages(limit=limit)
    ]


async def one_package(settings: Settings, store: Store, package_id: str) -> dict[str, Any]:
    """The record of one package as plain values.

    Raises:
        NotFoundError: there is none with this id.
        StoreError, StoreUnavailableError
    """
    return package_shown(await _known(store, package_id), utc_now(), settings.run_budget_s)


async def _known(store: Store, package_id: str) -> ExportPackage:
    package = await store.load_package(package_id)
    if package is None:
        raise NotFoundError(f"there is no package {package_id[:80]!a}; `evalforge exports list` shows the latest")
    return package


async def retry_once(settings: Settings, package_id: str) -> Written:
    """Delivers a package again that has failed or was abandoned, made anew of the same captures.

    Raises:
        NotFoundError: there is no such package, or its destination is declared no more.
        RequestError: it was delivered, is still going on, or cannot be made again.
        and as `export_once`
    """
    async with opened_store(settings) as store:
        package = await _known(store, package_id)
        state = shown_state(package, utc_now(), settings.run_budget_s)
        if state not in ("failed", ABANDONED):
            told = "was delivered; export anew for another" if state == "delivered" else "is being written at this moment"
            raise RequestError(f"this package {told}", field="package_id")
        if package.destination == OWN_FILE:
            raise RequestError(
                "this package went to a file of somebody's own: export it anew with --out", field="package_id"
            )
        selection = selection_of_record(package.selection)
        destination = await declared_destination(settings, package.destination)
        shape = Shape(package.format, package.per_group, package.test_share)
        return await write_again(
            store,
            package,
            selection,
            destination,
            now=utc_now(),
            expected_outputs=await _expected_outputs(store) if shape.makes_examples else {},
        )
