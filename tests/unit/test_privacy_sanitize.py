"""The sanitizer as a whole: identity, signals, purity, the recordings, and dead letters' structure."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.privacy import SANITIZER_VERSION, KeyRing, Sanitizer, structure_of
from evalforge.core.signals import FailureType, Severity, Signal, Thresholds, find_signals
from evalforge.core.span import Evaluation, Span
from evalforge.errors import SkippableError
from evalforge.sources.datadog.spans import parse_apm, parse_llm_obs
from tests.spans import span

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
RING = KeyRing((b"k" * 32,))
SANITIZER = Sanitizer(RING)


@pytest.mark.parametrize("raw", ["", " ", "undefined", "0", None])
def test_a_span_without_ids_is_skipped(raw: Any) -> None:
    with pytest.raises(SkippableError) as caught:
        SANITIZER.sanitize(span(trace_id=raw), ())
    assert caught.value.code == "missing_trace_id"
    with pytest.raises(SkippableError) as caught:
        SANITIZER.sanitize(span(span_id=raw), ())
    assert caught.value.code == "missing_span_id"


def test_what_a_sanitized_span_carries() -> None:
    result = SANITIZER.sanitize(
        span(
            application="support-bot",
            service="support-api",
            env="staging",
            model_name="gpt-4o-mini",
            model_provider="openai",
            apm_trace_id="9997924668816634474",
            metadata={"user_id": "u-8841", "quality_score": 0.4, "http.status_code": 429},
            metrics={"quality_score": 0.31},
            attributes={"http": {"status_code": "503"}, "error": {"type": "ValueError"}},
            evaluations=(Evaluation("csat", 2),),
        ),
        (),
    )
    assert (result.service_name, result.ml_app, result.env) == ("support-api", "support-bot", "staging")
    assert (result.model_name, result.model_provider, result.error_type) == ("gpt-4o-mini", "openai", "ValueError")
    assert (result.status_code, result.quality_score, result.evaluation_count) == (503, 0.31, 1)
    assert result.apm_trace_id == "9997924668816634474"
    assert result.user_hash == RING.user_hash("u-8841")
    assert result.sanitizer_version == SANITIZER_VERSION
    assert re.fullmatch("[0-9a-f]{32}", result.digest)


def test_personal_identity_fields_are_none() -> None:
    result = SANITIZER.sanitize(
        span(application="Maria Lopez", service="maria@example.com", model_name="\ud800", env=""), ()
    )
    assert (result.ml_app, result.service_name, result.model_name, result.env) == (None, None, None, None)


def test_without_a_ring_there_is_no_user_hash() -> None:
    assert Sanitizer().sanitize(span(metadata={"user_id": "u-8841"}), ()).user_hash is None


def test_signals_lose_what_is_personal() -> None:
    evaluations = (
        Evaluation("check of maria", "told maria@example.com", "categorical", "fail"),
        Evaluation("rubric", {"a": 1}, None, "fail"),
    )
    raw = span(span_id="span of maria", evaluations=evaluations)
    result = SANITIZER.sanitize(raw, find_signals(raw, Thresholds()))
    assert {(signal.place, signal.observed) for signal in result.signals} == {
        ("evaluation.[evaluator 1]", "[redacted:text 22]"),
        ("evaluation.rubric", "[redacted:object 1]"),
    }
    assert {signal.span_id for signal in result.signals} == {result.span_id}
    assert "[evaluator 1]" in result.payload["evaluation"]


def test_a_signal_at_an_unheard_of_place() -> None:
    odd = Signal(FailureType.HTTP_ERROR, Severity.HIGH, "1", "metadata.maria@example.com", 500, 400.0, ">=")
    assert SANITIZER.sanitize(span(), (odd,)).signals[0].place == "[redacted:text 26]"


def test_signals_come_the_most_severe_first() -> None:
    raw = span(status="error", metadata={"guardrails": {"failed": True}, "quality_score": 0.1})
    severities = [signal.severity for signal in SANITIZER.sanitize(raw, find_signals(raw, Thresholds())).signals]
    assert severities == sorted(severities, reverse=True)
    assert len(severities) == 3


def recorded_spans() -> list[Span]:
    spans = []
    for name, parse in (("derived_export_page.json", parse_llm_obs), ("derived_apm_search_page.json", parse_apm)):
        for item in json.loads((RECORDED / name).read_text("utf-8"))["data"]:
            parsed = parse(item)
            assert isinstance(parsed, Span)
            spans.append(parsed)
    return spans


PERSONAL = re.compile(
    r"maria|lopez|415.?555|4111|elm st|springfield|u-8841|\bs-1\b|s-direct|@example|mozilla|A-1009|127\.0\.0\.1", re.I
)


def test_nothing_personal_of_the_recordings_is_left() -> None:
    spans = recorded_spans()
    assert len(spans) > 70
    for raw in spans:
        before = copy.deepcopy(raw)
        result = SANITIZER.sanitize(raw, find_signals(raw, Thresholds()))
        assert raw == before
        assert result == SANITIZER.sanitize(raw, find_signals(raw, Thresholds()))
        assert PERSONAL.search(json.dumps(result.payload)) is None
        assert PERSONAL.search(repr(result)) is None


def test_what_is_useful_of_the_recordings_is_left() -> None:
    results = [SANITIZER.sanitize(raw, find_signals(raw, Thresholds())) for raw in recorded_spans()]
    names = {result.name for result in results}
    assert names >= {
        "handle_ticket",
        "OpenAI.createChatCompletion",
        "POST /chat",
        "kb_search",
        "lookup_order",
        "http.request",
    }
    assert {result.ml_app for result in results} == {"support-bot", None}
    assert {result.error_type for result in results} >= {"openai.BadRequestError", "builtins.ValueError"}
    assert {result.status_code for result in results} >= {429, 500, 200}
    assert len({result.user_hash for result in results} - {None}) == 1
    assert not [result.name for result in results if "[redacted" in result.name]
    for raw, result in zip(recorded_spans(), results, strict=True):
        assert dict(raw.metrics) == result.payload.get("metrics", {})
        assert {evaluation.name for evaluation in raw.evaluations} == set(result.payload.get("evaluation", {}))


@pytest.mark.parametrize(
    ("item", "shape"),
    [
        (
            {"id": "maria", "type": 5, "attributes": {"tags": ["user:maria"], "metadata": {"maria": 1, "temperature": 0.2}}},
            {
                "id": "str",
                "type": "int",
                "attributes": {"tags": "list[1]", "metadata": {"temperature": "float", "[unknown keys]": 1}},
            },
        ),
        ([1, 2, 3], {"[item]": "list[3]"}),
        ("maria", {"[item]": "str"}),
        (None, {"[item]": "null"}),
        (True, {"[item]": "bool"}),
        (object(), {"[item]": "other"}),
        ({}, {}),
        ({"data": {"data": {"data": {"data": {"data": 1}}}}}, {"data": {"data": {"data": {"data": "object[1]"}}}}),
    ],
)
def test_structure_of_a_dead_letter(item: Any, shape: dict[str, Any]) -> None:
    assert structure_of(item) == shape


def test_structure_is_bounded() -> None:
    shape = structure_of({f"k{n}": n for n in range(50_000)} | {"type": 1})
    assert shape == {"type": "int", "[unknown keys]": 50_000}
    many = structure_of({word: {} for word in dir(Span)} | {1: 2, "k" * 1000: 3})
    assert len(many) <= 61
