"""The signal table: a hit and a miss for every row, in every place, in every spelling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from evalforge.core.signals import (
    RULES,
    FailureType,
    Limits,
    Severity,
    Signal,
    Thresholds,
    find_signals,
    http_status_codes,
    number_of,
    quality_scores,
    rank,
    spellings,
)
from evalforge.core.span import Evaluation, Span

THRESHOLDS = Thresholds()
HEALTHY = Span(
    source="llm_obs",
    trace_id="6b03dc78000000003d53c950006270ff",
    trace_id_kind="llm_obs",
    span_id="2622305684663452078",
    parent_id=None,
    name="handle_ticket",
    kind="workflow",
    status="ok",
    start_ns=1_795_415_160_838_728_626,
    duration_ns=5_951_845,
)


def signals(**fields: Any) -> tuple[Signal, ...]:
    return find_signals(replace(HEALTHY, **fields), THRESHOLDS)


def types(**fields: Any) -> set[str]:
    return {signal.type.value for signal in signals(**fields)}


def evaluated(name: str, value: Any = None, **fields: Any) -> set[str]:
    return types(evaluations=(Evaluation(name, value, **fields),))


def nested(path: str, value: Any) -> dict[str, Any]:
    for part in reversed(path.split(".")):
        value = {part: value}
    return value  # type: ignore[no-any-return]


# name, a failing value, a healthy value, the type and severity of the failure
NAMED: list[tuple[str, Any, Any, FailureType, Severity]] = [
    ("guardrails.failed", True, False, FailureType.GUARDRAIL_FAILURE, Severity.CRITICAL),
    ("prompt_injection", True, False, FailureType.PROMPT_INJECTION, Severity.CRITICAL),
    ("prompt_injection", "found", "not found", FailureType.PROMPT_INJECTION, Severity.CRITICAL),
    ("toxicity_score", 0.7, 0.69, FailureType.TOXICITY, Severity.HIGH),
    ("toxicity", "toxic", "not toxic", FailureType.TOXICITY, Severity.HIGH),
    ("input_toxicity", "Toxic", "not_toxic", FailureType.TOXICITY, Severity.HIGH),
    ("output_toxicity", "toxic", "non toxic", FailureType.TOXICITY, Severity.HIGH),
    ("hallucination", True, False, FailureType.HALLUCINATION, Severity.HIGH),
    ("hallucination", "hallucination found", "no hallucination", FailureType.HALLUCINATION, Severity.HIGH),
    ("hallucination", "Contradiction", "not found", FailureType.HALLUCINATION, Severity.HIGH),
    ("http.status_code", 404, 399, FailureType.HTTP_ERROR, Severity.MEDIUM),
    ("http.status_code", 503, 200, FailureType.HTTP_ERROR, Severity.HIGH),
    ("quality_score", 0.49, 0.5, FailureType.QUALITY_DEGRADATION, Severity.MEDIUM),
    ("quality_score", 0.24, 0.51, FailureType.QUALITY_DEGRADATION, Severity.HIGH),
    ("failure_to_answer", "failed to answer", "answered", FailureType.EVALUATION_FAILURE, Severity.MEDIUM),
    ("language_mismatch", "mismatched", "matched", FailureType.EVALUATION_FAILURE, Severity.MEDIUM),
    ("topic_relevancy", "irrelevant", "relevant", FailureType.EVALUATION_FAILURE, Severity.MEDIUM),
]


def in_every_place(path: str, value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    places: list[tuple[str, Mapping[str, Any]]] = [
        ("evaluation", {"evaluations": (Evaluation(path, value),)}),
        ("tags", {"tags": ((path, str(value).lower()),)}),
        ("tags with underscores", {"tags": ((path.replace(".", "_"), str(value)),)}),
    ]
    for place in ("metadata", "metrics", "attributes"):
        places.append((f"{place}, dotted", {place: {path: value}}))
        places.append((f"{place}, nested", {place: nested(path, value)}))
        if path.count(".") == 2:
            head, middle, tail = path.split(".")
            places.append((f"{place}, half nested", {place: {head: {f"{middle}.{tail}": value}}}))
            places.append((f"{place}, half dotted", {place: {f"{head}.{middle}": {tail: value}}}))
        places.append((f"{place}, as a string", {place: {path: str(value)}}))
    return places


@pytest.mark.parametrize(("name", "failing", "healthy", "failure_type", "severity"), NAMED)
def test_a_named_value_is_found_in_every_place_and_spelling(
    name: str, failing: Any, healthy: Any, failure_type: FailureType, severity: Severity
) -> None:
    for path in spellings(name):
        for place, fields in in_every_place(path, failing):
            found = signals(**fields)
            assert [(signal.type, signal.severity) for signal in found] == [(failure_type, severity)], (path, place)
            assert found[0].place.partition(".")[0] == place.partition(",")[0].partition(" ")[0], (path, place)
        for place, fields in in_every_place(path, healthy):
            assert signals(**fields) == (), (path, place)


def test_every_rule_stands_in_the_table_above() -> None:
    assert {name for rule in RULES for name in rule.names} == {row[0] for row in NAMED}
    assert {rule.type for rule in RULES} | {FailureType.EXECUTION_ERROR} == set(FailureType)


OWN = Thresholds(0.5, 0.7, frozenset(), {"shop": Limits(0.8, None), "straße".casefold(): Limits(0.2, 0.9)})


@pytest.mark.parametrize(
    ("application", "quality", "toxicity"),
    [
        ("shop", 0.8, 0.7),
        ("SHOP", 0.8, 0.7),
        ("STRASSE", 0.2, 0.9),
        ("other", 0.5, 0.7),
        ("", 0.5, 0.7),
        (None, 0.5, 0.7),
    ],
)
def test_an_application_is_judged_by_its_own_scores_and_the_signal_says_which(
    application: str | None, quality: float, toxicity: float
) -> None:
    for metadata, wanted in (
        ({"quality_score": quality - 0.001}, [("quality_score", quality)]),
        ({"quality_score": quality}, []),
        ({"toxicity_score": toxicity}, [("toxicity_score", toxicity)]),
        ({"toxicity_score": toxicity - 0.001}, []),
    ):
        found = find_signals(replace(HEALTHY, application=application, metadata=metadata), OWN)
        assert [(signal.place.removeprefix("metadata."), signal.threshold) for signal in found] == wanted
    half = find_signals(replace(HEALTHY, application=application, metadata={"quality_score": quality / 2 - 0.001}), OWN)
    assert [signal.severity for signal in half] == [Severity.HIGH], "below half of the threshold that applies"


@pytest.mark.parametrize("kind", ["llm_obs", "apm"])
def test_an_error_status_is_an_execution_error(kind: str) -> None:
    assert types(source=kind, status="error") == {"execution_error"}
    assert types(source=kind, status="ok") == set()


@pytest.mark.parametrize(
    ("name", "value", "failure_type"),
    [
        ("tone_of_voice", 3, "evaluation_failure"),
        ("policy-compliance", {"rule": "refunds"}, "evaluation_failure"),
        ("is_helpful", False, "evaluation_failure"),
        ("hallucination", "Contradiction of the context, at length", "hallucination"),
        ("prompt_injection", "Some Category", "prompt_injection"),
        ("output_toxicity", "Insult", "toxicity"),
        ("quality_score", 0.9, "quality_degradation"),
        ("failure_to_answer", "Refusal Response", "evaluation_failure"),
    ],
)
def test_assessment_fail_is_a_failure_whatever_the_value(name: str, value: Any, failure_type: str) -> None:
    assert evaluated(name, value, assessment="fail") == {failure_type}
    assert evaluated(name, value, assessment="FAIL") == {failure_type}
    assert evaluated(name, value, assessment="fail", status="ERROR") == set()
    assert evaluated(name, value, assessment="pass") == set()
    assert evaluated(name, None, assessment="fail") == {failure_type}


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("hallucination", "hallucination found", set()),
        ("prompt_injection", True, set()),
        ("toxicity", "toxic", set()),
        ("failure_to_answer", "failed to answer", set()),
        ("toxicity_score", 0.9, {"toxicity"}),
        ("quality_score", 0.1, {"quality_degradation"}),
    ],
)
def test_assessment_pass_overrules_labels_but_never_the_two_thresholds(name: str, value: Any, found: set[str]) -> None:
    assert evaluated(name, value, assessment="pass") == found


def test_an_evaluator_that_failed_itself_gives_no_verdict() -> None:
    for status in ("ERROR", "error"):
        assert evaluated("hallucination", "hallucination found", status=status) == set()
        assert evaluated("quality_score", 0.0, status=status) == set()
    assert evaluated("hallucination", "hallucination found", status="WARN") == {"hallucination"}


def test_a_score_without_criteria_says_nothing_unless_it_is_one_of_the_two() -> None:
    assert evaluated("hallucination", 1, value_kind="score") == set()
    assert evaluated("harmfulness", 8, value_kind="score") == set()
    assert evaluated("quality_score", 0.3, value_kind="score") == {"quality_degradation"}


@pytest.mark.parametrize(
    "nonsense", [None, math.nan, math.inf, -math.inf, "", "n/a", [], {}, [0.1], {"value": 0.1}, 10**400, "1_0"]
)
def test_nonsense_is_no_signal(nonsense: Any) -> None:
    for name in sorted({row[0] for row in NAMED}):
        assert types(metadata={name: nonsense}) == set(), name
        assert evaluated(name, nonsense) == set(), name


@pytest.mark.parametrize("code", [-1, 0, 99, 1000, 404.5, "4O4"])
def test_what_is_no_status_code_is_no_http_error(code: Any) -> None:
    assert types(attributes={"http": {"status_code": code}}) == set()


def test_booleans_are_no_numbers_and_only_one_stands_for_true() -> None:
    assert types(metadata={"quality_score": False}) == set()
    assert types(metadata={"toxicity_score": 0}) == set()
    assert types(metrics={"llm_obs.evaluations.hallucination": 1.0}) == {"hallucination"}
    assert types(metrics={"llm_obs.evaluations.hallucination": 0.4}) == set()
    assert types(metadata={"hallucination": "TRUE"}) == {"hallucination"}
    assert types(metadata={"hallucination": "yes indeed"}) == set()


def test_thresholds_move_the_line_and_ignored_names_never_fail() -> None:
    low = replace(HEALTHY, metadata={"quality_score": 0.6, "toxicity_score": 0.3})
    assert find_signals(low, THRESHOLDS) == ()
    assert {s.type.value for s in find_signals(low, Thresholds(quality=0.7, toxicity=0.2))} == {
        "quality_degradation",
        "toxicity",
    }
    ignored = Thresholds(ignored_evaluations=frozenset({"tone", "hallucination"}))
    span = replace(HEALTHY, evaluations=(Evaluation("tone", 1, assessment="fail"), Evaluation("hallucination", True)))
    assert find_signals(span, ignored) == ()
    assert find_signals(replace(span, status="error"), ignored)[0].type is FailureType.EXECUTION_ERROR


def test_signals_come_worst_first_and_say_what_was_observed() -> None:
    found = signals(
        status="error",
        attributes={"http": {"status_code": "500"}},
        metadata={"llm_obs": {"guardrails": {"failed": "true"}, "quality_score": "0.31"}},
    )
    assert [(s.type.value, s.place, s.observed, s.comparison, s.threshold) for s in found] == [
        ("guardrail_failure", "metadata.llm_obs.guardrails.failed", True, "is", True),
        ("http_error", "attributes.http.status_code", 500, ">=", 400.0),
        ("quality_degradation", "metadata.llm_obs.quality_score", 0.31, "<", 0.5),
        ("execution_error", "status", "error", "status is", "error"),
    ]
    assert [rank(signal) for signal in found] == sorted((rank(signal) for signal in found), reverse=True)


def test_scores_and_status_codes_are_collected_from_every_place() -> None:
    span = replace(
        HEALTHY,
        evaluations=(Evaluation("quality_score", 0.9), Evaluation("quality_score", 0.1, status="ERROR")),
        metadata={"llm_obs": {"quality_score": "0.4"}},
        tags=(("quality_score", "0.8"), ("http.status_code", "429")),
        attributes={"http": {"status_code": "200"}},
    )
    assert sorted(quality_scores(span)) == [0.4, 0.8, 0.9]
    assert sorted(http_status_codes(span)) == [200, 429]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1, 1.0),
        (0.5, 0.5),
        ("0.5", 0.5),
        (" 0.5 ", 0.5),
        ("1e-1", 0.1),
        (True, None),
        ("nan", None),
        ("١", None),
        ("9" * 50, None),
    ],
)
def test_numbers_may_be_strings(value: Any, number: float | None) -> None:
    assert number_of(value) == number
