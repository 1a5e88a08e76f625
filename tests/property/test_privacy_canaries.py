"""Nothing unknown passes: secrets are planted anywhere in a span and searched in everything that comes out."""

from __future__ import annotations

import base64
import copy
import json
import re
import urllib.parse
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.privacy import KeyRing, Sanitizer, safe_trace_id, structure_of
from evalforge.core.signals import RULES, FailureType, Severity, Signal, Thresholds, find_signals, spellings
from evalforge.core.span import Evaluation, Span
from evalforge.errors import SkippableError
from tests.examples import examples
from tests.spans import span

SANITIZER = Sanitizer(KeyRing((b"k" * 32, b"o" * 32)))

# -- planted values -------------------------------------------------------------------------------------------------------

_DIGITS = "0123456789"
_NAMES = [
    "Maria Lopez",
    "maria lopez",
    "Ngozi Okafor",
    "priya",
    "O'Brien",
    "José García",
    "Kwame",
    "MARIA",
    "Lopez, Maria",
    "maria_lopez",
]
_TOKEN_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@st.composite
def tokens(draw: st.DrawFn) -> str:
    """A random code: letters and digits in turn, as keys, cookies and session ids have them."""
    pairs = draw(
        st.lists(
            st.tuples(st.text(_TOKEN_LETTERS, min_size=1, max_size=3), st.text(_DIGITS, min_size=1, max_size=2)), min_size=4
        )
    )
    return "".join(letters + digits for letters, digits in pairs[:8])


emails = st.builds(
    "{}.{}@example.{}".format,
    st.text("abcdefxyz", min_size=3, max_size=8),
    st.text("mnopq", min_size=3, max_size=8),
    st.sampled_from(["com", "org"]),
)
phones = st.builds(
    "+1 {}-555-{}".format, st.text("23456789", min_size=3, max_size=3), st.text("23456789", min_size=4, max_size=4)
)
cards = st.builds("4{}".format, st.text("123456789", min_size=15, max_size=15))
canaries = st.one_of(tokens(), emails, phones, cards, st.sampled_from(_NAMES), st.builds("Zażółć {} ☃".format, tokens()))


def in_every_form(canary: str) -> set[str]:
    raw = canary.encode()
    forms = {
        canary,
        canary.lower(),
        urllib.parse.quote(canary),
        json.dumps(canary)[1:-1],
        raw.hex(),
        base64.b64encode(raw).decode(),
    }
    return {form.lower() for form in forms}


def parts_of(canary: str) -> set[str]:
    """Every name, mailbox and group of digits in it that is long enough to tell something."""
    return {part for part in re.split("[^a-z0-9]+", canary.lower()) if len(part) >= (4 if part.isdigit() else 5)} - {
        "example"
    }


def assert_absent(canary: str, result: Any) -> None:
    seen = (json.dumps(asdict(result), default=repr, ensure_ascii=False) + repr(result)).lower()
    for form in in_every_form(canary):
        assert form not in seen
    # Digests are hexadecimal: short groups of digits occur in them by chance.
    readable = re.sub("[0-9a-f]{32}|[0-9]{19}", "", seen)
    for part in parts_of(canary):
        assert part not in readable


# -- carriers -------------------------------------------------------------------------------------------------------------

KEYS = st.sampled_from(
    (
        "note user email name id text value message data items context user_id session_id temperature model tokenizer "
        "finish_reason request_id created_at error type tags count_ms input prompt role tool_calls http url route "
        "error.message gen_ai request region locale version env service channel index endpoint git.commit.sha started_at "
        "run_id currency otel_trace_id"
    ).split()
)


@st.composite
def planted_json(draw: st.DrawFn, canary: str) -> Any:
    """JSON of any shape with the canary in it: as a value, inside a longer text, in a list, or as a key."""
    planted = draw(
        st.sampled_from([canary, f"hello {canary} bye", f"id={canary}", json.dumps({"email": canary}), f"{canary}-1"])
    )
    value: Any = planted
    for _ in range(draw(st.integers(0, 5))):
        shape = draw(st.integers(0, 4))
        key = draw(KEYS)
        if shape == 0:
            value = {key: value, "flag": True}
        elif shape == 1:
            value = [value, 1, None]
        elif shape == 2:
            value = {planted: value}
        elif shape == 3:
            value = [{"name": key, "value": value}]
        else:
            value = [[key, value]]
    return value


