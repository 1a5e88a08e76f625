"""Erased rows leave export files, what is out of reach is told, and an access request gives what is held."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.ports import DeadLetter, Erasure, ExportPackage, Selection
from evalforge.core.privacy import KeyRing
from evalforge.core.tombstones import Tombstones, trace_key
from evalforge.exports import Destination, OfUser, write_package
from evalforge.exports.erasing import MOST_TASKS, Cleaning, erase_rows, tasks_elsewhere
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, START_NS, capture, trace_id_of

RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
ANN, BEA = "u1a2b_" + "a" * 32, "u1a2b_" + "b" * 32


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


def graves(*trace_ids: str, users: tuple[str, ...] = ()) -> Tombstones:
    keys = tuple(trace_key(trace_id, RING) for trace_id in trace_ids)
    return Tombstones([Erasure("e", NOW, "user", "t", users, keys)], RING)


async def exported(store: SqliteStore, folder: Path, name: str = "evals") -> tuple[ExportPackage, Path]:
    """A package in a declared folder as earlier versions made it: one file. Folders: test_exports_packages_erasing.py."""
    stream = io.BytesIO()
    package = (await write_package(store, Selection(), Destination(stream=stream), now=NOW)).package
    package = replace(package, destination=name, attempted_at=None, counts={}, document_ids=b"")
    await store.save_package(package)
    return package, put(folder / f"{package.id}.jsonl", stream.getvalue())


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


async def fill(store: SqliteStore) -> None:
    await store.upsert([capture(1, user_hash=ANN), capture(2, user_hash=BEA), capture(3, user_hash=None)], now=NOW)


def rows(path: Path) -> list[str]:
    return [json.loads(line)["trace_id"] for line in path.read_bytes().splitlines()]


async def test_erased_rows_leave_the_file_and_the_record_says_so(store: SqliteStore, tmp_path: Path) -> None:
    await fill(store)
    package, path = await exported(store, tmp_path / "evals")
    path.chmod(0o640)
    folders = {"evals": tmp_path / "evals"}
    found = await erase_rows(store, folders, graves(trace_id_of(3), users=(ANN,)))
    assert rows(path) == [trace_id_of(2)]
    [record] = await store.packages()
    content = path.read_bytes()
    assert (record.count, record.erased_count, record.size_bytes) == (1, 2, len(content))
    assert record.sha256 == hashlib.sha256(content).hexdigest() != package.sha256
    assert (record.id, record.state, record.created_at) == (package.id, "delivered", package.created_at)
    assert found.row_count == 2
    assert [package.id in task and "2 lines were removed" in task for task in found.tasks] == [True]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert await erase_rows(store, folders, graves(trace_id_of(3), users=(ANN,))) == Cleaning(0, ())
    assert list(await store.packages()) == [record]


async def test_a_file_without_erased_rows_is_not_touched(store: SqliteStore, tmp_path: Path) -> None:
    await fill(store)
    package, path = await exported(store, tmp_path)
    before = path.stat()
    late = Erasure("e", NOW - timedelta(days=9999), "user", "t", (ANN,))
    for tombstones in (graves("none", users=("u",)), Tombstones([late], RING), Tombstones([], RING)):
        assert await erase_rows(store, {"evals": tmp_path}, tombstones) == Cleaning(0, ())
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert list(await store.packages()) == [package]


async def test_all_rows_of_all_packages_may_go(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([capture(number, user_hash=ANN) for number in range(40)], now=NOW)
    paths = [(await exported(store, tmp_path / name, name))[1] for name in ("a", "b", "c")]
    folders = {name: tmp_path / name for name in ("a", "b", "c")}
    assert (await erase_rows(store, folders, graves(users=(ANN,)))).row_count == 120
    assert [path.read_bytes() for path in paths] == [b"", b"", b""]
    assert {(one.count, one.erased_count) for one in await store.packages()} == {(0, 40)}


async def test_hostile_rows_are_read_and_left_as_they_are(store: SqliteStore, tmp_path: Path) -> None:
    payload = {
        "\ud800": "\udfff",
        "big": 10**40,
        "lines": "a\nb\u2028c\x85",
        "user_hashes": [ANN],
        "trace_id": trace_id_of(1),
    }
    await store.upsert([capture(1, user_hash=ANN), capture(2, user_hash=BEA, payload=payload)], now=NOW)
    _, path = await exported(store, tmp_path)
    kept = path.read_bytes().splitlines(keepends=True)
    await erase_rows(store, {"evals": tmp_path}, graves(users=(ANN,)))
    assert path.read_bytes() in (kept[0], kept[1])
    assert rows(path) == [trace_id_of(2)]


@pytest.mark.parametrize("harm", ["no JSON", "no object", "folder", "link", "read-only folder"])
async def test_a_file_that_cannot_be_gone_through_is_a_task(store: SqliteStore, tmp_path: Path, harm: str) -> None:
    await fill(store)
    package, path = await exported(store, tmp_path / "evals")
    other_package, other = await exported(store, tmp_path / "evals")
    content = path.read_bytes()
    if harm == "no JSON":
        path.write_bytes(content + b"{broken\n")
    elif harm == "no object":
        path.write_bytes(b"[1]\n" + content)
    elif harm == "folder":
        path.unlink()
        path.mkdir()
    elif harm == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    else:
        path.parent.chmod(0o500)
    found = await erase_rows(store, {"evals": tmp_path / "evals"}, graves(users=(ANN,)))
    if harm == "read-only folder":
        path.parent.chmod(0o700)
        assert found.row_count == 0
        return
    assert found.row_count == 1, "the other package is cleaned all the same"
    assert [package.id in task and "could not be gone through" in task for task in found.tasks].count(True) == 1
    by_id = {one.id: one for one in await store.packages()}
    assert by_id[package.id] == package
    assert by_id[other_package.id].erased_count == 1
    assert sorted(rows(other)) == [trace_id_of(2), trace_id_of(3)]
    if harm == "link":
        assert (tmp_path / "elsewhere").read_bytes() == content


async def test_after_a_crash_before_the_file_was_replaced_rows_are_counted_once(store: SqliteStore, tmp_path: Path) -> None:
    await fill(store)
    package, path = await exported(store, tmp_path)
    content = path.read_bytes()
    await erase_rows(store, {"evals": tmp_path}, graves(users=(ANN,)))
    path.write_bytes(content)  # as if the record had been saved and the file not been put in its place
    assert (await erase_rows(store, {"evals": tmp_path}, graves(users=(ANN,)))).row_count == 1
    [record] = await store.packages()
    assert (record.count, record.erased_count) == (2, 1)
    assert package.count == 3


@pytest.mark.parametrize(
    "name", ["../outside", "a/b", "export_20261123T120000Z_0000000x", "export_20261123T120000Z_00000000.jsonl"]
)
async def test_a_record_with_an_odd_id_leads_to_no_file(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await fill(store)
    package, path = await exported(store, tmp_path / "evals")
    target = tmp_path / "evals" / f"{name}.jsonl"
    target.parent.mkdir(exist_ok=True, parents=True)
    path.rename(target)
    await store.purge()
    await store.save_package(replace(package, id=name))
    assert await erase_rows(store, {"evals": tmp_path / "evals"}, graves(users=(ANN,))) == Cleaning(0, ())
    assert len(target.read_bytes().splitlines()) == 3


async def test_packages_out_of_reach_are_tasks(store: SqliteStore, tmp_path: Path) -> None:
    await fill(store)
    gone, path = await exported(store, tmp_path / "evals")
    path.unlink()
    there, _ = await exported(store, tmp_path / "evals")
    old_folder, _ = await exported(store, tmp_path / "old", "old")
    own = (await write_package(store, Selection(), Destination(path=tmp_path / "mine.jsonl"), now=NOW)).package
    stream = (await write_package(store, Selection(), Destination(stream=io.BytesIO()), now=NOW)).package
    empty = (await write_package(store, Selection(env="none"), Destination(stream=io.BytesIO()), now=NOW)).package
    earlier = replace(own, id="export_20200101T000000Z_00000000", created_at=NOW - timedelta(days=1))
    failed = replace(own, id="failed", state="failed", reason="disk_full", count=0)
    broken = replace(own, id="broken", state="failed", reason="broken_pipe", count=0)
    for package in (earlier, failed, broken):
        await store.save_package(package)
    tasks = await tasks_elsewhere(store, {"evals": tmp_path / "evals"}, NOW)
    named = {one.id for one in await store.packages() if any(one.id in task for task in tasks)}
    assert named == {gone.id, old_folder.id, own.id, stream.id, "broken"}
    assert {there.id, empty.id, earlier.id, "failed"}.isdisjoint(named)
    assert all("2026-11-23 12:00 UTC" in task and "delete" in task for task in tasks)
    assert not any(ANN in task or trace_id_of(1) in task or "mine.jsonl" in task for task in tasks)


async def test_very_many_packages_out_of_reach_are_told_as_a_number(store: SqliteStore) -> None:
    for number in range(MOST_TASKS + 7):
        await store.save_package(ExportPackage(f"p{number}", NOW, "jsonl", "file", {}, 1, "ab", 9, "delivered"))
    tasks = await tasks_elsewhere(store, {}, NOW)
    assert len(tasks) == MOST_TASKS + 1
    assert tasks[-1].startswith("7 older packages")


# -- access


async def lines_of(store: SqliteStore, *user_hashes: str, **conditions: Any) -> tuple[list[Any], ExportPackage]:
    stream = io.BytesIO()
    person = OfUser(frozenset(user_hashes))
    written = await write_package(store, Selection(**conditions), Destination(stream=stream), now=NOW, of_user=person)
    assert written.package.sha256 == hashlib.sha256(stream.getvalue()).hexdigest()
    return [json.loads(line) for line in stream.getvalue().splitlines()], written.package


def letter(name: str, trace_id: str) -> DeadLetter:
    return DeadLetter(name, "apm", "sanitize", "odd", {"a": "text"}, NOW, NOW + timedelta(days=30), trace_id=trace_id)


async def test_an_access_request_gives_what_is_held_and_nothing_of_others(store: SqliteStore) -> None:
    mine = [capture(number, user_hash=ANN, start_ns=START_NS + number) for number in range(5)]
    old = capture(7, user_hash=BEA, start_ns=START_NS - 9, fetched_at=NOW - timedelta(days=400))
    await store.upsert([*mine, old, capture(8, user_hash="u0000_" + "c" * 32), capture(9, user_hash=None)], now=NOW)
    await store.keep([letter("a", trace_id_of(2)), letter("b", trace_id_of(9))])
    lines, package = await lines_of(store, ANN, BEA)
    captures, letters = lines[:-1], lines[-1:]
    assert [one["trace_id"] for one in captures] == [trace_id_of(number) for number in (4, 3, 2, 1, 0, 7)], (
        "an expired one too"
    )
    assert [one["dead_letter"]["trace_id"] for one in letters] == [trace_id_of(2)]
    assert (package.count, package.selection) == (7, {"user": True})
    assert ANN not in repr(package)


async def test_an_access_request_may_be_narrowed(store: SqliteStore) -> None:
    await store.upsert(
        [capture(n, user_hash=ANN, start_ns=START_NS + n * 10**9, env="ab"[n % 2]) for n in range(6)], now=NOW
    )
    start = datetime.fromtimestamp(START_NS // 10**9, UTC)
    everything = [5, 4, 3, 2, 1, 0]
    wanted: dict[str, tuple[Any, list[int]]] = {
        "env": ("a", [4, 2, 0]),
        "limit": (2, [5, 4]),
        "severity": ("critical", []),
        "ml_app": ("support-bot", everything),
        "failure_type": ("hallucination", everything),
        "started_from": (start + timedelta(seconds=4), [5, 4]),
        "started_to": (start + timedelta(seconds=1), [0]),
    }
    for name, (value, numbers) in wanted.items():
        lines, package = await lines_of(store, ANN, **{name: value})
        assert [one["trace_id"] for one in lines] == [trace_id_of(number) for number in numbers], name
        assert package.selection["user"] is True
        assert name in package.selection


async def test_nothing_held_is_an_empty_file(store: SqliteStore) -> None:
    await fill(store)
    assert (await lines_of(store, "u9999_" + "0" * 32))[0] == []


async def test_more_than_fits_in_memory_waits_on_disk(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalforge.exports.access.MEMORY_BYTES", 10_000)
    await store.upsert([capture(n, user_hash=ANN, start_ns=START_NS + n * 7919 % 400) for n in range(400)], now=NOW)
    starts = [one["started_ns"] for one in (await lines_of(store, ANN))[0]]
    assert len(starts) == 400
    assert starts == sorted(starts, reverse=True)
