"""Thresholds of single applications, from the environment to the stored signal, through the query too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.window import epoch_ms
from evalforge.sandbox.server import BackgroundServer
from tests.integration.commands import PLAIN, evalforge
from tests.integration.test_datadog_reading import llm_obs


@pytest.mark.parametrize("mode", ["query", "scan"])
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ([], {"shop": 0.7, "other": 0.5}),
        (["--quality-threshold", "0.2"], {"shop": 0.7}),
    ],
)
def test_each_application_is_judged_by_its_own_threshold(
    tmp_path: Path, mode: str, options: list[str], wanted: dict[str, float]
) -> None:
    now_ms = epoch_ms(datetime.now(UTC))
    with BackgroundServer() as server:
        scores = [("Shop", 0.6), ("chat", 0.4), ("other", 0.4), ("other", 0.6)]
        for number, (app, score) in enumerate(scores):
            more: dict[str, Any] = {"ml_app": app, "metadata": {"quality_score": score}}
            server.sandbox.store.add_llm_obs([llm_obs(number, now_ms - 60_000, **more)])
        environment = PLAIN | {
            "DATADOG_API_URL": server.url,
            "DATADOG_API_KEY": "hunter2-api-key",
            "DATADOG_APP_KEY": "hunter2-app-key",
            "CAPTURE_STORE": f"sqlite:///{tmp_path}/c.sqlite3",
            "DATADOG_SOURCES": "llm_obs",
            "DATADOG_FILTER": mode,
            "APPLICATION_THRESHOLDS": "shop=quality:0.7,chat=quality:0.3",
        }
        evalforge(environment, "ingest", *options)
        lines = evalforge(environment, "captures", "list", "--json").stdout.splitlines()
        captures = [json.loads(line) for line in lines]
        checked = json.loads(evalforge(environment, "check", "--json").stdout)
    assert {one["ml_app"].lower(): one["signals"][0]["threshold"] for one in captures} == wanted
    assert len(captures) == len(wanted)
    assert checked["settings"]["APPLICATION_THRESHOLDS"] == "shop=quality:0.7,chat=quality:0.3"