@st.composite
def planted_spans(draw: st.DrawFn) -> tuple[str, Span]:
    canary = draw(canaries)
    tree = draw(planted_json(canary))
    text = draw(st.sampled_from([canary, f"for {canary}"]))
    key = draw(KEYS)
    carriers: dict[str, dict[str, Any]] = {
        "name": {"name": text},
        "kind": {"kind": text},
        "status": {"status": text},
        "trace_id": {"trace_id": f"x{text}"},
        "span_id": {"span_id": f"x{text}"},
        "parent_id": {"parent_id": f"x{text}"},
        "apm_trace_id": {"apm_trace_id": f"x{text}"},
        "application": {"application": text},
        "service": {"service": text},
        "env": {"env": text},
        "model_name": {"model_name": text},
        "model_provider": {"model_provider": text},
        "tag value": {"tags": ((key, text),)},
        "tag key": {"tags": ((text, "green"),)},
        "known tag": {"tags": (("env", text), ("version", text), ("team", text), ("git.commit.sha", text))},
        "metadata": {"metadata": {key: tree}},
        "metadata key": {"metadata": {text: 1}},
        "metrics": {"metrics": {key: tree}},
        "metrics key": {"metrics": {text: 0.5}},
        "attributes": {"attributes": {key: tree}},
        "evaluator": {"evaluations": (Evaluation(text, 0.1, "score", "fail", "OK", {}),)},
        "evaluation value": {"evaluations": (Evaluation("check", tree, "json", "fail", "OK", {"value": tree}),)},
        "evaluation fields": {"evaluations": (Evaluation("check", 1, text, text, text, {"reasoning": text, key: tree}),)},
        "input": {"input": tree},
        "messages": {
            "input": {"messages": [{"role": text, "content": tree, "tool_calls": [{"name": text, "arguments": tree}]}]}
        },
        "documents": {"output": {"documents": [{"id": text, "name": text, "text": tree, "score": text}]}},
        "error": {"error": tree},
        "error type": {"error": {"type": text, "message": tree}},
        "tools": {"tool_definitions": [{"name": text, "schema": tree}]},
        "times": {"received_start": text, "received_duration": tree},
        "extra": {"extra": {text: tree}},
    }
    return canary, span(**carriers[draw(st.sampled_from(sorted(carriers)))])


@examples(500)
@given(planted_spans())
def test_no_planted_value_comes_out(planted: tuple[str, Span]) -> None:
    canary, raw = planted
    before = copy.deepcopy(raw)
    result = SANITIZER.sanitize(raw, find_signals(raw, Thresholds()))
    assert_absent(canary, result)
    assert raw == before
    assert SANITIZER.sanitize(raw, find_signals(raw, Thresholds())) == result


@examples(150)
@given(canaries, st.data())
def test_dead_letters_hold_no_planted_value(canary: str, data: st.DataObject) -> None:
    shape = json.dumps(structure_of(data.draw(planted_json(canary)))).lower()
    for form in in_every_form(canary):
        assert form not in shape


@examples(150)
@given(canaries)
def test_odd_trace_ids_hold_no_planted_value(canary: str) -> None:
    stored, is_plain = safe_trace_id(f"x{canary}", KeyRing())
    assert not is_plain
    assert canary.lower() not in stored


# -- any JSON in any field ------------------------------------------------------------------------------------------------

hostile_texts = st.one_of(
    st.text(max_size=20), st.sampled_from(["\ud800", "\x00", "\u202e", "[redacted:text 5]", "[key 1]", "a" * 5000])
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    hostile_texts,
    st.sampled_from([10**400, -(10**30), float("nan"), 2**64]),
)
any_json = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(hostile_texts, KEYS), inner, max_size=4)),
    max_leaves=12,
)
mappings = st.dictionaries(st.one_of(hostile_texts, KEYS), any_json, max_size=5)


@st.composite
def hostile_spans(draw: st.DrawFn) -> Span:
    names = st.one_of(st.none(), hostile_texts)
    return span(
        trace_id=draw(hostile_texts),
        span_id=draw(hostile_texts),
        parent_id=draw(names),
        name=draw(hostile_texts),
        kind=draw(hostile_texts),
        status=draw(hostile_texts),
        apm_trace_id=draw(names),
        application=draw(names),
        model_name=draw(names),
        tags=tuple(draw(st.lists(st.tuples(hostile_texts, hostile_texts), max_size=4))),
        metadata=draw(mappings),
        metrics=draw(mappings),
        attributes=draw(mappings),
        evaluations=tuple(
            draw(st.lists(st.builds(Evaluation, hostile_texts, any_json, names, names, names, mappings), max_size=3))
        ),
        input=draw(any_json),
        output=draw(any_json),
        error=draw(any_json),
        tool_definitions=draw(any_json),
        received_start=draw(any_json),
        received_duration=draw(any_json),
        extra=draw(mappings),
    )


@examples(250)
@given(hostile_spans())
def test_any_json_in_any_field_only_skips_or_sanitizes(raw: Span) -> None:
    try:
        result = SANITIZER.sanitize(raw, find_signals(raw, Thresholds()))
    except SkippableError:
        return
    assert "error" not in result.redactions
    text = json.dumps(dict(result.payload), allow_nan=False)
    assert text.isascii()
    assert SANITIZER.sanitize(raw, find_signals(raw, Thresholds())) == result


