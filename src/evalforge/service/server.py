"""The server around the application: where it listens, and how it treats whoever is slow, or does not speak HTTP."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import uuid
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from evalforge.core.sites import is_loopback
from evalforge.errors import SettingsError
from evalforge.service.envelope import SECURITY_HEADERS
from evalforge.service.limits import BUSY_RETRY_AFTER_S, MAX_HEADER_BYTES
from evalforge.service.problems import REQUEST_ID, problem
from evalforge.service.running import Runner

MAX_CONNECTIONS = 256
REQUEST_TIMEOUT_S = 20.0
"""Within which a request has to be there, from its first byte (or the connection) to its last."""

WRITE_TIMEOUT_S = 20.0
"""How long a caller may leave an answer lying, and how long a connection that was closed may take to go."""

MAX_UNREAD_BYTES = 1024 * 1024
"""How much of a body is read and dropped after it was refused, so that its sender gets to see the answer."""

_NOT_HTTP = {
    400: ("bad_http", "this is not a request as HTTP/1.1 has it"),
    408: ("too_slow", f"the request was not there within {REQUEST_TIMEOUT_S:g} s"),
    431: ("headers_too_large", f"the headers have more than {MAX_HEADER_BYTES} bytes"),
    501: ("not_implemented", "this transfer coding is not understood"),
    503: ("busy", "too many connections are open"),
}


class Protocol(H11Protocol):
    """uvicorn's strictest protocol (it refuses what another might read differently, such as two Host lines), with bounds."""

    max_connections = MAX_CONNECTIONS
    request_timeout_s = REQUEST_TIMEOUT_S
    write_timeout_s = WRITE_TIMEOUT_S
    max_unread_bytes = MAX_UNREAD_BYTES

    _deadline: asyncio.TimerHandle | None = None
    _write_deadline: asyncio.TimerHandle | None = None
    _unread_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Takes the connection, or turns it away when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.max_connections:
            self._answer(503)
        else:
            self._start_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops every clock."""
        self._stop_deadline()
        self._stop_write_deadline()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on; a sender who goes on with a body that was answered already is heard for a while, and then no more."""
        if self.transport.is_closing():
            return
        if self.conn.our_state is h11.DONE:
            self._unread_bytes += len(data)
            if self._unread_bytes > self.max_unread_bytes:
                self._close()
                return
        super().data_received(data)

    def handle_events(self) -> None:
        """Reads requests; the clock runs while one is not there whole."""
        super().handle_events()
        state = self.conn.their_state
        if state is h11.SEND_BODY or (state is h11.IDLE and self.conn.trailing_data[0]):
            self._start_deadline()
        else:
            self._stop_deadline()
            self._unread_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """Answers what is not HTTP in our own words; uvicorn calls it while it catches what h11 says."""
        error = sys.exc_info()[1]
        self._answer(error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400)

    def on_response_complete(self) -> None:
        """Goes on to the next request, or makes sure that a connection that is closed does go."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._start_write_deadline()

    def timeout_keep_alive_handler(self) -> None:
        """Closes an idle connection, for good."""
        super().timeout_keep_alive_handler()
        self._start_write_deadline()

    def pause_writing(self) -> None:
        """The caller leaves an answer lying: not for long."""
        super().pause_writing()
        self._start_write_deadline()

    def resume_writing(self) -> None:
        """The caller reads on."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_write_deadline()

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.request_timeout_s, self._answer, 408)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _start_write_deadline(self) -> None:
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self.write_timeout_s, self.transport.abort)

    def _stop_write_deadline(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def _answer(self, status: int) -> None:
        """Answers without the application, if no answer has begun, and closes."""
        self._stop_deadline()
        if not self.transport.is_closing() and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            if self.cycle is not None and not self.cycle.response_complete:
                self.cycle.disconnected = True  # what the application still says is dropped
            answer = _answer_of(status)
            headers = [*answer.raw_headers, (b"connection", b"close")]
            head = h11.Response(status_code=status, headers=headers, reason=_reason_of(status))
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._close()

    def _close(self) -> None:
        self._stop_deadline()
        self.transport.close()
        self._start_write_deadline()


def _answer_of(status: int) -> Response:
    code, detail = _NOT_HTTP.get(status, _NOT_HTTP[400])
    request_id = uuid.uuid4().hex
    token = REQUEST_ID.set(request_id)
    try:
        return problem(
            status,
            code,
            detail,
            retry_after_s=BUSY_RETRY_AFTER_S if status == 503 else None,
            headers={**SECURITY_HEADERS, "X-Request-Id": request_id},
        )
    finally:
        REQUEST_ID.reset(token)


def _reason_of(status: int) -> bytes:
    from http import HTTPStatus

    return HTTPStatus(status).phrase.encode()


class Server(uvicorn.Server):
    """uvicorn, but a signal is told to the run at once, and a stop that was asked for is no failure."""

    def __init__(self, app: FastAPI, protocol: type[asyncio.Protocol] = Protocol) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                loop="asyncio",
                http=protocol,
                ws="none",
                log_config=None,
                # Its warnings can be caused by anybody, as often as they like.
                log_level="error",
                access_log=False,
                server_header=False,
                # Nobody in front is trusted to say where a request came from.
                proxy_headers=False,
                h11_max_incomplete_event_size=MAX_HEADER_BYTES,
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


def listen(host: str, port: int, *, may_be_public: bool) -> socket.socket:
    """A socket that listens on `host` and `port`; port 0 picks a free one.

    Raises:
        SettingsError: HOST is not loopback, though nobody would be asked who they are; or HOST and PORT cannot be had.
    """
    bare = host.strip("[]").lower()
    if not may_be_public and not is_loopback(bare):
        raise SettingsError(
            f"HOST: got {host[:80]!r}; wants a loopback address such as 127.0.0.1, or callers: SERVICE_API_KEYS (evalforge "
            "keys new makes one) or SERVICE_OIDC_CALLERS; or SERVICE_CALLERS_CHECKED_BY=platform where only callers that "
            "were checked get through to the service"
        )
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    # Named as TCP, unlike by create_server: only then asyncio turns Nagle's delay off, which costs 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if bare == "::" and socket.has_dualstack_ipv6():
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind((bare, port))
        listening.listen()
    except OSError as error:
        listening.close()
        reason = os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else type(error).__name__
        raise SettingsError(f"PORT: got {port}; wants a port that is free on {bare} ({reason})") from error
    return listening


def bound_to(listening: socket.socket) -> tuple[str, int]:
    """The address and the port of a listening socket."""
    address: tuple[Any, ...] = listening.getsockname()
    return str(address[0]), int(address[1])
