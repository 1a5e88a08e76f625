"""Explaining: every leaf of a raw span once, with what became of it and why; nothing raw where only the stored is shown."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.explaining import NOTHING, Decision, Explanation, Outcome, explain, leaves
from evalforge.core.privacy.modes import TextPolicy
from evalforge.core.privacy.rules import Kind
from evalforge.core.privacy.telling import KIND_WORDS, TEXT_WORDS
from evalforge.core.privacy.text.findings import TextKind
from evalforge.core.privacy.watching import is_container
from evalforge.core.span import Evaluation, Span
from tests.examples import examples
from tests.spans import span

RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
OPEN = TextPolicy.of(["input", "output", "metadata.notes"], ["output"])
POLICIES = [TextPolicy(), OPEN, TextPolicy.of([], [], "closed")]


def explained(policy: TextPolicy = POLICIES[0], **fields: Any) -> dict[str, Decision]:
    found = explain(Sanitizer(RING, policy), span(**fields), ())
    return {decision.path: decision for decision in found.decisions}


ROWS: list[tuple[dict[str, Any], str, Outcome, str]] = [
    ({"metadata": {"user": {"email": "maria@example.com"}}}, "metadata.user.email", Outcome.DROPPED, "`user`"),
    ({"metadata": {"customer_email": "maria@example.com"}}, "metadata.customer_email", Outcome.DROPPED, "CONTACT"),
    ({"metadata": {"temperature": 0.2}}, "metadata.temperature", Outcome.KEPT, "known field: a number"),
    ({"metadata": {"plan": "premium"}}, "metadata.plan", Outcome.KEPT, "vocabulary word"),
    ({"metadata": {"odd": 12}}, "metadata.odd", Outcome.KEPT, "a number below 100,000"),
    ({"metadata": {"odd": True}}, "metadata.odd", Outcome.KEPT, "a boolean"),
    ({"metadata": {"odd": "2026-11-23T06:00:00Z"}}, "metadata.odd", Outcome.KEPT, "an ISO time"),
    ({"metadata": {"odd": "xkq zzv qq"}}, "metadata.odd", Outcome.CLOSED, "no value rule"),
    ({"metadata": {"answer": "Hello"}}, "metadata.answer", Outcome.CLOSED, "PII_TEXT_ALLOWLIST"),
    ({"metadata": {"user_id": "u-8841"}}, "metadata.user_id", Outcome.HASHED, "stored as u"),
    ({"tags": (("user.id", "u-8841"),)}, "tags.user.id", Outcome.HASHED, "stored as u"),
    ({"tags": (("env", "prod"),)}, "tags.env", Outcome.KEPT, "known tag"),
    ({"tags": (("session_id", "s-1"),)}, "tags.session_id", Outcome.DROPPED, "SESSION"),
    ({"metrics": {"input_tokens": 5}}, "metrics.input_tokens", Outcome.KEPT, "a number in metrics"),
    ({"metrics": {"odd": float("nan")}}, "metrics.odd", Outcome.DROPPED, "no finite number"),
    ({"input": {"value": "Hello Maria"}}, "input.value", Outcome.CLOSED, "not in PII_TEXT_ALLOWLIST"),
    ({"input": {"messages": [{"role": "user"}]}}, "input.messages[0].role", Outcome.KEPT, "a role"),
    ({"extra": {"intent": "ask"}}, "extra.intent", Outcome.DROPPED, "no field of a payload"),
    ({"name": "answer_question"}, "name", Outcome.KEPT, "technical name"),
    ({"trace_id": "trace of maria"}, "trace_id", Outcome.HASHED, "keyed digest"),
    ({"error": {"type": "TimeoutError", "x": 1}}, "error.type", Outcome.KEPT, "a class name"),
    (
        {"tool_definitions": [{"name": "look_up", "description": "For Maria"}]},
        "tool_definitions[0].description",
        Outcome.DROPPED,
        "only the name",
    ),
    (
        {"evaluations": (Evaluation("tone", value=0.3, body={"value": 0.3, "llm_output": "Maria"}),)},
        "evaluation.tone.llm_output",
        Outcome.DROPPED,
        "not copied",
    ),
]


@pytest.mark.parametrize(("fields", "path", "outcome", "rule"), ROWS, ids=[f"{path}-{rule}" for _, path, _, rule in ROWS])
def test_each_outcome_and_its_rule(fields: dict[str, Any], path: str, outcome: Outcome, rule: str) -> None:
    decision = explained(**fields)[path]
    assert (decision.outcome, rule in decision.rule) == (outcome, True), decision.rule


def test_explanations_are_scrubbed_and_say_what_became_what() -> None:
    fields: dict[str, Any] = {"error": {"type": "E", "message": "no mail for maria.lopez@example.com"}}
    decision = explained(**fields)["error.message"]
    assert decision.outcome is Outcome.SCRUBBED
    assert "maria" not in str(decision.after)
    assert "e-mail address → [EMAIL_1]" in decision.rule
    closed = explained(POLICIES[2], **fields)["error.message"]
    assert (closed.outcome, closed.rule) == (Outcome.CLOSED, "text closed: PII_EXPLANATIONS=closed")


def test_allow_listed_texts_without_a_user_say_why_they_are_closed() -> None:
    fields: dict[str, Any] = {"input": {"value": "Hello there"}, "output": {"value": "Hello Maria"}}
    assert "no user is named" in explained(OPEN, **fields)["input.value"].rule
    named = explained(OPEN, metadata={"user_id": "u-1"}, **fields)
    assert named["input.value"].outcome in (Outcome.KEPT, Outcome.SCRUBBED)
    assert (named["output.value"].outcome, named["output.value"].after) == (Outcome.KEPT, "Hello Maria")
    assert "PII_TEXT_OPEN" in named["output.value"].rule


def test_an_echo_is_told() -> None:
    decision = explained(metadata={"user": {"name": "Marlow"}, "release": "Marlow"})["metadata.release"]
    assert decision.outcome in (Outcome.CLOSED, Outcome.DROPPED)


def test_a_replaced_key_is_told_and_shown_only_before() -> None:
    decision = explained(metadata={"maria@example.com": 3})["metadata.maria@example.com"]
    assert decision.stored_path == "metadata.[key]"
    assert "maria" not in decision.stored_path + decision.stored_rule


def test_the_totals_are_of_every_leaf() -> None:
    found = explain(Sanitizer(RING), span(metadata={"a": 1, "user_id": "u-1", "note": "x"}), ())
    assert sum(found.totals.values()) == len(found.decisions)
    assert found.totals["hashed"] == 1


def test_the_explained_payload_is_the_sanitizers_own() -> None:
    one = span(metadata={"user_id": "u-1", "notes": "for Maria"}, input={"value": "hello"}, tags=(("env", "prod"),))
    for policy in POLICIES:
        sanitizer = Sanitizer(RING, policy)
        assert explain(sanitizer, one, ()).sanitized == sanitizer.sanitize(one, ())


@pytest.mark.parametrize(
    "metadata",
    [
        {f"k{n}": n for n in range(5_000)},
        {"deep": json.loads("[" * 400 + "]" * 400)},
        {"\ud800": "\ud800", "\x1b[2J": "\x00", "": {}},
        {"big": 10**4000},
    ],
)
def test_hostile_spans_are_explained_in_full(metadata: dict[str, Any]) -> None:
    one = span(metadata=metadata)
    found = explain(Sanitizer(RING), one, ())
    assert len(found.decisions) == len(list(leaves(one)))


def test_every_kind_has_words() -> None:
    assert set(KIND_WORDS) == set(Kind)
    assert set(TEXT_WORDS) == set(TextKind)


# -- every leaf once ------------------------------------------------------------------------------------------------------

SECRET = "zq.canary@example.com"
KEYS = (
    "a b user email user_id name messages content role tool_calls arguments tool_results result text documents value error "
    "message type notes input llm_obs maria@x.com"
)
VALUES = [
    *(SECRET, f"mail to {SECRET}", f'{{"email": "{SECRET}"}}', "pass", "user", "u-8841", "2026-11-23"),
    *("[EMAIL_1]", "[redacted:text 3]"),
]
_keys = st.sampled_from([*KEYS.split(), SECRET])
_leaves = (
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats() | st.text(max_size=8) | st.sampled_from(VALUES)
)
_json = st.recursive(
    _leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3), max_leaves=12
)
_mapping = st.dictionaries(_keys, _json, max_size=4)


@st.composite
def any_span(draw: st.DrawFn) -> Span:
    bodies = draw(st.lists(st.tuples(st.sampled_from(["tone", "a b", SECRET]), _mapping), max_size=3))
    return span(
        name=draw(st.sampled_from(["answer", SECRET, ""])),
        metadata=draw(_mapping),
        metrics=draw(_mapping),
        attributes=draw(_mapping),
        extra=draw(_mapping),
        input=draw(_json),
        output=draw(_json),
        error=draw(_json),
        tool_definitions=draw(_json),
        tags=tuple(draw(st.lists(st.tuples(_keys, st.sampled_from(["", "prod", SECRET, "1.2"])), max_size=4))),
        evaluations=tuple(Evaluation(name, value=body.get("value"), body=body) for name, body in bodies),
    )


def _raw_leaf_count(value: Any) -> int:
    if not is_container(value) or not value:
        return 1
    return sum(map(_raw_leaf_count, value.values() if isinstance(value, dict) else value))


def _expected_leaf_count(one: Span) -> int:
    """Counted without the code under test."""
    head = [one.trace_id, one.span_id, one.parent_id, one.apm_trace_id, one.name, one.kind, one.status, one.application]
    head += [one.service, one.env, one.model_name, one.model_provider, one.received_start, one.received_duration]
    count = sum(value is not None for value in head) + len(one.tags)
    count += sum(_raw_leaf_count(body.body or {"value": body.value}) for body in one.evaluations)
    count += sum(_raw_leaf_count(part) for part in (one.metadata, one.metrics, one.attributes, one.extra) if part)
    return count + sum(
        _raw_leaf_count(part) for part in (one.input, one.output, one.error, one.tool_definitions) if part is not None
    )


@examples(150)
@given(any_span(), st.sampled_from(POLICIES))
def test_every_leaf_appears_exactly_once_with_an_outcome_and_a_rule(one: Span, policy: TextPolicy) -> None:
    found = explain(Sanitizer(RING, policy), one, ())
    assert len(found.decisions) == _expected_leaf_count(one)
    paths = Counter(path for path, _ in leaves(one))
    assert max(paths.values()) == 1
    for decision in found.decisions:
        assert decision.outcome in Outcome
        assert decision.rule
        assert decision.stored_rule
        assert (decision.after is NOTHING) <= (decision.outcome in (Outcome.DROPPED, Outcome.HASHED))


@examples(150)
@given(any_span())
def test_nothing_raw_stands_in_what_is_shown_without_before(one: Span) -> None:
    found = explain(Sanitizer(RING), one, ())
    assert SECRET not in _shown_after(found)


@examples(100)
@given(any_span())
def test_what_is_said_to_be_kept_stands_in_the_payload_and_what_is_dropped_does_not(one: Span) -> None:
    marked = replace(one, metadata={**one.metadata, "retries": 77_123, "nickname": 88_321})
    found = explain(Sanitizer(RING), marked, ())
    by_path = {decision.path: decision for decision in found.decisions}
    assert by_path["metadata.retries"].outcome is Outcome.KEPT
    assert by_path["metadata.retries"].after == 77_123
    written = json.dumps(found.sanitized.payload, default=str)
    assert ("77123" in written, "88321" in written) == (True, False)
    assert by_path["metadata.nickname"].outcome is Outcome.DROPPED


def _shown_after(found: Explanation) -> str:
    parts = [(one.stored_path, repr(one.after), one.stored_rule, one.section) for one in found.decisions]
    return repr(parts) + repr(found)
