"""Groups over a real store: what is one row, in which order, page by page, and what reviewers change while they look."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Selection
from evalforge.core.privacy import KeyRing
from evalforge.core.review import Patch, Review, ReviewState
from evalforge.core.signals import FailureType, Severity
from evalforge.erasure import Target, erase
from evalforge.errors import NotFoundError, RequestError, StoreUnavailableError
from evalforge.review import (
    Wanted,
    change_review,
    failure_stats,
    in_state,
    list_captures,
    list_groups,
    one_group,
)
from evalforge.review.documents import captures_document, group_document, groups_document, review_document, stats_document
from evalforge.review.groups import SAMPLE
from evalforge.service.problems import json_response
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW
from tests.contract.test_review_contract import START, mixed, one
from tests.unit.test_erasure import NO_PACKAGES

NEXT = START + timedelta(days=3)
"""When reviewers look: days after the captures began."""


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def filled(store: SqliteStore, captures: Sequence[FailureCapture] | None = None) -> list[FailureCapture]:
    given = list(captures) if captures is not None else mixed()
    await store.upsert(given, now=NOW)
    return given


async def signatures(store: SqliteStore, wanted: Wanted | None = None, now: datetime = NEXT) -> list[str]:
    """The groups that match, in order, asked for page by page of one."""
    found: list[str] = []
    cursor = None
    while True:
        page = await list_groups(store, wanted or Wanted(), now=now, limit=1, cursor=cursor)
        found += [group.signature for group in page.groups]
        cursor = page.next
        if cursor is None:
            whole = await list_groups(store, wanted or Wanted(), now=now, limit=99)
            assert [group.signature for group in whole.groups] == found
            assert whole.total == len(found)
            return found


async def test_captures_of_one_cause_are_one_row(store: SqliteStore) -> None:
    captures = await filled(store)
    page = await list_groups(store, Wanted(), now=NEXT, limit=10)
    assert [group.signature for group in page.groups] == [
        captures[5].signature,
        captures[3].signature,
        captures[0].signature,
    ]
    group = page.groups[2]
    assert (group.count, group.user_count, group.severity) == (3, 3, "critical")
    assert (group.first_seen_at, group.last_seen_at) == tuple(captures[n].to_document()["started_at"] for n in (0, 2))
    assert group.models == {"gpt-4o": 2, "claude": 1}
    assert (group.versions, group.envs) == ({"1.2.3": 1}, {"prod": 2, "staging": 1})
    assert (group.state, group.is_regressed, group.is_sampled) == (ReviewState.NEW, False, False)
    assert (len(group.trend), sum(group.trend)) == (14, 3)


FILTERS: list[tuple[Wanted, list[int]]] = [
    (Wanted(), [5, 3, 0]),
    (Wanted(Selection(env="staging")), [0]),
    (Wanted(Selection(model_name="claude")), [5, 0]),
    (Wanted(Selection(severity="critical")), [0]),
    (Wanted(Selection(ml_app="docs")), [3]),
    (Wanted(Selection(error_type="TimeoutError", model_name="claude")), [5]),
    (Wanted(Selection(failure_type="toxicity")), [5]),
    (Wanted(Selection(started_from=START + timedelta(hours=4, minutes=30))), [5]),
    (Wanted(Selection(started_to=START + timedelta(hours=2))), [0]),
    (Wanted(Selection(env="staging", model_name="claude")), []),
    (Wanted(state=ReviewState.NEW), [5, 3, 0]),
    (Wanted(state=ReviewState.TRIAGED), []),
    (Wanted(regressed=True), []),
]


@pytest.mark.parametrize(("wanted", "groups"), FILTERS)
async def test_filters_choose_groups_with_captures_that_match(store: SqliteStore, wanted: Wanted, groups: list[int]) -> None:
    captures = await filled(store)
    assert await signatures(store, wanted) == [captures[number].signature for number in groups]


async def test_figures_are_of_the_captures_that_match_and_times_of_the_whole_group(store: SqliteStore) -> None:
    captures = await filled(store)
    [group] = (await list_groups(store, Wanted(Selection(env="staging")), now=NEXT, limit=9)).groups
    assert (group.count, group.envs) == (1, {"staging": 1})
    assert group.first_seen_at == captures[0].to_document()["started_at"]


async def test_what_regressed_stands_first(store: SqliteStore) -> None:
    captures = await filled(store)
    signature = captures[0].signature
    await change_review(store, signature, Patch(ReviewState.RESOLVED), by="kim", now=START + timedelta(hours=2, minutes=30))
    assert (await signatures(store))[0] == signature
    assert await signatures(store, Wanted(regressed=True)) == [signature]
    await change_review(store, signature, Patch(ReviewState.NEW), by="kim", now=NEXT)
    await change_review(store, signature, Patch(ReviewState.RESOLVED), by="kim", now=NEXT)
    assert await signatures(store, Wanted(regressed=True)) == []
    assert (await one_group(store, signature, now=NEXT)).state is ReviewState.RESOLVED
    later = one(50, hours=24 * 4)
    await store.upsert([later], now=NOW)
    assert (await one_group(store, signature, now=NEXT)).is_regressed


async def test_a_page_goes_on_where_the_last_ended_although_captures_come(store: SqliteStore) -> None:
    captures = [one(number, hours=number, name=f"step {chr(97 + number)}") for number in range(9)]
    await filled(store, captures)
    first = await list_groups(store, Wanted(), now=NEXT, limit=3)
    await store.upsert([one(70, hours=50, name="new one"), one(71, hours=51, name="step a")], now=NOW)
    rest = []
    cursor = first.next
    while cursor is not None:
        page = await list_groups(store, Wanted(), now=NEXT, limit=3, cursor=cursor)
        rest += [group.signature for group in page.groups]
        cursor = page.next
    # A group that failed again has moved to the front: it is not met once more, and nobody else is left out.
    assert rest == [capture.signature for capture in reversed(captures[1:6])]


async def test_more_captures_than_are_looked_at_say_so(store: SqliteStore) -> None:
    captures = [one(number, hours=number / 100, user_hash=f"u1a2b_{number:032x}") for number in range(SAMPLE + 20)]
    await filled(store, captures)
    [group] = (await list_groups(store, Wanted(), now=NEXT, limit=9)).groups
    assert (group.count, group.user_count, group.is_sampled) == (SAMPLE + 20, SAMPLE, True)
    assert sum(group.trend) == SAMPLE + 20


async def test_there_is_no_group_without_captures(store: SqliteStore) -> None:
    with pytest.raises(NotFoundError, match="no capture has"):
        await one_group(store, "s1_" + "0" * 32, now=NEXT)
    with pytest.raises(NotFoundError):
        await change_review(store, "s1_" + "0" * 32, Patch(ReviewState.IGNORED), by="kim", now=NEXT)
    assert [review async for review in store.reviews()] == []


async def test_a_reviewed_group_can_be_changed_after_its_captures_have_expired(store: SqliteStore) -> None:
    captures = await filled(store)
    await change_review(store, captures[0].signature, Patch(ReviewState.TRIAGED), by="kim", now=NEXT)
    gone = NOW + timedelta(days=400)
    assert (
        await change_review(store, captures[0].signature, Patch(ReviewState.IGNORED), by="kim", now=gone)
    ).state == "ignored"


# -- captures


async def test_captures_page_by_page_are_all_of_them_once(store: SqliteStore) -> None:
    captures = await filled(store, [one(number, hours=number // 4) for number in range(30)])
    found: list[str] = []
    cursor = None
    while True:
        page = await list_captures(store, Selection(), now=NEXT, limit=7, cursor=cursor)
        found += [stored.capture.trace_id for stored in page.captures]
        cursor = page.next
        if cursor is None:
            break
    assert sorted(found) == sorted(capture.trace_id for capture in captures)
    assert len(found) == 30


async def test_captures_by_the_state_of_their_group(store: SqliteStore) -> None:
    captures = await filled(store)
    await change_review(store, captures[0].signature, Patch(ReviewState.TRIAGED), by="kim", now=NEXT)

    async def found(state: ReviewState, selection: Selection) -> set[str]:
        page = await list_captures(store, selection, now=NEXT, limit=50, state=state)
        return {stored.capture.trace_id for stored in page.captures}

    first = {capture.trace_id for capture in captures[:3]}
    assert await found(ReviewState.TRIAGED, Selection()) == first
    assert await found(ReviewState.NEW, Selection()) == {capture.trace_id for capture in captures} - first
    assert await found(ReviewState.RESOLVED, Selection()) == set()
    both = Selection(signatures=(captures[0].signature, captures[5].signature))
    assert (await in_state(store, both, ReviewState.NEW, now=NEXT)).signatures == (captures[5].signature,)


@pytest.mark.parametrize("cursor", ["", "x", "W10", "W10=", "é", "W" * 500])
async def test_a_cursor_that_is_none_is_refused(store: SqliteStore, cursor: str) -> None:
    with pytest.raises(RequestError, match="cursor"):
        await list_captures(store, Selection(), now=NEXT, limit=7, cursor=cursor)
    with pytest.raises(RequestError, match="cursor"):
        await list_groups(store, Wanted(), now=NEXT, limit=7, cursor=cursor)


# -- changes


class Contested:
    """A store where somebody else saves a review each time before ours is saved, so many times."""

    def __init__(self, store: SqliteStore, times: int) -> None:
        self._store, self.times = store, times

    async def save_review(self, review: Review) -> bool:
        if self.times:
            self.times -= 1
            standing = await self._store.load_review(review.signature)
            theirs = replace(standing, note=f"theirs {self.times}")
            assert await self._store.save_review(theirs)
        return await self._store.save_review(review)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def test_what_others_decide_meanwhile_is_kept(store: SqliteStore) -> None:
    captures = await filled(store)
    signature = captures[0].signature
    made = await change_review(Contested(store, 3), signature, Patch(ReviewState.TRIAGED), by="kim", now=NEXT)
    assert (made.state, made.note) == (ReviewState.TRIAGED, "theirs 0")
    with pytest.raises(StoreUnavailableError, match="others change"):
        await change_review(Contested(store, 99), signature, Patch(ReviewState.NEW), by="kim", now=NEXT)


async def test_a_right_answer_needs_a_trace_of_the_group_and_goes_when_that_is_erased(store: SqliteStore) -> None:
    captures = await filled(store)
    signature, trace_id = captures[0].signature, captures[0].trace_id
    with pytest.raises(NotFoundError, match="no such trace"):
        await change_review(store, signature, Patch(expected_output="x", trace_id=captures[5].trace_id), by="kim", now=NEXT)
    patch = Patch(expected_output="Write to ann@example.com, please.", trace_id=trace_id)
    made = await change_review(store, signature, patch, by="kim", now=NEXT)
    assert made.expected_outputs == {trace_id: "Write to [EMAIL_1], please."}
    await erase(store, KeyRing((b"k" * 32,)), Target(trace_ids=(trace_id,)), NO_PACKAGES, actor="dpo", clock=lambda: NEXT)
    left = await store.load_review(signature)
    assert (dict(left.expected_outputs), len(left.history)) == ({}, 1)
    assert "please" not in repr(left)


# -- figures


async def test_figures_count_each_capture_once_in_each_chart(store: SqliteStore) -> None:
    await filled(store)
    selection = Selection(started_from=START, started_to=START + timedelta(hours=7))
    stats = await failure_stats(store, selection, now=NEXT, part_count=7)
    assert stats.total == 6
    assert stats.by_type == {"hallucination": (0, 1, 1, 1, 1, 0, 0), "toxicity": (0, 0, 0, 0, 0, 1, 1)}
    assert {name: sum(counts) for name, counts in stats.by_severity.items()} == {"critical": 1, "high": 5, "medium": 0}
    assert (stats.by_app, stats.by_model) == ({"support-bot": 5, "docs": 1}, {"gpt-4o": 4, "claude": 2})
    assert (stats.groups["new"], stats.regressed_count, len(stats.edges)) == (3, 0, 8)
    narrowed = await failure_stats(store, replace(selection, ml_app="docs", severity="high"), now=NEXT)
    assert (narrowed.total, narrowed.by_app) == (1, {"docs": 1})


async def test_an_empty_store_has_nothing_and_fails_nowhere(store: SqliteStore) -> None:
    assert await signatures(store) == []
    assert (await list_captures(store, Selection(), now=NEXT, limit=9)).captures == []
    stats = await failure_stats(store, Selection(), now=NEXT)
    assert (stats.total, stats.by_type, stats.by_app) == (0, {}, {})


async def test_everything_that_reviewers_see_is_json(store: SqliteStore) -> None:
    hostile = one(
        1, name="<script>\u202e\x00{{7*7}}", ml_app="=cmd()", failure_type=FailureType.TOXICITY, severity=Severity.HIGH
    )
    await filled(store, [hostile])
    groups = await list_groups(store, Wanted(), now=NEXT, limit=9)
    review = await change_review(store, hostile.signature, Patch(note="ok"), by="kim", now=NEXT)
    page = await list_captures(store, Selection(), now=NEXT, limit=9)
    stats = await failure_stats(store, Selection(), now=NEXT)
    for document in (groups_document(groups), group_document(groups.groups[0]), review_document(review),
                     captures_document(page), stats_document(stats)):  # fmt: skip
        body = bytes(json_response(document).body)
        assert b"\x00" not in body
        assert "\u202e".encode() not in body
