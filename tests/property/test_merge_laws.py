"""Merging is idempotent, commutative and associative, also where its caps cut, and documents give captures back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evalforge.core import capture as capture_module
from evalforge.core.capture import FailureCapture, merge
from evalforge.stores.fitting import fit
from tests.captures import failure_captures

_CAPS = ("MAX_SIGNALS", "MAX_SPAN_IDS", "MAX_OCCURRENCES", "MAX_USER_HASHES")


@pytest.fixture(params=[None, 1, 2, 3], ids=lambda cap: f"cap-{cap}", autouse=True, scope="module")
def cap(request: pytest.FixtureRequest) -> Iterator[None]:
    """The real caps, and ones so small that every merge is cut."""
    with pytest.MonkeyPatch.context() as patch:
        for name in _CAPS if request.param is not None else ():
            patch.setattr(capture_module, name, request.param)
        yield


@settings(max_examples=40)
@given(failure_captures())
def test_merge_is_idempotent(one: FailureCapture) -> None:
    assert merge(one, one) == one


@settings(max_examples=40)
@given(failure_captures(), failure_captures())
def test_merge_is_commutative(one: FailureCapture, other: FailureCapture) -> None:
    assert merge(one, other) == merge(other, one)


@settings(max_examples=40)
@given(failure_captures(), failure_captures(), failure_captures())
def test_merge_is_associative(one: FailureCapture, two: FailureCapture, three: FailureCapture) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@settings(max_examples=40)
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


@settings(max_examples=40)
@given(failure_captures())
def test_the_document_gives_the_capture_back(one: FailureCapture) -> None:
    assert FailureCapture.from_document(one.to_document()) == one


@settings(max_examples=40)
@given(failure_captures())
def test_a_fitting_capture_is_left_as_it_is(one: FailureCapture) -> None:
    assert fit(one) is one
