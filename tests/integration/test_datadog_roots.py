"""Users who are named only on the root: asked for by trace id, in batches, through the whole pipeline and both stores."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import Selection
from evalforge.core.privacy import KeyRing
from evalforge.core.signals import Thresholds
from evalforge.core.span import Span, TraceIdKind
from evalforge.core.window import Window
from evalforge.errors import QuotaExhaustedError, SourceRefusedError
from evalforge.runs import RunReport
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog import DatadogClient, DatadogSource
from evalforge.sources.datadog.roots import BATCH_TRACES, batches, roots_query

SALT = "0nly-f0r-tests-kZ8vQ2mX7pL4wR9tB6nJ3hG5"
RING = KeyRing((SALT.encode(),))
END = datetime.now(UTC).replace(microsecond=0)
END_MS = int(END.timestamp() * 1000)
DAY_MS = 24 * 3_600_000
WINDOW = Window(END_MS - 2 * DAY_MS, END_MS)


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(now=lambda: END_MS / 1000)) as server:
        yield server


@pytest.fixture
async def client(sandbox: BackgroundServer) -> AsyncIterator[DatadogClient]:
    async with DatadogClient(sandbox.url, "key", "app", retry_budget_s=1, backoff_s=0.001) as connected:
        yield connected


def trace_id_of(number: int) -> str:
    return f"6b03dc7800000000{number + (1 << 62):016x}"


def trace(number: int, user_id: Any = None, *, before_ms: int = 1_000, **failing: Any) -> list[dict[str, Any]]:
    """A healthy root that may name its user, and a failing span under it that names nobody."""
    start_ns = (END_MS - 3_600_000 + number) * 1_000_000
    ids = {"trace_id": trace_id_of(number), "ml_app": "shop", "duration": 5}
    metadata = {"user_id": user_id} if user_id is not None else {}
    return [
        {
            **ids,
            "span_id": str(1_000_000 + number),
            "parent_id": "undefined",
            "name": "root",
            "span_kind": "workflow",
            "status": "ok",
            "start_ns": start_ns - before_ms * 1_000_000,
            "metadata": metadata,
        },
        {
            **ids,
            "span_id": str(2_000_000 + number),
            "parent_id": str(1_000_000 + number),
            "name": "answer",
            "span_kind": "llm",
            "status": "error",
            "start_ns": start_ns,
            **failing,
        },
    ]


def entry(number: int, custom: dict[str, Any], trace_id: str | None = None, **attributes: Any) -> dict[str, Any]:
    at = (END - timedelta(hours=1)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    apm_trace_id = trace_id or str(7_000_000 + number)
    about = {"trace_id": apm_trace_id, "span_id": str(3_000_000 + number), "parent_id": "0", "start_timestamp": at}
    return {"id": f"e{number}", "type": "spans", "attributes": {**about, "custom": custom, **attributes}}


def asked(sandbox: BackgroundServer, source: str) -> list[str]:
    bodies = [one.body["data"]["attributes"] for one in sandbox.sandbox.requests if one.source == source]
    return [body["filter"]["query"] for body in bodies if "trace_id" in body["filter"].get("query", "")[:16]]


# -- the query ------------------------------------------------------------------------------------------------------------


def source_of(client: DatadogClient, name: str) -> DatadogSource:
    return DatadogSource(client, name, thresholds=Thresholds())


async def spans_of(source: DatadogSource, traces: dict[str, TraceIdKind]) -> list[Span]:
    return [span async for spans in source.roots(traces, WINDOW) for span in spans]


async def test_only_the_roots_of_the_traces_asked_for_come(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.store.add_llm_obs(one for number in range(5) for one in trace(number, f"u-{number}"))
    found = await spans_of(source_of(client, "llm_obs"), {trace_id_of(1): "llm_obs", trace_id_of(3): "llm_obs"})
    assert [(span.trace_id, span.name, span.metadata["user_id"]) for span in found] == [
        (trace_id_of(1), "root", "u-1"),
        (trace_id_of(3), "root", "u-3"),
    ]


async def test_apm_gives_entry_spans_by_either_spelling_and_whoever_names_a_user_in_its_own_traces(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    decimal = str(int(trace_id_of(2), 16))
    sandbox.sandbox.store.add_apm(
        [
            entry(1, {"llmobs_trace_id": trace_id_of(1), "usr": {"id": "u-1"}}),
            entry(2, {"llmobs_trace_id": decimal, "user": {"id": "u-2"}}),
            entry(3, {"llmobs_trace_id": trace_id_of(3), "usr": {"id": "u-3"}}),
            entry(4, {"usr": {"id": "u-4"}}, trace_id="44"),
            entry(5, {"http": {"status_code": "429"}}, trace_id="44"),
        ]
    )
    wanted: dict[str, TraceIdKind] = {trace_id_of(1): "llm_obs", trace_id_of(2): "llm_obs", "44": "apm"}
    found = await spans_of(source_of(client, "apm"), wanted)
    assert sorted(span.span_id for span in found) == ["3000001", "3000002", "3000004"]
    assert {span.trace_id for span in found} == set(wanted)


async def test_llm_observability_is_not_asked_for_traces_that_only_apm_knows(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    assert await spans_of(source_of(client, "llm_obs"), {"44": "apm"}) == []
    assert sandbox.sandbox.requests == [] or not list(sandbox.sandbox.requests)


@pytest.mark.parametrize("odd", ["t_" + "0" * 32, "", "x", "1 OR 2", "*", 'a"b', "a" * 33, "1" * 40, "a)b", "\ud800"])
def test_an_odd_trace_id_is_never_part_of_a_query(odd: str) -> None:
    traces: dict[str, TraceIdKind] = {odd: "llm_obs", trace_id_of(1): "llm_obs"}
    for source in ("llm_obs", "apm"):
        assert list(batches(source, traces)) == [[(trace_id_of(1), "llm_obs")]]


@pytest.mark.parametrize("source", ["llm_obs", "apm"])
def test_a_query_stays_short_and_every_trace_is_in_one(source: str) -> None:
    traces: dict[str, TraceIdKind] = {trace_id_of(n): "llm_obs" for n in range(3 * BATCH_TRACES + 1)}
    queries = [roots_query(source, batch) for batch in batches(source, traces)]
    assert len(queries) == 4
    assert max(map(len, queries)) < 5_000
    for trace_id in traces:
        assert sum(trace_id in query for query in queries) == 1


# -- a whole run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "firestore"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "sqlite":
        return {"CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}"}
    address = request.getfixturevalue("firestore_emulator")
    prefix = "t" + re.sub(r"[^a-z0-9]", "", tmp_path.name.lower())[:40] + "_"
    return {"FIRESTORE_EMULATOR_HOST": address, "FIRESTORE_COLLECTION_PREFIX": prefix}


def settings_for(sandbox: BackgroundServer, **environment: str) -> Settings:
    known = {"DATADOG_API_KEY": "api", "DATADOG_APP_KEY": "app", "DATADOG_API_URL": sandbox.url, "PII_SALT": SALT}
    return Settings.from_environment(known | {"DATADOG_RESOLVE_USERS": "true", "RETRY_BUDGET_S": "1"} | environment)


async def ingested(settings: Settings) -> tuple[RunReport, dict[str, dict[str, Any]]]:
    window = Window(END_MS - DAY_MS, END_MS + 60_000)
    report = await bootstrap.ingest_once(settings, holder="test", window=window)
    async with bootstrap.opened_store(settings) as store:
        documents = [dict(one.document) async for one in store.select(Selection(), now=bootstrap.utc_now())]
    return report, {document["trace_id"]: document for document in documents}


def lookup(report: RunReport) -> dict[str, int]:
    found: dict[str, int] = report.document()["user_hash"]["lookup"]
    return found


async def test_users_named_only_on_the_root_are_found_in_two_batches_and_again_nothing_changes(
    sandbox: BackgroundServer, store_settings: dict[str, str]
) -> None:
    count = BATCH_TRACES + 10
    sandbox.sandbox.store.add_llm_obs(
        one for n in range(count) for one in trace(n, None if n % 5 == 0 else f"User{n}@Example.com")
    )
    sandbox.sandbox.store.add_apm([entry(0, {"llmobs_trace_id": trace_id_of(0), "usr": {"id": "u-0"}})])
    settings = settings_for(sandbox, **store_settings)
    report, stored = await ingested(settings)
    nameless = {trace_id_of(n) for n in range(5, count, 5)}
    assert lookup(report) == {"looked_for": count, "found": count - len(nameless)}
    assert report.warnings == []
    assert {trace_id for trace_id, document in stored.items() if document["user_hash"] is None} == nameless
    assert stored[trace_id_of(1)]["user_hash"] == RING.user_hash("user1@example.com")
    assert stored[trace_id_of(0)]["user_hash"] == RING.user_hash("u-0")
    assert len(asked(sandbox, "llm_obs")) == 2
    assert len(asked(sandbox, "apm")) == 2, "one batch, and APM's empty last page"
    assert not re.search(r"(?i)user[0-9]+@|\bu-0\b", str(stored) + str(report.document()))
    sandbox.sandbox.requests.clear()
    again, unchanged = await ingested(settings)
    assert lookup(again) == {"looked_for": len(nameless), "found": 0}
    assert unchanged == stored
    assert (again.tally.created, again.tally.updated) == (0, 0)
    assert all(trace_id_of(n) not in query for query in asked(sandbox, "llm_obs") for n in range(count) if n % 5)


async def test_a_root_that_began_before_the_window_is_found(
    sandbox: BackgroundServer, store_settings: dict[str, str]
) -> None:
    sandbox.sandbox.store.add_llm_obs(trace(1, "u-1", before_ms=DAY_MS + 3_600_000))
    report, stored = await ingested(settings_for(sandbox, **store_settings))
    assert lookup(report) == {"looked_for": 1, "found": 1}
    assert stored[trace_id_of(1)]["user_hash"] == RING.user_hash("u-1")


async def test_a_quota_that_ends_in_the_middle_is_a_warning_and_the_next_run_goes_on(
    sandbox: BackgroundServer, store_settings: dict[str, str]
) -> None:
    count = 2 * BATCH_TRACES + 5
    sandbox.sandbox.store.add_llm_obs(one for n in range(count) for one in trace(n, f"u-{n}"))
    settings = settings_for(sandbox, **store_settings, DATADOG_SOURCES="llm_obs")
    sandbox.sandbox.trouble.faults = [Fault("rate_limited", source="llm_obs", times=None, after=2, reset_s=900)]
    report, stored = await ingested(settings)
    assert report.error is None
    assert report.complete
    assert lookup(report) == {"looked_for": count, "found": BATCH_TRACES}
    assert [warning for warning in report.warnings if "rate limit" in warning and "users" in warning]
    assert sum(document["user_hash"] is not None for document in stored.values()) == BATCH_TRACES
    sandbox.sandbox.trouble.faults = []
    healed, stored = await ingested(settings)
    assert lookup(healed) == {"looked_for": count - BATCH_TRACES, "found": count - BATCH_TRACES}
    assert all(document["user_hash"] is not None for document in stored.values())


async def test_an_odd_trace_id_is_stored_and_not_asked_for(
    sandbox: BackgroundServer, store_settings: dict[str, str]
) -> None:
    spans = [{**one, "trace_id": "trace of maria"} for one in trace(1, "u-1")]
    sandbox.sandbox.store.add_llm_obs(spans)
    report, stored = await ingested(settings_for(sandbox, **store_settings))
    assert lookup(report) == {"looked_for": 1, "found": 0}
    assert asked(sandbox, "llm_obs") == asked(sandbox, "apm") == []
    assert [document["user_hash"] for document in stored.values()] == [None]


async def test_apm_without_permission_is_not_asked_again(sandbox: BackgroundServer, store_settings: dict[str, str]) -> None:
    sandbox.sandbox.store.add_llm_obs(trace(1))
    sandbox.sandbox.trouble.faults = [Fault("status", source="apm", times=None, status=403)]
    report, _ = await ingested(settings_for(sandbox, **store_settings))
    assert report.error is None
    assert lookup(report) == {"looked_for": 1, "found": 0}
    assert sum(one.source == "apm" for one in sandbox.sandbox.requests) == 1


async def test_what_datadog_refuses_is_told(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.store.add_llm_obs(trace(1, "u-1"))
    wanted: dict[str, TraceIdKind] = {trace_id_of(1): "llm_obs"}
    sandbox.sandbox.trouble.faults = [Fault("status", times=1, status=400)]
    with pytest.raises(SourceRefusedError):
        await spans_of(source_of(client, "llm_obs"), wanted)
    sandbox.sandbox.trouble.faults = [Fault("rate_limited", times=None, reset_s=900)]
    with pytest.raises(QuotaExhaustedError):
        await spans_of(source_of(client, "llm_obs"), wanted)
