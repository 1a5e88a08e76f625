"""What errors said, asked of APM: who is asked for, what a twin is, what stops the asking, and that it is only a warning."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge import enrichment
from evalforge.core.ports import Selection
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.erasure import Packages, PackagesErased, erase, trace_target
from evalforge.errors import EvalForgeError, QuotaExhaustedError, SourceRefusedError, SourceUnavailableError
from evalforge.ingest import Judge
from evalforge.runs import Budget, RunReport, run
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import GENEROUS, order

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
START_NS = int((NOW - timedelta(hours=1)).timestamp() * 1_000_000_000) + 123_456
ERROR = {"type": "APITimeoutError", "message": "the model timed out for maria.lopez@example.com", "stack": "at 1"}


def failing(number: int, **fields: Any) -> Span:
    """A failing span as LLM Observability exports it: without its error."""
    return Span(
        **{
            "source": "llm_obs",
            "trace_id": f"6b03dc78{number:024x}",
            "trace_id_kind": "llm_obs",
            "span_id": str(10_000 + number),
            "parent_id": "77",
            "name": "answer",
            "kind": "llm",
            "status": "error",
            "start_ns": START_NS + number * 5_000_000_000,
            "duration_ns": 1000,
            "input": {"value": "hello"},
            **fields,
        }
    )


def twin(number: int, **fields: Any) -> Span:
    """APM's span of the same work: a trace id of its own, times in milliseconds, and the error."""
    about: dict[str, Any] = {
        "source": "apm",
        "trace_id": str(70_000 + number),
        "trace_id_kind": "apm",
        "apm_trace_id": str(70_000 + number),
        "name": "openai.request",
        "start_ns": failing(number).start_ns // 1_000_000 * 1_000_000,
        "attributes": {"http": {"status_code": "429"}, "error": ERROR},
        "error": ERROR,
        "input": None,
    }
    return replace(failing(number), **(about | fields))


def filed(number: int, **fields: Any) -> Span:
    """The same span, had it named its LLM trace: as a window would hold it."""
    return replace(twin(number, **fields), trace_id=failing(number).trace_id, trace_id_kind="llm_obs")


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


def apm(*spans: Span, items: tuple[Span, ...] = (), **others: Any) -> FakeSource:
    return FakeSource(items, name="apm", twin_spans=spans, **others)


async def go(
    store: SqliteStore,
    *sources: FakeSource,
    asked: FakeSource | None = None,
    budget: Budget = GENEROUS,
    **others: Any,
) -> RunReport:
    return await run(
        sources,
        store,
        Judge(Thresholds(), RING, Sanitizer(RING), "datadoghq.com", 180),
        order(Window.last_hours(24, NOW), budget, **others),
        clock=lambda: NOW,
        enriched_from=asked,
    )


async def documents(store: SqliteStore) -> dict[str, dict[str, Any]]:
    """What is stored of each trace; whence it came is no fact of it."""
    return {
        one.capture.trace_id: {name: value for name, value in one.document.items() if name != "origins"}
        async for one in store.select(Selection(), now=NOW)
    }


async def test_type_scrubbed_message_and_status_code_are_found_by_span_id(store: SqliteStore) -> None:
    source = apm(twin(1))
    report = await go(store, FakeSource([failing(1)]), asked=source)
    assert report.complete
    assert report.document()["error_detail"] == {"looked_for": 1, "found": 1, "written": 1, "left": 0}
    assert source.asked_twins == [[failing(1).span_id]]
    assert (report.tally.created, report.tally.updated, report.tally.fetched) == (1, 0, 1), "the items of the window only"
    (found,) = (await documents(store)).values()
    (detail,) = found["error_details"]
    assert (detail["span_id"], detail["error_type"], detail["status_code"]) == (failing(1).span_id, "APITimeoutError", 429)
    assert detail["message"].startswith("the model timed out for ")
    assert "maria" not in str(found)
    assert (found["error_type"], found["status_code"]) == ("APITimeoutError", 429)
    assert found["apm_trace_id"] == twin(1).apm_trace_id
    assert (found["recurrence_count"], len(found["occurrences"])) == (1, 1), "two versions of one span"


