"""`FailureCapture`: one failing trace, and `merge`: two captures of one trace become one.

A capture is built only from sanitized spans. `merge` is idempotent, commutative and associative, so pages may repeat, come
in any order and be judged on any machine. Three shapes make it so: sets joined by union, cut to their greatest (or
earliest) elements under one total order; a greatest or smallest number; and values derived from those. Nothing is counted
up and nothing is "the latest to arrive".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, TypeVar

from evalforge.core import links
from evalforge.core.canonical import digest
from evalforge.core.error_details import (
    ErrorDetail,
    cut_error_details,
    error_detail_document,
    error_detail_of,
    error_details_of,
)
from evalforge.core.origins import cut_origins, pack_origins, unpack_origins
from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.signals import Comparison, FailureType, Severity, Signal, rank
from evalforge.core.span import TraceIdKind
from evalforge.core.versions import TODAY, todays

SCHEMA_VERSION = TODAY["capture"]
SIGNATURE_VERSION = 1
MAX_SIGNALS = 200
MAX_SPAN_IDS = 10_000
MAX_OCCURRENCES = 100
MAX_USER_HASHES = 50

_T = TypeVar("_T", int, float, str, datetime)


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One failing span of the trace, in short. `start_ns` and `duration_ns` are nanoseconds."""

    span_id: str
    parent_id: str | None
    name: str
    span_kind: str
    severity: Severity
    start_ns: int
    duration_ns: int
    sanitizer_version: int
    evaluation_count: int
    removed_count: int
    digest: str
    service_name: str | None = None
    ml_app: str | None = None
    env: str | None = None
    model_name: str | None = None
    model_provider: str | None = None
    error_type: str | None = None

    @property
    def order(self) -> tuple[int, int, int, str, int, int, int, str]:
        """The total order of occurrences, the greatest first to be shown.

        Worse, then later, then shorter: a child starts no earlier than its parent and ends no later, so the innermost
        failure wins without knowing the tree. The rest tells versions of one span apart: a newer sanitizer's, then the
        one with more evaluations, then the one from which more was
        removed: it saw more of its trace. One order for both uses keeps the cut lawful (docs/decisions/0004-merge-laws.md).
        """
        return (
            int(self.severity),
            self.start_ns,
            -self.duration_ns,
            self.span_id,
            self.sanitizer_version,
            self.evaluation_count,
            self.removed_count,
            self.digest,
        )


