"""Dead letters: which are meant, and what becomes of each when its span is asked for once more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture
from evalforge.core.plans import AskedWindow
from evalforge.core.ports import DeadLetter, Rejected, Selection, UpsertResult
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span
from evalforge.core.window import Window
from evalforge.dead_letters import Filter, Replay, matching, purge_letters, replay_letters
from evalforge.errors import QuotaExhaustedError, RunInProgressError
from evalforge.ingest import Judge
from evalforge.runs import held_lease, run
from evalforge.stores.sqlite import SqliteStore
from tests.fake_source import FakeSource
from tests.orders import order
from tests.spans import span

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
RING = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
EVERY = Filter()
JUDGE = Judge(Thresholds(), RING, Sanitizer(RING), "datadoghq.eu", 90)


def letter(number: int, **fields: Any) -> DeadLetter:
    made = DeadLetter(
        f"letter{number:03}", "llm_obs", "parse", "bad_time", {}, NOW - timedelta(hours=1), NOW + timedelta(days=29),
        span_id=str(100 + number),
    )  # fmt: skip
    return replace(made, **fields)


def failing(number: int, **fields: Any) -> Span:
    start_ns = int((NOW - timedelta(hours=2)).timestamp()) * 1_000_000_000
    about: dict[str, Any] = {
        "span_id": str(100 + number),
        "trace_id": f"6b03dc78{number:024x}",
        "status": "error",
        "start_ns": start_ns,
    }
    return replace(span(), **(about | fields))


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


async def replayed(store: SqliteStore, source: FakeSource, replay: Replay | None = None) -> Replay:
    return await replay_letters(
        [source], store, JUDGE, Filter(), replay=replay or Replay(), holder="test", clock=lambda: NOW
    )


async def ids(store: SqliteStore, wanted: Filter = EVERY) -> list[str]:
    return [one.id async for one in matching(store, wanted, now=NOW)]


async def test_what_becomes_of_each_letter(store: SqliteStore) -> None:
    letters = [
        letter(1),
        letter(2),
        letter(3),
        letter(4),
        letter(5, span_id=None),
        letter(6, occurred_at=NOW - timedelta(days=16)),
        letter(7, source="apm"),
    ]
    await store.keep(letters)
    spans: list[Span | Rejected] = [
        failing(1),
        failing(2, status="ok", error=None),
        Rejected("bad_time", {"x": "text"}, None, "103"),
    ]
    source = FakeSource([], twin_spans=spans)
    done = await replayed(store, source)
    assert done.outcomes == {
        "letter001": "resolved",
        "letter002": "resolved",
        "letter003": "failed_again",
        "letter004": "not_found",
        "letter005": "not_askable",
        "letter006": "gone",
        "letter007": "left",
    }
    assert (done.tally.created, dict(done.reasons)) == (1, {"bad_time": 1})
    assert await store.count(now=NOW) == 1
    left = await ids(store)
    assert {"letter001", "letter002", "letter003"}.isdisjoint(left), "the third has a letter of what was met now"
    assert len(left) == 5
    assert "text" not in str(done.document())
    again = await replayed(store, FakeSource([], twin_spans=spans))
    assert sorted(await ids(store)) == sorted(left), "a letter that is met again is the same"
    assert again.tally.created == 0


async def test_a_quota_that_ends_keeps_what_was_replayed(store: SqliteStore) -> None:
    await store.keep([letter(number) for number in range(4)])
    source = FakeSource([], twin_spans=[failing(n) for n in range(4)], error=QuotaExhaustedError("out"), fail_roots_after=1)
    done = Replay()
    with pytest.raises(QuotaExhaustedError):
        await replayed(store, source, done)
    assert sorted(done.outcomes.values()) == ["left", "left", "resolved", "resolved"]
    assert len(await ids(store)) == 2


async def test_one_at_a_time(store: SqliteStore) -> None:
    async with held_lease(store, "other", "run", lambda: NOW):
        with pytest.raises(RunInProgressError):
            await replayed(store, FakeSource([]))


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [1, 2, 3]),
        (Filter(source="apm"), [2]),
        (Filter(stage="store"), [3]),
        (Filter(reason="other"), [3]),
        (Filter(since=NOW - timedelta(hours=1)), [1, 3]),
        (Filter(until=NOW - timedelta(hours=1)), [2]),
        (Filter(source="apm", stage="store"), []),
    ],
)
async def test_filters_and_purge(store: SqliteStore, wanted: Filter, found: list[int]) -> None:
    await store.keep(
        [letter(1), letter(2, source="apm", occurred_at=NOW - timedelta(days=1)), letter(3, stage="store", reason="other")]
    )
    expected = [f"letter{number:03}" for number in found]
    assert await ids(store, wanted) == expected
    assert await purge_letters(store, wanted, now=NOW) == len(found)
    assert len(await ids(store)) == 3 - len(found)


async def test_a_refused_capture_is_made_whole_by_a_replay(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = [failing(1), failing(2, trace_id=failing(1).trace_id), failing(3)]

    async def refused(captures: Sequence[FailureCapture], *, now: datetime, absent: Collection[str] = ()) -> UpsertResult:
        return UpsertResult(refused=[(capture.trace_id, "too_large") for capture in captures])

    with monkeypatch.context() as full:
        full.setattr(store, "upsert", refused)
        window = AskedWindow(Window.last_hours(24, NOW))
        report = await run([FakeSource(spans)], store, JUDGE, order(window), clock=lambda: NOW)
    assert report.tally.refused >= 2
    assert report.document()["dead_letters"] == {"new": 3, "total": 3}
    assert {one.span_id async for one in matching(store, EVERY, now=NOW)} == {"101", "102", "103"}
    replay = await replayed(store, FakeSource([], twin_spans=spans))
    assert set(replay.outcomes.values()) == {"resolved"}
    assert await ids(store) == []
    captures = [dict(stored.document) async for stored in store.select(Selection(), now=NOW)]
    assert sorted(len(capture["occurrences"]) for capture in captures) == [1, 2]
