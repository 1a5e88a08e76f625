"""The log: every event by name, with the fields it may carry. A field that is not declared here is not written.

Lines are JSON that Cloud Logging understands (`severity`, `message`, `time`), or a readable form on a terminal. No
field ever holds the text of a span or a secret: ids, codes, names from settings, counts and durations only.
Source: https://cloud.google.com/logging/docs/structured-logging
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any, Literal, TextIO

import orjson
import structlog

from evalforge.core.inert import inert_json
from evalforge.core.ports import COLLECTIONS

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the events table."""

    name: str
    level: Level
    fields: tuple[str, ...]
    meaning: str


EVENTS: tuple[Event, ...] = (
    Event(
        "run.started",
        "INFO",
        ("run_id", "holder", "asked_by", "plan", "window", "sources", "filter"),
        "a run got the lease and begins",
    ),
    Event(
        "run.finished",
        "INFO",
        (
            "run_id",
            "outcome",
            "dry_run",
            "complete",
            "incomplete_because",
            "window",
            "duration_s",
            "fetched",
            "healthy",
            "failing",
            "rejected",
            "created",
            "updated",
            "unchanged",
            "refused",
            "kept_out",
            "expired",
            "request_count",
            "retry_count",
            "filter_gaps",
        ),
        "the one summary line of a run",
    ),
    Event("run.failed", "ERROR", ("run_id", "code", "retry_after_s"), "a run ended with an error; what it stored stays"),
    Event("run.refused", "WARNING", ("holder", "since"), "a run was asked for while another holds the lease"),
    Event("run.not_recorded", "WARNING", ("run_id", "code"), "the store did not take the record of a run; the run goes on"),
    Event("window.gone", "ERROR", ("run_id", "source", "window"), "Datadog no longer holds what no run has read"),
    Event(
        "slice.read",
        "INFO",
        (
            "run_id",
            "source",
            "window",
            "slices_done",
            "slices_total",
            "fetched",
            "created",
            "updated",
            "spans_per_s",
            "eta_s",
            "quota_left",
        ),
        "a backfill has read one slice; the counts are those of the whole backfill",
    ),
    Event("quota.awaited", "WARNING", ("run_id", "source", "retry_after_s"), "a backfill waits for the quota to be reset"),
    Event(
        "lease.awaited",
        "WARNING",
        ("run_id", "holder", "since", "retry_after_s"),
        "a backfill waits for the end of another's lease, in case its holder has died",
    ),
    Event("lease.lost", "ERROR", ("run_id", "holder"), "another run took the lease; this one stops at the next page"),
    Event("source.warned", "WARNING", ("run_id", "source", "warning"), "a source has something to say that is no error"),
    Event("page.stored", "DEBUG", ("run_id", "source", "step", "item_count", "failing", "rejected"), "one page is stored"),
    Event("capture.created", "INFO", ("run_id", "trace_id", "action", "outcome"), "a failing trace became a capture"),
    Event("capture.updated", "INFO", ("run_id", "trace_id", "action", "outcome"), "a capture learned something new"),
    Event(
        "capture.unchanged", "DEBUG", ("run_id", "trace_id", "action", "outcome"), "a capture was seen again, nothing new"
    ),
    Event(
        "item.rejected",
        "INFO",
        ("run_id", "trace_id", "span_id", "source", "stage", "reason", "action", "outcome"),
        "an item became a dead letter",
    ),
    Event("captures.kept_out", "INFO", ("run_id", "count"), "captures of erased people or traces were not kept"),
    Event(
        "erasure.finished",
        "INFO",
        ("erasure_id", "kind", "captures", "dead_letters", "export_rows", "task_count"),
        "an erasure is done; its tasks are a person's",
    ),
    Event("users.looked_up", "INFO", ("run_id", "looked_for", "found"), "the roots of traces without a user were asked for"),
    Event(
        "errors.enriched",
        "INFO",
        ("run_id", "looked_for", "found", "written", "left"),
        "APM was asked by span id what errors said",
    ),
    Event("telling.finished", "INFO", ("run_id", "told", "untold"), "the webhook took events about groups"),
    Event(
        "telling.failed",
        "WARNING",
        ("run_id", "code", "retry_after_s", "told", "untold"),
        "the webhook did not take an event about a group; the next run tries again",
    ),
    Event("second_net.hit", "WARNING", ("run_id", "trace_id", "count"), "the second net closed what the sanitizer had left"),
    Event(
        "archive.judged",
        "INFO",
        ("run_id", "files", "outcome", "fetched", "healthy", "failing", "rejected", "created", "updated", "unchanged"),
        "an archive was judged, or as much of it as was asked for",
    ),
    Event("job.finished", "INFO", ("run_id", "job", "duration_s", "parts"), "a job on a cluster has ended well"),
    Event(
        "audit.finished",
        "INFO",
        ("fix", "documents", "leaking", "fixed", "removed", "leaks_left", "outdated"),
        "every stored document was looked through",
    ),
    Event(
        "completeness.audited",
        "INFO",
        (
            "run_id",
            "window",
            "complete",
            "fetched",
            "failing",
            "missed",
            "arrived",
            "created",
            "updated",
            "request_count",
        ),
        "a window was read without a query and compared with what the query finds",
    ),
    Event(
        "letters.replayed",
        "INFO",
        ("run_id", "letters", "resolved", "failed_again", "gone", "not_found", "not_askable", "left"),
        "the spans of dead letters were asked for once more",
    ),
    Event("store.purged", "WARNING", ("holder", *COLLECTIONS), "everything under the prefix was deleted"),
    Event("service.started", "INFO", ("host", "port", "store", "site", "callers"), "the service listens"),
    Event("service.misconfigured", "ERROR", ("problems",), "the service runs, but its settings are wrong: /health says 500"),
    Event("service.stopped", "INFO", (), "the service ended"),
    Event("request.failed", "ERROR", ("request_id", "route", "code"), "a request met an error that nobody expected"),
    Event(
        "caller.admitted",
        "INFO",
        ("request_id", "route", "caller"),
        "a caller that settings name was let through to a route that changes something",
    ),
    Event(
        "caller.refused",
        "WARNING",
        ("request_id", "route", "reason", "count"),
        "requests were refused for want of a caller or a role; one line a minute for each route and reason, counted",
    ),
    Event(
        "service.busy",
        "WARNING",
        ("request_id", "count"),
        "requests were turned away because too many were going on; one line a minute, with their number",
    ),
    Event(
        "signing_keys.failed",
        "WARNING",
        ("code", "usable"),
        "the keys that ID tokens are checked with could not be fetched; usable says whether earlier ones go on",
    ),
    Event(
        "telemetry.failed",
        "WARNING",
        ("signal", "code"),
        "the collector did not take metrics or traces; told once until it takes some again, and no run fails of it",
    ),
    Event("health.failed", "WARNING", ("part", "code"), "a health probe failed"),
    Event(
        "export.written", "INFO", ("package_id", "destination", "format", "count", "sha256"), "an export package is there"
    ),
    Event("review.changed", "INFO", ("signature", "state", "changed", "by"), "a reviewer changed what stands of a group"),
    Event("export.rewritten", "INFO", ("package_id", "destination", "erased"), "erased lines were removed from a package"),
)
"""Every event, as documented in docs/events.md."""

