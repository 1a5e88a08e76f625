"""Datadog's own client reads the sandbox's answers, and meets nothing that its models do not know.

A span that is wrong for the client's model is no exception there: it silently becomes an unparsed object.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from datadog_api_client import ApiClient, configuration
from datadog_api_client.exceptions import ApiException
from datadog_api_client.model_utils import OpenApiModel, UnparsedObject
from datadog_api_client.v2.api import agent_observability_api, spans_api
from datadog_api_client.v2.model.llm_obs_search_spans_request import (
    LLMObsSearchSpansRequest as UntypedLLMObsSearchSpansRequest,
)
from datadog_api_client.v2.model.spans_list_request import SpansListRequest as UntypedSpansListRequest

from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox

pytestmark = pytest.mark.filterwarnings("ignore:Using unstable operation:UserWarning")

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
# The client is typed in part: its annotations refuse the dictionaries that its documentation shows.
Configuration: Any = configuration.Configuration
AgentObservabilityApi: Any = agent_observability_api.AgentObservabilityApi
SpansApi: Any = spans_api.SpansApi
LLMObsSearchSpansRequest: Any = UntypedLLMObsSearchSpansRequest
SpansListRequest: Any = UntypedSpansListRequest

WINDOW = {"from": "now-2d", "to": "now"}


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    """A sandbox with the samples, and with what a real application sent: in a trace, alone, and evaluated."""
    with BackgroundServer(Sandbox(now=NOW.timestamp), samples=True, end=NOW) as running:
        intake = [
            ("/v0.4/traces", (RECORDED / "v04_traces_sample.msgpack").read_bytes()),
            ("/api/v2/llmobs", _body("llmobs_spans_intake")),
            ("/api/intake/llm-obs/v2/eval-metric", _body("llmobs_eval_metric_intake")),
        ]
        for path, body in intake:
            httpx.post(running.url + path, content=body).raise_for_status()
        yield running


def _body(recording: str) -> bytes:
    return orjson.dumps(orjson.loads((RECORDED / f"{recording}.json").read_bytes())["body"])


@pytest.fixture(scope="module")
def client(server: BackgroundServer) -> Iterator[ApiClient]:
    configured = Configuration(host=server.url, api_key={"apiKeyAuth": "any", "appKeyAuth": "any"})
    for operation in ("search_llm_obs_spans", "list_llm_obs_spans"):
        configured.unstable_operations[operation] = True
    with ApiClient(configured) as client:
        yield client


def unparsed(value: Any, path: str = "") -> list[str]:
    """The places in a model where the client gave up."""
    if isinstance(value, UnparsedObject):
        return [path]
    if isinstance(value, OpenApiModel):
        found = [path] if getattr(value, "_unparsed", False) else []
        return found + [place for key, inner in value._data_store.items() for place in unparsed(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [place for number, inner in enumerate(value) for place in unparsed(inner, f"{path}[{number}]")]
    if isinstance(value, dict):
        return [place for key, inner in value.items() for place in unparsed(inner, f"{path}.{key}")]
    return []


def llm_obs_pages(client: ApiClient, query: str | None, limit: int) -> Iterator[Any]:
    cursor = None
    while True:
        page = {"limit": limit, **({"cursor": cursor} if cursor else {})}
        attributes = {"filter": WINDOW | ({"query": query} if query else {}), "page": page, "sort": "timestamp"}
        body = LLMObsSearchSpansRequest(data={"type": "spans", "attributes": attributes})
        response = AgentObservabilityApi(client).search_llm_obs_spans(body=body)
        yield response
        cursor = response.meta.page and response.meta.page["after"]
        if not cursor:
            return


def apm_pages(client: ApiClient, limit: int) -> Iterator[Any]:
    cursor = None
    while True:
        page = {"limit": limit, **({"cursor": cursor} if cursor else {})}
        attributes = {"filter": WINDOW | {"query": "*"}, "page": page, "sort": "timestamp"}
        response = SpansApi(client).list_spans(
            body=SpansListRequest(data={"type": "search_request", "attributes": attributes})
        )
        if not response.data:
            return
        yield response
        cursor = response.meta.page.after


def test_every_llm_obs_span_is_parsed(client: ApiClient, server: BackgroundServer) -> None:
    ids = []
    for response in llm_obs_pages(client, None, 500):
        assert unparsed(response) == []
        ids += [span.id for span in response.data]
    assert len(ids) == len(set(ids)) == server.sandbox.store.count("llm_obs")


def test_every_apm_span_is_parsed(client: ApiClient, server: BackgroundServer) -> None:
    ids = []
    for response in apm_pages(client, 200):
        assert unparsed(response) == []
        ids += [span.id for span in response.data]
    assert len(ids) == len(set(ids)) == server.sandbox.store.count("apm")


def test_verdicts_arrive_as_the_client_s_own_models(client: ApiClient) -> None:
    (response,) = llm_obs_pages(client, "@evaluation.quality_score.value:0.31 @ml_app:support-bot ticket:T-77", 10)
    (span,) = response.data
    verdict = span.attributes.evaluation["quality_score"]
    assert (verdict.value, str(verdict.assessment), verdict.status) == (0.31, "fail", "OK")
    assert span.attributes.input.value.startswith('{"question"')


def test_its_list_operation_and_its_filters(client: ApiClient) -> None:
    response = AgentObservabilityApi(client).list_llm_obs_spans(
        filter_from="now-2d", filter_to="now", filter_span_kind="retrieval", page_limit=50
    )
    assert response.data
    assert {str(span.attributes.span_kind) for span in response.data} == {"retrieval"}
    assert unparsed(response) == []


def test_refusals_are_its_exceptions(client: ApiClient, server: BackgroundServer) -> None:
    with pytest.raises(ApiException) as refused:
        next(llm_obs_pages(client, "((", 10))
    assert refused.value.status == 400
    server.sandbox.trouble.faults = []
    httpx.post(f"{server.url}/sandbox/trouble", json={"faults": [{"kind": "rate_limited", "reset_s": 3}]}).raise_for_status()
    with pytest.raises(ApiException) as limited:
        next(llm_obs_pages(client, None, 10))
    assert (limited.value.status, limited.value.headers["x-ratelimit-reset"]) == (429, "3")


def test_a_span_that_is_wrong_for_the_client_would_be_noticed() -> None:
    with BackgroundServer() as server, ApiClient(Configuration(host=server.url, api_key={"apiKeyAuth": "a"})) as client:
        client.configuration.api_key["appKeyAuth"] = "b"
        client.configuration.unstable_operations["search_llm_obs_spans"] = True
        server.sandbox.store.add_llm_obs([{"span_id": "1", "trace_id": "a", "metrics": "none", "duration": "long"}])
        (response,) = llm_obs_pages(client, None, 10)
        assert unparsed(response) != []
