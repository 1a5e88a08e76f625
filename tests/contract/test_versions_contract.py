"""What every version of the program stored is still good for, in each store; and what a later one stored is left alone."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from evalforge import bootstrap
from evalforge.bootstrap.exports import export_once
from evalforge.cli import main
from evalforge.config import Settings
from evalforge.core.capture import SCHEMA_VERSION, FailureCapture
from evalforge.core.ports import (
    COLLECTIONS,
    LOOKBACK,
    Checkpoint,
    Lease,
    Selection,
    Store,
    StoredDocument,
)
from evalforge.core.versions import TODAY, VERSION_FIELD, kind_of, version_of
from evalforge.core.window import Window
from evalforge.errors import NewerVersionError, StoreUnavailableError
from evalforge.exports import Destination, Shape
from evalforge.migration import MigrationReport, migrate
from evalforge.review.groups import Wanted, list_groups
from evalforge.stores import lossless
from evalforge.upkeep import AuditReport
from tests.contract.stores import Place, SqlitePlace
from tests.stored import MADE_AT, OLDER, REVIEWED, TODAYS, VERSIONS, all_captures, fill, settings_of

LATER = MADE_AT + timedelta(hours=1)
NEWER = 99
every_version = pytest.mark.parametrize("version", VERSIONS)
older_versions = pytest.mark.parametrize("version", OLDER)


async def todays_captures(tmp_path: Path) -> list[FailureCapture]:
    """What today's program made of the spans of which all versions were made: what reading them again gives."""
    folder = tmp_path / "again"
    folder.mkdir()
    again = SqlitePlace(folder)
    fill(again, TODAYS)
    store = again.open()
    try:
        return [found.capture for found in await all_captures(store)]
    finally:
        await store.close()


async def everything(store: Store) -> dict[tuple[str, str], StoredDocument]:
    """Every stored document, by place."""
    return {
        (found.collection, found.key): found for collection in COLLECTIONS async for found in store.documents(collection)
    }


def facts(document: Mapping[str, Any]) -> dict[str, Any]:
    """A capture's document without what a store sets itself, and without what it was made of, which is no fact."""
    others = ("updated_at", "processed", REVIEWED, "origins")
    return {name: value for name, value in document.items() if name not in others}


async def migrated(store: Store, *, dry_run: bool = False) -> MigrationReport:
    return await migrate(store, clock=lambda: LATER, report=MigrationReport(dry_run=dry_run))


@every_version
async def test_it_is_read_listed_and_grouped(place: Place, store: Store, version: str) -> None:
    fill(place, version)
    found = await all_captures(store)
    assert len(found) == (5 if version == "1" else 4), "one was erased where that could be done"
    assert await store.count(now=MADE_AT) == len(found)
    for stored in found:
        again = await store.get(stored.capture.trace_id, now=MADE_AT)
        assert again is not None
        assert again.capture == stored.capture
        assert stored.document[VERSION_FIELD] == SCHEMA_VERSION
        assert set(stored.document) >= set(stored.capture.to_document())
    assert [one.document.get(REVIEWED) for one in found if one.processed] == ["search"]
    briefs = await store.briefs(Selection(limit=10), now=MADE_AT)
    assert [brief.trace_id for brief in briefs] == [stored.capture.trace_id for stored in found]
    groups = (await list_groups(store, Wanted(), now=MADE_AT, limit=10)).groups
    assert {group.signature for group in groups} == {stored.capture.signature for stored in found}
    assert sum(group.count for group in groups) == len(found)
    assert [one.severity for one in await store.facets(Selection(limit=10), now=MADE_AT)] == [
        stored.capture.severity.label for stored in found
    ]


@every_version
async def test_its_records_are_read(place: Place, store: Store, version: str) -> None:
    fill(place, version)
    checkpoints = await store.load_checkpoints("llm_obs", [LOOKBACK])
    assert (checkpoints[LOOKBACK].done, checkpoints[LOOKBACK].tier) == (True, LOOKBACK)
    assert len(await store.known_key_ids()) == 1
    assert [letter.reason async for letter in store.dead_letters(now=MADE_AT)] == ["too_deep"]
    [package] = await store.packages()
    assert (package.count, package.state, package.attempts) == (5, "delivered", 1)
    assert [erasure.actor async for erasure in store.erasures()] == ([] if version == "1" else ["ticket-1"])
    assert [run.state for run in await store.recent_runs(limit=5, now=MADE_AT)] == (
        [] if version in ("1", "2") else ["complete"]
    )
    held = await store.held_lease("ingestion")
    assert (held is not None) is (version not in ("1", "2"))
    assert [review.assignee async for review in store.reviews()] == (["mlops"] if version.startswith("4") else [])


