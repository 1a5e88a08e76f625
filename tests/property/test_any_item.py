"""Any JSON at all as an item of a page: the run goes on, the counts balance, and what is odd becomes a dead letter."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.ports import Rejected
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.window import Window
from evalforge.ingest import Judge
from evalforge.runs import run
from evalforge.sources.datadog.spans import parse_apm, parse_llm_obs
from evalforge.stores.sqlite import SqliteStore
from tests.examples import examples
from tests.fake_source import FakeSource
from tests.orders import order

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
NAMES = st.sampled_from(
    "span_id trace_id parent_id name status start_ns duration tags metadata metrics input output evaluation custom error "
    "http status_code llm_obs quality_score hallucination assessment value messages content user id usr email attributes "
    "llmobs_trace_id start_timestamp __x__ tool_calls documents".split()
)
KEYS = NAMES | st.text(max_size=12)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**62, max_value=2**70)
    | st.floats()
    | st.sampled_from(
        ["error", "ok", "fail", "true", "0.1", "500", "toxic", "\ud800", "\x00", "6b03dc78000000003d53c950006270ff"]
    )
    | st.text(max_size=20)
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=25
)
ATTRIBUTES = st.fixed_dictionaries(
    {"span_id": st.sampled_from(["1", "22", 3]) | JSON, "trace_id": st.sampled_from(["a" * 32, "77"]) | JSON},
    optional=dict.fromkeys(
        "status tags metadata metrics evaluation custom input output error start_ns name kind".split(), JSON
    ),
)
ITEMS = JSON | st.fixed_dictionaries({"id": JSON, "attributes": JSON | ATTRIBUTES})


@examples(150)
@given(st.lists(st.tuples(ITEMS, st.booleans()), max_size=6))
def test_any_json_as_an_item_never_ends_a_run(items: list[tuple[Any, bool]]) -> None:
    parsed = [parse_apm(item) if is_apm else parse_llm_obs(item) for item, is_apm in items]
    assert all(isinstance(one, Rejected) or one.trace_id for one in parsed)
    # The window is no part of this property: every item is on a page, whenever it says that it began.
    source = FakeSource(parsed, everything=True)
    report, count = asyncio.run(_run_twice(source))
    tally = report.tally
    assert report.error is None
    assert report.complete
    assert tally.fetched == len(items) == tally.healthy + tally.failing + tally.rejected
    assert (tally.created, tally.updated) == (0, 0), "this is the report of the second run"
    assert tally.unchanged >= count, "a trace on two pages is looked at twice"


async def _run_twice(source: FakeSource) -> tuple[Any, int]:
    store = SqliteStore(":memory:", prefix="evalforge_")
    try:
        for _ in range(2):
            report = await run(
                [source],
                store,
                Judge(Thresholds(), RING, Sanitizer(RING), "datadoghq.com", 180),
                order(Window.last_hours(1, NOW)),
                clock=lambda: NOW,
            )
        return report, await store.count(now=NOW)
    finally:
        await store.close()