@dataclass(frozen=True, slots=True)
class FailureCapture:
    """One failing trace: why it failed, where, what is left of it after sanitizing, and where it came from.

    `signals` (at most 200, worst first) are never withdrawn. `span_keys` are the distinct failing spans as 64-bit keys (at
    most 10,000); `occurrences` the 100 greatest of them; `user_first_ns` each user hash with its earliest start, earliest
    first (at most 50). `root_user_first_ns` are likewise those whom a root of the trace names, but no failing span: they
    come after the others. `origins` are digests of what it was made of (`core.origins`). `payload` and `redactions` belong
    to the greatest occurrence, `error_details` to whichever failing spans told most of their errors (at most 20). Times are
    aware UTC datetimes, `started_ns` nanoseconds since the epoch.
    """

    trace_id: str
    trace_id_kind: TraceIdKind
    has_plain_trace_id: bool
    datadog_site: str
    signals: tuple[Signal, ...]
    span_keys: frozenset[int]
    occurrences: tuple[Occurrence, ...]
    payload: Mapping[str, Any]
    redactions: Mapping[str, int]
    user_first_ns: tuple[tuple[str, int], ...]
    started_ns: int
    fetched_at: datetime
    expires_at: datetime
    apm_trace_id: str | None = None
    status_code: int | None = None
    quality_score: float | None = None
    root_user_first_ns: tuple[tuple[str, int], ...] = ()
    error_details: tuple[ErrorDetail, ...] = ()
    origins: frozenset[bytes] = field(default=frozenset(), repr=False)

    @property
    def failure_type(self) -> FailureType:
        """The type of the worst signal."""
        return self.signals[0].type

    @property
    def severity(self) -> Severity:
        """The severity of the worst signal."""
        return self.signals[0].severity

    @property
    def greatest(self) -> Occurrence:
        """The occurrence whose payload is kept."""
        return self.occurrences[0]

    @property
    def recurrence_count(self) -> int:
        """How many distinct spans of the trace failed; a floor when `recurrence_is_floor`."""
        return len(self.span_keys)

    @property
    def recurrence_is_floor(self) -> bool:
        """Whether more spans may have failed than are remembered."""
        return len(self.span_keys) >= MAX_SPAN_IDS

    @property
    def user_hash(self) -> str | None:
        """The hash of the user of the earliest failing span that names one; where none does, of the earliest root."""
        return next((user_hash for user_hash, _ in self._users), None)

    @property
    def _users(self) -> tuple[tuple[str, int], ...]:
        return (*self.user_first_ns, *self.root_user_first_ns)

    def first_known(self, name: str) -> str | None:
        """The value of an `Occurrence` field in the greatest occurrence that has one."""
        for occurrence in self.occurrences:
            value: str | None = getattr(occurrence, name)
            if value is not None:
                return value
        return None

    @property
    def error_type(self) -> str | None:
        """The error type of the greatest occurrence that has one; where none has, of the error that tells most."""
        told = (detail.error_type for detail in self.error_details if detail.error_type is not None)
        return self.first_known("error_type") or next(told, None)

    @property
    def signature(self) -> str:
        """What captures of one cause share: `s1_` and 32 hexadecimal digits over the normalized cause."""
        top = self.signals[0]
        cause = evaluator_in(top.place) or (self.error_type or "")
        parts = (
            str(SIGNATURE_VERSION),
            self.failure_type.value,
            self.first_known("ml_app") or "",
            normal_span_name(self.greatest.name),
            cause,
            f"{self.status_code // 100}xx" if self.status_code else "",
        )
        return f"s{SIGNATURE_VERSION}_{digest(list(parts))}"

    @property
    def document_id(self) -> str:
        """The key in the store: the first 32 hexadecimal digits of SHA-256 of the trace id.

        Trace ids begin with their second, and keys that grow with time would heat one shard of the store.
        """
        return document_id(self.trace_id)

    @property
    def fingerprint(self) -> str:
        """A digest of every fact; equal fingerprints mean that there is nothing to write."""
        fingerprint: str = self.to_document()["fingerprint"]
        return fingerprint

    def to_document(self) -> dict[str, Any]:
        """The stored form: str, int, float, bool, None, bytes, aware datetimes, and lists and dicts of them."""
        started_at = _datetime_of_ns(self.started_ns)
        facts: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "trace_id": self.trace_id,
            "trace_id_kind": self.trace_id_kind,
            "has_plain_trace_id": self.has_plain_trace_id,
            "apm_trace_id": self.apm_trace_id,
            "failure_type": self.failure_type.value,
            "severity": self.severity.label,
            "signals": [_signal_document(signal) for signal in self.signals],
            "signature": self.signature,
            "recurrence_count": self.recurrence_count,
            "recurrence_is_floor": self.recurrence_is_floor,
            "span_ids": pack(self.span_keys),
            "occurrences": [_occurrence_document(occurrence) for occurrence in self.occurrences],
            "user_hash": self.user_hash,
            "user_hashes": [user_hash for user_hash, _ in self._users],
            "user_first_ns": [first_ns for _, first_ns in self._users],
            "root_user_count": len(self.root_user_first_ns),
            "status_code": self.status_code,
            "quality_score": self.quality_score,
            "started_at": started_at,
            "started_ns": self.started_ns,
            "service_name": self.first_known("service_name"),
            "ml_app": self.first_known("ml_app"),
            "env": self.first_known("env"),
            "model_name": self.first_known("model_name"),
            "model_provider": self.first_known("model_provider"),
            "error_type": self.error_type,
            "error_details": [error_detail_document(detail) for detail in self.error_details],
            "datadog_site": self.datadog_site,
            "datadog_url": self._trace_url(),
            "span_url": self._span_url(),
            "link_expires_at": started_at + timedelta(days=links.LINK_LIFETIME_DAYS),
            "trace_payload": self.payload,
            "redactions": dict(self.redactions),
            "sanitizer_version": self.greatest.sanitizer_version,
        }
        facts["fingerprint"] = digest(facts)
        facts["origins"] = pack_origins(self.origins)
        facts["fetched_at"] = self.fetched_at
        facts["expires_at"] = self.expires_at
        return facts

    def _trace_url(self) -> str | None:
        if not self.has_plain_trace_id:
            return None
        return links.trace_url(self.datadog_site, self.trace_id, self.trace_id_kind)

    def _span_url(self) -> str | None:
        if not self.has_plain_trace_id or not self.greatest.span_id.isdecimal():
            return None
        return links.span_url(self.datadog_site, self.trace_id, self.trace_id_kind, self.greatest.span_id)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> FailureCapture:
        """The capture that `to_document` wrote, in any version; fields that it does not know, a reviewer's, are left alone.

        Raises:
            NewerVersionError: a later program wrote it.
            KeyError, TypeError, ValueError: when the document is not one of ours.
        """
        document = todays("capture", document)
        users = tuple(zip(document["user_hashes"], document["user_first_ns"], strict=True))
        own_count = len(users) - document["root_user_count"]
        if not 0 <= own_count <= len(users):
            raise ValueError("root_user_count does not fit user_hashes")
        return cls(
            trace_id=document["trace_id"],
            trace_id_kind=document["trace_id_kind"],
            has_plain_trace_id=document["has_plain_trace_id"],
            datadog_site=document["datadog_site"],
            signals=tuple(_signal_of(entry) for entry in document["signals"]),
            span_keys=unpack(document["span_ids"]),
            occurrences=tuple(_occurrence_of(entry) for entry in document["occurrences"]),
            payload=document["trace_payload"],
            redactions=document["redactions"],
            user_first_ns=users[:own_count],
            started_ns=document["started_ns"],
            fetched_at=document["fetched_at"],
            expires_at=document["expires_at"],
            apm_trace_id=document["apm_trace_id"],
            status_code=document["status_code"],
            quality_score=document["quality_score"],
            root_user_first_ns=users[own_count:],
            error_details=tuple(error_detail_of(entry) for entry in document["error_details"]),
            origins=unpack_origins(document["origins"]),
        )


