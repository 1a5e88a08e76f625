"""Whatever a search answers, a finding about it is made of our own words: nothing that came is in it, and nothing raises."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.findings import known_word, masked_name
from evalforge.sources.datadog.shapes import cursor_form, form_of, unit_of
from evalforge.sources.datadog.sightings import apm_findings, llm_obs_findings

CANARY = "Wilhelmina"
NUMBER = 4929471933820718

LLM_OBS = (
    "id attributes span_id trace_id parent_id name ml_app span_kind status start_ns duration tags metadata metrics input "
    "output messages value evaluation assessment eval_metric_type documents error session_id role content"
).split()
APM = "custom http status_code duration start_timestamp end_timestamp llmobs_trace_id resource_name type".split()

words = st.sampled_from([CANARY, f"x:{CANARY}", f"{CANARY}:", f"ok{CANARY}", f"2026-11-28T01:00:00Z{CANARY}", "1", "ok"])
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words, st.just(NUMBER), st.just(10**400))
keys = st.one_of(st.sampled_from([*LLM_OBS, *APM]), words)
trees: st.SearchStrategy[Any] = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=20
)
spans = st.fixed_dictionaries({"id": trees, "attributes": st.dictionaries(keys, trees, max_size=8)})


@given(st.lists(st.one_of(spans, trees), max_size=4))
def test_findings_about_any_items_hold_nothing_of_them(items: list[Any]) -> None:
    for findings in (llm_obs_findings(items), apm_findings(items)):
        assert CANARY.lower() not in repr(findings).lower()
        assert str(NUMBER) not in repr(findings).replace(",", "")


@given(trees)
def test_any_value_has_a_form_and_tells_nothing(value: Any) -> None:
    told = " ".join((form_of(value), unit_of(value), cursor_form(value), known_word(value, ("ok",))))
    assert CANARY not in told
    assert str(NUMBER) not in told


@given(st.text("aé._-:/ \x1b", max_size=80))
def test_a_name_is_masked_except_for_well_known_parts(name: str) -> None:
    assert masked_name(f"{CANARY}-{name}").startswith("?")
    assert masked_name("llm_obs_public_search_api") == "llm_obs_public_search_api"
