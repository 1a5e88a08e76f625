"""Packages: whole or not at all, the same bytes for the same captures, and never an empty test without a word."""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalforge.core.capture import SCHEMA_VERSION, document_id
from evalforge.core.ports import ExportPackage, Selection
from evalforge.errors import (
    DestinationUnavailableError,
    ErasedMeanwhileError,
    NothingToExportError,
    RequestError,
    SettingsError,
)
from evalforge.exports import FORMAT_NAMES, Destination, OfUser, Shape, Written, write_again, write_package
from evalforge.exports.examples import example_from
from evalforge.exports.files import drafts_of
from evalforge.exports.formats.table import FORMATS
from evalforge.exports.selecting import selection_of_record
from evalforge.exports.shown import package_shown, shown_state
from evalforge.stores import records
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, SITE, trace_id_of
from tests.packages import HAS_PARQUET, MADE_FORMATS, Outpost, closed, content, manifest, modes, silent, told

DERIVED = [name for name in MADE_FORMATS if name != "jsonl"]


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def written(store: SqliteStore, path: Path, name: str = "promptfoo", **options: Any) -> Written:
    shape = Shape(name, options.pop("per_group", None), options.pop("test_share", None))
    destination = Destination(path=path, is_package=True, overwrite=options.pop("overwrite", False))
    conditions = {one: options.pop(one) for one in ("env", "limit", "started_from") if one in options}
    return await write_package(store, Selection(**conditions), destination, now=NOW, shape=shape, **options)


def examples_in(folder: Path) -> list[Any]:
    return [example_from(json.loads(line)) for line in (folder / "examples.jsonl").read_bytes().splitlines()]


def entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# -- what a package is ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_every_format_makes_a_package_with_its_manifest(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await store.upsert([told(1), told(2), told(3, env="dev")], now=NOW)
    made = await written(store, tmp_path / "evals", name, env="prod")
    names = ["captures.jsonl"] if name == "jsonl" else [*(one.name for one in FORMATS[name].files), "examples.jsonl"]
    assert sorted(content(tmp_path / "evals")) == sorted([*names, "manifest.json"])
    document = manifest(tmp_path / "evals")
    assert (document["format"], document["package"]["id"]) == (name, made.package.id)
    assert document["counts"] == {"selected": 2, "taken": 2, "closed": 0, "absent": 0, "surplus": 0}
    assert document["filters"] == {"env": "prod", "per_group": None, "test_share": None}
    assert document["window"]["first_started_at"] < document["window"]["last_started_at"]
    assert document["versions"] == {"signature": ["s1"], "sanitizer": [1], "schema": [SCHEMA_VERSION]}
    assert modes(tmp_path / "evals") == {0o700, 0o600}
    assert entries(tmp_path) == ["evals"], "no draft is left"
    [record] = await store.packages()
    assert record == made.package
    assert (record.state, record.count, record.attempts) == ("delivered", 2, 1)
    assert [one.name for one in record.files] == names
    assert record.document_ids.hex() == document_id(trace_id_of(2)) + document_id(trace_id_of(1))


@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_the_same_captures_give_the_same_bytes(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await store.upsert([told(number, error_type=f"E{number % 3}") for number in range(12)], now=NOW)
    options: dict[str, Any] = {"per_group": 3, "test_share": 0.5}
    first = await written(store, tmp_path / "a", name, **options)
    later = SqliteStore(":memory:", prefix="x_")
    await later.upsert([told(number, error_type=f"E{number % 3}") for number in reversed(range(12))], now=NOW + timedelta(1))
    options["destination"] = Destination(path=tmp_path / "b", is_package=True)
    shape = Shape(name, 3, 0.5)
    second = await write_package(later, Selection(), options["destination"], now=NOW + timedelta(2), shape=shape)
    await later.close()
    one, two = content(tmp_path / "a"), content(tmp_path / "b")
    manifests = [json.loads(found.pop("manifest.json")) for found in (one, two)]
    if name == "jsonl":  # its lines say when they were written
        one, two = (
            {file: body.replace(b"2026-11-24", b"2026-11-23") for file, body in found.items()} for found in (one, two)
        )
        assert one == two
        return
    assert one == two
    assert first.package.sha256 == second.package.sha256
    assert manifests[0].pop("package") != manifests[1].pop("package")
    assert manifests[0] == manifests[1]


async def test_reviewers_right_answers_are_in_it(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1), told(2)], now=NOW)
    await written(store, tmp_path / "p", expected_outputs={trace_id_of(1): "the right one", "other": "x"})
    assert {one.trace_id: one.expected_output for one in examples_in(tmp_path / "p")} == {
        trace_id_of(1): "the right one",
        trace_id_of(2): None,
    }


