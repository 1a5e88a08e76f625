"""A person writes hostile text into a prompt, an application into every field: it forges no log line, drives no terminal,
and names no file, no URL, no header, no collection and no document."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from evalforge import bootstrap
from evalforge.core.ports import COLLECTIONS
from evalforge.events import EVENTS
from tests.integration.commands import PLAIN, on_a_terminal
from tests.integration.test_erasure import Told, held, settings_of
from tests.integration.test_service_process import Service

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
MARK = "zqxvw"
"""Stands in every hostile text, so that it can be looked for."""
ENDLESS = f"{MARK}\x1b[2J\x1b]52;c;aGk=\x07\x1b]0;{MARK}\x07\x9b31m\x9d8;;http://evil.example\x9c\u202e{MARK}\u2066\x7f\x08"
TEXTS = {
    "terminal": ENDLESS,
    "lines": f'{MARK}\r\n{{"severity":"ERROR","message":"{MARK}"}}\n\u2028{{"message":"run.finished"}}\x85\x0b\x0c{MARK}',
    "path": f"../../../../tmp/{MARK}/\x00/..\\..\\{MARK}.jsonl",
    "url": f"https://evil.example/{MARK}?a=1#@datadoghq.com/{MARK}",
    "header": f"{MARK}\r\nDD-API-KEY: {MARK}\r\n\r\nGET /{MARK} HTTP/1.1",
    "query": f'" OR * OR {MARK}:("',
    "sql": f"x'); DROP TABLE evalforge_raw_traces; --{MARK}",
    "markup": f"[bold red]{MARK}[/] [link=https://evil.example]{MARK}[/link] <script>{MARK}</script> {{{{7*7}}}} :boom:",
    "reserved": f"__{MARK}__",
}
FIXED_PATHS = {
    "/api/v2/llm-obs/v1/spans/events/search",
    "/api/v2/spans/events/search",
    "/api/v2/validate_keys",
}


def span_full_of(text: str, number: int) -> dict[str, Any]:
    """A failing span that says `text` wherever a person, a tool, a model, a developer or a sender can say something."""
    start_ns = int((datetime.now(UTC) - timedelta(hours=1)).timestamp() * 1e9) + number
    message = {"role": text, "content": text, "tool_calls": [{"name": text, "arguments": {text: text}}]}
    return {
        "span_id": str(10**12 + number),
        "trace_id": f"{start_ns // 10**9:08x}{number:024x}",
        "parent_id": text,
        "name": text,
        "ml_app": text,
        "service": text,
        "span_kind": text,
        "status": "error",
        "start_ns": start_ns,
        "duration": 1_000_000.0,
        "tags": [f"{text}:{text}", f"env:{text}", f"service:{text}", f"user.id:{text}"],
        "metadata": {text: text, "env": text, "note": text, "user.id": f"u-{number}", "model_name": text},
        "metrics": {text: 1},
        "evaluation": {
            text: {"value": text, "assessment": "fail", "reasoning": text},
            "faithfulness": {"value": 0.1, "assessment": "fail", "reasoning": text},
        },
        "error": {"type": text, "message": text, "stack": text},
        "input": {"value": text, "messages": [message]},
        "output": {"value": text, "messages": [message]},
        text: text,
    }


def items() -> list[Any]:
    found: list[Any] = []
    for number, text in enumerate(TEXTS.values()):
        span = span_full_of(text, number)
        found += [
            {"id": text, "type": text, "attributes": span},
            {"id": text, "attributes": span | {"trace_id": f"{number}{text}", "span_id": f"{number}{text}"}},
            {"id": text, "attributes": {"span_id": text, "name": text, text: [text]}},
            {text: text},
        ]
    return found


class Datadog:
    """A server whose search gives the hostile items page by page, under hostile cursors, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        served = items()
        pages = [served[at : at + 9] for at in range(0, len(served), 9)]
        told = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["data"]["attributes"]
                cursor = asked["page"].get("cursor")
                at = int(cursor.rpartition("#")[2]) if cursor else 0
                after = {"after": f"{TEXTS['header']}{TEXTS['path']}#{at + 1}"} if at + 1 < len(pages) else {}
                links = {"next": f"https://evil.example/{MARK}?{TEXTS['header']}"}
                meta = {"page": after, "status": "done", "warnings": [{"code": ENDLESS, "title": ENDLESS}]}
                self.answer({"data": pages[at], "meta": meta, "links": links})

            def do_GET(self) -> None:
                self.answer({"valid": True})

            def answer(self, document: Any) -> None:
                told.asked.append((self.path, str(self.headers)))
                content = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("X-RateLimit-Name", f"{MARK}\x1b[2J")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Silence."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def datadog() -> Iterator[Datadog]:
    made = Datadog()
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def environment(datadog: Datadog, tmp_path: Path) -> dict[str, str]:
    """Every text that can be kept is kept as it came: the worst that may be shown."""
    return PLAIN | {
        "DATADOG_API_URL": datadog.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}",
        "DATADOG_SOURCES": "llm_obs",
        "PII_SALT": SALT,
        "PII_TEXT_ALLOWLIST": "input,output,metadata.note",
        "PII_TEXT_OPEN": "input,output,metadata.note",
        "EXPORT_DESTINATIONS": f"evals={tmp_path / 'evals'}",
        "LOG_FORMAT": "json",
        "NO_PROXY": "*",
    }  # fmt: skip