@examples(200)
@given(any_json)
def test_structure_of_anything(item: Any) -> None:
    assert json.dumps(structure_of(item))


@examples(200)
@given(any_json)
def test_any_observed_value_becomes_a_scalar(observed: Any) -> None:
    signal = Signal(
        FailureType.EVALUATION_FAILURE, Severity.MEDIUM, "1", "evaluation.check", observed, "fail", "assessment is"
    )
    stored = SANITIZER.sanitize(span(evaluations=(Evaluation("check"),)), (signal,)).signals[0]
    assert stored.observed is None or isinstance(stored.observed, (bool, int, float, str))
    assert stored == replace(signal, span_id="2622305684663452078", observed=stored.observed)


# -- signals survive ------------------------------------------------------------------------------------------------------

SIGNAL_NAMES = [name for rule in RULES for name in rule.names]
LABELS = sorted(label for rule in RULES for label in rule.labels)


@examples(250)
@given(
    name=st.sampled_from(SIGNAL_NAMES),
    prefix=st.integers(0, 2),
    place=st.sampled_from(["metadata", "metrics", "attributes", "tags", "nested"]),
    value=st.one_of(st.floats(0, 1), st.integers(400, 599), st.booleans(), st.sampled_from(LABELS)),
)
def test_every_signal_survives_with_its_value(name: str, prefix: int, place: str, value: Any) -> None:
    path = spellings(name)[prefix]
    if place == "tags":
        raw = span(tags=((path, str(value)),))
    elif place == "nested":
        nested: Any = value
        for key in reversed(path.split(".")):
            nested = {key: nested}
        raw = span(metadata=nested)
    else:
        raw = span(**{place: {path: value}})
    signals = find_signals(raw, Thresholds())
    assert SANITIZER.sanitize(raw, signals).signals == signals


@pytest.mark.parametrize(
    "text",
    [
        "1." * 50_000,
        "eyJ" * 50_000,
        "a@a.a." * 20_000,
        "." * 100_000,
        "-" * 100_000,
        "a_" * 50_000,
        "9" * 100_000,
        " " * 100_000,
        "A" * 199,
        "insert into users (name, email) values ('a" + "''" * 5_000 + "(",
        "insert into users (name, email) values ('a" + "''" * 90 + "\\),'b')",
    ],
)
def test_hostile_texts_end_soon(text: str) -> None:
    raw = span(
        name=text, model_name=text, metadata={text: text, "model": text, "version": text}, tags=((text, text), ("env", text))
    )
    result = SANITIZER.sanitize(raw, ())
    assert text not in json.dumps(dict(result.payload))
    SANITIZER.sanitize(explained_with(text), ())


def explained_with(text: str) -> Span:
    """A span with the text wherever texts are scrubbed or say whose they are: error, reasoning, user, sensitive key."""
    return span(
        name=text,
        metadata={"error.message": text, "user.id": text, "email": text, text: "x"},
        evaluations=(Evaluation("faithfulness", 0.1, assessment="fail", body={"reasoning": text}),),
    )


LEADS = (
    "", "insert into users (name, email) values (", "name,email\n", "| name | email |\n|---|---|\n", "Traceback\n",
    "my password is ", "email: ", "https://example.com/?", '{"name": "', "Key (email)=(", "Authorization: ", "cookie: ", "<",
)  # fmt: skip
PIECES = (
    *"aZ0 .,;:-_/\\'\"`()[]{}<>@#$%&*+=~^|?!\n\t\r\x00é中\u200b", "''", "\\'", '""', "a@", "@a.", "at ", "dot ", "aa ",
    "A B ", "1.1.", "::", "'a',", "[a", "[[", '{"a":', "x=", "&b=", "\\x41", "\\u0041", "=41", "%40", "&amp;", "=?utf-8?",
    "eyJ", "sk-", "Bearer ", "token ", "password", "name", "John", "my name is ", "+49 ", "(555) ", "192.168.", "https://",
    "http://a.", "\n    at ", "  File ", 'File "', "line ", "insert into users (name) values (", "Street", "Dr. ", "2024-",
)  # fmt: skip


@examples(60)
@given(st.sampled_from(LEADS), st.lists(st.sampled_from(PIECES), min_size=1, max_size=4), st.sampled_from(PIECES))
def test_whatever_is_repeated_ends_soon(lead: str, pieces: list[str], end: str) -> None:
    """What can be read in two ways has twice as many with each repetition: such a rule would outlast this test."""
    piece = "".join(pieces)
    SANITIZER.sanitize(explained_with(lead + piece * (20_000 // len(piece)) + end), ())
