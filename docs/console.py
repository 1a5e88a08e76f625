"""Runs the commands that pages show, compares or rewrites what they print: `python -m docs.console [--write] [PAGE...]`.

In a block that is fenced as `console` a line that begins with `$ ` is a command, `> ` goes on with it, and the rest is what
it prints. All commands of a page run in order in one shell, in a fresh folder. A page that links to a stage
(`README.md#NAME` on the line that begins with `Tried on`) is run after the commands below that heading. Ports and names
that a run must have for itself are replaced on the way in and back on the way out, so a page shows what a reader types.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

RUNBOOKS = Path(__file__).parent / "runbooks"
PATIENCE_S = 120.0
"""How long one command may take."""

EMULATOR = "127.0.0.1:8080"
"""Where pages say that the Firestore emulator listens."""

_BLOCK = re.compile(r"(?P<open>^```console\n)(?P<body>.*?)(?P<close>^```$)", re.DOTALL | re.MULTILINE)
_STAGE = re.compile(r"^Tried on .*?\(README\.md#([a-z-]+)\)", re.MULTILINE)
_OWN_PORTS = ("8126", "8000")
_OWN_PROJECT = "acme-evals"

MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00| UTC)?"), "TIME"),
    (re.compile(r"\b(?:\d\d-\d\d )?\d\d:\d\d(?::\d\d)?\b(?: UTC)?"), "TIME"),
    (re.compile(r"\d{4}-\d\d-\d\d"), "DATE"),
    (re.compile(r"\b(run|erasure|export)_\d{8}T\w+"), r"\1_ID"),
    (re.compile(r"\b\d+\.\d{7,}\b"), "NUMBER"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b"), "ID"),
    (re.compile(r"\b\d+(?:\.\d+){2,}\b"), "VERSION"),
    (re.compile(r"\bVERSION on \w+ \w+"), "PLATFORM"),
    (re.compile(r"[+-]?\b\d[\d,.]* ?(?:ms|s|min|kB|MB|GB)\b"), "AMOUNT"),
    (re.compile(r"(?<!HTTP )(?<!exit code )(?<![\w,.])(?:[1-9]\d*(?:,\d{3})*|0)(?:\.\d+)?(?![\w.])(?<!\b0)"), "NUMBER"),
)
"""What differs from run to run, and what stands for it when outputs are compared: times, ids, amounts, and numbers.

