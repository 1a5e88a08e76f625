"""The bench server's spans: made from their offset, the same each time, as many failing ones as it says."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest

from bench.server import Answers, Asked
from bench.spans import MS_NS, SPREAD_MS, Spans, Workload
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sources.datadog.spans import parse_llm_obs

LOAD = Workload(spans=1_000, every=20, span_bytes=2_000, seed=7, end_ms=1_795_000_000_000)
FROM_MS, TO_MS = LOAD.end_ms - SPREAD_MS, LOAD.end_ms


@pytest.fixture(scope="module")
def spans() -> Spans:
    return Spans(LOAD)


def asked(spans: Spans, from_ms: int, to_ms: int, *, query: str = "", limit: int = 300) -> list[dict[str, Any]]:
    """Every span of a window, page after page."""
    answers, found, cursor = Answers(spans), list[dict[str, Any]](), None
    while True:
        page = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        search_filter = {"from": str(from_ms), "to": str(to_ms)} | ({"query": query} if query else {})
        attributes = {"filter": search_filter, "page": page, "sort": "timestamp"}
        answer = orjson.loads(b"".join(answers.search(orjson.dumps({"data": {"type": "spans", "attributes": attributes}}))))
        found += answer["data"]
        assert len(answer["data"]) <= limit
        if answer["meta"]["page"] is None:
            return found
        cursor = answer["meta"]["page"]["after"]


def test_a_span_is_the_same_in_every_page(spans: Spans) -> None:
    everything = asked(spans, FROM_MS, TO_MS)
    assert len({item["id"] for item in everything}) == len(everything) == LOAD.spans
    again = Spans(LOAD)
    for offset in (0, 1, 19, 20, 333, 999):
        assert orjson.loads(again.span(offset)) == everything[offset]
    starts = [item["attributes"]["start_ns"] for item in everything]
    assert starts == sorted(starts)


def test_sub_windows_part_the_window(spans: Spans) -> None:
    edges = [FROM_MS - 5, FROM_MS + 1, FROM_MS + SPREAD_MS // 3, FROM_MS + SPREAD_MS // 2 + 17, TO_MS + 99]
    for query in ("", "@status:error"):
        whole = asked(spans, FROM_MS, TO_MS, query=query)
        parts = [asked(spans, from_ms, to_ms, query=query, limit=70) for from_ms, to_ms in pairwise(edges)]
        assert [item for part in parts for item in part] == whole
        for part, (from_ms, to_ms) in zip(parts, pairwise(edges), strict=True):
            assert all(from_ms * MS_NS <= item["attributes"]["start_ns"] < to_ms * MS_NS for item in part)


def test_one_in_twenty_fails_by_our_rules_and_the_query_finds_just_these(spans: Spans) -> None:
    failing = []
    for item in asked(spans, FROM_MS, TO_MS):
        span = parse_llm_obs(item)
        assert isinstance(span, Span)
        if find_signals(span, Thresholds()):
            failing.append(item)
    assert len(failing) == LOAD.failing == 50
    assert asked(spans, FROM_MS, TO_MS, query="@status:error", limit=7) == failing
    traces = {item["attributes"]["trace_id"] for item in failing}
    assert 0.7 * len(failing) < len(traces) < 0.8 * len(failing)  # the others have work for the merge


def test_spans_have_about_the_size_that_was_asked_for(spans: Spans) -> None:
    sizes = [len(spans.span(offset)) for offset in range(200)]
    assert 0.8 * LOAD.span_bytes < sum(sizes) / len(sizes) < 1.2 * LOAD.span_bytes


def test_a_change_gives_some_failing_spans_other_scores(spans: Spans, monkeypatch: pytest.MonkeyPatch) -> None:
    before = asked(spans, FROM_MS, TO_MS)
    monkeypatch.setattr(spans, "changed", 0.1)
    changed = [old for old, new in zip(before, asked(spans, FROM_MS, TO_MS), strict=True) if old != new]
    assert 0 < len(changed) < 0.3 * LOAD.failing
    assert all(parse_llm_obs(item) and "quality_score" in item["attributes"]["evaluation"] for item in changed)


@pytest.mark.parametrize("change", [{"sort": "-timestamp"}, {"filter": {"from": "now-1d", "to": "now"}}, {"page": None}])
def test_what_it_does_not_serve_it_refuses(spans: Spans, change: dict[str, Any]) -> None:
    attributes = {"filter": {"from": "1", "to": "2"}, "page": {}, "sort": "timestamp"} | change
    with pytest.raises(Asked):
        Answers(spans).search(orjson.dumps({"data": {"attributes": attributes}}))
