"""Datadog's JSON to `Span`: one item of a search answer in, one span or one rejected item out.

Both parsers are total: any JSON value gives an answer, an odd field costs that field only, and nothing here raises.
Only a span that could not be filed is rejected: one that is no object, has no attributes, no trace id or no span id.

Source: https://docs.datadoghq.com/llm_observability/evaluations/export_api/ and
https://docs.datadoghq.com/api/latest/spans/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from evalforge.core.ports import Rejected
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
    tags = tuple(_tags(attributes.get("tags")))
    extra = {key: value for key, value in attributes.items() if key not in _LLM_OBS_NAMED}
    return Span(
        source="llm_obs",
        trace_id=trace_id,
        trace_id_kind="llm_obs",
        span_id=span_id,
        parent_id=_parent(attributes.get("parent_id")),
        name=_word(attributes.get("name")),
        kind=_word(attributes.get("span_kind")).lower(),
        status=_word(attributes.get("status")).strip().lower(),
        start_ns=_epoch_ns(attributes.get("start_ns")),
        duration_ns=_duration_ns(attributes.get("duration")),
        application=_first_word(attributes.get("ml_app"), _tag(tags, "ml_app")),
        service=_first_word(attributes.get("service"), _tag(tags, "service")),
        env=_first_word(attributes.get("env"), _tag(tags, "env")),
        model_name=_first_word(attributes.get("model_name")),
        model_provider=_first_word(attributes.get("model_provider")),
        tags=tags,
        metadata=_mapping(attributes, "metadata", extra),
        metrics=_mapping(attributes, "metrics", extra),
        evaluations=tuple(_evaluations(attributes.get("evaluation"))),
        input=attributes.get("input"),
        output=attributes.get("output"),
        error=attributes.get("error"),
        tool_definitions=attributes.get("tool_definitions"),
        received_start=attributes.get("start_ns"),
        received_duration=attributes.get("duration"),
        extra=extra,
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
    own_trace_id, span_id = _id(attributes.get("trace_id")), _id(attributes.get("span_id"))
    extra = {key: value for key, value in attributes.items() if key not in _APM_NAMED}
    custom = _mapping(attributes, "custom", extra)
    llm_obs_trace_id = _as_hexadecimal(_parent(custom.get("llmobs_trace_id")))
    trace_id = llm_obs_trace_id or own_trace_id
    if trace_id is None:
        return Rejected("missing_trace_id", item, None, span_id)
    if span_id is None:
        return Rejected("missing_span_id", item, trace_id, None)
    tags = tuple(_tags(attributes.get("tags")))
    error = _error_object(attributes, custom)
    start_ns = _epoch_ns(attributes.get("start_timestamp"))
    received_duration = custom.get("duration")
    duration_ns = _duration_ns(received_duration)
    if not duration_ns and start_ns:
        duration_ns = max(0, _epoch_ns(attributes.get("end_timestamp")) - start_ns)
    return Span(
        source="apm",
        trace_id=trace_id,
        trace_id_kind="llm_obs" if llm_obs_trace_id else "apm",
        span_id=span_id,
        parent_id=_parent(attributes.get("parent_id")),
        name=_first_word(attributes.get("resource_name"), attributes.get("operation_name")) or "",
        kind=(_first_word(_at(custom, "span.kind"), attributes.get("type")) or "").lower(),
        status=_apm_status(attributes, custom, error),
        start_ns=start_ns,
        duration_ns=duration_ns,
        apm_trace_id=own_trace_id,
        application=_first_word(_tag(tags, "ml_app"), _at(custom, "gen_ai.application.name"), custom.get("ml_app")),
        service=_first_word(attributes.get("service"), _tag(tags, "service")),
        env=_first_word(attributes.get("env"), custom.get("env"), _tag(tags, "env")),
        model_name=_first_word(_at(custom, "gen_ai.request.model")),
        model_provider=_first_word(_at(custom, "gen_ai.provider.name"), _at(custom, "gen_ai.system")),
        tags=tags,
        attributes=custom,
        error=error or None,
        received_start=attributes.get("start_timestamp"),
        received_duration=received_duration,
        extra=extra,
    )


PARSERS: Mapping[str, Callable[[Json], Span | Rejected]] = {"llm_obs": parse_llm_obs, "apm": parse_apm}
"""The parser of each source, by its name."""


def _attributes(item: Json) -> Mapping[str, Json] | Rejected:
    if not isinstance(item, Mapping):
        return Rejected("not_an_object", item)
    attributes = item.get("attributes")
    if not isinstance(attributes, Mapping) or not attributes:
        return Rejected("no_attributes", item)
    return attributes


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


def _mapping(attributes: Mapping[str, Json], key: str, extra: dict[str, Json]) -> Mapping[str, Json]:
    """The mapping under `key`; anything else that stands there is put into `extra`, so that it is not lost unseen."""
    value = attributes.get(key)
    if isinstance(value, Mapping):
        return value
    if value is not None:
        extra[key] = value
    return _NOTHING


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


def _evaluations(evaluations: Json) -> Iterator[Evaluation]:
    if isinstance(evaluations, Mapping):
        for name, verdict in evaluations.items():
            yield _evaluation(str(name), verdict)
    elif isinstance(evaluations, list):
        for verdict in evaluations:
            name = _first_word(verdict.get("name"), verdict.get("label")) if isinstance(verdict, Mapping) else None
            if name is not None:
                yield _evaluation(name, verdict)


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


def _apm_status(attributes: Mapping[str, Json], custom: Mapping[str, Json], error: Mapping[str, Json]) -> str:
    status = _first_word(attributes.get("status"))
    if status is not None:
        return status.strip().lower()
    for flag in (attributes.get("error"), custom.get("error")):
        if isinstance(flag, bool):
            return "error" if flag else "ok"
        number = _number(flag)
        if number is not None:
            return "error" if number > 0 else "ok"
    return "error" if error.get("message") or error.get("type") else "ok"
