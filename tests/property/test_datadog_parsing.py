"""Whatever JSON Datadog sends as an item: an answer, never an exception, and one item never changes another."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.ports import Rejected
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.datadog_http.answers import NonsenseError, decode_answer
from evalforge.sources.datadog.spans import PARSERS
from evalforge.sources.datadog.steps import parse_step

TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
WORDS = st.sampled_from(
    [
        "undefined",
        "0",
        "",
        "fail",
        "error",
        "ok",
        "true",
        "1e999",
        "nan",
        "9" * 5000,
        "2026-02-30T00:00:00Z",
        "2026-11-23T06:26:00.813Z",
        "a:b",
        "quality_score:0.1",
        "\ud800",
        "\x00",
    ]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([2**63, -(2**64), 10**500, 1e308])
    | TEXT
    | WORDS
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT | WORDS, inner, max_size=4), max_leaves=12
)
NAMES = st.sampled_from(
    [
        "trace_id",
        "span_id",
        "parent_id",
        "name",
        "span_kind",
        "status",
        "start_ns",
        "duration",
        "ml_app",
        "tags",
        "metadata",
        "metrics",
        "evaluation",
        "error",
        "custom",
        "resource_name",
        "start_timestamp",
        "end_timestamp",
        "env",
        "service",
        "type",
    ]
)
CUSTOM = st.dictionaries(
    st.sampled_from(["error", "duration", "llmobs_trace_id", "gen_ai", "span", "http", "llm_obs", "error.type"]),
    JSON,
    max_size=5,
)
ATTRIBUTES = st.dictionaries(NAMES, JSON | CUSTOM, max_size=12)
SPANNISH = st.fixed_dictionaries({"trace_id": WORDS | st.integers(), "span_id": st.just("1")}).flatmap(
    lambda ids: ATTRIBUTES.map(lambda rest: {**rest, **ids})
)
ITEMS = JSON | st.fixed_dictionaries({"attributes": JSON | ATTRIBUTES | SPANNISH})


@given(item=ITEMS, source=st.sampled_from(["llm_obs", "apm"]))
def test_any_json_as_an_item_is_a_span_or_rejected(item: Any, source: str) -> None:
    outcome = PARSERS[source](item)
    if isinstance(outcome, Rejected):
        assert outcome.item is item
        assert outcome.reason in {"not_an_object", "no_attributes", "missing_trace_id", "missing_span_id"}
        return
    assert isinstance(outcome, Span)
    assert outcome.trace_id
    assert outcome.span_id
    assert 0 <= outcome.start_ns < 2**63
    assert 0 <= outcome.duration_ns < 2**63
    assert all(isinstance(key, str) and isinstance(value, str) for key, value in outcome.tags)
    find_signals(outcome, Thresholds())


def test_nesting_of_any_depth_is_carried_along() -> None:
    deep: Any = "core"
    for _ in range(50_000):
        deep = {"custom": deep}
    for parse in PARSERS.values():
        for name in ("tags", "metadata", "custom", "evaluation", "input", "error", "trace_id"):
            parse({"attributes": {"trace_id": "1", "span_id": "1", name: deep}})
    while isinstance(deep, dict):  # taken apart by hand: freeing it at once would exhaust the C stack on some Pythons
        deep = deep.pop("custom")


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_an_answer_or_nonsense(body: bytes) -> None:
    try:
        answer = decode_answer(body)
    except NonsenseError:
        return
    assert isinstance(answer.items, list)


@given(st.text(max_size=40) | st.from_regex(r"(look|slice|query|again|scan):\d{1,6}:\d{1,6}(@\d{1,15})?~?", fullmatch=True))
def test_a_step_is_spelled_in_one_way(text: str) -> None:
    step = parse_step(text)
    if step is not None:
        assert parse_step(str(step)) == step
