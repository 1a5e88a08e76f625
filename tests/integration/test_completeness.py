"""The completeness audit against a local Datadog, through both searches, and as a process with its exit codes."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalforge.completeness import CompletenessReport, Pair, audit_completeness
from evalforge.core.plans import TIER_NAMES
from evalforge.core.ports import LOOKBACK, Checkpoint, FilterMode, Selection
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.window import Window, epoch_ms, iso_ms
from evalforge.ingest import Judge
from evalforge.sandbox.limits import RateLimit
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog import DatadogClient, DatadogSource
from evalforge.stores.sqlite import SqliteStore
from tests.integration.commands import PLAIN, evalforge, on_a_terminal
from tests.integration.test_datadog_reading import apm, llm_obs

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WINDOW = Window.last_hours(3, NOW)


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(now=lambda: WINDOW.to_ms / 1000)) as server:
        yield server


@pytest.fixture
async def client(sandbox: BackgroundServer) -> AsyncIterator[DatadogClient]:
    async with DatadogClient(sandbox.url, "key", "app", retry_budget_s=1, backoff_s=0.001) as connected:
        yield connected


@pytest.fixture
async def store() -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(":memory:", prefix="evalforge_")
    yield opened
    await opened.close()


def source_of(client: DatadogClient, mode: FilterMode, name: str) -> DatadogSource:
    return DatadogSource(
        client, name, thresholds=Thresholds(), filter_mode=mode, apm_scope="", evaluations=("set",), rng=random.Random(7)
    )


async def audited(client: DatadogClient, store: SqliteStore, *names: str) -> CompletenessReport:
    ring = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
    judge = Judge(Thresholds(), ring, Sanitizer(ring), "datadoghq.com", 180)
    pairs = [Pair(source_of(client, "scan", name), source_of(client, "query", name)) for name in names]
    report = CompletenessReport(WINDOW)
    return await audit_completeness(pairs, store, judge, report=report, holder="test", clock=lambda: NOW)


def verdict(name: str, **more: Any) -> dict[str, Any]:
    return {"evaluation": {name: {"value": "off", "eval_metric_type": "categorical", "assessment": "fail"} | more}}


MISSED: dict[str, dict[str, Any]] = {
    "evaluation.brand-voice": verdict("brand-voice"),
    "evaluation.tone": verdict("tone", assessment="FAIL"),
    "evaluation.who*knows": verdict("who*knows"),
    "metrics.quality_score": {"metrics": {"quality_score": "0.1"}},
    "status": {"status": "ERROR"},
}
FOUND: list[dict[str, Any]] = [
    {"status": "error"},
    verdict("set"),
    verdict("hallucination"),
    {"metadata": {"toxicity": 0.9}},
]


def spread(count: int) -> list[dict[str, Any]]:
    """Spans over three hours, three at a time; some fail as the query knows, some as it does not."""
    kinds = [*MISSED.values(), *FOUND]
    step_ms = WINDOW.duration_ms // count
    return [
        llm_obs(n, WINDOW.from_ms + n // 3 * 3 * step_ms, **(kinds[n // 7 % len(kinds)] if n % 7 == 0 else {}))
        for n in range(count)
    ]


@pytest.mark.parametrize("max_bytes", [50_000_000, 20_000])
async def test_each_thing_that_the_query_lacks_is_named_captured_and_learned(
    sandbox: BackgroundServer, client: DatadogClient, store: SqliteStore, max_bytes: int
) -> None:
    spans = spread(3000)
    sandbox.sandbox.store.add_llm_obs(spans)
    sandbox.sandbox.max_response_bytes = max_bytes
    place = Checkpoint("llm_obs", WINDOW, "digest", done=True, learned=("any:metadata.x",))
    await store.save_checkpoint(place, fence=0)
    report = await audited(client, store, "llm_obs")
    document = report.document()
    counts = {clause["place"]: clause["spans"] for clause in document["clauses"]}
    each = {place: sum(n % 7 == 0 and n // 7 % 9 == number for n in range(3000)) for number, place in enumerate(MISSED)}
    unprintable = next(place for place in counts if "unprintable" in place)
    assert counts == {place.replace("evaluation.who*knows", unprintable): count for place, count in each.items()}
    assert (document["missed"], document["sources"][0]["failing"]) == (sum(each.values()), 429)
    assert document["sources"][0]["arrived_meanwhile"] == 0
    assert (report.tally.created, report.tally.rejected) == (sum(each.values()), 0)
    remedies = {clause["place"]: (clause["remedy"]["code"], clause["remedy"]["setting"]) for clause in document["clauses"]}
    assert remedies == {
        "evaluation.brand-voice": ("learned", "EVALUATIONS=brand-voice"),
        "evaluation.tone": ("learned", None),
        unprintable: ("unprintable", None),
        "metrics.quality_score": ("learned", None),
        "status": ("learned", None),
    }
    page_count = report.sources[0].scan.page_count
    assert (page_count > 20) is (max_bytes < 100_000)
    assert len(sandbox.sandbox.requests) <= 3 * page_count + 6
    checkpoint = (await store.load_checkpoints("llm_obs", TIER_NAMES))[LOOKBACK]
    assert (checkpoint.done, checkpoint.query_digest) == (True, "digest")
    assert checkpoint.learned[0] == "any:metadata.x"
    again = source_of(client, "query", "llm_obs")
    found = {
        one.span_id
        async for page in again.pages(WINDOW, checkpoint)
        for one in page.spans
        if find_signals(one, Thresholds())
    }
    assert len(found) == 429 - each["evaluation.who*knows"], "the next run's query has learned all but the unprintable one"


async def test_apm_is_compared_in_its_own_words(
    sandbox: BackgroundServer, client: DatadogClient, store: SqliteStore
) -> None:
    at = {"start_timestamp": "2026-11-23T10:30:00.000Z"}
    items = [apm(n, {}, **at) for n in range(20)]
    items += [apm(100, {"error": {"message": "boom"}}, **at), apm(101, {"http": {"status_code": 503}}, **at)]
    items += [apm(102, {"error": 1}, **at), apm(103, {}, status="ERROR", **at)]
    sandbox.sandbox.store.add_apm(items)
    report = await audited(client, store, "llm_obs", "apm")
    assert [(source.read, source.failing) for source in report.sources] == [(0, 0), (24, 4)]
    assert {clause.place for clause in report.clauses.values()} == {"status"}
    missed = {stored.document["trace_id"] async for stored in store.select(Selection(), now=NOW)}
    assert missed == {str(n + 1) for n in (102, 103)}
    assert [bool(source.scan.warnings) for source in report.sources] == [True, False]


async def test_a_quiet_hour_is_not_told_as_a_wrong_site(
    sandbox: BackgroundServer, client: DatadogClient, store: SqliteStore
) -> None:
    sandbox.sandbox.store.add_llm_obs([llm_obs(1, WINDOW.to_ms - 60_000)])
    report = await audited(client, store, "llm_obs")
    assert (report.is_complete, report.sources[0].scan.warnings) == (True, [])


async def test_partial_answers_repeat_spans_and_are_told(
    sandbox: BackgroundServer, client: DatadogClient, store: SqliteStore
) -> None:
    sandbox.sandbox.store.add_llm_obs(spread(300))
    sandbox.sandbox.trouble.faults = [Fault("partial", times=9)]
    report = await audited(client, store, "llm_obs")
    assert report.is_partial
    assert report.sources[0].failing == 43


async def test_a_query_that_is_refused_misses_nothing_since_runs_scan_then(
    sandbox: BackgroundServer, client: DatadogClient, store: SqliteStore
) -> None:
    sandbox.sandbox.store.add_llm_obs(spread(300))
    sandbox.sandbox.trouble.faults = [Fault("status", status=400, after=1, every=3, times=3)]
    report = await audited(client, store, "llm_obs")
    assert (report.missed, report.document()["sources"][0]["query_replaced"]) == (0, True)


# -- as a process ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def live() -> Iterator[BackgroundServer]:
    """A sandbox on the real clock: the last hour has spans that fail as the query knows, and one as it does not."""
    with BackgroundServer() as server:
        yield server


@pytest.fixture
def environment(live: BackgroundServer, tmp_path: Path) -> dict[str, str]:
    now_ms = epoch_ms(datetime.now(UTC))
    live.sandbox.store.clear()
    live.sandbox.trouble.faults = []
    live.sandbox.set_limits({"llm_obs": RateLimit(6000, 60), "apm": RateLimit(300, 3600)})
    live.sandbox.store.add_llm_obs(
        llm_obs(n, now_ms - 1_800_000 + n, status="error" if n % 9 == 0 else "ok") for n in range(90)
    )
    return PLAIN | {
        "DATADOG_API_URL": live.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "CAPTURE_STORE": f"sqlite:///{tmp_path}/c.sqlite3",
        "RETRY_BUDGET_S": "0",
    }


def add_missed(live: BackgroundServer, number: int) -> None:
    live.sandbox.store.add_llm_obs(
        [llm_obs(1000 + number, epoch_ms(datetime.now(UTC)) - 1_700_000, **verdict("brand-voice"))]
    )


def test_the_exit_code_says_whether_the_query_missed_something(live: BackgroundServer, environment: dict[str, str]) -> None:
    report = json.loads(evalforge(environment, "audit", "--completeness", "--json").stdout)
    assert (report["complete"], report["missed"], report["clauses"]) == (True, 0, [])
    evalforge(environment, "ingest", "--lookback", "1")
    add_missed(live, 1)
    shown = evalforge(environment, "audit", "--completeness", "--window", "45m", code=11).stdout
    assert "evaluation.brand-voice" in shown
    assert "EVALUATIONS=brand-voice" in shown
    assert len(evalforge(environment, "captures", "list", "--json").stdout.splitlines()) == 11
    add_missed(live, 2)
    ingested = json.loads(evalforge(environment | {"DATADOG_FILTER": "query"}, "ingest", "--lookback", "1", "--json").stdout)
    assert (ingested["captures"]["created"], ingested["items"]["fetched"]) == (1, 12), "learned by the audit"
    code, shown = on_a_terminal(environment, "audit", "--completeness", "--window", "1h")
    assert code == 0
    assert "complete: the query finds every failing span of the window" in shown
    events = evalforge(environment, "audit", "--completeness").stderr
    assert json.loads(events.splitlines()[-1])["message"] == "completeness.audited"


def test_a_quota_that_ends_is_told_with_how_to_go_on(live: BackgroundServer, environment: dict[str, str]) -> None:
    add_missed(live, 1)
    live.sandbox.set_limits({"llm_obs": RateLimit(5, 3600)})
    began, ended = "2d", iso_ms(epoch_ms(datetime.now(UTC)) - 1000)
    done = evalforge(environment, "audit", "--completeness", "--from", began, "--to", ended, "--json", code=7)
    report = json.loads(done.stdout)
    assert not report["complete"]
    assert report["compared_to"] is not None
    assert f"evalforge audit --completeness --from {report['compared_to']} --to {ended}" in done.stderr
    assert "try again in" in done.stderr


def test_answers_that_stay_partial_are_no_success(live: BackgroundServer, environment: dict[str, str]) -> None:
    live.sandbox.trouble.faults = [Fault("partial", source="llm_obs", times=None)]
    assert "run it again" in evalforge(environment, "audit", "--completeness", code=6).stdout
