"""One bash for the commands of one page: `export`, `cd` and what was written before count, as they do for a reader."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PATIENCE_S = 60.0
_MARK = "the command ended with"


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed on both streams."""

    code: int
    stdout: str
    stderr: str


class Shell:
    """A bash in a folder while the block runs. Whatever it started in the background ends with it."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder, self._count = folder, 0
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, *_: object) -> None:
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._bash.pid, ending)
                self._bash.wait(timeout=10)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        for stream in (self._bash.stdin, self._bash.stdout):
            if stream:
                stream.close()

    def run(self, command: str, typed: str = "") -> Done:
        """Runs a command to its end; `typed` is its standard input."""
        out, err, given = self._files()
        given.write_text(typed)
        self._say(f"{{ {command}\n}} >'{out}' 2>'{err}' <'{given}'\necho \"{_MARK} $?\"\n")
        return Done(self._heard(), out.read_text(), err.read_text())

    def serve(self, command: str, ready: str) -> None:
        """Starts one simple command that goes on until it is stopped, and returns once `ready` is in what it printed."""
        out, err, _ = self._files()
        self._say(f"{{ exec env {command}\n}} >'{out}' 2>'{err}' </dev/null &\n")
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(ready, out.read_text() + err.read_text() if out.exists() and err.exists() else ""):
            assert time.monotonic() < deadline, f"{command}: {out.read_text()}{err.read_text()}"
            assert self.run("jobs %+").code == 0, f"{command} ended: {out.read_text()}{err.read_text()}"
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends what `serve` started."""
        self.run("kill $(jobs -p); wait")

    def _files(self) -> tuple[Path, Path, Path]:
        self._count += 1
        place = self._folder / ".streams"
        place.mkdir(exist_ok=True)
        out, err, given = (place / f"{self._count}.{name}" for name in ("out", "err", "in"))
        return out, err, given

    def _say(self, lines: str) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(lines.encode())
        self._bash.stdin.flush()

    def _heard(self) -> int:
        """The exit code that the shell tells."""
        assert self._bash.stdout is not None
        heard, deadline = "", time.monotonic() + PATIENCE_S
        while not (found := re.search(rf"{_MARK} (\d+)\n", heard)):
            ready, _, _ = select.select([self._bash.stdout], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"no end after {PATIENCE_S:.0f} s"
            said = os.read(self._bash.stdout.fileno(), 4096).decode()
            assert said, f"the shell has gone: {heard}"
            heard += said
        return int(found[1])
