"""The main job on real parts: the sandbox over HTTP, the whole pipeline, SQLite and the real Firestore emulator."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.canonical import canonical_json
from evalforge.core.ports import Selection, StoredCapture
from evalforge.core.signals import spellings
from evalforge.core.window import Window
from evalforge.runs import RunReport
from evalforge.sandbox import samples
from evalforge.sandbox.server import BackgroundServer
from tests.unit.test_signals import NAMED, nested

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
SALT = "0nly-f0r-tests-kZ8vQ2mX7pL4wR9tB6nJ3hG5"


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer() as server:
        yield server


@pytest.fixture(params=["sqlite", "firestore"])
def store_settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Where captures are kept: both stores, each test with a collection prefix of its own."""
    if request.param == "sqlite":
        return {"CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}"}
    address = request.getfixturevalue("firestore_emulator")
    prefix = "t" + re.sub(r"[^a-z0-9]", "", tmp_path.name.lower())[:40] + "_"
    return {"FIRESTORE_EMULATOR_HOST": address, "FIRESTORE_COLLECTION_PREFIX": prefix}


def settings_for(sandbox: BackgroundServer, **environment: str) -> Settings:
    return Settings.from_environment(
        {"DATADOG_API_KEY": "api", "DATADOG_APP_KEY": "app", "DATADOG_API_URL": sandbox.url, "PII_SALT": SALT} | environment
    )


async def ingested(settings: Settings, **options: Any) -> tuple[RunReport, dict[str, StoredCapture]]:
    report = await bootstrap.ingest_once(settings, holder="test", **options)
    async with bootstrap.opened_store(settings) as store:
        return report, {
            stored.capture.trace_id: stored async for stored in store.select(Selection(), now=bootstrap.utc_now())
        }


def found_types(stored: dict[str, StoredCapture]) -> dict[str, set[str]]:
    return {trace_id: {signal.type.value for signal in one.capture.signals} for trace_id, one in stored.items()}


@pytest.mark.parametrize("mode", ["auto", "scan", "query"])
async def test_every_sample_failure_is_captured_once_without_personal_data(
    sandbox: BackgroundServer, store_settings: dict[str, str], mode: str
) -> None:
    loaded = samples.load(sandbox.sandbox.store, end=datetime.now(UTC))
    evaluators = "policy_compliance,brand_voice,helpfulness-check" if mode == "query" else ""
    settings = settings_for(sandbox, **store_settings, DATADOG_FILTER=mode, EVALUATIONS=evaluators)
    report, stored = await ingested(settings)
    assert report.error is None
    assert report.complete is (mode != "query"), report.incomplete_because
    expected = {trace_id: set(types) for trace_id, types in loaded.expected.items()}
    if mode == "query":
        assert {t for types in expected.values() for t in types} == {
            t for types in found_types(stored).values() for t in types
        }
    assert found_types(stored) == expected
    everything = b"".join(canonical_json(dict(one.document)) for one in stored.values()).decode().lower()
    assert [secret for secret in loaded.planted if secret.lower() in everything] == []
    tally = report.tally
    assert tally.fetched == tally.healthy + tally.failing + tally.rejected
    again, stored_again = await ingested(settings)
    assert (again.tally.created, again.tally.updated, again.tally.refused) == (0, 0, 0)
    assert {trace_id: one.document for trace_id, one in stored_again.items()} == {
        trace_id: one.document for trace_id, one in stored.items()
    }


async def test_one_user_has_one_hash_and_captures_link_back(sandbox: BackgroundServer, tmp_path: Path) -> None:
    loaded = samples.load(sandbox.sandbox.store, end=datetime.now(UTC))
    _, stored = await ingested(settings_for(sandbox, CAPTURE_STORE=f"sqlite:///{tmp_path / 'c.sqlite3'}"))
    hashes: dict[str, set[str]] = {}
    for trace_id, one in stored.items():
        for user_hash in one.document["user_hashes"]:
            hashes.setdefault(loaded.users[trace_id], set()).add(user_hash)
        assert one.document["datadog_url"] == f"https://app.datadoghq.com/llm/traces?query=trace_id:{trace_id}"
        assert one.document["link_expires_at"] - one.document["started_at"] == timedelta(days=15)
        assert one.document["processed"] is False
    assert hashes
    assert all(len(of_one) == 1 for of_one in hashes.values()), hashes


