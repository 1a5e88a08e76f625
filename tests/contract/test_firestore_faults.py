"""Firestore alone: what its network, its refusals and its absence do to an upsert."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from evalforge import google_credentials
from evalforge.core.ports import DeadLetter, Erasure, Selection, Store
from evalforge.errors import EvalForgeError, StoreError, StoreUnavailableError
from evalforge.stores.firestore import FirestoreStore
from evalforge.stores.firestore.connection import CHUNKS_IN_FLIGHT
from evalforge.stores.firestore.ramp import BURST, Ramp
from tests.captures import NOW, capture, captures, merged
from tests.contract.flaky_firestore import Fault, FlakyFirestore, Pass, Strike, answer_lost, partly, refused
from tests.contract.stores import PREFIX, FirestorePlace
from tests.emulator import free_port

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
USERS = frozenset({capture().user_hash or ""})
ERASURE = Erasure("e1", NOW, "user", "cli", tuple(USERS), tuple(f"{number:032x}" for number in range(90_000)))


async def all_of(stream: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in stream]


@pytest.fixture
async def flaky(firestore_emulator: str) -> AsyncIterator[FlakyFirestore]:
    async with FlakyFirestore(firestore_emulator) as server:
        yield server


@pytest.fixture
async def store(flaky: FlakyFirestore, place: FirestorePlace) -> AsyncIterator[FirestoreStore]:
    opened = FirestoreStore(place.project, prefix=PREFIX, emulator_host=flaky.address)
    yield opened
    await opened.close()


@pytest.fixture
def place(firestore_emulator: str) -> FirestorePlace:
    return FirestorePlace(firestore_emulator)


def impatient(flaky: FlakyFirestore, place: FirestorePlace, timeout_s: float = 0.4) -> FirestoreStore:
    return FirestoreStore(place.project, prefix=PREFIX, emulator_host=flaky.address, timeout_s=timeout_s)


@pytest.mark.parametrize(
    "faults",
    [
        [refused(UNAVAILABLE), refused(grpc.StatusCode.RESOURCE_EXHAUSTED), refused(grpc.StatusCode.ABORTED)],
        [refused(grpc.StatusCode.DEADLINE_EXCEEDED), refused(grpc.StatusCode.INTERNAL)],
        [partly(8, 10, 14), partly(4), partly(13)],
        [partly(6, 9, 5)],
        [refused(UNAVAILABLE), partly(10, 6)],
    ],
    ids=["requests fail", "requests fail otherwise", "writes fail", "conflicts that are none", "mixed"],
)
async def test_faults_that_pass_are_waited_for(flaky: FlakyFirestore, store: Store, faults: list[Fault]) -> None:
    flaky.faults.extend(faults)
    result = await store.upsert(captures(10), now=NOW)
    assert sorted(result.created) == sorted(one.trace_id for one in captures(10))
    assert not [*result.updated, *result.unchanged, *result.refused]
    assert not flaky.faults
    assert await store.count(now=NOW) == 10


async def test_an_answer_that_was_lost_does_no_harm(flaky: FlakyFirestore, store: Store) -> None:
    flaky.faults.append(answer_lost(UNAVAILABLE))
    result = await store.upsert(captures(10), now=NOW)
    assert len(result.created) + len(result.unchanged) == 10
    assert not result.refused
    flaky.faults.append(answer_lost(UNAVAILABLE))
    await store.upsert([capture(1, "2")], now=NOW)
    found = [stored.capture async for stored in store.select(Selection(), now=NOW)]
    known = {one.trace_id: one for one in captures(10)}
    one = known[capture(1).trace_id]
    assert len(found) == 10
    assert merged(one, capture(1, "2")) in found


async def test_one_read_for_each_capture_and_no_write_when_nothing_is_new(flaky: FlakyFirestore, store: Store) -> None:
    await store.upsert(captures(120), now=NOW)
    assert (sum(flaky.read_counts), sum(flaky.write_counts)) == (120, 120)
    assert max(flaky.write_counts) <= 50
    await store.upsert(captures(120), now=NOW)
    assert (sum(flaky.read_counts), sum(flaky.write_counts)) == (240, 120)


async def test_requests_stay_below_the_limit_in_bytes(flaky: FlakyFirestore, store: Store) -> None:
    text = {f"part {number}": "é" * 900 for number in range(280)}
    big = [dataclasses.replace(capture(number), payload=text) for number in range(20)]
    result = await store.upsert(big, now=NOW)
    assert len(result.created) == 20
    assert len(flaky.write_sizes) > 1
    assert max(flaky.write_sizes) < 1_600_000


async def test_so_many_requests_are_in_flight_and_no_more_whoever_writes(flaky: FlakyFirestore, store: Store) -> None:
    flying: list[int] = [0]

    async def slow(request: bytes, context: Any, forward: Pass) -> bytes:
        flying.append(flying[-1] + 1)
        await asyncio.sleep(0.05)
        answer = await forward(request)
        flying.append(flying[-1] - 1)
        return answer

    flaky.strikes.append(Strike(slow, times=None, method="BatchWrite"))
    many = captures(450)
    await asyncio.gather(*(store.upsert(many[at : at + 150], now=NOW) for at in range(0, 450, 150)))
    assert max(flying) == CHUNKS_IN_FLIGHT
    assert await store.count(now=NOW) == 450


async def test_every_write_takes_its_place_in_the_ramp(flaky: FlakyFirestore, place: FirestorePlace) -> None:
    ramp = Ramp(lambda: 0.0)
    store = FirestoreStore(place.project, prefix=PREFIX, emulator_host=flaky.address, ramp=ramp)
    flaky.faults.append(partly(10, 14))
    await store.upsert(captures(120), now=NOW)
    await store.keep([letter(number) for number in range(10)])
    await store.remember_key_ids(frozenset({"1a2b"}))
    await store.delete_captures([capture(1).trace_id])
    await store.close()
    taken = sum(flaky.write_counts)
    assert taken == 120 + 2 + 10 + 1 + 1
    assert ramp.take(BURST - taken + 1) > 0
    assert ramp.take(BURST - taken) == 0


async def test_a_document_that_cannot_be_encoded_takes_no_other_along(flaky: FlakyFirestore, store: Store) -> None:
    odd = dataclasses.replace(capture(100), expires_at=NOW.replace(tzinfo=None))
    result = await store.upsert([*captures(3), odd], now=NOW)
    assert len(result.created) == 3
    assert result.refused == ((odd.trace_id, "not_representable"),)


async def test_poison_that_only_firestore_knows_is_refused_alone(flaky: FlakyFirestore, store: Store) -> None:
    good = captures(40)
    too_long = dataclasses.replace(capture(100), apm_trace_id="a" * 1_100_000)
    too_big = dataclasses.replace(capture(101), user_first_ns=tuple(("u" * 300_000 + str(n), n) for n in range(3)))
    far_too_big = dataclasses.replace(capture(102), apm_trace_id="a" * 5_000_000)
    result = await store.upsert([*good[:13], too_long, too_big, *good[13:], far_too_big], now=NOW)
    assert sorted(result.created) == sorted(one.trace_id for one in good)
    reasons = {too_long.trace_id: "invalid_document", far_too_big.trace_id: "document_too_large"}
    assert dict(result.refused) == {**reasons, too_big.trace_id: "invalid_document"}
    assert await store.count(now=NOW) == 40


PASSING_FAULTS: dict[str, list[Fault]] = {
    "requests fail": [refused(UNAVAILABLE), refused(grpc.StatusCode.ABORTED)],
    "writes fail": [partly(8, 10, 14), partly(4)],
    "answers are lost": [answer_lost(UNAVAILABLE), answer_lost(grpc.StatusCode.DEADLINE_EXCEEDED)],
    "all of it": [partly(10), answer_lost(UNAVAILABLE), refused(UNAVAILABLE), partly(14)],
}


@pytest.mark.parametrize("name", PASSING_FAULTS)
async def test_an_erasure_is_whole_whatever_befalls_its_writes(flaky: FlakyFirestore, store: Store, name: str) -> None:
    flaky.faults.extend(PASSING_FAULTS[name])
    await store.save_erasure(ERASURE)
    assert not flaky.faults
    assert await all_of(store.erasures()) == [ERASURE]
    assert await store.erasure_epoch() != ""


@pytest.mark.parametrize("written", [0, 1, 2, 3])
async def test_an_erasure_that_breaks_off_is_no_record_until_it_is_whole(
    flaky: FlakyFirestore, place: FirestorePlace, store: Store, written: int
) -> None:
    async def passed(request: bytes, context: Any, forward: Any) -> bytes:
        answer: bytes = await forward(request)
        return answer

    denied = grpc.StatusCode.PERMISSION_DENIED
    flaky.faults.extend([*[passed] * written, refused(denied)])
    with pytest.raises(StoreError):
        await store.save_erasure(ERASURE)
    # Two further parts, then the record, then the epoch.
    assert [one.id for one in await all_of(store.erasures())] == (["e1"] if written >= 3 else [])
    assert await store.erasure_epoch() == ""
    await store.save_erasure(ERASURE)
    assert await all_of(store.erasures()) == [ERASURE]
    assert await store.erasure_epoch() != ""


@pytest.mark.parametrize("name", PASSING_FAULTS)
async def test_deleting_deletes_all_and_counts_each_once(flaky: FlakyFirestore, store: Store, name: str) -> None:
    nobody = [capture(number, user_hash=None) for number in range(500, 520)]
    await store.upsert([*captures(120), *nobody], now=NOW)
    await store.keep([letter(number) for number in range(70)])
    flaky.faults.extend(PASSING_FAULTS[name])
    assert await store.delete_dead_letters([str(number) for number in range(60)]) == 60
    flaky.faults.extend(PASSING_FAULTS[name])
    assert await store.delete_captures([one.trace_id for one in captures(40)], user_hashes=USERS) == 120
    flaky.faults.extend(PASSING_FAULTS[name])
    assert (await store.purge())["raw_traces"] == 20
    assert await all_of(store.documents("dead_letters")) == await all_of(store.documents("raw_traces")) == []


def letter(number: int) -> DeadLetter:
    return DeadLetter(f"l{number}", "apm", "parse", "r", {}, NOW, NOW + timedelta(days=30), trace_id=str(number))


async def test_a_rewrite_whose_answer_was_lost_says_no_and_has_been_done(flaky: FlakyFirestore, store: Store) -> None:
    await store.upsert([capture()], now=NOW)
    [before] = await all_of(store.documents("raw_traces"))
    clean = dataclasses.replace(capture(), payload={"name": "clean"})
    flaky.faults.append(answer_lost(UNAVAILABLE))
    assert await store.rewrite(clean, before, now=NOW) is False
    [after] = await all_of(store.documents("raw_traces"))
    assert (after.document["trace_payload"], after.version != before.version) == ({"name": "clean"}, True)
    flaky.faults.extend([refused(UNAVAILABLE), partly(10)])
    assert await store.rewrite(capture(), after, now=NOW) is True


async def test_reading_the_epoch_costs_one_document(flaky: FlakyFirestore, store: Store) -> None:
    await store.save_erasure(ERASURE)
    flaky.read_counts.clear()
    await store.erasure_epoch()
    assert flaky.read_counts == [1]


CALLS: dict[str, Callable[[Store], Awaitable[Any]]] = {
    "upsert": lambda store: store.upsert([capture()], now=NOW),
    "get": lambda store: store.get(capture().trace_id, now=NOW),
    "count": lambda store: store.count(now=NOW),
    "ping": lambda store: store.ping(),
    "load_checkpoints": lambda store: store.load_checkpoints("llm_obs", ["lookback"]),
    "remember_key_ids": lambda store: store.remember_key_ids(frozenset({"1a2b"})),
    "packages": lambda store: store.packages(),
    "save_erasure": lambda store: store.save_erasure(ERASURE),
    "erasure_epoch": lambda store: store.erasure_epoch(),
    "erasures": lambda store: all_of(store.erasures()),
    "captures_of_users": lambda store: all_of(store.captures_of_users(USERS)),
    "delete_captures": lambda store: store.delete_captures([capture().trace_id], user_hashes=USERS),
    "delete_dead_letters": lambda store: store.delete_dead_letters(["1"]),
    "documents": lambda store: all_of(store.documents("raw_traces")),
    "purge": lambda store: store.purge(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize(
    ("code", "expected", "said"),
    [
        (UNAVAILABLE, StoreUnavailableError, "did not answer in time"),
        # Where the machine is slow the time is over before it is told for the last time.
        (grpc.StatusCode.RESOURCE_EXHAUSTED, StoreUnavailableError, "gRPC code 8|did not answer in time"),
        (grpc.StatusCode.PERMISSION_DENIED, StoreError, "roles/datastore.user"),
        (grpc.StatusCode.UNAUTHENTICATED, StoreError, "roles/datastore.user"),
        (grpc.StatusCode.NOT_FOUND, StoreError, "FIRESTORE_DATABASE"),
        (grpc.StatusCode.UNIMPLEMENTED, StoreError, "gRPC code 12"),
        (grpc.StatusCode.FAILED_PRECONDITION, StoreError, "indexes"),
    ],
)
async def test_each_refusal_is_told_in_our_words(
    flaky: FlakyFirestore, place: FirestorePlace, name: str, code: Any, expected: type[EvalForgeError], said: str
) -> None:
    flaky.broken = code
    store = impatient(flaky, place, timeout_s=0.1 if expected is StoreUnavailableError else 10)
    with pytest.raises(expected, match=said) as caught:
        await CALLS[name](store)
    assert place.project in str(caught.value)
    assert "text of a document" not in str(caught.value)
    await store.close()


@pytest.mark.parametrize("code", [14, 8])
async def test_writes_that_stay_unwritten_are_unavailable(flaky: FlakyFirestore, place: FirestorePlace, code: int) -> None:
    store = impatient(flaky, place)
    await store.ping()  # so that no patience goes into the first connection
    flaky.faults.extend([partly(code)] * 100)
    with pytest.raises(StoreUnavailableError, match=f"did not take 1 writes.*{code}"):
        await store.upsert(captures(3), now=NOW)
    await store.close()


async def test_a_write_that_is_denied_is_told(flaky: FlakyFirestore, store: Store) -> None:
    flaky.faults.append(partly(7))
    with pytest.raises(StoreError, match=r"roles/datastore\.user"):
        await store.upsert(captures(3), now=NOW)


async def test_a_conflict_that_never_ends_is_unavailable(flaky: FlakyFirestore, place: FirestorePlace) -> None:
    flaky.faults.extend([partly(9)] * 100)
    store = impatient(flaky, place)
    with pytest.raises(StoreUnavailableError, match="other writers"):
        await store.upsert([capture()], now=NOW)
    await store.close()


@pytest.mark.parametrize("name", CALLS)
async def test_a_server_that_never_answers_is_unavailable(flaky: FlakyFirestore, place: FirestorePlace, name: str) -> None:
    flaky.hangs = True
    store = impatient(flaky, place)
    with pytest.raises(StoreUnavailableError):
        await CALLS[name](store)
    await store.close()


@pytest.mark.parametrize("name", CALLS)
async def test_nobody_at_the_address_is_unavailable(name: str) -> None:
    store = FirestoreStore("p", prefix=PREFIX, emulator_host=f"127.0.0.1:{free_port()}", timeout_s=0.3)
    with pytest.raises(StoreUnavailableError, match="on the emulator at 127"):
        await CALLS[name](store)
    await store.close()


async def test_a_store_that_was_never_used_closes() -> None:
    store = FirestoreStore("p", prefix=PREFIX, emulator_host="127.0.0.1:1")
    await store.close()


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_CLOUD_PROJECT", "FIRESTORE_EMULATOR_HOST", "NO_GCE_CHECK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("no_credentials")
async def test_a_key_file_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(StoreError, match=r"GOOGLE_APPLICATION_CREDENTIALS.*FIRESTORE_EMULATOR_HOST"):
        await FirestoreStore("p", prefix=PREFIX).ping()


@pytest.mark.usefixtures("no_credentials")
async def test_a_metadata_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(google_credentials, "SEARCH_TIMEOUT_S", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = "{}:{}".format(*silent.getsockname())
        monkeypatch.setenv("GCE_METADATA_IP", address)
        monkeypatch.setenv("GCE_METADATA_HOST", address)
        with pytest.raises(StoreError, match="no usable Google credentials"):
            await asyncio.wait_for(FirestoreStore("p", prefix=PREFIX).ping(), 5)
