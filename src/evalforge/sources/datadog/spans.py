"""Datadog's JSON to `Span`: one item of a search answer in, one span or one rejected item out.

Both parsers are total: any JSON value gives an answer, an odd field costs that field only, and nothing here raises.
Only a span that could not be filed is rejected: one that is no object, has no attributes, no trace id or no span id.

Nearly all spans are healthy and need no more than what rules and scope look at: that is read at once, every other field
when it is first asked for.

Source: https://docs.datadoghq.com/llm_observability/evaluations/export_api/ and
https://docs.datadoghq.com/api/latest/spans/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, TypeGuard

from evalforge.core.ports import Rejected
from evalforge.core.signals import are_plain_tags, is_plain_evaluation
from evalforge.core.span import Evaluation, Json, Span

_NO_PARENT = frozenset({"", "0", "undefined"})
_MAX_NS = 2**63
_EXACT_FLOAT = 2**53
_MAX_TEXT_NUMBER = 40
_NOTHING: Mapping[str, Json] = {}

_NAMED_IN_BOTH = {"span_id", "trace_id", "parent_id", "status", "service", "env", "tags", "error"}
_LLM_OBS_NAMED = frozenset(
    _NAMED_IN_BOTH
    | {"name", "span_kind", "start_ns", "duration", "ml_app", "metadata", "metrics", "model_name", "model_provider"}
    | {"input", "output", "evaluation", "tool_definitions"}
)
_APM_NAMED = frozenset(_NAMED_IN_BOTH | {"resource_name", "type", "start_timestamp", "custom"})


def parse_llm_obs(item: Json) -> Span | Rejected:
    """The span of one item of LLM Observability's search, or why there is none.

    `attributes` stays empty, `extra` holds what the documented export does not name (`intent`, …) and what came with a type
    that its place cannot hold. Application, service and environment fall back to the tags `ml_app`, `service` and `env`.
    """
    attributes = _attributes(item)
    if isinstance(attributes, Rejected):
        return attributes
    trace_id, span_id = _id(attributes.get("trace_id")), _id(attributes.get("span_id"))
    if trace_id is None:
        return Rejected("missing_trace_id", item, None, span_id)
    if span_id is None:
        return Rejected("missing_span_id", item, trace_id, None)
    status = _word(attributes.get("status")).strip().lower()
    return _begun(
        _LlmObsSpan,
        attributes,
        source="llm_obs",
        trace_id=trace_id,
        span_id=span_id,
        kind=_word(attributes.get("span_kind")).lower(),
        status=status,
        metadata=_mapping(attributes, "metadata"),
        metrics=_mapping(attributes, "metrics"),
        custom=_NOTHING,
        is_plain=(status != "error" and _are_plain(attributes.get("evaluation")) and are_plain_tags(attributes.get("tags"))),
    )


def parse_apm(item: Json) -> Span | Rejected:
    """The span of one item of APM's search, or why there is none.

    It is filed under `custom.llmobs_trace_id` where it carries one (`trace_id_kind` "llm_obs"), else under its own trace id
    ("apm"). `attributes` is what Datadog calls custom, `extra` every other unnamed attribute (host, resource_hash, …).

    Status: an explicit `status` decides. Without one (how APM exports spans that went well) the span is an error when its
    `error` flag is a number above zero, or when it carries an error object with a message or a type; the HTTP status code
    has no say, since a refused request that the application dealt with is no error span.
    """
    attributes = _attributes(item)
    if isinstance(attributes, Rejected):
        return attributes
    span_id = _id(attributes.get("span_id"))
    custom = _mapping(attributes, "custom")
    trace_id = _llm_obs_trace_id(custom) or _id(attributes.get("trace_id"))
    if trace_id is None:
        return Rejected("missing_trace_id", item, None, span_id)
    if span_id is None:
        return Rejected("missing_span_id", item, trace_id, None)
    status = _apm_status(attributes, custom)
    return _begun(
        _ApmSpan,
        attributes,
        source="apm",
        trace_id=trace_id,
        span_id=span_id,
        kind=(_first_word(_at(custom, "span.kind"), attributes.get("type")) or "").lower(),
        status=status,
        metadata=_NOTHING,
        metrics=_NOTHING,
        custom=custom,
        is_plain=status != "error" and are_plain_tags(attributes.get("tags")),
    )


PARSERS: Mapping[str, Callable[[Json], Span | Rejected]] = {"llm_obs": parse_llm_obs, "apm": parse_apm}
"""The parser of each source, by its name."""


# -- fields, read when they are asked for ---------------------------------------------------------------------------------


_Readers = Mapping[str, Callable[[Mapping[str, Json], Span], Json]]


class _BegunSpan(Span):
    """A span of which some fields are read already; `_readers` has the others, from the raw attributes and the span."""

    __slots__ = ("_raw",)
    _readers: ClassVar[_Readers] = {}
    _raw: Mapping[str, Json]

    @property
    def content(self) -> Json:
        """The item's attributes as they came; of a span that was changed since, its fields."""
        try:
            return [self.source, self._raw]
        except AttributeError:
            return super().content

    def __getattr__(self, name: str) -> Json:
        # Python asks here only for a slot that is empty: each reader runs at most once.
        read = self._readers.get(name)
        if read is None:
            raise AttributeError(name)
        value = read(self._raw, self)
        object.__setattr__(self, name, value)
        return value


