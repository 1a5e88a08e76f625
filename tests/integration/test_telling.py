"""Runs as processes of their own tell a real receiver of groups: the sandbox, a SQLite file, and what was heard."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.window import epoch_ms
from evalforge.sandbox.server import BackgroundServer
from tests.integration.commands import PLAIN, evalforge
from tests.integration.test_datadog_reading import llm_obs
from tests.webhooks import OK, Answer, Receiver, answer

KEY = bytes(range(1, 33))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BASE = "https://evalforge.example.com"
APP = "Zebra assistant"
MINUTE_MS = 60_000


@dataclass
class World:
    """A sandbox, a store and a receiver, and the settings that lead to them."""

    server: BackgroundServer
    receiver: Receiver
    environment: dict[str, str]

    def fails(self, number: int, *, minutes_ago: float, name: str = "handle_ticket") -> None:
        """Puts a failing span into the sandbox, in a trace of its own."""
        start_ms = epoch_ms(datetime.now(UTC)) - round(minutes_ago * MINUTE_MS)
        self.server.sandbox.store.add_llm_obs([llm_obs(number, start_ms, name=name, ml_app=APP, status="error")])

    def ingest(self, *options: str) -> dict[str, Any]:
        """The report of one run."""
        report: dict[str, Any] = json.loads(evalforge(self.environment, "ingest", "--json", *options).stdout)
        return report

    @property
    def told(self) -> list[dict[str, Any]]:
        """Every event that came with a good signature, whatever was answered."""
        events = []
        for heard in self.receiver.heard:
            signed = f"{heard.headers['webhook-id']}.{heard.headers['webhook-timestamp']}.".encode() + heard.body
            expected = "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()
            assert hmac.compare_digest(expected, heard.headers["webhook-signature"])
            event = json.loads(heard.body)
            assert event["id"] == heard.headers["webhook-id"]
            events.append(event)
        return events


@contextmanager
def world(folder: Path, *answers: Answer) -> Iterator[World]:
    receiver = Receiver(*answers)
    with BackgroundServer() as server:
        environment = PLAIN | {
            "DATADOG_API_URL": server.url,
            "DATADOG_API_KEY": "hunter2-api-key",
            "DATADOG_APP_KEY": "hunter2-app-key",
            "CAPTURE_STORE": f"sqlite:///{folder}/c.sqlite3",
            "DATADOG_SOURCES": "llm_obs",
            "DATADOG_FILTER": "scan",
            "REVIEW_WEBHOOK_URL": receiver.url(path="/hook/hunter2?token=hunter2"),
            "REVIEW_WEBHOOK_SECRET": SECRET,
            "REVIEW_BASE_URL": BASE,
        }
        yield World(server, receiver, environment)
    receiver.close()


def signature_of(one: World) -> str:
    signature: str = json.loads(evalforge(one.environment, "captures", "list", "--json").stdout.splitlines()[0])["signature"]
    return signature


def test_each_group_is_told_once_when_it_is_new_and_once_when_it_has_regressed(tmp_path: Path) -> None:
    with world(tmp_path) as one:
        one.fails(1, minutes_ago=90)
        one.fails(2, minutes_ago=80)
        assert one.ingest()["telling"] == {"told": 1, "untold": 0}
        [event] = one.told
        signature = signature_of(one)
        assert (event["type"], event["group"]["signature"]) == ("group.first_seen", signature)
        assert (event["group"]["count"], event["group"]["ml_app"]) == (2, APP)
        assert event["group"]["title"].startswith(f"execution error in {APP}")
        assert event["link"] == f"{BASE}/review/groups/{signature}"
        assert one.receiver.heard[0].line == "POST /hook/hunter2?token=hunter2 HTTP/1.1"
        assert one.ingest()["telling"] == {"told": 0, "untold": 0}
        evalforge(one.environment, "groups", "set", signature, "--state", "resolved")
        assert one.ingest()["telling"] == {"told": 0, "untold": 0}
        one.fails(3, minutes_ago=0)
        one.fails(4, minutes_ago=70, name="another_step")
        assert one.ingest()["telling"] == {"told": 2, "untold": 0}
        assert sorted(event["type"] for event in one.told[1:]) == ["group.first_seen", "group.regressed"]
        assert one.ingest()["telling"] == {"told": 0, "untold": 0}
        assert len({event["id"] for event in one.told}) == 3


def test_a_webhook_that_is_down_costs_a_warning_and_is_told_by_the_next_run(tmp_path: Path) -> None:
    with world(tmp_path, answer(503, "Retry-After: 3600"), OK) as one:
        one.fails(1, minutes_ago=90)
        done = evalforge(one.environment, "ingest", "--json")
        report = json.loads(done.stdout)
        assert report["complete"] is True
        assert report["telling"] == {"told": 0, "untold": 1}
        assert any("HTTP 503" in warning for warning in report["warnings"])
        assert '"telling.failed"' in done.stderr
        assert one.ingest()["telling"] == {"told": 1, "untold": 0}
        first, second = one.told
        assert first["id"] == second["id"]


@pytest.mark.long
def test_a_webhook_that_may_not_be_called_fails_no_run(tmp_path: Path) -> None:
    with world(tmp_path) as one:
        one.environment["REVIEW_WEBHOOK_URL"] = f"https://127.0.0.1.nip.invalid:{one.receiver.port}/hunter2"
        one.fails(1, minutes_ago=90)
        report = one.ingest()
        assert report["complete"] is True
        assert report["telling"] == {"told": 0, "untold": 1}
        assert one.receiver.connection_count == 0


def test_a_redirecting_webhook_is_not_followed(tmp_path: Path) -> None:
    target = Receiver()
    with world(tmp_path, answer(307, f"Location: {target.url()}")) as one:
        one.fails(1, minutes_ago=90)
        assert one.ingest()["telling"] == {"told": 0, "untold": 1}
    assert target.connection_count == 0
    target.close()


def test_a_dry_run_tells_nobody(tmp_path: Path) -> None:
    with world(tmp_path) as one:
        one.fails(1, minutes_ago=90)
        assert one.ingest("--dry-run")["telling"] is None
        assert one.receiver.connection_count == 0


@pytest.mark.parametrize("missing", ["REVIEW_WEBHOOK_URL", "REVIEW_WEBHOOK_SECRET"])
def test_half_a_webhook_is_refused_before_anything_is_read(tmp_path: Path, missing: str) -> None:
    with world(tmp_path) as one:
        del one.environment[missing]
        assert missing in evalforge(one.environment, "ingest", code=2).stderr
        assert one.receiver.connection_count == 0


def test_check_shows_that_there_is_a_webhook_and_neither_url_nor_secret(tmp_path: Path) -> None:
    with world(tmp_path) as one:
        shown = json.loads(evalforge(one.environment, "check", "--json").stdout)["settings"]
        assert (shown["REVIEW_WEBHOOK_URL"], shown["REVIEW_WEBHOOK_SECRET"]) == ("set", "set")
        assert shown["REVIEW_BASE_URL"] == BASE
