"""Datadog's own client paginates the same spans and throws them away."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from datadog_api_client import ApiClient, configuration
from datadog_api_client.v2.api import agent_observability_api
from datadog_api_client.v2.models import LLMObsSearchSpansRequest as UntypedRequest

from bench.cases.case import Case, search_body, window_ms
from bench.cases.floor import PAGE_SPANS

# The client is typed in part: its annotations refuse the dictionaries that its documentation shows.
Configuration: Any = configuration.Configuration
Api: Any = agent_observability_api.AgentObservabilityApi
Request: Any = UntypedRequest


def prepared(case: Case) -> Callable[[], dict[str, Any]]:
    """Reads the whole window in mode scan, else the failing spans only."""
    warnings.simplefilter("ignore")  # the operation is marked unstable
    query = None if case.mode == "scan" else "@status:error"
    configured = Configuration(host=case.url, api_key={"apiKeyAuth": "bench", "appKeyAuth": "bench"})
    configured.unstable_operations["search_llm_obs_spans"] = True

    def read() -> dict[str, Any]:
        spans, requests, cursor, window = 0, 0, None, window_ms()
        with ApiClient(configured) as client:
            while True:
                body = search_body(query, window, PAGE_SPANS, cursor)["data"]
                page = Api(client).search_llm_obs_spans(body=Request(data=body))
                spans += len(page.data)
                requests += 1
                if not page.meta.page:
                    return {"spans": spans, "requests": requests}
                cursor = page.meta.page.after

    return read
