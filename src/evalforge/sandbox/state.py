"""One sandbox: its spans, its limits, its troubles and what was asked of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from evalforge.sandbox.back.shapes import RecordShape
from evalforge.sandbox.back.shelf import Shelf
from evalforge.sandbox.limits import DEFAULT_LIMITS, Meter, RateLimit
from evalforge.sandbox.memory import Store
from evalforge.sandbox.search import MAX_RESPONSE_BYTES
from evalforge.sandbox.spans import Area, Json, Source
from evalforge.sandbox.trouble import Plan

REQUESTS_KEPT = 10_000

SEARCH_PERMISSIONS: Mapping[Source, str] = {"llm_obs": "llm_observability_read", "apm": "apm_read"}
"""What an application key needs for each search."""

MONITORS_READ = "monitors_read"

READ, WRITE = "llm_observability_read", "llm_observability_write"
"""What an application key needs to look at datasets and annotation queues, and to change them."""

PERMISSIONS = (*SEARCH_PERMISSIONS.values(), WRITE, MONITORS_READ)
"""Every permission that the sandbox knows, by Datadog's names."""


def known_permission(name: str) -> str:
    """Return the permission of this name.

    Raises: ValueError that says which there are.
    """
    if name not in PERMISSIONS:
        raise ValueError(f"wants one of {', '.join(PERMISSIONS)}")
    return name


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A search that came in, and its answer's status; keys are never kept. `body` is a GET's parameters."""

    at: float
    source: Source
    method: str
    path: str
    body: Json
    status: int


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """A request about projects, datasets or annotation queues, and its answer's status."""

    at: float
    method: str
    path: str
    status: int


@dataclass(frozen=True, slots=True)
class Arrival:
    """One body that an application sent, and what was in it; `dropped` counts what could not be read."""

    at: float
    method: str
    path: str
    spans: int
    evaluations: int
    dropped: int


MAX_CHANGE_BYTES = 5 * 1024 * 1024
"""How large a change of records may be. Datadog says 413 and not when; its own SDK stays below this."""


class Sandbox:
    """A local Datadog without its HTTP.

    `accepted_keys` are the keys that are good, as API key and as application key; None accepts any that is not empty.
    `permissions` are what an application key may do: search, unless they are set otherwise, and no more.
    `now` gives seconds since the Unix epoch.
    """

    def __init__(
        self,
        *,
        limits: Mapping[Area, RateLimit] | None = None,
        accepted_keys: Collection[str] | None = None,
        max_response_bytes: int = MAX_RESPONSE_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.now = now
        self.store = Store(now)
        self.shelf = Shelf(now)
        self.record_shape: RecordShape = "recorded"
        self.max_change_bytes = MAX_CHANGE_BYTES
        self.accepted_keys = accepted_keys
        self.permissions = frozenset(SEARCH_PERMISSIONS.values())
        self.max_response_bytes = max_response_bytes
        self.trouble = Plan()
        self.requests: deque[LoggedRequest] = deque(maxlen=REQUESTS_KEPT)
        self.calls: deque[LoggedCall] = deque(maxlen=REQUESTS_KEPT)
        self.arrivals: deque[Arrival] = deque(maxlen=REQUESTS_KEPT)
        self.meters: dict[Area, Meter] = {}
        self.set_limits({**DEFAULT_LIMITS, **(limits or {})})

    def set_limits(self, limits: Mapping[Area, RateLimit]) -> None:
        """Replace the rate limits of the areas named, and count from zero."""
        for area, limit in limits.items():
            self.meters[area] = Meter(area, limit, self.now)

    def key_fault(self, *keys: str | None) -> int | None:
        """Return the status that the keys are refused with (401 missing, 403 not accepted), None when they are good."""
        if not all(keys):
            return 401
        if self.accepted_keys is not None and not all(key in self.accepted_keys for key in keys):
            return 403
        return None
