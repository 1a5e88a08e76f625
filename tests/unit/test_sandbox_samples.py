"""The sample failures: as many, as varied and as treacherous as promised, and the same every time."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge.sandbox import samples
from evalforge.sandbox.memory import Store
from evalforge.sandbox.samples.faults import FAULTS, HARMLESS, Fault
from evalforge.sandbox.samples.people import Person, facts_of, people
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.spans import start_of_apm, start_of_llm_obs

END = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
MADE = samples.generate(seed=7, end=END)
SPANS: list[dict[str, Any]] = [item["attributes"] for item in MADE.llm_obs]
ENTRIES = [item["attributes"] for item in MADE.apm if "llmobs_trace_id" in item["attributes"]["custom"]]
SIGNALS = {
    "guardrail_failure",
    "prompt_injection",
    "toxicity",
    "hallucination",
    "http_error",
    "quality_degradation",
    "evaluation_failure",
    "execution_error",
}


def test_the_same_seed_and_end_give_the_same_bytes() -> None:
    samples._generate.cache_clear()
    again = samples.generate(seed=7, end=END)
    assert again is not MADE
    assert json.dumps([again.llm_obs, again.apm, again.planted]) == json.dumps([MADE.llm_obs, MADE.apm, MADE.planted])
    assert again.expected == MADE.expected == samples.expected_failures(seed=7, end=END)
    assert samples.planted(seed=7, end=END) == MADE.planted
    assert samples.generate(seed=8, end=END).expected != MADE.expected


def test_about_three_hundred_traces_of_which_a_fifth_to_a_quarter_fail() -> None:
    traces = {span["trace_id"] for span in SPANS}
    assert len(traces) == samples.DEFAULT_TRACES
    assert 0.2 <= len(MADE.expected) / len(traces) <= 0.25
    assert set(MADE.expected) <= traces
    assert Counter(span["ml_app"] for span in SPANS).keys() == {"support-bot", "docs-assistant", "ops-copilot"}


@pytest.mark.parametrize("seed", [1, 7, 99])
def test_every_signal_is_expected_whatever_the_seed(seed: int) -> None:
    expected = samples.expected_failures(seed=seed, end=END)
    assert set().union(*expected.values()) == SIGNALS


def found(fault: Fault) -> bool:
    """Whether a fault's value is in its place somewhere in the samples."""
    match fault.place:
        case "evaluation":
            return any(verdict_is(span.get("evaluation", {}).get(fault.name), fault) for span in SPANS)
        case "metadata":
            return any(is_same(nested(span["metadata"], fault.name), fault.value) for span in SPANS)
        case "metadata.dotted":
            return any(is_same(span["metadata"].get(fault.name), fault.value) for span in SPANS)
        case "metrics":
            return any(is_same(span["metrics"].get(fault.name), fault.value) for span in SPANS)
        case "tags":
            return any(f"{fault.name}:{fault.value}" in span["tags"] for span in SPANS)
        case "custom":
            return any(is_same(nested(entry["custom"], fault.name), fault.value) for entry in ENTRIES)


def verdict_is(verdict: Any, fault: Fault) -> bool:
    return verdict is not None and is_same(verdict["value"], fault.value) and verdict.get("assessment") == fault.assessment


def is_same(value: Any, wanted: Any) -> bool:
    return type(value) is type(wanted) and value == wanted


def nested(mapping: Any, path: str) -> Any:
    for key in path.split("."):
        mapping = mapping.get(key) if isinstance(mapping, dict) else None
    return mapping


@pytest.mark.parametrize("fault", [*FAULTS, *HARMLESS], ids=lambda f: f"{f.place}-{f.name}-{f.value}-{f.assessment}")
def test_every_row_of_the_tables_is_planted(fault: Fault) -> None:
    assert found(fault)


def test_the_rows_cover_every_place_and_every_form_of_a_name() -> None:
    assert {fault.signal for fault in FAULTS} == SIGNALS - {"execution_error"}
    assert {fault.place for fault in FAULTS} == {"evaluation", "metadata", "metadata.dotted", "metrics", "tags", "custom"}
    for prefix in ("llm_obs.evaluations.", "llm_obs."):
        assert {fault.place for fault in FAULTS if fault.name.startswith(prefix)} >= {"metadata", "tags", "custom"}
    assert any(fault.name == "policy_compliance" and fault.assessment == "fail" for fault in FAULTS)


def test_errors_break_a_tool_a_model_or_everything() -> None:
    failed = [span for span in SPANS if span["status"] == "error"]
    assert {span["span_kind"] for span in failed} == {"tool", "llm", "agent", "workflow"}
    assert {span["trace_id"] for span in failed} == {t for t, found in MADE.expected.items() if "execution_error" in found}
    assert any(entry.get("status") == "error" and entry["custom"]["http"]["status_code"] == "500" for entry in ENTRIES)
    assert any(span["output"] == {"messages": [{"content": "", "role": ""}]} for span in failed)
    for item in MADE.llm_obs:
        assert ("unexported" in item) == (item["attributes"]["status"] == "error")


