"""Dead letters through the sandbox and the command line: listed, replayed by span id, purged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge import bootstrap
from evalforge.cli import main
from evalforge.config import Settings
from evalforge.core.ports import DeadLetter, Selection
from evalforge.sandbox.server import BackgroundServer
from tests.integration.test_datadog_enrichment import failing, twin


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer() as server:
        yield server


@pytest.fixture
def settings(sandbox: BackgroundServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    environment = {
        "DATADOG_API_KEY": "api",
        "DATADOG_APP_KEY": "app",
        "DATADOG_API_URL": sandbox.url,
        "PII_SALT": "a-salt-of-more-than-thirty-two-bytes!",
        "CAPTURE_STORE": f"sqlite:///{tmp_path / 'captures.sqlite3'}",
        "RETRY_BUDGET_S": "1",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment(environment)


def letter(number: int, **fields: Any) -> DeadLetter:
    now = bootstrap.utc_now()
    about: dict[str, Any] = {"source": "llm_obs", "stage": "parse", "reason": "bad_time", "structure": {}} | fields
    about = {"span_id": failing(number)["span_id"], "occurred_at": now, "expires_at": now + timedelta(days=30)} | about
    return DeadLetter(f"letter{number:03}", **about)


def printed(capfd: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    capfd.readouterr()
    assert main(["dead-letters", *arguments, "--json"]) == code
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


async def keep(settings: Settings, *letters: DeadLetter) -> None:
    async with bootstrap.opened_store(settings) as store:
        await store.keep(letters)


async def test_replay_asks_each_source_by_span_id(sandbox: BackgroundServer, settings: Settings) -> None:
    from evalforge.dead_letters import Filter, Replay

    sandbox.sandbox.store.add_llm_obs([failing(1), failing(2, status="ok")])
    sandbox.sandbox.store.add_apm([twin(3)])
    odd = letter(5, span_id="s_0123456789abcdef")
    await keep(settings, letter(1), letter(2), letter(3, source="apm"), letter(4), odd)
    done = await bootstrap.replay_once(settings, Filter(), Replay(), holder="test")
    assert done.outcomes == {
        "letter001": "resolved",
        "letter002": "resolved",
        "letter003": "resolved",
        "letter004": "not_found",
        "letter005": "not_askable",
    }
    assert done.request_count == 2
    async with bootstrap.opened_store(settings) as store:
        traces = [one.capture.trace_id async for one in store.select(Selection(), now=bootstrap.utc_now())]
        assert failing(1)["trace_id"] in traces
        assert await store.dead_letter_count(now=bootstrap.utc_now()) == 2


def test_the_commands(settings: Settings, capfd: pytest.CaptureFixture[str]) -> None:
    import asyncio

    asyncio.run(keep(settings, letter(1), letter(2, reason="other", source="apm"), letter(3, stage="store")))
    listed = printed(capfd, "list", "--limit", "2")
    assert (listed["total"], listed["by_reason"], len(listed["letters"])) == (3, {"bad_time": 2, "other": 1}, 2)
    assert printed(capfd, "list", "--stage", "store")["total"] == 1
    assert printed(capfd, "list", "--until", "1h")["total"] == 0
    assert main(["dead-letters", "list"]) == 0
    table = capfd.readouterr().out
    assert "3 dead letters" in table
    assert max(map(len, table.splitlines())) <= 80
    assert printed(capfd, "replay")["outcomes"]["not_found"] == 3
    assert main(["dead-letters", "purge"]) == 2, "nobody can be asked"
    assert main(["dead-letters", "list", "--since", "soon"]) == 2
    assert printed(capfd, "purge", "--yes", "--reason", "other") == {"deleted": 1}
    assert printed(capfd, "purge", "--yes") == {"deleted": 2}
