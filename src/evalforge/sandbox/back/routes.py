"""The endpoints of projects, datasets, records and queues: keys, then the rate limit, then trouble, then the shelf."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evalforge.sandbox.back import shapes
from evalforge.sandbox.back.reading import (
    attributes_of,
    flag,
    interactions_of,
    named,
    optional_text,
    records_of,
    strings_of,
    text_of,
)
from evalforge.sandbox.back.shelf import ShelfError
from evalforge.sandbox.breaking import broken_off, refusal
from evalforge.sandbox.payloads import UnreadableError, body_of, decode
from evalforge.sandbox.replies import JSON_API, Refused, Reply, bad_request, json_api_error, plain_error, reason, to_response
from evalforge.sandbox.search_endpoint import BOTH_KEYS, key_refusal
from evalforge.sandbox.spans import Json
from evalforge.sandbox.state import READ, WRITE, LoggedCall, Sandbox

BASE = "/api/v2/llm-obs/v1"
UNSTABLE = "/api/unstable/llm-obs/v1"
"""Where dd-trace-py makes projects and datasets, always answered with 200: so it was recorded."""

PAGE_LIMIT = 1000
"""How many items a page has, at most and unless asked for fewer; what Datadog's is nobody has published."""

Answer = tuple[int, Json]
Asked = Callable[[Sandbox, Request, Json], Answer]


def routes() -> list[Route]:
    """Return the routes, each also behind a base path."""
    rows: list[tuple[str, str, str, Asked]] = [
        ("GET", "/projects", READ, _list_projects),
        ("POST", "/projects", WRITE, _make_project),
        ("GET", "/{project_id}/datasets", READ, _list_datasets),
        ("POST", "/{project_id}/datasets", WRITE, _make_dataset),
        ("GET", "/{project_id}/datasets/{dataset_id}/records", READ, _list_records),
        ("POST", "/{project_id}/datasets/{dataset_id}/records", WRITE, _append_records),
        ("PATCH", "/{project_id}/datasets/{dataset_id}/records", WRITE, _update_records),
        ("POST", "/{project_id}/datasets/{dataset_id}/batch_update", WRITE, _batch_update),
        ("GET", "/annotation-queues", READ, _list_queues),
        ("POST", "/annotation-queues", WRITE, _make_queue),
        ("POST", "/annotation-queues/{queue_id}/interactions", WRITE, _add_interactions),
        ("GET", "/annotation-queues/{queue_id}/annotated-interactions", READ, _annotated),
    ]
    served = [(BASE + path, method, permission, asked) for method, path, permission, asked in rows]
    served += [
        (f"{UNSTABLE}/projects", "POST", WRITE, _with_200(_make_project)),
        (f"{UNSTABLE}/{{project_id}}/datasets", "POST", WRITE, _with_200(_make_dataset)),
    ]
    return [
        Route(prefix + path, _endpoint(permission, asked), methods=[method])
        for path, method, permission, asked in served
        for prefix in ("", "/{base:path}")
    ]


def _with_200(asked: Asked) -> Asked:
    return lambda sandbox, request, body: (200, asked(sandbox, request, body)[1])


def _endpoint(permission: str, asked: Asked) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        sandbox: Sandbox = request.app.state.sandbox
        try:
            body = await body_of(request)
        except (Refused, UnreadableError) as refused:
            return to_response(refused.reply if isinstance(refused, Refused) else plain_error(400, str(refused)))
        response = await _answer(request, sandbox, permission, asked, body)
        sandbox.calls.append(LoggedCall(sandbox.now(), request.method, request.url.path, response.status_code))
        return response

    return endpoint


