"""What errors said: APM asked by span id through the sandbox, the whole pipeline and both stores."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import Selection
from evalforge.core.window import Window
from evalforge.runs import RunReport
from evalforge.sandbox.samples import load
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.times import iso_ms
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog import span_ids
from evalforge.sources.datadog.span_ids import batches, is_askable, span_ids_query

SALT = "0nly-f0r-tests-kZ8vQ2mX7pL4wR9tB6nJ3hG5"
END = datetime.now(UTC).replace(microsecond=0)
END_MS = int(END.timestamp() * 1000)
DAY_MS = 24 * 3_600_000
CANARIES = (
    *("Maria Lopez", "maria.lopez@canary.example", "4111 1111 1111 1111", "+1 (212) 555-0147", "203.0.113.77"),
    *("DE89370400440532013000", "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD", "078-05-1120"),
)
MESSAGE = "customer {} <{}> with card {} called from {} at {}, account {}, key {}, ssn {}: model timed out".format(*CANARIES)
NOT_FACTS = ("updated_at", "fetched_at", "expires_at", "origins")


BATCH_SPANS = 20
"""So few in a request here that little data makes several."""


@pytest.fixture(autouse=True)
def batch_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(span_ids, "BATCH_SPANS", BATCH_SPANS)


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(now=lambda: END_MS / 1000)) as server:
        yield server


@pytest.fixture(params=["sqlite", "firestore"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    if request.param == "sqlite":
        return sqlite(tmp_path)
    address = request.getfixturevalue("firestore_emulator")
    prefix = "t" + re.sub(r"[^a-z0-9]", "", tmp_path.name.lower())[:40] + "_"
    return {"FIRESTORE_EMULATOR_HOST": address, "FIRESTORE_COLLECTION_PREFIX": prefix}


def sqlite(folder: Path, name: str = "captures") -> dict[str, str]:
    return {"CAPTURE_STORE": f"sqlite:///{folder / name}.sqlite3"}


def settings_for(sandbox: BackgroundServer, **environment: str) -> Settings:
    known = {"DATADOG_API_KEY": "api", "DATADOG_APP_KEY": "app", "DATADOG_API_URL": sandbox.url, "PII_SALT": SALT}
    return Settings.from_environment(known | {"DATADOG_ENRICH_FROM_APM": "true", "RETRY_BUDGET_S": "1"} | environment)


def trace_id_of(number: int) -> str:
    return f"6b03dc7800000000{number + (1 << 62):016x}"


def start_ns(number: int) -> int:
    return (END_MS - 3_600_000 + number * 10) * 1_000_000 + 4_321


def failing(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "trace_id": trace_id_of(number),
        "span_id": str((1 << 63) + number),
        "parent_id": "undefined",
        "name": "answer",
        "span_kind": "llm",
        "status": "error",
        "ml_app": "shop",
        "start_ns": start_ns(number),
        "duration": 5_000_000,
        **fields,
    }


def twin(number: int, **attributes: Any) -> dict[str, Any]:
    error = {"type": "openai.APITimeoutError", "message": MESSAGE, "stack": f"at run\n{MESSAGE}"}
    about = {
        "trace_id": str(7_000_000 + number),
        "span_id": failing(number)["span_id"],
        "parent_id": "0",
        "resource_name": "openai.request",
        "type": "llm",
        "status": "error",
        "start_timestamp": iso_ms(start_ns(number)),
        "custom": {"duration": 5_000_000, "http": {"status_code": "504"}, "error": error},
    }
    return {"id": f"AY{number}", "type": "spans", "attributes": about | attributes}


async def ingested(settings: Settings) -> tuple[RunReport, dict[str, dict[str, Any]]]:
    window = Window(END_MS - DAY_MS, END_MS + 60_000)
    report = await bootstrap.ingest_once(settings, holder="test", window=window)
    async with bootstrap.opened_store(settings) as store:
        documents = [dict(one.document) async for one in store.select(Selection(), now=bootstrap.utc_now())]
    return report, {document["trace_id"]: document for document in documents}


def asked(sandbox: BackgroundServer) -> list[str]:
    bodies = [one.body["data"]["attributes"] for one in sandbox.sandbox.requests if one.source == "apm"]
    return [body["filter"]["query"] for body in bodies if body["filter"].get("query", "").startswith("span_id:")]


def detail(report: RunReport) -> dict[str, int]:
    found: dict[str, int] = report.document()["error_detail"]
    return found


# -- the query ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "odd",
    ["", "0", "007", "x", "1 OR 2", "*", '1"', "-1", "1.0", str(1 << 64), "9" * 21, "3d53c950006270ff", "1\n", "\ud800"],
)
def test_an_odd_span_id_is_never_part_of_a_query(odd: str) -> None:
    assert not is_askable(odd)
    assert [ids for ids, _ in batches({odd: 1_795_000_000_000_000_000, "7": 1}, random.Random(1))] == [["7"]]


def test_a_query_stays_short_every_span_is_in_one_and_its_window_is_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    size = span_ids.BATCH_SPANS
    starts = {str((1 << 63) + n): start_ns(n * 100_000) for n in range(3 * size + 1)}
    found = list(batches(starts, random.Random(1)))
    assert sorted(len(ids) for ids, _ in found) == [1, *[size] * 3]
    assert max(len(span_ids_query("apm", ids)) for ids, _ in found) < 4_000
    assert sorted(span_id for ids, _ in found for span_id in ids) == sorted(starts)
    for ids, window in found:
        assert all(window.from_ms < starts[span_id] // 1_000_000 < window.to_ms for span_id in ids)
    assert list(batches({}, random.Random(1))) == []
    orders = {tuple(ids[0] for ids, _ in batches(starts, random.Random(seed))) for seed in range(20)}
    assert len(orders) > 1


# -- a whole run ----------------------------------------------------------------------------------------------------------


async def test_error_type_scrubbed_message_and_status_code_for_one_request_a_batch(
    sandbox: BackgroundServer, store_settings: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    count = BATCH_SPANS + 10
    sandbox.sandbox.store.add_llm_obs(failing(n) for n in range(count))
    sandbox.sandbox.store.add_apm(twin(n) for n in range(count) if n % 5)
    settings = settings_for(sandbox, **store_settings)
    report, stored = await ingested(settings)
    told = {trace_id_of(n) for n in range(count) if n % 5}
    assert detail(report) == {"looked_for": count, "found": len(told), "written": len(told), "left": 0}
    assert report.complete
    assert all("no APM span matched" in warning for warning in report.warnings), "these twins name no LLM trace"
    assert {trace_id for trace_id, document in stored.items() if document["error_details"]} == told
    one = stored[trace_id_of(1)]
    assert (one["error_type"], one["status_code"], one["failure_type"]) == ("openai.APITimeoutError", 504, "http_error")
    assert one["error_details"][0]["message"].endswith("model timed out")
    assert one["error_details"][0]["status_code"] == 504
    assert one["recurrence_count"] == 1
    requests = asked(sandbox)
    assert len(requests) == 4, "two batches, and once more for each, since some ids are missing and APM says more follows"
    written = str(stored) + json.dumps(report.document()) + "".join(capfd.readouterr())
    assert [canary for canary in CANARIES if canary in written] == []
    sandbox.sandbox.requests.clear()
    again, unchanged = await ingested(settings)
    assert detail(again) == {"looked_for": count - len(told), "found": 0, "written": 0, "left": 0}
    assert unchanged == stored
    assert (again.tally.created, again.tally.updated) == (0, 0)
    assert all(failing(n)["span_id"] not in query for query in asked(sandbox) for n in range(count) if n % 5)


async def test_a_batch_that_is_found_whole_costs_one_request(sandbox: BackgroundServer, tmp_path: Path) -> None:
    sandbox.sandbox.store.add_llm_obs(failing(n) for n in range(2 * BATCH_SPANS))
    sandbox.sandbox.store.add_apm(twin(n) for n in range(2 * BATCH_SPANS))
    report, _ = await ingested(settings_for(sandbox, **sqlite(tmp_path), DATADOG_SOURCES="llm_obs"))
    assert detail(report)["written"] == 2 * BATCH_SPANS
    assert sum(one.source == "apm" for one in sandbox.sandbox.requests) == 2
    assert [(one["name"], one["mode"], one["request_count"]) for one in report.sources][1:] == [("apm", "ids", 2)]


async def test_asking_by_id_and_reading_the_window_give_the_same_documents(
    sandbox: BackgroundServer, tmp_path: Path
) -> None:
    sandbox.sandbox.store.add_llm_obs(failing(n) for n in range(8))
    kinds: list[dict[str, Any]] = [
        {"custom": {"llmobs_trace_id": trace_id_of(0), "error": {"type": "Timeout", "message": MESSAGE}}},
        {"status": "ok", "custom": {"llmobs_trace_id": trace_id_of(1), "http": {"status_code": "429"}}},
        {"status": "ok", "custom": {"llmobs_trace_id": trace_id_of(2), "http": {"status_code": "200"}}},
        {"custom": {"llmobs_trace_id": str(int(trace_id_of(3), 16)), "error": {"message": MESSAGE}}},
        {"custom": {"llmobs_trace_id": trace_id_of(4), "usr": {"id": "u-4"}, "error": "odd"}},
    ]
    sandbox.sandbox.store.add_apm(twin(n, **kind) for n, kind in enumerate(kinds))
    read, in_window = await ingested(settings_for(sandbox, **sqlite(tmp_path, "a"), DATADOG_ENRICH_FROM_APM="false"))
    by_id, enriched = await ingested(settings_for(sandbox, **sqlite(tmp_path, "b"), DATADOG_SOURCES="llm_obs"))
    assert read.document()["error_detail"] is None
    assert detail(by_id)["found"] == len(kinds)
    for documents in (in_window, enriched):
        for document in documents.values():
            for name in NOT_FACTS:
                del document[name]
    assert enriched == in_window
    both, _ = await ingested(settings_for(sandbox, **sqlite(tmp_path, "c")))
    assert detail(both) == {"looked_for": 3, "found": 0, "written": 0, "left": 0}, "the window held the others' twins"


async def test_without_the_permission_it_is_a_warning_that_names_it(sandbox: BackgroundServer, tmp_path: Path) -> None:
    sandbox.sandbox.store.add_llm_obs([failing(1)])
    sandbox.sandbox.store.add_apm([twin(1)])
    sandbox.sandbox.permissions = frozenset({"llm_observability_read"})
    report, stored = await ingested(settings_for(sandbox, **sqlite(tmp_path), DATADOG_SOURCES="llm_obs"))
    assert (report.error, report.complete, len(stored)) == (None, True, 1)
    assert detail(report) == {"looked_for": 1, "found": 0, "written": 0, "left": 1}
    assert ["apm_read" in warning for warning in report.warnings] == [True]
    sandbox.sandbox.requests.clear()
    both, _ = await ingested(settings_for(sandbox, **sqlite(tmp_path)))
    assert detail(both)["left"] == 1
    assert sum(one.source == "apm" for one in sandbox.sandbox.requests) == 1, "who was refused once is not asked again"
    sandbox.sandbox.permissions = frozenset({"llm_observability_read", "apm_read"})
    granted, _ = await ingested(settings_for(sandbox, **sqlite(tmp_path)))
    assert detail(granted) == {"looked_for": 1, "found": 1, "written": 1, "left": 0}


async def test_a_quota_that_ends_in_the_middle_is_a_warning_and_the_next_run_goes_on(
    sandbox: BackgroundServer, tmp_path: Path
) -> None:
    count = 2 * BATCH_SPANS + 5
    sandbox.sandbox.store.add_llm_obs(failing(n) for n in range(count))
    sandbox.sandbox.store.add_apm(twin(n) for n in range(count))
    settings = settings_for(sandbox, **sqlite(tmp_path), DATADOG_SOURCES="llm_obs")
    sandbox.sandbox.trouble.faults = [Fault("rate_limited", source="apm", times=None, after=1, reset_s=900)]
    report, stored = await ingested(settings)
    assert (report.error, report.complete, len(stored)) == (None, True, count)
    assert detail(report)["left"] == count - detail(report)["written"] > 0
    assert ["rate limit" in warning and "asks again" in warning for warning in report.warnings] == [True]
    sandbox.sandbox.trouble.faults = []
    healed, stored = await ingested(settings)
    assert detail(healed)["written"] == detail(report)["left"]
    assert all(document["error_details"] for document in stored.values())


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", source="apm", times=None, status=400),
        Fault("status", source="apm", times=None, status=500),
        Fault("truncated", source="apm", times=None),
    ],
    ids=["400", "500", "truncated"],
)
async def test_whatever_apm_does_the_run_ends_well(sandbox: BackgroundServer, tmp_path: Path, fault: Fault) -> None:
    sandbox.sandbox.store.add_llm_obs([failing(1)])
    sandbox.sandbox.trouble.faults = [fault]
    environment = {**sqlite(tmp_path), "DATADOG_SOURCES": "llm_obs", "RETRY_BUDGET_S": "0"}
    report, stored = await ingested(settings_for(sandbox, **environment))
    assert (report.error, report.complete, len(stored), detail(report)["left"]) == (None, True, 1, 1)
    assert len(report.warnings) == 1


@pytest.mark.long
async def test_samples_are_told_their_errors_and_no_planted_secret_is_kept(tmp_path: Path) -> None:
    with BackgroundServer(Sandbox(now=lambda: END_MS / 1000)) as server:
        samples = load(server.sandbox.store, end=END, traces=400)
        report, stored = await ingested(settings_for(server, **sqlite(tmp_path)))
    assert detail(report)["written"] > 0, detail(report)
    told = str([document["error_details"] for document in stored.values()])
    assert [secret for secret in samples.planted if secret in told] == []
