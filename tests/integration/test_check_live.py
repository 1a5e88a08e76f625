"""`evalforge check --live`: each question fails alone, nothing is changed, and nothing that came back is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.firestore_admin_v1 import types as admin
from google.cloud.firestore_v1 import types
from google.protobuf.timestamp_pb2 import Timestamp

from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.trouble import Fault
from evalforge.stores.firestore_indexes import INDEXES
from tests.integration.commands import PLAIN, evalforge, on_a_terminal
from tests.integration.test_nothing_leaves import CANARIES, found_in, planted_items

PROJECT = "acme-very-private"
SECRETS = {"DATADOG_API_KEY": "hunter2-api-key", "DATADOG_APP_KEY": "hunter2-app-key"}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=80) as server:
        yield server


@pytest.fixture
def environment(sandbox: BackgroundServer, tmp_path: Path) -> dict[str, str]:
    sandbox.sandbox.trouble.faults = []
    sandbox.sandbox.requests.clear()
    store = {"CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}", "DATADOG_ML_APPS": "", "RETRY_BUDGET_S": "0"}
    return PLAIN | SECRETS | store | {"DATADOG_API_URL": sandbox.url}


def looked(environment: dict[str, str]) -> dict[str, Any]:
    """The findings by name, of a command that ends well and tells no secret."""
    report = json.loads(evalforge(environment, "check", "--live", "--json").stdout)
    assert sum(report["asked_at_most"].values()) < 50
    return {one["name"]: one for one in report["findings"]}


def test_a_look_tells_what_every_guess_meets_and_changes_nothing(
    environment: dict[str, str], sandbox: BackgroundServer, tmp_path: Path
) -> None:
    found = looked(environment)
    assert [name for name, one in found.items() if one["verdict"] == "failed"] == []
    assert found["llm_obs.query_length"]["details"]["query_bytes"] > 10_000
    for name in ("order", "next_page", "cursor", "page_limit", "page_limit_beyond", "bad_cursor", "rate_limit", "ids"):
        assert found[f"llm_obs.{name}"]["verdict"] == "as assumed", name
    assert found["llm_obs.start"]["seen"].startswith("ns ")
    assert {"apm.times", "apm.duration", "apm.llm_trace", "apm.join"} <= found.keys()
    # 14 at most, the key check among them, which the sandbox does not count.
    assert 0 < len(sandbox.sandbox.requests) <= 13
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_is_a_table(environment: dict[str, str]) -> None:
    code, shown = on_a_terminal(environment, "check", "--live", columns=120)
    assert code == 0
    for word in (
        "asks Datadog at most 14 times",
        "and changes nothing",
        "llm_obs.order",
        "as assumed",
        "may stand in an issue",
    ):
        assert word in shown


def later(*values: Any) -> Any:
    """A row that `make test-all` tries."""
    return pytest.param(*values, marks=pytest.mark.long)


@pytest.mark.parametrize(
    ("fault", "verdicts"),
    [
        later(Fault("status", times=1, status=503), {"llm_obs.search": "otherwise", "apm.search": "as assumed"}),
        later(
            Fault("status", times=None, status=503, body="html"), {"llm_obs.search": "otherwise", "apm.search": "otherwise"}
        ),
        later(
            Fault("status", source="apm", times=None, status=403),
            {"llm_obs.search": "as assumed", "apm.search": "otherwise"},
        ),
        later(Fault("html", times=None), {"llm_obs.search": "failed", "apm.search": "failed", "datadog.keys": "as assumed"}),
        later(Fault("truncated", times=1), {"llm_obs.search": "failed", "llm_obs.newest": "as assumed"}),
        later(Fault("reset", times=1), {"llm_obs.search": "failed", "llm_obs.newest": "as assumed"}),
        (
            Fault("rate_limited", source="llm_obs", after=1, reset_s=900),
            {"llm_obs.newest": "not seen", "apm.ids": "as assumed"},
        ),
    ],
    ids=["one 503", "503 as a page", "no apm_read", "a login page", "truncated", "reset", "quota"],
)
def test_each_question_fails_alone(
    environment: dict[str, str], sandbox: BackgroundServer, fault: Fault, verdicts: dict[str, str]
) -> None:
    sandbox.sandbox.trouble.faults = [fault]
    found = looked(environment)
    assert {name: found[name]["verdict"] for name in verdicts} == verdicts


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"DATADOG_API_URL": "http://127.0.0.1:9"}, "no complete answer (ConnectError)"),
        ({"DATADOG_APP_KEY": ""}, "nothing was asked (bad_settings)"),
    ],
)
def test_where_nobody_answers_it_says_so(environment: dict[str, str], changes: dict[str, str], told: str) -> None:
    found = looked(environment | changes)
    assert found["datadog.keys"]["verdict"] == "failed"
    assert found["datadog.keys"]["seen"] == told


def test_wrong_settings_are_named_as_ever(environment: dict[str, str]) -> None:
    assert "QUALITY_THRESHOLD" in evalforge(environment | {"QUALITY_THRESHOLD": "7"}, "check", "--live", code=2).stderr


HOSTILE = {
    "planted": json.dumps({"data": planted_items(), "meta": {"page": {"after": CANARIES["user.email"]}, "status": "x-ray"}}),
    "wrong types": json.dumps({"data": {"a": 1}, "meta": [1], "links": CANARIES["user.name"], CANARIES["user.id"]: 1}),
    "a page": f"<html><script>{CANARIES['authorization']}</script>" * 50,
    "deep": "[" * 5_000 + json.dumps(CANARIES["user.name"]) + "]" * 5_000,
    "huge": json.dumps({"data": [CANARIES["session_id"] * 100] * 8_000}),
    "nothing": "",
    "numbers": json.dumps({"data": [{"attributes": {"start_ns": 4929471933820718, "duration": 4929471933820718}}]}),
}


@pytest.fixture(params=[name if name == "planted" else pytest.param(name, marks=pytest.mark.long) for name in HOSTILE])
def hostile(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that echoes keys and canaries in every header and body."""
    body = HOSTILE[request.param].encode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", f"text/{self.headers['DD-API-KEY']}")
            self.send_header("x-ratelimit-name", f"acme-{CANARIES['user.id']}")
            self.send_header("x-ratelimit-limit", "4929471933820718")
            self.send_header("x-ratelimit-reset", self.headers["DD-APPLICATION-KEY"])
            self.send_header("Date", CANARIES["user.name"])
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_nothing_that_was_planted_is_told(environment: dict[str, str], hostile: str) -> None:
    changes = {"DATADOG_API_URL": hostile, "DATADOG_ML_APPS": "acme-rockets", "GOOGLE_CLOUD_PROJECT": PROJECT}
    for options in ([], ["--json"]):
        done = evalforge(environment | changes, "check", "--live", *options)
        everything = done.stdout + done.stderr
        assert found_in(everything) == []
        assert not any(word in everything for word in ("hunter2", "acme", PROJECT, "4929471933820718", "4,929,471,933"))
        assert "unexpected" not in everything


