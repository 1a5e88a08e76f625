"""Runs a sandbox on a socket: in the foreground, or behind a `with` block."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Collection
from datetime import UTC, datetime
from types import TracebackType

import uvicorn

from evalforge.sandbox.app import create_app
from evalforge.sandbox.connections import Connections
from evalforge.sandbox.guard import is_loopback
from evalforge.sandbox.samples import DEFAULT_SEED, DEFAULT_TRACES, Samples, load
from evalforge.sandbox.state import Sandbox

START_TIMEOUT_S = 15.0


class BackgroundServer:
    """A sandbox that serves on a free port while the `with` block runs; `url` is its address.

    `sandbox` is the one to serve, a new one if None; its store may be filled directly. With `samples` it is loaded with
    the sample traces, which end at `end` (now if None) and are the same for the same `seed`; `samples` then tells what is in
    them.

    Raises: ValueError for a host that is not loopback; OSError when the port is taken.
    """

    def __init__(
        self,
        sandbox: Sandbox | None = None,
        *,
        samples: bool = False,
        seed: int = DEFAULT_SEED,
        end: datetime | None = None,
        traces: int = DEFAULT_TRACES,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.sandbox = sandbox if sandbox is not None else Sandbox()
        self._sampling = (seed, end, traces) if samples else None
        self.samples: Samples | None = None
        self._host, self._port = host, port
        self.url = ""

    def __enter__(self) -> BackgroundServer:
        if self._sampling is not None:
            seed, end, traces = self._sampling
            self.samples = load(self.sandbox.store, seed=seed, end=end, traces=traces)
        self._socket, self.url = _listen(self._host, self._port, allow_remote=False)
        self._server = _server(self.sandbox, allowed_hosts=())
        # A daemon, so that a test that is killed does not leave the process hanging.
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError("the sandbox did not start")
            time.sleep(0.005)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=START_TIMEOUT_S)
        self._socket.close()


def serve(
    host: str = "127.0.0.1",
    port: int = 8126,
    *,
    samples: bool = True,
    seed: int = DEFAULT_SEED,
    allow_remote: bool = False,
    sandbox: Sandbox | None = None,
) -> None:
    """Serve until interrupted; the first line on standard output is the address. Port 0 picks a free one.

    Raises: ValueError for a host that is not loopback, unless `allow_remote`; OSError when the port is taken.
    """
    listening, url = _listen(host, port, allow_remote)
    sandbox = sandbox if sandbox is not None else Sandbox()
    if samples:
        load(sandbox.store, seed=seed, end=datetime.now(UTC))
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    with listening:
        _server(sandbox, allowed_hosts=None if allow_remote else ()).run(sockets=[listening])


def _listen(host: str, port: int, allow_remote: bool) -> tuple[socket.socket, str]:
    """Return a bound socket and the URL that reaches it."""
    if not allow_remote and not is_loopback(host):
        raise ValueError(f"the sandbox has no authentication and serves on loopback only, not on {host!r}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, unlike by create_server: only then asyncio turns Nagle's delay off, which costs 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen()
    except OSError:
        listening.close()
        raise
    bound_port = listening.getsockname()[1]
    return listening, f"http://[{host}]:{bound_port}" if family == socket.AF_INET6 else f"http://{host}:{bound_port}"


def _server(sandbox: Sandbox, allowed_hosts: Collection[str] | None) -> uvicorn.Server:
    connections = Connections()
    app = create_app(sandbox, allowed_hosts=allowed_hosts, connections=connections)
    config = uvicorn.Config(
        app,
        http=connections.protocol(),
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        timeout_graceful_shutdown=1,
    )
    return uvicorn.Server(config)