def test_what_only_looks_like_a_failure() -> None:
    assert any(
        verdict["status"] == "ERROR" and verdict["assessment"] == "fail"
        for span in SPANS
        for verdict in span.get("evaluation", {}).values()
    )
    experiments = [span for span in SPANS if span["span_kind"] == "experiment"]
    assert experiments
    assert not {span["trace_id"] for span in experiments} & set(MADE.expected)


def test_spans_have_the_export_s_shape() -> None:
    now, day = END.timestamp() * 1e9, timedelta(hours=24).total_seconds() * 1e9
    by_id = {span["span_id"]: span for span in SPANS}
    assert len(by_id) == len(SPANS)
    for span in SPANS:
        start = start_of_llm_obs(span)
        assert start is not None
        assert now - day <= start <= now
        assert len(span["trace_id"]) == 32
        assert abs(int(span["trace_id"][:8], 16) - start / 1e9) < 60
        assert 2**53 < int(span["span_id"]) < 2**64
        assert isinstance(span["duration"], float)
        parent = by_id.get(span["parent_id"])
        assert span["parent_id"] == "undefined" or (parent is not None and parent["trace_id"] == span["trace_id"])
        assert "version:" in span["tags"]
    assert {len(str(span["start_ns"])) for span in SPANS} == {19, 13}, "most in nanoseconds, some in milliseconds"


def test_apm_has_a_twin_of_every_trace() -> None:
    by_trace = {entry["custom"]["llmobs_trace_id"]: entry for entry in ENTRIES}
    roots = {s["trace_id"]: s for s in SPANS if s["span_kind"] == "workflow"}
    assert set(by_trace) == set(roots)
    apm_ids = {item["attributes"]["span_id"] for item in MADE.apm}
    for trace_id, entry in by_trace.items():
        assert start_of_apm(entry) is not None
        assert entry["trace_id"].isdecimal()
        assert isinstance(entry["custom"]["http"]["status_code"], str)
        assert set(entry["custom"]["usr"]) == {"id", "email", "name"}
        assert roots[trace_id]["span_id"] in apm_ids


def test_personal_data_is_everywhere() -> None:
    planted = MADE.planted
    assert len(planted) > 150
    assert len(set(planted)) == len(planted)
    assert min(map(len, planted)) >= 7
    assert sum("@" in p for p in planted) > 20
    everything = json.dumps([MADE.llm_obs, MADE.apm], ensure_ascii=False)
    assert all(secret in everything for secret in planted)
    places = {
        "tags": [tag for span in SPANS for tag in span["tags"]],
        "metadata": [span["metadata"] for span in SPANS],
        "tool": [span["input"] for span in SPANS if span["span_kind"] == "tool"],
        "calls": [m.get("tool_calls") for s in SPANS for m in s["input"].get("messages", ())],
        "results": [m.get("tool_results") for s in SPANS for m in s["input"].get("messages", ())],
        "reasoning": [v["reasoning"] for s in SPANS for v in s.get("evaluation", {}).values()],
        "answers": [span["output"] for span in SPANS if span["span_kind"] == "llm"],
        "errors": [item["unexported"] for item in MADE.llm_obs if "unexported" in item],
        "apm errors": [entry["custom"]["error"] for entry in ENTRIES if "error" in entry["custom"]],
        "custom": [entry["custom"] for entry in ENTRIES],
    }
    for place, values in places.items():
        written = json.dumps(values, ensure_ascii=False)
        assert any(secret in written for secret in planted), place
    keys = ("user_id", "user.id", "usr.id", "usr_id", "user_handle", "user.email", "session_id", "client.ip", "pii")
    tags = {tag.partition(":")[0] for tag in places["tags"]}
    assert tags >= set(keys)
    metadata = json.dumps(places["metadata"])
    for key in ('"user"', '"user_id"', '"authorization"', '"cookie"', '"user.email"', '"context"', '"contacts"', '"usr"'):
        assert key in metadata
    assert set(MADE.users) == {span["trace_id"] for span in SPANS}


def test_texts_are_filled_and_varied() -> None:
    questions = Counter(span["input"]["value"] for span in SPANS if span["span_kind"] == "agent")
    assert len(questions) > 200
    assert sum(len(app.scenarios) for app in samples.APPS) >= 30
    everything = json.dumps([span["input"] for span in SPANS] + [span["output"] for span in SPANS])
    for placeholder in facts_of(*seeded()):
        assert f"{{{placeholder}}}" not in everything


def seeded() -> tuple[random.Random, Person]:
    rng = random.Random(1)
    return rng, people(rng)[0]


def test_a_server_says_what_it_is_loaded_with() -> None:
    with BackgroundServer(samples=True, traces=5) as server:
        assert server.samples is not None
        assert len(server.samples.users) == 5
        assert server.sandbox.store.count("llm_obs") == len(server.samples.llm_obs)


def test_loading_fills_a_store() -> None:
    store = Store()
    assert samples.load(store, seed=7, end=END) == MADE
    assert (store.count("llm_obs"), store.count("apm")) == (len(MADE.llm_obs), len(MADE.apm))
