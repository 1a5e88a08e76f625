"""The processes of the fault matrix and the soak: a local Datadog, and runs against it that are forked from a warm one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx

from evalforge.core.signals import Thresholds, find_signals
from evalforge.core.span import Span
from evalforge.sources.datadog.query import Scope
from evalforge.sources.datadog.spans import PARSERS
from tests.contract.stores import Place
from tests.integration.commands import PLAIN, Process, warm
from tests.integration.warm import Run

SALT = "kZ8vQ2mX7pL4wR9tB6nJ3hG5cD1fS0aY"
SECRETS = ("hunter2-api-key", "hunter2-app-key", SALT)
PAGE_BYTES = 40_000
"""How large an answer of the sandbox may be: some 35 spans."""
BODY_TYPES = {"llm_obs": "spans", "apm": "search_request"}
SEARCHES = {"llm_obs": "/api/v2/llm-obs/v1/spans/events/search", "apm": "/api/v2/spans/events/search"}


@dataclass(frozen=True)
class Ran:
    """What came of one process: `status` is its exit code or minus its signal, `report` None where it gave none."""

    status: int
    out: str
    err: str
    steps: tuple[str, ...] = ()

    @cached_property
    def report(self) -> dict[str, Any] | None:
        """The run report on standard output."""
        return json.loads(self.out) if self.out.startswith("{") and self.out.rstrip().endswith("}") else None

    @property
    def told(self) -> str:
        """The last line on standard error."""
        return self.err.rstrip().rpartition("\n")[2]


@dataclass
class Running:
    """A process on its way; what it says is in files of `folder`."""

    process: Process
    folder: Path

    @property
    def pid(self) -> int:
        """Its id."""
        return self.process.pid

    @property
    def steps(self) -> tuple[str, ...]:
        """The steps that it has taken so far, where it counts them."""
        steps = self.folder / "steps"
        return tuple(steps.read_text().splitlines()) if steps.exists() else ()

    def ended(self) -> Ran:
        """What came of it, once it has ended."""
        status = self.process.wait()
        return Ran(status, (self.folder / "out").read_text(), (self.folder / "err").read_text(), self.steps)


class Site:
    """One sandbox process, empty at first, and what starts runs against it; a context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "evalforge", "sandbox", "--port", "0", "--empty"],
            env=PLAIN,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self.http = httpx.Client(base_url=self.url, timeout=30.0)
        self.reset()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    # -- the sandbox

    def reset(self, page_bytes: int = PAGE_BYTES) -> None:
        """Ends all trouble, and forgets what was asked so far; answers have at most `page_bytes`."""
        self.http.delete("/sandbox/trouble").raise_for_status()
        self.http.delete("/sandbox/requests").raise_for_status()
        self.trouble(max_response_bytes=page_bytes)

    def trouble(self, **plan: Any) -> None:
        """Plans trouble, as the sandbox's door takes it."""
        self.http.post("/sandbox/trouble", json=plan).raise_for_status()

    def load(self, **items: Sequence[Any]) -> None:
        """Puts spans into the sandbox."""
        self.http.post("/sandbox/spans", json={name: list(some) for name, some in items.items()}).raise_for_status()

    def asked(self) -> list[dict[str, Any]]:
        """The searches that came since `reset`, the answer's status with each."""
        found: list[dict[str, Any]] = self.http.get("/sandbox/requests").json()["requests"]
        return found

    def items(self) -> Iterator[tuple[str, Any]]:
        """Every item that the sandbox holds, with its source: read page by page without any query."""
        for source, path in SEARCHES.items():
            cursor = None
            while True:
                page = {"limit": 1000, **({"cursor": cursor} if cursor else {})}
                window = {"from": "now-15d", "to": "now+1d", "query": "*"}
                body = {"data": {"type": BODY_TYPES[source], "attributes": {"filter": window, "page": page}}}
                keys = {"DD-API-KEY": "any", "DD-APPLICATION-KEY": "any"}
                answer = self.http.post(path, json=body, headers=keys)
                answer.raise_for_status()
                yield from ((source, item) for item in answer.json()["data"])
                cursor = ((answer.json().get("meta") or {}).get("page") or {}).get("after")
                if not cursor:
                    break

    def failing(self) -> set[str]:
        """The trace ids that must be captured, found by the rules on every item there is."""
        found = set()
        for source, item in self.items():
            span = PARSERS[source](item)
            in_scope = source == "llm_obs" or "llmobs_trace_id" in item["attributes"].get("custom", {})
            if isinstance(span, Span) and in_scope and Scope().contains(span) and find_signals(span, Thresholds()):
                found.add(span.trace_id)
        return found

    # -- runs

    def new_folder(self) -> Path:
        """An empty folder of its own."""
        self._count += 1
        folder = self.folder / str(self._count)
        folder.mkdir()
        return folder

    def environment(self, place: Place, datadog_url: str) -> dict[str, str]:
        """All that a process needs to know."""
        return PLAIN | {
            "DATADOG_API_URL": datadog_url,
            "DATADOG_API_KEY": SECRETS[0],
            "DATADOG_APP_KEY": SECRETS[1],
            "PII_SALT": SALT,
            "RETRY_BUDGET_S": "2",
            **place.settings,
        }

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], **changes: Any) -> Running:
        """A process that has begun."""
        place = self.new_folder()
        run = Run(
            list(arguments), dict(environment), str(place / "out"), str(place / "err"), str(place / "steps"), **changes
        )
        return Running(warm().start(run), place)

    def run(self, arguments: Sequence[str], environment: Mapping[str, str], **changes: Any) -> Ran:
        """What came of a process."""
        return self.start(arguments, environment, **changes).ended()