def capture_of(span: SanitizedSpan, *, site: str, fetched_at: datetime, retention_days: int) -> FailureCapture:
    """The capture of a trace of which only this failing span is known."""
    return FailureCapture(
        trace_id=span.trace_id,
        trace_id_kind=span.trace_id_kind,
        has_plain_trace_id=span.has_plain_trace_id,
        datadog_site=site,
        signals=_cut_signals(span.signals),
        span_keys=frozenset({span_key(span.span_id)}),
        occurrences=(
            Occurrence(
                span_id=span.span_id,
                parent_id=span.parent_id,
                name=span.name,
                span_kind=span.span_kind,
                severity=span.severity,
                start_ns=span.start_ns,
                duration_ns=span.duration_ns,
                sanitizer_version=span.sanitizer_version,
                evaluation_count=span.evaluation_count,
                removed_count=sum(span.redactions.values()),
                digest=span.digest,
                service_name=span.service_name,
                ml_app=span.ml_app,
                env=span.env,
                model_name=span.model_name,
                model_provider=span.model_provider,
                error_type=span.error_type,
            ),
        ),
        payload=span.payload,
        redactions=span.redactions,
        user_first_ns=((span.user_hash, span.start_ns),) if span.user_hash else (),
        started_ns=span.start_ns,
        fetched_at=fetched_at,
        expires_at=fetched_at + timedelta(days=retention_days),
        apm_trace_id=span.apm_trace_id,
        status_code=span.status_code,
        quality_score=span.quality_score,
        error_details=error_details_of(span),
    )


