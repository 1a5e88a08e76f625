"""What every store answers to reviewers: counts, groups by signature, distinct values, reviews that nobody overwrites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture, capture_of
from evalforge.core.ports import SELECTED_BY, Brief, Facets, Position, Selection, Store
from evalforge.core.review import Change, Review, ReviewState
from evalforge.core.signals import FailureType, Severity
from tests.captures import NOW, RETENTION_DAYS, SITE, START_NS, sanitized_span, signal
from tests.contract.stores import Place

HOUR_NS = 3_600_000_000_000
START = datetime.fromtimestamp(START_NS // 1_000_000_000, UTC)


def one(
    number: int, *, hours: float = 0, failure_type: FailureType = FailureType.HALLUCINATION, **fields: Any
) -> FailureCapture:
    """A capture that started so many hours after `START_NS`."""
    signals = (signal(type=failure_type, severity=fields.pop("severity", Severity.HIGH)),)
    span = sanitized_span(number, start_ns=START_NS + round(hours * HOUR_NS), signals=signals, **fields)
    return capture_of(span, site=SITE, fetched_at=NOW, retention_days=RETENTION_DAYS)


def mixed() -> list[FailureCapture]:
    """Captures of three groups, with models, applications, users and versions of their own."""
    versions = {"name": "answer", "tags": {"env": "prod", "version": "1.2.3"}}
    return [
        one(1, hours=1, user_hash="u1a2b_" + "1" * 32, payload=versions),
        one(2, hours=2, model_name="claude", user_hash="u1a2b_" + "2" * 32),
        one(3, hours=3, env="staging", severity=Severity.CRITICAL),
        one(4, hours=4, ml_app="docs"),
        one(5, hours=5, failure_type=FailureType.TOXICITY, error_type="TimeoutError"),
        one(6, hours=6, failure_type=FailureType.TOXICITY, error_type="TimeoutError", model_name="claude"),
    ]


async def filled(store: Store) -> list[FailureCapture]:
    captures = mixed()
    await store.upsert(captures, now=NOW)
    return captures


EACH_FILTER = [
    (Selection(), 6),
    (Selection(failure_type="toxicity"), 2),
    (Selection(severity="critical"), 1),
    (Selection(ml_app="docs"), 1),
    (Selection(env="staging"), 1),
    (Selection(model_name="claude"), 2),
    (Selection(error_type="TimeoutError"), 2),
    (Selection(error_type="TimeoutError", model_name="claude"), 1),
    (Selection(started_from=START + timedelta(hours=2), started_to=START + timedelta(hours=5)), 3),
    (Selection(signatures=()), 0),
    (Selection(signatures=("s1_" + "0" * 32,)), 0),
    (Selection(ml_app="x' OR 1=1 --"), 0),
]


@pytest.mark.parametrize(("selection", "count"), EACH_FILTER)
async def test_each_filter_selects_and_counts_the_same(store: Store, selection: Selection, count: int) -> None:
    await filled(store)
    assert await store.count_matching(selection, now=NOW) == count
    assert len([stored async for stored in store.select(selection, now=NOW)]) == count
    assert len(await store.briefs(replace(selection, limit=100), now=NOW)) == count
    assert await store.count_matching(replace(selection, limit=1), now=NOW) == min(1, count)


async def test_more_signatures_than_a_query_takes_are_one_list(store: Store) -> None:
    captures = [
        one(number, hours=number, name=f"step {chr(97 + number % 26)}{chr(97 + number // 26)}") for number in range(70)
    ]
    await store.upsert(captures, now=NOW)
    wanted = tuple(sorted({capture.signature for capture in captures[:65]}))
    assert len(wanted) == 65
    found = [stored.capture.trace_id async for stored in store.select(Selection(signatures=wanted, limit=64), now=NOW)]
    assert found == [capture.trace_id for capture in reversed(captures[1:65])]
    assert await store.count_matching(Selection(signatures=wanted), now=NOW) == 65
    assert len(await store.newest_by_signature(now=NOW)) == 70


async def test_a_listing_goes_on_behind_a_position_among_equal_starts(store: Store) -> None:
    captures = [one(number, hours=number // 3) for number in range(12)]
    await store.upsert(captures, now=NOW)
    whole = [stored async for stored in store.select(Selection(), now=NOW)]
    for at, stored in enumerate(whole):
        beyond = Position(stored.document["started_at"], stored.capture.document_id)
        rest = [other.capture.trace_id async for other in store.select(Selection(), now=NOW, beyond=beyond)]
        assert rest == [other.capture.trace_id for other in whole[at + 1 :]]


async def test_a_capture_in_short(store: Store) -> None:
    captures = await filled(store)
    first = next(
        brief for brief in await store.briefs(Selection(limit=9), now=NOW) if brief.trace_id == captures[0].trace_id
    )
    document = captures[0].to_document()
    same = set(Brief.__slots__) - {"span_name", "version", "evaluator"}
    assert {name: getattr(first, name) for name in same} == {name: document[name] for name in same}
    assert (first.span_name, first.version, first.evaluator) == ("answer", "1.2.3", "hallucination")


async def test_what_groups_count_is_what_captures_say(store: Store) -> None:
    await filled(store)
    briefs = await store.briefs(Selection(limit=9), now=NOW)
    facets = await store.facets(Selection(limit=9), now=NOW)
    names = list(Facets.__slots__)
    assert [[getattr(one, name) for name in names] for one in facets] == [
        [getattr(one, name) for name in names] for one in briefs
    ]
    assert len(await store.facets(Selection(signatures=(briefs[0].signature,), env="prod", limit=1), now=NOW)) == 1


async def test_the_newest_of_each_signature_and_when_it_began(store: Store) -> None:
    captures = await filled(store)
    newest = {brief.signature: brief.trace_id for brief in await store.newest_by_signature(now=NOW)}
    assert newest == {capture.signature: capture.trace_id for capture in captures}  # later ones take the place
    assert await store.first_started_at(captures[1].signature, now=NOW) == captures[0].to_document()["started_at"]
    assert await store.first_started_at("s1_none", now=NOW) is None


async def test_what_has_expired_is_in_no_group(store: Store) -> None:
    captures = await filled(store)
    gone = [replace(capture, expires_at=NOW + timedelta(minutes=1)) for capture in (one(7, hours=7), one(8, hours=0))]
    lonely = replace(one(9, hours=9, name="lonely"), expires_at=NOW + timedelta(minutes=1))
    await store.upsert([*gone, lonely], now=NOW)
    later = NOW + timedelta(minutes=2)
    newest = {brief.signature: brief.trace_id for brief in await store.newest_by_signature(now=later)}
    assert newest == {capture.signature: capture.trace_id for capture in captures}
    assert await store.first_started_at(captures[0].signature, now=later) == captures[0].to_document()["started_at"]
    assert lonely.trace_id not in {brief.trace_id for brief in await store.briefs(Selection(limit=99), now=later)}


@pytest.mark.parametrize("field", SELECTED_BY)
async def test_distinct_values_of_each_field(store: Store, field: str) -> None:
    captures = await filled(store)
    wanted = sorted({value for capture in captures if (value := capture.to_document()[field]) is not None})
    assert list(await store.values_of(field, now=NOW)) == wanted


async def test_only_what_selects_has_distinct_values(store: Store) -> None:
    with pytest.raises(ValueError, match="facts"):
        await store.values_of("facts", now=NOW)


async def test_documents_of_somebody_else_are_in_no_list(store: Store, place: Place) -> None:
    captures = await filled(store)
    await place.vandalize(captures[3].trace_id)
    assert len(await store.briefs(Selection(limit=99), now=NOW)) in (5, 6)
    assert {brief.signature for brief in await store.newest_by_signature(now=NOW)} >= {captures[0].signature}
    await place.plant("groups", "odd")
    assert [review async for review in store.reviews()] == []


# -- reviews

REVIEW = Review(
    signature="s1_" + "a" * 32,
    state=ReviewState.RESOLVED,
    assignee="kim",
    note="deployed 4.2",
    resolved_at=NOW,
    expected_outputs={"t1": "Ask the \u202e person {{ 7*7 }} first.", "with.dots/and slash": "x"},
    history=(
        Change(NOW, "kim", "state", "new", "resolved"),
        Change(NOW, "service", "expected_output", None, "x", "with.dots/and slash"),
    ),
)


async def test_nobody_has_touched_a_group(store: Store) -> None:
    assert await store.load_review("s1_x") == Review("s1_x")
    assert [review async for review in store.reviews()] == []


async def test_a_review_comes_back_as_it_was(store: Store) -> None:
    assert await store.save_review(REVIEW)
    found = await store.load_review(REVIEW.signature)
    assert found.version
    assert replace(found, version="") == REVIEW
    assert [review async for review in store.reviews()] == [found]
    assert [review async for review in store.reviews(ReviewState.RESOLVED)] == [found]
    assert [review async for review in store.reviews(ReviewState.NEW)] == []


async def test_of_two_who_change_a_review_one_is_told(store: Store) -> None:
    assert await store.save_review(REVIEW)
    assert not await store.save_review(replace(REVIEW, note="me too"))
    read = await store.load_review(REVIEW.signature)
    assert await store.save_review(replace(read, note="first"))
    assert not await store.save_review(replace(read, note="second"))
    assert (await store.load_review(REVIEW.signature)).note == "first"


async def test_ingestion_leaves_reviews_alone(store: Store) -> None:
    captures: Sequence[FailureCapture] = await filled(store)
    await store.save_review(replace(REVIEW, signature=captures[0].signature))
    before = await store.load_review(captures[0].signature)
    await store.upsert([one(1, hours=1), one(99, hours=9)], now=NOW + timedelta(hours=1))
    assert await store.load_review(captures[0].signature) == before


async def test_reviews_are_upkept_like_everything_else(store: Store) -> None:
    await store.save_review(REVIEW)
    [document] = [document async for document in store.documents("groups")]
    assert document.key == REVIEW.signature
    assert document.document["state"] == "resolved"
    assert (await store.purge())["groups"] == 1
    assert await store.load_review(REVIEW.signature) == Review(REVIEW.signature)
