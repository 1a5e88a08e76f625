"""What every store promises, run on each: SQLite in a file, and Firestore on Google's emulator."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture, merge
from evalforge.core.origins import ORIGIN_BYTES
from evalforge.core.ports import (
    DOCUMENT_ID_BYTES,
    LOOKBACK,
    MAX_PACKED_CAPTURES,
    Checkpoint,
    Coverage,
    DeadLetter,
    ExportPackage,
    Lease,
    PackageFile,
    Recognized,
    RunRecord,
    Selection,
    Store,
    StoredCapture,
    Told,
    UpsertResult,
)
from evalforge.core.signals import FailureType, Severity
from evalforge.core.window import Window
from evalforge.errors import StoreError
from tests.captures import NOW, START_NS, capture, captures, merged, signal, trace_id_of
from tests.contract.stores import Place

LATER = NOW + timedelta(minutes=5)
AFTER_EXPIRY = NOW + timedelta(days=181)


def counts(result: UpsertResult) -> tuple[int, int, int, int]:
    return len(result.created), len(result.updated), len(result.unchanged), len(result.refused)


async def stored(store: Store, trace: int | str = 1, now: datetime = NOW) -> StoredCapture:
    found = await store.get(trace if isinstance(trace, str) else trace_id_of(trace), now=now)
    assert found is not None
    return found


async def selected(store: Store, now: datetime = NOW, **conditions: Any) -> list[FailureCapture]:
    return [found.capture async for found in store.select(Selection(**conditions), now=now)]


# -- upsert


async def test_a_new_capture_is_created_and_comes_back_as_it_was(store: Store) -> None:
    one = capture()
    assert await store.upsert([one], now=NOW) == UpsertResult((one.trace_id,))
    found = await stored(store)
    assert found.capture == one
    assert FailureCapture.from_document(found.document) == one
    assert (found.updated_at, found.processed) == (NOW, False)
    assert found.document["expires_at"] == one.expires_at
    assert found.document["fingerprint"] == one.fingerprint
    assert await store.count(now=NOW) == 1


async def test_comparing_says_what_would_become_of_captures_and_writes_nothing(store: Store) -> None:
    known, grown = capture(span_id="1", trace=1), capture(span_id="1", trace=2)
    await store.upsert([known, grown], now=NOW)
    before = [dict(found.document) async for found in store.select(Selection(), now=NOW)]
    told = await store.compare([known, capture(span_id="2", trace=2), capture(trace=3)], now=LATER)
    assert counts(told) == (1, 1, 1, 0)
    assert list(told.created) == [trace_id_of(3)]
    assert [dict(found.document) async for found in store.select(Selection(), now=NOW)] == before


async def test_nothing_is_written_when_nothing_is_new(store: Store) -> None:
    whole = merged(capture(span_id="1"), capture(span_id="2"))
    await store.upsert([whole], now=NOW)
    for known in (whole, capture(span_id="1"), capture(span_id="2"), capture(span_id="1", fetched_at=LATER)):
        assert counts(await store.upsert([known], now=LATER)) == (0, 0, 1, 0)
    assert (await stored(store)).updated_at == NOW
    assert (await stored(store)).capture == whole


async def test_what_is_new_is_merged_into_what_is_stored(store: Store) -> None:
    early, late = capture(span_id="1"), capture(span_id="2", start_ns=START_NS + 5, fetched_at=LATER)
    await store.upsert([early], now=NOW)
    assert counts(await store.upsert([late], now=LATER)) == (0, 1, 0, 0)
    found = await stored(store)
    assert found.capture == merge(early, late)
    assert found.capture.fetched_at == NOW
    assert found.updated_at == LATER


O1, O2 = b"1" * ORIGIN_BYTES, b"2" * ORIGIN_BYTES


def made_of(origin: bytes, *parts: FailureCapture) -> FailureCapture:
    return dataclasses.replace(merged(*parts), origins=frozenset({origin}))


async def test_a_capture_is_recognized_by_what_it_was_made_of(store: Store) -> None:
    nobody = made_of(O1, capture(2, user_hash=None))
    untold = made_of(O2, capture(3, signals=(signal(type=FailureType.EXECUTION_ERROR, place="status"),)))
    await store.upsert([made_of(O1, capture(1)), nobody, untold, capture(4)], now=NOW)
    ids = [trace_id_of(number) for number in range(6)]
    known = await store.recognize(dict(zip(ids[1:], (O1, O1, O2, O1, O1), strict=True)), now=LATER)
    assert sorted(known.result.unchanged) == ids[1:4]
    assert dict(known.result.without_user) == {ids[2]: "llm_obs"}
    assert list(known.result.untold_errors) == [(ids[3], "1")]
    assert known.absent == {ids[5]}
    other = await store.recognize({ids[1]: O2, ids[3]: O1}, now=LATER)
    assert (list(other.result.unchanged), other.absent) == ([], frozenset())
    assert await store.recognize({}, now=NOW) == Recognized()


async def test_origins_are_joined_when_something_is_written(store: Store) -> None:
    one, two = made_of(O1, capture(span_id="1")), made_of(O2, capture(span_id="2"))
    await store.upsert([one], now=NOW)
    assert counts(await store.upsert([two], now=LATER)) == (0, 1, 0, 0)
    for origin in (O1, O2):
        assert (await store.recognize({one.trace_id: origin}, now=LATER)).result.unchanged
    assert counts(await store.upsert([made_of(b"3" * ORIGIN_BYTES, capture(span_id="1"))], now=LATER)) == (0, 0, 1, 0)
    assert (await stored(store)).capture.origins == {O1, O2}, "nothing is written for an origin's sake"


async def test_an_expired_capture_is_not_recognized(store: Store) -> None:
    one = made_of(O1, capture())
    await store.upsert([one], now=NOW)
    known = await store.recognize({one.trace_id: O1}, now=AFTER_EXPIRY)
    assert not known.result.unchanged
    assert counts(await store.upsert([one], now=AFTER_EXPIRY, absent=known.absent)) == (1, 0, 0, 0)


async def test_what_came_since_a_trace_was_absent_is_merged_with(store: Store) -> None:
    one, two = capture(span_id="1"), capture(span_id="2")
    absent = (await store.recognize({one.trace_id: O1, trace_id_of(2): O1}, now=NOW)).absent
    assert absent == {one.trace_id, trace_id_of(2)}
    await store.upsert([one], now=NOW)
    result = await store.upsert([two, capture(2)], now=LATER, absent=absent)
    assert counts(result) == (1, 1, 0, 0)
    assert (await stored(store)).capture == merge(one, two)


async def test_an_empty_upsert_does_nothing(store: Store) -> None:
    assert await store.upsert([], now=NOW) == UpsertResult()
    assert await store.count(now=NOW) == 0


async def test_captures_of_one_trace_in_one_call_are_one(store: Store) -> None:
    parts = [capture(span_id=str(number)) for number in range(5)]
    assert counts(await store.upsert(parts, now=NOW)) == (1, 0, 0, 0)
    assert (await stored(store)).capture == merged(*parts)


async def test_a_thousand_captures_and_again(store: Store) -> None:
    many = captures(1_000)
    assert counts(await store.upsert(many, now=NOW)) == (1_000, 0, 0, 0)
    assert counts(await store.upsert(many, now=LATER)) == (0, 0, 1_000, 0)
    assert await store.count(now=NOW) == 1_000
    assert await selected(store) == list(reversed(many))


@pytest.mark.parametrize(
    "poison",
    [
        capture("\ud800"),
        dataclasses.replace(capture(7), status_code=object()),  # type: ignore[arg-type]  # wrong on purpose
        dataclasses.replace(capture(7), started_ns=10**30),
    ],
    ids=["lone surrogate as id", "no JSON type", "no such year"],
)
async def test_one_poison_capture_is_refused_alone(store: Store, poison: FailureCapture) -> None:
    good = captures(6)
    result = await store.upsert([*good[:3], poison, *good[3:]], now=NOW)
    assert counts(result) == (6, 0, 0, 1)
    assert result.refused == ((poison.trace_id, "not_representable"),)
    assert await store.count(now=NOW) == 6


async def test_a_vandalized_document_is_refused_and_left_as_it_is(store: Store, place: Place) -> None:
    await store.upsert(captures(3), now=NOW)
    await place.vandalize(trace_id_of(1))
    before = await place.fields(trace_id_of(1))
    result = await store.upsert(captures(4), now=LATER)
    assert counts(result) == (1, 0, 2, 1)
    assert result.refused == ((trace_id_of(1), "stored_document_unreadable"),)
    assert await place.fields(trace_id_of(1)) == before
    assert len(await selected(store)) == 3
    with pytest.raises(StoreError):
        await store.get(trace_id_of(1), now=NOW)


# -- hostile values

DEEP: dict[str, Any] = {"level": 0}
for _level in range(40):
    DEEP = {"level": _level, "in": [DEEP, [_level]]}

HOSTILE: dict[str, Any] = {
    "nested arrays": [[1, [2, [3, []]]], [], [[]]],
    "reserved keys": {"__name__": 1, "____": 2, "__": 3, "": 4, ".": 5, "a.b/c`[*]~": 6, "\x00": 7},
    "long keys": {"k" * 1_500: 1, "k" * 1_501: 2, "é" * 3_000: 3},
    "escape-like": {"evalforge:integer": "x"},
    "more escape-like": {"evalforge:array": [1], "evalforge:key:": 2, "evalforge:json": "{"},
    "integers": [2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**400],
    "surrogates": ["\ud800", "\udfff\ud800", "\ud83d\ude00", "😀", {"\udc00": "\ud800"}],
    "numbers": [0.0, 1.0, 1, -1.5e308, 5e-324, math.inf, -math.inf],
    "control": "\x00\x01\x1b[31m\u202e\ufeff\uffff",
    "empty": [{}, [], "", None, b"", False],
    "bytes": b"\x00\xff",
    "time": datetime(1, 1, 1, tzinfo=UTC),
    "deep": DEEP,
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_value_comes_back_as_it_was(store: Store, name: str) -> None:
    one = dataclasses.replace(capture(), payload={name: HOSTILE[name], "ok": 1})
    assert counts(await store.upsert([one, capture(2)], now=NOW)) == (2, 0, 0, 0)
    found = await stored(store)
    assert found.capture == one
    assert type(found.capture.payload[name]) is type(HOSTILE[name])
    assert counts(await store.upsert([one], now=LATER)) == (0, 0, 1, 0)


async def test_nan_and_minus_zero_come_back(store: Store) -> None:
    one = dataclasses.replace(capture(), payload={"nan": math.nan, "zero": -0.0})
    await store.upsert([one], now=NOW)
    payload = (await stored(store)).capture.payload
    assert math.isnan(payload["nan"])
    assert math.copysign(1, payload["zero"]) == -1


@pytest.mark.parametrize(
    "payload",
    [
        {"name": "a", "text": "x" * 1_100_000},
        {"name": "a", "text": "\x00" * 1_100_000},
        {"name": "a", "list": list(range(50_000))},
        {"name": "a", "map": {str(number): number for number in range(50_000)}},
        {"name": "a", "many": {f"part {number}": "é" * 40_000 for number in range(30)}},
        {"name": "a", "key": {"k" * 1_100_000: 1}},
    ],
    ids=["string", "control characters", "array", "map", "many strings", "key"],
)
async def test_what_is_too_big_is_cut_with_a_mark_and_nothing_else_is_lost(store: Store, payload: dict[str, Any]) -> None:
    big = dataclasses.replace(merged(capture(), capture(span_id="2")), payload=payload)
    assert counts(await store.upsert([big, capture(2)], now=NOW)) == (2, 0, 0, 0)
    found = (await stored(store)).capture
    assert found.payload["name"] == "a"
    assert "[cut: " in repr(found.payload)
    assert found.redactions["cut"] >= 1
    assert found.signals == big.signals
    assert found.occurrences == big.occurrences
    assert counts(await store.upsert([big], now=LATER)) == (0, 0, 1, 0)
    assert counts(await store.upsert([capture(span_id="3")], now=LATER)) == (0, 1, 0, 0)
    assert counts(await store.upsert([big, capture(span_id="3")], now=LATER)) == (0, 0, 1, 0)


async def test_the_fullest_capture_that_rules_allow_fits(store: Store) -> None:
    signals = tuple(signal(str(number), place="evaluation." + "p" * 2_000 + str(number)) for number in range(200))
    parts = [
        capture(
            span_id=str(number),
            name="n" * 5_000,
            signals=signals,
            payload={"text": "x" * 700_000, "error": {"message": "\U0001f600" * 900}},
        )
        for number in range(100)
    ]
    full = dataclasses.replace(merged(*parts), span_keys=frozenset(range(2**63, 2**63 + 10_000)))
    assert counts(await store.upsert([full], now=NOW)) == (1, 0, 0, 0)
    found = (await stored(store)).capture
    assert len(found.signals) == 200
    assert len(found.occurrences) == 100
    assert len(found.error_details) == 20
    assert found.span_keys == full.span_keys
    assert counts(await store.upsert([full, *parts], now=LATER))[1] <= 1
    assert counts(await store.upsert([full, *parts], now=LATER)) == (0, 0, 1, 0)


# -- what others own


async def test_reviewers_fields_and_processed_survive(store: Store, place: Place) -> None:
    await store.upsert([capture()], now=NOW)
    await place.review(trace_id_of(1), {"review_state": "confirmed", "processed": True, "notes": "seen"})
    assert counts(await store.upsert([capture()], now=LATER)) == (0, 0, 1, 0)
    assert counts(await store.upsert([capture(span_id="2")], now=LATER)) == (0, 1, 0, 0)
    found = await stored(store)
    assert found.processed is True
    assert found.document["review_state"] == "confirmed"
    assert found.capture == merged(capture(), capture(span_id="2"))
    fields = await place.fields(trace_id_of(1))
    assert fields is not None
    assert (fields["review_state"], fields["processed"], fields["notes"]) == ("confirmed", True, "seen")


async def test_a_reviewer_may_write_while_ingestion_does(store: Store, place: Place) -> None:
    await store.upsert([capture(span_id="0")], now=NOW)
    await place.review(trace_id_of(1), {"review_state": "new"})

    async def review() -> None:
        for number in range(15):
            await place.review(trace_id_of(1), {"review_state": f"state {number}", f"note_{number}": number})

    async def ingest() -> None:
        for number in range(1, 16):
            await store.upsert([capture(span_id=str(number))], now=LATER)

    await asyncio.gather(review(), ingest())
    found = await stored(store)
    assert found.document["review_state"] == "state 14"
    assert [found.document[f"note_{number}"] for number in range(15)] == list(range(15))
    assert found.capture == merged(*(capture(span_id=str(number)) for number in range(16)))


# -- several stores at once


async def test_stores_that_write_at_once_end_as_one_after_the_other(place: Place) -> None:
    stores = [place.open() for _ in range(3)]
    parts = {number: [capture(number, str(span), start_ns=START_NS + span) for span in range(6)] for number in range(12)}

    async def ingest(position: int) -> list[UpsertResult]:
        rounds = range(position, 6, 1), range(position)
        return [
            await stores[position].upsert([spans[turn] for spans in parts.values()], now=NOW)
            for turns in rounds
            for turn in turns
        ]

    results = await asyncio.gather(*(ingest(position) for position in range(3)))
    flat = [result for one in results for result in one]
    assert sorted(trace for result in flat for trace in result.created) == sorted(trace_id_of(n) for n in parts)
    assert not any(result.refused for result in flat)
    for number, spans in parts.items():
        assert (await stored(stores[0], number)).capture == merged(*spans)
    for opened in stores:
        await opened.close()


async def test_what_one_store_wrote_the_next_one_finds(place: Place) -> None:
    first = place.open()
    await first.upsert([capture()], now=NOW)
    await first.close()
    second = place.open()
    assert counts(await second.upsert([capture()], now=LATER)) == (0, 0, 1, 0)
    await second.close()
    await second.close()


# -- expiry


async def test_expired_captures_are_nowhere(store: Store) -> None:
    one = capture()
    await store.upsert([one], now=NOW)
    last = one.expires_at - timedelta(microseconds=1)
    assert await store.count(now=last) == len(await selected(store, last)) == 1
    assert await store.get(one.trace_id, now=last) is not None
    assert await store.count(now=one.expires_at) == len(await selected(store, one.expires_at)) == 0
    assert await store.get(one.trace_id, now=one.expires_at) is None


async def test_an_expired_capture_is_replaced_wholly(store: Store, place: Place) -> None:
    await store.upsert([capture(span_id="1")], now=NOW)
    await place.review(trace_id_of(1), {"review_state": "confirmed", "processed": True})
    fresh = capture(span_id="2", fetched_at=AFTER_EXPIRY)
    assert counts(await store.upsert([fresh], now=AFTER_EXPIRY)) == (1, 0, 0, 0)
    found = await stored(store, now=AFTER_EXPIRY)
    assert found.capture == fresh
    assert found.processed is False
    assert "review_state" not in found.document


# -- select


async def test_select_gives_the_latest_first_and_ties_in_a_fixed_order(store: Store) -> None:
    same_time = [capture(number) for number in range(250)]
    others = [capture(300, start_ns=START_NS - 1_000), capture(301, start_ns=START_NS + 1_000)]
    await store.upsert([*same_time, *others], now=NOW)
    found = await selected(store)
    ties = sorted(same_time, key=lambda one: one.document_id, reverse=True)
    assert found == [others[1], *ties, others[0]]
    for limit in (0, 1, 100, 101, 252, 500):
        assert await selected(store, limit=limit) == found[:limit]


async def test_select_filters(store: Store) -> None:
    toxic = signal(type=FailureType.TOXICITY, severity=Severity.CRITICAL)
    many = [
        capture(0, ml_app="a", env="prod", start_ns=START_NS),
        capture(1, ml_app="a", env="dev", start_ns=START_NS + 1_000_000_000),
        capture(2, ml_app="b", env="prod", start_ns=START_NS + 2_000_000_000, signals=(toxic,)),
        capture(3, ml_app=None, env=None, start_ns=START_NS + 3_000_000_000),
        capture(4, ml_app="\ud800", env="it's \x00", start_ns=START_NS + 4_000_000_000),
    ]
    await store.upsert(many, now=NOW)

    async def numbers(**conditions: Any) -> list[int]:
        return [many.index(one) for one in await selected(store, **conditions)]

    started = [one.to_document()["started_at"] for one in many]
    assert await numbers() == [4, 3, 2, 1, 0]
    assert await numbers(ml_app="a") == [1, 0]
    assert await numbers(ml_app="a", env="prod") == [0]
    assert await numbers(failure_type="toxicity") == [2]
    assert await numbers(severity="high") == [4, 3, 1, 0]
    assert await numbers(severity="high", ml_app="b") == []
    assert await numbers(ml_app="\ud800") == [4]
    assert await numbers(env="it's \x00") == [4]
    assert await numbers(started_from=started[1]) == [4, 3, 2, 1]
    assert await numbers(started_to=started[1]) == [0]
    assert await numbers(started_from=started[1], started_to=started[3], limit=1) == [2]


# -- checkpoints, lease, key ids


async def test_checkpoints_come_back_by_source_and_tier(store: Store) -> None:
    assert await store.load_checkpoints("llm_obs", [LOOKBACK, "day"]) == {}
    full = Checkpoint("llm_obs", Window(1, 2), "digest", "scan:3", "cursor=", 1_795_000_000_123, ("a", "\ud800"), done=True)
    day = dataclasses.replace(full, tier="day", began_ms=77)
    plain = Checkpoint("odd/../name\x00", Window(5, 9))
    for checkpoint in (plain, dataclasses.replace(full, done=False), full, day):
        assert await store.save_checkpoint(checkpoint, fence=1)
    assert await store.load_checkpoints("llm_obs", [LOOKBACK, "day", "recent"]) == {LOOKBACK: full, "day": day}
    assert await store.load_checkpoints("odd/../name\x00", [LOOKBACK]) == {LOOKBACK: plain}
    assert await store.load_checkpoints("lease", [LOOKBACK]) == {}


async def test_a_checkpoint_gives_way_to_a_greater_fence_only(place: Place) -> None:
    early, late = place.open(), place.open()
    first, second = Checkpoint("llm_obs", Window(1, 2), cursor="a"), Checkpoint("llm_obs", Window(3, 4), cursor="b")
    assert await early.save_checkpoint(first, fence=7)
    assert await late.save_checkpoint(second, fence=8), "a later holder takes over"
    assert not await early.save_checkpoint(first, fence=7), "one that has slept through the end of its lease"
    assert not await place.open().save_checkpoint(first, fence=7)
    assert await late.load_checkpoints("llm_obs", [LOOKBACK]) == {LOOKBACK: second}
    assert await late.save_checkpoint(first, fence=8)
    await early.purge()
    assert not await late.save_checkpoint(second, fence=8), "what was purged does not come back by one who knew it"
    assert await early.load_checkpoints("llm_obs", [LOOKBACK]) == {}


async def test_coverage_comes_back(store: Store) -> None:
    assert await store.load_coverage("llm_obs") is None
    coverage = Coverage("llm_obs", "digest", NOW, (Window(1, 2), Window(5, 9)))
    for saved in (Coverage("llm_obs", "other", NOW), coverage):
        await store.save_coverage(saved)
    assert await store.load_coverage("llm_obs") == coverage
    assert await store.load_coverage("apm") is None


def signature(number: int) -> str:
    return f"s1_{number:032x}"


async def test_what_was_told_comes_back(store: Store) -> None:
    assert await store.load_told() is None
    full = Told("0a1b", frozenset(map(signature, range(2_000))), {signature(number): NOW for number in range(50)})
    for told in (Told("0a1b"), full, dataclasses.replace(full, regressions={})):
        await store.save_told(told)
        assert await store.load_told() == told
    assert await store.load_checkpoints("groups", [LOOKBACK]) == {}
    await store.purge()
    assert await store.load_told() is None


def lease(holder: str, now: datetime = NOW) -> Lease:
    return Lease("ingestion", holder, f"token of {holder}", now, now + timedelta(seconds=60))


async def test_the_lease_is_held_by_one(store: Store) -> None:
    assert await store.held_lease("ingestion") is None
    first = await store.acquire_lease(lease("a"), now=NOW)
    assert first == dataclasses.replace(lease("a"), fence=first.fence)
    assert await store.acquire_lease(lease("a"), now=NOW) == first, "asking again changes nothing"
    assert await store.acquire_lease(lease("b"), now=NOW) == first
    assert await store.renew_lease(lease("b"), now=NOW) is False
    await store.release_lease(lease("b"))
    assert await store.acquire_lease(lease("b"), now=NOW) == first
    assert await store.held_lease("ingestion") == first
    await store.release_lease(first)
    given_back = await store.held_lease("ingestion")
    assert given_back is not None
    assert given_back.token == ""
    second = await store.acquire_lease(lease("b"), now=NOW)
    assert second.token == lease("b").token
    assert second.fence > first.fence
    assert await store.renew_lease(first, now=NOW) is False


async def test_the_lease_is_renewed_and_taken_when_expired(store: Store) -> None:
    first = await store.acquire_lease(lease("a"), now=NOW)
    renewed = dataclasses.replace(first, expires_at=NOW + timedelta(seconds=120))
    assert await store.renew_lease(renewed, now=NOW) is True
    assert await store.acquire_lease(lease("b"), now=NOW + timedelta(seconds=119)) == renewed
    second = await store.acquire_lease(lease("b"), now=NOW + timedelta(seconds=120))
    assert second.token == lease("b").token
    assert second.fence > first.fence
    assert await store.renew_lease(renewed, now=NOW + timedelta(seconds=121)) is False
    await store.release_lease(second)
    await store.release_lease(second)
    assert await store.renew_lease(second, now=NOW) is False


async def test_a_fence_grows_though_everything_was_purged(store: Store) -> None:
    first = await store.acquire_lease(lease("a"), now=NOW)
    await store.purge()
    assert (await store.acquire_lease(lease("b"), now=LATER)).fence > first.fence


async def test_of_many_who_want_the_lease_at_once_one_gets_it(place: Place) -> None:
    stores = [place.open() for _ in range(4)]
    answers = await asyncio.gather(
        *(opened.acquire_lease(lease(str(number)), now=NOW) for number, opened in enumerate(stores))
    )
    assert len(set(answers)) == 1
    for opened in stores:
        await opened.close()


# -- runs


def run_record(number: int, **others: Any) -> RunRecord:
    began = NOW + timedelta(minutes=number)
    fields: dict[str, Any] = {"state": "running", "plan": "window", "holder": "host", "asked_by": "ci"}
    return RunRecord(
        **{"id": f"run_{number}", "started_at": began, "expires_at": began + timedelta(days=30), **fields, **others}
    )


async def test_runs_come_back_the_latest_first_until_they_expire(store: Store) -> None:
    assert await store.recent_runs(limit=5, now=NOW) == []
    for number in (2, 1, 3):
        await store.save_run(run_record(number))
    report = {"items": {"fetched": 3}, "sources": [{"name": "llm_obs", "warnings": []}], "error": None, "duration_s": 1.5}
    ended = run_record(2, state="complete", finished_at=LATER, report=report)
    await store.save_run(ended)
    assert await store.load_run("run_2", now=NOW) == ended
    assert await store.load_run("run_9", now=NOW) is None
    assert await store.load_run("../runs", now=NOW) is None
    assert [record.id for record in await store.recent_runs(limit=2, now=NOW)] == ["run_3", "run_2"]
    much_later = NOW + timedelta(days=30, minutes=2)
    assert await store.load_run("run_2", now=much_later) is None
    assert [record.id for record in await store.recent_runs(limit=5, now=much_later)] == ["run_3"]


async def test_key_ids_are_a_set_that_grows(store: Store) -> None:
    assert await store.known_key_ids() == frozenset()
    await store.remember_key_ids(frozenset())
    await asyncio.gather(*(store.remember_key_ids(frozenset({"1a2b", f"{number:04x}"})) for number in range(5)))
    await store.remember_key_ids(frozenset({"1a2b"}))
    assert await store.known_key_ids() == {"1a2b", *(f"{number:04x}" for number in range(5))}


# -- dead letters, exports


def letter(name: str, now: datetime = NOW, **others: Any) -> DeadLetter:
    fields: dict[str, Any] = {"source": "llm_obs", "stage": "parse", "reason": "no_trace_id", "structure": {"a": "string"}}
    return DeadLetter(id=name, occurred_at=now, expires_at=now + timedelta(days=180), **{**fields, **others})


async def test_the_same_letter_is_kept_once(store: Store) -> None:
    assert await store.keep([]) == 0
    assert await store.keep([letter("a"), letter("b"), letter("a")]) == 2
    assert await store.keep([letter("b", LATER), letter("c")]) == 1
    assert await store.dead_letter_count(now=NOW) == 3
    assert await store.dead_letter_count(now=AFTER_EXPIRY) == 0
    assert await store.keep([letter("a", AFTER_EXPIRY)]) == 1
    assert await store.dead_letter_count(now=AFTER_EXPIRY) == 1


async def test_letters_are_given_by_id_and_removed(store: Store) -> None:
    kept = [letter(f"{number:03}", trace_id="1", span_id="2") for number in range(250)]
    await store.keep([*reversed(kept), letter("999", NOW - timedelta(days=200))])
    assert [one async for one in store.dead_letters(now=NOW)] == kept
    assert await store.remove_dead_letters(["000", "249", "000", "nobody"]) == 2
    assert await store.remove_dead_letters([]) == 0
    assert [one.id async for one in store.dead_letters(now=NOW)] == [one.id for one in kept[1:-1]]


async def test_letters_with_hostile_structures_are_kept(store: Store) -> None:
    hostile = [letter(f"{number}/..\ud800", structure={name: value}) for number, (name, value) in enumerate(HOSTILE.items())]
    big = letter("big", structure={"a": "x" * 3_000_000}, trace_id="1", span_id="2")
    assert await store.keep([*hostile, big]) == len(HOSTILE) + 1
    assert await store.keep([big]) == 0


async def test_many_letters(store: Store) -> None:
    assert await store.keep([letter(str(number)) for number in range(120)]) == 120
    assert await store.keep([letter(str(number)) for number in range(130)]) == 10


async def test_export_records_come_back_the_newest_first(store: Store) -> None:
    assert list(await store.packages()) == []
    selection = Selection(severity="high", started_from=NOW).document()
    packages = [
        ExportPackage(
            f"p{number}", NOW + timedelta(seconds=number), "jsonl", "file", selection, number, "ab", 9, "delivered"
        )
        for number in range(5)
    ]
    for package in packages:
        await store.save_package(package)
    failed = dataclasses.replace(packages[0], state="failed", reason="disk_full")
    await store.save_package(failed)
    assert list(await store.packages()) == [*reversed(packages[1:]), failed]
    assert list(await store.packages(limit=2)) == [packages[4], packages[3]]


async def test_the_record_of_a_package_comes_back_whole(store: Store) -> None:
    assert await store.load_package("p1") is None
    package = ExportPackage(
        "export_20261123T120000Z_0123abcd",
        NOW,
        "promptfoo",
        "evals",
        {"limit": 3, "signatures": ["s1_" + "0" * 32]},
        2,
        "ab" * 32,
        90,
        "failed",
        "destination_unavailable",
        erased_count=1,
        attempts=3,
        attempted_at=NOW + timedelta(hours=1),
        per_group=2,
        test_share=0.25,
        files=(PackageFile("train/tests.yaml", "cd" * 32, 80), PackageFile("examples.jsonl", "ef" * 32, 10)),
        counts={"selected": 9, "taken": 2, "closed": 7},
        document_ids=bytes(range(32)),
        ids_are_cut=True,
    )
    await store.save_package(package)
    for name in (package.id, "../odd name", "x" * 300):
        assert await store.load_package(name) == (package if name == package.id else None)
    assert list(await store.packages()) == [package]


async def test_a_record_may_name_as_many_captures_as_there_may_be(store: Store) -> None:
    ids = bytes(MAX_PACKED_CAPTURES * DOCUMENT_ID_BYTES)
    await store.save_package(ExportPackage("big", NOW, "jsonl", "evals", {}, 9, "ab", 9, "pending", document_ids=ids))
    found = await store.load_package("big")
    assert found is not None
    assert found.document_ids == ids


# -- the place itself


async def test_ping_answers_on_an_empty_place(store: Store) -> None:
    await store.ping()
