"""The application without a server: what it says of errors that nobody foresaw, and how its parts are put together."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import threading
from collections.abc import Iterator

import httpx
import pytest
import structlog
from fastapi import FastAPI

from evalforge.config import Settings
from evalforge.errors import RunInProgressError, SettingsError
from evalforge.events import configure_logging
from evalforge.service.app import create_app, serve
from evalforge.service.problems import problem
from evalforge.service.requests import RunRequest
from evalforge.service.running import Runner, in_own_thread


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def client_of(app: FastAPI, host: str = "localhost") -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=f"http://{host}")


async def test_an_error_that_nobody_foresaw_is_a_500_that_tells_nothing_but_an_id(log: io.StringIO) -> None:
    app = create_app({})

    @app.get("/broken")
    async def broken() -> None:
        raise ValueError("what the user said")

    async with client_of(app) as http:
        answer = await http.get("/broken")
    document = answer.json()
    assert (answer.status_code, document["code"]) == (500, "unexpected_error")
    assert answer.headers["content-type"] == "application/problem+json"
    events = [json.loads(line) for line in log.getvalue().splitlines()]
    (event,) = [one for one in events if one["message"] == "request.failed"]
    assert (event["request_id"], event["route"], event["code"]) == (document["request_id"], "/broken", "ValueError")
    assert "what the user said" not in answer.text + log.getvalue()


async def test_public_hosts_are_answered_even_while_other_settings_are_wrong() -> None:
    app = create_app({"PUBLIC_HOSTS": "evalforge.example.com", "PORT": "nonsense"})
    async with client_of(app, "evalforge.example.com") as http:
        assert (await http.get("/livez")).status_code == 200
        assert (await http.get("/health")).json()["part"] == "settings"
    async with client_of(app, "other.example.com") as http:
        assert (await http.get("/livez")).status_code == 421


async def test_the_openapi_document_names_every_answer() -> None:
    paths = create_app({}).openapi()["paths"]
    run = paths["/ingestion/run-once"]["post"]
    assert {"200", "403", "409", "422", "429", "502", "503"} <= set(run["responses"])
    assert "lookback_hours" in run["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert {parameter["name"] for parameter in run["parameters"]} >= {"lookback", "qualityThreshold"}
    assert {"200", "500"} <= set(paths["/health"]["get"]["responses"])


def test_a_429_says_when_to_come_back_even_if_nobody_knows() -> None:
    assert problem(429, "quota_exhausted", "wait").headers["retry-after"] == "60"
    assert problem(429, "quota_exhausted", "wait", retry_after_s=0.2).headers["retry-after"] == "1"
    assert problem(429, "quota_exhausted", "wait", retry_after_s=41.2).headers["retry-after"] == "42"
    assert problem(503, "x", "y", retry_after_s=float("inf")).headers.get("retry-after") is None
    assert problem(503, "x", "y").headers.get("retry-after") is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_an_open_bind_is_refused(host: str, log: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve({}, host=host, port=0) == SettingsError.exit_code
    assert "HOST: got" in capsys.readouterr().err


async def test_work_goes_on_when_nobody_waits_for_it() -> None:
    gate, done = threading.Event(), threading.Event()

    async def work() -> str:
        await asyncio.to_thread(gate.wait)
        done.set()
        return "result"

    future = in_own_thread("test", work)
    waiting = asyncio.ensure_future(asyncio.wrap_future(future))
    await asyncio.sleep(0)
    waiting.cancel()
    gate.set()
    assert await asyncio.to_thread(future.result, 30) == "result"
    assert done.is_set()


async def test_one_run_at_a_time_and_the_next_after_it_ended() -> None:
    runner = Runner()
    silent = Settings(capture_store="sqlite:///:memory:")  # without keys: a run ends at once, with an error
    first = runner.start(silent, RunRequest())
    with pytest.raises(SettingsError):
        await asyncio.wrap_future(first.report)
    second = runner.start(silent, RunRequest())
    with pytest.raises(SettingsError):
        await asyncio.wrap_future(second.report)
    vars(runner)["_since"] = "2026-11-23T06:00:00.000Z"
    with pytest.raises(RunInProgressError) as caught:
        runner.start(silent, RunRequest())
    assert caught.value.since == "2026-11-23T06:00:00.000Z"
    await runner.stopped()


async def test_a_run_that_ends_without_a_report_is_logged_and_one_whose_turn_it_is_not_is_not(log: io.StringIO) -> None:
    """Whoever watches the log, as alerts do, hears of missing keys as of any other failure; a 409 is none."""
    runner = Runner()
    silent = Settings(capture_store="sqlite:///:memory:")
    with pytest.raises(SettingsError):
        await asyncio.wrap_future(runner.start(silent, RunRequest()).report)
    vars(runner)["_since"] = "2026-11-23T06:00:00.000Z"
    with pytest.raises(RunInProgressError):
        runner.start(silent, RunRequest())
    failed = [entry for entry in map(json.loads, log.getvalue().splitlines()) if entry["message"] == "run.failed"]
    assert [(entry["severity"], entry["code"]) for entry in failed] == [("ERROR", "bad_settings")]
