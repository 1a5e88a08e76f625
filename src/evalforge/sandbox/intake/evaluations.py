"""An evaluation or a feedback as the SDK submits it, mapped to a verdict that the store joins to its span.

On the left what is sent, on the right what becomes of it:

    label                                     the verdict's name
    metric_type                               eval_metric_type
    categorical_value, score_value, …         value
    assessment, reasoning, tags, metadata     the same names; status is OK, for the SDK sends results only
    join_on.span, or span_id and trace_id     that span
    join_on.tag                               the one span that has the tag
    event_kind feedback                       that span, or the root of that trace or session; queries find it, the export
                                              does not have it
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evalforge.sandbox.joining import Key, Verdict
from evalforge.sandbox.spans import Json

_KEPT = ("assessment", "reasoning", "tags", "metadata")
_TYPES = ("score", "categorical", "boolean", "json", "text")


def metrics_of(body: Json) -> Iterator[Json]:
    """Yield every metric of a body, `{"data": {"attributes": {"metrics": [M …]}}}`, and None for what has no metrics."""
    data = body.get("data") if isinstance(body, dict) else None
    attributes = data.get("attributes") if isinstance(data, dict) else None
    metrics = attributes.get("metrics") if isinstance(attributes, dict) else None
    yield from metrics if isinstance(metrics, list) else [None]


def verdict_of(metric: Json) -> Verdict | None:
    """Return the verdict of a metric, None if it has no label or says nothing about anything."""
    if not isinstance(metric, dict) or not isinstance(metric.get("label"), str) or not metric["label"]:
        return None
    is_feedback = metric.get("event_kind") == "feedback"
    target = _feedback_target(metric) if is_feedback else _target(metric)
    if target is None:
        return None
    about, trace_id = target
    kind, value = _value(metric)
    content = {"eval_metric_type": kind, "value": value, "status": "OK"}
    content |= {key: metric[key] for key in _KEPT if metric.get(key) is not None}
    return Verdict(metric["label"], content, about, trace_id, is_feedback)


def _value(metric: Mapping[str, Json]) -> tuple[str, Json]:
    named = metric.get("metric_type")
    kinds = ((named,) if isinstance(named, str) else ()) + _TYPES
    for kind in kinds:
        if (value := metric.get(f"{kind}_value")) is not None:
            return kind, value
    return kinds[0], None


def _target(metric: Mapping[str, Json]) -> tuple[Key, str | None] | None:
    join = metric.get("join_on")
    join = join if isinstance(join, dict) else {"span": metric}  # the first version of the API had the ids in the metric
    tag, span = join.get("tag"), join.get("span")
    if isinstance(tag, dict) and _is_named(tag.get("key")):
        return ("tag", f"{tag['key']}:{tag.get('value', '')}".lower()), None
    if isinstance(span, dict) and _is_named(span.get("span_id")):
        trace_id = span.get("trace_id")
        return ("span", str(span["span_id"])), str(trace_id) if _is_named(trace_id) else None
    return None


def _feedback_target(metric: Mapping[str, Json]) -> tuple[Key, str | None] | None:
    if _is_named(span_id := metric.get("span_id")):
        return ("span", str(span_id)), None
    if _is_named(trace_id := metric.get("trace_id")):
        return ("trace", str(trace_id)), None
    if _is_named(session_id := metric.get("session_id")):
        return ("session", str(session_id).lower()), None
    if _is_named(key := metric.get("feedback_join_key")):
        return ("tag", f"feedback_join_key:{key}".lower()), None
    return None


def _is_named(value: Json) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool) and value != ""
