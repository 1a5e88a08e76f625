"""One run of the pipeline, as the command line and the service start it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from bench.cases.case import Case
from bench.spans import EVALUATORS
from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.garbage import collect_seldom


def settings_of(case: Case, **others: str) -> Settings:
    """The settings of a run of this case."""
    environment = {
        "DATADOG_API_KEY": "bench",
        "DATADOG_APP_KEY": "bench",
        "DATADOG_API_URL": case.url,
        "DATADOG_SOURCES": "llm_obs",
        "DATADOG_FILTER": case.mode,
        "EVALUATIONS": ",".join(EVALUATORS),
        "CAPTURE_STORE": case.store,
        "PII_SALT": "bench-0nly-kZ8vQ2mX7pL4wR9tB6nJ3hG5yT",
    }
    if case.emulator:
        environment |= {"FIRESTORE_EMULATOR_HOST": case.emulator, "GOOGLE_CLOUD_PROJECT": case.project}
    return Settings.from_environment({**environment, **others})


async def ingest(settings: Settings) -> dict[str, Any]:
    """What one run counted."""
    report = await bootstrap.ingest_once(settings, holder="bench")
    if report.error is not None:
        raise RuntimeError(report.error)
    document = report.document()
    captures = document["captures"]
    return {
        "spans": report.tally.fetched,
        "failing": report.tally.failing,
        "requests": document["request_count"],
        **{name: captures[name] for name in ("created", "updated", "unchanged")},
    }


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """Runs with the store's libraries imported."""
    if case.emulator:
        import evalforge.stores.firestore  # noqa: F401 - so that its import is not timed
    collect_seldom()  # as the command line and the service begin
    settings = settings_of(case)
    return lambda: asyncio.run(ingest(settings))
