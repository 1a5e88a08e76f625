"""Users on roots: who is looked for, what a root must say, what stops the looking, and that it is only a warning."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge import users
from evalforge.core.ports import Selection
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.errors import EvalForgeError, QuotaExhaustedError, SourceUnavailableError
from evalforge.ingest import Judge
from evalforge.runs import Budget, RunReport, run
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import GENEROUS, order

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = b"a-first-key-of-some-32-bytes-or-more!"
RING = KeyRing((KEY,))


def failing(number: int, **fields: Any) -> Span:
    return Span(
        **{
            "source": "llm_obs",
            "trace_id": f"6b03dc78{number:024x}",
            "trace_id_kind": "llm_obs",
            "span_id": str(10_000 + number),
            "parent_id": str(20_000 + number),
            "name": "answer",
            "kind": "llm",
            "status": "error",
            "start_ns": int((NOW - timedelta(hours=1)).timestamp() * 1_000_000_000) + number,
            "duration_ns": 1000,
            **fields,
        }
    )


def root(number: int, user_id: Any, **fields: Any) -> Span:
    about = {"span_id": str(20_000 + number), "parent_id": None, "status": "ok", "metadata": {"user_id": user_id}}
    return replace(failing(number), start_ns=failing(number).start_ns - 5_000, **(about | fields))


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def go(
    store: SqliteStore,
    *sources: FakeSource,
    budget: Budget = GENEROUS,
    ring: KeyRing = RING,
    resolve_users: bool = True,
) -> RunReport:
    return await run(
        sources,
        store,
        Judge(Thresholds(), ring, Sanitizer(ring), "datadoghq.com", 180),
        order(Window.last_hours(24, NOW), budget, resolve_users=resolve_users),
        clock=lambda: NOW,
    )


async def documents(store: SqliteStore) -> dict[str, dict[str, Any]]:
    return {one.capture.trace_id: dict(one.document) async for one in store.select(Selection(), now=NOW)}


async def test_who_is_named_only_on_the_root_is_found_and_nothing_else_of_the_root_is_kept(store: SqliteStore) -> None:
    source = FakeSource(
        [failing(1), failing(2, tags=(("user.id", "u-2"),))],
        root_spans=[root(1, "Maria@Example.com", name="a healthy root", input="hello"), root(2, "u-2")],
    )
    report = await go(store, source)
    assert report.complete
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 1, "found": 1}
    assert source.asked_roots == [[failing(1).trace_id]]
    found = (await documents(store))[failing(1).trace_id]
    assert found["user_hash"] == RING.user_hash("maria@example.com")
    assert found["user_hashes"] == [found["user_hash"]]
    assert found["user_first_ns"] == [root(1, "").start_ns]
    assert (found["recurrence_count"], found["started_ns"]) == (1, failing(1).start_ns)
    assert "healthy root" not in str(found)
    assert "maria" not in str(found).lower()


async def test_a_second_run_changes_nothing_and_asks_only_for_those_still_without_a_user(store: SqliteStore) -> None:
    items = [failing(number) for number in range(5)]
    named = [root(number, f"u-{number}") for number in range(3)]
    await go(store, FakeSource(items, root_spans=named))
    before = await documents(store)
    second = FakeSource(items, root_spans=named)
    report = await go(store, second)
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 2, "found": 0}
    assert {trace_id for asked in second.asked_roots for trace_id in asked} == {items[3].trace_id, items[4].trace_id}
    assert report.tally.unchanged == 5
    assert await documents(store) == before


async def test_each_trace_is_asked_for_once_a_run_however_often_it_was_met(store: SqliteStore) -> None:
    source = FakeSource([failing(1), failing(1, span_id="7"), failing(1), failing(2)], page_size=1)
    await go(store, source)
    asked = [trace_id for batch in source.asked_roots for trace_id in batch]
    assert sorted(asked) == [failing(1).trace_id, failing(2).trace_id]


async def test_a_later_page_that_names_the_user_makes_asking_needless(store: SqliteStore) -> None:
    source = FakeSource([failing(1), failing(1, span_id="7", metadata={"user_id": "u-1"})], page_size=1)
    report = await go(store, source)
    assert source.asked_roots == []
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 0, "found": 0}


async def test_the_next_source_is_asked_only_for_what_the_first_did_not_know(store: SqliteStore) -> None:
    llm_obs = FakeSource([failing(1), failing(2), failing(3)], root_spans=[root(1, "u-1"), root(2, None)])
    entry = root(2, "u-2", source="apm", apm_trace_id="991")
    apm = FakeSource([], name="apm", root_spans=[entry])
    report = await go(store, llm_obs, apm)
    assert {one for asked in apm.asked_roots for one in asked} == {failing(2).trace_id, failing(3).trace_id}
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 3, "found": 2}
    assert (await documents(store))[failing(2).trace_id]["user_hash"] == RING.user_hash("u-2")


async def test_a_trace_with_two_roots_keeps_both_users_the_earlier_first(store: SqliteStore) -> None:
    late = root(1, "late")
    roots = [replace(late, span_id="5", start_ns=late.start_ns + 9), root(1, "early")]
    await go(store, FakeSource([failing(1)], root_spans=roots))
    found = (await documents(store))[failing(1).trace_id]
    assert found["user_hashes"] == [RING.user_hash("early"), RING.user_hash("late")]


async def test_a_failing_span_that_names_a_user_later_comes_first(store: SqliteStore) -> None:
    await go(store, FakeSource([failing(1)], root_spans=[root(1, "of the root")]))
    await go(store, FakeSource([failing(1, span_id="8", metadata={"user_id": "of the span"})]))
    found = (await documents(store))[failing(1).trace_id]
    assert found["user_hashes"] == [RING.user_hash("of the span"), RING.user_hash("of the root")]
    assert found["user_hash"] == RING.user_hash("of the span")


@pytest.mark.parametrize(
    "odd",
    [
        root(1, None),
        root(1, "unknown"),
        root(1, {"not": "an id"}),
        root(9, "somebody in a trace that nobody asked for"),
        root(1, "u-1", metadata={"user": {"name": "Maria"}}),
    ],
)
async def test_a_root_that_names_nobody_changes_nothing(store: SqliteStore, odd: Span) -> None:
    source = FakeSource([failing(1)])
    source.root_spans = [replace(odd, trace_id=odd.trace_id)]
    report = await go(store, source)
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 1, "found": 0}
    assert report.warnings == []
    assert (await documents(store))[failing(1).trace_id]["user_hash"] is None


@pytest.mark.parametrize("error", [QuotaExhaustedError("quota", retry_after_s=900), SourceUnavailableError("down")])
async def test_an_error_in_the_middle_is_a_warning_and_keeps_what_was_found(
    store: SqliteStore, error: EvalForgeError
) -> None:
    items = [failing(number) for number in range(6)]
    named = [root(number, f"u-{number}") for number in range(6)]
    first = FakeSource(items, root_spans=named, error=error, fail_roots_after=2)
    report = await go(store, first)
    assert report.error is None
    assert report.complete
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 6, "found": 4}
    assert len(report.warnings) == 1
    assert error.message in report.warnings[0]
    healed = await go(store, FakeSource(items, root_spans=named))
    assert healed.document()["user_hash"]["lookup"] == {"looked_for": 2, "found": 2}


@pytest.mark.parametrize(("budget", "code"), [(Budget(0, 1000), "time_budget"), (Budget(60, 1000, lambda: True), "stopped")])
async def test_no_request_is_made_after_the_budget(store: SqliteStore, budget: Budget, code: str) -> None:
    source = FakeSource([failing(1), failing(2)], root_spans=[root(1, "u-1")])
    report = await go(store, source, budget=budget)
    assert source.asked_roots == []
    assert any(code in warning for warning in report.warnings)


async def test_the_cap_of_captures_does_not_stop_the_looking(store: SqliteStore) -> None:
    source = FakeSource([failing(n) for n in range(4)], root_spans=[root(n, f"u-{n}") for n in range(4)])
    report = await go(store, source, budget=Budget(60, 2))
    assert report.incomplete_because == ["cap"]
    assert report.document()["user_hash"]["lookup"] == {"looked_for": 2, "found": 2}


async def test_off_and_without_a_key_nobody_is_asked_for(store: SqliteStore) -> None:
    source = FakeSource([failing(1)], root_spans=[root(1, "u-1")])
    without_key = await go(store, source, ring=KeyRing())
    assert "PII_SALT" in without_key.warnings[0]
    off = await go(store, source, resolve_users=False)
    assert off.document()["user_hash"]["lookup"] is without_key.document()["user_hash"]["lookup"] is None
    assert source.asked_roots == []


async def test_a_source_that_was_left_out_is_not_asked(store: SqliteStore) -> None:
    source = FakeSource([failing(1)], root_spans=[root(1, "u-1")])
    source.status.skipped = "the keys may not search APM spans (403)"
    await go(store, source)
    assert source.asked_roots == []


async def test_memory_is_bounded_and_the_report_says_so(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_TRACES", 3)
    source = FakeSource([failing(n) for n in range(8)])
    report = await go(store, source)
    assert sum(map(len, source.asked_roots)) == 3
    assert report.warnings == ["5 captures without a user were not looked up: a run remembers 3 of them"]


async def test_roots_are_looked_for_up_to_a_day_before_the_window(store: SqliteStore) -> None:
    windows: list[Window] = []

    class Listening(FakeSource):
        def roots(self, traces: Any, window: Window) -> Any:
            windows.append(window)
            return super().roots(traces, window)

    await go(store, Listening([failing(1)]))
    asked = Window.last_hours(24, NOW)
    assert windows == [Window(asked.from_ms - 24 * 3_600_000, asked.to_ms)]
