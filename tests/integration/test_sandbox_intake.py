"""The intake over real HTTP: what tracers ask first, what they send, and what must not stop them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgpack  # type: ignore[import-untyped]  # it has no stubs
import orjson
import pytest
import zstandard

from evalforge.sandbox.payloads import MAX_BODY_BYTES
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)  # minutes after the recordings
KEYS = {"DD-API-KEY": "any", "DD-APPLICATION-KEY": "any"}
SPANS = orjson.dumps(json.loads((RECORDED / "llmobs_spans_intake.json").read_bytes())["body"])
METRICS = orjson.dumps(json.loads((RECORDED / "llmobs_eval_metric_intake.json").read_bytes())["body"])
TRACES = (RECORDED / "v04_traces_sample.msgpack").read_bytes()


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(now=NOW.timestamp)) as running:
        yield running


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    server.sandbox.arrivals.clear()
    server.sandbox.store.clear()
    with httpx.Client(base_url=server.url) as client:
        yield client


def found(http: httpx.Client, query: str, source: str = "llm-obs/v1/spans") -> int:
    parameters = {"filter[query]": query, "filter[from]": "now-1d", "page[limit]": "1000"}
    answer = http.get(f"/api/v2/{source}/events", params=parameters, headers=KEYS)
    return len(answer.raise_for_status().json()["data"])


def test_the_agent_says_what_it_can_do(http: httpx.Client) -> None:
    info = http.get("/info").json()
    assert any("/evp_proxy/v2" in endpoint for endpoint in info["endpoints"])
    assert "/v0.4/traces" in info["endpoints"]
    assert not any("v0.5" in endpoint for endpoint in info["endpoints"]), "v0.5 would lose the LLM spans inside traces"
    assert info["client_drop_p0s"] is False


@pytest.mark.parametrize("base", ["", "/evp_proxy/v2", "/evp_proxy/v4", "/base", "/base/of/several"])
def test_spans_and_evaluations_are_taken_behind_any_base_path(http: httpx.Client, base: str) -> None:
    assert http.post(f"{base}/api/v2/llmobs", content=SPANS).status_code == 202
    assert http.post(f"{base}/api/intake/llm-obs/v2/eval-metric", content=METRICS).status_code == 202
    assert found(http, "@evaluation.quality_score.value:<0.5") == 1
    parameters = {"filter[from]": "now-1d", "page[limit]": "1"}
    if not base.startswith("/evp_proxy"):
        page = http.get(f"{base}/api/v2/llm-obs/v1/spans/events", params=parameters, headers=KEYS).json()
        assert page["links"]["next"].startswith(f"{http.base_url}".rstrip("/") + base + "/api/v2/llm-obs")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_traces_are_taken(http: httpx.Client, method: str) -> None:
    answer = http.request(method, "/v0.4/traces", content=TRACES, headers={"content-type": "application/msgpack"})
    assert (answer.status_code, answer.json()) == (200, {"rate_by_service": {"service:,env:": 1.0}})
    counts = http.get("/sandbox").json()
    assert 0 < counts["llm_obs"] < counts["apm"]
    assert found(http, "@llmobs_trace_id:*", "spans") == 5
    assert found(http, "status:error @http.status_code:[400 TO 599]", "spans") > 0


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, zstandard.compress, lambda body: msgpack.packb(orjson.loads(body))],
    ids=["gzip", "zstd", "msgpack"],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_may_be_packed_and_chunked(http: httpx.Client, pack: Any, chunked: bool) -> None:
    packed = pack(SPANS)
    content = (packed[at : at + 1000] for at in range(0, len(packed), 1000)) if chunked else packed
    assert http.post("/api/v2/llmobs", content=content).status_code == 202
    assert http.get("/sandbox").json()["llm_obs"] == 32


def test_the_documented_http_api(http: httpx.Client) -> None:
    span = {
        "span_id": "1",
        "trace_id": "my-trace",
        "parent_id": "undefined",
        "name": "answer",
        "start_ns": int(NOW.timestamp() * 1e9),
        "duration": 5.0,
        "meta": {"kind": "llm", "input": {"messages": [{"role": "user", "content": "hello"}]}, "error": {"type": "Timeout"}},
    }
    attributes = {"ml_app": "shop", "session_id": "S-1", "tags": ["env:Prod"], "spans": [span]}
    answer = http.post("/api/intake/llm-obs/v1/trace/spans", json={"data": {"type": "span", "attributes": attributes}})
    assert answer.status_code == 202
    for query in ("@ml_app:shop env:prod", "@session_id:S-1", "@meta.error.type:Timeout", "@meta.span.kind:llm hello"):
        assert found(http, query) == 1, query


def test_what_the_export_does_not_have_can_be_searched(http: httpx.Client) -> None:
    http.post("/api/v2/llmobs", content=SPANS)
    http.post("/api/intake/llm-obs/v2/eval-metric", content=METRICS)
    assert found(http, "@meta.error.type:builtins.ValueError") == 3
    assert found(http, "@session_id:s-1") == found(http, "session_id:s-1") > 0
    assert found(http, "@feedback.thumbs.value:down @feedback.thumbs.assessment:fail") == 1
    assert found(http, "@feedback.thumbs.value:up") == 0


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/telemetry/proxy/api/v2/apmtelemetry", 202),
        ("/api/v2/apmtelemetry", 202),
        ("/v0.6/stats", 200),
        ("/v0.7/config", 200),
        ("/evp_proxy/v4/api/v2/citestcycle", 202),
        ("/profiling/v1/input", 200),
        ("/debugger/v1/input", 200),
    ],
)
def test_quiet_endpoints_answer(http: httpx.Client, path: str, status: int) -> None:
    for body in (b"", b"{}", b"\x80", gzip.compress(b"x" * 100), b"\x1f\x8bbroken"):
        answer = http.post(path, content=body)
        assert (answer.status_code, answer.json()) == (status, {})
    assert http.get("/v0.7/config").status_code == 200


ODD = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"7",
    b'"text"',
    b"\xff\xfe",
    b"[[[[",
    b"[{}, 7, null]",
    b"\x1f\x8bbroken",
    b"\x28\xb5\x2f\xfdbroken",
]


@pytest.mark.parametrize("body", ODD)
@pytest.mark.parametrize(
    "path",
    [
        "/v0.4/traces",
        "/api/v2/llmobs",
        "/evp_proxy/v2/api/v2/llmobs",
        "/api/intake/llm-obs/v1/trace/spans",
        "/api/intake/llm-obs/v2/eval-metric",
    ],
)
def test_an_oddity_is_counted_and_never_refused(http: httpx.Client, path: str, body: bytes) -> None:
    answer = http.post(path, content=body)
    assert answer.status_code in (200, 202)
    (arrival,) = http.get("/sandbox/intake").json()["arrivals"]
    assert (arrival["path"], arrival["spans"], arrival["evaluations"]) == (path, 0, 0)
    assert http.get("/sandbox").json() == {"llm_obs": 0, "apm": 0}


def test_the_neighbours_of_an_oddity_stay(http: httpx.Client) -> None:
    envelopes = [*orjson.loads(SPANS), 7, {"spans": "?"}, {"spans": [None, {"span_id": ""}]}]
    assert http.post("/api/v2/llmobs", json=envelopes).status_code == 202
    (arrival,) = http.get("/sandbox/intake").json()["arrivals"]
    assert (arrival["spans"], arrival["dropped"]) == (32, 4)


@pytest.mark.parametrize("path", ["/v0.4/traces", "/api/v2/llmobs", "/v0.6/stats", "/sandbox/spans"])
def test_a_bomb_is_refused_politely(http: httpx.Client, path: str) -> None:
    bomb = gzip.compress(b"\0" * (MAX_BODY_BYTES + 1))
    assert len(bomb) < 100_000
    answer = http.post(path, content=bomb)
    assert (answer.status_code, answer.json()) == (413, {"errors": [f"the body is larger than {MAX_BODY_BYTES} bytes"]})
    assert http.get("/info").status_code == 200


def test_a_trace_whose_llm_span_cannot_be_read_keeps_its_apm_span(http: httpx.Client) -> None:
    span = {"span_id": 1, "trace_id": 2, "start": int(NOW.timestamp() * 1e9), "meta_struct": {"_llmobs": b"\xc1"}}
    http.post("/v0.4/traces", content=msgpack.packb([[span]]))
    (arrival,) = http.get("/sandbox/intake").json()["arrivals"]
    assert (arrival["spans"], arrival["dropped"]) == (1, 1)
    assert http.get("/sandbox").json() == {"llm_obs": 0, "apm": 1}
