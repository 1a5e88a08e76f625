"""The application and the server around it."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from evalforge import __version__
from evalforge.bootstrap.telemetry import checked_telemetry, telemetry_sent
from evalforge.config import Settings, one_setting
from evalforge.errors import MissingRoleError, SettingsError
from evalforge.events import configure_logging, emit
from evalforge.garbage import collect_seldom
from evalforge.service import export_routes, review_routes
from evalforge.service import routes as service_routes
from evalforge.service.access import Open, Routes
from evalforge.service.auth import Callers, Gate
from evalforge.service.desk import Desk
from evalforge.service.envelope import Envelope
from evalforge.service.health import Health
from evalforge.service.hosts import Guard
from evalforge.service.limits import InFlight, Sizes
from evalforge.service.problems import Catch, problem, problem_of
from evalforge.service.quotas import Quotas
from evalforge.service.running import Runner
from evalforge.service.schema import SECURITY_SCHEMES
from evalforge.service.server import Server, bound_to, listen
from evalforge.service.web import views
from evalforge.telemetry.recorder import Recorder

CLOSE_S = 1.5
"""How long telemetry may take at the end, after the grace of a run: platforms kill after 10 seconds."""

routes = Routes(service_routes.routes, export_routes.routes, review_routes.routes, views.routes)
"""Every route there is."""


def create_app(environment: Mapping[str, str] | None = None) -> FastAPI:
    """The application under the settings of `environment`, by default this process's.

    Wrong settings do not stop it: `/health` and every run say what is wrong with them.
    """
    quotas = Quotas()
    desk = Desk()
    recorder = Recorder()
    runner = Runner(quotas, grace_s=one_setting("STOP_GRACE_S", 8, environment), telemetry=recorder)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        settings = app.state.settings
        if isinstance(settings, SettingsError):
            emit("service.misconfigured", problems=settings.problems)
        sent_as = Settings() if isinstance(settings, SettingsError) else settings
        async with telemetry_sent(sent_as, recorder, close_s=CLOSE_S):
            yield
            await runner.stopped()
        await desk.closed()
        emit("service.stopped")

    callers = Callers(_caller_settings(environment))
    app = _Service(
        title="EvalForge ingestion",
        version=__version__,
        description="Pulls the failures of LLM applications out of Datadog into your own store, without personal data.",
        # The interactive pages would load scripts from somebody else's servers; /openapi.json is enough for any tool.
        docs_url=None,
        redoc_url=None,
        openapi_url=None,  # a route of ours, that asks for a caller
        lifespan=lifespan,
        middleware=[
            Middleware(Envelope),
            Middleware(Catch),
            Middleware(Sizes),
            Middleware(Guard, public_hosts=one_setting("PUBLIC_HOSTS", (), environment)),
            Middleware(
                Gate,
                callers=callers,
                unasked_paths=routes.paths(Open.UNASKED),
                open_paths=routes.paths(Open.ANYONE),
                is_page=views.is_page,
                sign_in_place=views.sign_in_place,
            ),
            Middleware(InFlight, uncounted_paths=routes.paths(Open.UNASKED, Open.ANYONE)),
        ],
        exception_handlers={HTTPException: _http_problem, MissingRoleError: _role_problem},
    )
    app.state.settings = _settings_or_problems(environment)
    app.state.runner = runner
    app.state.desk = desk
    app.state.health = Health(app.state.settings, quotas=quotas)
    app.state.callers = callers
    app.state.recorder = recorder
    routes.add_to(app)
    return app


class _Service(FastAPI):
    """An application whose OpenAPI document tells the credentials that its routes take."""

    def openapi(self) -> dict[str, Any]:
        """The document, made once."""
        document = super().openapi()
        document.setdefault("components", {})["securitySchemes"] = SECURITY_SCHEMES
        return document


def serve(environment: Mapping[str, str] | None = None, *, host: str | None = None, port: int | None = None) -> int:
    """Serves until told to stop, and gives the exit code. `host` and `port` stand in for HOST and PORT.

    A host that is not loopback is refused unless the settings name callers, or a platform that checks them. A run that is
    going on when the process is told to stop ends at its next page.
    """
    collect_seldom()
    host = host or one_setting("HOST", "127.0.0.1", environment)
    port = one_setting("PORT", 8000, environment) if port is None else port
    configure_logging(log_form(environment))
    logging.captureWarnings(True)
    app = create_app(environment)
    callers: Callers = app.state.callers
    try:
        listening = listen(host, port, may_be_public=callers.may_be_public)
    except SettingsError as error:
        sys.stderr.write(f"evalforge: {error.message}\n")
        return error.exit_code
    settings = app.state.settings
    with listening:
        bound_host, bound_port = bound_to(listening)
        emit(
            "service.started",
            host=bound_host,
            port=bound_port,
            store=settings.capture_store if isinstance(settings, Settings) else None,
            site=settings.datadog_site if isinstance(settings, Settings) else None,
            callers=callers.kinds,
        )
        Server(app).run(sockets=[listening])
    if app.state.runner.is_going:
        # Its thread is held, as by a file that somebody locks: Python would wait for it, and the platform would not.
        logging.shutdown()
        os._exit(0)
    return 0


def log_form(environment: Mapping[str, str] | None = None) -> Literal["json", "console"]:
    """LOG_FORMAT; unless it is given, console on a terminal and json elsewhere."""
    form: Literal["json", "console"] = one_setting("LOG_FORMAT", "console" if sys.stderr.isatty() else "json", environment)
    return form


def _caller_settings(environment: Mapping[str, str] | None) -> Settings | None:
    try:
        return Settings.of_callers(environment)
    except SettingsError:
        return None  # all settings are checked beside it, and /health says what is wrong


def _settings_or_problems(environment: Mapping[str, str] | None) -> Settings | SettingsError:
    try:
        return checked_telemetry(Settings.from_environment(environment))
    except SettingsError as error:
        return error


async def _role_problem(_request: Request, error: Exception) -> Response:
    """What the door of a route refuses, before the route itself could answer."""
    if not isinstance(error, MissingRoleError):
        raise error
    return problem_of(error)


async def _http_problem(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods, as problems too."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "no_such_route", 405: "method_not_allowed"}.get(status, "bad_request")
    return problem(
        status, code, "there is no such route; /openapi.json lists all" if status == 404 else "this is not possible here"
    )
