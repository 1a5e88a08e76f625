"""What a run says of itself: live progress, and the report at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import nsmallest
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.plans import Due
from evalforge.core.ports import RunState, UpsertResult
from evalforge.core.window import Window, iso_ms
from evalforge.enrichment import ErrorDetails
from evalforge.ingest import Tally
from evalforge.telling import Telling
from evalforge.users import Lookup

NO_SALT_HINT = (
    "PII_SALT is not set: user ids are dropped and user_hash stays empty. Set it to a secret of at least 32 bytes and every "
    "capture says which (pseudonymous) user it hit, counts affected users and can be found for erasure."
)

INCOMPLETE = {
    "time_budget": "RUN_BUDGET_S is used up; the next run goes on from here",
    "cap": "MAX_CAPTURES_PER_RUN is reached; the next run goes on from here",
    "stopped": "the run was asked to stop; the next run goes on from here",
    "lease_lost": "another run took over",
    "not_held": "Datadog no longer holds the beginning of the window: it keeps 15 days; `gone` says what is missing",
    "gone": "Datadog no longer holds a part that no run has read: it keeps 15 days; `gone` says which",
    "partial": "Datadog gave partial pages to the end; run again",
    "filter_gaps": "the query misses failures that a sample without it found; set DATADOG_FILTER=scan, or EVALUATIONS",
    "query_mode": "DATADOG_FILTER=query cannot know what the query misses; auto and scan can",
    "error": "the run ended with an error; what it stored stays, the next run goes on",
}
"""Why a report may say `complete: false`, and what follows."""


@dataclass(frozen=True, slots=True)
class RunProgress:
    """What is known after a stored page, for live display. `position` is 0 to 1 of the present window, by time."""

    source: str
    tier: str
    step: str
    position: float
    tally: Tally
    request_count: int
    rate_limit: dict[str, float | str]


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a backfill is, for live display: slices, `position` (0 to 1 of all windows, by time), counts of this run.

    `eta_s` is how many seconds the rest seems to take, None while nobody can tell. `rate_limits` are the quotas as last
    told, and `waits_s` the seconds until the reset that is waited for, both by source.
    """

    slices_done: int
    slices_total: int
    position: float
    tally: Tally
    spans_per_s: float
    eta_s: float | None
    rate_limits: Mapping[str, Mapping[str, float | str]]
    waits_s: Mapping[str, float]


