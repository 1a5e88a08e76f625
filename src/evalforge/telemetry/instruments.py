"""The table of instruments: every metric and every stretch of a trace, with all the values that their attributes can have.

Names are as OpenTelemetry has them; `prometheus_name` gives the same for Prometheus. What an attribute does not name here is
told as `other`, so that nothing that comes from outside can make a series, or leave in one.
Source: https://opentelemetry.io/docs/specs/semconv/general/naming/ and
https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from evalforge import errors
from evalforge.core.plans import BACKFILL
from evalforge.core.privacy.keys import KeyClass
from evalforge.core.privacy.text.findings import TextKind
from evalforge.core.signals import FailureType

OTHER = "other"
"""Every value that the table does not name."""


class Kind(Enum):
    """What a number is: it only grows, it is as last told, it is the time since a moment, or many are put into buckets."""

    COUNTER = "counter"
    GAUGE = "gauge"
    AGE = "age"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute and all its values; `OTHER` is always one more."""

    name: str
    values: frozenset[str]

    def bounded(self, value: object) -> str:
        """`value` where the table names it."""
        return value if isinstance(value, str) and value in self.values else OTHER


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. `unit` is UCUM's (`s`) or an annotation (`{span}`); `buckets` are a histogram's upper bounds."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    attributes: tuple[Attribute, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def max_series(self) -> int:
        """How many series there can be of it, whatever happens."""
        count = 1
        for attribute in self.attributes:
            count *= len(attribute.values) + 1
        return count


@dataclass(frozen=True, slots=True)
class Stretch:
    """One kind of span of our own traces: `attributes` have values of the table, `counts` are numbers, `ids` ids of ours."""

    name: str
    meaning: str
    attributes: tuple[Attribute, ...] = ()
    counts: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


def _attribute(name: str, values: Iterable[str]) -> Attribute:
    return Attribute(name, frozenset(values))


def _error_codes(root: type[errors.EvalForgeError]) -> Iterable[str]:
    yield root.code
    for child in root.__subclasses__():
        yield from _error_codes(child)


SOURCE = _attribute("source", ("llm_obs", "apm"))
STORE = _attribute("store", ("firestore", "sqlite"))
PLAN = _attribute("plan", ("window", "since_last", BACKFILL))
OUTCOME = _attribute("outcome", ("complete", "incomplete", "failed", "rehearsed", "not_begun"))
CODE = _attribute("code", (*_error_codes(errors.EvalForgeError), "unexpected", "cancelled", "no_answer"))
ANSWER = _attribute("code", ("200", "400", "401", "403", "404", "408", "429", "500", "502", "503", "504", "no_answer"))
RETRIED = _attribute("code", (*ANSWER.values, "keys_renewed", "nonsense"))
FATE = _attribute("outcome", ("created", "updated", "unchanged", "refused", "kept_out"))
FAILURE = _attribute("failure_type", FailureType)
WRITTEN = _attribute("outcome", ("written", "failed"))
REASON = _attribute(
    "reason",
    (
        "not_an_object",
        "no_attributes",
        "missing_trace_id",
        "missing_span_id",
        "unexpected_error",
        "not_representable",
        "invalid_document",
        "document_too_large",
        "stored_document_unreadable",
    ),
)
REDACTION = _attribute(
    "kind",
    (
        *KeyClass,
        *TextKind,
        "document",
        "echo",
        "error",
        "key",
        "limit",
        "nonfinite",
        "second_net",
        "tag",
        "tool_arguments",
        "tool_result",
        "unknown_key",
        "unknown_value",
        "unreadable",
    ),
)

_RUN_BUCKETS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1_800.0, 3_600.0, 14_400.0)
_REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

