"""Faults on demand: which searches go wrong, and how. A plan is a list; nothing in it is random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from evalforge.sandbox.spans import Json, Source

FaultKind = Literal[
    "status",  # answers `status`, with a `json` or `html` body
    "rate_limited",  # 429; `rate_headers` false leaves the headers out, `reset_s` sets x-ratelimit-reset
    "html",  # 200 with a page instead of JSON, as a proxy's login does
    "truncated",  # 200 whose JSON ends in the middle
    "cut",  # 200 whose connection closes in the middle of the body
    "reset",  # the connection is reset before an answer
    "partial",  # meta.status "timeout", half of the rows, and a cursor that goes on
    "bad_cursor",  # 400 for a request that brings a cursor
    "no_index",  # 500 "No valid indexes specified": an organisation without any LLM Observability data
    "slow",  # only waits `latency_s`
]


@dataclass(slots=True)
class Fault:
    """One way for a search to go wrong.

    `source` None is either source. It skips the first `after` searches it could hit, then hits every `every`th, `times`
    times in all (None: for ever). `latency_s` is waited first, whatever the kind.
    """

    kind: FaultKind
    source: Source | None = None
    times: int | None = 1
    after: int = 0
    every: int = 1
    status: int = 500
    body: Literal["json", "html"] = "json"
    rate_headers: bool = True
    reset_s: int | None = None
    latency_s: float = 0.0
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def strikes(self, source: Source, has_cursor: bool) -> bool:
        """Tell whether this search is hit, and count it."""
        if self.source not in (None, source) or (self.kind == "bad_cursor" and not has_cursor):
            return False
        self.seen += 1
        due = self.seen - self.after
        if due < 1 or (due - 1) % self.every or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class Plan:
    """The faults in force, asked in order: the first one that strikes decides, and slow ones add up before it."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def next(self, source: Source, has_cursor: bool) -> tuple[float, Fault | None]:
        """Return how many seconds this search waits, and the fault that it meets, if any."""
        latency_s = 0.0
        for fault in self.faults:
            if fault.strikes(source, has_cursor):
                latency_s += fault.latency_s
                if fault.kind != "slow":
                    return latency_s, fault
        return latency_s, None


_KNOWN = tuple(f.name for f in fields(Fault) if f.init)
_LEAST = {"times": 1, "after": 0, "every": 1, "status": 200, "reset_s": 0, "latency_s": 0}


def read_fault(loaded: Json) -> Fault:
    """Return the fault that a JSON object describes, with the names of `Fault`'s fields.

    Raises: ValueError that names what is wrong.
    """
    if not isinstance(loaded, Mapping):
        raise ValueError("a fault is a JSON object")
    if unknown := sorted(set(loaded) - set(_KNOWN)):
        raise ValueError(f"a fault has no {', '.join(map(repr, unknown))}; it has {', '.join(_KNOWN)}")
    if loaded.get("kind") not in get_args(FaultKind):
        raise ValueError(f"kind is one of {', '.join(get_args(FaultKind))}")
    if loaded.get("source") not in (None, *get_args(Source)):
        raise ValueError(f"source is one of {', '.join(get_args(Source))}, or null")
    for name, least in _LEAST.items():
        value = loaded.get(name, least)
        if name in ("times", "reset_s") and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise ValueError(f"{name} is a number, at least {least}")
        if isinstance(value, float) and name != "latency_s":
            raise ValueError(f"{name} is a whole number")
    if loaded.get("body", "json") not in ("json", "html"):
        raise ValueError("body is json or html")
    if not isinstance(loaded.get("rate_headers", True), bool):
        raise ValueError("rate_headers is true or false")
    return Fault(**loaded)
