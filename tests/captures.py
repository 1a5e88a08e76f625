"""Sanitized spans and captures for tests, by hand and by hypothesis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from evalforge.core.canonical import digest
from evalforge.core.capture import FailureCapture, capture_of, merge, with_root_user
from evalforge.core.origins import ORIGIN_BYTES, cut_origins
from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.signals import FailureType, Severity, Signal

NOW = datetime(2026, 11, 23, 12, 0, 0, 123456, tzinfo=UTC)
START_NS = 1_795_000_000_123_456_789
SITE = "datadoghq.com"
RETENTION_DAYS = 180


def trace_id_of(number: int) -> str:
    """A hexadecimal trace id like Datadog's."""
    return f"{0x6923AAAA00000000_0000000000000000 + number:032x}"


def signal(
    span_id: str = "1",
    type: FailureType = FailureType.HALLUCINATION,
    severity: Severity = Severity.HIGH,
    place: str = "evaluation.hallucination",
    observed: Any = "hallucination found",
    threshold: float | bool | str | None = "hallucination found",
) -> Signal:
    """One signal; a hallucination unless said otherwise."""
    return Signal(type, severity, span_id, place, observed, threshold, "is")


def sanitized_span(
    trace: int | str = 1,
    span_id: str = "1",
    *,
    payload: Mapping[str, Any] | None = None,
    signals: tuple[Signal, ...] | None = None,
    start_ns: int = START_NS,
    **others: Any,
) -> SanitizedSpan:
    """One sanitized failing span with believable values; `trace` is a trace id or a number to make one of."""
    body = payload if payload is not None else {"name": "answer", "metrics": {"total_tokens": 120}, "tags": {"env": "prod"}}
    fields: dict[str, Any] = {
        "trace_id": trace if isinstance(trace, str) else trace_id_of(trace),
        "trace_id_kind": "llm_obs",
        "has_plain_trace_id": True,
        "span_id": span_id,
        "parent_id": "undefined",
        "name": "answer",
        "span_kind": "llm",
        "status": "ok",
        "start_ns": start_ns,
        "duration_ns": 2_500_000_000,
        "signals": signals or (signal(span_id),),
        "payload": body,
        "digest": digest(body),
        "sanitizer_version": 1,
        "redactions": {"text": 2},
        "evaluation_count": 1,
        "service_name": "support-bot",
        "ml_app": "support-bot",
        "env": "prod",
        "model_name": "gpt-4o",
        "model_provider": "openai",
        "status_code": None,
        "quality_score": 0.25,
        "user_hash": "u1a2b_" + "0" * 32,
    }
    return SanitizedSpan(**{**fields, **others})


def capture(trace: int | str = 1, span_id: str = "1", *, fetched_at: datetime = NOW, **others: Any) -> FailureCapture:
    """The capture of one such span, fetched at `NOW` and kept for 180 days."""
    span = sanitized_span(trace, span_id, **others)
    return capture_of(span, site=SITE, fetched_at=fetched_at, retention_days=RETENTION_DAYS)


def captures(count: int, **others: Any) -> list[FailureCapture]:
    """Captures of `count` traces, each a second later than the one before."""
    return [capture(number, start_ns=START_NS + number * 1_000_000_000, **others) for number in range(count)]


def merged(*parts: FailureCapture) -> FailureCapture:
    """All parts as one capture."""
    whole, *rest = parts
    for part in rest:
        whole = merge(whole, part)
    return whole


# -- hypothesis

any_text = st.text(st.characters(exclude_categories=()), max_size=12)
"""Any string at all: lone surrogates, control characters, the empty one."""