async def test_a_record_names_a_bounded_number_of_captures(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evalforge.exports.selecting.MAX_PACKED_CAPTURES", 3)
    monkeypatch.setattr("evalforge.exports.package.MAX_PACKED_CAPTURES", 3)
    await store.upsert([told(number) for number in range(4)], now=NOW)
    package = (await written(store, tmp_path / "p")).package
    assert (package.count, len(package.document_ids) // 16, package.ids_are_cut) == (4, 3, True)
    shown = package_shown(package, NOW, 60)
    assert (len(shown["capture_ids"]), shown["capture_ids_are_cut"]) == (3, True)


def test_records_of_earlier_versions_are_read() -> None:
    old = {
        "id": "export_20260101T000000Z_00000000", "created_at": NOW, "format": "jsonl", "destination": "file",
        "selection": {}, "count": 3, "sha256": "ab", "size_bytes": 9, "state": "delivered", "reason": None,
    }  # fmt: skip
    package = records.package_of(old)
    assert (package.attempts, package.files, package.document_ids, dict(package.counts)) == (1, (), b"", {})
    assert package_shown(package, NOW, 60)["attempted_at"] == NOW
    assert records.package_of(records.package_document(package)) == package


# -- closed texts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DERIVED)
async def test_closed_texts_are_left_out_and_told(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await store.upsert([told(1), closed(2), closed(3), silent(4)], now=NOW)
    package = (await written(store, tmp_path / "p", name)).package
    assert package.counts == {"selected": 4, "taken": 1, "closed": 2, "absent": 1, "surplus": 0}
    document = manifest(tmp_path / "p")
    for note in (document["closed_texts"], package_shown(package, NOW, 60)["closed_texts"]):
        assert note.startswith("2 of 4 captures have closed texts and are left out")
        assert "PII_TEXT_ALLOWLIST" in note
    assert [one.trace_id for one in examples_in(tmp_path / "p")] == [trace_id_of(1)]
    assert b"[redacted:text 24]" not in b"".join(content(tmp_path / "p").values())


async def test_our_own_format_takes_closed_ones_and_says_so(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1), closed(2)], now=NOW)
    package = (await written(store, tmp_path / "p", "jsonl")).package
    assert (package.count, package.counts["closed"]) == (2, 1)
    assert "1 of 2 captures have closed texts and stand in it as placeholders" in manifest(tmp_path / "p")["closed_texts"]


@pytest.mark.parametrize(
    ("held", "code", "says"),
    [
        ([closed(1), closed(2)], "texts_closed", "all 2 captures that match have closed texts"),
        ([closed(1), silent(2)], "texts_closed", "1 of 2 captures that match have closed texts, and the others never had"),
        ([silent(1)], "texts_absent", "none of the 1 captures"),
        ([], "nothing_selected", "no capture matches"),
    ],
)
async def test_no_package_is_made_of_nothing(
    store: SqliteStore, tmp_path: Path, held: list[Any], code: str, says: str
) -> None:
    await store.upsert(held, now=NOW)
    with pytest.raises(NothingToExportError, match=says) as caught:
        await written(store, tmp_path / "p")
    assert (caught.value.code, caught.value.exit_code, caught.value.http_status) == (code, 2, 422)
    assert ("PII_TEXT_ALLOWLIST" in caught.value.message) == (code == "texts_closed")
    assert entries(tmp_path) == []
    [record] = await store.packages()
    assert (record.state, record.reason, record.count) == ("failed", code, 0)


# -- which captures -------------------------------------------------------------------------------------------------------


async def test_the_newest_of_each_group_and_no_more(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(number, error_type=f"E{number % 3}", signals=None) for number in range(9)], now=NOW)
    groups = {one.capture.signature async for one in store.select(Selection(), now=NOW)}
    package = (await written(store, tmp_path / "one", per_group=1)).package
    assert package.count == len(groups)
    assert package.counts["surplus"] == 9 - len(groups)
    two = (await written(store, tmp_path / "two", "jsonl", per_group=2)).package
    assert two.count == 2 * len(groups)


async def test_a_closed_text_takes_nobody_s_place(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1), told(2), closed(3), told(4), closed(5)], now=NOW)
    await written(store, tmp_path / "group", per_group=1)
    assert [one.trace_id for one in examples_in(tmp_path / "group")] == [trace_id_of(4)], "the newest that is a test"
    package = (await written(store, tmp_path / "limit", limit=2)).package
    assert [one.trace_id for one in examples_in(tmp_path / "limit")] == [trace_id_of(4), trace_id_of(2)]
    assert package.counts["selected"] == 4, "it reads no further than it has to"