def bulk(count: int, *, begin: datetime, step_s: float, **changes: Any) -> list[dict[str, Any]]:
    """Export items of healthy spans, one each `step_s` seconds from `begin`."""
    items = []
    for number in range(count):
        start_ns = int((begin + timedelta(seconds=number * step_s)).timestamp() * 1e9)
        attributes: dict[str, Any] = {
            "span_id": str(10**12 + number),
            "trace_id": f"{start_ns // 10**9:08x}{number:024x}",
            "parent_id": "undefined",
            "name": "answer",
            "ml_app": "bulk",
            "span_kind": "llm",
            "status": "ok",
            "start_ns": start_ns,
            "duration": 1_000_000.0,
            "tags": ["env:prod"],
            "metrics": {"input_tokens": 10},
            "metadata": {},
            "evaluation": {
                "house_style": {"eval_metric_type": "boolean", "value": True, "assessment": "pass", "status": "OK"}
            },
        }
        items.append({"id": attributes["span_id"], "type": "span", "attributes": attributes | changes})
    return items


async def test_auto_learns_an_evaluator_that_nobody_listed_in_a_window_too_big_to_read_whole(
    sandbox: BackgroundServer, tmp_path: Path
) -> None:
    begin = datetime.now(UTC) - timedelta(hours=23, minutes=50)
    items = bulk(12_000, begin=begin, step_s=7)
    failing = items[100::997]
    for item in failing:
        item["attributes"]["evaluation"] = {
            "house_style": {"eval_metric_type": "boolean", "value": False, "assessment": "fail", "status": "OK"}
        }
    items[5]["attributes"]["status"] = "error"
    sandbox.sandbox.store.add_llm_obs(items)
    settings = settings_for(sandbox, CAPTURE_STORE=f"sqlite:///{tmp_path / 'c.sqlite3'}", DATADOG_SOURCES="llm_obs")
    report, stored = await ingested(settings)
    wanted = {item["attributes"]["trace_id"] for item in [*failing, items[5]]}
    assert set(stored) == wanted
    assert report.complete
    assert report.sources[0]["learned"], report.sources
    assert report.tally.fetched < 6_000, "the query narrows what is fetched"
    again, _ = await ingested(settings)
    assert (again.tally.created, again.tally.updated) == (0, 0)


def every_signal_everywhere() -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, str]]:
    """LLM-Observability and APM items, one trace each, for every row of the signal table in every place and spelling; with
    the failure type by trace id. Healthy twins of all of them come along."""
    llm_obs: list[dict[str, Any]] = []
    apm: list[dict[str, Any]] = []
    expected: dict[str, str] = {}
    begin = datetime.now(UTC) - timedelta(hours=20)

    def add_llm_obs(failure_type: str | None, **fields: Any) -> None:
        (item,) = bulk(1, begin=begin + timedelta(seconds=len(llm_obs)), step_s=1, **fields)
        item["attributes"] |= {"trace_id": f"6b03dc78{len(llm_obs):024x}", "span_id": str(10**12 + len(llm_obs))}
        llm_obs.append(item)
        if failure_type:
            expected[item["attributes"]["trace_id"]] = failure_type

    def add_apm(failure_type: str | None, custom: dict[str, Any], **fields: Any) -> None:
        trace_id = f"7c03dc78{len(apm):024x}"
        start = (begin + timedelta(seconds=len(apm))).isoformat().replace("+00:00", "Z")
        attributes = {"trace_id": str(9 * 10**15 + len(apm)), "span_id": str(8 * 10**15 + len(apm)), "parent_id": "0"}
        attributes |= {"resource_name": "POST /chat", "service": "s", "env": "prod", "type": "web", "start_timestamp": start}
        custom = {"llmobs_trace_id": trace_id, "duration": 1000} | custom
        apm.append({"id": f"AY{len(apm)}", "type": "spans", "attributes": attributes | {"custom": custom} | fields})
        if failure_type:
            expected[trace_id] = failure_type

    for name, failing, healthy, failure_type, _ in NAMED:
        for path in spellings(name):
            for value, wanted in ((failing, failure_type.value), (healthy, None)):
                verdict = {"value": value, "eval_metric_type": "boolean" if isinstance(value, bool) else "categorical"}
                add_llm_obs(wanted, evaluation={path: verdict})
                add_llm_obs(wanted, tags=["env:prod", f"{path}:{value}".lower()])
                add_apm(wanted, {}, tags=[f"{path}:{value}".lower()])
                for shape in ({path: value}, nested(path, value), {path: str(value)}):
                    add_llm_obs(wanted, metadata=shape)
                    add_apm(wanted, dict(shape))
                if not isinstance(value, str):
                    add_llm_obs(wanted, metrics={path: float(value)})
    add_llm_obs("evaluation_failure", evaluation={"nobody_listed_this": {"value": 3, "assessment": "fail", "status": "OK"}})
    add_llm_obs(None, evaluation={"nobody_listed_this": {"value": 3, "assessment": "fail", "status": "ERROR"}})
    add_llm_obs("execution_error", status="error")
    add_apm("execution_error", {}, status="error")
    for _ in range(400):
        add_llm_obs(None)
        add_apm(None, {"http": {"status_code": "200"}})
    return llm_obs, apm, expected