hostile_keys = st.one_of(
    any_text,
    st.sampled_from(
        ["", "__", "___", "____", "__name__", "__x__", "__x", "a.b", "a/b", "[0]", "`", "*", "\x00", "evalforge:"]
    ),
    st.sampled_from(
        [f"evalforge:{name}" for name in ("integer", "array", "entries", "json", "text", "key:", "key:x", "key64:")]
    ),
    st.sampled_from(["k" * 1_486, "k" * 1_487, "k" * 1_500, "k" * 1_501, "\u00e9" * 800, "__" + "x" * 1_490 + "__"]),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**300]),
    st.floats(allow_nan=False),
    any_text,
    st.binary(max_size=12),
    st.datetimes(timezones=st.just(UTC)).map(lambda instant: instant.replace(fold=0)),
)


def json_values(keys: st.SearchStrategy[str] = hostile_keys, leaves: st.SearchStrategy[Any] = scalars) -> Any:
    """A strategy of nested values over those leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
        max_leaves=20,
    )


user_hashes = st.sampled_from(["u1a2b_1", "u1a2b_2", "u1a2b_3"])
"""The pseudonyms of three users."""


@st.composite
def sanitized_spans(draw: st.DrawFn, trace_id: str | None = None) -> SanitizedSpan:
    """Sanitized spans of one trace from few values, so that ids, times and digests meet often."""
    span_id = draw(st.sampled_from(["1", "2", "3", "18446744073709551615", "s_ab"]))
    found = draw(
        st.lists(
            st.builds(
                signal,
                span_id=st.just(span_id),
                type=st.sampled_from(list(FailureType)),
                severity=st.sampled_from(list(Severity)),
                place=st.sampled_from(["evaluation.a", "evaluation.b", "status", "metrics.quality_score"]),
                observed=st.sampled_from([True, 1, 1.0, "fail", 0.25, None]),
                threshold=st.sampled_from([0.5, None, "fail"]),
            ),
            min_size=1,
            max_size=3,
        )
    )
    payloads: list[dict[str, Any]] = [
        {"name": "a"},
        {"name": "b", "metrics": {"n": 1}},
        {"name": "\ud800", "big": 2**70},
        {"name": "a", "error": {"message": "timed out"}},
        {"name": "b", "error": "refused"},
    ]
    payload = draw(st.sampled_from(payloads))
    about = {
        "redactions": draw(st.dictionaries(st.sampled_from(["email", "text"]), st.integers(1, 3))),
        "ml_app": draw(st.sampled_from([None, "a", "b"])),
        "error_type": draw(st.sampled_from([None, "Timeout"])),
    }
    return sanitized_span(
        trace_id or trace_id_of(1),
        span_id,
        payload=payload,
        signals=tuple(found),
        start_ns=START_NS + draw(st.integers(0, 3)),
        duration_ns=draw(st.integers(0, 2)),
        evaluation_count=draw(st.integers(0, 2)),
        sanitizer_version=draw(st.integers(1, 2)),
        apm_trace_id=draw(st.sampled_from([None, "a1", "b2"])),
        status_code=draw(st.sampled_from([None, 404, 500])),
        quality_score=draw(st.sampled_from([None, 0.1, 0.2])),
        user_hash=draw(st.none() | user_hashes),
        digest=digest([payload, about]),  # as the sanitizer's: equal digests mean equal payloads, names and redactions
        **about,
    )


@st.composite
def failure_captures(draw: st.DrawFn, trace_id: str | None = None) -> FailureCapture:
    """Captures of one trace, of one to three failing spans, and of what roots say of its users."""
    parts = draw(st.lists(sanitized_spans(trace_id), min_size=1, max_size=3))
    whole = merged(
        *(
            capture_of(
                part,
                site=SITE,
                fetched_at=NOW + timedelta(seconds=draw(st.integers(0, 2))),
                retention_days=RETENTION_DAYS,
            )
            for part in parts
        )
    )
    for user_hash, start_ns in draw(st.lists(st.tuples(user_hashes, st.integers(START_NS - 1, START_NS + 3)), max_size=2)):
        whole = with_root_user(whole, user_hash, start_ns)
    origins = st.binary(min_size=1, max_size=1).map(lambda one: one * ORIGIN_BYTES)
    return replace(whole, origins=cut_origins(draw(st.frozensets(origins, max_size=3))))
