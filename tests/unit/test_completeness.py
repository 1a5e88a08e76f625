"""The completeness audit at its ports: what the query misses is captured and named, what arrives meanwhile is no alarm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge import completeness
from evalforge.completeness import CompletenessReport, Pair, audit_completeness, kind_of, pieces
from evalforge.core.plans import TIER_NAMES
from evalforge.core.ports import LOOKBACK, Checkpoint, Erasure, Lease, Page, Reach, Rejected, Selection
from evalforge.core.privacy import KeyRing
from evalforge.core.signals import find_signals
from evalforge.core.span import Evaluation, Span
from evalforge.core.tombstones import trace_key
from evalforge.core.window import Window
from evalforge.errors import QuotaExhaustedError, RunInProgressError, StoreError
from evalforge.runs import LEASE_NAME
from evalforge.stores.sqlite import SqliteStore
from tests.examples import examples
from tests.fake_source import FakeSource
from tests.unit.test_runs import KEY_A, KEY_B, NOW, WINDOW, judge, span

LAST_HOURS = Window.last_hours(3, NOW)
Sees = Callable[[Span, Collection[str]], bool]


@dataclass
class Asked(FakeSource):
    """A source behind a query that finds what `sees` says, given what it was told to have learned.

    For each place there is a list of what can be learned, in order. `before` is called with the number of the request.
    """

    sees: Sees = lambda span, learned: True
    lessons: Mapping[str, Sequence[str]] = field(default_factory=dict)
    before: Callable[[int], None] = lambda number: None

    async def pages(
        self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all"
    ) -> AsyncGenerator[Page, None]:
        self.before(len(self.asked))
        learned = after.learned if after is not None else ()
        async for page in super().pages(window, after, reach=reach):
            yield replace(page, spans=[one for one in page.spans if self.sees(one, learned)], rejected=())

    def next_to_learn(self, place: str, learned: Collection[str]) -> str | None:
        return next((entry for entry in self.lessons.get(place, ()) if entry not in learned), None)

    def shown_place(self, place: str) -> str:
        return place.replace("secret", "hidden")


def evaluated(number: int, name: str = "tone", **fields: Any) -> Span:
    verdict = Evaluation(name, "The card 4111 was refused", "categorical", "fail")
    return span(number, status="ok", evaluations=(verdict,), **fields)


def by_name(name: str) -> Sees:
    """A query that finds errors, and what an evaluator of this name says once it has learned the name."""
    return lambda one, learned: one.status == "error" or f"evaluation.{name}" in learned


TONE = {"evaluation.tone": ["evaluation.tone", "any:evaluation.tone"]}


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def audited(
    store: SqliteStore,
    items: Sequence[Span | Rejected],
    sees: Sees = lambda span, learned: True,
    lessons: Mapping[str, Sequence[str]] = TONE,
    *,
    window: Window = LAST_HOURS,
    report: CompletenessReport | None = None,
    keys: tuple[bytes, ...] = (KEY_A,),
    query: Asked | None = None,
    **scan: Any,
) -> CompletenessReport:
    pair = Pair(FakeSource(items, **scan), query or Asked(items, sees=sees, lessons=lessons, page_size=1000))
    report = report or CompletenessReport(window)
    return await audit_completeness([pair], store, judge(*keys), report=report, holder="test", clock=lambda: NOW)


async def stored_spans(store: SqliteStore) -> set[str]:
    documents = [stored.document async for stored in store.select(Selection(), now=NOW)]
    return {occurrence["span_id"] for document in documents for occurrence in document["occurrences"]}


async def test_a_query_that_finds_everything_leaves_no_trace(store: SqliteStore) -> None:
    items = [span(1), span(2, status="ok"), evaluated(3)]
    report = await audited(store, items)
    assert report.is_complete
    (source,) = report.document()["sources"]
    assert [source[name] for name in ("read", "failing", "found", "missed", "arrived_meanwhile")] == [3, 2, 2, 0, 0]
    assert await store.count(now=NOW) == 0
    assert not await store.load_checkpoints("llm_obs", TIER_NAMES)


async def test_what_the_query_misses_is_captured_named_and_learned(store: SqliteStore) -> None:
    place = Checkpoint("llm_obs", WINDOW, "digest", "query:0:1", "cursor", 5, ("any:metadata.x",))
    await store.save_checkpoint(place, fence=0)
    items = [span(1), evaluated(2), evaluated(3, trace=2), evaluated(4), span(5, status="ok")]
    report = await audited(store, items, by_name("tone"))
    assert await stored_spans(store) == {"10002", "10003", "10004"}, "what the query finds is left to the runs"
    (clause,) = report.document()["clauses"]
    assert clause == {
        "source": "llm_obs",
        "place": "evaluation.tone",
        "signal": "evaluation_failure",
        "comparison": "assessment is",
        "observed": "text",
        "spans": 3,
        "traces": 2,
        "traces_are_floor": False,
        "still_missed": 0,
        "remedy": {
            "code": "learned",
            "meaning": completeness.REMEDIES["learned"],
            "setting": "EVALUATIONS=tone",
        },
    }
    assert (report.missed, report.is_complete, report.learned) == (3, False, ["llm_obs: evaluation.tone"])
    assert (report.tally.created, report.tally.updated) == (2, 1)
    assert (await store.load_checkpoints("llm_obs", TIER_NAMES))[LOOKBACK] == replace(
        place, learned=("any:metadata.x", "evaluation.tone")
    )
    again = await audited(store, items, by_name("tone"))
    assert again.is_complete, "the present query has learned it"


async def test_the_report_holds_no_text(store: SqliteStore) -> None:
    report = await audited(store, [evaluated(1, "secret")], lambda one, learned: False, {})
    assert "4111" not in json.dumps(report.document())
    assert "secret" not in json.dumps(report.document())
    assert report.document()["clauses"][0]["place"] == "evaluation.hidden"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "nothing"),
        (True, "true or false"),
        (0.5, "number"),
        (3, "number"),
        ("x", "text"),
        ([1], "list"),
        ({"a": 1}, "object"),
    ],
)
def test_an_observed_value_is_told_by_its_kind(value: Any, kind: str) -> None:
    assert kind_of(value) == kind


ALL_BLIND: Sees = lambda one, learned: False  # noqa: E731 - a row of a table
BY_EXISTENCE: Sees = lambda one, learned: "any:evaluation.tone" in learned  # noqa: E731


@pytest.mark.parametrize(
    ("sees", "lessons", "has_run", "code", "setting", "still"),
    [
        (by_name("tone"), TONE, True, "learned", "EVALUATIONS=tone", 0),
        (by_name("tone"), TONE, False, "learnable", "EVALUATIONS=tone", 0),
        (BY_EXISTENCE, TONE, True, "learned", None, 0),
        (ALL_BLIND, TONE, True, "scan", None, 2),
        (ALL_BLIND, {}, True, "unprintable", None, 2),
    ],
)
async def test_each_clause_says_what_would_make_the_query_see_it(
    store: SqliteStore, sees: Sees, lessons: Any, has_run: bool, code: str, setting: str | None, still: int
) -> None:
    if has_run:
        await store.save_checkpoint(Checkpoint("llm_obs", WINDOW, done=True), fence=0)
    report = await audited(store, [evaluated(1), evaluated(2)], sees, lessons)
    (clause,) = report.document()["clauses"]
    assert clause["remedy"] == {"code": code, "meaning": completeness.REMEDIES[code], "setting": setting}
    assert clause["still_missed"] == still
    assert bool(await store.load_checkpoints("llm_obs", TIER_NAMES)) is has_run, "an audit is no run and makes no checkpoint"
    assert await stored_spans(store) == {"10001", "10002"}


async def test_a_name_that_the_setting_cannot_hold_is_not_advised_as_one(store: SqliteStore) -> None:
    name = "tone, in general"
    lessons = {f"evaluation.{name}": [f"evaluation.{name}"]}
    report = await audited(store, [evaluated(1, name)], by_name(name), lessons)
    assert report.document()["clauses"][0]["remedy"]["setting"] is None


async def test_what_arrives_meanwhile_is_told_apart(store: SqliteStore) -> None:
    """Spans that came, and a verdict that came, after the page was read; at the edge of a page nobody can tell."""
    early = [span(number, hours_ago=1 - number / 10) for number in range(4)]
    before = [*early[:3], span(9, hours_ago=0.2, status="ok")]
    late = [span(20, hours_ago=0.95), *early, span(9, hours_ago=0.2), span(21, hours_ago=0.1)]
    late.sort(key=lambda one: one.start_ns)
    report = await audited(store, before, query=Asked(late, page_size=1000), page_size=1000)
    assert report.is_complete
    assert report.sources[0].arrived == 4
    assert await store.count(now=NOW) == 0


async def test_spans_of_one_millisecond_on_two_pages_are_no_alarm(store: SqliteStore) -> None:
    same = [replace(span(number), start_ns=span(0).start_ns) for number in range(5)]
    report = await audited(store, [span(8, hours_ago=2), *same, span(9, hours_ago=0.5)], page_size=2)
    assert (report.is_complete, report.sources[0].arrived, report.sources[0].failing) == (True, 0, 7)


async def test_a_page_that_comes_twice_is_counted_once(store: SqliteStore) -> None:
    items = [evaluated(1), evaluated(2), evaluated(1), evaluated(2)]
    report = await audited(store, items, ALL_BLIND)
    (source,) = report.document()["sources"]
    assert (source["read"], source["failing"], source["missed"]) == (4, 2, 2)
    assert [(one.span_count, one.open_count) for one in report.clauses.values()] == [(2, 2)]


async def test_odd_items_and_odd_spans_become_dead_letters(store: SqliteStore) -> None:
    odd = span(1, hours_ago=0.5, tags=((5, "no parser makes such a tag"),))
    items: list[Span | Rejected] = [odd, Rejected("missing_trace_id", {"id": "x"}), span(2, hours_ago=0.5)]
    report = await audited(store, items, window=Window.last_hours(1, NOW))
    assert report.tally.rejected == 2
    assert await store.dead_letter_count(now=NOW) == 2
    assert report.missed == 0


async def test_who_was_erased_is_kept_out(store: SqliteStore) -> None:
    missed = evaluated(1, tags=(("user.id", "u-1"),))
    ring = KeyRing((KEY_A,))
    await store.save_erasure(
        Erasure("erasure_1", NOW, "trace", "dpo", trace_keys=(trace_key(missed.trace_id, ring),), counts={"captures": 0})
    )
    report = await audited(store, [missed, evaluated(2)], ALL_BLIND)
    assert await stored_spans(store) == {"10002"}
    assert (report.missed, report.tally.kept_out) == (2, 1)


async def test_an_audit_does_not_begin_while_a_run_goes_on(store: SqliteStore) -> None:
    held = Lease(LEASE_NAME, "somebody else", "token", NOW, NOW + timedelta(seconds=60))
    assert (await store.acquire_lease(held, now=NOW)).token == held.token
    with pytest.raises(RunInProgressError, match="somebody else"):
        await audited(store, [evaluated(1)], ALL_BLIND)
    assert await store.count(now=NOW) == 0
    await store.release_lease(held)
    await audited(store, [evaluated(1)], ALL_BLIND)
    assert (await store.acquire_lease(held, now=NOW)).token == held.token, "it gave the lease back"


async def test_an_audit_that_loses_the_lease_stops(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evalforge.runs.lease.LEASE_RENEWAL_S", 0.0)
    lost, told = asyncio.Event(), asyncio.Event()

    async def renew(lease: Lease, *, now: Any) -> bool:
        if lost.is_set():
            told.set()
        return not lost.is_set()

    monkeypatch.setattr(store, "renew_lease", renew)

    @dataclass
    class Slow(Asked):
        async def pages(
            self, window: Window, after: Checkpoint | None = None, *, reach: Reach = "all"
        ) -> AsyncGenerator[Page, None]:
            lost.set()
            await told.wait()
            async for page in super().pages(window, after, reach=reach):
                yield page

    items = [evaluated(number) for number in range(6)]
    with pytest.raises(RunInProgressError, match="took over"):
        await audited(store, items, query=Slow(items, sees=ALL_BLIND))
    assert len(await stored_spans(store)) == 2, "one page"


async def test_a_ring_without_a_key_in_use_stops_it(store: SqliteStore) -> None:
    await audited(store, [evaluated(1, tags=(("user.id", "u-1"),))], ALL_BLIND)
    with pytest.raises(StoreError, match="PII_SALT"):
        await audited(store, [], keys=(KEY_B,))


async def test_a_quota_that_ends_keeps_what_was_captured_and_the_place(store: SqliteStore) -> None:
    await store.save_checkpoint(Checkpoint("llm_obs", WINDOW, done=True), fence=0)
    items = [evaluated(number, hours_ago=2.5) for number in range(2)]
    items += [evaluated(number, hours_ago=1.5) for number in range(2, 6)]
    error = QuotaExhaustedError("quota", retry_after_s=900)
    for fail_after, position_ms, stored in ((0, None, 0), (1, LAST_HOURS.from_ms + 3_600_000, 4)):
        report = CompletenessReport(LAST_HOURS)
        with pytest.raises(QuotaExhaustedError):
            await audited(store, items, by_name("tone"), report=report, error=error, fail_after=fail_after)
        assert (report.position_ms, report.is_complete) == (position_ms, False)
        assert len(await stored_spans(store)) == stored
    checkpoint = (await store.load_checkpoints("llm_obs", TIER_NAMES))[LOOKBACK]
    assert checkpoint.learned[0] == "evaluation.tone"


async def test_partial_answers_are_told(store: SqliteStore) -> None:
    query = Asked([span(1)])
    query.status.partial = True
    report = await audited(store, [span(1)], query=query)
    assert (report.missed, report.is_partial, report.is_complete) == (0, True, False)


async def test_clauses_and_lessons_are_bounded(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(completeness, "MAX_CLAUSES", 3)
    monkeypatch.setattr(completeness, "MAX_LESSONS", 5)
    monkeypatch.setattr(completeness, "MAX_RECENT", 4)
    await store.save_checkpoint(Checkpoint("llm_obs", WINDOW, done=True), fence=0)
    items = [evaluated(number, f"name{number}") for number in range(20)]
    lessons = {f"evaluation.name{number}": [f"evaluation.name{number}"] for number in range(20)}
    report = CompletenessReport(LAST_HOURS, trace_room=8)
    await audited(store, items, ALL_BLIND, lessons, report=report, page_size=4)
    assert [clause.span_count for clause in report.clauses.values()] == [1, 1, 1, 17]
    assert [clause.place for clause in report.clauses.values()][-1] == completeness.OTHER
    assert sum(len(clause.traces) for clause in report.clauses.values()) == 8
    assert report.document()["clauses"][0]["traces_are_floor"]
    assert len(report.learned) == 5
    assert len(await stored_spans(store)) == 20


@given(st.integers(1, 15 * 24 * 3_600_000), st.integers(0, 10**12))
def test_pieces_cover_the_window_once(duration_ms: int, from_ms: int) -> None:
    window = Window(from_ms, from_ms + duration_ms)
    parts = list(pieces(window))
    assert parts[0].from_ms == window.from_ms
    assert parts[-1].to_ms == window.to_ms
    assert all(part.to_ms == following.from_ms for part, following in pairwise(parts))
    assert len(parts) <= completeness.MAX_PIECES
    assert all(part.duration_ms >= 3_600_000 for part in parts[:-1])


SPANS = st.lists(
    st.tuples(st.sampled_from(["error", "fail", "ok"]), st.integers(0, 3 * 3_600_000 - 1), st.booleans(), st.integers(0, 5)),
    max_size=30,
)


@examples(60)
@given(SPANS, st.integers(1, 7), st.integers(0, 2))
def test_whatever_the_query_misses_all_of_it_is_captured_and_nothing_else(
    drawn: list[tuple[str, int, bool, int]], page_size: int, lessons_needed: int
) -> None:
    items, blind = [], set()
    for number, (kind, at_ms, is_seen, trace) in enumerate(drawn):
        one = evaluated(number, trace=trace) if kind == "fail" else span(number, status=kind, trace=trace)
        items.append(replace(one, start_ns=(LAST_HOURS.from_ms + at_ms) * 1_000_000))
        if not is_seen:
            blind.add(one.span_id)
    items.sort(key=lambda one: one.start_ns)
    failing = {one.span_id for one in items if find_signals(one, judge().thresholds)}
    lessons = {"evaluation.tone": ["a", "b"], "status": ["a", "b"]}
    report, captured = asyncio.run(
        _audited_alone(
            items, lambda one, learned: one.span_id not in blind or len(learned) > lessons_needed, lessons, page_size
        )
    )
    (source,) = report.document()["sources"]
    assert captured == failing & blind
    assert (source["failing"], source["missed"], source["arrived_meanwhile"]) == (len(failing), len(failing & blind), 0)
    assert report.is_complete == (not failing & blind)


async def _audited_alone(
    items: list[Span], sees: Sees, lessons: Mapping[str, Sequence[str]], page_size: int
) -> tuple[CompletenessReport, set[str]]:
    store = SqliteStore(":memory:", prefix="evalforge_")
    try:
        report = await audited(store, items, sees, lessons, page_size=page_size)
        return report, await stored_spans(store)
    finally:
        await store.close()
