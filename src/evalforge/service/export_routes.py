"""The routes of exports: one that makes a package, two that show what there is."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from fastapi import Request
from starlette.responses import Response

from evalforge import bootstrap
from evalforge.bootstrap import exports
from evalforge.config import Settings
from evalforge.core.callers import Role
from evalforge.core.ports import Store
from evalforge.errors import EvalForgeError
from evalforge.exports import Written
from evalforge.exports.shown import package_shown
from evalforge.service import schema
from evalforge.service.access import Routes
from evalforge.service.problems import json_response, problem_of
from evalforge.service.requests import ExportRequest, export_request, read_fields, runs_limit
from evalforge.service.routes import settings_of
from evalforge.service.running import in_own_thread

routes = Routes()


@routes.add(
    "POST",
    "/exports",
    lets_in=Role.REVIEW,
    extra=schema.EXPORT,
    answers=schema.EXPORT_ANSWERS,
    status_code=201,
    summary="Export",
)
async def export(request: Request) -> Response:
    """Makes a package of the selected captures, delivers it to a destination that the settings declare, and records it."""
    try:
        settings = settings_of(request)
        asked = export_request(await read_fields(request))
        written = await asyncio.wrap_future(in_own_thread("export", partial(_export, settings, asked)))
    except EvalForgeError as error:
        return problem_of(error)
    shown = package_shown(written.package, bootstrap.utc_now(), settings.run_budget_s, in_full=False)
    return json_response(shown | {"file": written.path.name if written.path is not None else None}, 201)


async def _export(settings: Settings, asked: ExportRequest) -> Written:
    destination = await exports.declared_destination(settings, asked.destination)
    return await exports.export_once(settings, asked.selection, asked.shape, destination)


@routes.add("GET", "/exports", lets_in=Role.READ, extra=schema.EXPORTS, answers=schema.EXPORTS_ANSWERS, summary="Packages")
async def packages(request: Request) -> Response:
    """Lists the packages that exports made, the latest first, each with what became of it."""
    try:
        settings = settings_of(request)
        limit = runs_limit(request.query_params.multi_items())

        async def listed(store: Store) -> list[dict[str, Any]]:
            return await exports.recent_packages(settings, store, limit=limit)

        return json_response({"packages": await request.app.state.desk.ask(settings, listed)})
    except EvalForgeError as error:
        return problem_of(error)


@routes.add(
    "GET",
    "/exports/{package_id}",
    lets_in=Role.READ,
    extra=schema.EXPORTED,
    answers=schema.EXPORTED_ANSWERS,
    summary="One package",
)
async def one_package(request: Request, package_id: str) -> Response:
    """Shows one package in full: what was selected, its files, and the document ids of its captures."""
    try:
        settings = settings_of(request)

        async def shown(store: Store) -> dict[str, Any]:
            return await exports.one_package(settings, store, package_id)

        return json_response(await request.app.state.desk.ask(settings, shown))
    except EvalForgeError as error:
        return problem_of(error)
