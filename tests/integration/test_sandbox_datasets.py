"""Projects, datasets, records and annotation queues of the sandbox: Datadog's own client, and what recordings show."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from datadog_api_client import ApiClient, configuration
from datadog_api_client.exceptions import ApiException, ForbiddenException, NotFoundException
from datadog_api_client.v2.api import agent_observability_api
from datadog_api_client.v2.model.llm_obs_annotation_queue_interactions_request import (
    LLMObsAnnotationQueueInteractionsRequest as _InteractionsRequest,
)
from datadog_api_client.v2.model.llm_obs_annotation_queue_request import LLMObsAnnotationQueueRequest as _QueueRequest
from datadog_api_client.v2.model.llm_obs_dataset_batch_update_request import (
    LLMObsDatasetBatchUpdateRequest as _BatchRequest,
)
from datadog_api_client.v2.model.llm_obs_dataset_records_request import LLMObsDatasetRecordsRequest as _RecordsRequest
from datadog_api_client.v2.model.llm_obs_dataset_records_update_request import (
    LLMObsDatasetRecordsUpdateRequest as _UpdateRequest,
)
from datadog_api_client.v2.model.llm_obs_dataset_request import LLMObsDatasetRequest as _DatasetRequest
from datadog_api_client.v2.model.llm_obs_project_request import LLMObsProjectRequest as _ProjectRequest

from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import READ, WRITE, Sandbox
from tests.integration.test_sandbox_official_client import unparsed

pytestmark = pytest.mark.filterwarnings("ignore:Using unstable operation:UserWarning")

NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)
KEYS = {"DD-API-KEY": "api", "DD-APPLICATION-KEY": "app"}
BASE = "/api/v2/llm-obs/v1"
OPERATIONS = (
    "create_llm_obs_project", "list_llm_obs_projects", "create_llm_obs_dataset", "list_llm_obs_datasets",
    "create_llm_obs_dataset_records", "list_llm_obs_dataset_records", "update_llm_obs_dataset_records",
    "batch_update_llm_obs_dataset", "create_llm_obs_annotation_queue", "list_llm_obs_annotation_queues",
    "create_llm_obs_annotation_queue_interactions", "get_llm_obs_annotated_interactions",
)  # fmt: skip
# The client is typed in part: its annotations refuse the dictionaries that its documentation shows.
Configuration: Any = configuration.Configuration
AgentObservabilityApi: Any = agent_observability_api.AgentObservabilityApi
InteractionsRequest: Any = _InteractionsRequest
QueueRequest: Any = _QueueRequest
BatchRequest: Any = _BatchRequest
RecordsRequest: Any = _RecordsRequest
UpdateRequest: Any = _UpdateRequest
DatasetRequest: Any = _DatasetRequest
ProjectRequest: Any = _ProjectRequest


@pytest.fixture
def server() -> Iterator[BackgroundServer]:
    sandbox = Sandbox(now=NOW.timestamp)
    sandbox.permissions = frozenset({READ, WRITE})
    with BackgroundServer(sandbox) as running:
        yield running


@pytest.fixture
def http(server: BackgroundServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers=KEYS) as client:
        yield client


@pytest.fixture
def api(server: BackgroundServer) -> Iterator[Any]:
    """Datadog's own client, and a sandbox that answers as its models want it."""
    server.sandbox.record_shape = "published"
    configured = Configuration(host=server.url, api_key={"apiKeyAuth": "any", "appKeyAuth": "any"})
    for operation in OPERATIONS:
        configured.unstable_operations[operation] = True
    with ApiClient(configured) as client:
        yield AgentObservabilityApi(client)


def body(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"data": {"type": kind, "attributes": attributes}}


def project_of(api: Any, name: str = "evals") -> str:
    made: str = api.create_llm_obs_project(body=ProjectRequest(**body("projects", name=name))).data.id
    return made


def dataset_of(api: Any, project_id: str, name: str = "failures") -> str:
    made: str = api.create_llm_obs_dataset(project_id, body=DatasetRequest(**body("datasets", name=name))).data.id
    return made


def made_dataset(http: httpx.Client) -> str:
    """The path of a new dataset."""
    project = http.post(f"{BASE}/projects", json=body("projects", name="evals")).json()["data"]["id"]
    path = f"{BASE}/{project}/datasets"
    return f"{path}/{http.post(path, json=body('datasets', name='failures')).json()['data']['id']}"