class Firestore(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers as a Firestore with or without indexes and TTL would; `refusals` are the status of a method's calls."""

    def __init__(self, refusals: dict[str, grpc.StatusCode], ttl: bool) -> None:
        self.refusals = refusals
        self.ttl = ttl
        self.methods: list[str] = []

    def service(self, details: Any) -> Any:
        method = details.method.rpartition("/")[2]
        self.methods.append(method)

        def answer(request: bytes, context: Any) -> Any:
            if method in self.refusals and (method != "RunQuery" or b"failure_type" in request):
                context.abort(self.refusals[method], f"projects/{PROJECT} says {CANARIES['user.name']}")
            return ANSWERS[method](self)  # type: ignore[no-untyped-call]  # serializers of proto-plus have no types

        if method in ("BatchGetDocuments", "RunQuery"):
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter([answer(request, context)]))
        return grpc.unary_unary_rpc_method_handler(answer)


def ttl_field(server: Firestore) -> bytes:
    active = {"state": admin.Field.TtlConfig.State.ACTIVE}
    return bytes(admin.Field.serialize(admin.Field(name=CANARIES["user.id"], ttl_config=active if server.ttl else None)))


def now_skewed(server: Firestore) -> bytes:
    read_time = Timestamp()
    read_time.FromDatetime((datetime.now(UTC) - timedelta(seconds=90)).replace(tzinfo=None))
    return bytes(
        types.BatchGetDocumentsResponse.serialize(types.BatchGetDocumentsResponse(missing="x", read_time=read_time))
    )


