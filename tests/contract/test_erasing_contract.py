"""What every store promises of erasing and upkeep, run on each."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest

from evalforge.core.capture import FailureCapture, document_id
from evalforge.core.ports import (
    COLLECTIONS,
    LOOKBACK,
    Checkpoint,
    Coverage,
    DeadLetter,
    Erasure,
    ExportPackage,
    Lease,
    RunRecord,
    Store,
    Told,
)
from evalforge.core.privacy import KeyRing
from evalforge.core.review import Review
from evalforge.core.tombstones import Tombstones, trace_key
from evalforge.core.window import Window
from evalforge.erasure import Packages, PackagesErased, erase_again
from evalforge.errors import SkippableError, StoreError
from evalforge.inventory import PLACES
from tests.captures import NOW, START_NS, capture, captures, merged, trace_id_of
from tests.contract.stores import Place

LATER = NOW + timedelta(minutes=5)
AFTER_EXPIRY = NOW + timedelta(days=181)
ANN, BEA = "u1a2b_" + "a" * 32, "u1a2b_" + "b" * 32
T = TypeVar("T")


async def all_of(stream: AsyncIterator[T]) -> list[T]:
    return [one async for one in stream]


async def traces_of(store: Store, *user_hashes: str) -> list[str]:
    return sorted([found.capture.trace_id async for found in store.captures_of_users(frozenset(user_hashes))])


def ids(*numbers: int) -> list[str]:
    return [trace_id_of(number) for number in numbers]


def letter(name: str, trace_id: str | None) -> DeadLetter:
    return DeadLetter(
        name, "llm_obs", "sanitize", "unexpected_error", {}, NOW, NOW + timedelta(days=30), trace_id=trace_id, span_id="1"
    )


def erasure(name: str = "erasure_1", key_count: int = 2, **others: Any) -> Erasure:
    keys = tuple(f"{number:032x}" for number in range(key_count))
    fields: dict[str, Any] = {"erased_at": NOW, "kind": "user", "actor": "cli", "user_hashes": (ANN,), "trace_keys": keys}
    return Erasure(id=name, **{**fields, **others})


# -- users in captures


async def test_upsert_says_which_captures_name_no_user_afterwards(store: Store) -> None:
    nobody = [capture(1, user_hash=None), capture(2, user_hash=None), capture(3)]
    first = await store.upsert(nobody, now=NOW)
    assert sorted(first.without_user) == ids(1, 2)
    again = await store.upsert([*nobody[:1], capture(4)], now=LATER)
    assert (list(again.unchanged), list(again.without_user)) == (ids(1), ids(1))
    named = await store.upsert([capture(1, user_hash=ANN), capture(3, "2", user_hash=None)], now=LATER)
    assert (sorted(named.updated), list(named.without_user)) == (ids(1, 3), [])
    known = await store.upsert([capture(1, user_hash=None), capture(3, "2", user_hash=None)], now=LATER)
    assert (sorted(known.unchanged), list(known.without_user)) == (ids(1, 3), []), "the stored document names one"
    still = await store.upsert([capture(2, "2", user_hash=None)], now=LATER)
    assert (list(still.updated), list(still.without_user)) == (ids(2), ids(2))
    poison = dataclasses.replace(capture(9, user_hash=None), status_code=object())  # type: ignore[arg-type]
    assert list((await store.upsert([poison], now=LATER)).without_user) == []


async def test_the_captures_of_a_user_are_found_whatever_their_state(store: Store, place: Place) -> None:
    both = merged(capture(3, "1", user_hash=BEA), capture(3, "2", user_hash=ANN, start_ns=START_NS + 9))
    old = capture(4, user_hash=ANN, fetched_at=NOW - timedelta(days=400))
    await store.upsert(
        [capture(1, user_hash=ANN), capture(2, user_hash=BEA), both, old, capture(5, user_hash=None)], now=NOW
    )
    await store.upsert([capture(6, user_hash=ANN)], now=NOW)
    await place.vandalize(trace_id_of(6))
    assert await traces_of(store, ANN) == ids(1, 3, 4), "expired ones too, unreadable ones not"
    assert await traces_of(store, BEA) == ids(2, 3)
    assert await traces_of(store, ANN, BEA, *(f"u0000_{number:032x}" for number in range(70))) == ids(1, 2, 3, 4)
    assert await traces_of(store) == await traces_of(store, "u1a2b_none", "", "\ud800", "%", "x' OR 1") == []
    [one] = [found async for found in store.captures_of_users(frozenset({ANN})) if found.capture.trace_id == trace_id_of(3)]
    assert one.capture == both


async def test_many_captures_of_a_user_come_page_by_page(store: Store) -> None:
    mine = captures(450, user_hash=ANN)
    await store.upsert([*mine, capture(900, user_hash=BEA)], now=NOW)
    assert await traces_of(store, ANN) == sorted(one.trace_id for one in mine)
    assert await store.delete_captures([], user_hashes=frozenset({ANN})) == 450
    assert await traces_of(store, ANN) == []
    assert await store.count(now=NOW) == 1


# -- deleting


async def test_captures_are_deleted_by_trace_and_counted(store: Store) -> None:
    await store.upsert([*captures(4), capture(5, fetched_at=NOW - timedelta(days=400))], now=NOW)
    assert await store.delete_captures([]) == 0
    assert await store.delete_captures([*ids(1, 2, 5, 2), "no such trace", "\ud800", "", "../x"]) == 3
    assert await store.delete_captures(ids(1, 2, 5)) == 0
    assert await store.count(now=NOW) == 2
    assert list((await store.upsert([capture(1)], now=NOW)).created) == ids(1)


async def test_captures_are_deleted_by_user_even_when_they_cannot_be_read(store: Store, place: Place) -> None:
    await store.upsert([capture(1, user_hash=ANN), capture(2, user_hash=ANN), capture(3, user_hash=BEA)], now=NOW)
    await place.vandalize(trace_id_of(2))
    assert await store.delete_captures(ids(3), user_hashes=frozenset({ANN})) == 3
    assert await all_of(store.documents("raw_traces")) == []


async def test_a_text_that_looks_like_a_users_hash_does_not_make_a_capture_theirs(store: Store) -> None:
    await store.upsert([capture(1, user_hash=BEA, payload={"note": ANN, "user_hashes": [ANN]})], now=NOW)
    assert await traces_of(store, ANN) == []
    assert await store.delete_captures([], user_hashes=frozenset({ANN})) == 0


async def test_what_a_tombstone_buries_is_erased_again(store: Store) -> None:
    """As after a restore: the tombstones are there, and so is what they are about."""
    mine = [capture(1, user_hash=ANN), capture(2, user_hash=ANN, fetched_at=NOW - timedelta(days=400))]
    await store.upsert([*mine, capture(3, user_hash=BEA), capture(4, user_hash=BEA)], now=NOW)
    await store.keep([letter("a", trace_id_of(1)), letter("b", trace_id_of(3)), letter("c", trace_id_of(4))])
    await store.save_erasure(erasure(key_count=0, erased_at=NOW + timedelta(days=1)))
    key = trace_key(trace_id_of(4), KeyRing(()))
    await store.save_erasure(erasure("trace", 0, kind="trace", user_hashes=(), trace_keys=(key,)))

    async def nothing(earliest: datetime) -> tuple[str, ...]:
        return ()

    async def no_rows(tombstones: Tombstones) -> PackagesErased:
        return PackagesErased()

    for expected in (
        {"captures": 3, "dead_letters": 2, "export_rows": 0},
        {"captures": 0, "dead_letters": 0, "export_rows": 0},
    ):
        assert await erase_again(store, KeyRing(()), Packages(nothing, no_rows), clock=lambda: NOW) == expected
    assert [stored.document["trace_id"] async for stored in store.documents("raw_traces")] == ids(3)


async def test_dead_letters_are_deleted_by_trace(store: Store) -> None:
    await store.keep([letter("a", "1"), letter("b", "1"), letter("c", "2"), letter("d", None), letter("e", "t_\ud800")])
    assert await store.delete_dead_letters([]) == 0
    assert await store.delete_dead_letters(["1", "1", "none", "\ud800", ""]) == 2
    assert await store.delete_dead_letters(["1"]) == 0
    assert await store.dead_letter_count(now=NOW) == 3


async def test_letters_about_many_traces(store: Store) -> None:
    await store.keep([letter(str(number), str(number)) for number in range(150)])
    assert await store.delete_dead_letters([str(number) for number in range(40, 140)]) == 100
    assert await store.dead_letter_count(now=NOW) == 50


# -- tombstones


async def test_a_saved_erasure_comes_back_and_changes_the_epoch(store: Store) -> None:
    assert await store.erasure_epoch() == ""
    assert await all_of(store.erasures()) == []
    first = erasure(counts={"raw_traces": 3, "dead_letters": 0}, tasks=("delete the file", "…"), actor="Jürgen \u2028 x")
    await store.save_erasure(first)
    epochs = [await store.erasure_epoch()]
    assert epochs[0] == await store.erasure_epoch() != ""
    assert await all_of(store.erasures()) == [first]
    grown = dataclasses.replace(first, trace_keys=(*first.trace_keys, "f" * 32), counts={"raw_traces": 4})
    await store.save_erasure(grown)
    await store.save_erasure(grown)
    assert await all_of(store.erasures()) == [grown]
    await store.save_erasure(erasure("trace", 0, kind="trace", user_hashes=()))
    epochs.append(await store.erasure_epoch())
    assert len(set(epochs)) == 2


async def test_erasures_come_the_oldest_first(store: Store) -> None:
    made = [erasure(f"e{number}", erased_at=NOW - timedelta(seconds=number % 7)) for number in range(45)]
    for one in made:
        await store.save_erasure(one)
    assert await all_of(store.erasures()) == sorted(made, key=lambda one: (one.erased_at, one.id))


async def test_a_record_with_very_many_trace_keys_is_whole_and_in_order(store: Store) -> None:
    big = erasure("big", 130_000)
    await store.save_erasure(big)
    await store.save_erasure(erasure("big.2", 1))
    await store.save_erasure(
        dataclasses.replace(big, trace_keys=(*big.trace_keys, "e" * 32), counts={"raw_traces": 130_000})
    )
    found = {one.id: one for one in await all_of(store.erasures())}
    assert found["big"].trace_keys == (*big.trace_keys, "e" * 32)
    assert len(found["big.2"].trace_keys) == 1


@pytest.mark.parametrize("name", ["../..", "\ud800", "a/b", "__x__", "x" * 2_000, "a~1", ""])
async def test_odd_names_of_erasures_are_kept_apart(store: Store, name: str) -> None:
    if name == "\ud800":
        name = "é" * 400
    await store.save_erasure(erasure(name))
    await store.save_erasure(erasure("a", 1))
    assert {one.id for one in await all_of(store.erasures())} == {name, "a"}


@pytest.mark.parametrize("key", ["", "A" * 32, "0" * 31, "0" * 33, "z" * 32])
async def test_a_trace_key_that_is_none_is_refused_before_anything_is_written(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="trace key"):
        await store.save_erasure(erasure(trace_keys=(key,)))
    assert await store.erasure_epoch() == ""


async def test_whoever_sees_a_new_epoch_finds_the_record(place: Place) -> None:
    writer, reader = place.open(), place.open()
    seen = ""

    async def write() -> None:
        for number in range(12):
            await writer.save_erasure(erasure(f"e{number:02}"))

    async def read() -> None:
        nonlocal seen
        count = 0
        while count < 12:
            epoch = await reader.erasure_epoch()
            known = len(await all_of(reader.erasures()))
            assert known >= count
            if epoch != seen:
                seen, count = epoch, known

    await asyncio.wait_for(asyncio.gather(write(), read()), 60)
    for opened in (writer, reader):
        await opened.close()


async def test_a_damaged_tombstone_is_an_error_and_not_overlooked(store: Store, place: Place) -> None:
    await store.save_erasure(erasure())
    await place.plant("tombstones", "f0reign")
    with pytest.raises(StoreError, match="f0reign"):
        await all_of(store.erasures())


# -- upkeep


async def fill(store: Store) -> None:
    await store.upsert(captures(3), now=NOW)
    await store.keep([letter("a", "1"), letter("b", "2")])
    await store.save_package(ExportPackage("p1", NOW, "jsonl", "file", {}, 1, "ab", 9, "delivered", erased_count=4))
    await store.save_checkpoint(Checkpoint("llm_obs", Window(0, 1)), fence=1)
    await store.save_checkpoint(Checkpoint("apm", Window(0, 1)), fence=1)
    await store.save_coverage(Coverage("apm", "d", NOW, (Window(0, 1),)))
    await store.save_review(Review("s1_touched"))
    await store.save_told(Told("0a1b", frozenset({"s1_told"}), {"s1_again": NOW}))
    await store.save_run(RunRecord("run_1", "running", "window", "host", "ci", NOW, LATER))
    await store.acquire_lease(Lease("ingestion", "host", "token", NOW, LATER), now=NOW)
    await store.remember_key_ids(frozenset({"1a2b", "3c4d"}))
    await store.save_erasure(erasure())


async def test_an_export_record_keeps_how_many_rows_were_erased(store: Store) -> None:
    await fill(store)
    assert [package.erased_count for package in await store.packages()] == [4]


async def test_every_document_of_every_collection_is_given(store: Store) -> None:
    await fill(store)
    found = {name: await all_of(store.documents(name)) for name in COLLECTIONS}
    assert [one.key for one in found["raw_traces"]] == sorted(document_id(one.trace_id) for one in captures(3))
    by_key = {one.capture.document_id: one for one in [await _get(store, number) for number in range(3)]}
    for one in found["raw_traces"]:
        assert (one.collection, one.document) == ("raw_traces", by_key[one.key].document)
        assert FailureCapture.from_document(one.document) == by_key[one.key].capture
    assert {one.document["trace_id"] for one in found["dead_letters"]} == {"1", "2"}
    assert [one.document["erased_count"] for one in found["exports"]] == [4]
    assert [one.document["user_hashes"] for one in found["tombstones"]] == [[ANN]]
    texts = repr([one.document for one in found["checkpoints"]])
    assert all(word in texts for word in ("llm_obs", "apm", "host", "token", "1a2b", "3c4d", "s1_told"))
    for documents in found.values():
        keys = [one.key for one in documents]
        assert keys == sorted(set(keys))


async def test_every_field_that_is_written_is_in_the_inventory(store: Store) -> None:
    await fill(store)
    await store.save_erasure(erasure("erasure_2", key_count=40_001, tasks=("t",)))
    for collection in COLLECTIONS:
        places = [place for place in PLACES if f"{{prefix}}{collection}`" in place.title]
        told = {name for place in places for name in place.names}
        written = {name async for one in store.documents(collection) for name in one.document}
        assert written
        assert written - told == set()


async def _get(store: Store, number: int) -> Any:
    found = await store.get(trace_id_of(number), now=NOW)
    assert found is not None
    return found


async def test_documents_go_on_after_any_key_and_hold_still_across_pages(store: Store) -> None:
    await fill(store)
    await store.upsert(captures(450), now=NOW)
    for name in COLLECTIONS:
        keys = [one.key for one in await all_of(store.documents(name))]
        for position in {0, 1, len(keys) // 2, len(keys) - 1} & set(range(len(keys))):
            rest = [one.key for one in await all_of(store.documents(name, after=keys[position]))]
            assert rest == keys[position + 1 :]
        assert await all_of(store.documents(name, after="~~~")) == []
    assert len(await all_of(store.documents("raw_traces"))) == 450


async def test_documents_that_are_none_of_ours_or_expired_are_given_too(store: Store, place: Place) -> None:
    await store.upsert([capture(1, fetched_at=NOW - timedelta(days=400)), capture(2)], now=NOW)
    await place.vandalize(trace_id_of(2))
    for name in ("raw_traces", "dead_letters", "exports", "checkpoints", "tombstones"):
        await place.plant(name, "f0reign")
        found = {one.key.removeprefix("source_"): one for one in await all_of(store.documents(name))}
        assert "foreign" in repr(found["f0reign"].document)
    assert len(await all_of(store.documents("raw_traces"))) == 3


async def test_a_rewrite_replaces_the_facts_and_nothing_else(store: Store, place: Place) -> None:
    await store.upsert([capture()], now=NOW)
    await place.review(trace_id_of(1), {"review_state": "confirmed", "processed": True, "notes": "seen"})
    [before] = await all_of(store.documents("raw_traces"))
    clean = dataclasses.replace(capture(), payload={"name": "clean"})
    assert await store.rewrite(clean, before, now=LATER) is True
    found = await store.get(trace_id_of(1), now=NOW)
    assert found is not None
    assert (found.capture, found.processed, found.updated_at) == (clean, True, LATER)
    assert (found.document["review_state"], found.document["notes"]) == ("confirmed", "seen")
    assert await store.rewrite(capture(), before, now=LATER) is False, "it has another version now"
    assert (await _get(store, 1)).capture == clean
    assert list((await store.upsert([clean], now=LATER)).unchanged) == ids(1)


async def test_a_rewrite_gives_way_to_anybody_who_wrote_meanwhile(store: Store, place: Place) -> None:
    await store.upsert([capture()], now=NOW)
    for change in ({"processed": True}, {"review_state": "new"}, {"review_state": "done"}):
        [before] = await all_of(store.documents("raw_traces"))
        await place.review(trace_id_of(1), change)
        assert await store.rewrite(capture(), before, now=LATER) is False
    [before] = await all_of(store.documents("raw_traces"))
    await store.delete_captures(ids(1))
    assert await store.rewrite(capture(), before, now=LATER) is False
    assert await all_of(store.documents("raw_traces")) == []


async def test_a_rewrite_of_another_capture_or_of_poison_is_refused(store: Store) -> None:
    await store.upsert([capture()], now=NOW)
    [before] = await all_of(store.documents("raw_traces"))
    with pytest.raises(ValueError, match="own place"):
        await store.rewrite(capture(2), before, now=LATER)
    with pytest.raises(ValueError, match="own place"):
        await store.rewrite(capture(), dataclasses.replace(before, collection="exports"), now=LATER)
    with pytest.raises(SkippableError):
        await store.rewrite(dataclasses.replace(capture(), started_ns=10**30), before, now=LATER)
    assert await all_of(store.documents("raw_traces")) == [before]


async def test_purging_leaves_nothing_and_can_be_repeated(store: Store, place: Place) -> None:
    await fill(store)
    await store.upsert(captures(700), now=NOW)
    await place.plant("raw_traces", "f0reign")
    expected = {name: len(await all_of(store.documents(name))) for name in COLLECTIONS}
    heard: list[tuple[str, int]] = []
    assert dict(await store.purge(on_deleted=lambda name, count: heard.append((name, count)))) == expected
    assert {name: sum(count for of, count in heard if of == name) for name in COLLECTIONS} == expected
    assert len(heard) > len(COLLECTIONS) - 1
    assert await _documents(store) == []
    assert set((await store.purge()).values()) == {0}
    await fill(store)
    assert await store.count(now=NOW) == 3


async def test_purging_one_prefix_leaves_the_others(store: Store, place: Place) -> None:
    await fill(store)
    other = type(store)(*_arguments(place), prefix="other_", **_options(place))  # type: ignore[call-arg]
    await other.upsert(captures(2), now=NOW)
    await store.purge()
    assert await other.count(now=NOW) == 2
    await other.close()


def _arguments(place: Any) -> Sequence[str]:
    return [str(place.path)] if hasattr(place, "path") else [place.project]


def _options(place: Any) -> dict[str, str]:
    return {} if hasattr(place, "path") else {"emulator_host": place.address}


async def _documents(store: Store) -> list[Any]:
    return [one for name in COLLECTIONS for one in await all_of(store.documents(name))]


async def test_what_has_expired_is_deleted_or_hidden(store: Store) -> None:
    await fill(store)
    await store.upsert([capture(7, fetched_at=NOW + timedelta(days=5))], now=NOW)
    hidden = await store.delete_expired(now=NOW) == 0
    assert hidden
    deleted = await store.delete_expired(now=AFTER_EXPIRY)
    assert deleted in (0, 6), "0 where the store does that by itself"
    if deleted:
        assert [one.document["trace_id"] for one in await all_of(store.documents("raw_traces"))] == ids(7)
        assert await all_of(store.documents("dead_letters")) == []
    assert await store.count(now=AFTER_EXPIRY) == 1
    assert await store.dead_letter_count(now=AFTER_EXPIRY) == 0
    assert len(await all_of(store.erasures())) == 1, "tombstones stay"
    assert await store.delete_expired(now=AFTER_EXPIRY) == 0


async def test_one_document_is_removed_only_as_it_was_seen(store: Store, place: Place) -> None:
    await store.upsert([capture(1), capture(2)], now=NOW)
    await store.keep([letter("a", None), letter("b", None)])
    await store.save_checkpoint(Checkpoint("apm", Window(0, 1)), fence=1)
    first, second = await all_of(store.documents("raw_traces"))
    await place.review(first.document["trace_id"], {"processed": True})
    assert not await store.remove(first)
    assert await store.remove(second)
    assert not await store.remove(second)
    [stale, gone] = await all_of(store.documents("dead_letters"))
    assert await store.remove(gone)
    assert [found.key for found in await all_of(store.documents("dead_letters"))] == [stale.key]
    [checkpoint] = [found for found in await all_of(store.documents("checkpoints")) if "cursor" in found.document]
    await store.save_checkpoint(Checkpoint("apm", Window(0, 2)), fence=1)
    assert not await store.remove(checkpoint)
    [checkpoint] = [found for found in await all_of(store.documents("checkpoints")) if "cursor" in found.document]
    assert await store.remove(checkpoint)
    assert not await store.load_checkpoints("apm", [LOOKBACK])
    assert [found.key for found in await all_of(store.documents("raw_traces"))] == [first.key]


async def test_what_the_second_net_finds_is_never_written(store: Store, place: Place) -> None:
    slipped = capture(1, payload={"name": "answer", "metadata": {"region": "jane.doe@shop.example.org"}})
    assert list((await store.upsert([slipped], now=NOW)).created) == ids(1)
    assert list((await store.upsert([slipped], now=LATER)).unchanged) == ids(1)
    fields = await place.fields(trace_id_of(1))
    assert fields is not None
    assert fields["trace_payload"]["metadata"] == {"region": "[redacted:text 25]"}
    assert fields["redactions"] == {"second_net": 1, "text": 2}