@dataclass(slots=True)
class SourceSlices:
    """How far a backfill is with one source: `known_count` of the `done_count` slices were read by an earlier one.

    `left` are the windows that are still to be read.
    """

    source: str
    total_count: int
    done_count: int
    known_count: int
    left: list[Window] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The counts as plain JSON values."""
        return {
            "source": self.source,
            "slices": self.total_count,
            "done": self.done_count,
            "known": self.known_count,
            "left": [_bounds(window) for window in self.left],
        }


@dataclass(slots=True)
class Backfilled:
    """What a backfill was to read, in slices of `slice_ms` milliseconds, and how far it came."""

    window: Window
    slice_ms: int
    workers: int
    sources: list[SourceSlices] = field(default_factory=list)

    @property
    def again(self) -> str | None:
        """The command that goes on from here; None when nothing is left."""
        if not any(source.left for source in self.sources):
            return None
        window = f"--from {iso_ms(self.window.from_ms)} --to {iso_ms(self.window.to_ms)}"
        return f"evalforge backfill {window} --slice {self.slice_ms // 60_000}m --workers {self.workers}"

    def document(self) -> dict[str, Any]:
        """The slices as plain JSON values."""
        return {
            "slice_s": self.slice_ms // 1000,
            "workers": self.workers,
            "slices": sum(source.total_count for source in self.sources),
            "done": sum(source.done_count for source in self.sources),
            "sources": [source.document() for source in self.sources],
            "again": self.again,
        }


@dataclass(slots=True)
class TierReading:
    """What a run made of one tier of one source: the windows that were due, and whether they were read to their end."""

    source: str
    due: Due
    finished: bool = False

    def document(self) -> dict[str, Any]:
        """The reading as plain JSON values."""
        return {
            "source": self.source,
            "tier": self.due.tier.name,
            "reach": self.due.tier.reach,
            "windows": [_bounds(window) for window, _ in self.due.windows],
            "finished": self.finished,
        }


SHOWN_TRACES = 20
"""How many documents that would change a dry run names."""


@dataclass(slots=True)
class Rehearsed:
    """What a dry run would have done: captures by signal, which documents would change, and an example of each failure type.

    A trace that stands on several pages is one document. `examples` are sanitized as they would be stored.
    """

    signals: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    updated: set[str] = field(default_factory=set)

    def hear(self, result: UpsertResult) -> None:
        """Takes in what would have become of the captures of a page."""
        self.created.update(result.created)
        self.updated.update(trace_id for trace_id in result.updated if trace_id not in self.created)

    def look_at(self, captures: Sequence[FailureCapture]) -> None:
        """Takes in captures as they would have been stored."""
        for capture in captures:
            self.signals.update({signal.type.value for signal in capture.signals})
            self.examples.setdefault(capture.failure_type.value, capture.to_document())

    def document(self) -> dict[str, Any]:
        """The rehearsal as plain values."""
        return {
            "captures_by_signal": dict(sorted(self.signals.items())),
            "would_create": _some(self.created),
            "would_update": _some(self.updated),
            "examples": [self.examples[name] for name in sorted(self.examples)],
        }


def _some(trace_ids: Set[str]) -> dict[str, Any]:
    return {"count": len(trace_ids), "trace_ids": nsmallest(SHOWN_TRACES, trace_ids)}


@dataclass(slots=True)
class RunReport:
    """What one run did. `complete` is True only if every failing trace of the window is known to be captured.

    `incomplete_because` holds codes of `INCOMPLETE`. `error` is None, or code, message, http_status, exit_code and
    retry_after_s of what ended the run; what was stored before stays stored. `user_lookup` is None when users
    were not looked up on roots, `error_detail` when APM was not asked what errors said, `telling` when nobody is told of
    groups. `expired` is how many documents were deleted because their time was over. `letter_count` is how many dead letters
    there are at the end, None where the store did not say. `rehearsed` is None except in a dry run, in which counts say what
    would have become of the captures, `backfilled` except in a backfill. `source_errors` counts the errors that ended the
    reading of a source, by code.
    """

    run_id: str
    plan: str
    holder: str
    asked_by: str
    window: Window
    started_at: datetime
    filter_mode: str
    user_hash_enabled: bool
    finished_at: datetime | None = None
    duration_s: float = 0.0
    tally: Tally = field(default_factory=Tally)
    sources: list[dict[str, Any]] = field(default_factory=list)
    incomplete_because: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    user_lookup: Lookup | None = None
    error_detail: ErrorDetails | None = None
    telling: Telling | None = None
    expired: int = 0
    letter_count: int | None = None
    readings: list[TierReading] = field(default_factory=list)
    rehearsed: Rehearsed | None = None
    backfilled: Backfilled | None = None
    source_errors: Counter[str] = field(default_factory=Counter)

    @property
    def errors_by_code(self) -> Counter[str]:
        """How often what went wrong: items that were rejected by their reason, and errors that ended a reading."""
        return self.source_errors + self.tally.by_reason

    def note(self, code: str) -> None:
        """Adds a code of `INCOMPLETE`, once."""
        if code not in self.incomplete_because:
            self.incomplete_because.append(code)

    @property
    def gone(self) -> list[TierReading]:
        """The readings that found a part which Datadog no longer holds."""
        return [reading for reading in self.readings if reading.due.gone is not None]

    @property
    def state(self) -> RunState:
        """How the run stands in the history."""
        if self.finished_at is None:
            return "running"
        return "failed" if self.error else "complete" if self.complete else "incomplete"

    @property
    def complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.incomplete_because

    def document(self) -> dict[str, Any]:
        """The report as plain JSON values."""
        tally = self.tally
        return {
            "run_id": self.run_id,
            "plan": self.plan,
            "dry_run": self.rehearsed is not None,
            "holder": self.holder,
            "asked_by": self.asked_by,
            "window": _bounds(self.window),
            "readings": [reading.document() for reading in self.readings],
            "gone": [{"source": one.source, **_bounds(one.due.gone)} for one in self.gone if one.due.gone is not None],
            "started_at": iso_of(self.started_at),
            "finished_at": iso_of(self.finished_at) if self.finished_at else None,
            "duration_s": round(self.duration_s, 3),
            "filter": self.filter_mode,
            "complete": self.complete,
            "incomplete_because": [{"code": code, "meaning": INCOMPLETE[code]} for code in self.incomplete_because],
            "items": {
                "fetched": tally.fetched,
                "healthy": tally.healthy,
                "failing": tally.failing,
                "rejected": tally.rejected,
            },
            "captures": {
                "created": tally.created,
                "updated": tally.updated,
                "unchanged": tally.unchanged,
                "refused": tally.refused,
                "kept_out": tally.kept_out,
                "created_by_type": dict(sorted(tally.by_type.items())),
            },
            "expired": self.expired,
            "dead_letters": {"new": tally.new_letters, "total": self.letter_count},
            "errors_by_code": dict(sorted(self.errors_by_code.items())),
            "sources": self.sources,
            "filter_gaps": sorted({gap for source in self.sources for gap in source["filter_gaps"]}),
            "request_count": sum(source["request_count"] for source in self.sources),
            "retry_count": sum(source["retry_count"] for source in self.sources),
            "user_hash": {
                "enabled": self.user_hash_enabled,
                "hint": None if self.user_hash_enabled else NO_SALT_HINT,
                "lookup": self.user_lookup.document() if self.user_lookup else None,
            },
            "error_detail": self.error_detail.document() if self.error_detail else None,
            "telling": self.telling.document() if self.telling else None,
            "warnings": self.warnings,
            "error": self.error,
            "rehearsal": self.rehearsed.document() if self.rehearsed is not None else None,
            "backfill": self.backfilled.document() if self.backfilled is not None else None,
        }


def _bounds(window: Window) -> dict[str, str]:
    return {"from": iso_ms(window.from_ms), "to": iso_ms(window.to_ms)}


def iso_of(instant: datetime) -> str:
    """An aware datetime as ISO 8601 in UTC with milliseconds and a Z."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