@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_no_group_straddles_a_split(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await store.upsert([told(number, ml_app=f"app-{number % 7}") for number in range(28)], now=NOW)
    package = (await written(store, tmp_path / "p", name, test_share=0.4)).package
    assert package.counts["train"] + package.counts["test"] == 28
    assert min(package.counts["train"], package.counts["test"]) > 0
    found = content(tmp_path / "p")
    assert {file.partition("/")[0] for file in found if "/" in file} == {"train", "test"}
    if name == "jsonl":
        sides = [
            {json.loads(line)["signature"] for line in found[f"{side}/captures.jsonl"].splitlines()}
            for side in ("train", "test")
        ]
    else:
        examples = examples_in(tmp_path / "p")
        sides = [{one.signature for one in examples if one.split == side} for side in ("train", "test")]
        for side in ("train", "test"):
            files = [body for file, body in found.items() if file.startswith(f"{side}/") and not file.endswith(".parquet")]
            theirs = [one.trace_id.encode() for one in examples if one.split == side]
            others = [one.trace_id.encode() for one in examples if one.split != side]
            told_there = b"".join(files)
            if files:
                assert all(one in told_there for one in theirs)
                assert not any(one in told_there for one in others)
    assert sides[0].isdisjoint(sides[1])
    manifest(tmp_path / "p")


@given(st.text(), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_a_larger_test_set_keeps_what_the_smaller_had(signature: str, one: float, other: float) -> None:
    from evalforge.exports.examples import split_of

    small, large = sorted((one, other))
    assert split_of(signature, small) == "train" or split_of(signature, large) == "test"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"format": "xml"}, "format"),
        ({"format": "../x"}, "format"),
        ({"per_group": 0}, "per_group"),
        ({"test_share": 0.0}, "test_share"),
        ({"test_share": 1.0}, "test_share"),
        ({"test_share": float("nan")}, "test_share"),
    ],
)
def test_shapes_that_are_none(values: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        Shape(**values)
    assert caught.value.field == field


async def test_what_makes_several_files_needs_a_folder(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1)], now=NOW)
    one_file = Destination(path=tmp_path / "x")
    for shape, of_user in (
        (Shape("promptfoo"), None),
        (Shape(test_share=0.5), None),
        (Shape(per_group=1), OfUser(frozenset({"u"}))),
    ):
        with pytest.raises(RequestError):
            await write_package(store, Selection(), one_file, now=NOW, shape=shape, of_user=of_user)
    with pytest.raises(RequestError, match="one file"):
        await written(store, tmp_path / "y", "jsonl", of_user=OfUser(frozenset({"u"})))
    assert list(await store.packages()) == []
    assert entries(tmp_path) == []


# -- places ---------------------------------------------------------------------------------------------------------------


async def test_an_empty_folder_is_taken_and_a_package_only_with_force(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1), told(2)], now=NOW)
    (tmp_path / "p").mkdir()
    first = await written(store, tmp_path / "p", limit=1)
    with pytest.raises(RequestError, match="--force"):
        await written(store, tmp_path / "p")
    assert manifest(tmp_path / "p")["package"]["id"] == first.package.id
    second = await written(store, tmp_path / "p", "deepeval", overwrite=True)
    assert manifest(tmp_path / "p")["package"]["id"] == second.package.id
    assert not (tmp_path / "p" / "tests.yaml").exists(), "nothing of the other is left"
    assert entries(tmp_path) == ["p"]


@pytest.mark.parametrize("there", ["file", "link", "dangling link", "others' folder", "others' manifest"])
async def test_what_is_nobody_s_package_is_never_replaced(store: SqliteStore, tmp_path: Path, there: str) -> None:
    await store.upsert([told(1)], now=NOW)
    path, precious = tmp_path / "p", tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    if there == "file":
        path.write_text("x")
    elif there == "link":
        path.symlink_to(precious)
    elif there == "dangling link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.mkdir()
        (path / "manifest.json").write_text('{"package": {"id": "mine"}}' if "manifest" in there else "[" * 5_000)
    before = everything(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(RequestError):
            await written(store, path, overwrite=overwrite)
    assert everything(tmp_path) == before
    assert [one.reason for one in await store.packages()] == ["bad_request"] * 2


async def test_a_place_that_cannot_be_written_is_told(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1)], now=NOW)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match="the folder cannot be written"):
        await written(store, tmp_path / "file" / "p")
    with pytest.raises(SettingsError, match="EXPORT_DESTINATIONS"):
        await write_package(store, Selection(), Destination("evals", folder=tmp_path / "file"), now=NOW)
    assert [(one.state, one.reason) for one in await store.packages()].count(("failed", "bad_settings")) == 1


