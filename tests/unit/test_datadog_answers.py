"""What Datadog answers, read tolerantly; page sizes; the plan's pure parts."""

from __future__ import annotations

import math
import random
from typing import Any

import orjson
import pytest

from evalforge.core.signals import Thresholds
from evalforge.core.span import Evaluation, Span
from evalforge.core.window import Window
from evalforge.datadog_http.answers import (
    NonsenseError,
    decode_answer,
    rate_limit,
    says_keys_are_valid,
    says_no_data_yet,
    wait_s,
)
from evalforge.sources.datadog.paging import page_size_for
from evalforge.sources.datadog.query import MAX_NAMES
from evalforge.sources.datadog.steps import Learned, Step, is_small, parse_step, random_slice, shown_place

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("document", "items", "cursor", "is_partial"),
    [
        ({"data": [1], "meta": {"page": {"after": "c"}, "status": "done"}}, [1], "c", False),
        ({"data": [1], "meta": {"page": None}}, [1], None, False),
        ({"data": [1], "meta": {"page": {}}}, [1], None, False),
        ({"data": [1], "meta": {"page": {"after": None}}}, [1], None, False),
        ({"data": [1], "meta": {"page": {"after": ""}}}, [1], None, False),
        ({"data": [1], "meta": None}, [1], None, False),
        ({"data": [1], "meta": [], "links": {"next": "http://evil"}}, [1], None, False),
        ({"data": []}, [], None, False),
        ({"data": None}, [], None, False),
        ({"data": [], "meta": {"status": "timeout", "page": {"after": "c"}}}, [], "c", True),
    ],
)
def test_every_level_of_an_answer_may_be_missing(document: Any, items: Any, cursor: Any, is_partial: bool) -> None:
    answer = decode_answer(orjson.dumps(document))
    assert (answer.items, answer.cursor, answer.is_partial) == (items, cursor, is_partial)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>login</html>",
        b'{"data": [',
        b"[]",
        b"null",
        b"{}",
        b'{"errors": ["x"]}',
        b'{"data": {"a": 1}}',
        b'{"data": "x"}',
        b'{"data": [], "meta": {"page": {"after": 7}}}',
        b"[" * 100_000,
    ],
)
def test_another_shape_is_nonsense(body: bytes) -> None:
    with pytest.raises(NonsenseError):
        decode_answer(body)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (b'"\\ud800"', "\ud800"),
        (b'"\xff"', "\ufffd"),
        (b"-Infinity", -math.inf),
        (b"9" * 5000, math.inf),
        (b"12e999", math.inf),
    ],
)
def test_one_odd_value_does_not_cost_the_page(value: bytes, wanted: Any) -> None:
    assert decode_answer(b'{"data": ["before", ' + value + b', "after"]}').items == ["before", wanted, "after"]


def test_warnings_are_told_by_code_only() -> None:
    answer = decode_answer(
        orjson.dumps({"data": [], "meta": {"warnings": [{"code": "unknown_index", "detail": "x"}, {"code": "a b"}, 3]}})
    )
    assert answer.warnings == ("unknown_index", "unnamed", "unnamed")


def test_no_data_yet_is_told_from_an_outage() -> None:
    assert says_no_data_yet(500, b'{"errors":[{"detail":"No valid indexes specified"}]}')
    assert not says_no_data_yet(500, b'{"errors":["boom"]}')
    assert not says_no_data_yet(400, b"No valid indexes specified")


@pytest.mark.parametrize(
    ("body", "valid"),
    [(b'{"status":"ok"}', True), (b'{"valid":true}', True), (b"{}", False), (b"<html>", False), (b"[]", False)],
)
def test_the_key_check_is_datadogs_own(body: bytes, valid: bool) -> None:
    assert says_keys_are_valid(body) is valid


def test_rate_limit_headers_are_read_as_far_as_they_make_sense() -> None:
    headers = {
        "x-ratelimit-limit": "300",
        "x-ratelimit-remaining": "7",
        "x-ratelimit-period": "3600",
        "x-ratelimit-reset": "12.5",
        "x-ratelimit-name": "spans_public_search_api",
    }
    assert rate_limit(headers) == {
        "limit": 300,
        "remaining": 7,
        "period_s": 3600,
        "reset_s": 12.5,
        "name": "spans_public_search_api",
    }
    assert rate_limit({"x-ratelimit-limit": "nan", "x-ratelimit-reset": "-1", "x-ratelimit-name": "a\nb"}) == {}
    assert rate_limit({"x-ratelimit-reset": "1764000000"}) == {}, "a moment, and no number of seconds"


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({"x-ratelimit-reset": "0"}, 0),
        ({"retry-after": "3"}, 3),
        ({"x-ratelimit-reset": "soon", "retry-after": "4"}, 4),
        ({"x-ratelimit-reset": "1764000000", "retry-after": "4"}, 4),
        ({"x-ratelimit-reset": "1e300"}, None),
        ({"x-ratelimit-reset": "86400"}, 86_400),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], wanted: float | None) -> None:
    assert wait_s(headers) == wanted