async def _answer(request: Request, sandbox: Sandbox, permission: str, asked: Asked, body: bytes) -> Response:
    status = key_refusal(request, *BOTH_KEYS, permission=permission)
    if status is not None:
        return to_response(plain_error(status, reason(status)))
    meter = sandbox.meters["datasets"]
    allowed, headers = meter.take()
    latency_s, fault = sandbox.trouble.next("datasets", False) if allowed else (0.0, None)
    await asyncio.sleep(latency_s)
    if fault is not None and fault.kind == "rate_limited":
        headers = meter.headers(remaining=0, reset_s=fault.reset_s)
    if fault is not None and not fault.rate_headers:
        headers = {}
    refused = refusal(fault, meter.limit) if allowed else meter.refusal()
    # A page in place of an answer, and an answer that is lost, come after the deed: whoever asks again asks twice.
    if refused is not None and refused.status != 200:
        return to_response(refused, headers)
    try:
        if len(body) > sandbox.max_change_bytes:
            raise ShelfError(413, f"the body is larger than {sandbox.max_change_bytes} bytes")
        done, content = asked(sandbox, request, None if request.method == "GET" else decode(body))
    except ShelfError as error:
        return to_response(json_api_error(error.status, error.detail), headers)
    except (Refused, UnreadableError) as error:
        reply = error.reply if isinstance(error, Refused) else bad_request(f"invalid_argument({error})").reply
        return to_response(reply, headers)
    answer = orjson.dumps(content)
    if refused is not None:
        return to_response(refused, headers)
    if fault is not None and fault.kind in ("cut", "reset"):
        return await broken_off(request, fault, answer, headers)
    if fault is not None and fault.kind == "truncated":
        answer = answer[: len(answer) // 2]
    return to_response(Reply(done, answer, JSON_API), headers)


# -- projects and datasets


def _list_projects(sandbox: Sandbox, request: Request, _: Json) -> Answer:
    found = named(sandbox.shelf.projects.values(), request.query_params)
    return _page(request, [(one.number, shapes.project_item(one)) for one in found])


def _make_project(sandbox: Sandbox, _: Request, body: Json) -> Answer:
    attributes = attributes_of(body, "projects")
    made, is_new = sandbox.shelf.make_project(text_of(attributes, "name"), optional_text(attributes, "description"))
    return 201 if is_new else 200, {"data": shapes.project_item(made)}


def _list_datasets(sandbox: Sandbox, request: Request, _: Json) -> Answer:
    project = sandbox.shelf.project(request.path_params["project_id"])
    there = [one for one in sandbox.shelf.datasets.values() if one.project_id == project.id]
    return _page(request, [(one.number, shapes.dataset_item(one)) for one in named(there, request.query_params)])


def _make_dataset(sandbox: Sandbox, request: Request, body: Json) -> Answer:
    attributes = attributes_of(body, "datasets")
    made, is_new = sandbox.shelf.make_dataset(
        request.path_params["project_id"],
        text_of(attributes, "name"),
        optional_text(attributes, "description"),
        attributes.get("metadata"),
    )
    return 201 if is_new else 200, {"data": shapes.dataset_item(made)}


def _page(request: Request, numbered: Sequence[tuple[int, Json]]) -> Answer:
    """Return one page of items, the newest first; the cursor names the last one's number."""
    asked = request.query_params
    limit = asked.get("page[limit]", str(PAGE_LIMIT))
    if not limit.isdecimal() or not 0 < int(limit) < 10**6:
        raise bad_request("invalid_argument(Field 'page.limit' is invalid)")
    before = _number_of(asked["page[cursor]"]) if asked.get("page[cursor]") else None
    left = sorted((one for one in numbered if before is None or one[0] < before), key=lambda one: -one[0])
    shown = left[: min(int(limit), PAGE_LIMIT)]
    after = _cursor_of(shown[-1][0]) if len(left) > len(shown) else ""
    return 200, {"data": [item for _, item in shown], "meta": {"after": after}}


def _cursor_of(number: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps({"before": number})).decode()


def _number_of(cursor: str) -> int:
    try:
        return int(orjson.loads(base64.urlsafe_b64decode(cursor))["before"])
    except (ValueError, KeyError, TypeError) as error:
        raise bad_request("invalid_argument(Field 'page.cursor' is invalid)") from error


# -- records


def _list_records(sandbox: Sandbox, request: Request, _: Json) -> Answer:
    dataset = sandbox.shelf.dataset(request.path_params["project_id"], request.path_params["dataset_id"])
    version = request.query_params.get("filter[version]", str(dataset.version))
    if not version.isdecimal() or int(version) > dataset.version:
        raise ShelfError(400, "invalid version: version is greater than the current version or negative")
    there = [one for one in dataset.records.values() if one.version <= int(version)]
    return _page(request, [(one.number, shapes.record_item(dataset, one, sandbox.record_shape)) for one in there])


def _append_records(sandbox: Sandbox, request: Request, body: Json) -> Answer:
    dataset = sandbox.shelf.dataset(request.path_params["project_id"], request.path_params["dataset_id"])
    attributes = attributes_of(body, "records")
    records = records_of(attributes, "records", needs="input")
    done = sandbox.shelf.append(dataset, records, deduplicate=flag(attributes, "deduplicate", True))
    return 201, shapes.changed(dataset, done, sandbox.record_shape)


def _update_records(sandbox: Sandbox, request: Request, body: Json) -> Answer:
    dataset = sandbox.shelf.dataset(request.path_params["project_id"], request.path_params["dataset_id"])
    records = records_of(attributes_of(body, "records"), "records", needs="id")
    return 200, shapes.changed(dataset, sandbox.shelf.change(dataset, update=records), sandbox.record_shape)


def _batch_update(sandbox: Sandbox, request: Request, body: Json) -> Answer:
    dataset = sandbox.shelf.dataset(request.path_params["project_id"], request.path_params["dataset_id"])
    attributes = attributes_of(body, "datasets")
    done = sandbox.shelf.change(
        dataset,
        insert=records_of(attributes, "insert_records", needs="input", may_be_absent=True),
        update=records_of(attributes, "update_records", needs="id", may_be_absent=True),
        delete=strings_of(attributes, "delete_records"),
        deduplicate=flag(attributes, "deduplicate", True),
        new_version=flag(attributes, "create_new_version", True),
    )
    return 200, shapes.changed(dataset, done, sandbox.record_shape)


# -- annotation queues


def _list_queues(sandbox: Sandbox, request: Request, _: Json) -> Answer:
    project_id, queue_ids = request.query_params.get("projectId"), request.query_params.getlist("queueIds")
    if project_id is not None and queue_ids:
        raise bad_request("invalid_argument(projectId and queueIds exclude each other)")
    wanted = {one for ids in queue_ids for one in ids.split(",")}
    found = [
        queue
        for queue in sandbox.shelf.queues.values()
        if project_id in (None, queue.project_id) and (not queue_ids or queue.id in wanted)
    ]
    return 200, {"data": [shapes.queue_item(queue) for queue in found]}


def _make_queue(sandbox: Sandbox, _: Request, body: Json) -> Answer:
    attributes = attributes_of(body, "queues")
    schema = attributes.get("annotation_schema")
    kept: Mapping[str, Json] = {} if schema is None else {"annotation_schema": schema}
    made = sandbox.shelf.make_queue(
        text_of(attributes, "project_id"),
        text_of(attributes, "name"),
        optional_text(attributes, "description") or "",
        kept,
    )
    return 201, {"data": shapes.queue_item(made)}


def _add_interactions(sandbox: Sandbox, request: Request, body: Json) -> Answer:
    queue = sandbox.shelf.queue(request.path_params["queue_id"])
    done = sandbox.shelf.put(queue, interactions_of(attributes_of(body, "interactions")))
    items = [{**shapes.interaction_item(one), "already_existed": existed} for one, existed in done]
    return 201, {"data": {"id": queue.id, "type": "interactions", "attributes": {"interactions": items}}}


def _annotated(sandbox: Sandbox, request: Request, _: Json) -> Answer:
    queue = sandbox.shelf.queue(request.path_params["queue_id"])
    items = [
        {**shapes.interaction_item(one), "annotations": [], "can_annotate": True} for one in queue.interactions.values()
    ]
    attributes = {"annotated_interactions": items}
    return 200, {"data": {"id": queue.id, "type": "annotated_interactions", "attributes": attributes}}
