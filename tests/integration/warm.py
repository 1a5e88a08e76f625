"""A warm `evalforge`: everything is imported once, and each run is a process of its own, forked from here.

`python -m tests.integration.warm` reads one JSON object a line. `{"start": {…}}`, with the fields of `Run`, answers
`{"pid": …}` as soon as the process lives; `{"poll": pid}` answers `{"status": …}`: its exit code or minus its signal, null
while it lives. A run is the real command line, or the real service, over real parts. What a cell of the fault matrix asks
for beyond that is done from outside the ports: a signal at the n-th step, another clock, another patience.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import pkgutil
import runpy
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, Literal, NoReturn, cast

import httpx

import evalforge
from evalforge import bootstrap
from evalforge.config import Settings
from evalforge.core.ports import Page
from evalforge.core.ports.telemetry import SILENCE, Telemetry
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.credentials import DatadogKeys
from evalforge.runs import lease
from evalforge.sandbox import samples
from evalforge.sources.datadog import client as datadog
from evalforge.sources.datadog.spans import PARSERS
from evalforge.stores.firestore import FirestoreStore
from evalforge.stores.sqlite import SqliteStore

Level = Literal["steps", "statements", "renewals"]


@dataclass(frozen=True)
class Run:
    """One process: `python -m` with the `module` and its `arguments`. `environment` is all that it has; `stdin`, `out` and
    `err` are files or terminals, `folder` is where it stands, and a `leads_session` is away from the tests' terminal.

    With a `level` it counts steps of that kind and writes each one's name to the file `steps` before it is taken; at the
    `at`-th (from 0) it sends itself the `signals`. `clock_offset_s` is how far its clock is ahead. `store_patience_s` and
    `datadog_patience_s` stand in for the 30 s that a store, and the 30 s and 120 s that an answer may take, `renewal_s` for
    the 20 s between renewals of the lease. `max_pages` is all the room that SQLite has for the file, `max_file_bytes` the
    system's limit for any file.
    """

    arguments: list[str]
    environment: dict[str, str]
    out: str
    err: str
    steps: str = ""
    module: str = "evalforge"
    stdin: str = os.devnull
    folder: str | None = None
    leads_session: bool = False
    level: Level | None = None
    at: int | None = None
    signals: list[int] = field(default_factory=list)
    clock_offset_s: float = 0.0
    store_patience_s: float | None = None
    datadog_patience_s: list[float] | None = None
    renewal_s: float | None = None
    max_pages: int | None = None
    max_file_bytes: int | None = None


class Steps:
    """Counts steps, writes down their names, and sends the signals when the one that was asked for is about to be taken."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._count = 0
        self._log = os.open(run.steps, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def take(self, level: Level, name: str) -> None:
        """Says that a step comes next."""
        if level != self._run.level:
            return
        os.write(self._log, f"{name}\n".encode())
        self._count += 1  # first: a signal may become an exception
        if self._count - 1 == self._run.at:
            for number in self._run.signals:
                os.kill(os.getpid(), number)


class SteppedStore:
    """A store whose every call is a step."""

    def __init__(self, store: Any, steps: Steps) -> None:
        self._store = store
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if iscoroutinefunction(method):

            async def called(*values: Any, **named: Any) -> Any:
                self._steps.take("renewals" if name == "renew_lease" else "steps", name)
                return await method(*values, **named)

            return called

        def begun(*values: Any, **named: Any) -> Any:
            self._steps.take("steps", name)
            return method(*values, **named)

        return begun


class SteppedSource:
    """A source whose every page is a step."""

    def __init__(self, source: Any, steps: Steps) -> None:
        self._source = source
        self._steps = steps

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    async def pages(self, *values: Any, **named: Any) -> AsyncGenerator[Page, None]:
        async with aclosing(self._source.pages(*values, **named)) as pages:
            while True:
                self._steps.take("steps", f"search {self._source.name}")
                try:
                    page = await anext(pages)
                except StopAsyncIteration:
                    return
                yield page


def step_through(run: Run, steps: Steps) -> None:
    """Makes every call at the ports of a run, and every SQL statement, a step."""
    open_store, open_sources = bootstrap.opened_store, bootstrap.opened_sources

    @asynccontextmanager
    async def opened_store(settings: Settings, telemetry: Telemetry = SILENCE, *, writers: int = 1) -> AsyncIterator[Any]:
        async with open_store(settings, telemetry, writers=writers) as store:
            yield SteppedStore(store, steps)
            steps.take("steps", "close")

    @asynccontextmanager
    async def opened_sources(
        settings: Settings, keys: DatadogKeys, telemetry: Telemetry = SILENCE
    ) -> AsyncIterator[list[Any]]:
        async with open_sources(settings, keys, telemetry) as sources:
            yield [SteppedSource(source, steps) for source in sources]

    bootstrap.opened_store, bootstrap.opened_sources = opened_store, opened_sources
    on_sqlite_connection(
        lambda connection: connection.set_trace_callback(lambda text: steps.take("statements", one_line(text)))
    )


def one_line(text: str) -> str:
    """The beginning of a text, on one line."""
    return " ".join(text.split())[:60]


def on_sqlite_connection(hear: Callable[[sqlite3.Connection], object]) -> None:
    """Tells of every SQLite connection that this process opens, before anything is asked of it."""

    class Heard(sqlite3.Connection):
        def __init__(self, *values: Any, **named: Any) -> None:
            super().__init__(*values, **named)
            hear(self)

    cast(Any, sqlite3).connect = partial(sqlite3.connect, factory=Heard)


def prepare(run: Run) -> None:
    """Sets up this process as the run asks for."""
    if run.level is not None:
        step_through(run, Steps(run))
    if run.clock_offset_s:
        offset = timedelta(seconds=run.clock_offset_s)
        bootstrap.utc_now = lambda: datetime.now(UTC) + offset
    if run.store_patience_s is not None:
        for store in (SqliteStore, FirestoreStore):
            cast(Any, store.__init__).__kwdefaults__["timeout_s"] = run.store_patience_s
    if run.datadog_patience_s is not None:
        read_s, whole_s = run.datadog_patience_s
        datadog._TIMEOUT, datadog._WHOLE_REQUEST_S = httpx.Timeout(read_s), whole_s
    if run.renewal_s is not None:
        lease.LEASE_RENEWAL_S = run.renewal_s
    if run.max_pages is not None:
        pages = run.max_pages
        on_sqlite_connection(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}"))
    if run.max_file_bytes is not None:
        import resource

        # Python ignores SIGXFSZ: what would grow a file beyond this fails, as on a full disk or beyond a quota.
        resource.setrlimit(resource.RLIMIT_FSIZE, (run.max_file_bytes, run.max_file_bytes))


def live(run: Run) -> NoReturn:
    """Is the forked process: the module with the run's own streams and environment, and then its orderly end."""
    if run.leads_session:
        os.setsid()
    for path, stream in ((run.stdin, 0), (run.out, 1), (run.err, 2)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOCTTY, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    # Not those of the warm process: they hold what was read ahead, and do not know of a terminal.
    sys.stdin, sys.stdout = open(0), open(1, "w")  # noqa: SIM115 - open as long as the process lives
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115
    os.environ.clear()
    os.environ.update(run.environment)
    time.tzset()
    if run.folder is not None:
        os.chdir(run.folder)
    prepare(run)
    sys.argv = [run.module, *run.arguments]
    try:
        runpy.run_module(run.module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if isinstance(end.code, int):
            leave(end.code)
        raise
    leave(0)


def leave(code: int) -> NoReturn:
    """Ends as `multiprocessing` ends what it forked: threads are waited for and exit functions run, but nothing is freed,
    which would copy every page that is shared with the warm process."""
    cast(Any, threading)._shutdown()
    cast(Any, atexit)._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def polled(pid: int) -> int | None:
    """The status that a process has ended with, None while it lives."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def warm_up() -> None:
    """Imports everything, and judges and sanitizes sample spans: no forked process has to load, compile or import."""
    for found in pkgutil.walk_packages(evalforge.__path__, "evalforge."):
        if not found.name.endswith("__main__"):
            import_module(found.name)
    sanitizer = Sanitizer(KeyRing((b"k" * 32,)))
    for item in samples.generate(traces=60).llm_obs:
        span = PARSERS["llm_obs"](item)
        if isinstance(span, Span) and (signals := find_signals(span, Thresholds())):
            sanitizer.sanitize(span, signals)
    gc.freeze()


def main() -> None:
    """Serves until its input ends, then ends whatever is still running."""
    warm_up()
    running: set[int] = set()
    for line in sys.stdin:
        asked = json.loads(line)
        if "start" in asked:
            pid = os.fork()
            if pid == 0:
                live(Run(**asked["start"]))
            running.add(pid)
            answer: dict[str, int | None] = {"pid": pid}
        else:
            pid = asked["poll"]
            answer = {"status": polled(pid)}
            if answer["status"] is not None:
                running.discard(pid)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
