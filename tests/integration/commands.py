"""The commands and the service as processes of their own, forked from one warm `evalforge` for each worker of the tests.

To start Python and import everything takes most of what a command takes. What is true only of a process that starts by
itself (`python -m evalforge` at all, another hash seed, an interrupt during imports) is tested with `subprocess`.
"""

from __future__ import annotations

import atexit
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.integration.warm import Run

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
PLAIN = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "PYTHONPATH") if name in os.environ}


class Warm:
    """Starts processes that are forked from a warm one, and says how they ended."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.warm"],
            cwd=ROOT,
            env=PLAIN,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()

    def close(self) -> None:
        """Ends it, and whatever is still running."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def start(self, run: Run) -> Process:
        """A process that has begun."""
        pid = self._ask(start=asdict(run))["pid"]
        assert pid is not None
        return Process(self, pid)

    def status(self, pid: int) -> int | None:
        """How a process ended: its exit code, or minus its signal; None while it lives."""
        return self._ask(poll=pid)["status"]

    def _ask(self, **order: Any) -> dict[str, int | None]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            answer: dict[str, int | None] = json.loads(self._process.stdout.readline())
            return answer


@cache
def warm() -> Warm:
    """The warm `evalforge` of this worker."""
    ready = Warm()
    atexit.register(ready.close)
    return ready


class Process:
    """A process on its way: what tests use of `subprocess.Popen`."""

    def __init__(self, warm: Warm, pid: int) -> None:
        self._warm = warm
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, None while it lives."""
        if self.returncode is None:
            self.returncode = self._warm.status(self.pid)
        return self.returncode

    def wait(self, timeout: float = PATIENCE_S) -> int:
        """How it ended, once it has; one that takes too long is killed."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.002)
        return status

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it is known to have ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)


def ran(
    *arguments: str, environment: Mapping[str, str], input: bytes = b"", cwd: Path | None = None, module: str = "evalforge"
) -> subprocess.CompletedProcess[bytes]:
    """What came of one process that was left to its end."""
    with TemporaryDirectory() as place:
        said, out, err = (Path(place) / name for name in ("in", "out", "err"))
        said.write_bytes(input)
        run = Run(
            list(arguments),
            dict(environment),
            str(out),
            str(err),
            stdin=str(said),
            module=module,
            folder=None if cwd is None else str(cwd),
        )
        status = warm().start(run).wait()
        return subprocess.CompletedProcess(arguments, status, out.read_bytes(), err.read_bytes())


def ran_text(
    *arguments: str, environment: Mapping[str, str], input: str = "", cwd: Path | None = None, module: str = "evalforge"
) -> subprocess.CompletedProcess[str]:
    """The same, with what was said as text."""
    done = ran(*arguments, environment=environment, input=input.encode(), cwd=cwd, module=module)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def evalforge(
    environment: Mapping[str, str], *arguments: str, code: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """What a command said, which ends as it should and shows no secret."""
    done = ran_text(*arguments, environment=environment, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return done


def on_a_terminal(
    environment: Mapping[str, str], *arguments: str, columns: int = 80, answers: Sequence[tuple[str, str]] = ()
) -> tuple[int, str]:
    """The exit code of a command that believes in a terminal, and what it showed there.

    Each of `answers` is a text to wait for, and a line to type then.
    """
    master, slave = pty.openpty()
    terminal = os.ttyname(slave)
    surroundings = {**environment, "COLUMNS": str(columns), "TERM": "xterm-256color"}
    process = warm().start(Run(list(arguments), surroundings, terminal, terminal, stdin=terminal, leads_session=True))
    shown = bytearray()
    waiting = list(answers)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None  # asked first: what it showed last is read after that
        ready, _, _ = select.select([master], [], [], 0 if has_ended else 0.02)
        if ready:
            shown += os.read(master, 65536)
            if waiting and waiting[0][0].encode() in shown:
                os.write(master, waiting.pop(0)[1].encode() + b"\n")
        elif has_ended:
            break
    os.close(slave)
    os.close(master)
    return process.wait(), shown.decode()