@pytest.mark.parametrize("apm_first", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"attributes": {"http": {"status_code": "500"}}, "error": {"type": "ValueError"}},
        {"status": "ok", "attributes": {"http.status_code": 404}, "error": None},
        {"status": "ok", "attributes": {}, "error": None},
        {"attributes": {"usr": {"id": "u-1"}, "error": ERROR}, "tags": (("env", "prod"),)},
    ],
    ids=["error", "500", "only-a-404", "healthy", "user"],
)
async def test_enriching_is_the_same_as_having_read_the_twin_in_the_window(fields: dict[str, Any], apm_first: bool) -> None:
    stores = [SqliteStore(":memory:", prefix="evalforge_") for _ in range(3)]
    read = [FakeSource([failing(1), failing(2)]), apm(items=(filed(1, **fields),))]
    await go(stores[0], *(reversed(read) if apm_first else read))
    await go(stores[1], FakeSource([failing(1), failing(2)]), asked=apm(twin(1, **fields)))
    await go(stores[2], FakeSource([failing(1), failing(2)]), asked=apm(filed(1, **fields)))
    in_window, by_id, entry = [await documents(one) for one in stores]
    assert by_id == in_window
    assert entry == in_window
    for one in stores:
        await one.close()


async def test_a_second_run_asks_only_for_what_is_still_untold_and_changes_nothing(store: SqliteStore) -> None:
    items = [failing(number) for number in range(5)]
    await go(store, FakeSource(items), asked=apm(*(twin(number) for number in range(3))))
    before = await documents(store)
    source = apm(*(twin(number) for number in range(3)))
    report = await go(store, FakeSource(items), asked=source)
    assert report.document()["error_detail"] == {"looked_for": 2, "found": 0, "written": 0, "left": 0}
    assert sorted(span_id for batch in source.asked_twins for span_id in batch) == [items[3].span_id, items[4].span_id]
    assert await documents(store) == before
    late = await go(store, FakeSource(items), asked=apm(twin(3), twin(4)))
    assert late.document()["error_detail"] == {"looked_for": 2, "found": 2, "written": 2, "left": 0}, "APM had it later"
    silent = apm()
    assert (await go(store, FakeSource(items), asked=silent)).error_detail == enrichment.ErrorDetails()
    assert silent.asked_twins == []


async def test_a_twin_in_the_window_is_not_asked_for(store: SqliteStore) -> None:
    source = apm(twin(1), twin(2), items=(filed(1), filed(2, status="ok", attributes={}, error=None)))
    report = await go(store, FakeSource([failing(1), failing(2)]), source, asked=source)
    assert report.document()["error_detail"] == {"looked_for": 0, "found": 0, "written": 0, "left": 0}
    assert source.asked_twins == []


async def test_only_failing_spans_that_ended_with_an_error_are_asked_for(store: SqliteStore) -> None:
    judged = failing(2, status="ok", metadata={"quality_score": 0.1})
    told = failing(3, error={"message": "refused"})
    items = [failing(1), judged, told, failing(4, status="ok"), failing(5, kind="experiment")]
    source = apm()
    await go(store, FakeSource(items), asked=source)
    assert source.asked_twins == [[failing(1).span_id]]


@pytest.mark.parametrize(
    "found",
    [
        twin(1, status="ok", attributes={}, error=None),
        twin(1, kind="experiment"),
        twin(1, start_ns=failing(1).start_ns + 2_000_000_000),
        twin(1, start_ns=0),
        filed(1, span_id="4711"),
        replace(filed(1), trace_id=failing(2).trace_id),
    ],
    ids=["healthy", "out-of-scope", "another-time", "no-time", "another-id", "another-trace"],
)
async def test_what_is_no_failing_twin_changes_nothing_and_becomes_no_capture(store: SqliteStore, found: Span) -> None:
    await go(store, FakeSource([failing(1)]))
    before = await documents(store)
    source = apm(found)
    source.twin_spans = [replace(found, span_id=failing(1).span_id)] if found.span_id != "4711" else [found]
    report = await go(store, FakeSource([failing(1)]), asked=source)
    assert report.error_detail is not None
    assert (report.error_detail.looked_for, report.error_detail.written, report.error_detail.left) == (1, 0, 0)
    assert await documents(store) == before


