"""Keys that are refused: read anew from a local Secret Manager once, against the sandbox, and shown nowhere."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import structlog

from evalforge import bootstrap, credentials
from evalforge.config import Settings
from evalforge.config.values import Secret
from evalforge.core.ports import SourceStatus
from evalforge.credentials import datadog_keys_may_change, resolve_datadog_keys
from evalforge.errors import SourceRefusedError
from evalforge.events import configure_logging
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog.client import KEYS_RENEWED, DatadogClient, SearchRequest
from tests.secret_manager import SecretManagerServer

OLD_API, OLD_APP = "0f3c9a7d5e1b48626a0d7c4e9b3f8152", "oldapp9a7d5e1b48626a0d7c4e9b3f8152aaaaaa"
NEW_API, NEW_APP = "77e1b48626a0d7c4e9b3f81520f3c9a7", "newapp9a7d5e1b48626a0d7c4e9b3f8152bbbbbb"
API, APP = "projects/p/secrets/api/versions/latest", "projects/p/secrets/app/versions/latest"


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(accepted_keys={OLD_API, OLD_APP}, max_response_bytes=20_000)) as server:
        yield server


@pytest.fixture
def manager() -> Iterator[SecretManagerServer]:
    with SecretManagerServer({API: OLD_API.encode(), APP: OLD_APP.encode()}) as server:
        yield server


@pytest.fixture
def settings(sandbox: BackgroundServer, manager: SecretManagerServer, tmp_path: Path) -> Settings:
    return Settings(
        datadog_api_url=sandbox.url,
        datadog_api_key=Secret(API),
        datadog_app_key=Secret(APP),
        datadog_sources=("llm_obs",),
        datadog_filter="scan",
        secret_manager_endpoint=manager.endpoint,
        capture_store=f"sqlite:///{tmp_path / 'captures.sqlite3'}",
        retry_budget_s=0.0,
    )


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, all of it, while the test runs."""
    root, own, stream = logging.getLogger(), logging.getLogger("evalforge"), io.StringIO()
    handlers, level, own_level = root.handlers[:], root.level, own.level
    configure_logging("json", stream=stream, level="DEBUG")
    root.setLevel(logging.DEBUG)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    own.setLevel(own_level)
    structlog.reset_defaults()


def revoke(sandbox: BackgroundServer) -> None:
    sandbox.sandbox.accepted_keys = {NEW_API, NEW_APP}


def rotate(sandbox: BackgroundServer, manager: SecretManagerServer) -> None:
    revoke(sandbox)
    manager.answers.update({API: NEW_API.encode(), APP: NEW_APP.encode()})


def search(source: str = "llm_obs") -> SearchRequest:
    return SearchRequest(source, "", "now-15m", "now", limit=1)


@asynccontextmanager
async def opened(settings: Settings, manager: SecretManagerServer) -> AsyncIterator[DatadogClient]:
    """A client as every command opens it; what Secret Manager was asked for till then is forgotten."""
    keys = await resolve_datadog_keys(settings)
    manager.asked.clear()
    async with bootstrap.opened_client(settings, keys) as client:
        yield client


def shown(error: BaseException | None) -> str:
    said = []
    while error is not None:
        said.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    return "\n".join(said)


def is_silent(text: str) -> bool:
    return not any(key in text for key in (OLD_API, OLD_APP, NEW_API, NEW_APP))


async def test_a_run_goes_on_with_rotated_keys(
    settings: Settings,
    sandbox: BackgroundServer,
    manager: SecretManagerServer,
    log: io.StringIO,
    tmp_path: Path,
) -> None:
    start_ns = int((datetime.now(UTC).timestamp() - 3600) * 1e9)
    sandbox.sandbox.store.add_llm_obs(
        [
            {"trace_id": f"{n + 1:032x}", "span_id": str(n + 1), "name": "n", "span_kind": "llm", "status": "error"}
            | {"parent_id": "undefined", "start_ns": start_ns + n * 1_000_000, "duration": 5}
            for n in range(400)
        ]
    )
    pages = 0

    def heard(_progress: object) -> None:
        nonlocal pages
        pages += 1
        if pages == 2:
            rotate(sandbox, manager)

    report = await bootstrap.ingest_once(settings, holder="test", on_page=heard)
    assert report.complete
    assert report.tally.created == 400
    assert pages > 2
    assert report.warnings == [f"llm_obs: {KEYS_RENEWED}"]
    assert sorted(manager.asked) == sorted([API, APP] * 2), "once before the run, once when the keys were refused"
    assert [one.status for one in sandbox.sandbox.requests].count(403) == 1
    assert KEYS_RENEWED in log.getvalue()
    everything = json.dumps(report.document()) + log.getvalue()
    everything += (tmp_path / "captures.sqlite3").read_bytes().decode("latin-1")
    assert is_silent(everything)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("has_succeeded", [True, False])
async def test_either_refusal_is_asked_again_with_what_stands_there_now(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer, status: int, has_succeeded: bool
) -> None:
    told = SourceStatus("llm_obs")
    async with opened(settings, manager) as client:
        if has_succeeded:
            await client.search(search(), told)
        sandbox.sandbox.accepted_keys = None
        sandbox.sandbox.trouble.faults = [Fault("status", status=status)]
        manager.answers[API] = NEW_API.encode()
        await client.search(search(), told)
        await client.search(search(), told)
    assert (told.request_count, told.retry_count) == (3 + has_succeeded, 1)
    assert sorted(manager.asked) == [API, APP]


