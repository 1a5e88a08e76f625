"""The sandbox's own door for tests and demos, under `/sandbox`: load spans, read the log, ask for trouble."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import cast, get_args

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from evalforge.sandbox.back.shapes import RecordShape
from evalforge.sandbox.limits import DEFAULT_LIMITS, RateLimit
from evalforge.sandbox.payloads import body_of
from evalforge.sandbox.replies import Refused, Reply, plain_error, to_response
from evalforge.sandbox.search import MAX_RESPONSE_BYTES
from evalforge.sandbox.spans import Area, Json, Source
from evalforge.sandbox.state import MAX_CHANGE_BYTES, PERMISSIONS, SEARCH_PERMISSIONS, Sandbox
from evalforge.sandbox.trouble import read_fault


def routes() -> list[Route]:
    """Return the door's routes."""
    return [
        Route("/sandbox", _counts),
        Route("/sandbox/spans", _add_spans, methods=["POST"]),
        Route("/sandbox/spans", _clear_spans, methods=["DELETE"]),
        Route("/sandbox/evaluations", _add_evaluations, methods=["POST"]),
        Route("/sandbox/datasets", _datasets, methods=["GET"]),
        Route("/sandbox/datasets", _clear_datasets, methods=["DELETE"]),
        Route("/sandbox/intake", _arrivals),
        Route("/sandbox/requests", _requests, methods=["GET"]),
        Route("/sandbox/requests", _clear_requests, methods=["DELETE"]),
        Route("/sandbox/trouble", _trouble, methods=["GET"]),
        Route("/sandbox/trouble", _plan_trouble, methods=["POST"]),
        Route("/sandbox/trouble", _clear_trouble, methods=["DELETE"]),
    ]


