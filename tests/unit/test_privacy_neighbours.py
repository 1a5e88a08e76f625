"""What the other spans of a trace tell: on one page, across a border, and in runs that cut their pages elsewhere."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge.core.ports import Selection
from evalforge.core.privacy import KeyRing, Neighbours, Sanitizer, TextPolicy
from evalforge.core.privacy.echoes import Echoes
from evalforge.core.privacy.neighbours import MAX_RECENT_SPANS
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.ingest import Judge
from evalforge.runs import Budget, RunReport, run
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import order
from tests.spans import span

RING = KeyRing((b"k" * 32,))
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAME = "Flexton Brizard"


def root(number: int = 1, **fields: Any) -> Span:
    """A healthy span that knows its customer."""
    return at(number, span(metadata={"customer_name": NAME}, **fields))


def failure(number: int = 2, **fields: Any) -> Span:
    """A failing span of the same trace whose message repeats the name."""
    return at(number, span(status="error", error={"message": "no order of Brizard was found"}, **fields))


def at(number: int, one: Span) -> Span:
    start = int((NOW - timedelta(hours=1)).timestamp() * 1_000_000_000) + number
    return replace(one, span_id=str(10_000 + number), start_ns=start)


def other(number: int) -> Span:
    return at(number, span(trace_id=f"{number:032x}", metadata={"customer_name": "Ngozi Okafor"}))


def test_healthy_spans_of_a_failing_trace_tell() -> None:
    contexts = Neighbours().contexts([root(), other(9), failure()], [failure()], RING)
    assert list(contexts) == [failure().trace_id]
    echoes = contexts[failure().trace_id].echoes
    assert echoes is not None
    assert echoes.find("Brizard and Okafor")[0].end == len("Brizard")
    assert len(echoes.find("Brizard and Okafor")) == 1


def test_healthy_traces_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []
    monkeypatch.setattr(Echoes, "of", classmethod(lambda cls, one: looked_at.append(one.span_id)))
    assert Neighbours().contexts([root(), other(9), other(10)], [], RING) == {}
    assert Neighbours().contexts([failure()], [failure()], RING) == {}
    assert looked_at == []


def test_the_page_before_is_remembered_up_to_a_bound() -> None:
    neighbours = Neighbours()
    neighbours.contexts([root()], [], RING)
    assert neighbours.contexts([failure()], [failure()], RING)
    neighbours.contexts([other(number) for number in range(20, 20 + MAX_RECENT_SPANS)], [], RING)
    assert neighbours.contexts([failure()], [failure()], RING) == {}
    assert "Brizard" not in repr(neighbours)


@pytest.mark.parametrize(
    ("spans", "has_user"),
    [
        ([root(), failure()], False),
        ([root(tags=(("user_id", "u-1"),)), failure()], False),
        ([root(), failure(), failure(3, tags=(("user_id", "u-1"),))], True),
    ],
)
def test_only_a_failing_spans_user_is_the_captures(spans: list[Span], has_user: bool) -> None:
    failing = [one for one in spans if one.status == "error"]
    assert Neighbours().contexts(spans, failing, RING)[failure().trace_id].has_user is has_user
    assert not Neighbours().contexts(spans, failing, KeyRing())[failure().trace_id].has_user


# -- runs -----------------------------------------------------------------------------------------------------------------


async def go(store: SqliteStore, *spans: Span, page_size: int, policy: TextPolicy = TextPolicy()) -> RunReport:  # noqa: B008
    judge = Judge(Thresholds(), RING, Sanitizer(RING, policy), "datadoghq.com", 180)
    source = FakeSource(spans, page_size=page_size)
    return await run([source], store, judge, order(Window.last_hours(24, NOW)), clock=lambda: NOW)


async def stored(store: SqliteStore) -> list[dict[str, Any]]:
    return [dict(one.document) async for one in store.select(Selection(), now=NOW)]


@pytest.mark.parametrize("page_size", [1, 2, 10])
async def test_a_name_that_another_span_knows_is_not_stored(page_size: int) -> None:
    store = SqliteStore(":memory:", prefix="evalforge_")
    await go(store, root(), other(2), failure(3), page_size=page_size)
    (capture,) = await stored(store)
    assert capture["trace_payload"]["error"]["message"] == "no order of [PERSON_1] was found"
    assert "brizard" not in json.dumps(capture, default=repr).lower()
    await store.close()


async def test_a_run_that_goes_on_knows_what_stood_before_its_place() -> None:
    """The first run stops between the span that knows the name and the one that says it."""
    store = SqliteStore(":memory:", prefix="evalforge_")
    judge = Judge(Thresholds(), RING, Sanitizer(RING), "datadoghq.com", 180)
    window = Window.last_hours(24, NOW)
    for stopping in (True, False):
        source = FakeSource([root(), failure(3)], page_size=1)
        wanted = order(window, Budget(60, 1000, lambda: stopping))  # noqa: B023 - it is used up before the next one
        report = await run([source], store, judge, wanted, clock=lambda: NOW)
    assert report.tally.fetched == 1, "the page before is not read again"
    (capture,) = await stored(store)
    assert "brizard" not in json.dumps(capture, default=repr).lower()
    await store.close()


async def test_runs_that_cut_their_pages_elsewhere_agree_in_the_end() -> None:
    """Read beside its trace's other spans the failing one is known better; one version stands, whichever came first."""
    documents = []
    for sizes in ((1, 10, 1), (10, 1, 10)):
        store = SqliteStore(":memory:", prefix="evalforge_")
        for page_size in sizes:
            report = await go(store, failure(), root(5), page_size=page_size)
        assert (report.tally.created, report.tally.updated) == (0, 0)
        documents.append(await stored(store))
        await store.close()
    assert documents[0][0]["trace_payload"] == documents[1][0]["trace_payload"]
    assert "brizard" not in json.dumps(documents, default=repr).lower()


async def test_allow_listed_texts_are_kept_where_any_failing_span_names_the_user() -> None:
    store = SqliteStore(":memory:", prefix="evalforge_")
    named = failure(2, tags=(("user_id", "u-8841"),))
    innermost = failure(3, input={"value": "where is my refund?"})
    await go(store, named, innermost, page_size=10, policy=TextPolicy.of(["input"]))
    (capture,) = await stored(store)
    assert capture["user_hash"]
    assert capture["trace_payload"]["input"] == {"value": "where is my refund?"}
    await store.close()
