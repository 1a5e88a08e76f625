"""Packages in Cloud Storage, with the official client, against a server of the real protocol."""

from __future__ import annotations

import json
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from evalforge.core.ports import ExportPackage, Selection
from evalforge.errors import DestinationRefusedError, DestinationUnavailableError, ErasedMeanwhileError
from evalforge.exports import Destination, Shape, Written, write_again, write_package
from evalforge.exports.buckets import Bucket
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW
from tests.packages import told
from tests.storage import Storage, storage

__all__ = ["storage"]

SHAPE = Shape("promptfoo", test_share=0.5)


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    await opened.upsert([told(number, ml_app=f"app-{number}") for number in range(5)], now=NOW)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def nothing_goes_on() -> Iterator[None]:
    """No export leaves a thread behind that goes on asking."""
    before = {thread.ident for thread in threading.enumerate()}
    yield
    left = [thread.name for thread in threading.enumerate() if thread.ident not in before]
    assert [name for name in left if "background" in name] == []


@pytest.fixture
def bucket(storage: Storage) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    storage.make_bucket(name)
    return name


def to(storage: Storage, bucket: str, prefix: str = "team/evals", retry_budget_s: float = 5) -> Destination:
    away = Bucket("evals", bucket, prefix, project="p", endpoint=storage.address, retry_budget_s=retry_budget_s)
    return Destination("evals", away=away)


async def made(store: SqliteStore, destination: Destination) -> Written:
    return await write_package(store, Selection(), destination, now=NOW, shape=SHAPE)


async def last(store: SqliteStore) -> ExportPackage:
    return (await store.packages())[0]


async def test_a_package_arrives_whole_and_says_what_it_is(store: SqliteStore, storage: Storage, bucket: str) -> None:
    package = (await made(store, to(storage, bucket))).package
    found = storage.objects(bucket)
    prefix = f"team/evals/{package.id}/"
    assert {name.removeprefix(prefix) for name in found} == {*(one.name for one in package.files), "manifest.json"}
    for one in package.files:
        told_there = found[prefix + one.name]
        assert told_there["metadata"] == {"evalforge-package": package.id, "evalforge-sha256": one.sha256}
        assert int(told_there["size"]) == one.size_bytes
        assert len(storage.read(bucket, prefix + one.name)) == one.size_bytes
    manifest = json.loads(storage.read(bucket, prefix + "manifest.json"))
    assert manifest["package"]["id"] == package.id
    assert found[prefix + "train/tests.yaml"]["contentType"] == "application/yaml"
    assert found[prefix + "manifest.json"]["timeCreated"] == max(one["timeCreated"] for one in found.values()), (
        "it is the last"
    )
    assert (await last(store)).state == "delivered"


async def test_without_a_prefix_the_package_stands_at_the_top(store: SqliteStore, storage: Storage, bucket: str) -> None:
    package = (await made(store, to(storage, bucket, ""))).package
    assert all(name.startswith(f"{package.id}/") for name in storage.objects(bucket))


async def test_nothing_of_anybody_s_is_written_over(
    store: SqliteStore, storage: Storage, bucket: str, tmp_path: Path
) -> None:
    package = (await made(store, Destination("evals", folder=tmp_path))).package
    place = f"team/evals/{package.id}/examples.jsonl"
    storage.put(bucket, place, b"somebody else's")
    failed = replace(package, state="failed")
    with pytest.raises(DestinationRefusedError, match="did not write"):
        await again(store, failed, to(storage, bucket))
    assert storage.read(bucket, place) == b"somebody else's"
    assert list(storage.objects(bucket)) == [place], "what it had sent is taken away again"
    assert ((await last(store)).state, (await last(store)).reason) == ("failed", "destination_refused")


async def again(store: SqliteStore, package: ExportPackage, destination: Destination) -> Written:
    return await write_again(store, package, Selection(), destination, now=NOW + timedelta(1), expected_outputs={})


async def test_what_an_attempt_that_died_has_sent_is_kept_or_replaced(
    store: SqliteStore, storage: Storage, bucket: str
) -> None:
    package = (await made(store, to(storage, bucket))).package
    before = storage.objects(bucket)
    same = await again(store, replace(package, state="pending"), to(storage, bucket))
    assert same.differs is False
    after = storage.objects(bucket)
    manifest = f"team/evals/{package.id}/manifest.json"
    assert {name for name in after if after[name]["generation"] != before[name]["generation"]} <= {manifest}
    await store.upsert([told(2, ml_app="app-2", span_id="9")], now=NOW)  # the capture has changed
    other = await again(store, replace(package, state="failed"), to(storage, bucket))
    assert other.differs is True
    assert storage.objects(bucket).keys() == before.keys()
    source = storage.read(bucket, f"team/evals/{package.id}/examples.jsonl")
    assert len(source) == next(one.size_bytes for one in other.package.files if one.name == "examples.jsonl")


async def test_a_bucket_that_is_not_there_is_refused_and_recorded(store: SqliteStore, storage: Storage) -> None:
    with pytest.raises(DestinationRefusedError, match="does not exist"):
        await made(store, to(storage, "no-such-bucket"))
    assert ((await last(store)).state, (await last(store)).reason) == ("failed", "destination_refused")


async def test_a_server_that_is_down_is_unavailable_and_recorded(store: SqliteStore) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        away = Bucket("evals", "b", "", project=None, endpoint=f"127.0.0.1:{taken.getsockname()[1]}", retry_budget_s=0.2)
        pytest.importorskip("google.cloud.storage")
        with pytest.raises(DestinationUnavailableError) as caught:
            await made(store, Destination("evals", away=away))
    assert (caught.value.exit_code, caught.value.http_status) == (13, 502)
    assert ((await last(store)).state, (await last(store)).reason) == ("failed", "destination_unavailable")


async def test_what_was_erased_meanwhile_is_taken_out_of_the_bucket(storage: Storage, bucket: str) -> None:
    class Erasing(SqliteStore):
        looks = 0

        async def erasure_epoch(self) -> str:
            self.looks += 1
            return "a" if self.looks < 3 else "b"

    store = Erasing(":memory:", prefix="evalforge_")
    await store.upsert([told(1), told(2, ml_app="b")], now=NOW)
    with pytest.raises(ErasedMeanwhileError) as caught:
        await made(store, to(storage, bucket))
    assert "have whoever received" not in caught.value.message
    assert storage.objects(bucket) == {}
    assert (await last(store)).files == ()
    await store.close()


@pytest.mark.long
async def test_many_megabytes_arrive_as_they_are(store: SqliteStore, storage: Storage, bucket: str) -> None:
    await store.upsert([told(number, f"{number} why? " * 1_900) for number in range(100, 700)], now=NOW)
    destination = to(storage, bucket)
    package = (await write_package(store, Selection(), destination, now=NOW, shape=Shape("deepeval"))).package
    assert package.size_bytes > 10_000_000
    source = next(one for one in package.files if one.name == "examples.jsonl")
    assert len(storage.read(bucket, f"team/evals/{package.id}/examples.jsonl")) == source.size_bytes