async def test_one_id_in_two_traces_is_told_apart_by_its_start_and_left_alone_where_that_fails(store: SqliteStore) -> None:
    apart = [failing(1, span_id="1"), failing(2, span_id="1")]
    close = [failing(3, span_id="3"), replace(failing(4, span_id="3"), start_ns=failing(3).start_ns + 1_000)]
    source = apm(twin(2, span_id="1"), twin(3, span_id="3"))
    report = await go(store, FakeSource([*apart, *close], page_size=9), asked=source)
    assert report.document()["error_detail"] == {"looked_for": 4, "found": 1, "written": 1, "left": 0}
    told = [trace_id for trace_id, document in (await documents(store)).items() if document["error_details"]]
    assert told == [failing(2).trace_id]


async def test_odd_ids_and_starts_are_not_remembered(store: SqliteStore) -> None:
    odd = [failing(1, trace_id="maria@example.com"), failing(2, span_id="order of maria"), failing(3, start_ns=0)]
    source = apm()
    report = await go(store, FakeSource(odd, everything=True), asked=source)
    assert (report.tally.created, source.asked_twins) == (3, [])


async def test_a_twin_that_breaks_every_rule_is_a_dead_letter_and_the_others_are_told(store: SqliteStore) -> None:
    broken = twin(1, tags=((1, 2, 3),))
    report = await go(store, FakeSource([failing(1), failing(2)]), asked=apm(broken, twin(2)))
    assert report.complete
    assert report.error_detail is not None
    assert (report.error_detail.found, report.error_detail.written) == (2, 1)
    assert await store.dead_letter_count(now=NOW) == 1


ENDINGS: list[tuple[EvalForgeError, str]] = [
    (QuotaExhaustedError("the quota is out", retry_after_s=300), "the quota is out"),
    (SourceUnavailableError("down"), "down"),
    (SourceRefusedError("lacks apm_read", status=403), "lacks apm_read"),
]


@pytest.mark.parametrize(("error", "reason"), ENDINGS, ids=[type(error).__name__ for error, _ in ENDINGS])
async def test_an_error_is_a_warning_with_what_is_left_and_a_later_run_goes_on(
    store: SqliteStore, error: EvalForgeError, reason: str
) -> None:
    items = [failing(number) for number in range(5)]
    twins = [twin(number) for number in range(5)]
    report = await go(store, FakeSource(items), asked=apm(*twins, error=error, fail_roots_after=1))
    assert report.complete
    assert report.error is None
    assert report.tally.created == 5
    assert report.document()["error_detail"] == {"looked_for": 5, "found": 2, "written": 2, "left": 3}
    assert report.warnings == [f"3 errors were not asked of apm ({reason}); a run that reads their spans again asks again"]
    again = await go(store, FakeSource(items), asked=apm(*twins))
    assert again.document()["error_detail"] == {"looked_for": 3, "found": 3, "written": 3, "left": 0}
    assert again.warnings == []


async def test_a_store_that_stops_answering_is_a_warning_too(store: SqliteStore) -> None:
    class Stops(SqliteStore):
        async def upsert(self, captures: Any, *, now: datetime, absent: Any = ()) -> Any:
            if any(capture.error_details for capture in captures):
                raise SourceUnavailableError("the store is gone")
            return await super().upsert(captures, now=now, absent=absent)

    stopping = Stops(":memory:", prefix="evalforge_")
    report = await go(stopping, FakeSource([failing(1)]), asked=apm(twin(1)))
    assert (report.error, report.complete, report.tally.created) == (None, True, 1)
    assert report.document()["error_detail"] == {"looked_for": 1, "found": 0, "written": 0, "left": 1}
    assert "the store is gone" in report.warnings[0]
    await stopping.close()