ANSWERS = {
    "BatchGetDocuments": now_skewed,
    "RunQuery": lambda server: types.RunQueryResponse.serialize(types.RunQueryResponse()),
    "GetField": ttl_field,
    "GetDatabase": lambda server: admin.Database.serialize(
        admin.Database(type_=admin.Database.DatabaseType.FIRESTORE_NATIVE)
    ),
}
GOOD = {"indexes": "not seen", "expired": "as assumed", "ttl": "as assumed", "database": "as assumed", "clock": "otherwise"}


@pytest.mark.parametrize(
    ("refusals", "ttl", "verdicts", "told"),
    [
        later({}, True, GOOD, "17 of 17 answered"),
        later({}, False, {"ttl": "otherwise"}, "raw_traces none"),
        (
            {"RunQuery": grpc.StatusCode.FAILED_PRECONDITION},
            True,
            {"indexes": "otherwise"},
            "no index for raw_traces (failure_type up, started_at down)",
        ),
        later(
            {"RunQuery": grpc.StatusCode.PERMISSION_DENIED, "BatchGetDocuments": grpc.StatusCode.PERMISSION_DENIED},
            True,
            {"read": "failed", "indexes": "otherwise"},
            "PERMISSION_DENIED",
        ),
        later({"GetField": grpc.StatusCode.UNIMPLEMENTED}, True, {"ttl": "not seen"}, "an emulator has no administration"),
    ],
)
def test_firestore_is_looked_at_index_by_index(
    environment: dict[str, str], refusals: dict[str, grpc.StatusCode], ttl: bool, verdicts: dict[str, str], told: str
) -> None:
    handler = Firestore(refusals, ttl)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), handlers=(handler,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    changes = {"FIRESTORE_EMULATOR_HOST": address, "GOOGLE_CLOUD_PROJECT": PROJECT, "CAPTURE_STORE": "firestore"}
    try:
        done = evalforge(environment | changes | {"DATADOG_API_URL": "http://127.0.0.1:9"}, "check", "--live", "--json")
    finally:
        server.stop(None).wait()
    found = {one["name"]: one for one in json.loads(done.stdout)["findings"]}
    assert {name: found[f"firestore.{name}"]["verdict"] for name in verdicts} == verdicts
    assert told in done.stdout
    assert PROJECT not in done.stdout + done.stderr
    assert found_in(done.stdout + done.stderr) == []
    assert set(handler.methods) <= set(ANSWERS)
    assert handler.methods.count("RunQuery") <= len(INDEXES) + 1


@pytest.mark.long
def test_the_emulator_is_looked_at(environment: dict[str, str], firestore_emulator: str) -> None:
    found = looked(environment | {"CAPTURE_STORE": "firestore", "FIRESTORE_EMULATOR_HOST": firestore_emulator})
    verdicts = {name: one["verdict"] for name, one in found.items() if name.startswith("firestore.")}
    assert verdicts["firestore.may_read"] == "as assumed"
    assert verdicts["firestore.ttl"] == verdicts["firestore.database"] == "not seen"
    assert "failed" not in verdicts.values()
