"""What evalforge keeps or hands out, field by field: where it comes from, whether it is personal, how long it is kept.

The privacy officer's table: docs/privacy.md is generated from it, and a test holds it complete against what is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from evalforge.core.links import LINK_LIFETIME_DAYS
from evalforge.ingest import DEAD_LETTER_RETENTION_DAYS
from evalforge.runs import RUN_RETENTION_DAYS


class Personal(StrEnum):
    """Whether a field says something of a person."""

    NO = "no"
    PSEUDONYM = "yes: a pseudonym"
    LINK = "no, but it leads to Datadog's copy"
    FILTERED = "not on purpose: filtered"
    OPERATOR = "of whoever runs evalforge"


MEANINGS = {
    Personal.NO: "made by evalforge or Datadog, or a fact that says nothing of anybody",
    Personal.PSEUDONYM: "a keyed hash: personal data as far as the key exists (GDPR, Art. 4(5))",
    Personal.LINK: f"an id that says nothing itself; Datadog forgets what it leads to after {LINK_LIFETIME_DAYS} days",
    Personal.FILTERED: "written by developers, models or people, and kept only as the rules above allow",
    Personal.OPERATOR: "names a process, a machine or whoever asked, never a user of your applications",
}
"""What each answer means, for the documentation."""


@dataclass(frozen=True, slots=True)
class Row:
    """Some fields with one answer: their names separated by spaces, and where their values come from.

    `shown` stands for the names where they are told elsewhere.
    """

    fields: str
    source: str
    personal: Personal = Personal.NO
    shown: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields one by one."""
        return tuple(self.fields.split())