@older_versions
async def test_reading_again_converges_migrated_or_not(place: Place, store: Store, version: str, tmp_path: Path) -> None:
    fill(place, version)
    spans = await todays_captures(tmp_path)
    (tmp_path / "other").mkdir()
    other = place.clone(tmp_path / "other")
    first = await store.upsert(spans, now=LATER)
    assert (len(first.updated), first.refused) == (4, ())
    again = await store.upsert(spans, now=LATER + timedelta(hours=1))
    assert (len(again.unchanged), again.created, again.updated) == (4, (), ())
    migrated_first = other.open()
    try:
        await migrated(migrated_first)
        await migrated_first.upsert(spans, now=LATER)
        assert await facts_of(store, spans) == await facts_of(migrated_first, spans)
    finally:
        await migrated_first.close()


async def facts_of(store: Store, spans: list[FailureCapture]) -> list[dict[str, Any]]:
    wanted = {capture.document_id for capture in spans}
    return [facts(one.document) for (collection, key), one in (await everything(store)).items() if key in wanted]


@older_versions
async def test_migrating_brings_everything_to_today_and_touches_nothing_else(
    place: Place, store: Store, version: str
) -> None:
    fill(place, version)
    before = await everything(store)
    rehearsed = await migrated(store, dry_run=True)
    assert await everything(store) == before
    assert (rehearsed.migrated, rehearsed.is_layout_mended) == (0, False)
    done = await migrated(store)
    after = await everything(store)
    assert (done.older, done.migrated, done.left, done.newer, done.not_ours) == (rehearsed.older, done.older, 0, 0, 0)
    assert done.older == sum(_is_older(one) for one in before.values()) > 0
    assert not any(map(_is_older, after.values()))
    assert after.keys() == before.keys()
    for key, was in before.items():
        if not _is_older(was):
            assert after[key] == was, "what is in today's version is not written: reviews, runs, letters, erasures"
        elif was.collection == "raw_traces":
            assert FailureCapture.from_document(after[key].document) == FailureCapture.from_document(was.document)
            for theirs in ("processed", REVIEWED):
                assert after[key].document.get(theirs) == was.document.get(theirs)
        else:
            assert dict(after[key].document).items() >= {**was.document, VERSION_FIELD: TODAY[_kind(was)]}.items()
    again = await migrated(store)
    assert (again.older, again.migrated, again.layout) == (0, 0, ())
    assert await everything(store) == after


def _kind(stored: StoredDocument) -> Any:
    return kind_of(stored.collection, stored.key)


def _is_older(stored: StoredDocument) -> bool:
    return version_of(stored.document) < TODAY[_kind(stored)]


@every_version
async def test_it_is_audited_exported_and_erased(place: Place, store: Store, version: str, tmp_path: Path) -> None:
    fill(place, version)
    settings = Settings.from_environment(settings_of(place))
    report = AuditReport(fixing=True)
    await bootstrap.audit_once(settings, report, fix=True)
    assert (report.is_clean, report.unreadable, report.outdated, report.removed) == (True, 0, 0, 0)
    path = tmp_path / "failures.jsonl"
    await export_once(settings, Selection(), Shape(), Destination(path=path))
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert {row[VERSION_FIELD] for row in rows} == {SCHEMA_VERSION}
    assert all("error_details" in row for row in rows)
    found = await all_captures(store)
    of_user = next(stored.capture for stored in found if stored.capture.user_hash)
    await bootstrap.erase_once(settings, actor="ticket-2", trace_id=found[-1].capture.trace_id)
    assert await store.get(found[-1].capture.trace_id, now=MADE_AT) is None
    assert of_user.user_hash is not None
    users = frozenset({of_user.user_hash})
    there = [stored.capture.trace_id async for stored in store.captures_of_users(users)]
    assert await store.delete_captures([], user_hashes=users) == len(there)


# -- what a later program stored


async def _told_newer(place: Place, store: Store, capture: FailureCapture) -> None:
    """Leaves a capture as a later program would: another version, and a fact that nobody here knows."""
    changes: dict[str, Any] = {VERSION_FIELD: NEWER, "fact_of_tomorrow": [1], "fingerprint": "of tomorrow"}
    if isinstance(place, SqlitePlace):
        await place.review(capture.trace_id, {"fingerprint": "of tomorrow", "facts": _with(capture, changes)})
    else:
        await place.review(capture.trace_id, changes)


