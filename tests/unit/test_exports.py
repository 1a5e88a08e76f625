"""Exports: equal captures give equal bytes, files appear whole or not at all, and the store knows what was written."""

from __future__ import annotations

import hashlib
import io
import json
import stat
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given

from evalforge.core.ports import ExportPackage, Selection, Store, StoredCapture
from evalforge.errors import ErasedMeanwhileError, RequestError, SettingsError, StoreUnavailableError
from evalforge.exports import Destination, capture_document, capture_line, json_bytes, write_package
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, capture, captures, json_values


@dataclass
class FakeStore:
    """What an export uses of a store. It fails after `fail_after` captures; it tells `epochs` in turn, the last for good."""

    stored: Sequence[StoredCapture] = ()
    fail_after: int = 1_000_000
    packages: list[ExportPackage] = field(default_factory=list)
    fails_after_saves: int = 1_000_000
    epochs: Sequence[str] = ("",)

    async def erasure_epoch(self) -> str:
        epoch = self.epochs[0]
        self.epochs = self.epochs[1:] or self.epochs
        return epoch

    async def select(self, selection: Selection, *, now: datetime) -> AsyncIterator[StoredCapture]:
        for number, one in enumerate(self.stored):
            if number >= self.fail_after:
                raise StoreUnavailableError("the store went away")
            yield one

    async def save_package(self, package: ExportPackage) -> None:
        if len(self.packages) >= self.fails_after_saves:
            raise StoreUnavailableError("the store is away")
        self.packages.append(package)


def stored(*numbers: int, **others: Any) -> list[StoredCapture]:
    found = [capture(number, **others) for number in numbers]
    return [StoredCapture(one, one.to_document(), NOW, False) for one in found]


def store_of(**options: Any) -> tuple[FakeStore, Store]:
    fake = FakeStore(**options)
    return fake, cast(Store, fake)


def test_a_document_has_ids_as_text_times_in_iso_and_nothing_else_than_json() -> None:
    (one,) = stored(1, span_id="18446744073709551615")
    document = capture_document(one)
    assert document["span_ids"] == ["18446744073709551615"]
    assert document["fetched_at"] == "2026-11-23T12:00:00.123456Z"
    assert document["updated_at"] == "2026-11-23T12:00:00.123456Z"
    assert document["processed"] is False
    assert document["document_id"] == one.capture.document_id
    assert json.loads(json.dumps(document)) == document


def test_span_ids_ascend_by_value() -> None:
    from evalforge.core.capture import merge

    whole = merge(merge(capture(1, "100"), capture(1, "9")), capture(1, "20"))
    document = capture_document(StoredCapture(whole, whole.to_document(), NOW, True))
    assert document["span_ids"] == ["9", "20", "100"]


def test_equal_captures_give_equal_bytes_whatever_the_order_of_their_keys() -> None:
    (one,) = stored(1, payload={"a": 1, "b": {"c": 2, "d": 3}})
    (two,) = stored(1, payload={"b": {"d": 3, "c": 2}, "a": 1})
    assert capture_line(one) == capture_line(two)
    assert capture_line(one).endswith(b"}\n")


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


HOSTILE = [
    "\x1b[2J\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028\u2029\x85",
    "\ud800",
    "\x00",
    1 << 70,
    float("nan"),
    float("-inf"),
    b"\xff",
]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: ascii(value)[:20])
def test_a_line_is_one_line_that_no_terminal_obeys(value: Any) -> None:
    line = json_bytes({"k": value, "list": [value]})
    text = line.decode()
    assert len(text.splitlines()) == 1
    assert text.isprintable()
    loaded = json.loads(text)["k"]
    if isinstance(value, float):
        assert loaded is None
    elif isinstance(value, bytes):
        assert loaded == value.hex()
    else:
        assert loaded == value


@given(json_values())
def test_any_value_becomes_json_that_means_the_same(value: Any) -> None:
    for indent in (False, True):
        first = json_bytes({"v": value}, indent=indent)
        json.loads(first)
        assert first == json_bytes({"v": value}, indent=indent)
        assert not set(first) & set(range(0x20)) - {0x0A}


async def test_a_file_is_written_whole_private_and_recorded(tmp_path: Path) -> None:
    fake, store = store_of(stored=stored(1, 2, 3))
    path = tmp_path / "new" / "failures.jsonl"
    written = await write_package(store, Selection(severity="high"), Destination(path=path), now=NOW)
    content = path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(content.splitlines()) == 3
    package = written.package
    assert [one.state for one in fake.packages] == ["pending", "delivered"], "nobody is left in the dark by a crash"
    assert fake.packages[-1] == package
    assert (package.count, package.size_bytes, package.state, package.reason) == (3, len(content), "delivered", None)
    assert package.sha256 == hashlib.sha256(content).hexdigest()
    assert (package.destination, package.selection) == ("file", {"severity": "high"})
    assert [entry.name for entry in path.parent.iterdir()] == ["failures.jsonl"]


