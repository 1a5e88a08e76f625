"""Reviews: what a change makes of one, what is refused, when a group has regressed, and cursors that stay good."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.privacy.text.own import without_identifiers
from evalforge.core.review import (
    MAX_EXPECTED,
    MAX_EXPECTED_OUTPUTS,
    MAX_NOTE,
    MAX_WEIGHT,
    UNSET,
    Patch,
    Review,
    ReviewState,
    changed,
    checked_signature,
    without_traces,
)
from evalforge.errors import RequestError
from evalforge.review.cursors import cursor_parts, cursor_text
from tests.captures import NOW

SIGNATURE = "s1_" + "a" * 32
FRESH = Review(SIGNATURE)
LATER = NOW + timedelta(hours=1)


def patched(review: Review, *, at: datetime = NOW, **fields: Any) -> Review:
    return changed(review, Patch(**fields), by="kim", at=at)


def test_each_change_stands_in_the_history_with_who_when_from_and_to() -> None:
    first = patched(FRESH, state=ReviewState.TRIAGED, assignee="lee", note="  look  ")
    second = patched(first, at=LATER, state=ReviewState.RESOLVED, assignee=None)
    assert (second.state, second.assignee, second.note, second.resolved_at) == (ReviewState.RESOLVED, None, "look", LATER)
    assert [(one.at, one.by, one.what, one.before, one.after) for one in second.history] == [
        (NOW, "kim", "state", "new", "triaged"),
        (NOW, "kim", "assignee", None, "lee"),
        (NOW, "kim", "note", None, "look"),
        (LATER, "kim", "state", "triaged", "resolved"),
        (LATER, "kim", "assignee", "lee", None),
    ]


@given(
    st.sampled_from(ReviewState),
    st.none() | st.from_regex(r"[a-z0-9][a-z0-9._\-]{0,9}", fullmatch=True),
    st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
)
def test_the_same_change_again_changes_nothing(state: ReviewState, assignee: str | None, note: str | None) -> None:
    patch = Patch(state, assignee, note, "ask first", "t1")
    once = changed(FRESH, patch, by="kim", at=NOW)
    assert changed(once, patch, by="lee", at=LATER) is once


def test_nothing_asked_is_nothing_changed() -> None:
    assert changed(FRESH, Patch(), by="kim", at=NOW) is FRESH
    assert Patch().state is UNSET


def test_resolving_once_more_keeps_the_time_unless_it_was_open_between() -> None:
    resolved = patched(FRESH, state=ReviewState.RESOLVED)
    assert patched(resolved, at=LATER, state=ReviewState.RESOLVED) is resolved
    again = patched(patched(resolved, at=LATER, state=ReviewState.NEW), at=LATER, state=ReviewState.RESOLVED)
    assert again.resolved_at == LATER


def test_regressed_is_resolved_and_started_after_that() -> None:
    resolved = patched(FRESH, state=ReviewState.RESOLVED)
    assert [resolved.has_regressed(when) for when in (None, NOW, LATER)] == [False, False, True]
    assert not patched(resolved, at=LATER, state=ReviewState.IGNORED).has_regressed(LATER)
    assert not FRESH.has_regressed(LATER)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"assignee": "Kim"}, "assignee"),
    ({"assignee": "kim@example.com"}, "assignee"),
    ({"assignee": ""}, "assignee"),
    ({"assignee": "a" * 65}, "assignee"),
    ({"note": "x" * (MAX_NOTE + 1)}, "note"),
    ({"note": "\ud800"}, "note"),
    ({"expected_output": "x"}, "trace_id"),
    ({"expected_output": "x", "trace_id": "t" * 201}, "trace_id"),
    ({"expected_output": "x" * (MAX_EXPECTED + 1), "trace_id": "t"}, "expected_output"),
]


@pytest.mark.parametrize(("fields", "named"), REFUSED)
def test_what_is_out_of_bounds_is_refused_by_name_and_never_quoted(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(RequestError) as caught:
        patched(FRESH, **fields)
    assert caught.value.field == named
    assert "xxx" not in caught.value.message


def test_a_group_holds_so_many_right_answers() -> None:
    review = FRESH
    for number in range(MAX_EXPECTED_OUTPUTS):
        review = patched(review, expected_output="x", trace_id=f"t{number}")
    with pytest.raises(RequestError, match="take one away"):
        patched(review, expected_output="x", trace_id="one more")
    assert len(patched(review, expected_output=None, trace_id="t0").expected_outputs) == MAX_EXPECTED_OUTPUTS - 1
    assert patched(review, expected_output="y", trace_id="t0").expected_outputs["t0"] == "y"


def test_a_full_review_takes_no_text_but_states() -> None:
    review = FRESH
    for number in range(MAX_WEIGHT // (2 * MAX_EXPECTED) - 1):
        review = patched(review, expected_output="x" * MAX_EXPECTED, trace_id=f"t{number}")
    with pytest.raises(RequestError, match="full"):
        patched(patched(review, expected_output="y" * MAX_EXPECTED, trace_id="t0"), expected_output=None, trace_id="t0")
    assert patched(review, state=ReviewState.RESOLVED).state is ReviewState.RESOLVED


def test_an_erased_trace_leaves_no_word_of_its_right_answer() -> None:
    review = patched(patched(FRESH, expected_output="for Ann", trace_id="t1"), expected_output="other", trace_id="t2")
    left = without_traces(review, {"t1"})
    assert "for Ann" not in repr(left)
    assert "t1" not in repr(left)
    assert (left.expected_outputs, len(left.history)) == ({"t2": "other"}, 2)
    assert without_traces(left, {"t1"}) is left


@pytest.mark.parametrize("text", ["", "s1_", SIGNATURE.upper(), SIGNATURE + "a", "s1_" + "g" * 32, "../" + SIGNATURE])
def test_only_signatures_are_signatures(text: str) -> None:
    with pytest.raises(RequestError):
        checked_signature(text)
    assert checked_signature(SIGNATURE) == SIGNATURE


def test_what_reviewers_write_loses_what_has_a_shape_of_its_own() -> None:
    text = "Ask Kim (kim@example.com, +49 30 901820) and use sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD; see [EMAIL_1]"
    cleaned = without_identifiers(text)
    assert cleaned.startswith("Ask Kim (")
    assert "[EMAIL_2]" in cleaned
    assert not any(secret in cleaned for secret in ("kim@", "901820", "sk-proj"))
    assert without_identifiers(cleaned) == cleaned


@given(st.text(max_size=200))
def test_cleaning_what_reviewers_write_never_fails_and_settles(text: str) -> None:
    once = without_identifiers(text)
    assert without_identifiers(once) == once


# -- cursors


@given(st.datetimes(timezones=st.just(UTC)), st.booleans(), st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_a_cursor_gives_back_what_it_was_made_of(when: datetime, flag: bool, text: str) -> None:
    cursor = cursor_text("g", when, flag, text)
    assert cursor_parts("g", cursor, (bool, str)) == (when, [flag, text])
    with pytest.raises(RequestError):
        cursor_parts("c", cursor, (bool, str))
    with pytest.raises(RequestError):
        cursor_parts("g", cursor, (str,))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: raw.decode("latin-1")))
def test_any_other_text_is_no_cursor(text: str) -> None:
    with pytest.raises(RequestError, match="cursor"):
        cursor_parts("g", text, (bool, str))


def test_a_huge_cursor_is_refused_unread() -> None:
    with pytest.raises(RequestError):
        cursor_parts("g", cursor_text("g", NOW, True, "x" * 1_000), (bool, str))
