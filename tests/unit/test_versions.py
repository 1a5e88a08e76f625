"""Versions of stored documents: each step up, the way through all of them, and what is no version or a later one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core import versions
from evalforge.core.capture import FailureCapture
from evalforge.core.ports import LOOKBACK, Brief, Facets
from evalforge.core.versions import FROZEN, STEPS, TODAY, VERSION_FIELD, Kind, kind_of, stamped, todays, version_of
from evalforge.errors import NewerVersionError, StoreError
from tests.captures import capture, failure_captures

FIRST_CAPTURE = {"occurrences": [{"span_id": "1"}, {"span_id": "2", "removed_count": 3}], "theirs": 1}
STEP_ROWS = [
    (
        versions._capture_to_2,
        FIRST_CAPTURE,
        {
            "occurrences": [{"span_id": "1", "removed_count": 0}, {"span_id": "2", "removed_count": 3}],
            "root_user_count": 0,
            "theirs": 1,
        },
    ),
    (versions._capture_to_3, {"theirs": 1}, {"theirs": 1, "error_details": []}),
    (versions._capture_to_4, {"theirs": 1}, {"theirs": 1, "origins": b""}),
    (versions._checkpoint_to_2, {"done": True}, {"done": True, "tier": LOOKBACK, "began_ms": None, "fence": 0}),
    (versions._lease_to_2, {"name": "a"}, {"name": "a", "fence": 0}),
    (versions._package_to_2, {"id": "a"}, {"id": "a", "erased_count": 0}),
    (
        versions._package_to_3,
        {"id": "a"},
        {
            "id": "a",
            "attempts": 1,
            "attempted_at": None,
            "per_group": None,
            "test_share": None,
            "files": [],
            "counts": {},
            "document_ids": b"",
            "ids_are_cut": False,
        },
    ),
]


@pytest.mark.parametrize(("step", "before", "after"), STEP_ROWS)
def test_each_step_fills_in_what_was_not_known_and_changes_nothing(
    step: versions.Step, before: dict[str, object], after: dict[str, object]
) -> None:
    untouched = dict(before)
    assert step(before) == after
    assert before == untouched
    assert step(after) == after, "a document that told no version may have it already"


def test_every_step_has_a_row_here() -> None:
    assert [step for steps in STEPS.values() for step in steps] == [step for step, _, _ in STEP_ROWS]


@pytest.mark.parametrize("kind", STEPS)
def test_every_kind_comes_from_the_first_version_to_todays(kind: Kind) -> None:
    first = {"occurrences": [], "theirs": 1}
    raised = todays(kind, first)
    assert raised.items() >= first.items()
    assert version_of(raised) == TODAY[kind]
    assert todays(kind, raised) is raised


@pytest.mark.parametrize("kind", STEPS)
def test_a_later_version_is_refused_with_what_to_do(kind: Kind) -> None:
    with pytest.raises(
        NewerVersionError, match=f"schema version {TODAY[kind] + 1}.*none after {TODAY[kind]}: update"
    ) as told:
        todays(kind, {VERSION_FIELD: TODAY[kind] + 1})
    assert isinstance(told.value, StoreError)
    assert (told.value.version, told.value.known, told.value.code) == (TODAY[kind] + 1, TODAY[kind], "newer_version")


@given(st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.integers(max_value=0), st.lists(st.integers())))
def test_what_is_no_version_is_none_of_ours(told: object) -> None:
    with pytest.raises(ValueError, match="no version"):
        todays("capture", {VERSION_FIELD: told})


@pytest.mark.parametrize("kind", STEPS)
@pytest.mark.parametrize("stored", [7, None, True, [], "schema_version"])
def test_what_is_no_document_is_none_of_ours(kind: Kind, stored: Any) -> None:
    with pytest.raises(TypeError):
        todays(kind, stored)


@given(failure_captures())
def test_a_capture_of_today_is_read_as_it_was_written(one: FailureCapture) -> None:
    document = one.to_document()
    assert version_of(document) == TODAY["capture"]
    assert FailureCapture.from_document(document) == one


@given(failure_captures())
def test_steps_leave_alone_what_stores_ask_for_by_name(one: FailureCapture) -> None:
    first = {**one.to_document(), VERSION_FIELD: 1}
    raised = todays("capture", first)
    assert {name: raised[name] for name in FROZEN} == {name: first[name] for name in FROZEN}


def test_what_rows_of_many_are_made_of_is_asked_for_by_name() -> None:
    named = {*Brief.__slots__, *Facets.__slots__} - {"span_name", "evaluator", "version"}  # of the payload and the signals
    assert named <= FROZEN
    assert set(capture().to_document()) >= FROZEN


def test_kinds_with_one_version_do_not_tell_it() -> None:
    assert stamped("review", {"state": "new"}) == {"state": "new"}
    assert stamped("lease", {}) == {VERSION_FIELD: 2}


@pytest.mark.parametrize(
    ("collection", "key", "kind"),
    [
        ("raw_traces", "00ff", "capture"),
        ("checkpoints", "source_llm_obs", "checkpoint"),
        ("checkpoints", "lease_ingestion", "lease"),
        ("checkpoints", "coverage_apm", "coverage"),
        ("checkpoints", "keyring", "keyring"),
        ("checkpoints", "keyring_ab", "keyring"),
        ("checkpoints", "told_groups", "told"),
        ("checkpoints", "erasure_epoch", "epoch"),
        ("checkpoints", "somebody_elses", None),
        ("groups", "s1_0", "review"),
        ("nowhere", "00ff", None),
    ],
)
def test_a_place_says_what_a_document_is(collection: str, key: str, kind: Kind | None) -> None:
    assert kind_of(collection, key) == kind