@pytest.mark.parametrize("has_succeeded", [True, False])
async def test_keys_that_have_not_changed_stay_refused(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer, has_succeeded: bool
) -> None:
    async with opened(settings, manager) as client:
        if has_succeeded:
            await client.search(search(), SourceStatus("llm_obs"))
        revoke(sandbox)
        for _ in range(3):
            with pytest.raises(SourceRefusedError, match="DATADOG_SITE") as raised:
                await client.search(search(), SourceStatus("llm_obs"))
    assert raised.value.status == 403
    assert sorted(manager.asked) == [API, APP], "reading them again would find the same"


@pytest.mark.parametrize(
    ("api_key", "may_change"),
    [
        (OLD_API, False),
        ("projects/p/secrets/api/versions/3", False),
        ("projects/p/secrets/api/versions/prod", True),
        (API, True),
    ],
)
async def test_only_what_can_change_is_read_again(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer, api_key: str, may_change: bool
) -> None:
    manager.answers[api_key] = OLD_API.encode()
    settings = replace(settings, datadog_api_key=Secret(api_key), datadog_app_key=Secret(OLD_APP))
    assert datadog_keys_may_change(settings) is may_change
    async with opened(settings, manager) as client:
        revoke(sandbox)
        with pytest.raises(SourceRefusedError):
            await client.search(search(), SourceStatus("llm_obs"))
    assert manager.asked == ([api_key] if may_change else [])


async def test_all_requests_that_are_refused_together_read_the_keys_once(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer
) -> None:
    told = SourceStatus("llm_obs")
    async with opened(settings, manager) as client:
        await client.search(search(), told)
        rotate(sandbox, manager)
        await asyncio.gather(*(client.search(search(source), told) for source in ("llm_obs", "apm") * 10))
    assert sorted(manager.asked) == [API, APP]
    assert told.warnings == [KEYS_RENEWED]


async def test_a_search_that_is_forbidden_does_not_use_up_the_reading_of_another(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer
) -> None:
    sandbox.sandbox.permissions = frozenset({"llm_observability_read"})
    async with opened(settings, manager) as client:
        for _ in range(3):
            with pytest.raises(SourceRefusedError):
                await client.search(search("apm"), SourceStatus("apm"))
        assert len(manager.asked) == 2
        await client.search(search(), SourceStatus("llm_obs"))
        with pytest.raises(SourceRefusedError):
            await client.search(search("apm"), SourceStatus("apm"))
        assert len(manager.asked) == 2
        rotate(sandbox, manager)
        await client.search(search(), SourceStatus("llm_obs"))
        assert len(manager.asked) == 4


async def test_keys_may_be_rotated_more_than_once(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer
) -> None:
    async with opened(settings, manager) as client:
        await client.search(search(), SourceStatus("llm_obs"))
        for number in range(3):
            keys = [f"{number}" * 32, f"{number}" * 40]
            sandbox.sandbox.accepted_keys = set(keys)
            manager.answers.update({API: keys[0].encode(), APP: keys[1].encode()})
            await client.search(search(), SourceStatus("llm_obs"))


async def test_new_keys_that_are_refused_too_are_no_endless_loop(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer
) -> None:
    told = SourceStatus("llm_obs")
    async with opened(settings, manager) as client:
        rotate(sandbox, manager)
        sandbox.sandbox.accepted_keys = set()
        with pytest.raises(SourceRefusedError) as raised:
            await client.search(search(), told)
    assert told.request_count == 2
    assert len(manager.asked) == 2
    assert is_silent(shown(raised.value))


UNREADABLE = [
    (grpc.StatusCode.UNAVAILABLE, "not reachable"),
    (grpc.StatusCode.PERMISSION_DENIED, "access to"),
    (f"{NEW_API} {NEW_API}".encode(), "cannot be a key"),
    (f"{NEW_API}\x00".encode(), "no printable ASCII text"),
]


@pytest.mark.parametrize(("answer", "words"), UNREADABLE, ids=lambda value: str(value)[:20])
async def test_keys_that_cannot_be_read_anew_are_said_so(
    settings: Settings,
    sandbox: BackgroundServer,
    manager: SecretManagerServer,
    answer: bytes | grpc.StatusCode,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with opened(settings, manager) as client:
        revoke(sandbox)
        manager.answers[API] = answer
        with pytest.raises(SourceRefusedError, match="could not be read anew") as raised:
            await client.search(search(), SourceStatus("llm_obs"))
    assert raised.value.status == 403
    assert words in raised.value.message
    assert is_silent(shown(raised.value) + caplog.text)


async def test_a_secret_manager_that_does_not_answer_is_not_waited_for(
    settings: Settings, sandbox: BackgroundServer, manager: SecretManagerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(settings, manager) as client:
        monkeypatch.setattr(credentials, "SECRET_TIMEOUT_S", 0.2)
        revoke(sandbox)
        manager.answers[API] = manager.never
        with pytest.raises(SourceRefusedError, match="Secret Manager did not give"):
            await client.search(search(), SourceStatus("llm_obs"))