@dataclass(frozen=True, slots=True)
class Place:
    """One place where something is kept or handed out, and how long it stays there."""

    title: str
    retention: str
    rows: tuple[Row, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Every field, in the order of the rows."""
        return tuple(name for row in self.rows for name in row.names)


_NO, _PSEUDONYM, _LINK, _FILTERED, _OPERATOR = Personal

CAPTURE = Place(
    "`{prefix}raw_traces`, a capture",
    "RETENTION_DAYS after `fetched_at`, or until erased",
    (
        Row("document_id fingerprint signature", "digests of what the capture holds"),
        Row("trace_id apm_trace_id", "Datadog's trace ids; odd ones as keyed digests", _LINK),
        Row("trace_id_kind has_plain_trace_id", "what sort of id `trace_id` is"),
        Row("datadog_url span_url", "made of ids and DATADOG_SITE", _LINK),
        Row("datadog_site link_expires_at", "DATADOG_SITE, and Datadog's retention"),
        Row("failure_type severity status_code quality_score", "judged from evaluations, metrics, tags and status"),
        Row("signals", "judged likewise: see below"),
        Row("recurrence_count recurrence_is_floor", "counted"),
        Row("span_ids", "Datadog's ids of the failing spans, packed", _LINK),
        Row("occurrences", "the greatest failing spans in short: see below"),
        Row("user_hash user_hashes", "`user.id` in every spelling, hashed with PII_SALT", _PSEUDONYM),
        Row("user_first_ns root_user_count", "when each of `user_hashes` was first met, and where", _PSEUDONYM),
        Row("started_at started_ns", "start of the earliest failing span"),
        Row("service_name ml_app env model_name model_provider error_type", "names in spans, by their rules", _FILTERED),
        Row("error_details", "what failing spans' errors said: see below", _FILTERED),
        Row("trace_payload", "the greatest failing span, sanitized: see below", _FILTERED),
        Row("redactions", "how much was removed, by kind"),
        Row("origins", "keyed digests of what it was made of: under PII_SALT, none without", _PSEUDONYM),
        Row("fetched_at updated_at expires_at", "the clock, RETENTION_DAYS"),
        Row("sanitizer_version schema_version", "which code made it"),
        Row("processed", "yours: false at first, then whatever downstream writes"),
    ),
)

SIGNAL = Place(
    "`signals`, each",
    "with its capture",
    (
        Row("type severity comparison threshold", "the table of signals and your thresholds"),
        Row("span_id", "Datadog's id of the failing span", _LINK),
        Row("place", "the field or evaluator in which it was found", _FILTERED),
        Row("observed", "a number, a boolean or a known label; else a placeholder", _FILTERED),
    ),
)

OCCURRENCE = Place(
    "`occurrences`, each",
    "with its capture",
    (
        Row("span_id parent_id", "Datadog's ids of the span and its parent", _LINK),
        Row(
            "name span_kind service_name ml_app env model_name model_provider error_type",
            "names that developers wrote, by their rules",
            _FILTERED,
        ),
        Row("severity", "judged"),
        Row("start_ns started_at duration_ns duration_ms", "the span's start and duration"),
        Row("sanitizer_version evaluation_count removed_count digest", "counted and computed, to merge two readings"),
    ),
)

ERROR_DETAIL = Place(
    "`error_details`, each",
    "with its capture",
    (
        Row("span_id", "Datadog's id of the failing span", _LINK),
        Row("error_type", "a class name that developers wrote, by its rule", _FILTERED),
        Row("message", "scrubbed, or closed, as in `trace_payload`; its first 1,000 characters", _FILTERED),
        Row("severity status_code", "judged"),
        Row("start_ns", "the span's start"),
        Row("sanitizer_version removed_count", "counted, to merge two readings"),
    ),
)

PAYLOAD = Place(
    "`trace_payload`",
    "with its capture",
    (
        Row("trace_id span_id parent_id", "Datadog's ids; odd ones as keyed digests", _LINK),
        Row(
            "name span_kind status ml_app service env model_name model_provider", "names in spans, by their rules", _FILTERED
        ),
        Row("start_ns duration", "as received, if they are a time and a duration"),
        Row("metrics", "numbers under checked keys"),
        Row("evaluation", "verdicts; their reasoning and errors scrubbed, or closed", _FILTERED),
        Row("error", "type; message and stack scrubbed, or closed", _FILTERED),
        Row("input output", "roles, tool names, call ids, counts; texts closed, or as PII_TEXT_ALLOWLIST says", _FILTERED),
        Row("tool_definitions", "names of tools", _FILTERED),
        Row(
            "tags metadata attributes",
            "known keys by their type; of others booleans, small numbers, times, words",
            _FILTERED,
        ),
        Row("prompt response", "only as PII_TEXT_ALLOWLIST says", _FILTERED),
        Row("open_text", "the names of the fields that PII_TEXT_OPEN keeps as they are; there anything may stand"),
    ),
)

LETTER = Place(
    "`{prefix}dead_letters`, an item that is no capture",
    f"{DEAD_LETTER_RETENTION_DAYS} days after `occurred_at`, or until its trace is erased",
    (
        Row("id", "a digest"),
        Row("source stage reason", "codes of evalforge's"),
        Row("structure", "known keys and types of the item: no text, no number", _FILTERED),
        Row("trace_id span_id", "Datadog's ids; odd ones as keyed digests", _LINK),
        Row("occurred_at expires_at", "the clock"),
    ),
)

PACKAGE = Place(
    "`{prefix}exports`, the record of a package",
    "until purged",
    (
        Row("id created_at attempted_at attempts", "drawn, the clock, and counted"),
        Row("format destination", "a name of EXPORT_DESTINATIONS, or `file`"),
        Row("selection per_group test_share", "what was asked for; of one person only that it was one"),
        Row("count counts erased_count size_bytes sha256 files state reason", "counted and computed"),
        Row("document_ids ids_are_cut", "the document ids of the captures in it, packed; none of one person's", _LINK),
    ),
)

GROUP = Place(
    "`{prefix}groups`, what reviewers decided about a group of captures",
    "until purged; the right answers of a trace until it is erased",
    (
        Row("signature", "a digest of what the captures have in common"),
        Row("state resolved_at", "what a reviewer chose, and the clock"),
        Row("assignee", "a user name, as reviewers write it", _OPERATOR),
        Row("note", "written by reviewers; addresses, numbers and keys are taken out", _FILTERED),
        Row("expected_outputs", "right answers by trace, written likewise", _FILTERED),
        Row("history", "every change: when, by whom, from what to what", _OPERATOR),
    ),
)

CHECKPOINT = Place(
    "`{prefix}checkpoints`, where a source's reading stands",
    "until replaced or purged",
    (
        Row("source tier step done from_ms to_ms last_ms began_ms query_digest fence", "of evalforge's own making"),
        Row("cursor", "Datadog's place in a search"),
        Row("learned", "names of evaluators and fields in which failures were found", _FILTERED),
    ),
)

COVERAGE = Place(
    "`{prefix}checkpoints`, what an unfinished backfill has read",
    "until the backfill ends, or is purged",
    (Row("source query_digest saved_at from_ms to_ms", "of evalforge's own making"),),
)

TOLD = Place(
    "`{prefix}checkpoints`, what the webhook was told of groups",
    "until purged",
    (
        Row("origin", "drawn"),
        Row("signatures regressed", "digests of what the captures of a group have in common"),
        Row("resolved_at", "when a reviewer had resolved those that regressed"),
    ),
)

RUN = Place(
    "`{prefix}runs`, the record of a run",
    f"{RUN_RETENTION_DAYS} days after `started_at`",
    (
        Row("id started_at finished_at expires_at", "drawn, and the clock"),
        Row("state plan", "codes of evalforge's"),
        Row("holder", "the kind of process, host name and process id", _OPERATOR),
        Row("asked_by", "who asked for the run: a caller's name, or the process", _OPERATOR),
        Row("report", "the run report: see below", _FILTERED),
    ),
)

LEASE = Place(
    "`{prefix}checkpoints`, the lease of a run",
    "replaced by that of the next run",
    (
        Row("name token fence acquired_at expires_at", "drawn, and the clock"),
        Row("holder", "the kind of process, host name and process id", _OPERATOR),
    ),
)

RING = Place(
    "`{prefix}checkpoints`, the keys in use and the last erasure",
    "until purged",
    (
        Row("key_ids", "ids of the keys of PII_SALT, which say nothing of the keys"),
        Row("epoch", "drawn"),
    ),
)

TOMBSTONE = Place(
    "`{prefix}tombstones`, the record of an erasure",
    "for good, until purged",
    (
        Row("id erased_at kind", "drawn, and the clock"),
        Row("actor", "who asked, as they say: a role or a ticket is enough", _OPERATOR),
        Row("user_hashes", "the erased id, hashed with every key of PII_SALT", _PSEUDONYM),
        Row("trace_keys", "keyed digests of the erased traces' ids", _PSEUDONYM),
        Row("counts tasks", "counted; which packages a person has to clean"),
        Row("part part_count", "how many documents a long record has"),
    ),
)

EXPORT_LINE = Place(
    "a line of an export file",
    "as long as you keep the file; in folders of EXPORT_DESTINATIONS until erased",
    (
        Row(
            " ".join(name for name in CAPTURE.names if name != "origins"),
            "as in the store",
            _PSEUDONYM,
            shown="every field of a capture but `origins`",
        ),
        Row("dead_letter", "in answers to access requests only: a dead letter with all its fields", _LINK),
    ),
)

REPORT = Place(
    "a run report (an answer of the service, output of the command, in the record of the run)",
    "as long as whoever asked keeps it; with its record",
    (
        Row("run_id started_at finished_at duration_s", "drawn, and the clock"),
        Row("holder", "the kind of process, host name and process id", _OPERATOR),
        Row("asked_by", "who asked for the run: a caller's name, or the process", _OPERATOR),
        Row("plan dry_run readings gone backfill errors_by_code", "codes of evalforge's, counts, and windows of time"),
        Row("rehearsal", "only of a dry run, which is not stored: captures as they would be kept", _PSEUDONYM),
        Row("window filter complete incomplete_because error", "settings, and codes with their meaning"),
        Row("items captures dead_letters expired request_count retry_count", "counted"),
        Row("sources filter_gaps warnings", "codes and counts; names of evaluators and fields", _FILTERED),
        Row("user_hash", "whether users are hashed, and how many were looked up"),
        Row("telling", "how many events the webhook took, and how many are still to be told"),
        Row("error_detail", "how many errors were asked of APM, and what came of it"),
    ),
)

NOTICE = Place(
    "an event that REVIEW_WEBHOOK_URL is told of a group (not stored)",
    "as long as whoever receives it keeps it",
    (
        Row("type id at link", "codes of evalforge's, a digest, the clock, and REVIEW_BASE_URL"),
        Row("group signature", "a digest of what the captures have in common"),
        Row("failure_type severity count state", "judged, counted, and what a reviewer chose"),
        Row("first_seen_at last_seen_at", "starts of spans"),
        Row(
            "title ml_app env", "names of the application, the environment and the error's class, by their rules", _FILTERED
        ),
    ),
)

COMPLETENESS = Place(
    "the report of a completeness audit (output of the command; not stored)",
    "as long as whoever asked keeps it",
    (
        Row("run_id", "drawn, and the clock"),
        Row("window compared_to complete partial", "what was asked for, and how far it went"),
        Row("missed captures rejected", "counted"),
        Row("sources", "codes and counts; warnings name evaluators and fields", _FILTERED),
        Row("clauses learned", "names of evaluators and fields, kinds of values, counts; no value", _FILTERED),
    ),
)

LOG = Place(
    "[log events](events.md) (standard error; not stored)",
    "as long as your log keeps them",
    (
        Row("trace_id span_id", "Datadog's ids; odd ones as keyed digests", _LINK),
        Row("holder asked_by by caller host", "the process, who asked or came in, and the address to listen on", _OPERATOR),
        Row("filter_gaps warning", "names of evaluators and fields", _FILTERED),
        Row(
            "run_id erasure_id package_id request_id plan window sources "
            "source filter step stage site store port route problems "
            "slices_done slices_total spans_per_s eta_s quota_left callers usable "
            "outcome dry_run complete incomplete_because action reason code kind part since retry_after_s duration_s "
            "fetched healthy failing rejected created updated unchanged refused kept_out expired request_count retry_count "
            "item_count count looked_for found written left captures dead_letters export_rows task_count raw_traces "
            "checkpoints runs exports tombstones fix documents leaking fixed removed leaks_left outdated missed arrived "
            "told untold signal letters resolved failed_again gone not_found not_askable "
            "destination format sha256 erased signature state changed groups files job parts",
            "codes, counts, ids that were drawn, settings that are no secrets",
            shown="all others",
        ),
    ),
)

TELEMETRY = Place(
    "[metrics and traces](observability.md) (to a collector, where one is set, and `GET /metrics`)",
    "as long as your collector keeps them",
    (
        Row(
            "source plan outcome code failure_type reason kind store run_id window_s item_count limit size_bytes "
            "write_count fetched healthy failing rejected created updated unchanged request_count retry_count",
            "counts, durations, words of a fixed table, and the id that a run drew",
            shown="everything",
        ),
    ),
)

PLACES = (
    CAPTURE,
    SIGNAL,
    OCCURRENCE,
    ERROR_DETAIL,
    PAYLOAD,
    LETTER,
    PACKAGE,
    GROUP,
    RUN,
    CHECKPOINT,
    COVERAGE,
    TOLD,
    LEASE,
    RING,
    TOMBSTONE,
    EXPORT_LINE,
    REPORT,
    NOTICE,
    COMPLETENESS,
    LOG,
    TELEMETRY,
)
"""Every place, in the order of the documentation."""