class _LlmObsSpan(_BegunSpan):
    __slots__ = ()
    _readers: ClassVar[_Readers] = {
        "trace_id_kind": lambda raw, span: "llm_obs",
        "parent_id": lambda raw, span: _parent(raw.get("parent_id")),
        "name": lambda raw, span: _word(raw.get("name")),
        "start_ns": lambda raw, span: _epoch_ns(raw.get("start_ns")),
        "duration_ns": lambda raw, span: _duration_ns(raw.get("duration")),
        "apm_trace_id": lambda raw, span: None,
        "application": lambda raw, span: _word_or_tag(span, "ml_app", raw.get("ml_app")),
        "service": lambda raw, span: _word_or_tag(span, "service", raw.get("service")),
        "env": lambda raw, span: _word_or_tag(span, "env", raw.get("env")),
        "model_name": lambda raw, span: _first_word(raw.get("model_name")),
        "model_provider": lambda raw, span: _first_word(raw.get("model_provider")),
        "tags": lambda raw, span: tuple(_tags(raw.get("tags"))),
        "evaluations": lambda raw, span: tuple(_evaluations(raw.get("evaluation"))),
        "input": lambda raw, span: raw.get("input"),
        "output": lambda raw, span: raw.get("output"),
        "error": lambda raw, span: raw.get("error"),
        "tool_definitions": lambda raw, span: raw.get("tool_definitions"),
        "received_start": lambda raw, span: raw.get("start_ns"),
        "received_duration": lambda raw, span: raw.get("duration"),
        "extra": lambda raw, span: _extra(raw, _LLM_OBS_NAMED, ("metadata", "metrics")),
    }


class _ApmSpan(_BegunSpan):
    __slots__ = ()
    _readers: ClassVar[_Readers] = {
        "trace_id_kind": lambda raw, span: "llm_obs" if _llm_obs_trace_id(span.attributes) else "apm",
        "parent_id": lambda raw, span: _parent(raw.get("parent_id")),
        "name": lambda raw, span: _first_word(raw.get("resource_name"), raw.get("operation_name")) or "",
        "start_ns": lambda raw, span: _epoch_ns(raw.get("start_timestamp")),
        "duration_ns": lambda raw, span: _apm_duration_ns(raw, span),
        "apm_trace_id": lambda raw, span: _id(raw.get("trace_id")),
        "application": lambda raw, span: _first_word(
            _tag(span.tags, "ml_app"), _at(span.attributes, "gen_ai.application.name"), span.attributes.get("ml_app")
        ),
        "service": lambda raw, span: _word_or_tag(span, "service", raw.get("service")),
        "env": lambda raw, span: _word_or_tag(span, "env", raw.get("env"), span.attributes.get("env")),
        "model_name": lambda raw, span: _first_word(_at(span.attributes, "gen_ai.request.model")),
        "model_provider": lambda raw, span: _first_word(
            _at(span.attributes, "gen_ai.provider.name"), _at(span.attributes, "gen_ai.system")
        ),
        "tags": lambda raw, span: tuple(_tags(raw.get("tags"))),
        "evaluations": lambda raw, span: (),
        "input": lambda raw, span: None,
        "output": lambda raw, span: None,
        "error": lambda raw, span: _error_object(raw, span.attributes) or None,
        "tool_definitions": lambda raw, span: None,
        "received_start": lambda raw, span: raw.get("start_timestamp"),
        "received_duration": lambda raw, span: span.attributes.get("duration"),
        "extra": lambda raw, span: _extra(raw, _APM_NAMED, ("custom",)),
    }


