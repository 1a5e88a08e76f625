"""`Sanitizer`: the only maker of what a store accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evalforge.core.canonical import canonical_json, digest_of
from evalforge.core.privacy import marks, measures, values
from evalforge.core.privacy.echoes import Echoes
from evalforge.core.privacy.finishing import finished
from evalforge.core.privacy.identity import (
    KeyRing,
    is_no_id,
    safe_parent_id,
    safe_span_id,
    safe_trace_id,
    user_id_in,
)
from evalforge.core.privacy.modes import TextPolicy
from evalforge.core.privacy.neighbours import ALONE, TraceContext
from evalforge.core.privacy.payload import build_payload, observed_value, received_time, safe_evaluator_names
from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.privacy.texts import KeptTexts
from evalforge.core.privacy.walk import Tally
from evalforge.core.signals import SPELLINGS, Signal, http_status_codes, quality_scores, rank
from evalforge.core.span import Json, Span
from evalforge.errors import SkippableError

SANITIZER_VERSION = 2
"""Raised whenever the same span would come out differently: stored captures tell by it which rules made them."""

_SPAN_KINDS = frozenset({"agent", "workflow", "llm", "tool", "task", "embedding", "retrieval", "experiment", "web", "http"})
_PLACES = frozenset({"metadata", "metrics", "attributes", "tags"})


@dataclass(frozen=True, slots=True)
class Sanitizer:
    """Turns failing spans into what may be stored. Pure: the same span, ring, policy and context give the same result on
    every machine."""

    ring: KeyRing = field(default_factory=KeyRing)
    policy: TextPolicy = field(default_factory=TextPolicy)

    def sanitize(
        self,
        span: Span,
        signals: tuple[Signal, ...],
        trace: TraceContext = ALONE,
        watched: Callable[[Echoes], Tally] | None = None,
    ) -> SanitizedSpan:
        """The span without personal data, with its signals; of its texts what the policy keeps.

        Whatever a field holds, it costs at most that field. Allow-listed texts stay closed where neither the span nor its
        trace names a user: nobody could find them for erasure. `watched` makes a tally that hears of each decision.

        Raises:
            SkippableError: when the span has no trace id (`missing_trace_id`) or no span id (`missing_span_id`).
        """
        if is_no_id(span.trace_id):
            raise SkippableError("a span without a trace id", code="missing_trace_id")
        if is_no_id(span.span_id):
            raise SkippableError("a span without a span id", code="missing_span_id")
        echoes = Echoes.of(span) if trace.echoes is None else trace.echoes
        tally = Tally(texts=KeptTexts(echoes)) if watched is None else watched(echoes)
        trace_id, is_plain = safe_trace_id(span.trace_id, self.ring)
        span_id = safe_span_id(span.span_id, self.ring)
        parent_id = safe_parent_id(span.parent_id, self.ring)
        raw_user_id = _unless_broken(user_id_in, span, tally)
        user_hash = self.ring.user_hash(raw_user_id)
        tally.policy = self.policy if user_hash is not None or trace.has_user else self.policy.without_fields()
        status_codes = _unless_broken(lambda one: tuple(http_status_codes(one)), span, tally) or ()
        scores = _unless_broken(lambda one: tuple(quality_scores(one)), span, tally) or ()
        found_error_type = _unless_broken(error_type_in, span, tally)
        names = safe_evaluator_names(span.evaluations, tally)
        head = {
            "trace_id": trace_id,
            "span_id": span_id,
            "parent_id": parent_id,
            "name": _span_name(span.name, raw_user_id, tally),
            "span_kind": _span_kind(span.kind, tally),
            "status": _status(span.status, tally),
            "ml_app": _named(span.application, values.name, tally),
            "service": _named(span.service, values.name, tally),
            "env": _named(span.env, values.name, tally),
            "model_name": _named(span.model_name, values.model, tally),
            "model_provider": _named(span.model_provider, values.model, tally),
            "start_ns": received_time(span.received_start),
            "duration": received_time(span.received_duration),
        }
        payload, payload_json = finished(build_payload(span, head, names, tally), echoes, tally)
        redactions = {kind: count for kind, count in sorted(tally.counts.items()) if count}
        safe_signals = {_safe_signal(signal, span_id, names) for signal in signals}
        return SanitizedSpan(
            trace_id=trace_id,
            trace_id_kind=span.trace_id_kind,
            has_plain_trace_id=is_plain,
            span_id=span_id,
            parent_id=parent_id,
            name=str(payload["name"]),
            span_kind=str(head["span_kind"]),
            status=str(head["status"]),
            start_ns=span.start_ns,
            duration_ns=span.duration_ns,
            signals=tuple(sorted(safe_signals, key=rank, reverse=True) if len(safe_signals) > 1 else safe_signals),
            payload=payload,
            digest=digest_of(canonical_json([span.source, redactions, found_error_type]), payload_json),
            sanitizer_version=SANITIZER_VERSION,
            redactions=redactions,
            evaluation_count=len(span.evaluations),
            apm_trace_id=None if is_no_id(span.apm_trace_id) else safe_trace_id(str(span.apm_trace_id), self.ring)[0],
            service_name=_unless_mark(payload.get("service")),
            ml_app=_unless_mark(payload.get("ml_app")),
            env=_unless_mark(payload.get("env")),
            model_name=_unless_mark(payload.get("model_name")),
            model_provider=_unless_mark(payload.get("model_provider")),
            error_type=found_error_type,
            status_code=max(status_codes, default=None),
            quality_score=min((one for one in scores if abs(one) < measures.SCORE_LIMIT), default=None),
            user_hash=user_hash,
        )


def _safe_signal(signal: Signal, span_id: str, names: Mapping[str, str]) -> Signal:
    return Signal(
        type=signal.type,
        severity=signal.severity,
        span_id=span_id,
        place=_place(signal.place, names),
        observed=observed_value(signal.observed, signal.place),
        threshold=observed_value(signal.threshold),
        comparison=signal.comparison,
    )


def _unless_broken(reads: Callable[[Span], Any], span: Span, tally: Tally) -> Any:
    """What `reads` finds in the span, or None where the span breaks it."""
    try:
        return reads(span)
    except Exception:  # noqa: BLE001 - whatever goes wrong may cost this one field only, and must not leak it
        tally.counts["error"] += 1
        return None


_ERROR_TYPE_KEYS = ("error.type", "error_type", "exception.type")


def error_type_in(span: Span) -> str | None:
    """The class name of the span's error: from the error itself, then attributes, metadata and tags."""
    candidates: list[Json] = []
    if span.error:
        candidates += (_inside(span.error, "type"), _inside(span.error, "kind"))
    for mapping in (span.attributes, span.metadata):
        if mapping:
            if "error" in mapping:
                candidates.append(_inside(mapping["error"], "type"))
            candidates.extend(mapping[key] for key in _ERROR_TYPE_KEYS if key in mapping)
    candidates.extend(value for key, value in span.tags if key in ("error.type", "error_type"))
    for candidate in candidates:
        if candidate is not None and (found := values.error_type(candidate)) is not None:
            return found
    return None


