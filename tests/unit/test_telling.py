"""Telling of groups over a real store: what is told, once, in which order, and what a bad receiver cannot do."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from evalforge import telling
from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Brief, Receiver, Told
from evalforge.core.review import Patch, Review, ReviewState
from evalforge.core.window import Window
from evalforge.errors import (
    CredentialsError,
    DestinationRefusedError,
    DestinationUnavailableError,
    EvalForgeError,
    StoreUnavailableError,
)
from evalforge.review import Group, change_review
from evalforge.runs import Budget, RunReport, run
from evalforge.stores.sqlite import SqliteStore
from evalforge.telling import MAX_EVENTS, MAX_REFUSED, Audience, Telling, event_body, tell, title_of
from tests.captures import NOW, START_NS, capture
from tests.fake_source import FakeSource
from tests.orders import GENEROUS, order
from tests.unit.test_runs import judge, span

BASE = "https://evalforge.example.com"
LATER = NOW + timedelta(hours=1)


@dataclass
class FakeReceiver:
    """Takes messages, except where it is told what to raise for the next ones."""

    troubles: list[EvalForgeError | None] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    opened_count: int = 0

    async def post(self, body: bytes, *, content_type: str, message_id: str) -> None:
        assert content_type == "application/json"
        document = json.loads(body)
        assert document["id"] == message_id
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is not None:
            self.refused.append(message_id)
            raise trouble
        self.bodies.append(document)

    async def opened(self) -> Receiver:
        self.opened_count += 1
        return self

    @property
    def told(self) -> list[tuple[str, str]]:
        """Type and signature of every event that was taken."""
        return [(body["type"], body["group"]["signature"]) for body in self.bodies]


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


def group(**changes: Any) -> Group:
    """A group of one capture."""
    fields: dict[str, Any] = {
        "trace_id": "t",
        "signature": "s1_" + "0" * 32,
        "started_at": NOW,
        "fetched_at": NOW,
        "failure_type": "prompt_injection",
        "severity": "high",
        "span_name": "handle_ticket",
        "ml_app": "support-bot",
        "env": "prod",
        "service_name": "support-api",
        "model_name": "gpt-4o",
        "error_type": "TimeoutError",
        "evaluator": None,
        "status_code": None,
        "user_hash": None,
        "version": None,
    }
    brief = Brief(**{**fields, **changes})
    review, counts = Review(brief.signature), {"some": 1}
    return Group(
        signature=brief.signature,
        review=review,
        newest=brief,
        first_seen_at=NOW,
        last_seen_at=LATER,
        is_regressed=False,
        count=7,
        severity="critical",
        user_count=3,
        models=counts,
        versions=counts,
        envs=counts,
        is_sampled=False,
        trend=(),
        trend_from=NOW,
        trend_to=LATER,
    )


async def go(
    store: SqliteStore,
    receiver: FakeReceiver,
    *,
    began_at: datetime = NOW,
    now: datetime = LATER,
    should_stop: Sequence[str | None] = (),
) -> Telling:
    reasons = list(should_stop)
    result = Telling()
    await tell(
        Audience(receiver.opened, BASE),
        store,
        result,
        run_id="run_1",
        began_at=began_at,
        clock=lambda: now,
        should_stop=lambda: reasons.pop(0) if reasons else None,
    )
    return result


async def keep(store: SqliteStore, *captures: FailureCapture) -> list[str]:
    await store.upsert(captures, now=NOW)
    return [one.signature for one in captures]


def named(number: int, name: str, *, fetched_at: datetime = NOW, hours: float = 0) -> FailureCapture:
    """A capture of a group of its own for each name."""
    return capture(number, start_ns=START_NS + round(hours * 3_600_000_000_000), name=name, fetched_at=fetched_at)


async def test_a_new_group_is_told_once(store: SqliteStore) -> None:
    receiver = FakeReceiver()
    [signature, _] = await keep(store, named(1, "a"), named(2, "a", hours=1))
    result = await go(store, receiver)
    assert result.document() == {"told": 1, "untold": 0}
    [body] = receiver.bodies
    assert (body["type"], body["at"]) == ("group.first_seen", "2026-11-23T13:00:00.123Z")
    assert body["link"] == f"{BASE}/review/groups/{signature}"
    assert body["group"]["signature"] == signature
    assert (body["group"]["count"], body["group"]["state"]) == (2, "new")
    assert body["group"]["first_seen_at"] < body["group"]["last_seen_at"]
    for _ in range(2):
        assert (await go(store, receiver)).document() == {"told": 0, "untold": 0}
    assert len(receiver.bodies) == 1
    assert receiver.opened_count == 1, "nobody is called, and no secret read, where there is nothing to tell"


async def test_old_groups_are_no_news_when_a_webhook_is_first_configured(store: SqliteStore) -> None:
    old, mixed, new = await keep(
        store,
        named(1, "old", fetched_at=NOW - timedelta(days=2)),
        named(2, "mixed", fetched_at=NOW - timedelta(days=2)),
        named(3, "new"),
    )
    await keep(store, named(4, "mixed", hours=5), named(5, "old", fetched_at=NOW - timedelta(days=1), hours=2))
    receiver = FakeReceiver()
    await go(store, receiver)
    assert receiver.told == [("group.first_seen", new)]
    memory = await store.load_told()
    assert memory is not None
    assert memory.signatures == {old, mixed, new}


async def test_what_is_new_in_the_first_telling_stays_new_where_nobody_hears_it(store: SqliteStore) -> None:
    await keep(store, named(1, "old", fetched_at=NOW - timedelta(days=2)))
    [new] = await keep(store, named(2, "new"))
    deaf = FakeReceiver([DestinationUnavailableError("down", retry_after_s=9.0)])
    result = await go(store, deaf)
    assert result.document() == {"told": 0, "untold": 1}
    assert "down" in result.warnings[0]
    receiver = FakeReceiver()
    await go(store, receiver, began_at=LATER)
    assert receiver.told == [("group.first_seen", new)]
    assert receiver.bodies[0]["id"] == deaf.refused[0], "told again it has the same id"


async def test_a_big_new_group_is_new_and_a_big_old_one_is_not(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_PAGE", 3)
    new = await keep(store, *(named(number, "new", hours=number) for number in range(10)))
    await keep(store, named(20, "old", fetched_at=NOW - timedelta(days=1)))
    await keep(store, *(named(number, "old", hours=number) for number in range(21, 30)))
    receiver = FakeReceiver()
    await go(store, receiver)
    assert receiver.told == [("group.first_seen", new[0])]


async def test_a_regression_is_told_once_for_each_time_it_was_resolved(store: SqliteStore) -> None:
    first = named(1, "a")
    start = first.to_document()["started_at"]
    [signature] = await keep(store, first)
    receiver = FakeReceiver()
    await go(store, receiver)
    await change_review(store, signature, Patch(ReviewState.RESOLVED), by="kim", now=start + timedelta(hours=1))
    await go(store, receiver)
    assert len(receiver.bodies) == 1, "resolved is no news"
    await keep(store, named(2, "a", hours=2))
    for _ in range(2):
        await go(store, receiver)
    assert receiver.told[1:] == [("group.regressed", signature)]
    assert receiver.bodies[1]["group"]["state"] == "resolved"
    await change_review(store, signature, Patch(ReviewState.TRIAGED), by="kim", now=start + timedelta(hours=3))
    await go(store, receiver)
    await change_review(store, signature, Patch(ReviewState.RESOLVED), by="kim", now=start + timedelta(hours=4))
    await go(store, receiver)
    assert len(receiver.bodies) == 2
    await keep(store, named(3, "a", hours=5))
    for _ in range(2):
        await go(store, receiver)
    assert receiver.told[2:] == [("group.regressed", signature)]
    assert len({body["id"] for body in receiver.bodies}) == 3


async def test_a_regression_is_told_though_the_webhook_is_new(store: SqliteStore) -> None:
    old = named(1, "a", fetched_at=NOW - timedelta(days=2))
    [signature] = await keep(store, old)
    resolved_at = old.to_document()["started_at"] - timedelta(hours=1)
    await change_review(store, signature, Patch(ReviewState.RESOLVED), by="kim", now=resolved_at)
    receiver = FakeReceiver()
    await go(store, receiver)
    assert receiver.told == [("group.regressed", signature)]


async def test_an_ignored_group_is_no_news(store: SqliteStore) -> None:
    [signature] = await keep(store, named(1, "a"))
    await change_review(store, signature, Patch(ReviewState.IGNORED), by="kim", now=NOW)
    receiver = FakeReceiver()
    assert (await go(store, receiver)).document() == {"told": 0, "untold": 0}
    await change_review(store, signature, Patch(ReviewState.NEW), by="kim", now=NOW)
    await go(store, receiver)
    assert receiver.bodies == []


async def test_a_group_that_expired_and_comes_back_is_new(store: SqliteStore) -> None:
    await keep(store, named(1, "a"))
    receiver = FakeReceiver()
    await go(store, receiver)
    after = NOW + timedelta(days=181)
    await go(store, receiver, began_at=after, now=after)
    await store.save_told(Told("kept", frozenset({"s1_gone"})))
    await go(store, receiver, began_at=after, now=after)
    await store.upsert([named(2, "a", fetched_at=after)], now=after)
    await go(store, receiver, began_at=after, now=after)
    assert len(receiver.bodies) == 2


async def test_a_flood_is_told_in_parts_oldest_first(store: SqliteStore) -> None:
    many = [
        named(number, f"step {chr(97 + number % 26)}{chr(97 + number // 26)}", fetched_at=NOW + timedelta(seconds=number))
        for number in range(MAX_EVENTS + 20)
    ]
    signatures = await keep(store, *reversed(many))
    receiver = FakeReceiver()
    assert (await go(store, receiver)).document() == {"told": MAX_EVENTS, "untold": 20}
    assert (await go(store, receiver)).document() == {"told": 20, "untold": 0}
    assert [signature for _, signature in receiver.told] == signatures[::-1]


async def test_what_was_accepted_before_the_trouble_is_not_told_again(store: SqliteStore) -> None:
    await keep(store, *(named(number, f"step {chr(97 + number)}") for number in range(5)))
    receiver = FakeReceiver([None, None, DestinationUnavailableError("down")])
    assert (await go(store, receiver)).document() == {"told": 2, "untold": 3}
    assert (await go(store, receiver)).document() == {"told": 3, "untold": 0}
    assert len({body["id"] for body in receiver.bodies}) == 5


async def test_one_event_that_is_refused_does_not_stand_in_the_others_way(store: SqliteStore) -> None:
    await keep(store, *(named(number, f"step {chr(97 + number)}") for number in range(5)))
    refusal = DestinationRefusedError("the webhook at x does not accept this (422)")
    receiver = FakeReceiver([refusal])
    result = await go(store, receiver)
    assert result.document() == {"told": 4, "untold": 1}
    assert len(result.warnings) == 1


async def test_a_receiver_that_refuses_everything_is_left_alone_soon(store: SqliteStore) -> None:
    await keep(store, *(named(number, f"step {chr(97 + number)}") for number in range(9)))
    receiver = FakeReceiver([DestinationRefusedError("no (403)")] * 9)
    result = await go(store, receiver)
    assert result.document() == {"told": 0, "untold": 9}
    assert len(receiver.refused) == MAX_REFUSED
    assert len(result.warnings) == 1


async def test_a_secret_that_cannot_be_read_is_a_warning(store: SqliteStore) -> None:
    await keep(store, named(1, "a"))

    async def fails() -> Receiver:
        raise CredentialsError("REVIEW_WEBHOOK_SECRET: denied")

    result = Telling()
    await tell(Audience(fails), store, result, run_id="r", began_at=NOW, clock=lambda: NOW, should_stop=lambda: None)
    assert result.document() == {"told": 0, "untold": 1}
    assert "denied" in result.warnings[0]


async def test_a_store_that_fails_is_a_warning(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await keep(store, named(1, "a"), named(2, "b"))

    async def fails(told: Told) -> None:
        if told.signatures:
            raise StoreUnavailableError("the store did not answer")

    monkeypatch.setattr(store, "save_told", fails)
    receiver = FakeReceiver()
    result = await go(store, receiver)
    assert result.told == 1
    assert "did not answer" in result.warnings[0]


async def test_it_stops_when_it_is_asked_to(store: SqliteStore) -> None:
    await keep(store, *(named(number, f"step {chr(97 + number)}") for number in range(5)))
    receiver = FakeReceiver()
    assert (await go(store, receiver, should_stop=[None, None, "stopped"])).document() == {"told": 2, "untold": 3}


async def test_a_slow_receiver_is_left_after_a_while(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await keep(store, *(named(number, f"step {chr(97 + number)}") for number in range(5)))
    monkeypatch.setattr(telling, "MAX_SECONDS", 0.0)
    assert (await go(store, FakeReceiver())).document() == {"told": 0, "untold": 5}


@pytest.mark.parametrize(
    "damaged", ["", "7", "{}", '{"origin": 1, "signatures": [], "regressed": [], "resolved_at": []}', '{"signatures": 7}']
)
async def test_a_damaged_memory_begins_anew_without_a_flood(store: SqliteStore, damaged: str) -> None:
    await keep(store, named(1, "a", fetched_at=NOW - timedelta(days=2)))
    await go(store, FakeReceiver())
    await store._rows("UPDATE {told} SET document = ?", (damaged,))
    receiver = FakeReceiver()
    assert (await go(store, receiver)).warnings == []
    assert receiver.bodies == []


async def test_a_store_with_more_groups_than_it_shows_tells_only_what_is_surely_new(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "MAX_SIGNATURES", 2)
    await store.save_told(Told("kept", frozenset({"s1_not_shown"})))
    _, new = await keep(store, named(1, "old", fetched_at=NOW - timedelta(days=2)), named(2, "new"))
    receiver = FakeReceiver()
    await go(store, receiver)
    assert receiver.told == [("group.first_seen", new)]
    memory = await store.load_told()
    assert memory is not None
    assert "s1_not_shown" in memory.signatures


def test_an_event_has_names_and_counts_and_no_text() -> None:
    body = json.loads(event_body("group.regressed", "evt_1", group(), at=NOW, base_url=None))
    assert body == {
        "type": "group.regressed",
        "id": "evt_1",
        "at": "2026-11-23T12:00:00.123Z",
        "group": {
            "signature": "s1_" + "0" * 32,
            "title": "prompt injection in support-bot: TimeoutError",
            "failure_type": "prompt_injection",
            "severity": "critical",
            "ml_app": "support-bot",
            "env": "prod",
            "count": 7,
            "first_seen_at": "2026-11-23T12:00:00.123Z",
            "last_seen_at": "2026-11-23T13:00:00.123Z",
            "state": "new",
        },
    }


@pytest.mark.parametrize(
    "hostile", ["\ud800", "\x1b[31m\u202e\u2028", "x" * 5_000, "<!channel> @here [a](http://evil.example)", '","type":"x']
)
def test_a_hostile_name_harms_no_receiver(hostile: str) -> None:
    odd = group(ml_app=hostile, env=hostile, error_type=hostile, span_name=hostile, service_name=hostile)
    body = event_body("group.first_seen", "evt_1", odd, at=NOW, base_url=BASE)
    assert len(body) < 20_000
    assert not any(byte < 32 or byte == 127 for byte in body)
    told = json.loads(body)
    assert told["type"] == "group.first_seen"
    assert "\u202e" not in body.decode()


def test_a_title_says_as_much_as_is_known() -> None:
    assert title_of(group(ml_app=None).newest) == "prompt injection in support-api: TimeoutError"
    assert title_of(group(ml_app=None, service_name=None, error_type=None).newest) == "prompt injection"
    assert title_of(group(error_type="no such order: 17 for Ann").newest) == "prompt injection in support-bot"


# -- as a part of a run


async def ran(store: SqliteStore, receiver: FakeReceiver, *, budget: Budget = GENEROUS, **changes: Any) -> RunReport:
    source = FakeSource([span(number) for number in range(4)])
    window = Window.last_hours(24, NOW)
    return await run(
        [source], store, judge(), order(window, budget, **changes), clock=lambda: NOW, audience=Audience(receiver.opened)
    )


async def test_a_run_tells_and_its_report_says_so(store: SqliteStore) -> None:
    receiver = FakeReceiver()
    report = await ran(store, receiver)
    assert report.document()["telling"] == {"told": 1, "untold": 0}
    assert report.complete
    assert (await ran(store, receiver)).document()["telling"] == {"told": 0, "untold": 0}
    assert len(receiver.bodies) == 1
    [record, _] = await store.recent_runs(limit=2, now=NOW)
    assert record.report["telling"] is not None


async def test_a_failing_webhook_never_fails_a_run(store: SqliteStore) -> None:
    report = await ran(store, FakeReceiver([DestinationUnavailableError("the webhook at x took nothing: HTTP 500")]))
    assert report.complete
    assert report.error is None
    assert report.document()["telling"] == {"told": 0, "untold": 1}
    assert any("took nothing" in warning for warning in report.warnings)


async def test_nobody_is_told_where_nobody_wants_to_hear(store: SqliteStore) -> None:
    report = await run(
        [FakeSource([span(1)])], store, judge(), order(Window.last_hours(24, NOW), GENEROUS), clock=lambda: NOW
    )
    assert report.document()["telling"] is None
    assert await store.load_told() is None


async def test_a_run_that_is_to_stop_tells_nothing_more(store: SqliteStore) -> None:
    receiver = FakeReceiver()
    await ran(store, receiver)
    receiver.bodies.clear()
    await keep(store, named(1, "another"))
    report = await ran(store, receiver, budget=Budget(60, 1_000, wants_stop=lambda: True))
    assert report.document()["telling"] == {"told": 0, "untold": 1}
    assert receiver.bodies == []


async def test_a_run_whose_time_is_up_tells_all_the_same(store: SqliteStore) -> None:
    receiver = FakeReceiver()
    await keep(store, named(1, "another"))
    report = await ran(store, receiver, budget=Budget(0.0, 1_000))
    assert report.incomplete_because == ["time_budget"]
    assert report.document()["telling"]["told"] >= 1
