"""The floor that nobody can beat with one cursor: httpx and orjson read every page and throw it away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import orjson

from bench.cases.case import Case, search_body, window_ms

PAGE_SPANS = 2_000
"""A page of 8 MB at 4 kB each, as our own client settles on."""

_SEARCH = "/api/v2/llm-obs/v1/spans/events/search"


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """Reads the whole window in mode scan, else the failing spans only."""
    query = None if case.mode == "scan" else "@status:error"

    def read() -> dict[str, Any]:
        spans, requests, cursor, window = 0, 0, None, window_ms()
        with httpx.Client(timeout=60, base_url=case.url, trust_env=False) as client:
            while True:
                body = search_body(query, window, PAGE_SPANS, cursor)
                page = orjson.loads(client.post(_SEARCH, content=orjson.dumps(body)).content)
                spans += len(page["data"])
                requests += 1
                if not page["meta"]["page"]:
                    return {"spans": spans, "requests": requests}
                cursor = page["meta"]["page"]["after"]

    return read
