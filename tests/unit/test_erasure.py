"""Erasing: what goes, what stays, what comes back (nothing), and what happens when runs and erasures meet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.ports import DeadLetter, Erasure, Rejected, Selection, Store
from evalforge.core.privacy import KeyRing
from evalforge.core.span import Span
from evalforge.core.tombstones import Tombstones, trace_key
from evalforge.erasure import (
    MAX_ROUNDS,
    Packages,
    PackagesErased,
    Target,
    erase,
    erase_again,
    erasure_document,
    needs_ring,
    trace_target,
    user_target,
)
from evalforge.errors import RequestError, SettingsError, StoreUnavailableError
from evalforge.runs import RunReport, run
from evalforge.stores.sqlite import SqliteStore
from tests.captures import capture, merged
from tests.examples import examples
from tests.fake_source import FakeSource
from tests.orders import order
from tests.turns import Turns, taking
from tests.unit.test_runs import KEY_A, KEY_B, NOW, WINDOW, judge, span

RING = KeyRing((KEY_A,))
ANN, BOB = "ann@example.com", "u-8841"
LATER = NOW + timedelta(hours=2)


async def nothing_elsewhere(earliest: datetime) -> tuple[str, ...]:
    return ()


async def no_rows(tombstones: Tombstones) -> PackagesErased:
    return PackagesErased()


NO_PACKAGES = Packages(nothing_elsewhere, no_rows)


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


def by(user: str | None, number: int, **fields: Any) -> Span:
    """A failing span of this user; of nobody for None."""
    return span(number, metadata={"user.id": user} if user else {}, **fields)


async def ingested(
    store: Store, items: Sequence[Span | Rejected], *, keys: tuple[bytes, ...] = (KEY_A,), roots: Sequence[Span] = ()
) -> RunReport:
    source = FakeSource(items, page_size=2, root_spans=roots)
    return await run(
        [source],
        store,
        judge(*keys),
        order(WINDOW, resolve_users=bool(roots)),
        clock=lambda: NOW,
    )


async def erased(
    store: Store, target: Target, *, ring: KeyRing = RING, packages: Packages = NO_PACKAGES, now: datetime = NOW
) -> Erasure:
    return await erase(store, ring, target, packages, actor="officer", clock=lambda: now)


async def traces(store: Store) -> set[str]:
    return {found.capture.trace_id async for found in store.select(Selection(), now=NOW)}


def trace(number: int) -> str:
    return span(number).trace_id


def letter(trace_id: str) -> DeadLetter:
    return DeadLetter(f"l{trace_id}", "apm", "sanitize", "r", {}, NOW, NOW + timedelta(days=30), trace_id=trace_id)


# -- what goes and what stays


async def test_everything_of_a_user_goes_and_the_next_run_brings_nothing_back(store: SqliteStore) -> None:
    items = [by(ANN, 1), by(BOB, 2), by(ANN.upper(), 3), by(None, 4), by(None, 5, trace=1)]
    await ingested(store, items)
    await store.keep([letter(trace(1)), letter(trace(2))])
    record = await erased(store, user_target(" Ann@Example.com ", RING))
    assert dict(record.counts) == {"captures": 2, "dead_letters": 1, "export_rows": 0}
    assert await traces(store) == {trace(2), trace(4)}
    report = await ingested(store, items)
    assert await traces(store) == {trace(2), trace(4)}
    assert (report.tally.created, report.tally.updated, report.tally.unchanged) == (0, 0, 2)
    assert report.tally.kept_out == 3, "the trace with two spans was met on two pages"
    assert report.tally.fetched == report.tally.healthy + report.tally.failing + report.tally.rejected
    assert report.document()["captures"]["kept_out"] == 3
    assert await store.dead_letter_count(now=NOW) == 1


async def test_doing_it_twice_changes_nothing_more(store: SqliteStore) -> None:
    await ingested(store, [by(ANN, 1), by(BOB, 2)])
    first = await erased(store, user_target(ANN, RING))
    second = await erased(store, user_target(ANN, RING))
    assert (first.counts["captures"], dict(second.counts)) == (1, {"captures": 0, "dead_letters": 0, "export_rows": 0})
    assert second.tasks == ()
    assert await traces(store) == {trace(2)}


async def test_whoever_asks_again_is_told_the_tasks_again(store: SqliteStore) -> None:
    """The first answer may have been lost on its way, and it is the only place where they are told."""

    async def elsewhere(earliest: datetime) -> tuple[str, ...]:
        return ("delete the file",)

    async def rows(tombstones: Tombstones) -> PackagesErased:
        return PackagesErased(1, ("delete the line",))

    await ingested(store, [by(ANN, 1), by(BOB, 2)])
    first = await erased(store, user_target(ANN, RING), packages=Packages(elsewhere, rows))
    assert first.tasks == ("delete the file", "delete the line")
    assert (await erased(store, user_target(ANN, RING))).tasks == first.tasks
    assert (await erased(store, trace_target(trace(1), RING))).tasks == first.tasks
    assert (await erased(store, user_target(ANN, RING))).tasks == first.tasks, "each once"
    assert (await erased(store, user_target(BOB, RING))).tasks == ()


async def test_nobody_found_is_no_error_and_leaves_a_tombstone(store: SqliteStore) -> None:
    record = await erased(store, user_target(ANN, RING))
    assert set(record.counts.values()) == {0}
    assert (await ingested(store, [by(ANN, 1), by(BOB, 2)])).tally.kept_out == 1
    assert await traces(store) == {trace(2)}


async def test_what_a_person_does_after_the_erasure_is_a_new_matter(store: SqliteStore) -> None:
    await ingested(store, [by(ANN, 1, hours_ago=2)])
    await erased(store, user_target(ANN, RING), now=NOW - timedelta(hours=1))
    await ingested(store, [by(ANN, 1, hours_ago=2), by(ANN, 3, hours_ago=1.5), by(ANN, 2, hours_ago=0.5)])
    assert await traces(store) == {trace(2)}


async def test_a_trace_met_by_its_user_is_kept_out_for_good(store: SqliteStore) -> None:
    await erased(store, user_target(ANN, RING))
    await ingested(store, [by(ANN, 1), by(None, 2, trace=1), by(None, 3, hours_ago=-1, trace=1)])
    await ingested(store, [by(None, 2, trace=1)])
    assert await traces(store) == set()


async def test_all_traces_met_by_their_user_stay_out_whichever_page_they_came_on(store: SqliteStore) -> None:
    await erased(store, user_target(ANN, RING))
    await ingested(store, [by(ANN, number) for number in range(7)])
    report = await ingested(store, [by(None, 20 + number, trace=number) for number in range(8)])
    assert await traces(store) == {trace(7)}
    assert report.tally.kept_out == 7


async def test_a_stored_capture_that_turns_out_to_be_theirs_goes(store: SqliteStore) -> None:
    await ingested(store, [by(None, 1)])
    await erased(store, user_target(ANN, RING))
    assert await traces(store) == {trace(1)}
    report = await ingested(store, [by(None, 1), by(BOB, 4), by(ANN, 2, trace=1)])
    assert await traces(store) == {trace(4)}
    assert report.tally.kept_out == 1


async def test_a_healthy_span_may_tell_whose_trace_it_is(store: SqliteStore) -> None:
    await erased(store, user_target(ANN, RING))
    await ingested(store, [by(ANN, 1, status="ok"), by(None, 2, trace=1)])
    assert await traces(store) == set()


async def test_a_trace_goes_by_its_id_with_its_apm_trace(store: SqliteStore) -> None:
    await store.upsert([capture(1, apm_trace_id="77"), capture("77"), capture(2)], now=NOW)
    await store.keep([letter(capture(1).trace_id), letter("77"), letter("78")])
    record = await erased(store, trace_target(capture(1).trace_id.upper(), KeyRing(())), ring=KeyRing(()))
    assert dict(record.counts) == {"captures": 2, "dead_letters": 2, "export_rows": 0}
    assert record.user_hashes == ()
    assert await traces(store) == {capture(2).trace_id}


async def test_erased_traces_stay_out_also_those_with_later_spans_and_letters(store: SqliteStore) -> None:
    await ingested(store, [by(BOB, 1), by(BOB, 2)])
    await erased(store, trace_target(trace(1), RING))
    rejected = Rejected("odd", {}, trace_id=trace(1))
    report = await ingested(store, [by(BOB, 1), by(BOB, 3, trace=1, hours_ago=-3), by(BOB, 2), rejected])
    assert await traces(store) == {trace(2)}
    assert await store.dead_letter_count(now=NOW) == 0
    assert report.tally.rejected == 1


@pytest.mark.parametrize("raw", ["my own trace!", "t_" + "a" * 32, "ÜBER-1"])
async def test_odd_trace_ids_are_found_under_every_key_and_under_none(store: SqliteStore, raw: str) -> None:
    for keys in ((), (KEY_A,), (KEY_B, KEY_A)):
        await ingested(store, [span(len(keys) + 1), _renamed(span(len(keys) + 10), raw)], keys=keys)
    odd = {one for one in await traces(store) if one.startswith("t_")}
    assert len(odd) == (1 if raw.startswith("t_") else 3)
    assert needs_ring(raw) is not raw.startswith("t_")
    ring = KeyRing((KEY_B, KEY_A))
    assert (await erased(store, trace_target(raw, ring), ring=ring)).counts["captures"] == len(odd)
    report = await ingested(store, [_renamed(span(10), raw)], keys=(KEY_B, KEY_A))
    assert report.tally.kept_out == 1


def _renamed(of: Span, trace_id: str) -> Span:
    return Span(**{**{name: getattr(of, name) for name in Span.__slots__}, "trace_id": trace_id})


async def test_an_unreadable_capture_of_the_user_goes_too(tmp_path: Any) -> None:
    import sqlite3
    from contextlib import closing

    store = SqliteStore(str(tmp_path / "c.db"), prefix="evalforge_")
    await ingested(store, [by(ANN, 1), by(BOB, 2)])
    with closing(sqlite3.connect(tmp_path / "c.db")) as other, other:
        other.execute("UPDATE evalforge_raw_traces SET facts = replace(facts, '\"signals\"', '\"x\"')")
    assert (await erased(store, user_target(ANN, RING))).counts["captures"] == 1
    assert [found.key async for found in store.documents("raw_traces")] == [capture(trace(2)).document_id]
    await store.close()


async def test_expired_captures_go_too(store: SqliteStore) -> None:
    user_hash = RING.user_hash(ANN)
    await store.upsert([capture(1, user_hash=user_hash, fetched_at=NOW - timedelta(days=400))], now=NOW)
    assert (await erased(store, user_target(ANN, RING))).counts["captures"] == 1


async def test_a_capture_whose_root_turns_out_to_name_them_goes(store: SqliteStore) -> None:
    roots = [by(ANN, 90, trace=1, status="ok"), by(BOB, 91, trace=2, status="ok")]
    await erased(store, user_target(ANN, RING))
    report = await ingested(store, [by(None, 1), by(None, 2)], roots=roots)
    assert await traces(store) == {trace(2)}
    assert report.tally.kept_out == 1
    assert (await ingested(store, [by(None, 1), by(None, 2)])).tally.kept_out == 1, "its trace is buried now"
    assert await traces(store) == {trace(2)}


# -- who can be found


def test_without_a_ring_the_error_says_what_can_be_done() -> None:
    with pytest.raises(SettingsError, match=r"PII_SALT.*trace id") as caught:
        user_target(ANN, KeyRing(()))
    assert ANN not in str(caught.value)


@pytest.mark.parametrize("nobody", ["", "  ", "null", "Unknown", None, True, "anonymous", [1], {"a": 1}, float("nan")])
def test_an_id_that_names_nobody_is_refused_unquoted(nobody: Any) -> None:
    with pytest.raises(RequestError, match="names nobody") as caught:
        user_target(nobody, RING)
    assert caught.value.field == "user_id"


def test_an_empty_trace_id_is_refused() -> None:
    with pytest.raises(RequestError):
        trace_target(" ", RING)


async def test_older_keys_find_older_captures(store: SqliteStore) -> None:
    await ingested(store, [by(ANN, 1)], keys=(KEY_A,))
    await ingested(store, [by(ANN, 2), by(BOB, 3)], keys=(KEY_B, KEY_A))
    ring = KeyRing((KEY_B, KEY_A))
    assert (await erased(store, user_target(ANN, ring), ring=ring)).counts["captures"] == 2
    assert await traces(store) == {trace(3)}


async def test_a_key_that_is_newer_than_the_tombstone_brings_nobody_back(store: SqliteStore) -> None:
    await ingested(store, [by(ANN, 1)])
    await erased(store, user_target(ANN, RING))
    report = await ingested(store, [by(ANN, 1), by(ANN, 2), by(BOB, 3)], keys=(KEY_B, KEY_A))
    assert await traces(store) == {trace(3)}
    assert report.tally.kept_out == 2


async def test_opaque_ids_are_found_as_tags_spell_them(store: SqliteStore) -> None:
    tagged = span(1, tags=(("user.id", "ab-c"),))
    await ingested(store, [tagged, by("aB-C", 2), by("AB-C", 3)])
    assert (await erased(store, user_target("aB-C", RING))).counts["captures"] == 2
    assert await traces(store) == {trace(3)}


# -- the record


async def test_the_record_and_the_answer_name_nobody(store: SqliteStore) -> None:
    await ingested(store, [by(ANN, 1)])
    record = await erased(store, user_target(ANN, RING))
    [stored] = [one async for one in store.erasures()]
    assert stored == record
    assert stored.trace_keys == (trace_key(trace(1), RING),)
    assert ANN not in repr(record)
    assert trace(1) not in repr(record)
    answer = erasure_document(record)
    assert set(answer) == {"id", "erased_at", "kind", "actor", "counts", "tasks"}
    assert not any(one in repr(answer) for one in (*record.user_hashes, *record.trace_keys))


async def test_the_tombstone_stands_before_anything_is_deleted(store: SqliteStore) -> None:
    await ingested(store, [by(ANN, 1)])

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def delete_dead_letters(self, trace_ids: Sequence[str]) -> int:
            raise StoreUnavailableError("gone")

    async def elsewhere(earliest: datetime) -> tuple[str, ...]:
        return ("find the file",)

    packages = Packages(elsewhere, no_rows)
    with pytest.raises(StoreUnavailableError):
        await erased(Broken(), user_target(ANN, RING), packages=packages)
    [record] = [one async for one in store.erasures()]
    assert (dict(record.counts), record.tasks, len(record.trace_keys)) == ({}, ("find the file",), 1)
    again = await erased(store, user_target(ANN, RING))
    assert (again.counts["captures"], again.tasks) == (1, ("find the file",)), "nobody was told of it yet"
    assert (await ingested(store, [by(ANN, 1)])).tally.kept_out == 1


async def test_captures_that_keep_coming_do_not_keep_an_erasure_for_ever(store: SqliteStore) -> None:
    user_hash = RING.user_hash(ANN)
    count = 0

    class Busy:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def delete_captures(self, trace_ids: Sequence[str], *, user_hashes: frozenset[str] = frozenset()) -> int:
            nonlocal count
            count += 1
            deleted = await store.delete_captures(trace_ids, user_hashes=user_hashes)
            await store.upsert([capture(count, user_hash=user_hash)], now=NOW)
            return deleted

    await asyncio.wait_for(erased(Busy(), user_target(ANN, RING)), 30)
    assert count == MAX_ROUNDS


# -- tombstones alone


def test_a_tombstone_recognises_its_own_and_nothing_else() -> None:
    record = Erasure("e", NOW, "user", "t", ("u1",), (trace_key("a1", RING), trace_key("b2", KeyRing(()))))
    graves = Tombstones([record], KeyRing((KEY_B, KEY_A)))
    assert [graves.buries_trace(one) for one in ("a1", "b2", "c3", "", None)] == [True, True, False, False, False]
    assert not Tombstones([record], KeyRing((KEY_B,))).buries_trace("a1"), "its key was destroyed"
    before, at = int(NOW.timestamp()) * 10**9 - 1, int(NOW.timestamp()) * 10**9
    assert [graves.buries_user("u1", start) for start in (before, at)] == [True, False]
    assert not graves.buries_user("u2", before)
    theirs = merged(capture(1, user_hash="u2"), capture(1, "2", user_hash="u1", start_ns=before))
    assert graves.buries(theirs) == "user"
    assert graves.buries(capture("a1")) == "trace"
    assert graves.buries(capture("a2", user_hash="u1", start_ns=at)) is None


@given(
    st.dictionaries(
        st.sampled_from(["trace_id", "user_hashes", "user_first_ns"]),
        st.one_of(st.none(), st.text(), st.integers(), st.lists(st.one_of(st.text(), st.integers(), st.none()))),
    )
)
def test_any_row_can_be_asked_about(row: dict[str, Any]) -> None:
    record = Erasure("e", NOW, "user", "t", ("u1",), (trace_key("a1", RING),))
    assert isinstance(Tombstones([record], RING).buries_row(row), bool)


# -- runs and erasures at once

ITEMS = [
    *(by(ANN, 1), by(None, 2, trace=1), by(BOB, 3), by(None, 4, trace=5)),
    *(by(ANN, 5, trace=5), by(None, 6, trace=1), by(BOB, 7)),
]
OF_OTHERS = {trace(3), trace(7)}


async def at_once(store: Store, schedule: Sequence[str], target: Target, *, filled: bool) -> None:
    """A run and an erasure in that interleaving of their calls to the store, then a run alone; with what must hold."""
    if filled:
        await ingested(store, ITEMS)
    turns = Turns(schedule, ("run", "erase"))

    async def playing(player: str) -> None:
        mine = taking(store, turns, player)
        try:
            await (ingested(mine, ITEMS) if player == "run" else erased(mine, target))
        finally:
            await turns.leave(player)

    await asyncio.wait_for(asyncio.gather(playing("run"), playing("erase")), 60)
    assert await traces(store) == OF_OTHERS | (set() if target.user_hashes else {trace(5)})
    report = await ingested(store, ITEMS)
    assert await traces(store) == OF_OTHERS | (set() if target.user_hashes else {trace(5)})
    assert (report.tally.created, report.tally.updated) == (0, 0)


schedules = st.lists(st.sampled_from(["run", "erase"]), max_size=120)


@examples(60)
@given(schedules, st.booleans())
def test_whatever_comes_first_nothing_of_an_erased_user_stays(schedule: list[str], filled: bool) -> None:
    async def body() -> None:
        store = SqliteStore(":memory:", prefix="evalforge_")
        await at_once(store, schedule, user_target(ANN, RING), filled=filled)
        await store.close()

    asyncio.run(body())


@examples(60)
@given(schedules, st.booleans())
def test_whatever_comes_first_nothing_of_an_erased_trace_stays(schedule: list[str], filled: bool) -> None:
    async def body() -> None:
        store = SqliteStore(":memory:", prefix="evalforge_")
        await at_once(store, schedule, trace_target(trace(1), RING), filled=filled)
        await store.close()

    asyncio.run(body())


def moments(first: int, last: int) -> list[Any]:
    """Every moment from the first to before the last; every second pair of them is left to `make test-all`."""
    return [pytest.param(one, marks=pytest.mark.long if one % 4 > 1 else ()) for one in range(first, last)]


@pytest.mark.parametrize("before", moments(0, 60))
async def test_an_erasure_at_any_one_moment_of_a_run(store: SqliteStore, before: int) -> None:
    schedule = [*["run"] * before, *["erase"] * 200]
    await at_once(store, schedule, user_target(ANN, RING), filled=before % 2 == 0)


@pytest.mark.parametrize("before", moments(0, 24))
async def test_a_run_at_any_one_moment_of_an_erasure(store: SqliteStore, before: int) -> None:
    schedule = [*["erase"] * before, *["run"] * 400]
    await at_once(store, schedule, user_target(ANN, RING), filled=before % 2 == 0)


@pytest.mark.parametrize("of_user", [True, False])
@pytest.mark.parametrize("before", moments(6, 40))
async def test_an_erasure_at_any_one_moment_while_roots_are_looked_up(
    store: SqliteStore, before: int, of_user: bool
) -> None:
    items, roots = [by(None, 1), by(None, 2)], [by(ANN, 90, trace=1, status="ok"), by(BOB, 91, trace=2, status="ok")]
    turns = Turns([*["run"] * before, *["erase"] * 200], ("run", "erase"))
    target = user_target(ANN, RING) if of_user else trace_target(trace(1), RING)

    async def playing(player: str) -> None:
        mine = taking(store, turns, player)
        try:
            await (ingested(mine, items, roots=roots) if player == "run" else erased(mine, target))
        finally:
            await turns.leave(player)

    await asyncio.wait_for(asyncio.gather(playing("run"), playing("erase")), 60)
    assert await traces(store) == {trace(2)}


# -- after a restore


async def test_after_a_restore_the_tombstones_alone_erase_again(store: SqliteStore) -> None:
    items = [by(ANN, 1), by(BOB, 2), by(ANN, 3), by(None, 4), by(BOB, 5)]
    await ingested(store, items)
    await erased(store, user_target(ANN, RING))
    await erased(store, trace_target(trace(4), RING))
    saved = [erasure async for erasure in store.erasures()]
    copy = SqliteStore(":memory:", prefix="evalforge_")
    asked: list[Tombstones] = []

    async def rows(tombstones: Tombstones) -> PackagesErased:
        asked.append(tombstones)
        return PackagesErased(7)

    try:
        await ingested(copy, items)
        await copy.keep([letter(trace(1)), letter(trace(4)), letter(trace(5))])
        packages = Packages(nothing_elsewhere, rows)
        nothing = await erase_again(copy, RING, packages, clock=lambda: NOW)
        assert (nothing["captures"], nothing["dead_letters"]) == (0, 0), "no tombstone, nobody to erase"
        for erasure in saved:
            await copy.save_erasure(erasure)
        counts = await erase_again(copy, RING, packages, clock=lambda: NOW)
        assert counts == {"captures": 3, "dead_letters": 2, "export_rows": 7}
        assert await traces(copy) == {trace(2), trace(5)}
        assert asked[-1].buries_trace(trace(4))
        assert await copy.dead_letter_count(now=NOW) == 1
        assert (await erase_again(copy, RING, packages, clock=lambda: NOW))["captures"] == 0
        again = await ingested(copy, items)
        assert again.tally.created == 0
    finally:
        await copy.close()