def batch(http: httpx.Client, path: str, **attributes: Any) -> httpx.Response:
    return http.post(f"{path}/batch_update", json=body("datasets", **attributes))


# -- Datadog's own client


def test_projects_and_datasets_are_made_once_and_listed(api: Any) -> None:
    project = project_of(api)
    assert project_of(api) == project, "a name that is taken gives what is there"
    dataset = dataset_of(api, project)
    assert dataset_of(api, project) == dataset
    assert dataset_of(api, project, "others") != dataset
    projects = api.list_llm_obs_projects(filter_name="evals")
    datasets = api.list_llm_obs_datasets(project, filter_name="failures")
    assert ([one.id for one in projects.data], [one.id for one in datasets.data]) == ([project], [dataset])
    assert unparsed(projects) == unparsed(datasets) == []
    assert datasets.data[0].attributes.current_version == 0
    assert [one.attributes.name for one in api.list_llm_obs_datasets(project).data] == ["others", "failures"]


def test_records_are_appended_changed_and_listed_page_by_page(api: Any) -> None:
    project = project_of(api)
    dataset = dataset_of(api, project)
    records = [{"input": {"question": f"q{number}"}, "metadata": {"n": number}} for number in range(5)]
    appended = api.create_llm_obs_dataset_records(
        project, dataset, body=RecordsRequest(**body("records", records=[*records, records[0]]))
    )
    assert unparsed(appended) == []
    assert len(appended.data[0].records) == 5, "one was there already"
    first = api.list_llm_obs_dataset_records(project, dataset, page_limit=3)
    rest = api.list_llm_obs_dataset_records(project, dataset, page_limit=3, page_cursor=first.meta.after)
    assert unparsed(first) == unparsed(rest) == []
    assert [one.input["question"] for one in (*first.data, *rest.data)] == ["q4", "q3", "q2", "q1", "q0"]
    assert rest.meta.after == ""
    changed = api.update_llm_obs_dataset_records(
        project,
        dataset,
        body=UpdateRequest(**body("records", records=[{"id": first.data[0].id, "expected_output": "right"}])),
    )
    assert unparsed(changed) == []
    assert changed.data[0].records[0].expected_output == "right"
    with pytest.raises(ApiException) as refused:
        api.list_llm_obs_dataset_records(project, dataset, filter_version=9)
    assert refused.value.status == 400


def test_a_batch_takes_ids_of_ours(api: Any) -> None:
    project = project_of(api)
    dataset = dataset_of(api, project)
    records = [{"id": f"ours-{number}", "input": str(number)} for number in range(2)]
    request = {"data": {**body("datasets", insert_records=records)["data"], "id": dataset}}
    answer = api.batch_update_llm_obs_dataset(project, dataset, body=BatchRequest(**request))
    assert unparsed(answer) == []
    assert [one.id for one in answer.data[0].records] == ["ours-0", "ours-1"]


def test_queues_take_each_trace_once(api: Any) -> None:
    project = project_of(api)
    queue = api.create_llm_obs_annotation_queue(
        body=QueueRequest(**body("queues", name="triage", project_id=project))
    ).data.id
    items = [{"type": "trace", "content_id": "6923aaaa"}, {"type": "trace", "content_id": "6923bbbb"}]
    first = api.create_llm_obs_annotation_queue_interactions(
        queue, body=InteractionsRequest(**body("interactions", interactions=items[:1]))
    )
    again = api.create_llm_obs_annotation_queue_interactions(
        queue, body=InteractionsRequest(**body("interactions", interactions=items))
    )
    assert unparsed(first) == unparsed(again) == []
    existed = [one.already_existed for one in (*first.data.attributes.interactions, *again.data.attributes.interactions)]
    assert existed == [False, True, False]
    held = api.get_llm_obs_annotated_interactions(queue)
    assert unparsed(held) == []
    assert [one.content_id for one in held.data.attributes.annotated_interactions] == ["6923aaaa", "6923bbbb"]
    for listed in (
        api.list_llm_obs_annotation_queues(),
        api.list_llm_obs_annotation_queues(project_id=project),
        api.list_llm_obs_annotation_queues(queue_ids=[queue]),
    ):
        assert unparsed(listed) == []
        assert [one.id for one in listed.data] == [queue]