_EVENT = {event.name: event for event in EVENTS}
_LOGGER_NAME = "evalforge"


def emit(name: str, **fields: Any) -> None:
    """Writes one event; undeclared fields are left out rather than risked.

    Nothing is written before `configure_logging`: a program that only imports the package decides on its own log.

    Raises:
        KeyError: when no such event is declared.
    """
    event = _EVENT[name]
    level = getattr(logging, event.level)
    if structlog.is_configured() and logging.getLogger(_LOGGER_NAME).isEnabledFor(level):
        structlog.get_logger(_LOGGER_NAME).log(
            level, name, **{key: fields[key] for key in event.fields if key in fields and fields[key] is not None}
        )


def configure_logging(form: Literal["json", "console"], *, stream: TextIO | None = None, level: Level = "INFO") -> None:
    """Sends events of `level` and above to `stream` (standard error unless given), one line each.

    Libraries are heard from WARNING up, by logger name and level only: their messages may quote what they handle.
    """
    handler = _Handler(stream)
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        _drop_foreign_message,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
    ]
    if form == "json":
        last: list[structlog.typing.Processor] = [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _cloud_fields,
            structlog.processors.JSONRenderer(serializer=_json_line),
        ]
    else:
        last = [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _printable_fields,
            structlog.dev.ConsoleRenderer(colors=handler.stream.isatty(), timestamp_key="time", pad_event_to=18),
        ]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_LOGGER_NAME).setLevel(level)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class _Handler(logging.StreamHandler[TextIO]):
    """Writes lines; a line that cannot be written is lost without a word of what it held.

    The standard handler prints the message and its arguments when a library's call does not fit its own format.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._follows = stream is None

    def emit(self, record: logging.LogRecord) -> None:
        """Writes one line; to what standard error is by now, since a live display stands in for it while it draws."""
        if self._follows:
            self.stream = sys.stderr
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the standard library's name)
        """Says nothing: there is no safe place left to say it."""


def _json_line(entry: Any, **_: Any) -> str:
    try:
        line = orjson.dumps(entry, default=str).decode()
    except TypeError:
        # Lone surrogates and integers beyond 64 bits; the standard library writes both, in ASCII.
        line = json.dumps(entry, default=str)
    # A log is looked at on terminals too, and what a caller or a developer named may hold anything.
    return inert_json(line)


def _printable(value: Any) -> Any:
    """Names from outside may hold line breaks or escape sequences that would forge lines or drive the terminal."""
    if isinstance(value, str) and not value.isprintable():
        return value.encode("unicode_escape", "backslashreplace").decode("ascii")
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value


def _printable_fields(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in entry.items():
        entry[key] = _printable(value)
    return entry


def _drop_foreign_message(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A library's record keeps its logger's name and level; its words and traceback may hold what nobody may read."""
    record = entry.get("_record")
    if isinstance(record, logging.LogRecord) and record.name != _LOGGER_NAME:
        entry["event"] = "library.warned"
        entry["logger"] = record.name
        if record.exc_info and record.exc_info[0] is not None:
            entry["error"] = record.exc_info[0].__name__
        record.exc_info = None
        record.exc_text = None
        record.stack_info = None
        entry.pop("exc_info", None)
    return entry


def _cloud_fields(_logger: Any, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    entry["severity"] = str(entry.pop("level", "info")).upper()
    entry["message"] = entry.pop("event", "")
    return entry
