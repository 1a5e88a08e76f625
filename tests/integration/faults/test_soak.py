"""A simulated day of schedules under seeded trouble: late spans, late evaluations, feedback, reviewers, faults of all kinds.

Every run is a process, forked from a warm one, whose clock is the simulated one; one is due every five minutes of the day.
`pytest -s` shows the numbers that docs/reliability.md quotes.
"""

from __future__ import annotations

import asyncio
import heapq
import json
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from evalforge.sandbox import samples
from tests.contract import flaky_firestore
from tests.contract.flaky_firestore import FlakyFirestore, Strike
from tests.contract.stores import FirestorePlace, Place, SqlitePlace
from tests.emulator import free_port
from tests.integration.faults.processes import SECRETS, Ran, Site
from tests.integration.faults.world import facts as facts_of
from tests.integration.faults.world import opinion, start_ns

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

SEED = 20_261_127
SCHEDULE_S = 300
HOUR_S = 3600.0
FAULT_SHARE = {"sqlite": 0.4, "firestore": 0.6}
LATE_EVALUATION_SHARE = 0.5
QUIET_RUNS_H = (0.5, 6.5, 13, 25)
"""Hours after the day at which an undisturbed run comes: the tiers that look far back are due by then."""
FEEDBACK = {"name": "failure_to_answer", "evaluation": {"value": "failed to answer", "assessment": "fail"}}
EXPECTED_EXITS = frozenset({0, 4, 5, 6, 7, 8, 9, 130, -signal.SIGKILL, -signal.SIGTERM})
"""Complete or stopped; a named error; a run is going on; interrupted; killed. Any other would be a crash."""

TROUBLES: tuple[Mapping[str, Any], ...] = (
    *({"kind": "status", "status": status} for status in (400, 401, 403, 408, 500, 502, 503, 504)),
    *({"kind": kind} for kind in ("html", "truncated", "cut", "reset", "partial", "bad_cursor", "no_index")),
    {"kind": "rate_limited", "reset_s": 600},
    {"kind": "rate_limited", "rate_headers": False},
)
"""What the sandbox is asked for, once or for the whole run."""

_REFUSED, _LOST, _PARTLY = flaky_firestore.refused, flaky_firestore.answer_lost, flaky_firestore.partly
_CODE = grpc.StatusCode
FIRESTORE_STRIKES: Mapping[str, Callable[[random.Random], Strike]] = {
    "UNAVAILABLE from some call on": lambda rng: Strike(_REFUSED(_CODE.UNAVAILABLE), after=rng.randrange(8), times=None),
    "UNAVAILABLE once": lambda rng: Strike(_REFUSED(_CODE.UNAVAILABLE), "BatchWrite", after=rng.randrange(3)),
    "ABORTED twice": lambda rng: Strike(_REFUSED(_CODE.ABORTED), "BatchWrite", after=rng.randrange(3), times=2),
    "RESOURCE_EXHAUSTED": lambda rng: Strike(_REFUSED(_CODE.RESOURCE_EXHAUSTED), "BatchWrite", after=rng.randrange(3)),
    "answer lost": lambda rng: Strike(_LOST(_CODE.DEADLINE_EXCEEDED), "BatchWrite", after=rng.randrange(3)),
    "UNAVAILABLE for one document": lambda rng: Strike(_PARTLY(14), "BatchWrite", b"raw_traces"),
    "INVALID_ARGUMENT for one document": lambda rng: Strike(_PARTLY(3), "BatchWrite", b"raw_traces"),
}