@pytest.mark.parametrize("mode", ["auto", "scan"])
async def test_all_signals_in_every_place_of_both_sources_none_missed_none_invented(
    sandbox: BackgroundServer, store_settings: dict[str, str], mode: str
) -> None:
    llm_obs, apm, expected = every_signal_everywhere()
    sandbox.sandbox.store.add_llm_obs(llm_obs)
    sandbox.sandbox.store.add_apm(apm)
    settings = settings_for(sandbox, **store_settings, DATADOG_FILTER=mode)
    report, stored = await ingested(settings)
    assert {trace_id: one.capture.failure_type.value for trace_id, one in stored.items()} == expected
    assert report.complete
    assert report.tally.healthy > len(expected)
    again, stored_again = await ingested(settings)
    assert (again.tally.created, again.tally.updated) == (0, 0)
    assert {key: one.document for key, one in stored_again.items()} == {key: one.document for key, one in stored.items()}


async def test_the_recordings_run_through_both_sources(sandbox: BackgroundServer, store_settings: dict[str, str]) -> None:
    llm_obs = json.loads((RECORDED / "derived_export_page.json").read_bytes())["data"]
    apm = json.loads((RECORDED / "derived_apm_search_page.json").read_bytes())["data"]
    cassette = json.loads((RECORDED / "cassette_get_a_list_of_spans_returns_ok_response.json").read_bytes())
    store = sandbox.sandbox.store
    store.add_llm_obs(llm_obs)
    store.add_apm(apm)
    for interaction in cassette["interactions"]:
        store.add_apm(interaction["response"]["body"].get("data", []))
    starts = [item["attributes"]["start_ns"] // 1_000_000 for item in llm_obs]
    window = Window(min(starts) - 3_600_000, max(starts) + 3_600_000)
    report, stored = await ingested(settings_for(sandbox, **store_settings), window=window)
    types = found_types(stored)
    assert types.pop("6b03dc78000000003d53c950006270ff") >= {"quality_degradation", "hallucination", "evaluation_failure"}
    assert types.pop("6b03dc78000000008a67a5816817f857") >= {"execution_error", "http_error"}
    assert types.pop("6b03dc79000000009284d6e53b072e6e") >= {"execution_error", "http_error"}
    assert report.error is None
    assert report.tally.rejected == 0
    for private in ("maria", "lopez", "example.com", "415", "4111", "elm st", "u-8841", "s-1", "lie about"):
        for one in stored.values():
            text = orjson.dumps({**one.document["trace_payload"], "r": one.document["redactions"]}).decode().lower()
            assert private not in re.sub(r'"(span|trace|parent|apm_trace)_id":"\w+"|"(start_ns|duration)":\d+', "", text), (
                private
            )


@pytest.mark.parametrize(
    "items", [[{}, None, 3, "x", [], {"id": 1}, {"attributes": []}, {"id": "1", "attributes": {"span_id": "2"}}]]
)
async def test_odd_items_become_dead_letters_and_the_run_goes_on(tmp_path: Path, items: list[Any]) -> None:
    """Served by hand: the sandbox, like Datadog, would not keep such items."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    good = bulk(1, begin=datetime.now(UTC) - timedelta(hours=1), step_s=1, status="error")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            body = orjson.dumps({"data": [*items, *good], "meta": {"page": None, "status": "done"}})
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silence: the test reads the answers, not the server's log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        settings = Settings.from_environment(
            {
                "DATADOG_API_KEY": "api",
                "DATADOG_APP_KEY": "app",
                "DATADOG_API_URL": f"http://127.0.0.1:{server.server_address[1]}",
                "CAPTURE_STORE": f"sqlite:///{tmp_path / 'c.sqlite3'}",
                "DATADOG_SOURCES": "llm_obs",
            }
        )
        report, stored = await ingested(settings)
    finally:
        server.shutdown()
        server.server_close()
    assert report.tally.rejected == len(items)
    assert list(stored) == [good[0]["attributes"]["trace_id"]]
    async with bootstrap.opened_store(settings) as store:
        assert await store.dead_letter_count(now=bootstrap.utc_now()) > 0