# -- page size ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "size_bytes", "item_count", "limit"),
    [
        ("llm_obs", 0, 0, 1000),
        ("llm_obs", 1_000_000, 1000, 5000),
        ("apm", 1_000_000, 1000, 1000),
        ("llm_obs", 12 * 1024 * 1024, 1000, 500),
        ("llm_obs", 60 * 1024 * 1024, 2, 1),
        ("llm_obs", 2, 1, 5000),
    ],
)
def test_a_page_is_sized_by_bytes(source: str, size_bytes: int, item_count: int, limit: int) -> None:
    size = page_size_for(source)
    assert size.limit == 1000
    size.learn(size_bytes, item_count)
    assert size.limit == limit
    size.shrink(10_000)
    assert size.limit == 1


# -- steps ----------------------------------------------------------------------------------------------------------------


def test_steps_are_spelled_and_read_back() -> None:
    for step in (Step("look"), Step("query", 0, 12), Step("again", 3, 7, 1_761_833_858_897), Step("scan", was_partial=True)):
        assert parse_step(str(step)) == step
    for text in ("", "look", "nap:0:0", "query:7:3", "query:0:1@", "query:0:1@x", "query:-1:1", "query:0:1~~"):
        assert parse_step(text) is None


@pytest.mark.parametrize(
    ("read_count", "from_ms", "to_ms", "wanted"),
    [
        (1000, 0, 12 * HOUR, True),
        (1000, 0, HOUR, False),
        (1000, 0, 0, False),
        (5001, 0, 24 * HOUR, False),
        (5000, 0, 24 * HOUR, True),
        (10, 5, 1, False),
    ],
)
def test_a_small_window_is_told_by_its_density(read_count: int, from_ms: int, to_ms: int, wanted: bool) -> None:
    assert is_small(read_count, from_ms, to_ms, Window(0, 24 * HOUR)) is wanted


def test_a_slice_lies_in_its_window() -> None:
    window = Window(1000, 1000 + 24 * HOUR)
    pieces = {random_slice(window, HOUR, random.Random(seed)) for seed in range(50)}
    assert len(pieces) == 50
    assert all(window.covers(piece) and piece.duration_ms == HOUR for piece in pieces)
    assert random_slice(Window(0, HOUR), HOUR, random.Random(0)) == Window(0, HOUR)
    assert random_slice(window, HOUR, random.Random(7)) == random_slice(window, HOUR, random.Random(7))


def span_with(*names: str) -> Span:
    return Span(
        "llm_obs", "t", "llm_obs", "s", None, "", "", "ok", 0, 0, evaluations=tuple(Evaluation(name) for name in names)
    )


def test_names_are_learned_once_and_in_order() -> None:
    learned = Learned(["evaluation.old"], ["given"], Thresholds(ignored_evaluations=frozenset({"ignored"})))
    spans = [span_with("old", "given", "ignored", "hallucination", "tool_selection", "b"), span_with("a", "b")]
    assert learned.add_names(spans) == ["evaluation.b", "evaluation.a"]
    assert learned.add_names(spans) == []
    assert learned.entries == ("evaluation.old", "evaluation.b", "evaluation.a")


def test_a_name_that_cannot_be_asked_for_is_a_gap_that_does_not_last() -> None:
    learned = Learned([], [], Thresholds())
    assert learned.add_names([span_with("a*b\n")]) == []
    (gap,) = learned.gaps
    assert gap.startswith("evaluation.unprintable-")
    assert learned.lasting == ()
    assert shown_place("evaluation.tone-check") == "evaluation.tone-check"
    assert shown_place("status") == "status"


def test_too_many_names_overflow_and_stop_growing() -> None:
    learned = Learned([], [], Thresholds())
    learned.add_names([span_with(*(f"n{number}" for number in range(10_000)))])
    assert learned.overflows
    assert len(learned.entries) <= MAX_NAMES + 1
    assert Learned(learned.entries, [], Thresholds()).overflows


@pytest.mark.parametrize("depth", [900, 1_100, 5_000, 200_000])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a\\"]":', "}")])
def test_one_value_that_nests_too_deep_does_not_cost_the_page(depth: int, begin: str, end: str) -> None:
    deep = begin * depth + "1" + end * depth
    body = f'{{"data":[{{"id":"a"}},{{"id":"b","x":{deep},"y":"[{{"}},{{"id":"c"}}],"meta":{{"page":{{"after":"n"}}}}}}'
    answer = decode_answer(body.encode())
    assert [item["id"] for item in answer.items] == ["a", "b", "c"]
    assert answer.items[1]["y"] == "[{"
    assert answer.cursor == "n"


def test_brackets_that_never_close_are_no_json() -> None:
    for body in (b"[" * 100_000, b'{"data":' + b"[" * 5_000, b'"' * 99_999, b"\\" * 100_000):
        with pytest.raises(NonsenseError):
            decode_answer(body)