def is_inert(shown: str) -> bool:
    """Whether a terminal can only show it: no control character but the line feed, nothing that turns text around."""
    return all(one.isprintable() or one in "\n\u00a0" for one in shown)


def without_our_own_colours(shown: str) -> str:
    """What a terminal was sent, without what sets colours, moves within the progress line, and links to Datadog."""
    shown = re.sub(r"\x1b\]8;[^;\x07\x1b]*;(?:https://[a-z.]*datadoghq\.com/[!-~]*)?\x1b\\", "", shown)
    return re.sub(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]?[AKJ])", "", shown).replace("\r", "")


@pytest.mark.long
def test_hostile_text_is_only_ever_text(environment: dict[str, str], datadog: Datadog, tmp_path: Path) -> None:
    told = Told()
    report = told.json(environment, "ingest")
    assert report["captures"]["created"] >= 2 * len(TEXTS)
    assert report["items"]["rejected"] >= len(TEXTS)
    trace_ids = sorted(held(environment))
    told.run(environment, "captures", "list", "--limit", "1000")
    for trace_id in trace_ids[:3]:
        told.run(environment, "captures", "show", trace_id)
    told.run(environment, "export", "--out", "-")
    told.run(environment, "audit")
    assert r"\u001b]52;c;aGk=\u0007" in told.everything  # it is there, spelled out
    assert is_inert(told.everything)

    for arguments in (("ingest",), ("captures", "show", trace_ids[0])):
        _, shown = on_a_terminal(environment, *arguments)
        assert is_inert(without_our_own_colours(shown)), arguments

    with Service(tmp_path / "log", environment) as service:
        assert service.http.post("/ingestion/run-once", json={}).status_code == 200
        for name in ("jsonl", "promptfoo"):
            asked = {"destination": "evals", "format": name, "per_group": 3, "test_share": 0.5}
            assert service.http.post("/exports", json=asked).status_code == 201
        pages_of_exports = service.http.get("/exports").text
        assert service.http.get(f"/{MARK}%1b%5b2J%0d%0aforged%c2%9b%e2%80%a8").status_code == 404
        pages = service.http.get("/health").text
        log = service.log
    assert is_inert(log + pages + pages_of_exports)
    declared = {event.name for event in EVENTS} | {"library.warned"}
    assert {json.loads(line)["message"] for line in log.splitlines()} <= declared
    assert len(log.splitlines()) == len(log.split("\n")) - 1

    # Nothing that it says names anything.
    assert {path for path, _ in datadog.asked} <= FIXED_PATHS
    assert not any(MARK in headers for _, headers in datadog.asked)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.parents[1].name == "evals" for path in files) > 2
    assert not any(MARK in str(path.relative_to(tmp_path)) for path in files)
    assert not list(Path("/tmp").glob(f"*{MARK}*"))
    # And no secret is anywhere but in the headers of the requests.
    assert all("hunter2-api-key" in headers for _, headers in datadog.asked)
    written = told.everything + log + pages + "".join(path.read_bytes().decode("latin-1") for path in files)
    assert "hunter2" not in written
    assert SALT not in written
    for document in asyncio.run(stored(environment)):
        for key in (document["key"], document.get("datadog_url"), document.get("span_url")):
            assert MARK not in unquote(str(key)), key
        if document.get("datadog_url"):
            assert re.fullmatch(r"https://app\.datadoghq\.com/llm/traces\?query=trace_id:[0-9a-f]+", document["datadog_url"])
    with closing(sqlite3.connect(tmp_path / "captures.sqlite3")) as other:
        names = {name for (name,) in other.execute("SELECT name FROM sqlite_master")}
    assert "evalforge_raw_traces" in names
    assert all(name.startswith(("evalforge_", "sqlite_")) and MARK not in name for name in names)


async def stored(environment: dict[str, str]) -> list[dict[str, Any]]:
    """Every document of every collection, each with its key."""
    async with bootstrap.opened_store(settings_of(environment)) as store:
        return [dict(one.document) | {"key": one.key} for name in COLLECTIONS async for one in store.documents(name)]
