"""Kept texts: what is scrubbed, what stays closed, what is open, and that one thing has one placeholder everywhere."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from evalforge.core.canonical import canonical_json
from evalforge.core.privacy import KeyRing, Sanitizer, TextPolicy, TraceContext
from evalforge.core.privacy.finishing import MAX_PAYLOAD_BYTES
from evalforge.core.privacy.net import leaks_in
from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.privacy.texts import MAX_KEPT_BYTES, MAX_TEXT_LENGTH, bounded
from evalforge.core.span import Evaluation
from tests.spans import span

RING = KeyRing((b"k" * 32,))
EMAIL = "maria.lopez@example.com"
USER = {"user_id": "u-8841"}


def sanitized(policy: TextPolicy, **fields: Any) -> SanitizedSpan:
    return Sanitizer(RING, policy).sanitize(span(**({"tags": (("user_id", "u-8841"),)} | fields)), ())


def payload_of(policy: TextPolicy, **fields: Any) -> dict[str, Any]:
    return dict(sanitized(policy, **fields).payload)


INPUT = TextPolicy.of(["input"])
BOTH = TextPolicy.of(["input", "output"])

# -- explanations ---------------------------------------------------------------------------------------------------------

SAID = f"The answer sent the refund to {EMAIL} before it was approved"
SCRUBBED = "The answer sent the refund to [EMAIL_1] before it was approved"
CLOSED = f"[redacted:text {len(SAID)}]"

EXPLANATIONS: dict[str, tuple[dict[str, Any], list[Any]]] = {
    "reasoning": (
        {"evaluations": (Evaluation("check", 1, body={"reasoning": SAID}),)},
        ["evaluation", "check", "reasoning"],
    ),
    "evaluator's error": (
        {"evaluations": (Evaluation("check", 1, status="ERROR", body={"error": {"message": SAID}}),)},
        ["evaluation", "check", "error", "message"],
    ),
    "resolution": (
        {"evaluations": (Evaluation("check", 1, body={"error": {"recommended_resolution": SAID}}),)},
        ["evaluation", "check", "error", "recommended_resolution"],
    ),
    "error message": ({"error": {"message": SAID}}, ["error", "message"]),
    "error stack": ({"error": {"stack": SAID}}, ["error", "stack"]),
    "error as a text": ({"error": SAID}, ["error"]),
    "error in metadata": ({"metadata": {"error": {"message": SAID}}}, ["metadata", "error", "message"]),
    "error text in metadata": ({"metadata": {"error": SAID}}, ["metadata", "error"]),
    "deep error": ({"metadata": {"step": {"error_message": SAID}}}, ["metadata", "step", "error_message"]),
    "APM message": ({"attributes": {"error": {"message": SAID}}}, ["attributes", "error", "message"]),
    "APM dotted": ({"attributes": {"error.stack": SAID}}, ["attributes", "error.stack"]),
    "OpenTelemetry": ({"attributes": {"exception.message": SAID}}, ["attributes", "exception.message"]),
    "OpenTelemetry nested": ({"attributes": {"exception": {"stacktrace": SAID}}}, ["attributes", "exception", "stacktrace"]),
    "span events": (
        {"attributes": {"events": [{"name": "exception", "attributes": {"exception.message": SAID}}]}},
        ["attributes", "events", 0, "attributes", "exception.message"],
    ),
    "tag": ({"tags": (("error.message", SAID), ("user_id", "u-1"))}, ["tags", "error.message"]),
    "list of errors": ({"metadata": {"errors": [SAID]}}, ["metadata", "errors", 0]),
    "tool result that failed": (
        {"input": {"messages": [{"role": "tool", "tool_results": [{"result": SAID, "isError": True}]}]}},
        ["input", "messages", 0, "tool_results", 0, "result"],
    ),
    "tool result with status": (
        {"input": {"messages": [{"role": "tool", "tool_results": [{"result": SAID, "status": "error"}]}]}},
        ["input", "messages", 0, "tool_results", 0, "result"],
    ),
    "MCP answer": (
        {"output": {"value": {"content": [{"type": "text", "text": SAID}], "isError": True}}},
        ["output", "value", "content", 0, "text"],
    ),
}


def at(document: Any, path: list[Any]) -> Any:
    for key in path:
        document = document[key]
    return document


@pytest.mark.parametrize("case", EXPLANATIONS)
def test_explanations_are_scrubbed_also_where_nobody_is_named(case: str) -> None:
    fields, path = EXPLANATIONS[case]
    result = Sanitizer(RING).sanitize(span(**fields), ())
    assert at(result.payload, path) == SCRUBBED
    assert result.redactions["email"] == 1


@pytest.mark.parametrize("case", EXPLANATIONS)
def test_explanations_can_be_closed(case: str) -> None:
    fields, _ = EXPLANATIONS[case]
    text = json.dumps(payload_of(TextPolicy.of(explanations="closed"), **fields))
    assert "refund" not in text
    assert "[redacted:" in text or case == "tag"


def test_an_mcp_error_in_a_string_stays_json() -> None:
    raw = json.dumps({"content": [{"type": "text", "text": SAID}], "isError": True})
    stored = payload_of(TextPolicy(), output={"value": raw})["output"]["value"]
    assert json.loads(stored) == {"content": [{"type": "text", "text": SCRUBBED}], "isError": True}


def test_what_a_tool_answered_without_failing_stays_closed() -> None:
    results = [
        {"result": SAID},
        {"result": SAID, "isError": False},
        {"result": json.dumps({"text": SAID, "isError": False})},
    ]
    stored = payload_of(TextPolicy(), input={"messages": [{"role": "tool", "tool_results": results}]})
    assert "refund" not in json.dumps(stored)


def test_values_of_sensitive_keys_go_from_explanations() -> None:
    result = sanitized(
        TextPolicy(),
        metadata={"customer_name": "Flexton Brizard", "seat": {"session_id": "sess-44x1"}},
        evaluations=(
            Evaluation("check", 1, body={"reasoning": "brizard was told that sess-44x1 ended; Flexton complained"}),
        ),
    )
    assert result.payload["evaluation"]["check"]["reasoning"] == (
        "[PERSON_1] was told that [SESSION_1] ended; [PERSON_1] complained"
    )


def test_an_address_that_holds_a_known_name_is_one_address() -> None:
    result = sanitized(
        TextPolicy(),
        metadata={"customer_name": "Flexton Brizard"},
        error={
            "message": "Brizard wrote from flexton.brizard@example.com",
            "stack": 'File "/home/brizard/app.py", line 3, in run',
        },
    )
    assert result.payload["error"]["message"] == "[PERSON_1] wrote from [EMAIL_1]"
    assert result.payload["error"]["stack"] == 'File "app.py", line 3, in run'


def test_the_trace_tells_what_one_span_does_not() -> None:
    from evalforge.core.privacy.echoes import Echoes

    root = Echoes.of(span(metadata={"customer_name": "Flexton Brizard"}))
    failing = span(error={"type": "ValueError", "message": "no order of brizard"})
    payload = Sanitizer(RING).sanitize(failing, (), TraceContext(root)).payload
    assert payload["error"]["message"] == "no order of [PERSON_1]"


# -- conversations --------------------------------------------------------------------------------------------------------

CONVERSATION = {
    "messages": [
        {"role": "system", "content": "You are a support agent."},
        {"role": "user", "content": f"My email is {EMAIL}, where is my refund?", "name": "Flexton Brizard", "id": "m-1"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "name": "lookup_order",
                    "tool_id": "call_1",
                    "type": "function",
                    "arguments": {
                        "email": EMAIL,
                        "name": "Flexton Brizard",
                        "password": "hunter2",
                        "limit": 5,
                        "active": True,
                        "account": 884_123_456,
                        "amount": 19.5,
                        "reference": 1_234_567,
                        "note": f"asked by {EMAIL}",
                        "filters": {"customer": {"email": EMAIL, "verified": False}},
                        "nothing": None,
                    },
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "tool_results": [
                {
                    "name": "",
                    "tool_id": "call_1",
                    "type": "tool_result",
                    "result": json.dumps({"email": EMAIL, "status": "sent"}),
                }
            ],
        },
        {"role": "assistant", "content": [{"type": "text", "text": f"Sent to {EMAIL}."}]},
    ],
    "value": json.dumps({"question": "where is my refund?", "email": EMAIL}),
    "documents": [{"id": "kb-17", "name": "refund policy", "score": 0.91, "text": f"Write to {EMAIL}"}],
}


def test_a_scrubbed_conversation_still_makes_sense() -> None:
    before = copy.deepcopy(CONVERSATION)
    result = sanitized(INPUT, input=CONVERSATION)
    assert before == CONVERSATION
    stored = result.payload["input"]
    system, user, call, answer, reply = stored["messages"]
    assert system == {"role": "system", "content": "You are a support agent."}
    assert user["content"] == "My email is [EMAIL_1], where is my refund?"
    assert user["name"] == "[PERSON_1]"
    assert {key: call["tool_calls"][0][key] for key in ("name", "tool_id", "type")} == {
        "name": "lookup_order",
        "tool_id": "call_1",
        "type": "function",
    }
    arguments = call["tool_calls"][0]["arguments"]
    assert arguments == {
        "email": "[EMAIL_1]",
        "name": "[PERSON_1]",
        "password": "[SECRET_1]",
        "limit": 5,
        "active": True,
        "account": arguments["account"],
        "amount": 19.5,
        "reference": "[NUMBER_1]",
        "note": "asked by [EMAIL_1]",
        "filters": {"customer": {"email": "[EMAIL_1]", "verified": False}},
        "nothing": None,
    }
    assert arguments["account"].startswith("[")
    assert answer["tool_call_id"] == "call_1"
    assert json.loads(answer["tool_results"][0]["result"]) == {"email": "[EMAIL_1]", "status": "sent"}
    assert reply["content"] == [{"type": "text", "text": "Sent to [EMAIL_1]."}]
    assert json.loads(stored["value"]) == {"question": "where is my refund?", "email": "[EMAIL_1]"}
    assert stored["documents"][0]["score"] == 0.91
    assert stored["documents"][0]["text"] == "Write to [EMAIL_1]"
    assert result.redactions["email"] == 8
    assert "output" not in result.payload


def test_one_thing_has_one_placeholder_in_every_section() -> None:
    result = sanitized(
        BOTH,
        input={"value": f"I am {EMAIL}"},
        output={"messages": [{"role": "assistant", "content": f"Hello, other@example.com and {EMAIL.upper()}"}]},
        error={"message": f"no mailbox {EMAIL}"},
        evaluations=(Evaluation("check", 1, body={"reasoning": f"{EMAIL} was refused"}),),
    )
    marks = {
        result.payload["input"]["value"].split()[-1],
        result.payload["output"]["messages"][0]["content"].split()[-1],
        result.payload["error"]["message"].split()[-1],
        result.payload["evaluation"]["check"]["reasoning"].split()[0],
    }
    assert len(marks) == 1
    assert "[EMAIL_2]" in json.dumps(result.payload)


def test_texts_stay_closed_where_nobody_can_be_found() -> None:
    anonymous = span(input=CONVERSATION)
    sanitizer = Sanitizer(RING, INPUT)
    assert sanitizer.sanitize(anonymous, ()).payload == Sanitizer(RING).sanitize(anonymous, ()).payload
    without_ring = Sanitizer(KeyRing(), INPUT).sanitize(span(input={"value": "hello"}, metadata=USER), ())
    assert without_ring.payload["input"] == {"value": "[redacted:text 5]"}
    named_elsewhere = sanitizer.sanitize(anonymous, (), TraceContext(has_user=True))
    assert named_elsewhere.payload["input"]["messages"][0]["content"] == "You are a support agent."


@pytest.mark.parametrize(
    ("path", "fields", "place"),
    [
        ("input", {"input": "hello there"}, ["input"]),
        ("input.value", {"input": {"value": "hello there", "text": "x"}}, ["input", "value"]),
        ("input.messages", {"input": {"messages": [{"content": "hello there"}]}}, ["input", "messages", 0, "content"]),
        ("prompt", {"input": {"prompt": {"template": "hello there"}}}, ["input", "prompt", "template"]),
        ("prompt", {"metadata": {"prompt": "hello there"}}, ["metadata", "prompt"]),
        ("prompt", {"attributes": {"gen_ai": {"prompt": "hello there"}}}, ["attributes", "gen_ai", "prompt"]),
        ("prompt", {"attributes": {"gen_ai.prompt": "hello there"}}, ["attributes", "gen_ai.prompt"]),
        ("prompt", {"extra": {"prompt": "hello there"}}, ["prompt"]),
        ("response", {"extra": {"response": "hello there"}}, ["response"]),
        ("response", {"metadata": {"response": {"text": "hello there"}}}, ["metadata", "response", "text"]),
        ("output", {"attributes": {"output.value": "hello there"}}, ["attributes", "output.value"]),
        ("metadata.notes", {"metadata": {"notes": ["hello there"]}}, ["metadata", "notes", 0]),
        ("metadata.ticket.body", {"metadata": {"ticket": {"body": "hello there"}}}, ["metadata", "ticket", "body"]),
        ("metadata.ticket.body", {"metadata": {"ticket.body": "hello there"}}, ["metadata", "ticket.body"]),
        ("metadata.user_message", {"metadata": {"userMessage": "hello there"}}, ["metadata", "userMessage"]),
        ("tags.note", {"tags": (("note", "hello there"), ("user_id", "u-1"))}, ["tags", "note"]),
        (
            "evaluation.check.llm_output",
            {"evaluations": (Evaluation("check", 1, body={"llm_output": "hello there"}),)},
            ["evaluation", "check", "llm_output"],
        ),
        (
            "evaluation.check.value",
            {"evaluations": (Evaluation("check", "hello there. how are all of you today", "categorical", body={}),)},
            ["evaluation", "check", "value"],
        ),
    ],
)
def test_each_path_of_the_grammar(path: str, fields: dict[str, Any], place: list[Any]) -> None:
    closed = json.dumps(payload_of(TextPolicy(), **fields))
    assert "hello there" not in closed
    for policy in (TextPolicy.of([path]), TextPolicy.of([path], [path])):
        assert at(payload_of(policy, **fields), place).startswith("hello there")
    assert "hello there" not in json.dumps(payload_of(TextPolicy.of(["metadata.something_else"]), **fields))


def test_a_reasoning_may_be_kept_where_explanations_are_closed() -> None:
    evaluations = tuple(Evaluation(name, 1, body={"reasoning": "too short"}) for name in ("check", "other"))
    policy = TextPolicy.of(["evaluation.check.reasoning"], explanations="closed")
    stored = payload_of(policy, evaluations=evaluations)["evaluation"]
    assert stored["check"]["reasoning"] == "too short"
    assert stored["other"]["reasoning"] == "[redacted:text 9]"


SENSITIVE: list[tuple[Any, Any]] = [
    ({"first_name": "Grace"}, {"first_name": "[PERSON_1]"}),
    ({"customer": {"city": "Reading"}}, {"customer": {"city": "[ADDRESS_1]"}}),
    ({"date_of_birth": "1984-02-11"}, {"date_of_birth": "[DATE_1]"}),
    ({"api_key": "k"}, {"api_key": "[SECRET_1]"}),
    ({"session_id": 12}, {"session_id": "[SESSION_1]"}),
    ({"lat": 52.520008, "lon": 13.404954}, {"lat": "[GEO_1]", "lon": "[GEO_2]"}),
    ({"emails": [EMAIL, EMAIL]}, {"emails": ["[EMAIL_1]", "[EMAIL_1]"]}),
    ([{"name": "email", "value": EMAIL}], [{"name": "email", "value": "[EMAIL_1]"}]),
    ([["email", EMAIL], ["color", "blue"]], [["email", "[EMAIL_1]"], ["color", "blue"]]),
    ({"email": "[EMAIL_7]", "phone": "[redacted:text 9]"}, {"email": "[EMAIL_7]", "phone": "[redacted:text 9]"}),
    ({EMAIL: 3}, {"[key 1]": 3}),
    ({"email": None, "email_verified": True}, {"email": None, "email_verified": True}),
    ({"blob": json.dumps({"inner": json.dumps({"email": EMAIL})})}, {"blob": '{"inner": "{\\"email\\": \\"[EMAIL_1]\\"}"}'}),
    ({"max_tokens": 250_000, "latency_ms": 812_345}, {"max_tokens": 250_000, "latency_ms": 812_345}),
]


@pytest.mark.parametrize(("arguments", "stored"), SENSITIVE)
def test_sensitive_values_in_tool_arguments(arguments: Any, stored: Any) -> None:
    call = {"name": "search", "tool_id": "call_1", "arguments": arguments}
    payload = payload_of(INPUT, input={"messages": [{"role": "assistant", "tool_calls": [call]}]})
    assert payload["input"]["messages"][0]["tool_calls"][0]["arguments"] == stored
    as_text = payload_of(INPUT, input={"messages": [{"tool_calls": [call | {"arguments": json.dumps(arguments)}]}]})
    assert json.loads(as_text["input"]["messages"][0]["tool_calls"][0]["arguments"]) == stored


# -- open -----------------------------------------------------------------------------------------------------------------


def test_open_texts_are_kept_as_they_are_and_named() -> None:
    policy = TextPolicy.of(["input", "metadata.notes", "output"], ["input", "metadata.notes"])
    fields = {"input": CONVERSATION, "metadata": USER | {"notes": f"call {EMAIL}"}, "output": {"value": f"to {EMAIL}"}}
    payload = payload_of(policy, **fields)
    assert payload["input"] == CONVERSATION
    assert payload["metadata"]["notes"] == f"call {EMAIL}"
    assert payload["output"]["value"] == "to [EMAIL_1]"
    assert payload["open_text"] == ["input", "metadata.notes"]
    assert leaks_in({"trace_payload": payload}) == []
    assert "open_text" not in payload_of(INPUT, **fields)


def test_open_values_are_bounded() -> None:
    deep: Any = "x"
    for _ in range(5_000):
        deep = [deep]
    odd = {"deep": deep, "wide": list(range(50_000)), "nan": float("nan"), "huge": 10**5_000, "text": "a" * 50_000, 3: "odd"}
    payload = payload_of(TextPolicy.of(["input"], ["input"]), input=odd)
    assert len(canonical_json(payload)) <= MAX_PAYLOAD_BYTES
    assert payload["input"]["nan"] == "[redacted:number]"
    assert payload["input"]["huge"] == "[redacted:number]"
    assert len(payload["input"]["text"]) <= MAX_TEXT_LENGTH
    assert json.dumps(payload, allow_nan=False)


# -- bounds ---------------------------------------------------------------------------------------------------------------


def test_a_long_text_is_scrubbed_then_cut_between_words_with_a_mark() -> None:
    text = "the refund was late " * 2_000
    stored = payload_of(INPUT, input={"value": text})["input"]["value"]
    kept, _, mark = stored.rpartition("\n")
    assert len(stored) <= MAX_TEXT_LENGTH
    assert text.startswith(kept)
    assert mark == f"[cut: {len(text) - len(kept)} more characters]"
    assert bounded(stored) == stored


def test_an_address_at_the_cut_is_whole_or_gone() -> None:
    text = "a " * ((MAX_TEXT_LENGTH - 70) // 2) + f"{EMAIL} " * 20
    stored = payload_of(INPUT, input={"value": text})["input"]["value"]
    assert "maria" not in stored
    assert "@" not in stored


def test_many_long_texts_are_closed_one_by_one() -> None:
    messages = [{"role": "user", "content": "the refund was late " * 900} for _ in range(30)]
    result = sanitized(INPUT, input={"messages": messages})
    contents = [message["content"] for message in result.payload["input"]["messages"]]
    kept = [content for content in contents if not content.startswith("[redacted:text")]
    assert 5 < len(kept) < len(messages)
    assert sum(map(len, kept)) <= MAX_KEPT_BYTES
    assert result.redactions["limit"] >= len(messages) - len(kept)


HOSTILE: dict[str, Any] = {
    "deep": None,
    "wide": {f"key_{n}": n for n in range(50_000)},
    "surrogates": {"note": "\ud800 hello", "\udfff": "x"},
    "huge": {"n": 10**5_000, "email": 10**5_000},
    "nan": {"n": float("nan"), "lat": float("inf")},
    "bytes": {"b": b"x", "set": {1}},
    "odd keys": {1: "a", None: "b", "": "c"},
    "long": {"note": "x" * 600_000},
    "brackets": {"note": "[" * 100_000},
    "braces": {"note": '{"a":' * 50_000},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_values_cost_themselves_only(case: str) -> None:
    value = HOSTILE[case]
    if case == "deep":
        for _ in range(5_000):
            value = {"n": value}
    messages = [{"role": "user", "content": "hello there"}, {"role": "user", "content": value}]
    result = sanitized(INPUT, input={"messages": messages}, error={"message": value}, metadata={"flag": True})
    assert result.payload["input"]["messages"][0]["content"] == "hello there"
    assert result.payload["metadata"] == {"flag": True}
    assert json.dumps(dict(result.payload), allow_nan=False)


def test_placeholders_under_a_sensitive_key_stay() -> None:
    said = {"contact": "[ADDRESS_1] [NUMBER_1]", "email": "[EMAIL_2]"}
    assert payload_of(INPUT, input={"value": said})["input"]["value"] == said