def _inside(mapping: Json, key: str) -> Json:
    return mapping.get(key) if type(mapping) is dict or isinstance(mapping, Mapping) else None


def _span_name(raw: Json, raw_user_id: Json, tally: Tally) -> str:
    user_id = raw_user_id.strip().lower() if isinstance(raw_user_id, str) else ""
    found = values.name(raw)
    if found is not None and not (len(user_id) >= 3 and user_id in found.lower()):
        tally.counts["unknown_value"] += found != raw
        return found
    return "" if raw == "" else tally.redacted(raw, "unknown_value")


def _span_kind(raw: Json, tally: Tally) -> str:
    if isinstance(raw, str) and (raw in _SPAN_KINDS or raw == ""):
        return raw
    return values.words(raw) or tally.redacted(raw, "unknown_value")


def _status(raw: Json, tally: Tally) -> str:
    return "" if raw == "" else values.words(raw) or tally.redacted(raw, "unknown_value")


def _named(raw: Json, rule: marks.TextRule, tally: Tally) -> str | None:
    if raw is None or raw == "":
        return None
    found = rule(raw)
    if found is None:
        return tally.redacted(raw, "unknown_value")
    tally.counts["unknown_value"] += found != raw
    return found


def _unless_mark(text: Json) -> str | None:
    return text if isinstance(text, str) and not marks.is_mark(text) else None


def _place(raw: str, names: Mapping[str, str]) -> str:
    head, _, rest = raw.partition(".")
    if head == "evaluation":
        return f"evaluation.{names[rest]}" if rest in names else "evaluation.[evaluator]"
    if raw == "status" or (head in _PLACES and rest in SPELLINGS):
        return raw
    return values.name(raw) or marks.placeholder(raw)