Nothing else may differ: words, exit codes, HTTP statuses that stand alone on their line, and whether a number is 0.
"""

_STATUS = re.compile(r"^(\d{3})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Step:
    """One command, as typed, and what the page says that it prints."""

    typed: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def command(self) -> str:
        """What the shell is given."""
        return "\n".join(line[2:] for line in self.typed)


@dataclass(frozen=True, slots=True)
class Difference:
    """A command that failed, or that prints something else than its page says."""

    command: str
    shown: str
    printed: str


class BrokenPageError(Exception):
    """A page that cannot be run; the message says why."""


def steps_of(text: str) -> list[Step]:
    """The commands of all `console` blocks of a page, in order.

    Raises:
        BrokenPageError: a block begins with something that is no command.
    """
    return [step for block in _BLOCK.finditer(text) for step in _steps_in(block["body"])]


def _steps_in(body: str) -> list[Step]:
    steps: list[tuple[list[str], list[str]]] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            steps.append(([line], []))
        elif not steps:
            raise BrokenPageError(f"a block does not begin with a command: {line!r}")
        elif line.startswith("> ") and not steps[-1][1]:
            steps[-1][0].append(line)
        else:
            steps[-1][1].append(line)
    return [Step(tuple(typed), tuple(shown)) for typed, shown in steps]


def staged_steps(page: Path) -> list[Step]:
    """The commands of the stage that a page names; none if it names none.

    Raises:
        BrokenPageError: the stage is not there.
    """
    named = _STAGE.search(page.read_text())
    if named is None:
        return []
    sections = re.split(r"^#+ (.*)$", (page.parent / "README.md").read_text(), flags=re.MULTILINE)
    for title, text in zip(sections[1::2], sections[2::2], strict=True):
        if title.lower().replace(" ", "-") == named[1]:
            return steps_of(text)
    raise BrokenPageError(f"{page.name}: there is no stage {named[1]}")


def needs_emulator(page: Path) -> bool:
    """Whether the page, or its stage, speaks to the Firestore emulator."""
    return any(EMULATOR in step.command for step in (*staged_steps(page), *steps_of(page.read_text())))


def masked(text: str) -> str:
    """`text` with everything that differs from run to run replaced by a word."""
    text = _STATUS.sub(r"HTTP \1", text)
    text = " ".join(text.split())  # where lines break depends on how long numbers are
    for pattern, word in MASKS:
        text = pattern.sub(word, text)
    return text


def compared(page: Path, emulator: str | None = None) -> list[Difference]:
    """What of a page is not true; it was run for that, with the emulator at this `host:port` if it needs one."""
    steps = steps_of(page.read_text())
    differences = []
    for step, (code, printed) in zip(steps, outputs(page, emulator), strict=True):
        shown = "\n".join(step.shown)
        if code or masked(shown) != masked(printed):
            differences.append(Difference(step.command, shown, printed if not code else f"{printed}\n(exit code {code})"))
    return differences


def rewritten(page: Path, emulator: str | None = None) -> str:
    """The page with what its commands print now; where only what differs anyway differs, it stays as it is.

    Raises:
        BrokenPageError: a command fails.
    """
    printed = outputs(page, emulator)

    def block(match: re.Match[str]) -> str:
        lines: list[str] = []
        for step in _steps_in(match["body"]):
            code, text = next(printed)
            if code:
                raise BrokenPageError(f"{page.name}: exit code {code} of {step.command!r}:\n{text}")
            is_same = masked(text) == masked("\n".join(step.shown))
            lines += [*step.typed, *(step.shown if is_same else text.splitlines())]
        return match["open"] + "".join(f"{line}\n" for line in lines) + match["close"]

    return _BLOCK.sub(block, page.read_text())


def outputs(page: Path, emulator: str | None = None) -> Iterator[tuple[int, str]]:
    """The exit code and the output (both streams) of each command of the page, in order.

    Raises:
        BrokenPageError: a command of its stage fails, or one takes too long.
    """
    inward = {port: str(_free_port()) for port in _OWN_PORTS}
    inward[_OWN_PROJECT] = f"p{uuid.uuid4().hex[:12]}"
    if emulator is not None:
        inward[EMULATOR] = emulator
    with _folder() as folder, _Shell(folder) as shell:
        outward = {real: shown for shown, real in inward.items()} | {str(folder): "~", socket.gethostname(): "host"}
        for step in staged_steps(page):
            code, text = shell.ran(_replaced(step.command, inward))
            if code:
                raise BrokenPageError(f"{page.name}: exit code {code} of its stage's {step.command!r}:\n{text}")
        for step in steps_of(page.read_text()):
            code, text = shell.ran(_replaced(step.command, inward))
            yield code, _replaced(text, outward)


def _replaced(text: str, names: Mapping[str, str]) -> str:
    for old in sorted(names, key=len, reverse=True):
        text = text.replace(old, names[old])
    return text


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="evalforge-page-")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Shell:
    """One bash for all commands of a page: what they export, and what they start, stays until the end of the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tools = folder / ".tools"
        tools.mkdir()
        for name, program in (("evalforge", f'"{sys.executable}" -m evalforge'), ("python3", f'"{sys.executable}"')):
            (tools / name).write_text(f'#!/bin/sh\nexec {program} "$@"\n')
            (tools / name).chmod(0o755)
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "SYSTEMROOT") if name in os.environ}
        self._environment = kept | {
            "PATH": f"{tools}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "COLUMNS": "100",
            "NO_GCE_CHECK": "true",
        }

    def __enter__(self) -> _Shell:
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],  # noqa: S607 - whichever bash the reader has
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            time.sleep(0.2)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()

    def ran(self, command: str) -> tuple[int, str]:
        """The exit code of a command, and what it printed."""
        typed = self._folder / ".tools" / "typed"
        typed.write_text(command)
        end = f"end-{uuid.uuid4().hex}"
        assert self._process.stdin is not None
        self._process.stdin.write(f"eval \"$(cat '{typed}')\" </dev/null\nprintf '\\n{end} %s\\n' \"$?\"\n".encode())
        self._process.stdin.flush()
        text, _, code = self._read_until(end, command).rpartition(end)
        return int(code), "\n".join(line.rstrip() for line in text.strip("\n").splitlines())

    def _read_until(self, end: str, command: str) -> str:
        assert self._process.stdout is not None
        read, deadline = b"", time.monotonic() + PATIENCE_S
        while not re.search(rf"{end} \d+\n".encode(), read):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._process.stdout.fileno(), 65_536) if ready else b""
            if not chunk:
                raise BrokenPageError(f"no end of {command!r}:\n{read.decode(errors='replace')}")
            read += chunk
        return read.decode(errors="replace")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pages() -> list[Path]:
    """Every runbook."""
    return sorted(page for page in RUNBOOKS.glob("*.md") if page.name != "README.md")


def main(arguments: Sequence[str]) -> int:
    """Rewrites the runbooks that are named, or all, with `--write`; else prints what is not true. 1: something was not.

    The pages on Firestore need FIRESTORE_EMULATOR_HOST.
    """
    names = {name.removesuffix(".md") for name in arguments if not name.startswith("-")}
    emulator = os.environ.get("FIRESTORE_EMULATOR_HOST")
    wrong = 0
    for page in pages():
        if names and page.stem not in names:
            continue
        if needs_emulator(page) and emulator is None:
            print(f"{page.name}: left out, it needs FIRESTORE_EMULATOR_HOST")
            wrong += 1
        elif "--write" in arguments:
            text = rewritten(page, emulator)
            print(f"{page.name}: {'as it was' if text == page.read_text() else 'rewritten'}", flush=True)
            page.write_text(text)
        else:
            for difference in compared(page, emulator):
                wrong += 1
                print(
                    f"{page.name}: $ {difference.command}\n-- shown:\n{difference.shown}\n-- printed:\n{difference.printed}"
                )
    return 1 if wrong else 0


if __name__ == "__main__":
    # Whoever ends this ends what the page has started, too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    sys.exit(main(sys.argv[1:]))
