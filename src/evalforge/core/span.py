"""One unit of LLM work, in our own words: what a source's item is parsed to and what the rules and the sanitizer read.

A `Span` holds raw, untrusted values. It lives only inside the ingestion loop: nothing writes one, logs one or stores one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from evalforge.core.window import Window

Json = Any
"""Any decoded JSON value: None, bool, int, float, str, list or dict, nested without a promise of depth or type."""

TraceIdKind = Literal["llm_obs", "apm"]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One evaluator's verdict on a span, as received.

    `value` is untrusted JSON of any type; `assessment` is "pass", "fail" or None; `status` is "OK", "WARN", "ERROR" or
    None ("ERROR": the evaluator itself failed, so this is no verdict). `body` is the whole received mapping, with
    reasoning, tags and whatever else came along; the sanitizer decides what of it survives.
    """

    name: str
    value: Json = None
    value_kind: str | None = None
    assessment: str | None = None
    status: str | None = None
    body: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Span:
    """One span of either source.

    Ids are strings as received (64-bit decimals lose digits as JSON numbers). `trace_id` is the id the capture is filed
    under: the LLM-Observability trace id, or APM's own where a span names no other (`trace_id_kind` tells which).
    `start_ns` is nanoseconds since the Unix epoch, `duration_ns` nanoseconds, both 0 when unknown or nonsense;
    `received_start` and `received_duration` are the same two as they came. `tags` are (key, value) pairs in order, since
    keys repeat; a tag without a colon has the value "". `metadata`, `metrics` and `attributes` (what APM calls custom) are
    mappings as received, `extra` the top-level attributes that no field here names.

    `is_plain` is the source's word that no rule can fire on status, evaluations and tags, whatever the thresholds (see
    `signals.is_plain_evaluation` and `signals.are_plain_tags`): those who judge need not look at them.
    """

    source: str
    trace_id: str
    trace_id_kind: TraceIdKind
    span_id: str
    parent_id: str | None
    name: str
    kind: str
    status: str
    start_ns: int
    duration_ns: int
    apm_trace_id: str | None = None
    application: str | None = None
    service: str | None = None
    env: str | None = None
    model_name: str | None = None
    model_provider: str | None = None
    tags: tuple[tuple[str, str], ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)
    metrics: Mapping[str, Json] = field(default_factory=dict)
    attributes: Mapping[str, Json] = field(default_factory=dict)
    evaluations: tuple[Evaluation, ...] = ()
    input: Json = None
    output: Json = None
    error: Json = None
    tool_definitions: Json = None
    received_start: Json = None
    received_duration: Json = None
    extra: Mapping[str, Json] = field(default_factory=dict)
    is_plain: bool = field(default=False, compare=False, repr=False)

    @property
    def content(self) -> Json:
        """All that the source said of the span, as plain values: spans of equal content are one."""
        values = {one.name: getattr(self, one.name) for one in fields(Span) if one.compare}
        verdicts = [[one.name, one.value, one.value_kind, one.assessment, one.status, one.body] for one in self.evaluations]
        return values | {"evaluations": verdicts}


def newest_start_ms(spans: Sequence[Span], window: Window, otherwise: int | None) -> int | None:
    """The start of the last of these spans that lies in the window, epoch milliseconds: a span's own clock may be wrong."""
    starts_ms = (span.start_ns // 1_000_000 for span in reversed(spans))
    return next((start_ms for start_ms in starts_ms if window.from_ms <= start_ms < window.to_ms), otherwise)
