"""The application and the server around it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from types import FrameType
from typing import Literal

import uvicorn
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from evalforge import __version__
from evalforge.config import Settings, one_setting
from evalforge.core.sites import is_loopback
from evalforge.errors import SettingsError
from evalforge.events import configure_logging, emit
from evalforge.service.health import Health
from evalforge.service.hosts import Guard
from evalforge.service.problems import Catch, problem
from evalforge.service.quotas import Quotas
from evalforge.service.routes import router
from evalforge.service.running import Runner


def create_app(environment: Mapping[str, str] | None = None) -> FastAPI:
    """The application under the settings of `environment`, by default this process's.

    Wrong settings do not stop it: `/health` and every run say what is wrong with them.
    """
    quotas = Quotas()
    runner = Runner(quotas, grace_s=one_setting("STOP_GRACE_S", 8, environment))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        settings = app.state.settings
        if isinstance(settings, SettingsError):
            emit("service.misconfigured", problems=settings.problems)
        yield
        await runner.stopped()
        emit("service.stopped")

    app = FastAPI(
        title="EvalForge ingestion",
        version=__version__,
        description="Pulls the failures of LLM applications out of Datadog into your own store, without personal data.",
        # The interactive pages would load scripts from somebody else's servers; /openapi.json is enough for any tool.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        middleware=[
            Middleware(Catch),
            Middleware(Guard, public_hosts=one_setting("PUBLIC_HOSTS", (), environment)),
        ],
        exception_handlers={HTTPException: _http_problem},
    )
    app.state.settings = _settings_or_problems(environment)
    app.state.runner = runner
    app.state.health = Health(app.state.settings, quotas=quotas)
    app.include_router(router)
    return app


def serve(environment: Mapping[str, str] | None = None, *, host: str | None = None, port: int | None = None) -> int:
    """Serves until told to stop, and gives the exit code. `host` and `port` stand in for HOST and PORT.

    A host that is not loopback is refused: there is no authentication yet. A run that is going on when the process is told
    to stop ends at its next page.
    """
    host = host or one_setting("HOST", "127.0.0.1", environment)
    port = one_setting("PORT", 8000, environment) if port is None else port
    configure_logging(log_form(environment))
    logging.captureWarnings(True)
    try:
        listening = _listen(host, port)
    except SettingsError as error:
        sys.stderr.write(f"evalforge: {error.message}\n")
        return error.exit_code
    app = create_app(environment)
    settings = app.state.settings
    with listening:
        bound_host, bound_port = listening.getsockname()[:2]
        emit(
            "service.started",
            host=bound_host,
            port=bound_port,
            store=settings.capture_store if isinstance(settings, Settings) else None,
            site=settings.datadog_site if isinstance(settings, Settings) else None,
        )
        _Server(app).run(sockets=[listening])
    return 0


def log_form(environment: Mapping[str, str] | None = None) -> Literal["json", "console"]:
    """LOG_FORMAT; unless it is given, console on a terminal and json elsewhere."""
    form: Literal["json", "console"] = one_setting("LOG_FORMAT", "console" if sys.stderr.isatty() else "json", environment)
    return form


class _Server(uvicorn.Server):
    """uvicorn, but a signal is told to the run at once, and a stop that was asked for is no failure."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                # The strictest of uvicorn's parsers: it refuses what another might read differently, such as two Host lines.
                http="h11",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                # Nobody in front is trusted to say where a request came from.
                proxy_headers=False,
                timeout_graceful_shutdown=app.state.runner.grace_s,
            )
        )
        self._runner: Runner = app.state.runner

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stops accepting; a second signal ends without waiting."""
        if self.should_exit:
            self.force_exit = True
        self._runner.stop()
        self.should_exit = True


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]").lower()
    if not is_loopback(bare):
        raise SettingsError(
            f"HOST: got {host[:80]!r}; wants a loopback address such as 127.0.0.1. Authentication comes in a later version: "
            "until then keep the service on loopback and put a proxy that authenticates in front of it"
        )
    try:
        return socket.create_server((bare, port), family=socket.AF_INET6 if ":" in bare else socket.AF_INET)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SettingsError(f"PORT: got {port}; wants a port that is free on {bare} ({reason})") from error


def _settings_or_problems(environment: Mapping[str, str] | None) -> Settings | SettingsError:
    try:
        return Settings.from_environment(environment)
    except SettingsError as error:
        return error


async def _http_problem(_request: Request, error: Exception) -> Response:
    """Unknown paths and methods, as problems too."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "no_such_route", 405: "method_not_allowed"}.get(status, "bad_request")
    return problem(
        status, code, "there is no such route; /openapi.json lists all" if status == 404 else "this is not possible here"
    )