# A span is frozen: what is read at once is put into its slots directly, for a fifth of what `Span(...)` costs.
_set_raw = _BegunSpan.__dict__["_raw"].__set__
_set_source, _set_trace_id, _set_span_id, _set_kind, _set_status, _set_metadata, _set_metrics, _set_custom, _set_is_plain = (
    Span.__dict__[name].__set__
    for name in "source trace_id span_id kind status metadata metrics attributes is_plain".split()
)


def _begun(
    kind_of_span: type[_BegunSpan],
    raw: Mapping[str, Json],
    *,
    source: str,
    trace_id: str,
    span_id: str,
    kind: str,
    status: str,
    metadata: Mapping[str, Json],
    metrics: Mapping[str, Json],
    custom: Mapping[str, Json],
    is_plain: bool,
) -> Span:
    span = object.__new__(kind_of_span)
    _set_raw(span, raw)
    _set_source(span, source)
    _set_trace_id(span, trace_id)
    _set_span_id(span, span_id)
    _set_kind(span, kind)
    _set_status(span, status)
    _set_metadata(span, metadata)
    _set_metrics(span, metrics)
    _set_custom(span, custom)
    _set_is_plain(span, is_plain)
    return span


def _attributes(item: Json) -> Mapping[str, Json] | Rejected:
    if not _is_mapping(item):
        return Rejected("not_an_object", item)
    attributes = item.get("attributes")
    if not _is_mapping(attributes) or not attributes:
        return Rejected("no_attributes", item)
    return attributes


def _is_mapping(value: Json) -> TypeGuard[Mapping[str, Json]]:
    # Decoded JSON has no other mappings than dictionaries, and to ask for a Mapping takes ten times as long.
    return type(value) is dict or isinstance(value, Mapping)


# -- ids and words --------------------------------------------------------------------------------------------------------


def _id(value: Json) -> str | None:
    """An id as text, digit for digit; None when there is none or its digits are already lost."""
    if isinstance(value, str):
        return value if value.strip() else None
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < _EXACT_FLOAT else None
    return _digits(value) if isinstance(value, int) else None


def _as_hexadecimal(trace_id: str | None) -> str | None:
    """The id as LLM Observability spells it: ddtrace propagates the same 128 bits between services as a decimal number.

    32 digits are left alone: they are a hexadecimal id that happens to have no letter.
    """
    if trace_id is None or not (
        20 < len(trace_id) < 40 and len(trace_id) != 32 and trace_id.isascii() and trace_id.isdecimal()
    ):
        return trace_id
    number = int(trace_id)
    return f"{number:032x}" if number < 1 << 128 else trace_id


def _parent(value: Json) -> str | None:
    identity = _id(value)
    return None if identity is None or identity.strip() in _NO_PARENT else identity


def _digits(number: int) -> str | None:
    # Python refuses to print integers of more than 4300 digits; no id has more than 39.
    return str(number) if number.bit_length() <= 256 else None


def _word(value: Json) -> str:
    """A scalar as text, "" for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return _digits(value) or ""
    return repr(value) if isinstance(value, float) else ""


def _first_word(*values: Json) -> str | None:
    for value in values:
        if isinstance(value, str) and value.strip():
            return value
    return None


# -- times ----------------------------------------------------------------------------------------------------------------

_ISO = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,]([0-9]{1,30}))?(Z|z|[+-][0-9]{2}:?[0-9]{2})?"
)


def _epoch_ns(value: Json) -> int:
    """A start as nanoseconds since the epoch; 0 when unknown or nonsense.

    Numbers are read by magnitude, since Datadog's SDK sends nanoseconds and its documentation shows milliseconds: below
    1e14 milliseconds, below 1e17 microseconds, else nanoseconds.
    """
    if isinstance(value, str) and (found := _ISO.fullmatch(value.strip())):
        date, time, fraction, zone = found.groups()
        try:
            moment = datetime.fromisoformat(f"{date}T{time}{(zone or 'Z').upper()}")
        except ValueError:
            return 0
        seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _ONE_SECOND
        return _positive(seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9]))
    number = _number(value)
    if number is None or number <= 0:
        return 0
    if number < 1e14:
        return _positive(int(number * 1_000_000))
    if number < 1e17:
        return _positive(int(number * 1_000))
    return _positive(int(number))


_ONE_SECOND = timedelta(seconds=1)


def _duration_ns(value: Json) -> int:
    number = _number(value)
    return 0 if number is None or number <= 0 else _positive(int(number))


def _positive(ns: int) -> int:
    return ns if 0 < ns < _MAX_NS else 0


def _number(value: Json) -> int | float | None:
    """A finite number, also where it is spelled as text; integers keep every digit."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, str) and len(value) <= _MAX_TEXT_NUMBER and value.isascii():
        text = value.strip()
        if text.isdigit():
            return int(text)
        try:
            number = float(text)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    return None