def merge(a: FailureCapture, b: FailureCapture) -> FailureCapture:
    """All that is known of one trace from two captures of it; idempotent, commutative and associative.

    Raises:
        ValueError: when the two are not of one trace.
    """
    if a.trace_id != b.trace_id:
        raise ValueError("only captures of one trace can be merged")
    keeper = a if a.greatest.order >= b.greatest.order else b
    users, root_users = _cut_users((*a.user_first_ns, *b.user_first_ns), (*a.root_user_first_ns, *b.root_user_first_ns))
    return FailureCapture(
        trace_id=a.trace_id,
        trace_id_kind=max(a.trace_id_kind, b.trace_id_kind),
        has_plain_trace_id=a.has_plain_trace_id and b.has_plain_trace_id,
        datadog_site=min(a.datadog_site, b.datadog_site),
        signals=_cut_signals((*a.signals, *b.signals)),
        span_keys=_cut_keys(a.span_keys | b.span_keys),
        occurrences=_cut_occurrences((*a.occurrences, *b.occurrences)),
        payload=keeper.payload,
        redactions=keeper.redactions,
        user_first_ns=users,
        started_ns=min(a.started_ns, b.started_ns),
        fetched_at=min(a.fetched_at, b.fetched_at),
        expires_at=min(a.expires_at, b.expires_at),
        apm_trace_id=_least(a.apm_trace_id, b.apm_trace_id),
        status_code=_greatest(a.status_code, b.status_code),
        quality_score=_least(a.quality_score, b.quality_score),
        root_user_first_ns=root_users,
        error_details=cut_error_details((*a.error_details, *b.error_details)),
        origins=cut_origins(a.origins | b.origins),
    )


def with_root_user(capture: FailureCapture, user_hash: str, start_ns: int) -> FailureCapture:
    """The capture that also knows whom a root of its trace names; `start_ns` is the root's start.

    Whoever a failing span names already stays where they are. Lawful: the same as merging with a capture of the same trace
    that knows nothing else, so it may happen before or after any merge.
    """
    users, root_users = _cut_users(capture.user_first_ns, (*capture.root_user_first_ns, (user_hash, start_ns)))
    return replace(capture, user_first_ns=users, root_user_first_ns=root_users)


def merge_by_trace(captures: Iterable[FailureCapture]) -> list[FailureCapture]:
    """One capture per trace, in the order in which the traces were first met."""
    merged: dict[str, FailureCapture] = {}
    for capture in captures:
        known = merged.get(capture.trace_id)
        merged[capture.trace_id] = capture if known is None else merge(known, capture)
    return list(merged.values())


def document_id(trace_id: str) -> str:
    """The store's key of a stored trace id."""
    return hashlib.sha256(trace_id.encode()).hexdigest()[:32]


def span_key(span_id: str) -> int:
    """A span id as an unsigned 64-bit number: its own value when it is one, else 64 bits of its SHA-256."""
    if span_id.isascii() and span_id.isdecimal() and len(span_id) <= 20 and int(span_id) < 1 << 64:
        return int(span_id)
    return int.from_bytes(hashlib.sha256(span_id.encode()).digest()[:8], "big")


def pack(keys: frozenset[int]) -> bytes:
    """Span keys as bytes, 8 each, big-endian, ascending."""
    return b"".join(key.to_bytes(8, "big") for key in sorted(keys))


def unpack(packed: bytes) -> frozenset[int]:
    """The span keys that `pack` packed."""
    return frozenset(int.from_bytes(packed[at : at + 8], "big") for at in range(0, len(packed), 8))


_VARIABLE_PART = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\b(?=[0-9a-f]*\d)[0-9a-f]{8,}\b|\d+"
)


def normal_span_name(name: str) -> str:
    """A span's name without what varies from one trace to the next: lower case, ids and numbers as `#`."""
    return _VARIABLE_PART.sub("#", name.lower())


