"""Kept texts, whatever they hold: twice is once, nothing is mutated, shapes stay, values of sensitive keys go."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.privacy import KeyRing, Sanitizer, TextPolicy, TraceContext
from evalforge.core.privacy.again import span_of
from evalforge.core.privacy.modes import WHOLE_FIELDS
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Evaluation, Span
from tests.examples import examples
from tests.spans import span

RING = KeyRing((b"k" * 32,))
PATHS = (*WHOLE_FIELDS, "metadata.note", "attributes.note", "tags.note", "evaluation.check.llm_output", "input.value")
POLICIES = {
    "default": TextPolicy(),
    "closed": TextPolicy.of(explanations="closed"),
    "scrubbed": TextPolicy.of(PATHS),
    "open": TextPolicy.of(PATHS, PATHS),
    "mixed": TextPolicy.of(PATHS, ["input", "metadata.note"], "closed"),
}

KEYS = st.sampled_from(
    "note message text name email user phone id items value role content prompt password city limit active status "
    "max_tokens "
    "error tool_calls arguments result customer_name user_message data".split()
)
TEXTS = st.one_of(
    st.sampled_from(
        [
            "the refund was late",
            "ask maria.lopez@example.com about it",
            "[EMAIL_3] was told",
            "[redacted:text 4]",
            '{"email": "jane@example.org", "note": "x"}',
            "[1, 2]",
            "Flexton Brizard asked twice",
            "+1 415-555-0132",
            "key=value password=hunter2x",
            "50%20of%20it",
            "call me\n[cut: 12 more characters]",
            "",
            " ",
        ]
    ),
    st.text(max_size=30),
)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool"]), "content": TEXTS},
        optional={
            "tool_calls": st.lists(st.fixed_dictionaries({"name": st.just("search"), "arguments": JSON}), max_size=2),
            "tool_results": st.lists(st.fixed_dictionaries({"result": JSON, "isError": st.booleans()}), max_size=2),
            "name": TEXTS,
        },
    ),
    max_size=3,
)
CONVERSATIONS = st.one_of(JSON, st.fixed_dictionaries({"messages": MESSAGES}, optional={"value": JSON, "prompt": JSON}))


@st.composite
def spans(draw: st.DrawFn) -> Span:
    """Spans with texts in every carrier."""
    body = draw(st.fixed_dictionaries({"reasoning": TEXTS}, optional={"llm_output": JSON, "error": JSON}))
    return span(
        status=draw(st.sampled_from(["ok", "error"])),
        input=draw(CONVERSATIONS),
        output=draw(CONVERSATIONS),
        error=draw(st.one_of(st.none(), TEXTS, st.fixed_dictionaries({"type": st.just("ValueError"), "message": TEXTS}))),
        metadata=draw(st.dictionaries(KEYS, JSON, max_size=4)),
        attributes=draw(st.dictionaries(KEYS | st.just("error.message"), JSON, max_size=4)),
        tags=tuple(draw(st.lists(st.tuples(KEYS | st.just("error.message"), TEXTS), max_size=3))),
        evaluations=(Evaluation("check", draw(SCALARS), "score", "fail", "OK", body),),
    )


@pytest.mark.parametrize("policy", POLICIES)
@examples(60)
@given(spans())
def test_sanitizing_twice_is_sanitizing_once(policy: str, raw: Span) -> None:
    sanitizer = Sanitizer(RING, POLICIES[policy])
    trace = TraceContext(has_user=True)
    before = copy.deepcopy(raw)
    once = sanitizer.sanitize(raw, find_signals(raw, Thresholds()), trace)
    assert repr(raw) == repr(before)
    assert sanitizer.sanitize(raw, find_signals(raw, Thresholds()), trace) == once
    assert "error" not in once.redactions
    again, marks = span_of(once.payload)
    twice = sanitizer.sanitize(again, (), trace)
    assert _without_empty(dict(twice.payload) | marks) == _without_empty(once.payload)
    assert json.dumps(dict(once.payload), allow_nan=False)


@pytest.mark.parametrize("policy", POLICIES)
def test_a_measure_that_was_an_echo_stays_its_placeholder(policy: str) -> None:
    raw = span(metadata={"message": {"max_tokens": {"name": 10_000}}}, attributes={"error.message": {"name": 10_000}})
    sanitizer = Sanitizer(RING, POLICIES[policy])
    once = sanitizer.sanitize(raw, (), TraceContext(has_user=True))
    assert once.payload["metadata"] == {"message": {"max_tokens": {"name": "[redacted:number]"}}}
    again, _ = span_of(once.payload)
    assert sanitizer.sanitize(again, (), TraceContext(has_user=True)).payload["metadata"] == once.payload["metadata"]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    "carried",
    [
        {"note": {"": {"": 0}}},  # below a text, a key that cannot be stored
        {"message": {"": 0}},
        {"user": {"\U000107560": {"active": True}}},
        {"note": {"": [True, 1, "word"]}},
    ],
)
def test_what_stands_below_a_key_that_is_not_stored_comes_out_the_same_again(policy: str, carried: dict[str, Any]) -> None:
    sanitizer = Sanitizer(RING, POLICIES[policy])
    once = sanitizer.sanitize(span(attributes=carried, metadata=carried), (), TraceContext(has_user=True))
    again, marks = span_of(once.payload)
    twice = sanitizer.sanitize(again, (), TraceContext(has_user=True))
    assert _without_empty(dict(twice.payload) | marks) == _without_empty(once.payload)


@pytest.mark.parametrize("policy", ["default", "scrubbed", "open"])
def test_what_a_placeholder_touches_is_looked_at_again(policy: str) -> None:
    evaluation = Evaluation("check", None, "score", "fail", "OK", {"reasoning": "\u00c0@\U000107560"})
    once = Sanitizer(RING, POLICIES[policy]).sanitize(span(evaluations=(evaluation,)), (), TraceContext(has_user=True))
    again, _ = span_of(once.payload)
    twice = Sanitizer(RING, POLICIES[policy]).sanitize(again, (), TraceContext(has_user=True))
    assert once.payload["evaluation"]["check"]["reasoning"].startswith("[WORD_1]")
    assert twice.payload["evaluation"] == once.payload["evaluation"]


def _without_empty(payload: Mapping[str, Any]) -> dict[str, Any]:
    """A section of which nothing is left is one that was never there."""
    return {section: value for section, value in payload.items() if value not in ({}, "")}


@examples(150)
@given(JSON)
def test_scrubbed_arguments_keep_their_shape(arguments: Any) -> None:
    raw = span(input={"messages": [{"role": "assistant", "tool_calls": [{"name": "search", "arguments": arguments}]}]})
    stored = Sanitizer(RING, POLICIES["scrubbed"]).sanitize(raw, (), TraceContext(has_user=True))
    _same_shape(arguments, stored.payload["input"]["messages"][0]["tool_calls"][0]["arguments"])


def _same_shape(raw: Any, stored: Any) -> None:
    if isinstance(raw, Mapping):
        assert isinstance(stored, dict)
        assert len(raw) == len(stored)
        for one, other in zip(raw.values(), stored.values(), strict=True):
            _same_shape(one, other)
    elif isinstance(raw, list):
        assert isinstance(stored, list)
        assert len(raw) == len(stored)
        for one, other in zip(raw, stored, strict=True):
            _same_shape(one, other)
    elif isinstance(raw, str):
        assert isinstance(stored, str)
        _same_kind_of_text(raw, stored)
    elif raw is None:
        assert stored is None
    else:
        assert stored is raw or stored == raw or isinstance(stored, str)


def _same_kind_of_text(raw: str, stored: str) -> None:
    """A string that holds JSON still does, unless it stood under a sensitive key."""
    try:
        parsed = json.loads(raw)
    except ValueError:
        return
    if isinstance(parsed, dict) and raw.startswith("{") and not stored.startswith("["):
        assert isinstance(json.loads(stored), dict)


NAMES = st.sampled_from(["Flexton Brizard", "Ngozi Okafor-Zhuwao", "Iñaki Urrutxua", "王小明", "Zbigniew Krzysztofowicz"])
VALUES = st.one_of(
    st.tuples(st.sampled_from(["customer_name", "fullName", "user.name", "patient-name", "ContactName"]), NAMES),
    st.tuples(
        st.sampled_from(["email", "userEmail", "contact.email", "Email_Address"]),
        st.builds(
            "{}.{}@example.org".format, st.text("bdfgk", min_size=4, max_size=9), st.text("xzqvw", min_size=4, max_size=9)
        ),
    ),
    st.tuples(
        st.sampled_from(["session_id", "sessionId", "password", "api-key", "access_token", "user.id"]),
        st.builds("{}{}-{}".format, st.text("bdfgk", min_size=4, max_size=9), st.integers(10, 99), st.integers(1000, 9999)),
    ),
)


@st.composite
def wrapped(draw: st.DrawFn, key: str, value: str) -> Any:
    """`{key: value}` at some depth, in lists, pairs and JSON strings."""
    node: Any = draw(st.sampled_from([{key: value}, {key: [value]}, [{"name": key, "value": value}], [[key, value]]]))
    for _ in range(draw(st.integers(0, 3))):
        node = draw(st.sampled_from([{"data": node}, [node, 1], json.dumps(node), {"items": [node]}]))
    return node


@examples(250)
@given(VALUES, st.data())
def test_what_a_sensitive_key_holds_goes_everywhere_it_is_repeated(planted: tuple[str, str], data: st.DataObject) -> None:
    key, value = planted
    where = data.draw(st.sampled_from(["metadata", "attributes", "input", "output", "arguments", "result"]))
    node = data.draw(wrapped(key, value))
    fields: dict[str, Any] = {
        "metadata": {"metadata": {"ticket": node}},
        "attributes": {"attributes": {"ticket": node}},
        "input": {"input": {"value": node}},
        "output": {"output": {"value": node}},
        "arguments": {"input": {"messages": [{"tool_calls": [{"name": "search", "arguments": node}]}]}},
        "result": {"output": {"messages": [{"tool_results": [{"name": "search", "result": node}]}]}},
    }[where]
    said = f"The agent told {value} twice that {value.upper()} was late"
    raw = span(
        **fields,
        name=f"ask {value}",
        error={"message": said},
        tags=(("team", value), ("error.message", said)),
        evaluations=(Evaluation("check", value, "categorical", "fail", "OK", {"reasoning": said}),),
    )
    for policy in ("default", "closed", "scrubbed"):
        result = Sanitizer(RING, POLICIES[policy]).sanitize(
            raw, find_signals(raw, Thresholds()), TraceContext(has_user=True)
        )
        seen = json.dumps(dict(result.payload), ensure_ascii=False) + repr(result)
        assert value.lower() not in seen.lower()
        for part in value.replace("@", " ").replace("-", " ").replace(".", " ").split():
            if len(part) > 4 and part not in ("example",):
                assert part.lower() not in seen.lower(), (policy, part)
    if "reasoning" in result.payload["evaluation"]["check"]:
        assert "late" in result.payload["evaluation"]["check"]["reasoning"]