def _with(capture: FailureCapture, changes: Mapping[str, Any]) -> str:
    return lossless.dumps({**capture.to_document(), **changes})


async def test_a_capture_of_a_later_version_is_refused_and_never_overwritten(place: Place, store: Store) -> None:
    fill(place, TODAYS)
    found = [stored.capture for stored in await all_captures(store)]
    await _told_newer(place, store, found[0])
    before = await everything(store)
    with pytest.raises(NewerVersionError, match=f"schema version {NEWER}.*none after {SCHEMA_VERSION}.*update evalforge"):
        await store.upsert(found, now=LATER)
    with pytest.raises(NewerVersionError):
        await store.compare(found, now=LATER)
    with pytest.raises(NewerVersionError):
        await store.get(found[0].trace_id, now=LATER)
    with pytest.raises(NewerVersionError):
        await all_captures(store)
    settings = Settings.from_environment(settings_of(place))
    await bootstrap.audit_once(settings, AuditReport(fixing=True), fix=True)
    report = await migrated(store)
    assert (report.newer, report.migrated, report.is_layout_mended) == (1, 0, False)
    assert await everything(store) == before
    assert (await store.get(found[1].trace_id, now=LATER)) is not None, "the others are read as ever"


async def test_records_of_a_later_version_are_refused_and_never_overwritten(place: Place, store: Store) -> None:
    fill(place, TODAYS)
    for one in (await everything(store)).values():
        if one.collection != "raw_traces" and _kind(one) not in ("keyring", "epoch"):
            assert await store.replace(one, {**one.document, VERSION_FIELD: NEWER})
    before = await everything(store)
    checkpoint = Checkpoint("llm_obs", Window(1, 2), "d", "", None, None, (), True)
    lease = Lease("ingestion", "cli", "token", LATER, LATER + timedelta(hours=1))
    [signature] = [key for collection, key in before if collection == "groups"]
    calls: tuple[Callable[[], Awaitable[object]], ...] = (
        lambda: store.load_checkpoints("llm_obs", [LOOKBACK]),
        lambda: store.save_checkpoint(checkpoint, fence=10**15),
        lambda: store.acquire_lease(lease, now=LATER),
        lambda: store.held_lease("ingestion"),
        lambda: store.packages(),
        lambda: store.recent_runs(limit=5, now=MADE_AT),
        lambda: store.load_review(signature),
    )
    for call in calls:
        with pytest.raises(NewerVersionError):
            await call()
    with pytest.raises(NewerVersionError):
        _ = [letter async for letter in store.dead_letters(now=MADE_AT)]
    with pytest.raises(NewerVersionError):
        _ = [erasure async for erasure in store.erasures()]
    assert (await migrated(store)).newer == sum(version_of(one.document) == NEWER for one in before.values()) >= 8
    assert await everything(store) == before


async def test_what_is_no_version_is_none_of_ours(place: Place, store: Store) -> None:
    fill(place, "1")
    [capture, *_] = [stored.capture for stored in await all_captures(store)]
    for odd in ("2", True, 0, -1, 1.0, None, [4]):
        changes = {VERSION_FIELD: odd}
        if isinstance(place, SqlitePlace):
            await place.review(capture.trace_id, {"facts": _with(capture, changes)})
        else:
            await place.review(capture.trace_id, changes)
        before = (await everything(store))["raw_traces", capture.document_id]
        result = await store.upsert([capture], now=LATER)
        assert [code for _, code in result.refused] + list(result.unchanged) != []
        assert (await everything(store))["raw_traces", capture.document_id] == before
    assert (await migrated(store)).not_ours == 1


# -- others write meanwhile


class Interrupted:
    """A store in which `before` happens between the reading of a capture and its rewriting."""

    def __init__(self, store: Store, before: Callable[[StoredDocument], Awaitable[None]]) -> None:
        self._store = store
        self._before = before

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def rewrite(self, capture: FailureCapture, stored: StoredDocument, *, now: datetime) -> bool:
        await self._before(stored)
        return await self._store.rewrite(capture, stored, now=now)


async def test_who_writes_meanwhile_is_not_overwritten(place: Place, store: Store) -> None:
    fill(place, "1")
    [capture, *_] = [stored.capture for stored in await all_captures(store)]
    written = 0

    async def write(stored: StoredDocument) -> None:
        nonlocal written
        if stored.key == capture.document_id and written != 1:
            written += 1
            await place.review(capture.trace_id, {"note": f"written {written} times"})

    written = 2  # again and again
    restless = await migrated(cast(Store, Interrupted(store, write)))
    assert (restless.left, restless.is_layout_mended) == (1, False)
    written = 0  # once
    assert (await migrated(cast(Store, Interrupted(store, write)))).left == 0
    document = (await everything(store))["raw_traces", capture.document_id].document
    assert (document["note"], document[VERSION_FIELD]) == ("written 1 times", SCHEMA_VERSION)