def evaluator_in(place: str) -> str | None:
    """The evaluator that a signal's place names, if it names one."""
    head, _, name = place.partition(".")
    return name if head == "evaluation" and name else None


def _cut_signals(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    distinct = {rank(signal): signal for signal in signals}
    return tuple(distinct[key] for key in sorted(distinct, reverse=True)[:MAX_SIGNALS])


def _cut_keys(keys: frozenset[int]) -> frozenset[int]:
    return keys if len(keys) <= MAX_SPAN_IDS else frozenset(sorted(keys)[:MAX_SPAN_IDS])


def _cut_occurrences(occurrences: Iterable[Occurrence]) -> tuple[Occurrence, ...]:
    versions: dict[str, Occurrence] = {}
    for occurrence in occurrences:
        known = versions.get(occurrence.span_id)
        if known is None or occurrence.order > known.order:
            versions[occurrence.span_id] = occurrence
    return tuple(sorted(versions.values(), key=lambda one: one.order, reverse=True)[:MAX_OCCURRENCES])


_Users = tuple[tuple[str, int], ...]


def _cut_users(own: Iterable[tuple[str, int]], roots: Iterable[tuple[str, int]]) -> tuple[_Users, _Users]:
    """Both lists without repetition, earliest first, cut together: a root's user is the last to stay.

    One total order (a root's last, then by start, then by hash) serves to choose among the entries of one user and to cut.
    """
    first: dict[str, tuple[bool, int]] = {}
    for of_root, users in ((False, own), (True, roots)):
        for user_hash, start_ns in users:
            entry = (of_root, start_ns)
            first[user_hash] = min(entry, first.get(user_hash, entry))
    kept = sorted((entry, user_hash) for user_hash, entry in first.items())[:MAX_USER_HASHES]
    return (
        tuple((user_hash, start_ns) for (of_root, start_ns), user_hash in kept if not of_root),
        tuple((user_hash, start_ns) for (of_root, start_ns), user_hash in kept if of_root),
    )


def _least(a: _T | None, b: _T | None) -> _T | None:
    if a is None or b is None:
        return b if a is None else a
    return min(a, b)


def _greatest(a: _T | None, b: _T | None) -> _T | None:
    if a is None or b is None:
        return b if a is None else a
    return max(a, b)


def _signal_document(signal: Signal) -> dict[str, Any]:
    return {
        "type": signal.type.value,
        "severity": signal.severity.label,
        "span_id": signal.span_id,
        "place": signal.place,
        "observed": signal.observed,
        "threshold": signal.threshold,
        "comparison": signal.comparison,
    }


def _signal_of(entry: Mapping[str, Any]) -> Signal:
    comparison: Comparison = entry["comparison"]
    return Signal(
        type=FailureType(entry["type"]),
        severity=Severity[entry["severity"].upper()],
        span_id=entry["span_id"],
        place=entry["place"],
        observed=entry["observed"],
        threshold=entry["threshold"],
        comparison=comparison,
    )


_OCCURRENCE_FIELDS = tuple(name for name in Occurrence.__slots__ if name != "severity")
_occurrence_values = attrgetter(*_OCCURRENCE_FIELDS)


def _occurrence_document(occurrence: Occurrence) -> dict[str, Any]:
    document: dict[str, Any] = dict(zip(_OCCURRENCE_FIELDS, _occurrence_values(occurrence), strict=True))
    document["severity"] = occurrence.severity.label
    document["started_at"] = _datetime_of_ns(occurrence.start_ns)
    document["duration_ms"] = occurrence.duration_ns / 1e6
    return document


def _occurrence_of(entry: Mapping[str, Any]) -> Occurrence:
    fields = {name: entry[name] for name in _OCCURRENCE_FIELDS}
    return Occurrence(severity=Severity[entry["severity"].upper()], **fields)


def _datetime_of_ns(ns: int) -> datetime:
    # Microseconds are what both stores keep of a timestamp; the exact value stands beside it in nanoseconds.
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).replace(microsecond=ns % 1_000_000_000 // 1000)