@dataclass
class Day:
    """One soak: a site, a place, the simulated present, what is still to arrive, and what was counted.

    Only faults that a run has met are counted.
    """

    site: Site
    place: Place
    rng: random.Random
    now_s: float
    flaky: FlakyFirestore | None = None
    coming: list[tuple[float, int, str, Any]] = field(default_factory=list)
    reviewed: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: list[Ran] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    arrived: Counter[str] = field(default_factory=Counter)

    def arrives(self, at_s: float, what: str, item: Any) -> None:
        """Lets a span or an evaluation come at a moment."""
        heapq.heappush(self.coming, (at_s, len(self.coming) + self.arrived.total(), what, item))

    def let_arrive(self) -> None:
        """Puts into the sandbox what has come by now."""
        due: dict[str, list[Any]] = {"llm_obs": [], "apm": [], "evaluations": []}
        while self.coming and self.coming[0][0] <= self.now_s:
            _, _, what, item = heapq.heappop(self.coming)
            due[what].append(item)
            self.arrived[what] += 1
        if due["llm_obs"] or due["apm"]:
            self.site.load(llm_obs=due["llm_obs"], apm=due["apm"])
        if due["evaluations"]:
            self.site.http.post("/sandbox/evaluations", json={"evaluations": due["evaluations"]}).raise_for_status()

    async def review(self) -> None:
        """A reviewer writes on a few captures, some for the second time."""
        stored = sorted(str(one["trace_id"]) for one in await asyncio.to_thread(self.place.documents))
        for trace_id in self.rng.sample(stored, min(3, len(stored))):
            self.reviewed[trace_id] = opinion(self.rng.randrange(1000))
            await self.place.review(trace_id, self.reviewed[trace_id])

    async def ingest(self, settings: Mapping[str, str] | None = None, **changes: Any) -> Ran:
        """One run of the schedule."""
        environment = self.site.environment(self.place, self.site.url) | {
            "SINCE_LAST": "true",
            "TRACE_LOOKBACK_HOURS": "360",
            "FIRESTORE_EMULATOR_HOST": self.flaky.address if self.flaky else "",
        }
        changes["clock_offset_s"] = self.now_s - time.time() + changes.get("clock_offset_s", 0.0)
        running = self.site.start(["ingest", "--json"], environment | dict(settings or {}), **changes)
        ran = await asyncio.to_thread(running.ended)
        self.runs.append(ran)
        return ran


Act = Callable[[Day], Awaitable[object]]


async def at_datadog(day: Day) -> None:
    """Something that the sandbox can do, once or for good."""
    trouble = dict(day.rng.choice(TROUBLES))
    is_lasting = day.rng.random() < 0.5
    trouble |= {"after": day.rng.randrange(4), "times": None if is_lasting else 1}
    day.site.trouble(faults=[trouble])
    await day.ingest({"RETRY_BUDGET_S": "0" if is_lasting else "2"})
    (planned,) = day.site.http.get("/sandbox/trouble").json()["faults"]
    day.faults[f"Datadog: {trouble['kind']} {trouble.get('status', '')}".rstrip()] += planned["hits"] > 0


async def nobody_listens(day: Day) -> None:
    day.faults["network: connection refused"] += 1
    await day.ingest({"DATADOG_API_URL": f"http://127.0.0.1:{free_port()}", "RETRY_BUDGET_S": "0"})


async def signalled(day: Day) -> None:
    """A signal before some step; a short run may be over before."""
    signals = day.rng.choice(([signal.SIGKILL], [signal.SIGKILL], [signal.SIGTERM], [signal.SIGTERM] * 2))
    await struck(day, "steps", 25, signals)


async def killed_between_statements(day: Day) -> None:
    await struck(day, "statements", 120, [signal.SIGKILL])


async def struck(day: Day, level: str, bound: int, signals: list[signal.Signals]) -> None:
    at = day.rng.randrange(bound)
    ran = await day.ingest(level=level, at=at, signals=[int(one) for one in signals])
    day.faults[f"process: {' and '.join(one.name for one in signals)} between {level}"] += len(ran.steps) > at


async def two_at_once(day: Day) -> None:
    day.faults["process: two at once"] += 1
    await asyncio.gather(day.ingest(), day.ingest())


async def other_clock(day: Day) -> None:
    day.faults["clock: minutes off"] += 1
    await day.ingest(clock_offset_s=day.rng.uniform(-240, 240))


async def nobody_comes(day: Day) -> None:
    """The schedule is down for a while."""
    day.faults["schedule: down"] += 1
    day.now_s += day.rng.uniform(0.5, 2) * HOUR_S


async def disk_full(day: Day) -> None:
    day.faults["SQLite: disk full"] += 1
    with closing(file_of(day)) as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    await day.ingest(max_pages=pages + day.rng.randrange(3))