# -- mappings, tags, evaluations, errors ----------------------------------------------------------------------------------


def _mapping(attributes: Mapping[str, Json], key: str) -> Mapping[str, Json]:
    """The mapping under `key`; an empty one where there is none."""
    value = attributes.get(key)
    return value if _is_mapping(value) else _NOTHING


def _extra(attributes: Mapping[str, Json], named: frozenset[str], mappings: tuple[str, ...]) -> dict[str, Json]:
    """What no field names, and what stands where a mapping belongs and is none, so that it is not lost unseen."""
    extra = {key: value for key, value in attributes.items() if key not in named}
    for key in mappings:
        value = attributes.get(key)
        if value is not None and not _is_mapping(value):
            extra[key] = value
    return extra


def _at(values: Mapping[str, Json], path: str) -> Json:
    """The value under a dotted path, nested or as one key."""
    if path in values:
        return values[path]
    head, dot, rest = path.partition(".")
    below = values.get(head) if dot else None
    return _at(below, rest) if isinstance(below, Mapping) else None


def _tags(tags: Json) -> Iterator[tuple[str, str]]:
    if isinstance(tags, str):
        tags = tags.split(",")
    if isinstance(tags, Mapping):
        for key, value in tags.items():
            for one in value if isinstance(value, list) else (value,):
                yield str(key), _word(one)
    elif isinstance(tags, list):
        for tag in tags:
            if isinstance(tag, str):
                key, _, text = tag.partition(":")
                yield key, text


def _tag(tags: tuple[tuple[str, str], ...], wanted: str) -> str | None:
    return next((value for key, value in tags if value and (key == wanted or key.lower() == wanted)), None)


def _word_or_tag(span: Span, key: str, *values: Json) -> str | None:
    return _first_word(*values) or _first_word(_tag(span.tags, key))


def _evaluations(evaluations: Json) -> Iterator[Evaluation]:
    if isinstance(evaluations, Mapping):
        for name, verdict in evaluations.items():
            yield _evaluation(str(name), verdict)
    elif isinstance(evaluations, list):
        for verdict in evaluations:
            name = _first_word(verdict.get("name"), verdict.get("label")) if isinstance(verdict, Mapping) else None
            if name is not None:
                yield _evaluation(name, verdict)


def _are_plain(evaluations: Json) -> bool:
    """Whether no rule can fire on these evaluations; False where only a closer look tells."""
    if evaluations is None:
        return True
    if type(evaluations) is not dict:
        return False
    for name, verdict in evaluations.items():
        if not is_plain_evaluation(name, verdict.get("assessment") if _is_mapping(verdict) else None):
            return False
    return True


def _evaluation(name: str, verdict: Any) -> Evaluation:
    if not isinstance(verdict, Mapping):
        return Evaluation(name, value=verdict)
    return Evaluation(
        name,
        value=verdict.get("value"),
        value_kind=_first_word(verdict.get("eval_metric_type")),
        assessment=_first_word(verdict.get("assessment")),
        status=_first_word(verdict.get("status")),
        body=verdict,
    )


def _error_object(attributes: Mapping[str, Json], custom: Mapping[str, Json]) -> Mapping[str, Json]:
    for holder in (custom, attributes):
        error = holder.get("error")
        if isinstance(error, Mapping) and error:
            return error
    return {key.removeprefix("error."): value for key, value in custom.items() if key.startswith("error.")}


def _apm_status(attributes: Mapping[str, Json], custom: Mapping[str, Json]) -> str:
    status = _first_word(attributes.get("status"))
    if status is not None:
        return status.strip().lower()
    for flag in (attributes.get("error"), custom.get("error")):
        if isinstance(flag, bool):
            return "error" if flag else "ok"
        number = _number(flag)
        if number is not None:
            return "error" if number > 0 else "ok"
    error = _error_object(attributes, custom)
    return "error" if error.get("message") or error.get("type") else "ok"


def _llm_obs_trace_id(custom: Mapping[str, Json]) -> str | None:
    return _as_hexadecimal(_parent(custom.get("llmobs_trace_id")))


def _apm_duration_ns(attributes: Mapping[str, Json], span: Span) -> int:
    duration_ns = _duration_ns(span.received_duration)
    if not duration_ns and span.start_ns:
        return max(0, _epoch_ns(attributes.get("end_timestamp")) - span.start_ns)
    return duration_ns
