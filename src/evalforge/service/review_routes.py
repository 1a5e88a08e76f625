"""The routes of reviewers: captures, groups and figures to look at, and one that changes what stands of a group."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from fastapi import Request
from starlette.responses import Response

from evalforge import bootstrap
from evalforge.core.callers import Role
from evalforge.core.ports import Store
from evalforge.core.review import checked_signature
from evalforge.errors import EvalForgeError, NotFoundError
from evalforge.exports import capture_document
from evalforge.review import Wanted, change_review, failure_stats, list_captures, list_groups, one_group
from evalforge.review.documents import (
    captures_document,
    group_document,
    groups_document,
    review_document,
    stats_document,
)
from evalforge.review.groups import TREND_DAYS
from evalforge.service import schema_review as schema
from evalforge.service.access import Routes
from evalforge.service.auth import UNNAMED, caller_of
from evalforge.service.problems import json_response, problem_of
from evalforge.service.requests import read_body_fields
from evalforge.service.review_requests import captures_request, groups_request, patch_request, stats_request
from evalforge.service.routes import settings_of

routes = Routes()

Question = Callable[[Store], Coroutine[Any, Any, dict[str, Any]]]


async def _answer(request: Request, question: Question) -> Response:
    """What a question makes of the store, as JSON."""
    return json_response(await request.app.state.desk.ask(settings_of(request), question))


@routes.add(
    "GET",
    "/captures",
    lets_in=Role.READ,
    extra=schema.CAPTURES,
    answers=schema.CAPTURES_ANSWERS,
    summary="Captures",
)
async def captures(request: Request) -> Response:
    """Lists the captures that match all of the filters, the latest failure first, page by page."""
    try:
        asked = captures_request(request.query_params.multi_items())

        async def page(store: Store) -> dict[str, Any]:
            found = await list_captures(
                store, asked.selection, now=bootstrap.utc_now(), limit=asked.limit, state=asked.state, cursor=asked.cursor
            )
            return captures_document(found)

        return await _answer(request, page)
    except EvalForgeError as error:
        return problem_of(error)


@routes.add(
    "GET",
    "/captures/{trace_id}",
    lets_in=Role.READ,
    extra=schema.CAPTURE,
    answers=schema.CAPTURE_ANSWERS,
    summary="One capture",
)
async def one_capture(request: Request, trace_id: str) -> Response:
    """Shows one capture in full: every reason, every failing span, what was removed, and the payload."""

    async def whole(store: Store) -> dict[str, Any]:
        stored = await store.get(trace_id, now=bootstrap.utc_now())
        if stored is None:
            raise NotFoundError(f"there is no capture of the trace {trace_id[:80]!a}; GET /captures lists those there are")
        return capture_document(stored)

    try:
        return await _answer(request, whole)
    except EvalForgeError as error:
        return problem_of(error)


@routes.add("GET", "/groups", lets_in=Role.READ, extra=schema.GROUPS, answers=schema.GROUPS_ANSWERS, summary="Groups")
async def groups(request: Request) -> Response:
    """Lists the groups with captures that match: regressed ones first, then those that failed last."""
    try:
        asked = groups_request(request.query_params.multi_items())
        wanted = Wanted(asked.selection, asked.state, asked.regressed)

        async def page(store: Store) -> dict[str, Any]:
            found = await list_groups(store, wanted, now=bootstrap.utc_now(), limit=asked.limit, cursor=asked.cursor)
            return groups_document(found)

        return await _answer(request, page)
    except EvalForgeError as error:
        return problem_of(error)


@routes.add(
    "GET",
    "/groups/{signature}",
    lets_in=Role.READ,
    extra=schema.GROUP,
    answers=schema.GROUP_ANSWERS,
    summary="One group",
)
async def group(request: Request, signature: str) -> Response:
    """Shows one group: its figures, and its review with every change that was made."""
    try:
        return await _answer(request, partial(_group_with_review, signature=checked_signature(signature)))
    except EvalForgeError as error:
        return problem_of(error)


async def _group_with_review(store: Store, signature: str) -> dict[str, Any]:
    found = await one_group(store, signature, now=bootstrap.utc_now())
    return {**group_document(found), "review": review_document(found.review)}


@routes.add(
    "PATCH",
    "/groups/{signature}",
    lets_in=Role.REVIEW,
    extra=schema.PATCH,
    answers=schema.PATCH_ANSWERS,
    summary="Review a group",
)
async def review_group(request: Request, signature: str) -> Response:
    """Changes the state, assignee, note or an expected output of a group; each change goes into its history.

    Sending the same again changes nothing.
    """
    try:
        patch = patch_request(await read_body_fields(request))
        name = (caller_of(request) or UNNAMED).name
        known = checked_signature(signature)

        async def changed(store: Store) -> dict[str, Any]:
            return review_document(await change_review(store, known, patch, by=name, now=bootstrap.utc_now()))

        return await _answer(request, changed)
    except EvalForgeError as error:
        return problem_of(error)


@routes.add("GET", "/stats", lets_in=Role.READ, extra=schema.STATS, answers=schema.STATS_ANSWERS, summary="Figures")
async def stats(request: Request) -> Response:
    """Gives figures for charts: failures over time by type and severity, by application and model, and states of groups."""
    try:
        selection, parts = stats_request(request.query_params.multi_items())

        async def figures(store: Store) -> dict[str, Any]:
            found = await failure_stats(store, selection, now=bootstrap.utc_now(), part_count=parts or TREND_DAYS)
            return stats_document(found)

        return await _answer(request, figures)
    except EvalForgeError as error:
        return problem_of(error)
