"""The stored text gives back exactly what went in, and what is cut to fit stays fit."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.stores import lossless
from evalforge.stores.fitting import DEEPEST_LEVEL, cut, weight
from tests.captures import json_values, scalars
from tests.examples import examples


@given(json_values())
def test_text_gives_every_value_back(value: Any) -> None:
    text = lossless.dumps(value)
    assert lossless.loads(text) == value
    assert repr(lossless.loads(text)) == repr(value)
    json.loads(text, parse_constant=pytest.fail)  # strict JSON: no NaN, no Infinity


def test_numbers_that_json_has_no_words_for_come_back() -> None:
    found = lossless.loads(lossless.dumps([math.nan, math.inf, -math.inf, -0.0]))
    assert math.isnan(found[0])
    assert found[1:3] == [math.inf, -math.inf]
    assert math.copysign(1, found[3]) == -1


@pytest.mark.parametrize("value", [object(), {1: 2}, {1, 2}, 1j], ids=lambda value: type(value).__name__)
def test_other_types_are_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        lossless.dumps(value)


@pytest.mark.parametrize("text", ['{"evalforge:integer": []}', '{"evalforge:time": "x"}', '{"evalforge:entries": [1]}', "{"])
def test_a_foreign_escape_is_an_error_that_is_foreseen(text: str) -> None:
    with pytest.raises((TypeError, ValueError, LookupError)):
        lossless.loads(text)


strange = st.one_of(scalars, st.just(object()), st.just(datetime(2026, 1, 1)), st.just(1j), st.floats())  # noqa: DTZ001
heavy = st.one_of(
    strange, st.integers(0, 400).map(lambda size: "é" * size), st.integers(0, 400).map(lambda size: "\0" * size)
)


@examples(200)
@given(json_values(leaves=heavy), st.integers(400, 3_000))
def test_what_is_cut_fits_and_is_not_cut_again(value: Any, allowance: int) -> None:
    fitted, mark_count = cut(value, allowance)
    assert weight(fitted) <= allowance
    assert cut(fitted, allowance) == (fitted, 0)
    assert (mark_count == 0) == (fitted is value)
    lossless.dumps(fitted)


@given(json_values(leaves=st.integers()))
def test_what_fits_is_the_same_object(value: Any) -> None:
    assert cut(value, 10**9) == (value, 0)


def test_only_the_largest_parts_give() -> None:
    fitted, mark_count = cut({"small": "a", "large": "x" * 5_000, "larger": "y" * 50_000}, 4_000)
    assert mark_count == 2
    assert fitted["small"] == "a"
    assert fitted["large"].startswith("xxx")
    assert fitted["large"].endswith("[cut: string of 5000 bytes]")


def test_what_is_too_deep_is_cut_there() -> None:
    value: Any = "core"
    for _ in range(5_000):
        value = [value]
    fitted, mark_count = cut(value, 100_000)
    assert mark_count == 1
    depth = 0
    while isinstance(fitted, list):
        [fitted] = fitted
        depth += 1
    assert (depth, fitted) == (DEEPEST_LEVEL, "[cut: array of 1 elements]")