async def test_a_record_is_replaced_only_where_nobody_wrote_it(place: Place, store: Store) -> None:
    fill(place, "3")
    [lease] = [one for one in (await everything(store)).values() if _kind(one) == "lease"]
    taken = await store.acquire_lease(Lease("ingestion", "cli", "token", LATER, LATER + timedelta(hours=1)), now=LATER)
    assert not await store.replace(lease, {**lease.document, VERSION_FIELD: 2})
    assert await store.held_lease("ingestion") == taken
    [capture] = (await everything(store)).keys() & {("raw_traces", (await all_captures(store))[0].capture.document_id)}
    with pytest.raises(ValueError, match="only be rewritten"):
        await store.replace((await everything(store))[capture], {})


async def test_a_run_goes_on_while_its_records_are_migrated(place: Place, store: Store) -> None:
    fill(place, "3")
    lease = await store.acquire_lease(Lease("ingestion", "cli", "token", LATER, LATER + timedelta(hours=1)), now=LATER)
    known = (await store.load_checkpoints("llm_obs", [LOOKBACK]))[LOOKBACK]
    officer = place.open()
    try:
        await migrated(officer)
    finally:
        await officer.close()
    assert await store.save_checkpoint(replace(known, last_ms=7), fence=lease.fence)
    assert await store.renew_lease(replace(lease, expires_at=LATER + timedelta(hours=2)), now=LATER)
    assert (await store.load_checkpoints("llm_obs", [LOOKBACK]))[LOOKBACK].last_ms == 7
    assert not any(map(_is_older, (await everything(store)).values()))


async def test_a_migration_that_broke_off_goes_on(place: Place, store: Store) -> None:
    fill(place, "2")
    count = 0

    async def stop(stored: StoredDocument) -> None:
        nonlocal count
        count += 1
        if count > 2:
            raise StoreUnavailableError("gone")

    with pytest.raises(StoreUnavailableError):
        await migrated(cast(Store, Interrupted(store, stop)))
    report = await migrated(store)
    assert (report.left, report.newer) == (0, 0)
    assert not any(map(_is_older, (await everything(store)).values()))


async def test_an_earlier_layout_of_a_file_is_made_as_new_once_nothing_older_is_left(tmp_path: Path) -> None:
    place = SqlitePlace(tmp_path)
    fill(place, "4-untold")
    with closing(sqlite3.connect(place.path)) as connection:  # as in files of a few hours of 27 November 2026
        connection.execute("DROP INDEX evalforge_by_signature")
        columns = "signature, started_at, document_id, expires_at"
        connection.execute(f"CREATE INDEX evalforge_by_signature ON evalforge_raw_traces ({columns})")
    store = place.open()
    try:
        before = await store.outdated_layout()
        assert before == ["layout version 1 of the file, 2 is today's", "index by_signature"]
        assert len((await list_groups(store, Wanted(), now=MADE_AT, limit=10)).groups) > 1
        done = await migrated(store)
        assert (done.is_layout_mended, list(done.layout)) == (True, before)
        assert await store.outdated_layout() == []
        assert len((await list_groups(store, Wanted(), now=MADE_AT, limit=10)).groups) > 1
    finally:
        await store.close()


def test_the_command_counts_then_migrates_then_finds_nothing_left(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(place, "1")
    for name, value in settings_of(place).items():
        monkeypatch.setenv(name, value)
    told = []
    for options in (["--dry-run"], [], []):
        assert main(["migrate", "--json", *options]) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert [(one["older"], one["migrated"], one["left"]) for one in told] == [(8, 0, 8), (8, 8, 0), (0, 0, 0)]
    assert [one["layout_mended"] for one in told] == [False, isinstance(place, SqlitePlace), False]
    assert {(row["kind"], row["version"], row["documents"]) for row in told[0]["versions"]} >= {
        ("capture", 1, 5),
        ("package", 1, 1),
        ("checkpoint", 1, 2),
    }
    assert main(["migrate", "--json", "--after", told[1]["position"]]) == 0
    assert json.loads(capsys.readouterr().out)["documents"] == 0
    assert main(["migrate", "--after", "jane"]) == 2
