"""The routes: what each takes, what it gives, and which errors it has."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import Request
from starlette.responses import Response

from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.callers import Role
from evalforge.erasure import erasure_document
from evalforge.errors import EvalForgeError, SettingsError
from evalforge.runs import RunReport
from evalforge.service import schema
from evalforge.service.access import Open, Routes
from evalforge.service.auth import UNNAMED, caller_of
from evalforge.service.health import Health
from evalforge.service.problems import json_response, problem, problem_of
from evalforge.service.requests import (
    erase_request,
    read_body_fields,
    read_fields,
    run_request,
    runs_limit,
)
from evalforge.service.running import Runner, in_own_thread
from evalforge.telemetry.prometheus import CONTENT_TYPE, exposition

routes = Routes()


def settings_of(request: Request) -> Settings:
    """The settings of the service.

    Raises:
        SettingsError: they are wrong.
    """
    settings: Settings | SettingsError = request.app.state.settings
    if isinstance(settings, SettingsError):
        raise SettingsError(settings.problems)
    return settings


@routes.add(
    "POST",
    "/ingestion/run-once",
    lets_in=Role.RUN,
    extra=schema.RUN_ONCE,
    answers=schema.RUN_ONCE_ANSWERS,
    summary="Run once",
)
async def run_once(request: Request) -> Response:
    """Reads the window from Datadog into the store and answers with the run report.

    The run goes on when the caller hangs up. `complete: false` says that the next call goes on from where this one ended.
    With `Prefer: respond-async` the answer is 202 once the run has begun; a dry run, which no history holds, is waited for.
    """
    runner: Runner = request.app.state.runner
    try:
        asked = run_request(await read_fields(request))
        run = runner.start(settings_of(request), asked, _name_of(request))
        if _prefers_async(request) and not asked.dry_run:
            begun = await run.first()
            if isinstance(begun, str):
                return _begun_response(request, begun)
        report = await asyncio.wrap_future(run.report)
    except EvalForgeError as error:
        return problem_of(error)
    return _report_response(report)


def _name_of(request: Request) -> str:
    return (caller_of(request) or UNNAMED).name


def _prefers_async(request: Request) -> bool:
    # RFC 7240: preferences stand in one or more lines, separated by commas, with parameters after a semicolon.
    wishes = ",".join(request.headers.getlist("prefer")).split(",")
    return any(wish.partition(";")[0].strip().lower() == "respond-async" for wish in wishes)


def _begun_response(request: Request, run_id: str) -> Response:
    place = request.app.url_path_for("one_run", run_id=run_id)
    answer = json_response({"run_id": run_id, "state": "running", "location": place}, 202)
    answer.headers["location"] = place
    answer.headers["preference-applied"] = "respond-async"
    return answer


@routes.add("GET", "/ingestion/runs", lets_in=Role.READ, extra=schema.RUNS, answers=schema.RUNS_ANSWERS, summary="Runs")
async def runs(request: Request) -> Response:
    """Lists the runs of the last 30 days that began last, without their reports."""
    try:
        settings = settings_of(request)
        limit = runs_limit(request.query_params.multi_items())
        work = partial(bootstrap.recent_runs, settings, limit=limit)
        found = await asyncio.wrap_future(in_own_thread("history", work))
    except EvalForgeError as error:
        return problem_of(error)
    return json_response({"runs": [{name: value for name, value in one.items() if name != "report"} for one in found]})


@routes.add(
    "GET", "/ingestion/runs/{run_id}", lets_in=Role.READ, extra=schema.RUN, answers=schema.RUN_ANSWERS, summary="One run"
)
async def one_run(request: Request, run_id: str) -> Response:
    """Shows one run: what, when, by whom, its state (`abandoned` where its process died), and its report once it ended."""
    try:
        work = partial(bootstrap.one_run, settings_of(request), run_id)
        return json_response(await asyncio.wrap_future(in_own_thread("history", work)))
    except EvalForgeError as error:
        return problem_of(error)


def _report_response(report: RunReport) -> Response:
    document = report.document()
    if report.error is None:
        return json_response(document)
    error = report.error
    return problem(
        error["http_status"], error["code"], error["message"], retry_after_s=error["retry_after_s"], report=document
    )


@routes.add("POST", "/privacy/erase", lets_in=Role.ERASE, extra=schema.ERASE, answers=schema.ERASE_ANSWERS, summary="Erase")
async def erase(request: Request) -> Response:
    """Erases what is held of one person or of one trace, for good, and answers with counts and what a person has to do.

    The id stands in the body only. Asking again changes nothing more; it goes on when the caller hangs up.
    """
    try:
        settings = settings_of(request)
        asked = erase_request(await read_body_fields(request))
        name = _name_of(request)
        actor = name if asked.actor is None else asked.actor if name == UNNAMED.name else f"{asked.actor} ({name})"
        work = partial(bootstrap.erase_once, settings, actor=actor, user_id=asked.user_id, trace_id=asked.trace_id)
        record = await asyncio.wrap_future(in_own_thread("erasure", work))
    except EvalForgeError as error:
        return problem_of(error)
    return json_response(erasure_document(record))


@routes.add("GET", "/health", lets_in=Open.ANYONE, answers=schema.HEALTH_ANSWERS, summary="Health")
async def health(request: Request) -> Response:
    """Says whether settings, keys, Datadog and the store are well; 500 names the part that is not. Cached for 15 s.

    Without a caller, where one is needed elsewhere, only the status is told.

    `quota` is what Datadog last told this process's runs of theirs; empty before the first. `version` is evalforge's.
    """
    asked: Health = request.app.state.health
    document = await asked.document()
    status = 200 if document["status"] == "ok" else 500
    if caller_of(request) is None:
        return json_response({"status": document["status"]}, status)
    return json_response(document, status)


@routes.add("GET", "/metrics", lets_in=Role.METRICS, answers=schema.METRICS_ANSWERS, summary="Metrics")
async def metrics(request: Request) -> Response:
    """Shows what this process has counted since it began, in Prometheus' text format: of its own runs, and of no person.

    Needs the extra `otel`.
    """
    try:
        return Response(exposition(request.app.state.recorder), media_type=CONTENT_TYPE)
    except EvalForgeError as error:
        return problem_of(error)


@routes.add("GET", "/openapi.json", lets_in=Open.CALLERS, answers={}, include_in_schema=False)
async def openapi(request: Request) -> Response:
    """Describes every route."""
    return json_response(request.app.openapi())


@routes.add("GET", "/livez", lets_in=Open.UNASKED, answers={}, summary="Liveness")
async def livez() -> Response:
    """Says that the process answers; it asks nobody."""
    return json_response({"status": "ok"})
