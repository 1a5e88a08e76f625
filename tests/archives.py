"""Archives for tests: what a local Datadog's searches give, as NDJSON in files, and stored captures to compare."""

from __future__ import annotations

import gzip
import random
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import zstandard

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.canonical import canonical_json
from evalforge.core.ports import SourceStatus
from evalforge.core.window import Window
from evalforge.sandbox.server import BackgroundServer
from evalforge.sources.datadog.client import DatadogClient
from evalforge.sources.datadog.paging import PageSize, Pagination

SALT = "0nly-f0r-tests-kZ8vQ2mX7pL4wR9tB6nJ3hG5"
OF_THE_TIME = frozenset({"fetched_at", "expires_at", "updated_at"})
"""Fields that tell when something was fetched or written."""


def settings_of(**environment: str) -> Settings:
    """Settings with a salt and these."""
    return Settings.from_environment({"PII_SALT": SALT, "DATADOG_API_KEY": "api", "DATADOG_APP_KEY": "app"} | environment)


async def items_in(sandbox: BackgroundServer) -> list[Any]:
    """All items of both searches, as they come."""
    now = bootstrap.utc_now()
    window = Window.last_hours(26, now + timedelta(minutes=1))
    client = DatadogClient(sandbox.url, "api", "app", retry_budget_s=10)
    items: list[Any] = []
    try:
        for source, query in (("llm_obs", ""), ("apm", "(@llmobs_trace_id:*)")):
            size = PageSize(1_000)
            pagination = Pagination(client, source, query, window, size=size, status=SourceStatus(source))
            while (part := await pagination.next()) is not None:
                items += part.items
    finally:
        await client.close()
    return items


def written(folder: Path, items: Sequence[Any], *, seed: int = 1) -> Path:
    """A folder with these items in any order: plain, gzip and zstd, a span a line, bare attributes, pages a line."""
    mixed = list(items)
    random.Random(seed).shuffle(mixed)
    third = len(mixed) // 3
    (folder / "deep").mkdir(parents=True, exist_ok=True)
    plain = [orjson.dumps(item) for item in mixed[:third]]
    bare = [orjson.dumps(item["attributes"]) for item in mixed[third : 2 * third]]
    pages = [orjson.dumps({"data": mixed[at : at + 40], "meta": {"page": {}}}) for at in range(2 * third, len(mixed), 40)]
    (folder / "a.ndjson").write_bytes(b"\n".join(plain))
    # In two members, as appending to a gzip file makes them.
    half = len(bare) // 2
    packed = [gzip.compress(b"\n".join(part) + b"\n") for part in (bare[:half], bare[half:])]
    (folder / "deep" / "b.jsonl.gz").write_bytes(b"".join(packed))
    (folder / "c.json.zst").write_bytes(zstandard.compress(b"\r\n".join(pages)))
    (folder / "notes.txt").write_bytes(b"not read")
    return folder


async def documents_in(settings: Settings) -> dict[str, bytes]:
    """Every stored capture by its key, as bytes, without what tells of times of fetching."""
    async with bootstrap.opened_store(settings) as store:
        return {one.key: _timeless(one.document) async for one in store.documents("raw_traces")}


async def letters_in(settings: Settings) -> dict[str, bytes]:
    """Every dead letter by its id, likewise."""
    async with bootstrap.opened_store(settings) as store:
        found = [one async for one in store.dead_letters(now=bootstrap.utc_now())]
    return {one.id: canonical_json([one.source, one.stage, one.reason, one.structure, one.trace_id]) for one in found}


def _timeless(document: Mapping[str, Any]) -> bytes:
    return canonical_json({name: value for name, value in document.items() if name not in OF_THE_TIME})