def test_refusals_are_its_exceptions(api: Any, server: BackgroundServer) -> None:
    project = project_of(api)
    with pytest.raises(NotFoundException):
        api.list_llm_obs_dataset_records(project, "no-such-dataset")
    with pytest.raises(NotFoundException):
        api.get_llm_obs_annotated_interactions("no-such-queue")
    server.sandbox.permissions = frozenset({READ})
    assert [one.id for one in api.list_llm_obs_projects().data] == [project]
    with pytest.raises(ForbiddenException):
        project_of(api, "another")


# -- what recordings show, and what is published of errors


def test_records_look_as_they_were_recorded(http: httpx.Client) -> None:
    path = made_dataset(http)
    answer = batch(http, path, insert_records=[{"id": "record-id-1", "input": {"prompt": "?"}, "metadata": None}])
    assert answer.headers["content-type"] == "application/vnd.api+json"
    (item,) = answer.json()["data"]
    assert (item["id"], item["type"], item["attributes"]["version"]) == ("record-id-1", "datasets", 1)
    assert "metadata" not in item["attributes"], "what is null is not told"
    listed = http.get(f"{path}/records").json()
    assert listed["meta"] == {"after": ""}
    assert listed["data"][0]["attributes"]["input"] == {"prompt": "?"}


def test_an_id_that_is_there_is_written_over(http: httpx.Client) -> None:
    path = made_dataset(http)
    for text in ("first", "second"):
        batch(http, path, insert_records=[{"id": "one", "input": text}]).raise_for_status()
    assert [one["attributes"]["input"] for one in http.get(f"{path}/records").json()["data"]] == ["second"]


def test_equal_contents_are_left_out_unless_told_otherwise(http: httpx.Client) -> None:
    path = made_dataset(http)
    records = [{"id": name, "input": "the same question"} for name in ("one", "two")]
    assert len(batch(http, path, insert_records=records).json()["data"]) == 1
    assert len(batch(http, path, insert_records=records, deduplicate=False).json()["data"]) == 2


def test_a_batch_makes_a_version_unless_told_otherwise(http: httpx.Client) -> None:
    path = made_dataset(http)
    versions = []
    for number, is_new in enumerate((True, False, True)):
        answer = batch(http, path, insert_records=[{"id": str(number), "input": number}], create_new_version=is_new)
        versions.append(answer.json()["data"][0]["attributes"]["version"])
    assert versions == [1, 1, 2]
    assert len(http.get(f"{path}/records", params={"filter[version]": 1}).json()["data"]) == 2
    refused = http.get(f"{path}/records", params={"filter[version]": 3})
    assert (refused.status_code, refused.json()["errors"][0]["title"]) == (400, "Generic Error")


def test_records_are_deleted_by_id(http: httpx.Client) -> None:
    path = made_dataset(http)
    batch(http, path, insert_records=[{"id": "one", "input": 1}, {"id": "two", "input": 2}]).raise_for_status()
    batch(http, path, delete_records=["one"]).raise_for_status()
    assert [one["id"] for one in http.get(f"{path}/records").json()["data"]] == ["two"]
    assert batch(http, path, delete_records=["one"]).status_code == 404


