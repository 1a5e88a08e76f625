"""Datadog's JSON to spans: the recordings, every tolerance, every rejection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.ports import Rejected
from evalforge.core.signals import FailureType, Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sources.datadog.spans import parse_apm, parse_llm_obs

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
DAY_NS = 1_761_833_858_897_000_000


def items_of(name: str) -> list[Any]:
    document = json.loads((RECORDED / name).read_text())
    if "data" in document:
        return list(document["data"])
    return [item for one in document["interactions"] for item in one["response"]["body"].get("data", [])]


def llm_obs(**attributes: Any) -> Span:
    span = parse_llm_obs({"id": "1", "type": "span", "attributes": {"trace_id": "a1", "span_id": "1", **attributes}})
    assert isinstance(span, Span)
    return span


def apm(custom: Any = None, **attributes: Any) -> Span:
    span = parse_apm({"attributes": {"trace_id": "7", "span_id": "1", "custom": custom, **attributes}})
    assert isinstance(span, Span)
    return span


def failing_traces(spans: list[Span]) -> dict[str, set[FailureType]]:
    found: dict[str, set[FailureType]] = {}
    for span in spans:
        for signal in find_signals(span, Thresholds()):
            found.setdefault(span.trace_id, set()).add(signal.type)
    return found


# -- recordings -----------------------------------------------------------------------------------------------------------


def test_the_recorded_llm_obs_page_has_its_failing_traces() -> None:
    spans = [span for item in items_of("derived_export_page.json") if isinstance(span := parse_llm_obs(item), Span)]
    assert len(spans) == len(items_of("derived_export_page.json"))
    failing = failing_traces(spans)
    assert failing["6b03dc78000000003d53c950006270ff"] == {
        FailureType.QUALITY_DEGRADATION,
        FailureType.HALLUCINATION,
        FailureType.EVALUATION_FAILURE,
    }
    assert {trace for trace, types in failing.items() if FailureType.EXECUTION_ERROR in types} == {
        span.trace_id for span in spans if span.status == "error"
    }
    root = spans[0]
    assert (root.name, root.kind, root.parent_id, root.application) == ("handle_ticket", "workflow", None, "support-bot")
    assert (root.service, root.env) == ("support-api", "staging")
    assert root.start_ns == 1_795_415_160_838_728_626
    assert root.duration_ns == 5_951_845
    assert ("session_id", "s-1") in root.tags
    assert [evaluation.name for evaluation in root.evaluations] == [
        "quality_score",
        "hallucination",
        "is_helpful",
        "rubric",
        "csat",
    ]


def test_the_recorded_apm_page_has_its_failing_traces() -> None:
    items = items_of("derived_apm_search_page.json")
    spans = [span for item in items if isinstance(span := parse_apm(item), Span)]
    assert len(spans) == len(items)
    web = next(span for span in spans if span.name == "POST /chat")
    assert (web.trace_id, web.trace_id_kind) == ("6b03dc78000000003d53c950006270ff", "llm_obs")
    assert (web.apm_trace_id, web.kind, web.service) == ("9997924668816634474", "server", "support-api")
    assert web.start_ns == 1_795_415_160_828_000_000
    assert failing_traces(spans)[web.trace_id] >= {FailureType.GUARDRAIL_FAILURE, FailureType.HALLUCINATION}
    refused = [span for span in spans if span.attributes.get("http", {}).get("status_code") == "429"]
    assert {span.status for span in refused} == {"ok"}
    for span in refused:
        assert FailureType.HTTP_ERROR in {signal.type for signal in find_signals(span, Thresholds())}
    failed = [span for span in spans if span.status == "error"]
    assert any(isinstance(span.error, dict) and span.error["type"] == "builtins.ValueError" for span in failed)


@pytest.mark.parametrize(
    "name",
    [
        "cassette_get_a_list_of_spans_returns_ok_response.json",
        "cassette_search_spans_returns_ok_response_with_pagination.json",
    ],
)
def test_datadogs_own_recorded_answers_parse_and_are_healthy(name: str) -> None:
    items = items_of(name)
    spans = [parse_apm(item) for item in items]
    assert spans
    for item, span in zip(items, spans, strict=True):
        assert isinstance(span, Span)
        assert span.span_id == item["attributes"]["span_id"]
        assert span.start_ns > 0
        assert span.duration_ns == item["attributes"]["custom"]["duration"]
        assert find_signals(span, Thresholds()) == ()


# -- ids and times --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("received", "wanted"),
    [
        ("18446744073709551615", "18446744073709551615"),
        (18446744073709551615, "18446744073709551615"),
        (2**127, str(2**127)),
        (12.0, "12"),
        ("00ab", "00ab"),
    ],
)
def test_ids_keep_every_digit(received: Any, wanted: str) -> None:
    span = parse_llm_obs({"attributes": {"trace_id": received, "span_id": received}})
    assert isinstance(span, Span)
    assert (span.trace_id, span.span_id) == (wanted, wanted)


@pytest.mark.parametrize("lost", [1.8446744073709552e19, 0.5, True, None, "", "  ", [], {}, 10**500])
def test_what_is_no_id_any_more_is_rejected(lost: Any) -> None:
    for parse in (parse_llm_obs, parse_apm):
        missing_trace = parse({"attributes": {"trace_id": lost, "span_id": "1"}})
        missing_span = parse({"attributes": {"trace_id": "a", "span_id": lost}})
        assert isinstance(missing_trace, Rejected)
        assert isinstance(missing_span, Rejected)
        assert (missing_trace.reason, missing_trace.span_id) == ("missing_trace_id", "1")
        assert (missing_span.reason, missing_span.trace_id) == ("missing_span_id", "a")


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (None, "not_an_object"),
        ([], "not_an_object"),
        ("span", "not_an_object"),
        ({}, "no_attributes"),
        ({"attributes": None}, "no_attributes"),
        ({"attributes": {}}, "no_attributes"),
        ({"attributes": ["trace_id"]}, "no_attributes"),
    ],
)
def test_what_is_no_span_is_rejected(item: Any, reason: str) -> None:
    for parse in (parse_llm_obs, parse_apm):
        rejected = parse(item)
        assert isinstance(rejected, Rejected)
        assert rejected.reason == reason
        assert rejected.item is item


@pytest.mark.parametrize(
    ("received", "wanted"),
    [
        (1_761_833_858_897, DAY_NS),
        (1_761_833_858_897_000, DAY_NS),
        (DAY_NS, DAY_NS),
        (1_795_415_160_838_728_626, 1_795_415_160_838_728_626),
        ("1795415160838728626", 1_795_415_160_838_728_626),
        ("1761833858897", DAY_NS),
        (1_761_833_858_897.0, DAY_NS),
        ("2025-10-30T14:17:38.897Z", DAY_NS),
        (0, 0),
        (-5, 0),
        (True, 0),
        (float("nan"), 0),
        (float("inf"), 0),
        (10**400, 0),
        (2**63, 0),
        ("soon", 0),
        ("9" * 5000, 0),
        (None, 0),
        ([1], 0),
    ],
)
def test_a_start_is_read_by_its_magnitude(received: Any, wanted: int) -> None:
    span = llm_obs(start_ns=received)
    assert span.start_ns == wanted
    assert span.received_start is received


@pytest.mark.parametrize(
    ("received", "wanted"),
    [
        ("2023-06-29T09:50:52.472Z", 1_688_032_252_472_000_000),
        ("2023-06-29T09:50:52Z", 1_688_032_252_000_000_000),
        ("2023-06-29T09:50:52.123456789Z", 1_688_032_252_123_456_789),
        ("2023-06-29 11:50:52,5+02:00", 1_688_032_252_500_000_000),
        ("2023-06-29T09:50:52.472", 1_688_032_252_472_000_000),
        (1_688_032_252_472, 1_688_032_252_472_000_000),
        ("2023-02-31T09:50:52Z", 0),
        ("2023-06-29T09:50:52+99:99", 0),
        ("1912-06-23T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 0),
        ("٢٠٢٣-06-29T09:50:52Z", 0),
    ],
)
def test_apm_times_keep_the_digits_that_came(received: Any, wanted: int) -> None:
    assert apm({}, start_timestamp=received).start_ns == wanted


@pytest.mark.parametrize(
    ("custom", "wanted"),
    [
        ({"duration": 3_402_932}, 3_402_932),
        ({"duration": "12"}, 12),
        ({}, 3_000_000),
        ({"duration": "long"}, 3_000_000),
        ({"duration": -1}, 3_000_000),
    ],
)
def test_an_apm_duration_falls_back_to_end_minus_start(custom: Any, wanted: int) -> None:
    span = apm(custom, start_timestamp="2023-06-29T09:50:52.472Z", end_timestamp="2023-06-29T09:50:52.475Z")
    assert span.duration_ns == wanted


@pytest.mark.parametrize("parent", ["undefined", "0", 0, "", None, [], " 0 "])
def test_a_root_has_no_parent(parent: Any) -> None:
    assert llm_obs(parent_id=parent).parent_id is None
    assert apm({}, parent_id=parent).parent_id is None


# -- the rest of a span ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        (
            ["a:b", "s:x", "s:y", "v:", "c", "u:http://h:1"],
            (("a", "b"), ("s", "x"), ("s", "y"), ("v", ""), ("c", ""), ("u", "http://h:1")),
        ),
        (
            {"a": "b", "n": 3, "t": True, "l": ["x", "y"], "z": None},
            (("a", "b"), ("n", "3"), ("t", "true"), ("l", "x"), ("l", "y"), ("z", "")),
        ),
        ("a:b,c", (("a", "b"), ("c", ""))),
        (["a:b", 7, None, ["x"], {"k": "v"}], (("a", "b"),)),
        (None, ()),
        (42, ()),
    ],
)
def test_tags_become_pairs(tags: Any, wanted: Any) -> None:
    assert llm_obs(tags=tags).tags == wanted
    assert apm({}, tags=tags).tags == wanted


def test_evaluations_keep_their_name_and_body() -> None:
    body = {"value": 0.31, "assessment": "fail", "status": "OK", "eval_metric_type": "score", "reasoning": "because"}
    span = llm_obs(
        evaluation={"Odd Name!": body, "bare": 0.2, "list": [1], "none": None, "odd": {"assessment": 3, "value": {"a": 1}}}
    )
    first, bare, listed, none, odd = span.evaluations
    assert (first.name, first.value, first.assessment, first.status, first.value_kind) == (
        "Odd Name!",
        0.31,
        "fail",
        "OK",
        "score",
    )
    assert first.body is body
    assert (bare.value, bare.body, bare.assessment) == (0.2, {}, None)
    assert (listed.value, none.value) == ([1], None)
    assert (odd.value, odd.assessment) == ({"a": 1}, None)


@pytest.mark.parametrize(
    ("received", "names"),
    [([{"name": "tone", "value": 1}, {"label": "csat"}, "x", {}], ["tone", "csat"]), ("fail", []), (3, []), (None, [])],
)
def test_evaluations_in_another_shape_are_read_or_left(received: Any, names: list[str]) -> None:
    assert [evaluation.name for evaluation in llm_obs(evaluation=received).evaluations] == names


def test_one_odd_field_costs_that_field_only() -> None:
    span = llm_obs(
        name=7,
        span_kind=None,
        status=["error"],
        duration="x",
        metadata=[1],
        metrics="none",
        model_name={},
        ml_app=3,
        intent="ask",
        status_message="boom",
    )
    assert (span.name, span.kind, span.status, span.duration_ns) == ("7", "", "", 0)
    assert (span.metadata, span.metrics, span.model_name, span.application) == ({}, {}, None, None)
    assert span.extra == {"metadata": [1], "metrics": "none", "intent": "ask", "status_message": "boom"}


def test_application_service_and_env_fall_back_to_tags() -> None:
    span = llm_obs(tags=["ml_app:bot", "service:api", "ENV:prod"])
    assert (span.application, span.service, span.env) == ("bot", "api", "prod")
    explicit = llm_obs(ml_app="x", service="y", env="z", tags=["ml_app:bot", "service:api", "env:prod"])
    assert (explicit.application, explicit.service, explicit.env) == ("x", "y", "z")


def test_apm_words_come_from_custom_and_tags() -> None:
    custom = {"gen_ai": {"application": {"name": "bot"}, "request": {"model": "m"}, "provider": {"name": "p"}}, "env": "e"}
    span = apm(custom, operation_name="op", type="web", host="h", tags=["service:api"])
    assert (span.application, span.model_name, span.model_provider, span.env) == ("bot", "m", "p", "e")
    assert (span.name, span.kind, span.service) == ("op", "web", "api")
    assert span.attributes is custom
    assert span.extra == {"operation_name": "op", "host": "h"}
    dotted = apm({"gen_ai.request.model": "m", "ml_app": "bot"}, tags=["ml_app:tagged"])
    assert (dotted.model_name, dotted.application) == ("m", "tagged")
    assert apm([1]).extra == {"custom": [1]}


@pytest.mark.parametrize("identity", ["undefined", "0", "", None, True])
def test_an_apm_span_without_llm_obs_id_is_filed_under_its_own(identity: Any) -> None:
    span = apm({"llmobs_trace_id": identity})
    assert (span.trace_id, span.trace_id_kind, span.apm_trace_id) == ("7", "apm", "7")


def test_an_apm_span_with_llm_obs_id_needs_no_own_trace_id() -> None:
    span = parse_apm({"attributes": {"span_id": 5, "custom": {"llmobs_trace_id": "6b"}}})
    assert isinstance(span, Span)
    assert (span.trace_id, span.trace_id_kind, span.apm_trace_id, span.span_id) == ("6b", "llm_obs", None, "5")


@pytest.mark.parametrize(
    ("attributes", "custom", "status"),
    [
        ({}, {}, "ok"),
        ({"status": "error"}, {}, "error"),
        ({"status": " Error "}, {}, "error"),
        ({"status": "ok"}, {"error": {"message": "caught and handled"}}, "ok"),
        ({"error": 1}, {}, "error"),
        ({"error": 0}, {"error": {"message": "x"}}, "ok"),
        ({}, {"error": 1}, "error"),
        ({}, {"error": "1"}, "error"),
        ({}, {"error": True}, "error"),
        ({}, {"error": {"message": "boom"}}, "error"),
        ({}, {"error": {"type": "ValueError"}}, "error"),
        ({}, {"error.message": "boom"}, "error"),
        ({}, {"error": {"stack": "only"}}, "ok"),
        ({}, {"error": {}}, "ok"),
        ({}, {"http": {"status_code": "429"}}, "ok"),
        ({"status": 7}, {}, "ok"),
    ],
)
def test_apm_status(attributes: Any, custom: Any, status: str) -> None:
    assert apm(custom, **attributes).status == status


@pytest.mark.parametrize(
    ("received", "filed_under"),
    [
        ("6b03dc78000000003d53c950006270ff", "6b03dc78000000003d53c950006270ff"),
        (str(0x6B03DC78000000003D53C950006270FF), "6b03dc78000000003d53c950006270ff"),
        (0x6B03DC78000000003D53C950006270FF, "6b03dc78000000003d53c950006270ff"),
        ("18446744073709551615", "18446744073709551615"),
        ("1" * 32, "1" * 32),
        ("9" * 39, "9" * 39),
    ],
)
def test_a_propagated_decimal_trace_id_is_the_same_trace(received: object, filed_under: str) -> None:
    assert apm({"llmobs_trace_id": received}).trace_id == filed_under
