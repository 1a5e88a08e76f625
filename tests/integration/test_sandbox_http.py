"""The sandbox over real HTTP: each behaviour that Datadog documents, or that recordings of it show."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from tests.integration.commands import PLAIN, ran_text

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
KEYS = {"DD-API-KEY": "api", "DD-APPLICATION-KEY": "app"}
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PATHS = {"llm_obs": "/api/v2/llm-obs/v1/spans/events", "apm": "/api/v2/spans/events"}
TYPES = {"llm_obs": "spans", "apm": "search_request"}
BOTH = pytest.mark.parametrize("source", ["llm_obs", "apm"])


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(now=NOW.timestamp)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: BackgroundServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=KEYS) as client:
        yield client


@pytest.fixture
def http(server: BackgroundServer, client: httpx.Client) -> Iterator[httpx.Client]:
    """A client with good keys, of an empty sandbox without trouble whose clock stands still."""
    yield client
    server.sandbox.max_response_bytes = 50 * 1024 * 1024
    for what in ("spans", "requests", "trouble"):
        client.delete(f"/sandbox/{what}").raise_for_status()


def search(http: httpx.Client, source: str, query: str | None = None, **attributes: Any) -> httpx.Response:
    filters = {"from": "now-1d", "to": "now", **({} if query is None else {"query": query}), **attributes.pop("filter", {})}
    document = {"data": {"type": TYPES[source], "attributes": {"filter": filters, "sort": "timestamp", **attributes}}}
    return http.post(f"{PATHS[source]}/search", json=document)


def llm_obs_span(number: int, **attributes: Any) -> dict[str, Any]:
    start = NOW - timedelta(minutes=60) + timedelta(seconds=number)
    return {
        "span_id": str(1000 + number),
        "trace_id": f"{number:032x}",
        "name": "answer",
        "status": "ok",
        "start_ns": int(start.timestamp()) * 1_000_000_000,
        "ml_app": "shop",
        "span_kind": "llm",
        "tags": ["env:Prod"],
        **attributes,
    }


def apm_item(number: int, **custom: Any) -> dict[str, Any]:
    start = NOW - timedelta(minutes=60) + timedelta(seconds=number)
    attributes = {
        "span_id": str(1000 + number),
        "trace_id": "1",
        "service": "shop",
        "start_timestamp": start.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "tags": [],
        "custom": custom,
    }
    return {"id": f"AY{number}", "type": "spans", "attributes": attributes}


def load(http: httpx.Client, count: int) -> None:
    spans = {"llm_obs": [llm_obs_span(n) for n in range(count)], "apm": [apm_item(n) for n in range(count)]}
    http.post("/sandbox/spans", json=spans).raise_for_status()


def ids(response: httpx.Response) -> list[int]:
    return [int(item["attributes"]["span_id"]) - 1000 for item in response.raise_for_status().json()["data"]]


def after(response: httpx.Response) -> str | None:
    page = (response.json().get("meta") or {}).get("page") or {}
    cursor: str | None = page.get("after")
    return cursor


def detail(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/vnd.api+json"
    (error,) = response.json()["errors"]
    assert error["title"] == "Generic Error"
    return str(error["detail"])


# --- keys ---------------------------------------------------------------------------------------------------------


@BOTH
def test_missing_keys_are_401_and_wrong_ones_403(source: str) -> None:
    with BackgroundServer(Sandbox(accepted_keys={"api", "app"})) as server:
        for keys, status, error in (
            ({}, 401, "Unauthorized"),
            ({"DD-API-KEY": "api"}, 401, "Unauthorized"),
            ({"DD-API-KEY": "api", "DD-APPLICATION-KEY": "other"}, 403, "Forbidden"),
        ):
            for response in (
                httpx.get(server.url + PATHS[source], headers=keys),
                httpx.post(f"{server.url}{PATHS[source]}/search", headers=keys),
                httpx.get(server.url + "/api/v2/validate_keys", headers=keys),
            ):
                assert (response.status_code, response.json()) == (status, {"errors": [error]})
        assert httpx.get(server.url + PATHS[source], headers=KEYS).status_code == 200


def test_validation_of_keys(http: httpx.Client) -> None:
    assert http.get("/api/v2/validate_keys").json() == {"status": "ok"}
    assert http.get("/api/v1/validate", headers={"DD-APPLICATION-KEY": ""}).json() == {"valid": True}
    refused = http.get("/api/v1/validate", headers={"DD-API-KEY": ""})
    assert refused.status_code == 401
    assert refused.json()["errors"] == ["Unauthorized"]
    assert {"status", "code", "statuspage"} <= set(refused.json())


@pytest.mark.parametrize(
    ("permission", "path"),
    [
        ("llm_observability_read", PATHS["llm_obs"]),
        ("apm_read", PATHS["apm"]),
        ("monitors_read", "/api/v1/monitor?page=0&page_size=1"),
    ],
)
def test_each_permission_opens_one_thing(http: httpx.Client, permission: str, path: str) -> None:
    everything = ["apm_read", "llm_observability_read", "monitors_read"]
    others = [name for name in everything if name != permission]
    for allowed, status in ((everything, 200), (others, 403), ([], 403), ([permission], 200)):
        told = http.post("/sandbox/trouble", json={"permissions": allowed}).json()
        assert told["permissions"] == allowed
        answer = http.get(path)
        assert answer.status_code == status
        assert status == 200 or answer.json() == {"errors": ["Forbidden"]}
        assert http.get("/api/v2/validate_keys").status_code == 200, "a key that may nothing is a good key"
    assert http.get(path, headers={"DD-APPLICATION-KEY": ""}).status_code == 401
    reset = http.delete("/sandbox/trouble").json()
    assert reset["permissions"] == ["apm_read", "llm_observability_read"]
    assert http.get("/api/v1/monitor").status_code == 403


@pytest.mark.parametrize("wrong", ["apm_read", ["logs_read_data"], [["apm_read"]], {"apm_read": True}, None, 7])
def test_permissions_that_there_are_not(http: httpx.Client, wrong: Any) -> None:
    answer = http.post("/sandbox/trouble", json={"permissions": wrong})
    assert answer.status_code == 400
    assert "llm_observability_read" in answer.json()["errors"][0]


def test_no_such_path(http: httpx.Client) -> None:
    response = http.get("/api/v2/no-such-thing")
    assert (response.status_code, response.json()) == (404, {"errors": ["Not Found"]})
    assert http.put(PATHS["apm"]).status_code == 405


# --- the request --------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize(
    ("document", "why"),
    [
        ([], 'attribute "data": invalid type null'),
        ({"data": []}, 'attribute "data": invalid type array'),
        ({"data": {"attributes": {}}}, "got nothing"),
        ({"data": {"type": "span", "attributes": {}}}, 'got "span"'),
        ({"filter": {"from": 1795415160838}}, 'error decoding attribute "filter.from": invalid type number'),
        ({"filter": {"to": 1795415160838}}, 'error decoding attribute "filter.to": invalid type number'),
        ({"filter": {"query": ["x"]}}, 'attribute "filter.query": invalid type array'),
        ({"filter": {"from": "yesterday"}}, "Field 'filter.from' is invalid"),
        ({"filter": {"to": "now-1y"}}, "Field 'filter.to' is invalid"),
        ({"filter": {"query": "(("}}, "Field 'filter.query' is invalid"),
        ({"filter": "x"}, 'attribute "filter": invalid type string'),
        ({"page": {"limit": 0}}, "Field 'page.limit' is invalid"),
        ({"page": {"limit": "10"}}, 'attribute "page.limit": invalid type string'),
        ({"page": {"cursor": 7}}, 'attribute "page.cursor": invalid type number'),
        ({"page": {"cursor": "garbage"}}, "Field 'page.cursor' is invalid"),
        ({"page": {"cursor": base64.b64encode(b'{"after": "x"}').decode()}}, "Field 'page.cursor' is invalid"),
        ({"sort": "duration"}, "Field 'sort' is invalid"),
    ],
)
def test_a_request_that_cannot_be_read_is_400(http: httpx.Client, source: str, document: Any, why: str) -> None:
    if isinstance(document, dict) and "data" not in document:
        document = {"data": {"type": TYPES[source], "attributes": document}}
    response = http.post(f"{PATHS[source]}/search", json=document)
    assert response.status_code == 400
    assert why in detail(response)


@BOTH
def test_a_body_that_is_no_json_is_400(http: httpx.Client, source: str) -> None:
    response = http.post(f"{PATHS[source]}/search", content=b"{")
    assert response.status_code == 400
    assert "JSON" in detail(response)


def test_each_search_has_its_own_type_and_limit(http: httpx.Client) -> None:
    for source, other, most in (("llm_obs", "apm", 5000), ("apm", "llm_obs", 1000)):
        document = {"data": {"type": TYPES[other], "attributes": {}}}
        assert TYPES[source] in detail(http.post(f"{PATHS[source]}/search", json=document))
        assert search(http, source, page={"limit": most}).status_code == 200
        assert str(most) in detail(search(http, source, page={"limit": most + 1}))


@BOTH
def test_a_window_that_ends_before_it_starts_is_422(http: httpx.Client, source: str) -> None:
    name = "cassette_get_a_list_of_spans_returns_unprocessable_entity_response.json"
    recorded = json.loads((RECORDED / name).read_text())["interactions"][0]["response"]
    response = http.get(PATHS[source], params={"filter[from]": "now", "filter[to]": "now-1m"})
    assert response.status_code == recorded["status"]["code"]
    assert response.json() == recorded["body"]
    assert response.headers["content-type"] == recorded["headers"]["content-type"][0]


@BOTH
@pytest.mark.parametrize(
    ("from_", "to", "found"),
    [
        ("2026-11-23T11:00:01Z", "2026-11-23T11:00:03Z", [1, 2, 3]),
        ("2026-11-23T12:00:01+01:00", "2026-11-23T11:00:03.000Z", [1, 2, 3]),
        ("2026-11-23T11:00:01", "now", [1, 2, 3, 4]),
        ("now-1h", "now-1h+2s", [0, 1, 2]),
        ("now-1d", "now-60m", [0]),
        ("1795431601000", "1795431602000", [1, 2]),
        ("now-15m", "now", []),
    ],
)
def test_times(http: httpx.Client, source: str, from_: str, to: str, found: list[int]) -> None:
    load(http, 5)
    assert ids(search(http, source, filter={"from": from_, "to": to})) == found
    assert ids(http.get(PATHS[source], params={"filter[from]": from_, "filter[to]": to, "sort": "timestamp"})) == found


@BOTH
def test_defaults_are_fifteen_minutes_ten_spans_newest_first(http: httpx.Client, source: str) -> None:
    spans = {"llm_obs": [llm_obs_span(n * 60) for n in range(60)], "apm": [apm_item(n * 60) for n in range(60)]}
    http.post("/sandbox/spans", json=spans)
    response = http.get(PATHS[source])
    assert ids(response) == [n * 60 for n in range(59, 49, -1)]
    rest = http.get(PATHS[source], params={"page[cursor]": after(response) or ""})
    assert ids(rest) == [n * 60 for n in range(49, 44, -1)]


def test_an_offset_shifts_the_window(http: httpx.Client) -> None:
    load(http, 3)
    last_quarter = {"from": "now-15m", "to": "now"}
    assert ids(search(http, "llm_obs", filter=last_quarter, options={"time_offset": -3000})) == [0, 1, 2]
    assert ids(search(http, "apm", filter=last_quarter, options={"timeOffset": -3000})) == [0, 1, 2]
    both = search(http, "apm", options={"timezone": "GMT", "timeOffset": 1})
    assert "not both" in detail(both)


def test_structured_filters_are_exact_and_void_beside_a_query(http: httpx.Client) -> None:
    spans = [llm_obs_span(0), llm_obs_span(1, name="plan", span_kind="agent", ml_app="other", tags=["team:Care", "env:dev"])]
    http.post("/sandbox/spans", json={"llm_obs": spans})
    for filters in (
        {"span_id": "1001"},
        {"trace_id": f"{1:032x}"},
        {"span_kind": "agent"},
        {"span_name": "plan"},
        {"ml_app": "other"},
        {"tags": {"team": "care", "env": "dev"}},
    ):
        assert ids(search(http, "llm_obs", filter=filters)) == [1]
        assert ids(search(http, "llm_obs", "@name:answer", filter=filters)) == [0]
    window = {"filter[from]": "now-1d", "sort": "timestamp"}
    assert ids(http.get(PATHS["llm_obs"], params={**window, "filter[tag][team]": "care"})) == [1]
    assert ids(http.get(PATHS["llm_obs"], params={**window, "filter[span_name]": "plan"})) == [1]
    assert ids(http.get(PATHS["llm_obs"], params={**window, "filter[ml_app]": "other", "filter[query]": "*"})) == [0, 1]


# --- pages --------------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("sort", ["timestamp", "-timestamp"])
def test_pages_give_every_span_once(http: httpx.Client, source: str, sort: str) -> None:
    load(http, 25)
    read: list[int] = []
    page: dict[str, Any] = {"limit": 10}
    while page.get("cursor", "first") is not None:
        response = search(http, source, sort=sort, page=page)
        read += ids(response)
        page = {"limit": 10, "cursor": after(response)}
    assert read == sorted(range(25), reverse=sort == "-timestamp")


def test_the_end_of_llm_obs_is_a_null_page_even_after_a_full_one(http: httpx.Client) -> None:
    load(http, 4)
    full = search(http, "llm_obs", page={"limit": 4})
    assert ids(full) == [0, 1, 2, 3]
    empty = search(http, "llm_obs", page={"limit": 4, "cursor": after(full)})
    assert empty.json()["data"] == []
    assert empty.json()["meta"]["page"] is None
    short = search(http, "llm_obs", page={"limit": 5})
    assert (ids(short), short.json()["meta"]["page"]) == ([0, 1, 2, 3], None)
    assert short.json()["meta"]["status"] == "done"


def test_the_end_of_apm_is_recorded(http: httpx.Client) -> None:
    """Two rows, then a single row with a cursor nevertheless, then nothing at all, not even `meta`."""
    name = "cassette_search_spans_returns_ok_response_with_pagination.json"
    recorded = [one["response"] for one in json.loads((RECORDED / name).read_text())["interactions"]]
    load(http, 3)
    cursor, bodies = None, []
    for _ in range(3):
        response = search(http, "apm", page={"limit": 2, **({"cursor": cursor} if cursor else {})})
        bodies.append(response.json())
        assert response.headers["content-type"] == recorded[0]["headers"]["content-type"][0]
        cursor = after(response)
    for body, true in zip(bodies, (one["body"] for one in recorded), strict=True):
        assert set(body) == set(true)
        assert len(body["data"]) == len(true["data"])
        assert set(body.get("meta", {})) == set(true.get("meta", {}))
    assert bodies[2] == recorded[2]["body"]
    for body in (bodies[0], recorded[0]["body"]):
        content = json.loads(base64.b64decode(body["meta"]["page"]["after"]))
        assert list(content) == ["after", "values"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", content["values"][0])


@BOTH
def test_the_next_link_goes_on(http: httpx.Client, source: str) -> None:
    load(http, 5)
    response = search(http, source, '-@name:"a b"', page={"limit": 3})
    assert ids(http.get(response.json()["links"]["next"])) == [3, 4]


@BOTH
def test_a_cursor_takes_a_smaller_limit_but_no_other_query(http: httpx.Client, source: str) -> None:
    load(http, 9)
    cursor = after(search(http, source, "*", page={"limit": 4}))
    assert ids(search(http, source, "*", page={"limit": 2, "cursor": cursor})) == [4, 5]
    assert search(http, source, "-x", page={"limit": 4, "cursor": cursor}).status_code == 400
    assert search(http, source, "*", sort="-timestamp", page={"limit": 4, "cursor": cursor}).status_code == 400


def test_a_cursor_does_not_see_what_arrives_before_it(http: httpx.Client) -> None:
    http.post("/sandbox/spans", json={"llm_obs": [llm_obs_span(n) for n in (1, 3, 5)]})
    cursor = after(search(http, "llm_obs", page={"limit": 2}))
    http.post("/sandbox/spans", json={"llm_obs": [llm_obs_span(2), llm_obs_span(4)]})
    assert ids(search(http, "llm_obs", page={"limit": 9, "cursor": cursor})) == [4, 5]
    assert ids(search(http, "llm_obs", page={"limit": 9})) == [1, 2, 3, 4, 5]


def test_spans_of_one_moment_are_not_lost_between_pages(http: httpx.Client) -> None:
    http.post("/sandbox/spans", json={"llm_obs": [llm_obs_span(0, span_id=str(1000 + n)) for n in range(5)]})
    first = search(http, "llm_obs", page={"limit": 2})
    assert ids(first) + ids(search(http, "llm_obs", page={"limit": 9, "cursor": after(first)})) == [0, 1, 2, 3, 4]


def test_a_large_response_is_cut_at_a_span_with_a_cursor(http: httpx.Client, server: BackgroundServer) -> None:
    large = {"input": {"value": "x" * 10_000}}
    http.post("/sandbox/spans", json={"llm_obs": [llm_obs_span(n, **large) for n in range(6)]})
    assert http.post("/sandbox/trouble", json={"max_response_bytes": 25_000}).json()["max_response_bytes"] == 25_000
    first = search(http, "llm_obs", page={"limit": 6})
    assert ids(first) == [0, 1]
    assert ids(search(http, "llm_obs", page={"limit": 6, "cursor": after(first)})) == [2, 3]
    server.sandbox.max_response_bytes = 10
    assert ids(search(http, "llm_obs", page={"limit": 6})) == [0], "a span that is too large alone must still be readable"
    assert http.post("/sandbox/trouble", json={"max_response_bytes": 0}).status_code == 400
    assert http.delete("/sandbox/trouble").json()["max_response_bytes"] == 50 * 1024 * 1024


def test_attachments_may_be_left_out(http: httpx.Client) -> None:
    span = llm_obs_span(
        0,
        input={"value": "q" * 30_000, "messages": [{"role": "user", "content": "m" * 30_000}]},
        output={"value": "short"},
    )
    http.post("/sandbox/spans", json={"llm_obs": [span]})
    window = {"filter[from]": "now-1d"}
    for whole in (search(http, "llm_obs"), http.get(PATHS["llm_obs"], params=window)):
        assert whole.json()["data"][0]["attributes"]["input"] == span["input"]
    for short in (
        search(http, "llm_obs", options={"include_attachments": False}),
        http.get(PATHS["llm_obs"], params={**window, "include_attachments": "false"}),
    ):
        got = short.json()["data"][0]["attributes"]
        assert 0 < len(got["input"]["value"]) <= 25 * 1024
        assert got["output"] == span["output"]
        assert got["input"]["messages"][0]["role"] == "user"


# --- spans and evaluations ----------------------------------------------------------------------------------------


def test_the_recordings_come_back_with_tags_as_stored(http: httpx.Client) -> None:
    loaded = {
        "llm_obs": json.loads((RECORDED / "derived_export_page.json").read_text())["data"],
        "apm": json.loads((RECORDED / "derived_apm_search_page.json").read_text())["data"],
    }
    assert http.post("/sandbox/spans", json=loaded).json() == {"llm_obs": 32, "apm": 44}
    for source, items in loaded.items():
        got = search(http, source, page={"limit": 1000}).json()["data"]
        assert {json.dumps(lowered(item), sort_keys=True) for item in items} == {
            json.dumps(item, sort_keys=True) for item in got
        }
    assert len(ids(search(http, "llm_obs", "ticket:T-77"))) == 4
    assert len(ids(search(http, "apm", "@http.status_code:>=500", page={"limit": 99}))) > 0


def lowered(item: dict[str, Any]) -> dict[str, Any]:
    tags = [
        tag if ":" not in tag else f"{tag.split(':')[0]}:{tag.partition(':')[2].lower()}"
        for tag in item["attributes"]["tags"]
    ]
    return {**item, "attributes": {**item["attributes"], "tags": tags}}


def test_evaluations_join_before_and_after_their_span(http: httpx.Client) -> None:
    fail = {"eval_metric_type": "score", "value": 0.1, "assessment": "fail", "status": "OK"}
    early = {"span_id": "1000", "name": "quality_score", "evaluation": fail}
    other_trace = {"span_id": "1000", "trace_id": "f" * 32, "name": "other", "evaluation": fail}
    assert http.post("/sandbox/evaluations", json={"evaluations": [early, other_trace]}).json() == {
        "joined": 0,
        "waiting": 2,
    }
    http.post("/sandbox/spans", json={"llm_obs": [llm_obs_span(0, evaluation={"old": {"value": 1}})]})
    late = {"span_id": "1000", "trace_id": f"{0:032x}", "name": "policy", "evaluation": fail}
    assert http.post("/sandbox/evaluations", json={"evaluations": [late]}).json() == {"joined": 1, "waiting": 0}
    (span,) = search(http, "llm_obs", "@evaluation.policy.assessment:fail").json()["data"]
    assert set(span["attributes"]["evaluation"]) == {"old", "quality_score", "policy"}
    http.post("/sandbox/spans", json={"llm_obs": [llm_obs_span(5, span_id="1000", trace_id="f" * 32)]})
    assert len(search(http, "llm_obs", "@evaluation.other.value:*").json()["data"]) == 1


def test_what_is_not_exported_can_be_searched(http: httpx.Client) -> None:
    span = {"attributes": llm_obs_span(0), "type": "span", "id": "1000", "unexported": {"error": {"type": "Timeout"}}}
    http.post("/sandbox/spans", json={"llm_obs": [span]})
    response = search(http, "llm_obs", "@meta.error.type:Timeout")
    assert ids(response) == [0]
    assert set(response.json()["data"][0]) == {"attributes", "type", "id"}


def test_any_json_can_be_loaded_and_comes_back(http: httpx.Client) -> None:
    deep: Any = "end"
    for _ in range(300):
        deep = [deep]
    odd: list[Any] = [
        None,
        7,
        "text",
        [],
        {"attributes": None},
        llm_obs_span(0, big=2**80, surrogate="\ud800", deep=deep, metadata=[]),
    ]
    http.post("/sandbox/spans", content=json.dumps({"llm_obs": odd, "apm": odd})).raise_for_status()
    for source in ("llm_obs", "apm"):
        got = search(http, source, page={"limit": 99}).json()["data"]
        assert got[-5:-1] == odd[:4] if source == "llm_obs" else odd[0] in got
    (span,) = [s for s in search(http, "llm_obs", page={"limit": 9}).json()["data"] if isinstance(s, dict) and s.get("id")]
    assert span["attributes"]["big"] == 2**80
    assert span["attributes"]["surrogate"] == "\ud800"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("spans", "["),
        ("spans", "[]"),
        ("spans", '{"llm_obs": {}}'),
        ("spans", '{"typo": []}'),
        ("evaluations", "{}"),
        ("evaluations", '{"evaluations": [{"span_id": 7}]}'),
        ("trouble", '{"faults": [{"kind": "unheard"}]}'),
        ("trouble", '{"faults": [{"kind": "status", "typo": 1}]}'),
        ("trouble", '{"faults": [7]}'),
        ("trouble", '{"faults": [{"kind": "slow", "latency_s": -1}]}'),
        ("trouble", '{"faults": [{"kind": "slow", "times": 1.5}]}'),
        ("trouble", '{"faults": [{"kind": "status", "source": "rum"}]}'),
        ("trouble", '{"limits": {"apm": {"limit": 1}}}'),
        ("trouble", '{"limits": {"rum": {"limit": 1, "period_s": 1}}}'),
        ("trouble", '{"limits": {"apm": {"limit": 1, "period_s": 0}}}'),
    ],
)
def test_the_door_says_what_it_wants(http: httpx.Client, path: str, body: str) -> None:
    response = http.post(f"/sandbox/{path}", content=body)
    assert response.status_code == 400
    assert response.json()["errors"][0]


def test_requests_are_logged_without_keys(http: httpx.Client) -> None:
    search(http, "apm", "@a:b")
    http.get(PATHS["llm_obs"], params={"page[limit]": "0"})
    logged = http.get("/sandbox/requests").json()["requests"]
    assert [(r["source"], r["method"], r["path"], r["status"]) for r in logged] == [
        ("apm", "POST", PATHS["apm"] + "/search", 200),
        ("llm_obs", "GET", PATHS["llm_obs"], 400),
    ]
    assert logged[0]["body"]["data"]["attributes"]["filter"]["query"] == "@a:b"
    assert logged[1]["body"] == {"page[limit]": "0"}
    assert "api" not in json.dumps([list(r) for r in logged])


# --- limits and trouble -------------------------------------------------------------------------------------------


def test_limits_are_told_in_headers_and_end_in_429(http: httpx.Client) -> None:
    http.post("/sandbox/trouble", json={"limits": {"apm": {"limit": 2, "period_s": 100}}})
    told = [search(http, "apm") for _ in range(3)]
    assert [r.status_code for r in told] == [200, 200, 429]
    assert [r.headers["x-ratelimit-remaining"] for r in told] == ["1", "0", "0"]
    for response in told:
        assert response.headers["x-ratelimit-limit"] == "2"
        assert response.headers["x-ratelimit-period"] == "100"
        assert response.headers["x-ratelimit-reset"] == str(100 - int(NOW.timestamp()) % 100)
        assert response.headers["x-ratelimit-name"]
        assert "retry-after" not in response.headers
    assert told[2].json() == {"errors": ["Rate limit of 2 requests in 100 seconds reached. Please try again later."]}
    assert search(http, "llm_obs").status_code == 200, "each source has its own limit"


def test_the_limit_of_apm_is_the_documented_one(http: httpx.Client) -> None:
    headers = search(http, "apm").headers
    assert (headers["x-ratelimit-limit"], headers["x-ratelimit-period"]) == ("300", "3600")


def test_refusals_carry_the_headers_too(http: httpx.Client) -> None:
    assert "x-ratelimit-remaining" in search(http, "apm", "((").headers


def trouble(http: httpx.Client, *faults: dict[str, Any]) -> None:
    http.post("/sandbox/trouble", json={"faults": list(faults)}).raise_for_status()


@pytest.mark.parametrize("status", [401, 403, 500, 502, 503])
@pytest.mark.parametrize("body", ["json", "html"])
def test_statuses_on_demand(http: httpx.Client, status: int, body: str) -> None:
    trouble(http, {"kind": "status", "status": status, "body": body})
    response = search(http, "llm_obs")
    assert response.status_code == status
    assert body in response.headers["content-type"]
    assert search(http, "llm_obs").status_code == 200, "a fault strikes once unless told otherwise"


def test_429_on_demand(http: httpx.Client) -> None:
    trouble(http, {"kind": "rate_limited", "reset_s": 7}, {"kind": "rate_limited", "rate_headers": False, "body": "html"})
    first, second = search(http, "apm"), search(http, "apm")
    assert (first.status_code, first.headers["x-ratelimit-reset"], first.headers["x-ratelimit-remaining"]) == (429, "7", "0")
    assert second.status_code == 429
    assert "x-ratelimit-reset" not in second.headers
    assert second.text.startswith("<html>")


def test_answers_that_are_no_json(http: httpx.Client) -> None:
    load(http, 5)
    trouble(http, {"kind": "html"}, {"kind": "truncated"})
    for _ in range(2):
        response = search(http, "llm_obs")
        assert response.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            response.json()


def test_connections_that_break(http: httpx.Client) -> None:
    load(http, 5)
    trouble(http, {"kind": "reset"}, {"kind": "cut"})
    with pytest.raises(httpx.ReadError):
        search(http, "llm_obs")
    with pytest.raises(httpx.RemoteProtocolError):
        search(http, "llm_obs")
    assert ids(search(http, "llm_obs")) == [0, 1, 2, 3, 4]


@BOTH
def test_a_partial_page_has_half_and_goes_on(http: httpx.Client, source: str) -> None:
    load(http, 5)
    trouble(http, {"kind": "partial"})
    half = search(http, source)
    assert (half.json()["meta"]["status"], ids(half)) == ("timeout", [0, 1, 2])
    assert ids(search(http, source, page={"limit": 9, "cursor": after(half)})) == [3, 4]


def test_a_dead_cursor_on_demand(http: httpx.Client) -> None:
    load(http, 5)
    trouble(http, {"kind": "bad_cursor"})
    first = search(http, "apm", page={"limit": 2})
    with_cursor = {"limit": 2, "cursor": after(first)}
    assert "page.cursor" in detail(search(http, "apm", page=with_cursor))
    assert ids(search(http, "apm", page=with_cursor)) == [2, 3]


def test_an_organisation_without_data(http: httpx.Client) -> None:
    trouble(http, {"kind": "no_index", "source": "llm_obs"})
    assert search(http, "apm").status_code == 200
    response = search(http, "llm_obs")
    assert (response.status_code, response.json()) == (500, {"errors": [{"detail": "No valid indexes specified"}]})


def test_faults_repeat_skip_and_alternate(http: httpx.Client) -> None:
    trouble(http, {"kind": "status", "status": 503, "after": 1, "every": 2, "times": None})
    assert [search(http, "apm").status_code for _ in range(5)] == [200, 503, 200, 503, 200]
    trouble(http, {"kind": "slow", "latency_s": 0.001, "times": 2}, {"kind": "status", "times": 2})
    assert [search(http, "apm").status_code for _ in range(3)] == [500, 500, 200]
    assert [fault["hits"] for fault in http.get("/sandbox/trouble").json()["faults"]] == [2, 2]


def test_trouble_by_chance_repeats_with_its_seed(http: httpx.Client) -> None:
    def statuses(seed: int) -> list[int]:
        plan = {"seed": seed, "faults": [{"kind": "status", "status": 503, "times": None, "rate": 0.5}]}
        assert http.post("/sandbox/trouble", json=plan).json()["seed"] == seed
        return [search(http, "llm_obs").status_code for _ in range(20)]

    first = statuses(1)
    assert set(first) == {200, 503}
    assert statuses(1) == first
    assert statuses(2) != first


def test_late_evaluations_on_demand(http: httpx.Client, server: BackgroundServer) -> None:
    http.post("/sandbox/trouble", json={"late_evaluations_minutes": 20}).raise_for_status()
    assert server.sandbox.store.evaluation_delay_s == 1200
    evaluation = {"span_id": "1000", "name": "q", "evaluation": {"value": 1}}
    load(http, 1)
    assert http.post("/sandbox/evaluations", json={"evaluations": [evaluation]}).json() == {"joined": 0, "waiting": 1}
    assert "evaluation" not in search(http, "llm_obs").json()["data"][0]["attributes"]
    http.delete("/sandbox/trouble")
    assert http.post("/sandbox/evaluations", json={"evaluations": [evaluation]}).json() == {"joined": 1, "waiting": 0}


# --- who may talk to it -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "localhost:1"}, 200),
        ({"host": "[::1]:80"}, 200),
        ({"host": "dashboard.localhost"}, 200),
        ({"host": "rebound.example"}, 403),
        ({"host": "127.0.0.1.example"}, 403),
        ({"host": ""}, 403),
        ({"origin": "https://example.com"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 200),
        ({"host": "localhost:1", "origin": "http://localhost:1"}, 200),
        ({"host": "localhost:1", "origin": "http://localhost:2"}, 403),
    ],
)
def test_only_this_machine_may_talk_to_it(http: httpx.Client, headers: dict[str, str], status: int) -> None:
    response = http.get("/sandbox", headers=headers)
    assert response.status_code == status
    assert not any(name.startswith("access-control") for name in response.headers)


HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">'


def test_the_page_shows_what_arrived_and_escapes_it(http: httpx.Client) -> None:
    evaluation = {
        HOSTILE: {"value": HOSTILE, "assessment": "fail"},
        "q": {"value": 0.123456, "assessment": HOSTILE},
        "odd": 7,
    }
    span = llm_obs_span(0, name=HOSTILE, ml_app=HOSTILE, status=HOSTILE, evaluation=evaluation, trace_id="\ud800")
    spans = [span, llm_obs_span(1, status="error", start_ns=9.9e18), 7, {"evaluation": [1]}]
    http.post("/sandbox/spans", content=json.dumps({"llm_obs": spans, "apm": [apm_item(0), None]})).raise_for_status()
    http.post(f"/{HOSTILE}/api/v2/llmobs", json=[])
    page = http.get("/")
    assert page.status_code == 200
    parts = http.get("/sandbox/page").json()
    assert set(parts) == {"counts", "llm_obs", "apm", "arrivals", "datasets"}
    for html in (page.text.replace("<script>" + page.text.split("<script>")[-1], ""), *parts.values()):
        assert "<script>" not in html
        assert "<img" not in html
    assert "&lt;script&gt;" in parts["llm_obs"]
    assert "q: 0.1235" in parts["llm_obs"]


def test_the_page_may_run_its_own_script_and_nothing_else(http: httpx.Client) -> None:
    page = http.get("/")
    policy = dict(directive.split(" ", 1) for directive in page.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (inline,) = re.findall(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert policy[directive] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]*\s(src|href|action|on[a-z]+)=", page.text)


def test_an_empty_page_says_how_to_send(http: httpx.Client) -> None:
    assert f"DD_TRACE_AGENT_URL={str(http.base_url).rstrip('/')}" in http.get("/").text


def test_it_runs_as_a_command_with_the_trouble_that_is_asked_for() -> None:
    options = ["--rate-limit", "apm=5", "--trouble", "503=0.5", "--trouble", "reset=0", "--latency", "0.001"]
    command = [
        sys.executable,
        "-m",
        "evalforge",
        "sandbox",
        "--port",
        "0",
        "--seed",
        "11",
        "--late-evaluations",
        "7.5",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert httpx.get(f"{url}/sandbox").json()["llm_obs"] > 1000
            trouble = httpx.get(f"{url}/sandbox/trouble").json()
            assert [(fault["kind"], fault["rate"]) for fault in trouble["faults"]] == [
                ("slow", 1.0),
                ("status", 0.5),
                ("reset", 0.0),
            ]
            assert (trouble["seed"], trouble["late_evaluations_minutes"]) == (11, 7.5)
            assert httpx.get(url + PATHS["apm"], headers=KEYS).headers["x-ratelimit-limit"] == "5"
            assert httpx.get(f"{url}/sandbox/intake").json()["waiting"] > 100, "the evaluations of the samples are late too"
        finally:
            process.terminate()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--host", "0.0.0.0", "--empty"], "loopback"),
        (["--trouble", "sometimes"], "--trouble: got 'sometimes'; wants a status such as 503"),
        (["--trouble", "503=2"], "from 0 to 1"),
        (["--rate-limit", "logs=5"], "--rate-limit: got 'logs=5'; wants llm_obs=LIMIT/SECONDS"),
    ],
)
def test_it_says_what_is_wrong_with_its_options(arguments: list[str], why: str) -> None:
    done = ran_text("sandbox", *arguments, environment=PLAIN)
    assert done.returncode == 2
    assert why in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_it_refuses_to_serve_the_network() -> None:
    with pytest.raises(ValueError, match="loopback"), BackgroundServer(host="0.0.0.0"):
        pass