def _sandbox(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def _json(content: Json, status: int = 200) -> Response:
    return to_response(Reply(status, orjson.dumps(content)))


def _counted(sandbox: Sandbox) -> dict[str, int]:
    return {source: sandbox.store.count(source) for source in get_args(Source)}


async def _counts(request: Request) -> Response:
    return _json(_counted(_sandbox(request)))


async def _object(request: Request) -> dict[str, Json] | Response:
    try:
        # The standard library keeps what tests want to plant: integers beyond 64 bits, and lone surrogates.
        loaded = json.loads(await body_of(request))
    except Refused as refused:
        return to_response(refused.reply)
    except (ValueError, RecursionError):
        loaded = None
    return loaded if isinstance(loaded, dict) else to_response(plain_error(400, "a JSON object is wanted"))


async def _add_spans(request: Request) -> Response:
    """Load `{"llm_obs": [attributes or items …], "apm": [items …]}`; each element may be any JSON value."""
    loaded = await _object(request)
    if isinstance(loaded, Response):
        return loaded
    batches = [loaded.get(source, []) for source in get_args(Source)]
    if set(loaded) - set(get_args(Source)) or not all(isinstance(batch, list) for batch in batches):
        return to_response(plain_error(400, 'want {"llm_obs": [...], "apm": [...]}'))
    store = _sandbox(request).store
    store.add_llm_obs(loaded.get("llm_obs", []))
    store.add_apm(loaded.get("apm", []))
    return _json(_counted(_sandbox(request)))


async def _clear_spans(request: Request) -> Response:
    _sandbox(request).store.clear()
    return _json(_counted(_sandbox(request)))


async def _add_evaluations(request: Request) -> Response:
    """Load `{"evaluations": [{"span_id", "trace_id"?, "name", "evaluation": {…}} …]}`; how many found their span."""
    loaded = await _object(request)
    if isinstance(loaded, Response):
        return loaded
    evaluations = loaded.get("evaluations")
    if not isinstance(evaluations, list) or not all(map(_is_evaluation, evaluations)):
        return to_response(plain_error(400, 'want {"evaluations": [{"span_id", "trace_id"?, "name", "evaluation"}, ...]}'))
    store = _sandbox(request).store
    joined = sum(
        store.add_evaluation(one["span_id"], one["name"], one["evaluation"], one.get("trace_id")) for one in evaluations
    )
    return _json({"joined": joined, "waiting": len(evaluations) - joined})


def _is_evaluation(loaded: Json) -> bool:
    return (
        isinstance(loaded, dict)
        and isinstance(loaded.get("span_id"), str)
        and isinstance(loaded.get("name"), str)
        and isinstance(loaded.get("trace_id", ""), str)
        and "evaluation" in loaded
    )


async def _datasets(request: Request) -> Response:
    """Give what there is of projects, datasets with the ids of their records, and queues, and what was asked about them."""
    sandbox = _sandbox(request)
    shelf = sandbox.shelf
    names = {one.id: one.name for one in shelf.projects.values()}
    return _json(
        {
            "projects": sorted(names.values()),
            "datasets": [
                {"id": one.id, "project": names[one.project_id], "name": one.name, "version": one.version}
                | {"records": list(one.records)}
                for one in shelf.datasets.values()
            ],
            "queues": [
                {"id": one.id, "name": one.name, "content_ids": [held.content_id for held in one.interactions.values()]}
                for one in shelf.queues.values()
            ],
            "calls": [asdict(one) for one in sandbox.calls],
        }
    )


async def _clear_datasets(request: Request) -> Response:
    sandbox = _sandbox(request)
    sandbox.shelf.clear()
    sandbox.calls.clear()
    return _json({"projects": [], "datasets": [], "queues": [], "calls": []})


async def _arrivals(request: Request) -> Response:
    sandbox = _sandbox(request)
    return _json({"arrivals": [asdict(one) for one in sandbox.arrivals], "waiting": sandbox.store.waiting()})


async def _requests(request: Request) -> Response:
    return _json({"requests": [asdict(one) for one in _sandbox(request).requests]})


async def _clear_requests(request: Request) -> Response:
    _sandbox(request).requests.clear()
    return _json({"requests": []})


async def _trouble(request: Request) -> Response:
    return _json(_state_of_trouble(_sandbox(request)))


def _state_of_trouble(sandbox: Sandbox) -> Json:
    limits = {source: asdict(meter.limit) for source, meter in sandbox.meters.items()}
    return {
        "faults": [asdict(fault) for fault in sandbox.trouble.faults],
        "limits": limits,
        "seed": sandbox.trouble.seed,
        "late_evaluations_minutes": sandbox.store.evaluation_delay_s / 60,
        "permissions": sorted(sandbox.permissions),
        "max_response_bytes": sandbox.max_response_bytes,
        "record_shape": sandbox.record_shape,
        "max_change_bytes": sandbox.max_change_bytes,
    }


_TROUBLE = frozenset(
    {
        "faults",
        "limits",
        "seed",
        "late_evaluations_minutes",
        "permissions",
        "max_response_bytes",
        "record_shape",
        "max_change_bytes",
    }
)


async def _plan_trouble(request: Request) -> Response:
    """Replace the parts of the plan that are given.

    `{"faults": [{"kind", …} …], "limits": {"apm": {"limit", "period_s"}}, "seed": 7, "late_evaluations_minutes": 20,
    "permissions": ["apm_read", …], "max_response_bytes": 40000, "record_shape": "published", "max_change_bytes": 9000}`
    """
    loaded = await _object(request)
    if isinstance(loaded, Response):
        return loaded
    sandbox = _sandbox(request)
    try:
        faults = [read_fault(fault) for fault in loaded.get("faults", [])]
        limits = _read_limits(loaded.get("limits", {}))
        seed, late_minutes = loaded.get("seed", sandbox.trouble.seed), loaded.get("late_evaluations_minutes", 0)
        permissions = _read_permissions(loaded.get("permissions", []))
        max_bytes = loaded.get("max_response_bytes", sandbox.max_response_bytes)
        if unknown := set(loaded) - _TROUBLE:
            raise ValueError(f"there is no {', '.join(sorted(unknown))}")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError("seed is a whole number")
        if isinstance(late_minutes, bool) or not isinstance(late_minutes, int | float) or not 0 <= late_minutes < 1e6:
            raise ValueError("late_evaluations_minutes is a number, at least 0")
        shape = _read_shape(loaded.get("record_shape", sandbox.record_shape))
        most_changed = loaded.get("max_change_bytes", sandbox.max_change_bytes)
        for name, number in (("max_response_bytes", max_bytes), ("max_change_bytes", most_changed)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"{name} is a whole number, at least 1")
    except (ValueError, TypeError) as error:
        return to_response(plain_error(400, str(error)))
    if "faults" in loaded:
        sandbox.trouble.faults = faults
    if "faults" in loaded or "seed" in loaded:
        sandbox.trouble.reseed(seed)
    if "late_evaluations_minutes" in loaded:
        sandbox.store.evaluation_delay_s = late_minutes * 60
    if "permissions" in loaded:
        sandbox.permissions = permissions
    sandbox.max_response_bytes = max_bytes
    sandbox.record_shape, sandbox.max_change_bytes = shape, most_changed
    sandbox.set_limits(limits)
    return _json(_state_of_trouble(sandbox))


def _read_permissions(loaded: Json) -> frozenset[str]:
    if not isinstance(loaded, list) or not all(one in PERMISSIONS for one in loaded):
        raise ValueError(f"permissions is a list of {', '.join(PERMISSIONS)}")
    return frozenset(loaded)


def _read_shape(loaded: Json) -> RecordShape:
    if loaded not in get_args(RecordShape):
        raise ValueError(f"record_shape is one of {', '.join(get_args(RecordShape))}")
    return cast(RecordShape, loaded)


def _read_limits(loaded: Json) -> dict[Area, RateLimit]:
    if not isinstance(loaded, Mapping) or set(loaded) - set(get_args(Area)):
        raise ValueError(f"limits has the keys {', '.join(get_args(Area))}")
    limits = {source: RateLimit(**limit) for source, limit in loaded.items()}
    for limit in limits.values():
        if not (isinstance(limit.limit, int) and isinstance(limit.period_s, int)) or limit.period_s < 1:
            raise ValueError("limit and period_s are whole numbers, period_s at least 1")
    return limits


async def _clear_trouble(request: Request) -> Response:
    sandbox = _sandbox(request)
    sandbox.trouble.faults = []
    sandbox.trouble.reseed(0)
    sandbox.store.evaluation_delay_s = 0
    sandbox.permissions = frozenset(SEARCH_PERMISSIONS.values())
    sandbox.max_response_bytes = MAX_RESPONSE_BYTES
    sandbox.record_shape, sandbox.max_change_bytes = "recorded", MAX_CHANGE_BYTES
    sandbox.set_limits(DEFAULT_LIMITS)
    return _json(_state_of_trouble(sandbox))