async def locked(day: Day) -> None:
    day.faults["SQLite: locked"] += 1
    with closing(file_of(day)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        await day.ingest(store_patience_s=0.2)


def file_of(day: Day) -> sqlite3.Connection:
    assert isinstance(day.place, SqlitePlace)
    return sqlite3.connect(day.place.path, isolation_level=None, timeout=30)


async def at_firestore(day: Day) -> None:
    assert day.flaky is not None
    name = day.rng.choice(sorted(FIRESTORE_STRIKES))
    strike = FIRESTORE_STRIKES[name](day.rng)
    day.flaky.strikes = [strike]
    await day.ingest(store_patience_s=1.0)
    day.flaky.strikes.clear()
    day.faults[f"Firestore: {name}"] += strike.hits > 0


ANYWHERE: tuple[Act, ...] = (
    at_datadog,
    at_datadog,
    at_datadog,
    nobody_listens,
    signalled,
    signalled,
    two_at_once,
    other_clock,
)
FAULTS: Mapping[str, tuple[Act, ...]] = {
    "sqlite": (*ANYWHERE, disk_full, locked, killed_between_statements),
    "firestore": (*ANYWHERE, *[at_firestore] * 8),
}


def plan_the_day(day: Day, began_s: float, hours: float, traces: int) -> None:
    """Spans that come when they end or late, their evaluations up to hours after them, and feedback on days before."""
    rng = day.rng
    end = datetime.fromtimestamp(began_s + hours * HOUR_S, UTC)
    made = samples.generate(seed=SEED, end=end, traces=traces)
    for source, items in (("llm_obs", made.llm_obs), ("apm", made.apm)):
        for item in items:
            start_s = start_ns(source, item) / 1e9
            delay_s = rng.choices(
                (rng.expovariate(1 / 60), rng.uniform(600, 3000), rng.uniform(1, 18) * HOUR_S), (80, 15, 5)
            )[0]
            at_s = min(max(start_s, began_s) + delay_s, began_s + hours * HOUR_S)
            for evaluation in taken_from(item := deepcopy(item), rng) if source == "llm_obs" else ():
                later_s = rng.choices((rng.uniform(180, 2400), rng.uniform(1, 12) * HOUR_S), (80, 20))[0]
                day.arrives(min(at_s + later_s, began_s + hours * HOUR_S), "evaluations", evaluation)
            day.arrives(at_s, source, item)
    before = samples.generate(seed=SEED + 1, end=datetime.fromtimestamp(began_s, UTC) - timedelta(days=3), traces=40)
    for source, items in (("llm_obs", before.llm_obs), ("apm", before.apm)):
        for item in items:
            day.arrives(began_s, source, item)
    for item in rng.sample(before.llm_obs, 12):
        on = {name: item["attributes"][name] for name in ("span_id", "trace_id")}
        day.arrives(began_s + rng.uniform(0, hours) * HOUR_S, "evaluations", {**on, **FEEDBACK})


def taken_from(item: Any, rng: random.Random) -> Iterable[Any]:
    """Takes some of the evaluations off a span, to come later."""
    attributes = item["attributes"]
    evaluations = attributes.get("evaluation")
    for name in list(evaluations or ()):
        if rng.random() < LATE_EVALUATION_SHARE:
            on = {"span_id": attributes["span_id"], "trace_id": attributes["trace_id"]}
            yield {**on, "name": name, "evaluation": evaluations.pop(name)}


async def live(day: Day, hours: float, kind: str, traces: int) -> None:
    """The day, five minutes after five minutes, and the quiet runs after it."""
    began_s = day.now_s
    plan_the_day(day, began_s, hours, traces)
    day.site.trouble(limits={source: {"limit": 10**6, "period_s": 3600} for source in ("llm_obs", "apm")})
    while day.now_s < began_s + hours * HOUR_S:
        day.let_arrive()
        day.site.trouble(faults=[])
        act = day.rng.choice((*FAULTS[kind], nobody_comes)) if day.rng.random() < FAULT_SHARE[kind] else None
        if act is nobody_comes and day.faults["schedule: down"] >= hours / 12:
            act = None
        await (act(day) if act is not None else day.ingest())
        if day.rng.random() < 0.1:
            await day.review()
        day.now_s += SCHEDULE_S
    day.site.trouble(faults=[])
    for hours_later in QUIET_RUNS_H:
        day.now_s = began_s + (hours + hours_later) * HOUR_S
        day.let_arrive()
        ran = await day.ingest()
        assert ran.status == 0, ran.err
        assert ran.report is not None
        assert ran.report["complete"], ran.report["incomplete_because"]
    assert not day.coming


async def undisturbed(day: Day, folder: Path) -> dict[str, tuple[Any, ...]]:
    """What a single run over all that there is now, without any trouble, finds of each trace."""
    place = SqlitePlace(folder)
    environment = day.site.environment(place, day.site.url) | {"TRACE_LOOKBACK_HOURS": "360", "DATADOG_FILTER": "scan"}
    running = day.site.start(["ingest", "--json"], environment, clock_offset_s=day.now_s - time.time())
    ran = await asyncio.to_thread(running.ended)
    assert ran.status == 0, ran.err
    return {trace_id: failure_of(facts) for trace_id, facts in (await facts_of(place)).items()}


def failure_of(facts: Mapping[str, Any]) -> tuple[Any, ...]:
    """What made a trace fail, and how often."""
    return facts["failure_type"], facts["severity"], facts["recurrence_count"], facts["signals"]


async def verify(day: Day, folder: Path) -> dict[str, Any]:
    """Zero missing, zero duplicate, zero changed reviewer fields; every run ended in a way that has a name."""
    must = await asyncio.to_thread(day.site.failing)
    stored = await asyncio.to_thread(day.place.documents)
    found = Counter(str(one["trace_id"]) for one in stored)
    by_trace = {str(one["trace_id"]): one for one in stored}
    changed = [
        trace_id
        for trace_id, fields in day.reviewed.items()
        if {name: by_trace[trace_id].get(name) for name in fields} != fields
    ]
    outcome = {
        "missing": len(must - found.keys()),
        "not failing": len(found.keys() - must),
        "duplicate": sum(found.values()) - len(found),
        "changed reviewer fields": len(changed),
    }
    reference = await undisturbed(day, folder)
    kept = {trace_id: failure_of(facts) for trace_id, facts in (await facts_of(day.place)).items()}
    outcome["other than undisturbed"] = sum(kept[trace_id] != reference.get(trace_id) for trace_id in kept)
    assert outcome == dict.fromkeys(outcome, 0)
    for ran in day.runs:
        assert ran.status in EXPECTED_EXITS, (ran.status, ran.err)
        said = ran.out + ran.err
        assert "Traceback" not in said
        assert not [secret for secret in SECRETS if secret in said]
        if ran.report:
            items = ran.report["items"]
            assert items["fetched"] == items["healthy"] + items["failing"] + items["rejected"]
    exits = Counter(str(ran.status) for ran in day.runs)
    reports = [ran.report for ran in day.runs if ran.report]
    return {
        "runs": len(day.runs),
        "exits": dict(exits.most_common()),
        "faults": day.faults.total(),
        "by fault": dict(sorted((+day.faults).items())),
        "arrived": dict(day.arrived),
        "failing traces": len(must),
        "reviewed": len(day.reviewed),
        "searches": sum(report["request_count"] for report in reports),
        "spans fetched": sum(report["items"]["fetched"] for report in reports),
        "captures created": sum(report["captures"]["created"] for report in reports),
        "captures updated": sum(report["captures"]["updated"] for report in reports),
        **outcome,
    }


@asynccontextmanager
async def flaky_before(place: Place) -> AsyncIterator[FlakyFirestore | None]:
    if isinstance(place, FirestorePlace):
        async with FlakyFirestore(place.address) as flaky:
            yield flaky
    else:
        yield None


@pytest.mark.parametrize(("kind", "hours", "traces"), [("sqlite", 24.0, 300), ("firestore", 6.0, 100)])
async def test_a_day_of_schedules(
    kind: str, hours: float, traces: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    place: Place = SqlitePlace(tmp_path)
    if kind == "firestore":
        place = FirestorePlace(await asyncio.to_thread(request.getfixturevalue, "firestore_emulator"))
    began = time.monotonic()
    with Site(tmp_path) as site:
        async with flaky_before(place) as flaky:
            # The day lies behind us, so that nothing in it is ahead of the sandbox's own clock.
            day = Day(site, place, random.Random(SEED), time.time() - (hours + QUIET_RUNS_H[-1] + 1) * HOUR_S, flaky)
            await live(day, hours, kind, traces)
            numbers = await verify(day, site.new_folder())
    told = {"store": kind, "hours": hours, "wall_s": round(time.monotonic() - began), **numbers}
    print(json.dumps(told, indent=1))  # noqa: T201 - the numbers of the docs