# -- faults ---------------------------------------------------------------------------------------------------------------


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """The system refuses to let a file grow beyond this, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["jsonl", "promptfoo"])
async def test_a_disk_that_takes_no_more_leaves_nothing_and_a_record(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await store.upsert([told(number, "why? " * 400) for number in range(60)], now=NOW)
    with files_at_most(40_000), pytest.raises(RequestError, match="cannot be written"):
        await written(store, tmp_path / "p", name)
    assert entries(tmp_path) == []
    [record] = await store.packages()
    assert (record.state, record.count, record.files) == ("failed", 0, ())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
async def test_a_full_disk_is_recorded_as_one(store: SqliteStore) -> None:
    await store.upsert([told(1)], now=NOW)
    with open("/dev/full", "wb") as full:  # noqa: ASYNC230
        with pytest.raises(RequestError, match="No space left"):
            await write_package(store, Selection(), Destination(stream=full), now=NOW)
        with pytest.raises(OSError, match="No space left"):  # what waits in its buffer
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    [record] = await store.packages()
    assert (record.state, record.reason) == ("failed", "disk_full")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DestinationUnavailableError("down"), "destination_unavailable"),
        (ZeroDivisionError(), "unexpected"),
        (KeyboardInterrupt(), "interrupted"),
        (asyncio.CancelledError(), "interrupted"),
    ],
)
async def test_however_a_delivery_ends_the_record_says_so(store: SqliteStore, error: BaseException, reason: str) -> None:
    await store.upsert([told(1)], now=NOW)
    destination = Destination("away", away=Outpost(fails_after=1, error=error))
    with pytest.raises(type(error)):
        await write_package(store, Selection(), destination, now=NOW, shape=Shape("promptfoo"))
    [record] = await store.packages()
    assert (record.state, record.reason) == ("failed", reason)
    assert record.files, "something may have gone out: an erasure tells a person of it"


async def test_a_process_that_died_leaves_an_abandoned_package(store: SqliteStore) -> None:
    package = ExportPackage("p", NOW, "jsonl", "evals", {}, 0, "", 0, "pending", attempted_at=NOW)
    assert shown_state(package, NOW + timedelta(seconds=60), 60) == "pending"
    assert shown_state(package, NOW + timedelta(seconds=61), 60) == "abandoned"
    again = replace(package, attempted_at=NOW + timedelta(seconds=100))
    assert shown_state(again, NOW + timedelta(seconds=120), 60) == "pending"
    assert shown_state(replace(package, state="failed"), NOW + timedelta(days=9), 60) == "failed"


class _Erasing(SqliteStore):
    """A store in which something is erased at the second look, or the third."""

    changes_at = 2
    looks = 0

    async def erasure_epoch(self) -> str:
        self.looks += 1
        return "a" if self.looks < self.changes_at else "b"


@pytest.mark.parametrize("changes_at", [2, 3])
@pytest.mark.parametrize("where", ["folder", "own", "away", "away for good"])
async def test_what_was_erased_meanwhile_is_withdrawn(tmp_path: Path, changes_at: int, where: str) -> None:
    store = _Erasing(":memory:", prefix="evalforge_")
    store.changes_at = changes_at
    await store.upsert([told(1)], now=NOW)
    outpost = Outpost()
    outpost.can_withdraw = where != "away for good"
    destination = {
        "folder": Destination("evals", folder=tmp_path),
        "own": Destination(path=tmp_path / "p", is_package=True),
    }.get(where, Destination("away", away=outpost))
    with pytest.raises(ErasedMeanwhileError, match="export again") as caught:
        await write_package(store, Selection(), destination, now=NOW, shape=Shape("promptfoo"))
    [record] = await store.packages()
    assert (record.state, record.reason) == ("failed", "erased_meanwhile")
    stays = where == "away for good" and changes_at == 3
    assert ("have whoever received" in caught.value.message) == stays
    assert bool(record.files) == stays
    assert bool(outpost.got) == stays
    assert entries(tmp_path) == []
    await store.close()


# -- once more ------------------------------------------------------------------------------------------------------------


async def failed_away(store: SqliteStore, name: str = "promptfoo") -> tuple[ExportPackage, Outpost]:
    outpost = Outpost(fails_after=2)
    destination = Destination("away", away=outpost)
    with pytest.raises(DestinationUnavailableError):
        await write_package(store, Selection(env="prod"), destination, now=NOW, shape=Shape(name, 5, 0.3))
    [record] = await store.packages()
    return record, outpost


async def again(store: SqliteStore, package: ExportPackage, outpost: Outpost) -> Written:
    destination = Destination("away", away=outpost)
    selection = selection_of_record(package.selection)
    return await write_again(store, package, selection, destination, now=NOW + timedelta(1), expected_outputs={})


async def test_a_failed_package_is_delivered_again_with_the_same_bytes(store: SqliteStore) -> None:
    await store.upsert([told(number) for number in range(3)], now=NOW)
    failed, _ = await failed_away(store)
    await store.upsert([told(9)], now=NOW)  # came later: none of this package's
    outpost = Outpost()
    made = await again(store, failed, outpost)
    assert made.differs is False
    assert [name for name, _ in outpost.got][-1] == "manifest.json"
    [record] = await store.packages()
    assert (record.id, record.created_at, record.attempts, record.state) == (failed.id, NOW, 2, "delivered")
    assert (record.sha256, record.attempted_at) == (failed.sha256, NOW + timedelta(1))
    assert json.loads(dict(outpost.got)["manifest.json"])["package"]["id"] == failed.id


async def test_captures_that_are_gone_make_other_bytes_and_are_told(store: SqliteStore) -> None:
    await store.upsert([told(number) for number in range(3)], now=NOW)
    failed, _ = await failed_away(store)
    await store.delete_captures([trace_id_of(1)])
    made = await again(store, failed, Outpost())
    assert (made.differs, made.package.count) == (True, 2)
    await store.delete_captures([trace_id_of(0), trace_id_of(2)])
    with pytest.raises(NothingToExportError):
        await again(store, failed, Outpost())


async def test_what_cannot_be_selected_again_is_refused() -> None:
    for odd in ({"user": True}, {"limit": 3, "sql": "x"}, {"started_from": "yesterday"}, {"signatures": 7}):
        with pytest.raises(RequestError):
            selection_of_record(odd)
    whole = Selection(NOW, NOW, "http_error", "high", "a", "b", "m", "e", ("s1_" + "0" * 32,), 7)
    assert selection_of_record(whole.document()) == whole


# -- hostile --------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[2J",
    "\ud800",
    "\x00",
    "{{7*7}}",
    "{% raw %}",
    "=HYPERLINK(1)",
    "]]>",
    "a\u2028b",
    '"\n- x: !!python',
    "[" * 300,
]


@pytest.mark.parametrize("name", MADE_FORMATS)
async def test_hostile_texts_make_packages_of_as_many_lines(store: SqliteStore, tmp_path: Path, name: str) -> None:
    await store.upsert(
        [told(number, text + " ?", text, env=text[:20] or "e") for number, text in enumerate(HOSTILE)], now=NOW
    )
    made = await written(store, tmp_path / "p", name)
    assert made.package.count == len(HOSTILE)
    manifest(tmp_path / "p")
    if name != "jsonl":
        assert {one.input for one in examples_in(tmp_path / "p")} == {text + " ?" for text in HOSTILE}
    assert SITE.encode() in b"".join(content(tmp_path / "p").values()) or name == "huggingface"


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=400))
def test_no_manifest_makes_a_folder_ours_but_ours(tmp_path_factory: pytest.TempPathFactory, body: bytes) -> None:
    from evalforge.exports.manifest import id_in

    folder = tmp_path_factory.mktemp("m")
    (folder / "manifest.json").write_bytes(body)
    assert id_in(folder) is None


def test_drafts_are_known_by_their_names(tmp_path: Path) -> None:
    for name in (".p.0123.part", ".p.0123.old", "p", ".q.0123.part", ".p"):
        (tmp_path / name).mkdir()
    assert sorted(one.name for one in drafts_of(tmp_path / "p")) == [".p.0123.old", ".p.0123.part"]
    assert drafts_of(tmp_path / "nowhere" / "p") == []


@pytest.mark.skipif(HAS_PARQUET, reason="pyarrow is installed")
async def test_a_format_whose_extra_is_missing_says_how_to_get_it(store: SqliteStore, tmp_path: Path) -> None:
    await store.upsert([told(1)], now=NOW)
    with pytest.raises(SettingsError, match="evalforge-ingestion"):
        await written(store, tmp_path / "p", "huggingface")
    [record] = await store.packages()
    assert (record.state, record.reason) == ("failed", "bad_settings")
    assert entries(tmp_path) == []


def test_every_format_is_known_once() -> None:
    assert FORMAT_NAMES[0] == "jsonl"
    assert len(set(FORMAT_NAMES)) == len(FORMAT_NAMES) == len(FORMATS) + 1