@pytest.mark.parametrize(
    "sent",
    [
        b"no JSON",
        b"[]",
        b'{"data": {"type": "datasets"}}',
        b'{"data": {"type": "records", "attributes": {}}}',
        b'{"data": {"type": "datasets", "attributes": {"insert_records": {}}}}',
        b'{"data": {"type": "datasets", "attributes": {"insert_records": [{"id": "x"}]}}}',
        b'{"data": {"type": "datasets", "attributes": {"insert_records": [{"id": 7, "input": 1}]}}}',
        b'{"data": {"type": "datasets", "attributes": {"insert_records": [{"input": 1, "metadata": []}]}}}',
        b'{"data": {"type": "datasets", "attributes": {"update_records": [{"input": 1}]}}}',
        b'{"data": {"type": "datasets", "attributes": {"delete_records": [1]}}}',
        b'{"data": {"type": "datasets", "attributes": {"deduplicate": "yes"}}}',
    ],
)
def test_what_is_no_batch_is_a_400(http: httpx.Client, sent: bytes) -> None:
    answer = http.post(f"{made_dataset(http)}/batch_update", content=sent)
    assert answer.status_code == 400
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "interactions",
    [[], [{}], ["x"], [{"type": "trace"}], [{"type": "span", "content_id": "1"}], [{"type": "display_block"}]],
)
def test_what_is_no_interaction_is_a_400(http: httpx.Client, interactions: list[Any]) -> None:
    project = http.post(f"{BASE}/projects", json=body("projects", name="p")).json()["data"]["id"]
    queues = f"{BASE}/annotation-queues"
    queue = http.post(queues, json=body("queues", name="q", project_id=project)).json()["data"]["id"]
    answer = http.post(f"{queues}/{queue}/interactions", json=body("interactions", interactions=interactions))
    assert answer.status_code == 400
    assert http.post(queues, json=body("queues", name="q", project_id="nowhere")).status_code == 400
    assert http.get(queues, params={"projectId": project, "queueIds": queue}).status_code == 400


def test_a_batch_that_is_too_large_is_a_413(http: httpx.Client) -> None:
    path = made_dataset(http)
    http.post("/sandbox/trouble", json={"max_change_bytes": 500}).raise_for_status()
    assert batch(http, path, insert_records=[{"input": "x" * 500}]).status_code == 413
    assert batch(http, path, insert_records=[{"input": "x"}]).status_code == 200


def test_keys_permissions_and_limits_hold_here_too(http: httpx.Client, server: BackgroundServer) -> None:
    assert httpx.get(f"{server.url}{BASE}/projects").status_code == 401
    http.post("/sandbox/trouble", json={"limits": {"datasets": {"limit": 1, "period_s": 3600}}}).raise_for_status()
    answers = [http.get(f"{BASE}/projects") for _ in range(2)]
    assert [one.status_code for one in answers] == [200, 429]
    assert answers[1].headers["x-ratelimit-name"] == "llm_obs_public_experiments_api"
    assert 0 < int(answers[1].headers["x-ratelimit-reset"]) <= 3600


@pytest.mark.parametrize("kind", ["cut", "reset", "truncated", "html"])
def test_an_answer_that_is_lost_comes_after_the_deed(http: httpx.Client, kind: str) -> None:
    path = made_dataset(http)
    http.post("/sandbox/trouble", json={"faults": [{"kind": kind, "source": "datasets"}]}).raise_for_status()
    try:
        assert b'"data":[{"id"' not in batch(http, path, insert_records=[{"id": "one", "input": 1}]).content[-9:]
    except httpx.TransportError:
        assert kind in ("cut", "reset")
    assert [one["id"] for one in http.get(f"{path}/records").json()["data"]] == ["one"]


def test_a_fault_of_a_status_comes_before_the_deed(http: httpx.Client) -> None:
    path = made_dataset(http)
    http.post("/sandbox/trouble", json={"faults": [{"kind": "status", "status": 409}]}).raise_for_status()
    assert batch(http, path, insert_records=[{"id": "one", "input": 1}]).status_code == 409
    assert http.get(f"{path}/records").json()["data"] == []


def test_the_page_and_the_door_show_what_is_kept(http: httpx.Client) -> None:
    project = http.post(f"{BASE}/projects", json=body("projects", name="<b>evals</b>")).json()["data"]["id"]
    made = http.post(f"{BASE}/{project}/datasets", json=body("datasets", name="<script>x</script>")).json()["data"]
    batch(http, f"{BASE}/{project}/datasets/{made['id']}", insert_records=[{"id": "one", "input": 1}]).raise_for_status()
    page = http.get("/").text
    assert "&lt;script&gt;x&lt;/script&gt;" in page
    assert "<script>x" not in page
    assert "<b>evals" not in page
    shown = http.get("/sandbox/datasets").json()
    assert [(one["project"], one["records"]) for one in shown["datasets"]] == [("<b>evals</b>", ["one"])]
    assert [one["status"] for one in shown["calls"]] == [201, 201, 200]
    assert http.delete("/sandbox/datasets").json()["datasets"] == []
    assert http.get("/sandbox/datasets").json()["projects"] == []
