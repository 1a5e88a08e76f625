"""A span that is read only as far as it is looked at is judged, and is, what it would be had all of it been read at once."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from evalforge.core.signals import SPELLINGS, Limits, Thresholds, are_plain_tags, find_signals
from evalforge.core.span import Span
from evalforge.sources.datadog.query import Scope
from evalforge.sources.datadog.spans import PARSERS

THRESHOLDS = (
    Thresholds(),
    Thresholds(quality=0.9, toxicity=0.1, ignored_evaluations=frozenset({"hallucination", "mine"})),
    Thresholds(applications={"bot": Limits(quality=0.95)}),
)
NAMES = st.sampled_from(
    [*SPELLINGS, *map(str.upper, SPELLINGS), "llm_obs", "http", "evaluations", "status_code", "mine", "env"]
)
VALUES = (
    st.none()
    | st.booleans()
    | st.sampled_from(
        [0, 1, 0.1, 0.7, 1.0, 404, 500, -1, 10**400, float("nan"), float("inf"), "", " ", "0.1", "500", "1", "nan"]
    )
    | st.sampled_from(
        ["true", "TRUE ", "toxic", "Hallucination_Found", "injection detected", "pass", "fail", "FAIL", "ERROR"]
    )
    | st.text(max_size=4)
)
TREES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
MAPPINGS = st.dictionaries(NAMES | st.text(max_size=4), TREES, max_size=3)
TAG = st.builds("{}:{}".format, NAMES | st.text(max_size=6), VALUES) | NAMES | st.text(max_size=6)
TAGS = (
    st.lists(TAG | TREES, max_size=4)
    | st.lists(TAG, max_size=5)
    | st.lists(TAG, max_size=3).map(",".join)
    | TREES
    | MAPPINGS
)
VERDICTS = TREES | st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "assessment": st.sampled_from(["pass", "PASS", "fail", "Fail", " fail", " ", None, 1, True]),
        "status": st.sampled_from(["OK", "error", None]),
        "eval_metric_type": st.sampled_from(["score", "categorical", None]),
        "value": VALUES,
    },
)
EVALUATIONS = st.dictionaries(NAMES | st.text(max_size=4), VERDICTS, max_size=4) | st.lists(VERDICTS, max_size=3) | TREES
STATUS = st.sampled_from(["ok", "error", " Error ", "ERROR", "warn", None, 1, True])
WORDS = st.sampled_from(["bot", "BOT", "prod", " ", "", "experiment", None, 3])
ATTRIBUTES = st.fixed_dictionaries(
    {"trace_id": st.sampled_from(["7", 7, "a" * 32]), "span_id": st.just("1")},
    optional={
        "status": STATUS,
        "tags": TAGS,
        "metadata": MAPPINGS | TREES,
        "metrics": MAPPINGS | TREES,
        "custom": MAPPINGS | TREES,
        "evaluation": EVALUATIONS,
        "error": TREES,
        "ml_app": WORDS,
        "env": WORDS,
        "span_kind": WORDS,
        "start_ns": VALUES,
        "start_timestamp": VALUES,
        "end_timestamp": VALUES,
        "intent": TREES,
    },
)


def _span(source: str, attributes: Mapping[str, Any]) -> Span:
    outcome = PARSERS[source]({"attributes": attributes})
    assert isinstance(outcome, Span)
    return outcome


def _whole(span: Span) -> Span:
    """The same span with every field read, and no word that it is plain: the rules look at all of it."""
    return replace(span, is_plain=False)


@given(attributes=ATTRIBUTES, source=st.sampled_from(["llm_obs", "apm"]))
@example(attributes={"trace_id": "1", "span_id": "1", "tags": ["TOXICITY:true", None]}, source="llm_obs")
@example(attributes={"trace_id": "1", "span_id": "1", "tags": {"quality_score": ["0.1"]}}, source="apm")
@example(
    attributes={"trace_id": "1", "span_id": "1", "evaluation": {"toxicity": {"assessment": "pass", "value": 1}}},
    source="llm_obs",
)
@example(attributes={"trace_id": "1", "span_id": "1", "ml_app": " ", "tags": ["ml_app: ", "ml_app:bot"]}, source="llm_obs")
def test_rules_and_scope_find_on_a_span_read_in_part_what_they_find_on_the_whole(
    attributes: Mapping[str, Any], source: str
) -> None:
    for thresholds in THRESHOLDS:
        whole = _whole(_span(source, attributes))
        assert repr(find_signals(_span(source, attributes), thresholds)) == repr(find_signals(whole, thresholds))
    for scope in (Scope(), Scope(("bot",), ("prod",))):
        assert scope.contains(_span(source, attributes)) == scope.contains(whole)


@given(
    attributes=ATTRIBUTES,
    source=st.sampled_from(["llm_obs", "apm"]),
    order=st.permutations([one.name for one in fields(Span)]),
)
def test_fields_are_the_same_in_whatever_order_they_are_asked_for(
    attributes: Mapping[str, Any], source: str, order: list[str]
) -> None:
    one, whole = _span(source, attributes), _whole(_span(source, attributes))
    for name in order:
        if name != "is_plain":
            assert repr(getattr(one, name)) == repr(getattr(whole, name)), name


def test_no_letter_makes_a_key_of_the_table_look_plain() -> None:
    odd = {chr(code).lower(): chr(code) for code in range(128, sys.maxunicode + 1) if chr(code).lower().isascii()}
    for key in SPELLINGS:
        spelled = "".join(odd.get(letter, letter.upper()) for letter in key)
        assert not are_plain_tags(["env:prod", f"{spelled}:1"]), spelled
    assert are_plain_tags(["env:prod", "", "tox", "service:quality_score"])
