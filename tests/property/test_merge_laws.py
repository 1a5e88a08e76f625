"""Merging is idempotent, commutative and associative, also where its caps cut, and documents give captures back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core import capture as capture_module
from evalforge.core import error_details, origins
from evalforge.core.capture import FailureCapture, merge, with_root_user
from evalforge.stores.fitting import fit
from tests.captures import START_NS, failure_captures, user_hashes
from tests.examples import examples

_CAPS = ("MAX_SIGNALS", "MAX_SPAN_IDS", "MAX_OCCURRENCES", "MAX_USER_HASHES")


@pytest.fixture(params=[None, 1, 2, 3], ids=lambda cap: f"cap-{cap}", autouse=True, scope="module")
def cap(request: pytest.FixtureRequest) -> Iterator[None]:
    """The real caps, and ones so small that every merge is cut."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _CAPS if request.param is not None else ():
            patch.setattr(capture_module, name, request.param)
        if request.param is not None:
            patch.setattr(error_details, "MAX_ERROR_DETAILS", request.param)
            patch.setattr(origins, "MAX_ORIGINS", request.param)
        yield


@examples(40)
@given(failure_captures())
def test_merge_is_idempotent(one: FailureCapture) -> None:
    assert merge(one, one) == one


@examples(40)
@given(failure_captures(), failure_captures())
def test_merge_is_commutative(one: FailureCapture, other: FailureCapture) -> None:
    assert merge(one, other) == merge(other, one)


@examples(40)
@given(failure_captures(), failure_captures(), failure_captures())
def test_merge_is_associative(one: FailureCapture, two: FailureCapture, three: FailureCapture) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@examples(40)
@given(
    st.lists(failure_captures(), min_size=1, max_size=4).flatmap(
        lambda parts: st.tuples(st.just(parts), st.permutations(parts))
    )
)
def test_any_order_with_any_repetition_gives_one_document(
    orders: tuple[list[FailureCapture], list[FailureCapture]],
) -> None:
    parts, permuted = orders
    first = parts[0]
    for part in [*parts[1:], *permuted]:
        first = merge(first, part)
    second = permuted[0]
    for part in permuted[1:]:
        second = merge(second, part)
    assert first == second
    assert first.to_document() == second.to_document()


@examples(40)
@given(failure_captures(), failure_captures(), user_hashes, st.integers(START_NS - 1, START_NS + 3))
def test_a_roots_user_may_be_learned_before_or_after_any_merge(
    one: FailureCapture, other: FailureCapture, user_hash: str, start_ns: int
) -> None:
    learned = with_root_user(one, user_hash, start_ns)
    assert merge(learned, other) == with_root_user(merge(one, other), user_hash, start_ns)
    assert with_root_user(learned, user_hash, start_ns) == learned
    assert merge(one, learned) == merge(learned, one) == merge(learned, learned)


@examples(40)
@given(failure_captures(), user_hashes, st.integers(START_NS - 1, START_NS + 3))
def test_whom_a_failing_span_names_comes_before_whom_a_root_names(
    one: FailureCapture, user_hash: str, start_ns: int
) -> None:
    learned = with_root_user(one, user_hash, start_ns)
    assert learned.user_first_ns == one.user_first_ns
    assert not {name for name, _ in learned.user_first_ns} & {name for name, _ in learned.root_user_first_ns}
    if one.user_hash is not None and one.user_first_ns:
        assert learned.user_hash == one.user_hash
    elif not one.root_user_first_ns:
        assert learned.user_hash == user_hash


@examples(40)
@given(failure_captures())
def test_the_document_gives_the_capture_back(one: FailureCapture) -> None:
    assert FailureCapture.from_document(one.to_document()) == one


@examples(40)
@given(failure_captures())
def test_a_fitting_capture_is_left_as_it_is(one: FailureCapture) -> None:
    assert fit(one) is one
