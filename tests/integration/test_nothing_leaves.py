"""What was planted is in nothing that leaves the process: documents, dead letters, logs, reports, exports, pages, output."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import PLAIN, on_a_terminal
from tests.integration.test_end_to_end import store_settings
from tests.integration.test_erasure import Told, everything_stored, held
from tests.integration.test_service_process import Service
from tests.otlp_receiver import Receiver

__all__ = ["store_settings"]

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
USER = "u-77310294"
# Nothing of them is a word, a code or a number that occurs otherwise.
CANARIES = {
    "user.email": "wilhelmina.quxley@canary.example.org",
    "user.name": "Wilhelmina Quxley",
    "user.phone": "+49 170 5550 8812",
    "card_number": "4929 4719 3382 0718",
    "authorization": "Bearer q7ZkT2vXw9LmB4cR8nYs",
    "session_id": "sess-9f31c07ab2d84e55",
    "client.ip": "203.0.113.77",
    "user.id": USER,
}
PARTS = (
    "wilhelmina",
    "quxley",
    "5550 8812",
    "55508812",
    "49294719",
    "4929 4719",
    "q7zkt2vxw9lm",
    "9f31c07ab2d8",
    "203.0.113.77",
    USER,
)


def forms(text: str) -> Iterator[str]:
    """A text as it may be written: in cases, percent, JSON, hexadecimal, and base64 at each of its three beginnings."""
    for spelled in {text, text.lower(), text.upper()}:
        raw = spelled.encode()
        yield from (
            spelled,
            urllib.parse.quote(spelled),
            urllib.parse.quote_plus(spelled),
            json.dumps(spelled)[1:-1],
            raw.hex(),
        )
        for shift in range(3):
            # Without the letters at both ends that also depend on what stands beside it.
            yield base64.b64encode(b"x" * shift + raw).decode()[shift + 1 : -4]


FORMS = {form for text in (*CANARIES.values(), *PARTS) for form in forms(text) if len(form) >= 4}


def found_in(everything: str) -> list[str]:
    folded = everything.lower()
    return sorted(form for form in FORMS if form.lower() in folded)


def carriers(number: int, key: str, canary: str, began: datetime) -> dict[str, Any]:
    """A failing span that carries one canary wherever a span can carry something."""
    start_ns = int(began.timestamp() * 1e9)
    hidden = {"plain": canary, "b64": base64.b64encode(canary.encode()).decode(), "hex": canary.encode().hex()}
    tree = {"note": f"it was {canary}", "deep": [{"name": key, "value": canary}, [key, canary]], canary: 1, key: canary}
    text = f"The agent told {canary} about it"
    called = {"name": canary, "arguments": tree}
    return {
        "span_id": str(10**12 + number),
        "trace_id": f"{start_ns // 10**9:08x}{number:024x}",
        "parent_id": "undefined",
        "name": canary,
        "ml_app": canary,
        "span_kind": "llm",
        "status": "error",
        "start_ns": start_ns + number,
        "duration": 1_000_000.0,
        "tags": [f"{key}:{canary}", f"pii:{canary}", f"team:{canary}", f"{canary}:x", canary],
        "metadata": tree | {"hidden": hidden, "json": json.dumps(tree), "query": f"?a=1&{key}={canary}"},
        "metrics": {canary: 1, "input_tokens": canary},
        "evaluation": {
            canary: {"value": canary, "assessment": "fail", "eval_metric_type": "categorical", "status": "OK"},
            "check": {"value": 0.1, "assessment": "fail", "reasoning": text, "tags": [canary], "metadata": tree},
        },
        "error": {"type": canary, "message": text, "stack": f'File "/home/{canary}/app.py", line 3, in f\n{text}'},
        "input": {"value": text, "messages": [{"role": canary, "content": text, "tool_calls": [called]}]},
        "output": {"documents": [{"id": canary, "name": canary, "text": text}]},
        "tool_definitions": [{"name": canary, "description": text}],
        canary: canary,
        "link": f"https://{urllib.parse.quote(canary)}@host.example/?{key}={urllib.parse.quote(canary)}",
    }  # fmt: skip


def planted_items() -> list[Any]:
    began = datetime.now(UTC) - timedelta(hours=1)
    items: list[Any] = []
    for number, (key, canary) in enumerate(CANARIES.items()):
        span = carriers(number, key, canary, began)
        items += [
            {"id": canary, "type": "span", "attributes": span},
            {"id": "1", "type": "span", "attributes": span | {"trace_id": f"x{canary}", "span_id": f"x{canary}"}},
            # No spans at all: dead letters.
            canary,
            [canary],
            {canary: {key: canary}},
            {"id": canary, "attributes": {"span_id": canary, "name": canary, canary: [canary]}},
        ]
    return items


@pytest.fixture
def datadog() -> Iterator[str]:
    """The address of a server whose search gives the planted items; the sandbox, like Datadog, would not keep them all."""
    body = json.dumps({"data": planted_items(), "meta": {"page": None, "status": "done"}}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(body)

        def do_GET(self) -> None:
            self.answer(b'{"valid": true}')

        def answer(self, content: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Silence: the test reads the answers, not the server's log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_the_forms_are_found_where_they_are() -> None:
    for hidden in (
        base64.b64encode(b'{"email": "wilhelmina.quxley@canary.example.org"}').decode(),
        b"call WILHELMINA now".hex(),
        "?user=Wilhelmina%20Quxley",
    ):
        assert found_in(f"before {hidden} after"), hidden
    assert found_in(json.dumps(planted_items()))
    assert not found_in("nothing personal at all, 2026-11-24T22:32:30.800390Z")


@pytest.fixture
def collector() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_nothing_that_was_planted_leaves(
    datadog: str, store_settings: dict[str, str], collector: Receiver, tmp_path: Path
) -> None:
    environment = PLAIN | store_settings | {
        "DATADOG_API_URL": datadog,
        "DATADOG_API_KEY": "k",
        "DATADOG_APP_KEY": "a",
        "DATADOG_SOURCES": "llm_obs",
        "DATADOG_FILTER": "scan",
        "PII_SALT": SALT,
        "PII_TEXT_ALLOWLIST": "input,output,prompt,metadata.note",
        "EXPORT_DESTINATIONS": f"evals={tmp_path / 'evals'}",
        "LOG_FORMAT": "json",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
    }  # fmt: skip
    told = Told()
    report = told.json(environment, "ingest")
    assert report["items"]["rejected"] >= 4 * len(CANARIES)
    assert report["captures"]["created"] >= len(CANARIES)
    told.run(environment, "ingest")
    stored = everything_stored(environment)
    trace_ids = sorted(held(environment))
    assert len(trace_ids) >= len(CANARIES)

    told.run(environment, "captures", "list", "--limit", "1000")
    told.run(environment, "captures", "list", "--limit", "1000", "--json")
    for trace_id in trace_ids[:4]:
        told.run(environment, "captures", "show", trace_id)
    told.run(environment, "captures", "show", trace_ids[-1], "--json")
    told.run(environment, "export", "--out", str(tmp_path / "all.jsonl"))
    access = told.run(environment, "export", "--user-id", "-", "--out", "-", stdin=USER)
    assert access
    _, on_terminal = on_a_terminal(environment, "ingest")
    pages = []
    with Service(tmp_path / "log", environment) as service:
        for method, path, body in (
            ("POST", "/ingestion/run-once", {}),
            ("POST", "/exports", {"destination": "evals"}),
            ("GET", "/health", None),
            ("GET", "/metrics", None),
            ("GET", "/openapi.json", None),
            ("POST", "/privacy/erase", {"user_id": CANARIES["user.email"]}),
            ("POST", "/privacy/erase", {"user_id": [USER]}),
            ("POST", "/privacy/erase", {USER: CANARIES["user.name"]}),
            ("POST", "/ingestion/run-once", {"lookback": 0.001}),
        ):
            answer = service.http.request(method, path, json=body)
            pages.append(answer.text + repr(answer.headers))
        log = service.log
    told.run(environment, "audit", "--json")
    told.run(environment, "erase", "--user-id", "-", stdin=USER)
    told.run(environment, "erase", "--trace-id", f"x{CANARIES['user.name']}")
    told.run(environment, "ingest")

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".jsonl" for path in files)
    leaving = {
        "stored": stored + everything_stored(environment),
        "files": "".join(f"{path}{path.read_bytes().decode('latin-1')}" for path in files),
        "commands": told.everything,
        "terminal": on_terminal,
        "pages": "".join(pages),
        "log": log,
        "metrics": b"".join(collector.bodies).decode("latin-1"),
    }
    assert {"evalforge.page", "evalforge.store.write"} <= {span.name for span in collector.spans()}
    assert "evalforge_spans_read_total" in leaving["pages"]
    assert "evalforge.redactions" in leaving["metrics"]
    assert "telemetry.failed" not in log
    assert {name: found for name, everything in leaving.items() if (found := found_in(everything))} == {}
