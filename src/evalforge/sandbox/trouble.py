"""Faults on demand: which requests go wrong, and how. A plan is a list; what is random in it comes from its seed."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Literal, get_args

from evalforge.sandbox.spans import Area, Json

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
    """One way for a request to go wrong.

    `source` None is any area. It skips the first `after` requests it could hit, then hits every `every`th, `times`
    times in all (None: for ever), each time with the probability `rate`. `latency_s` is waited first, whatever the kind.
    """

    kind: FaultKind
    source: Area | None = None
    times: int | None = 1
    after: int = 0
    every: int = 1
    rate: float = 1.0
    status: int = 500
    body: Literal["json", "html"] = "json"
    rate_headers: bool = True
    reset_s: int | None = None
    latency_s: float = 0.0
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def strikes(self, source: Area, has_cursor: bool, chance: Callable[[], float]) -> bool:
        """Tell whether this request is hit, and count it. `chance` gives numbers from 0 to 1."""
        if self.source not in (None, source) or (self.kind == "bad_cursor" and not has_cursor):
            return False
        self.seen += 1
        due = self.seen - self.after
        if due < 1 or (due - 1) % self.every or (self.times is not None and self.hits >= self.times):
            return False
        if self.rate < 1 and chance() >= self.rate:
            return False
        self.hits += 1
        return True


class Plan:
    """The faults in force, asked in order: the first one that strikes decides, and slow ones add up before it.

    The same seed, faults and order of requests give the same trouble.
    """

    def __init__(self, seed: int = 0) -> None:
        self.faults: list[Fault] = []
        self.reseed(seed)

    def reseed(self, seed: int) -> None:
        """Begin the chances of faults with a `rate` anew."""
        self.seed = seed
        self._chance = random.Random(seed).random

    def next(self, source: Area, has_cursor: bool) -> tuple[float, Fault | None]:
        """Return how many seconds this request waits, and the fault that it meets, if any."""
        latency_s = 0.0
        for fault in self.faults:
            if fault.strikes(source, has_cursor, self._chance):
                latency_s += fault.latency_s
                if fault.kind != "slow":
                    return latency_s, fault
        return latency_s, None


_KNOWN = tuple(f.name for f in fields(Fault) if f.init)
_LEAST = {"times": 1, "after": 0, "every": 1, "status": 200, "reset_s": 0, "latency_s": 0, "rate": 0}
_FRACTIONS = ("latency_s", "rate")


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
    if loaded.get("source") not in (None, *get_args(Area)):
        raise ValueError(f"source is one of {', '.join(get_args(Area))}, or null")
    for name, least in _LEAST.items():
        value = loaded.get(name, least)
        if name in ("times", "reset_s") and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
            raise ValueError(f"{name} is a number, at least {least}")
        if isinstance(value, float) and name not in _FRACTIONS:
            raise ValueError(f"{name} is a whole number")
    if loaded.get("body", "json") not in ("json", "html"):
        raise ValueError("body is json or html")
    if not isinstance(loaded.get("rate_headers", True), bool):
        raise ValueError("rate_headers is true or false")
    return Fault(**loaded)


_SPELLED = re.compile(r"(?P<kind>[a-z_]+|(?P<status>[1-5]\d\d)(?P<html>-html)?)(?:=(?P<rate>\d*\.?\d+))?")
SPELLINGS = "a status such as 503 or 503-html, or one of " + ", ".join(get_args(FaultKind)[1:-1]) + "; =RATE says how often"


def spelled_fault(text: str) -> Fault:
    """Return the fault that a word spells, for ever: `503=0.1`, `429=0.05`, `500-html`, `reset=0.02`, `partial`.

    Raises: ValueError that says what may be spelled.
    """
    found = _SPELLED.fullmatch(text)
    rate = float(found["rate"] or 1) if found else 2.0
    if found is None or rate > 1 or not (found["status"] or found["kind"] in get_args(FaultKind)[1:-1]):
        raise ValueError(f"wants {SPELLINGS}, from 0 to 1")
    body: Literal["json", "html"] = "html" if found["html"] else "json"
    if found["status"] == "429":
        return Fault("rate_limited", times=None, rate=rate, body=body)
    if found["status"]:
        return Fault("status", times=None, rate=rate, status=int(found["status"]), body=body)
    return read_fault({"kind": found["kind"], "times": None, "rate": rate})
