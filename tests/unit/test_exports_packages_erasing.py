"""Erased rows leave every file of a package, whatever its format, and a crash between two files is made good."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from evalforge.core.capture import document_id
from evalforge.core.ports import Erasure, Selection
from evalforge.core.privacy import KeyRing
from evalforge.core.tombstones import Tombstones, trace_key
from evalforge.errors import DestinationUnavailableError
from evalforge.exports import Destination, Shape, Written, write_package
from evalforge.exports.erasing import Cleaning, erase_rows, tasks_elsewhere
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, trace_id_of
from tests.packages import MADE_FORMATS, Outpost, content, manifest, told

RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
ANN, BEA = "u1a2b_" + "a" * 32, "u1a2b_" + "b" * 32
SECRET = "where is my parcel to Castle Street"


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    await opened.upsert(
        [told(1, SECRET, user_hash=ANN), told(2, user_hash=BEA, ml_app="b"), told(3, user_hash=ANN, ml_app="c")], now=NOW
    )
    yield opened
    await opened.close()


def of_users(*users: str) -> Tombstones:
    return Tombstones([Erasure("e", NOW, "user", "t", users, ())], RING)


def of_traces(*numbers: int) -> Tombstones:
    return Tombstones(
        [Erasure("e", NOW, "trace", "t", (), tuple(trace_key(trace_id_of(one), RING) for one in numbers))], RING
    )


async def made(store: SqliteStore, folder: Path, name: str, test_share: float | None = None) -> Written:
    destination = Destination("evals", folder=folder)
    return await write_package(store, Selection(), destination, now=NOW, shape=Shape(name, test_share=test_share))


def names_in(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def place_of(written: Written) -> Path:
    assert written.path is not None
    return written.path


@pytest.mark.parametrize("test_share", [None, 0.5])
@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_erased_rows_leave_every_file(store: SqliteStore, tmp_path: Path, name: str, test_share: float | None) -> None:
    folder = place_of(await made(store, tmp_path, name, test_share))
    others = place_of(await made(store, tmp_path / "unreached", name, test_share))
    (folder / "manifest.json").chmod(0o640)
    found = await erase_rows(store, {"evals": tmp_path}, of_users(ANN))
    assert found.row_count == 2
    assert ["2 lines were removed" in task and folder.name in task for task in found.tasks] == [True]
    bodies = b"".join(content(folder).values())
    for gone in (SECRET, trace_id_of(1), trace_id_of(3), ANN, document_id(trace_id_of(1))):
        assert gone.encode() not in bodies
    document = manifest(folder)
    assert (document["erased_count"], document["counts"]["taken"]) == (2, 1)
    assert document["window"]["first_started_at"] == document["window"]["last_started_at"]
    assert (folder / "manifest.json").stat().st_mode & 0o777 == 0o640
    [record] = [one for one in await store.packages() if one.id == folder.name]
    assert (record.count, record.erased_count, record.state) == (1, 2, "delivered")
    assert record.document_ids.hex() == document_id(trace_id_of(2))
    assert [one["sha256"] for one in document["files"]] == [one.sha256 for one in record.files]
    assert record.size_bytes == sum(one["bytes"] for one in document["files"])
    assert SECRET.encode() in b"".join(content(others).values()) or name == "huggingface"
    assert names_in(tmp_path) == sorted([folder.name, "unreached"]), "no draft is left"
    before = content(folder)
    assert await erase_rows(store, {"evals": tmp_path}, of_users(ANN)) == Cleaning(0, ())
    assert content(folder) == before


@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_what_is_left_is_what_a_new_package_would_hold(store: SqliteStore, tmp_path: Path, name: str) -> None:
    folder = place_of(await made(store, tmp_path, name))
    await erase_rows(store, {"evals": tmp_path}, of_traces(1, 3))
    await store.delete_captures([trace_id_of(1), trace_id_of(3)])
    anew = place_of(await made(store, tmp_path, name))
    first, second = content(folder), content(anew)
    told_first, told_second = (json.loads(one.pop("manifest.json")) for one in (first, second))
    assert first == second
    assert told_first["window"] == told_second["window"]
    assert told_first["files"] == told_second["files"]


@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_every_row_may_go(store: SqliteStore, tmp_path: Path, name: str) -> None:
    folder = place_of(await made(store, tmp_path, name))
    assert (await erase_rows(store, {"evals": tmp_path}, of_traces(1, 2, 3))).row_count == 3
    document = manifest(folder)
    assert (document["counts"]["taken"], document["window"]["first_started_at"]) == (0, None)
    [record] = await store.packages()
    assert (record.count, record.erased_count, record.document_ids) == (0, 3, b"")


@pytest.mark.parametrize("name", ["jsonl", "promptfoo"])
async def test_a_crash_between_any_two_files_is_made_good(store: SqliteStore, tmp_path: Path, name: str) -> None:
    """Whatever part of the files was put in place, the next erasure ends with the same bytes and counts each row once."""
    folder = place_of(await made(store, tmp_path, name, 0.5))
    before = content(folder)
    await erase_rows(store, {"evals": tmp_path}, of_users(ANN))
    after = content(folder)
    sources = [one for one in after if one.endswith(("captures.jsonl", "examples.jsonl"))]
    order = [*(one for one in after if one not in sources), *sources]  # the manifest among the first: sources are last
    for reached in range(len(order)):
        for file in order[reached:]:
            (folder / file).write_bytes(before[file])
        await erase_rows(store, {"evals": tmp_path}, of_users(ANN))
        assert content(folder) == after, reached
        [record] = await store.packages()
        assert (record.count, record.erased_count) == (1, 2)


@pytest.mark.parametrize(
    "harm", ["no JSON", "no object", "no example", "link", "folder is a link", "manifest", "other manifest", "format"]
)
async def test_a_package_that_cannot_be_gone_through_is_a_task(store: SqliteStore, tmp_path: Path, harm: str) -> None:
    declared = tmp_path / "evals"
    folder = place_of(await made(store, declared, "promptfoo"))
    other = place_of(await made(store, declared, "promptfoo"))
    source = folder / "examples.jsonl"
    body = source.read_bytes()
    if harm == "no JSON":
        source.write_bytes(body + b"{broken\n")
    elif harm == "no object":
        source.write_bytes(b"[1]\n" + body)
    elif harm == "no example":
        source.write_bytes(b'{"trace_id": "x"}\n' + body)
    elif harm == "link":
        source.rename(tmp_path / "elsewhere")
        source.symlink_to(tmp_path / "elsewhere")
    elif harm == "folder is a link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    elif harm == "manifest":
        (folder / "manifest.json").unlink()
    elif harm == "other manifest":
        shutil.copy(other / "manifest.json", folder / "manifest.json")
    else:
        from dataclasses import replace

        [record] = [one for one in await store.packages() if one.id == folder.name]
        await store.save_package(replace(record, format="gone"))
    kept = content(tmp_path / "elsewhere" if harm == "folder is a link" else folder)
    records = {one.id: one for one in await store.packages()}
    found = await erase_rows(store, {"evals": declared}, of_users(ANN))
    assert found.row_count == 2, "the other package is cleaned all the same"
    assert [folder.name in task and "could not be gone through" in task for task in found.tasks].count(True) == 1
    assert content(tmp_path / "elsewhere" if harm == "folder is a link" else folder) == kept
    assert await store.load_package(folder.name) == records[folder.name]
    assert manifest(other)["erased_count"] == 2
    if harm == "link":
        assert (tmp_path / "elsewhere").read_bytes() == body
    assert len(names_in(declared)) == 2


async def test_drafts_of_processes_that_died_go_and_young_ones_stay(store: SqliteStore, tmp_path: Path) -> None:
    folder = place_of(await made(store, tmp_path, "promptfoo"))
    old, young, strange = (
        tmp_path / name for name in (f".{folder.name}.00000000.part", f".{folder.name}.11111111.part", ".x.part")
    )
    for draft in (old, young, strange):
        draft.mkdir()
        (draft / "examples.jsonl").write_text(SECRET)
    os.utime(old, (time.time() - 86_400, time.time() - 86_400))
    os.utime(strange, (0, 0))
    await erase_rows(store, {"evals": tmp_path}, of_users("nobody"))
    assert (old.exists(), young.exists(), strange.exists()) == (False, True, True)


async def test_what_went_away_is_a_task_and_what_failed_here_is_none(store: SqliteStore, tmp_path: Path) -> None:
    shape = Shape("promptfoo")
    await made(store, tmp_path / "evals", "promptfoo")
    away = Destination("away", away=Outpost())
    sent = await write_package(store, Selection(), away, now=NOW, shape=shape)
    broken = Destination("away", away=Outpost(fails_after=3))
    with pytest.raises(DestinationUnavailableError):
        await write_package(store, Selection(), broken, now=NOW + timedelta(1), shape=shape)
    own = await write_package(store, Selection(), Destination(path=tmp_path / "p", is_package=True), now=NOW, shape=shape)
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="EXPORT_DESTINATIONS"):
        await write_package(store, Selection(), Destination("evals", folder=tmp_path / "file"), now=NOW, shape=shape)
    tasks = await tasks_elsewhere(store, {"evals": tmp_path / "evals"}, NOW)
    half = next(one for one in await store.packages() if one.destination == "away" and one.state == "failed")
    assert {one.id for one in await store.packages() if any(one.id in task for task in tasks)} == {
        sent.package.id,
        half.id,
        own.package.id,
    }
    assert len(tasks) == 3