async def test_nothing_selected_is_an_empty_file() -> None:
    stream = io.BytesIO()
    written = await write_package(store_of()[1], Selection(), Destination(stream=stream), now=NOW)
    assert (stream.getvalue(), written.package.count, written.path) == (b"", 0, None)
    assert written.package.sha256 == hashlib.sha256().hexdigest()


async def test_a_second_export_gives_the_same_bytes_and_another_package(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "c.sqlite3"), prefix="evalforge_")
    await store.upsert(captures(30), now=NOW)
    streams = io.BytesIO(), io.BytesIO()
    first, second = [await write_package(store, Selection(), Destination(stream=one), now=NOW) for one in streams]
    assert streams[0].getvalue() == streams[1].getvalue()
    assert first.package.sha256 == second.package.sha256
    assert first.package.id != second.package.id
    assert {package.id for package in await store.packages()} == {first.package.id, second.package.id}
    starts = [json.loads(line)["started_ns"] for line in streams[0].getvalue().splitlines()]
    assert starts == sorted(starts, reverse=True)
    await store.close()


async def test_an_existing_file_stays_unless_overwriting_is_wanted(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    path.write_text("precious")
    fake, store = store_of(stored=stored(1))
    with pytest.raises(RequestError, match="--force"):
        await write_package(store, Selection(), Destination(path=path), now=NOW)
    assert path.read_text() == "precious"
    assert [(package.state, package.reason) for package in fake.packages] == [("pending", None), ("failed", "bad_request")]
    await write_package(store, Selection(), Destination(path=path, overwrite=True), now=NOW)
    assert path.read_bytes().startswith(b"{")
    assert names_in(tmp_path) == [path.name]


async def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "failures.jsonl"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RequestError):
        await write_package(store_of(stored=stored(1))[1], Selection(), Destination(path=path), now=NOW)
    assert not (tmp_path / "elsewhere").exists()


async def test_a_store_that_goes_away_leaves_no_file_and_a_record(tmp_path: Path) -> None:
    fake, store = store_of(stored=stored(1, 2, 3), fail_after=2)
    with pytest.raises(StoreUnavailableError, match="went away"):
        await write_package(store, Selection(), Destination(path=tmp_path / "f.jsonl"), now=NOW)
    assert names_in(tmp_path) == []
    assert [(one.state, one.reason) for one in fake.packages] == [("pending", None), ("failed", "store_unavailable")]


async def test_the_first_error_is_told_when_the_record_fails_too(tmp_path: Path) -> None:
    _, store = store_of(stored=stored(1), fail_after=0, fails_after_saves=1)
    with pytest.raises(StoreUnavailableError, match="went away"):
        await write_package(store, Selection(), Destination(path=tmp_path / "f.jsonl"), now=NOW)


async def test_nothing_is_written_where_the_record_cannot_be(tmp_path: Path) -> None:
    _, store = store_of(stored=stored(1), fails_after_saves=0)
    with pytest.raises(StoreUnavailableError, match="store is away"):
        await write_package(store, Selection(), Destination(path=tmp_path / "f.jsonl"), now=NOW)
    assert names_in(tmp_path) == []


async def test_a_declared_folder_gets_a_folder_named_after_the_package(tmp_path: Path) -> None:
    destination = Destination("evals", folder=tmp_path / "evals")
    written = await write_package(store_of(stored=stored(1))[1], Selection(), destination, now=NOW)
    assert written.package.destination == "evals"
    assert written.path == tmp_path / "evals" / written.package.id
    assert names_in(written.path) == ["captures.jsonl", "manifest.json"]


async def test_a_folder_that_cannot_be_written_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fake, store = store_of(stored=stored(1))
    with pytest.raises(SettingsError, match=r"EXPORT_DESTINATIONS.*'evals'"):
        await write_package(store, Selection(), Destination("evals", folder=tmp_path / "file" / "x"), now=NOW)
    assert fake.packages[-1].state == "failed"
    with pytest.raises(RequestError, match="cannot be written"):
        await write_package(store, Selection(), Destination(path=tmp_path / "file" / "x"), now=NOW)


async def test_what_was_exported_while_something_was_erased_is_withdrawn(tmp_path: Path) -> None:
    for destination in (Destination(path=tmp_path / "f.jsonl"), Destination("evals", folder=tmp_path)):
        fake, store = store_of(stored=stored(1, 2), epochs=("a", "b"))
        with pytest.raises(ErasedMeanwhileError, match="export again"):
            await write_package(store, Selection(), destination, now=NOW)
        assert names_in(tmp_path) == []
        last = fake.packages[-1]
        assert (last.state, last.reason, last.count, last.size_bytes) == ("failed", "erased_meanwhile", 0, 0)
    _, store = store_of(stored=stored(1), epochs=("a", "b"))
    with pytest.raises(ErasedMeanwhileError, match="standard output"):
        await write_package(store, Selection(), Destination(stream=io.BytesIO()), now=NOW)