async def test_the_budget_ends_it_and_the_cap_of_captures_does_not(store: SqliteStore) -> None:
    items = [failing(number) for number in range(4)]
    source = apm(*(twin(number) for number in range(4)))
    capped = await go(store, FakeSource(items), asked=source, budget=Budget(60, 4))
    assert capped.error_detail is not None
    assert (capped.error_detail.written, capped.error_detail.left) == (4, 0)
    stopping = apm(twin(9))
    late = await go(store, FakeSource([failing(9)]), asked=stopping, budget=Budget(0.0, 100))
    assert late.document()["error_detail"] == {"looked_for": 1, "found": 0, "written": 0, "left": 1}
    assert "(time_budget)" in late.warnings[0]
    assert stopping.asked_twins == []


async def test_after_an_error_or_a_skipped_apm_nobody_is_asked(store: SqliteStore) -> None:
    source = apm(twin(1))
    broken = FakeSource([failing(1), failing(2), failing(3)], error=SourceUnavailableError("down"), fail_after=1)
    report = await go(store, broken, asked=source)
    assert (report.error_detail, source.asked_twins) == (None, [])
    assert any("the run ended with an error" in warning for warning in report.warnings)
    source.status.skipped = "the keys may not search APM spans (403)"
    skipped = await go(store, FakeSource([failing(1), failing(2), failing(3)]), asked=source)
    assert (skipped.error_detail or enrichment.ErrorDetails()).left == 1
    assert "may not search APM spans" in skipped.warnings[0]
    assert source.asked_twins == []


async def test_a_run_whose_quota_ended_asks_all_the_same(store: SqliteStore) -> None:
    read = FakeSource([failing(1), failing(2), failing(3)], error=QuotaExhaustedError("out", retry_after_s=9), fail_after=1)
    report = await go(store, read, asked=apm(twin(0), twin(1), twin(2)))
    assert report.error_detail is not None
    assert report.error_detail.written == 2, "APM's quota is another one"


async def test_without_the_setting_and_in_a_dry_run_nobody_is_asked(store: SqliteStore) -> None:
    source = apm(twin(1))
    off = await go(store, FakeSource([failing(1)]), source)
    assert (off.document()["error_detail"], source.asked_twins) == (None, [])
    dry = await go(store, FakeSource([failing(2)]), asked=source, rehearsal=True)
    assert (dry.document()["error_detail"], source.asked_twins) == (None, [])


async def test_memory_is_bounded_and_says_so(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enrichment, "MAX_SPANS", 3)
    source = apm()
    report = await go(store, FakeSource([failing(number) for number in range(5)]), asked=source)
    assert report.document()["error_detail"] == {"looked_for": 5, "found": 0, "written": 0, "left": 2}
    assert report.warnings == [
        "2 errors were not asked of apm: a run remembers 3; a run that reads their spans again asks again"
    ]


async def test_what_was_erased_stays_out(store: SqliteStore) -> None:
    async def nothing(*_: Any) -> Any:
        return ()

    async def no_rows(*_: Any) -> PackagesErased:
        return PackagesErased(0, ())

    class Erasing(FakeSource):
        async def by_span_id(self, starts_ns: Any, **others: Any) -> Any:
            target = trace_target(failing(1).trace_id, RING)
            await erase(store, RING, target, Packages(nothing, no_rows), actor="dpo", clock=lambda: NOW)
            async for batch in super().by_span_id(starts_ns, **others):
                yield batch

    source = Erasing([], name="apm", twin_spans=[twin(1), twin(2)])
    report = await go(store, FakeSource([failing(1), failing(2)]), asked=source)
    assert list(await documents(store)) == [failing(2).trace_id]
    assert report.tally.kept_out == 1


async def test_apm_that_is_asked_only_for_this_is_a_source_of_the_report(store: SqliteStore) -> None:
    source = apm(twin(1))
    report = await go(store, FakeSource([failing(1)]), asked=source)
    assert [(one["name"], one["mode"]) for one in report.sources] == [("llm_obs", "scan"), ("apm", "ids")]
    assert report.document()["request_count"] == 2
    both = await go(store, FakeSource([failing(1)]), source, asked=source)
    assert [one["name"] for one in both.sources] == ["llm_obs", "apm"]
