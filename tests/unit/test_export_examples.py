"""An example says what was asked, what came out and why that was bad; and never makes up what privacy settings removed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import StoredCapture
from evalforge.core.signals import FailureType
from evalforge.exports.chat import answer_in, asked_in, chat_messages
from evalforge.exports.examples import (
    RUBRICS,
    Example,
    assertions_of,
    example_document,
    example_from,
    example_line,
    example_of,
    split_of,
    usable,
)
from tests.captures import NOW, capture, failure_captures
from tests.hostile_examples import hostile_examples

CLOSED = "[redacted:text 24]"


def made(payload: dict[str, Any], **others: Any) -> Example:
    return example_of(stored(capture(1, payload={"name": "answer", **payload})), **others)


def stored(found: FailureCapture, processed: bool = False) -> StoredCapture:
    return StoredCapture(found, found.to_document(), NOW, processed)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("section", "asked"),
    [
        ("plain text", "plain text"),
        ({"value": "the value", "messages": [user("the message")]}, "the value"),
        ({"value": CLOSED, "messages": [user("the message")]}, "the message"),
        ({"messages": [user("first"), {"role": "assistant", "content": "no"}, user("last")]}, "last"),
        ({"messages": [user("first"), user(CLOSED)]}, ""),
        ({"messages": [{"role": "system", "content": "only instructions"}]}, "only instructions"),
        ({"messages": [{"role": "assistant", "content": "an answer is no question"}]}, ""),
        ({"messages": [{"role": "Human", "content": "by another name"}]}, "by another name"),
        ({"messages": [user([{"type": "text", "text": "part 1"}, {"type": "text", "text": "part 2"}])]}, "part 1\npart 2"),
        ({"parameters": {"id": 7}}, '{"parameters":{"id":7}}'),
        ({"value": {"question": "why"}}, '{"question":"why"}'),
        ({"documents": [{"text": CLOSED}]}, ""),
        ({"value": "[EMAIL_1] [PERSON_2]"}, ""),
        ({"value": "mail [EMAIL_1]"}, "mail [EMAIL_1]"),
        ({"value": "[]"}, "[]"),
        ({"value": "  "}, ""),
        ({"messages": "not a list"}, ""),
        ({}, ""),
        (None, ""),
        (7, "7"),
    ],
)  # fmt: skip
def test_what_was_asked(section: Any, asked: str) -> None:
    assert asked_in(section) == asked


@pytest.mark.parametrize(
    ("payload", "texts"),
    [
        ({"input": {"value": "kept"}}, "kept"),
        ({"input": {"value": CLOSED}}, "closed"),
        ({"input": CLOSED}, "closed"),
        ({"input": {"messages": [user(CLOSED)]}}, "closed"),
        ({"input": {"messages": [user("earlier"), user(CLOSED)]}}, "closed"),
        ({"input": {"value": "[EMAIL_1], [PERSON_1]"}}, "closed"),
        ({"input": {"parameters": {"q": "[redacted:object 2]"}}}, "closed"),
        ({"input": {"messages": [user("")]}}, "absent"),
        ({"input": {}}, "absent"),
        ({}, "absent"),
    ],
)
def test_texts_that_are_not_there_never_make_an_empty_test(payload: dict[str, Any], texts: str) -> None:
    example = made(payload)
    assert example.texts == texts
    assert usable(example) == (texts == "kept")


def test_messages_are_those_of_chat_apis() -> None:
    call = {"name": "look", "tool_id": "c1", "arguments": {"b": 1, "a": [2]}, "type": "function"}
    messages = chat_messages(
        {
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "human", "content": "Where is it?"},
                {"role": "AI", "content": "", "tool_calls": [call, {"name": "look"}]},
                {"role": "tool", "tool_results": [{"tool_id": "c1", "name": "look", "result": "here"}]},
                {"role": "tool", "content": "there", "tool_call_id": "call_2"},
                {"role": "user", "content": "And?", "tool_results": [{"result": "late"}]},
                {"role": "user", "content": CLOSED},
                "not a message",
            ]
        }
    )
    first = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a":[2],"b":1}'}}
    second = {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    assert list(messages) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "", "tool_calls": [first, second]},
        {"role": "tool", "content": "here", "tool_call_id": "c1", "name": "look"},
        {"role": "tool", "content": "there", "tool_call_id": "call_2"},
        {"role": "user", "content": "And?"},
        {"role": "tool", "content": "late"},
        {"role": "user", "content": CLOSED},
    ]
    assert chat_messages({"messages": [user(CLOSED)]}) == ()


def test_the_bad_answer_is_told_as_one_and_the_right_one_is_a_reviewers() -> None:
    payload = {"input": "why?", "output": {"messages": [{"role": "", "content": "because I say so"}]}}
    without, told = made(payload), made(payload, expected_output="because", split="test")
    assert (without.actual_output, without.expected_output, without.split) == ("because I say so", None, None)
    assert (told.expected_output, told.split) == ("because", "test")
    assert without.forbidden == ["because I say so"]
    assert answer_in({"value": CLOSED}) == ""


@pytest.mark.parametrize("failure_type", list(FailureType))
def test_every_failure_type_has_its_rubric(failure_type: FailureType) -> None:
    assert assertions_of(failure_type, "")[0].value == RUBRICS[failure_type]


@pytest.mark.parametrize(
    "answer", ["", " " * 40, "too short", "x" * 501, "mail [EMAIL_1] about it", f"so {CLOSED} it is", CLOSED]
)
def test_answers_that_tell_nothing_are_not_forbidden(answer: str) -> None:
    assert [one.kind for one in assertions_of(FailureType.TOXICITY, answer)] == ["rubric"]


def test_metadata_says_where_it_comes_from_and_why() -> None:
    reasoning = {"hallucination": {"value": "x", "reasoning": "It is not in the input."}}
    example = made({"input": "why?", "evaluation": reasoning})
    assert example.metadata["explanation"] == "It is not in the input."
    assert example.metadata["why"] == "evaluation.hallucination = hallucination found (is hallucination found)"
    assert {"trace_id", "span_id", "datadog_url", "span_url", "link_expires_at", "failure_type"} <= set(example.metadata)
    assert "error_type" not in example.metadata
    assert "explanation" not in made({"input": "why?", "error": {"message": CLOSED}}).metadata


@pytest.mark.parametrize("example", hostile_examples(), ids=lambda one: one.id[-4:])
def test_a_line_gives_its_example_back(example: Example) -> None:
    line = example_line(example)
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    assert example_from(json.loads(line)) == example
    assert example_from(example_document(example)) == example


@given(failure_captures())
def test_every_capture_makes_one_example_and_always_the_same(found: Any) -> None:
    one = example_of(stored(found))
    assert one == example_of(stored(found, True))
    assert example_line(example_from(json.loads(example_line(one)))) == example_line(one)
    assert one.id == f"evalforge_{found.document_id}"


sections = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from([CLOSED, "[EMAIL_1]", "user", "tool"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["messages", "value", "role", "content", "tool_calls", "tool_results", "name", "arguments"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(sections, sections)
def test_no_payload_whatever_its_shape_breaks_it(given_section: Any, answer: Any) -> None:
    example = made({"input": given_section, "output": answer})
    assert (example.texts == "kept") == bool(example.input)
    assert all(isinstance(one["content"], str) for one in example.messages)
    json.loads(example_line(example))


def test_a_signature_is_always_on_one_side_and_shares_are_kept_about() -> None:
    sides = [split_of(f"s1_{number}", 0.2) for number in range(2_000)]
    assert sides == [split_of(f"s1_{number}", 0.2) for number in range(2_000)]
    assert 300 < sides.count("test") < 500
    assert split_of("x", 0.0) == "train"
    assert split_of("x", 1.0) == "test"