INSTRUMENTS: tuple[Instrument, ...] = (
    Instrument("evalforge.runs", Kind.COUNTER, "{run}", "runs that ended, or could not begin", (PLAN, OUTCOME)),
    Instrument(
        "evalforge.run.duration", Kind.HISTOGRAM, "s", "how long runs took, in seconds", (PLAN, OUTCOME), _RUN_BUCKETS
    ),
    Instrument("evalforge.errors", Kind.COUNTER, "{error}", "errors that ended a run, or the reading of a source", (CODE,)),
    Instrument(
        "evalforge.lag",
        Kind.AGE,
        "s",
        "seconds since the end of the latest window that was read to its end",
        (SOURCE,),
    ),
    Instrument("evalforge.windows.gone", Kind.COUNTER, "{window}", "windows that Datadog no longer holds unread", (SOURCE,)),
    Instrument("evalforge.filter.gaps", Kind.GAUGE, "{gap}", "places that the query missed in the last run", (SOURCE,)),
    Instrument("evalforge.spans.read", Kind.COUNTER, "{span}", "items read; repeats count again", (SOURCE,)),
    Instrument("evalforge.spans.healthy", Kind.COUNTER, "{span}", "items that are no failure, or out of scope", (SOURCE,)),
    Instrument("evalforge.spans.failing", Kind.COUNTER, "{span}", "items that became part of a capture", (SOURCE,)),
    Instrument("evalforge.spans.rejected", Kind.COUNTER, "{span}", "items that could not be captured", (SOURCE,)),
    Instrument("evalforge.captures", Kind.COUNTER, "{capture}", "captures by what became of them", (FATE,)),
    Instrument("evalforge.captures.new", Kind.COUNTER, "{capture}", "new captures by failure type", (FAILURE,)),
    Instrument("evalforge.dead_letters", Kind.GAUGE, "{letter}", "dead letters in the store after the last run"),
    Instrument("evalforge.dead_letters.kept", Kind.COUNTER, "{letter}", "dead letters by reason", (REASON,)),
    Instrument(
        "evalforge.redactions", Kind.COUNTER, "{value}", "values removed from captures that were written", (REDACTION,)
    ),
    Instrument("evalforge.second_net.hits", Kind.COUNTER, "{capture}", "captures in which the second net found something"),
    Instrument(
        "evalforge.datadog.requests",
        Kind.COUNTER,
        "{request}",
        "searches sent to Datadog by the status of the answer",
        (SOURCE, ANSWER),
    ),
    Instrument(
        "evalforge.datadog.retries",
        Kind.COUNTER,
        "{request}",
        "searches sent once more, by what the time before ended in",
        (SOURCE, RETRIED),
    ),
    Instrument(
        "evalforge.datadog.request.duration",
        Kind.HISTOGRAM,
        "s",
        "how long answers took, to their last byte, in seconds",
        (SOURCE,),
        _REQUEST_BUCKETS,
    ),
    Instrument("evalforge.datadog.quota.limit", Kind.GAUGE, "{request}", "requests that a period allows", (SOURCE,)),
    Instrument("evalforge.datadog.quota.remaining", Kind.GAUGE, "{request}", "requests left of the period", (SOURCE,)),
    Instrument(
        "evalforge.page.duration",
        Kind.HISTOGRAM,
        "s",
        "how long judging and storing a page took, in seconds",
        (SOURCE,),
        _REQUEST_BUCKETS,
    ),
    Instrument("evalforge.store.write_batches", Kind.COUNTER, "{batch}", "batches of captures written", (STORE, WRITTEN)),
    Instrument(
        "evalforge.store.write.duration",
        Kind.HISTOGRAM,
        "s",
        "how long writing a batch took, in seconds",
        (STORE,),
        _REQUEST_BUCKETS,
    ),
)
"""Every metric, in the order in which they are documented."""

STRETCHES: tuple[Stretch, ...] = (
    Stretch(
        "evalforge.run",
        "one run",
        (PLAN, OUTCOME),
        ("fetched", "healthy", "failing", "rejected", "created", "updated", "unchanged", "request_count", "retry_count"),
        ("run_id",),
    ),
    Stretch("evalforge.window", "one window of one source", (SOURCE,), ("window_s",)),
    Stretch("evalforge.page", "one page: judged, sanitized, stored", (SOURCE,), ("item_count",)),
    Stretch("evalforge.datadog.request", "one request to Datadog", (SOURCE, ANSWER), ("limit", "size_bytes")),
    Stretch("evalforge.store.write", "one batch of captures", (STORE,), ("write_count",)),
)
"""Every kind of stretch that a trace can hold."""

INSTRUMENT_OF = {instrument.name: instrument for instrument in INSTRUMENTS}
STRETCH_OF = {stretch.name: stretch for stretch in STRETCHES}


def prometheus_name(instrument: Instrument) -> str:
    """The metric's name in Prometheus, as its samples have it; a histogram's get `_bucket`, `_sum` and `_count` added.

    Dots become underscores, seconds are named, what a unit only annotates is not, and a counter ends in `_total`.
    """
    name = instrument.name.replace(".", "_")
    if instrument.unit == "s":
        name += "_seconds"
    return f"{name}_total" if instrument.kind is Kind.COUNTER else name
