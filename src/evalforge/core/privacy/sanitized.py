"""What the sanitizer hands out. Only `evalforge.core.privacy` makes one, and only from one is a capture made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalforge.core.signals import Severity, Signal
from evalforge.core.span import TraceIdKind


@dataclass(frozen=True, slots=True)
class SanitizedSpan:
    """One failing span without personal data: all that a `FailureCapture` may be built from.

    Every string passed a value rule. `trace_id` is hexadecimal or decimal as received (`has_plain_trace_id`), or `t_` and a
    keyed digest; `span_id` likewise with `s_`. `start_ns` and `duration_ns` are nanoseconds. `signals` carry sanitized
    places and scalar observed values, the most severe first, never none. `payload` is the document of design's table "What a
    payload keeps"; `redactions` counts what was removed from it by kind; `digest` is the hexadecimal digest of both.
    `evaluation_count` is how many evaluations the span carried.
    """

    trace_id: str
    trace_id_kind: TraceIdKind
    has_plain_trace_id: bool
    span_id: str
    parent_id: str | None
    name: str
    span_kind: str
    status: str
    start_ns: int
    duration_ns: int
    signals: tuple[Signal, ...]
    payload: Mapping[str, Any]
    digest: str
    sanitizer_version: int
    redactions: Mapping[str, int] = field(default_factory=dict)
    evaluation_count: int = 0
    apm_trace_id: str | None = None
    service_name: str | None = None
    ml_app: str | None = None
    env: str | None = None
    model_name: str | None = None
    model_provider: str | None = None
    error_type: str | None = None
    status_code: int | None = None
    quality_score: float | None = None
    user_hash: str | None = None

    @property
    def severity(self) -> Severity:
        """The severity of the worst signal."""
        return max(signal.severity for signal in self.signals)
