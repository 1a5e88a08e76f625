"""What the items of a search look like, beside what we had assumed of them. Pure; no letter of an item is told.

Source: docs/decisions, and the recorded and documented items that the parsers were written from.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

from evalforge.core.findings import Finding, Verdict, counted_words, judged, known_word, told_counts, type_of
from evalforge.core.span import Json
from evalforge.sources.datadog import shapes
from evalforge.sources.datadog.shapes import attributes_of, epoch_s, field_types, forms_of, mapping, unit_of

STATES = ("done", "timeout", "ok", "error", "OK", "WARN", "ERROR", "pass", "fail", "warn")
_KINDS = ("agent", "workflow", "llm", "tool", "task", "embedding", "retrieval", "experiment")
_METRICS = ("categorical", "score", "boolean", "json")
_DAY_S = 86_400


def llm_obs_findings(items: Sequence[Json]) -> list[Finding]:
    """What these items of LLM Observability's search look like."""
    spans = attributes_of(items)
    if not spans:
        return [judged("llm_obs.items", "spans as documented", None, "there is none in the last 24 hours")]
    evaluations = [(name, mapping(one)) for span in spans for name, one in mapping(span.get("evaluation")).items()]
    evaluated = [one for _, one in evaluations]
    said = {
        "types": _words_of(evaluated, "eval_metric_type", _METRICS),
        "assessment": _words_of(evaluated, "assessment", STATES),
        "status": _words_of(evaluated, "status", STATES),
    }
    units = counted_words(unit_of(span.get("start_ns")) for span in spans)
    traces = forms_of(span.get("trace_id") for span in spans)
    same = sum(mapping(item).get("id") == mapping(mapping(item).get("attributes")).get("span_id") for item in items)
    tags = [tag for span in spans for tag in list_of(span.get("tags"))]
    kinds = counted_words(known_word(span.get("span_kind"), _KINDS) for span in spans)
    states = counted_words(known_word(span.get("status"), STATES) for span in spans)
    extra = {key: sum(key in span for span in spans) for key in ("error", "session_id", "prompt", "span_links", "service")}
    extra["documents"] = sum("documents" in mapping(span.get(side)) for span in spans for side in ("input", "output"))
    return [
        judged(
            "llm_obs.ids",
            "id is span_id, decimal; trace_id 32 hex; parent_id decimal or undefined",
            same == len(items) and set(traces) == {"32 hex"},
            f"id is span_id in {same} of {len(items)}; trace_id {told_counts(traces)}; parent_id "
            + told_counts(forms_of(span.get("parent_id") for span in spans)),
            span_id=forms_of(span.get("span_id") for span in spans),
            trace_id=traces,
        ),
        judged(
            "llm_obs.trace_seconds",
            "the first 8 hex digits of trace_id are its second",
            _seconds_agree(spans),
            "compared with start_ns, within a day",
        ),
        judged("llm_obs.start", "nanoseconds", set(units) == {"ns"}, told_counts(units)),
        judged(
            "llm_obs.duration",
            "a number of ns",
            _durations_are_ns(spans),
            f"{told_counts(counted_words(type_of(span.get('duration')) for span in spans))}; median "
            f"{_magnitude(_median(spans))}",
        ),
        judged(
            "llm_obs.kinds",
            "the documented kinds; status ok or error",
            not ({"another"} & (set(kinds) | set(states))),
            f"{told_counts(kinds)}; status {told_counts(states)}",
        ),
        judged(
            "llm_obs.tags",
            "key:value, values in lower case",
            None if not tags else not ({"capitals in a value", "without a colon"} & set(shapes.tag_habits(tags))),
            told_counts(shapes.tag_habits(tags)),
            repeated_keys=_repeat_keys(spans),
        ),
        judged(
            "llm_obs.evaluations",
            "types categorical, score, boolean, json; assessment pass or fail, often absent",
            None if not evaluated else not any("another" in words for words in said.values()),
            f"{len(evaluated)} on {sum(bool(mapping(span.get('evaluation'))) for span in spans)} of {len(spans)} spans; "
            + "; ".join(f"{key} {told_counts(words)}" for key, words in said.items()),
            values=counted_words(type_of(one.get("value")) for one in evaluated),
            fields=field_types(evaluated),
        ),
        judged(
            "llm_obs.not_exported",
            "no error, session_id, prompt, documents, span_links, service",
            not any(extra.values()),
            told_counts({key: count for key, count in extra.items() if count}, "none of them"),
        ),
        Finding("llm_obs.fields", "", Verdict.SEEN, _fields_told(spans), {"fields": field_types(spans)}),
        Finding(
            "llm_obs.messages",
            "",
            Verdict.SEEN,
            told_fields(field_types(_messages(spans))) or "none",
            {"fields": field_types(_messages(spans))},
        ),
    ]


def apm_findings(items: Sequence[Json]) -> list[Finding]:
    """What these items of APM's search look like."""
    spans = attributes_of(items)
    if not spans:
        return [judged("apm.items", "spans as recorded", None, "there is none in DATADOG_APM_SCOPE in the last 24 hours")]
    custom = [mapping(span.get("custom")) for span in spans]
    begins = counted_words(unit_of(span.get("start_timestamp")) for span in spans)
    ends = counted_words(unit_of(span.get("end_timestamp")) for span in spans)
    codes = counted_words(type_of(mapping(one.get("http")).get("status_code")) for one in custom if "http" in one)
    named = forms_of(one["llmobs_trace_id"] for one in custom if "llmobs_trace_id" in one)
    dotted = sum(any("." in key for key in one) for one in custom)
    traces = forms_of(span.get("trace_id") for span in spans)
    return [
        judged(
            "apm.times",
            "start_timestamp and end_timestamp in ISO 8601 with milliseconds",
            set(begins) | set(ends) == {"ISO 8601, 3 digits"},
            f"start {told_counts(begins)}; end {told_counts(ends)}",
        ),
        judged(
            "apm.duration",
            "custom.duration is end - start, in ns",
            _apm_durations_agree(spans),
            told_counts(counted_words(type_of(one.get("duration")) for one in custom)),
        ),
        judged(
            "apm.ids",
            "trace_id, span_id decimal, 64 bits; id is an event's",
            set(traces) == {"decimal, 64 bits"},
            f"trace_id {told_counts(traces)}; span_id {told_counts(forms_of(span.get('span_id') for span in spans))}; "
            f"parent_id {told_counts(forms_of(span.get('parent_id') for span in spans))}",
        ),
        judged(
            "apm.llm_trace",
            "custom.llmobs_trace_id names the LLM trace, 32 hex",
            set(named) == {"32 hex"} if named else None,
            f"{told_counts(named)} of {len(spans)}",
        ),
        judged("apm.nested", "no dotted key under custom", dotted == 0, f"dotted keys in {dotted} of {len(spans)}"),
        judged(
            "apm.http_status", "a string", None if not codes else set(codes) == {"str"}, told_counts(codes, "no custom.http")
        ),
        judged(
            "apm.status",
            "no status on spans that went well",
            None,
            told_counts(counted_words(known_word(span.get("status"), STATES) for span in spans if "status" in span)),
        ),
        judged(
            "apm.tags",
            "key:value, some without a colon",
            None,
            told_counts(shapes.tag_habits(tag for span in spans for tag in list_of(span.get("tags")))),
        ),
        Finding("apm.fields", "", Verdict.SEEN, _fields_told(spans), {"fields": field_types(spans)}),
    ]


def _words_of(objects: Sequence[Mapping[str, Json]], key: str, words: Sequence[str]) -> dict[str, int]:
    return counted_words(known_word(one[key], words) if key in one else "absent" for one in objects)


def told_fields(fields: Mapping[str, str]) -> str:
    """`content str, role str`."""
    return ", ".join(f"{path} {kinds}" for path, kinds in fields.items())


def _fields_told(spans: Sequence[Mapping[str, Json]]) -> str:
    fields = field_types(spans)
    shown = {path: kinds for path, kinds in fields.items() if "." not in path}
    nested = sorted({path.partition(".")[0] for path in fields if "." in path})
    return told_fields(shown) + (f"; nested: {', '.join(nested)}" if nested else "")


def list_of(value: Json) -> list[Json]:
    """`value` if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def began_at(source: str, span: Mapping[str, Json]) -> float | None:
    """When a span began, in seconds since the Unix epoch."""
    return epoch_s(span.get("start_ns" if source == "llm_obs" else "start_timestamp"))


def _seconds_agree(spans: Sequence[Mapping[str, Json]]) -> bool | None:
    apart = [
        abs(int(trace[:8], 16) - began)
        for span in spans
        if isinstance(trace := span.get("trace_id"), str)
        and shapes.form_of(trace) == "32 hex"
        and (began := began_at("llm_obs", span)) is not None
    ]
    return all(seconds < _DAY_S for seconds in apart) if apart else None


def _numbers(values: Sequence[Json]) -> list[float]:
    return [float(value) for value in values if isinstance(value, int | float) and 0 <= value < 1e18]


def _median(spans: Sequence[Mapping[str, Json]]) -> float:
    return statistics.median(_numbers([span.get("duration") for span in spans]) or [0.0])


def _magnitude(number: float) -> str:
    """Its power of ten: what exactly it is may say more than its unit does."""
    return f"10^{math.floor(math.log10(number))}" if number >= 1 else "0"


def _durations_are_ns(spans: Sequence[Mapping[str, Json]]) -> bool | None:
    """Whether the median is a span's: between 10 µs and 3 hours, read as nanoseconds."""
    median = _median(spans)
    return 1e4 <= median <= 1e13 if median else None


def _apm_durations_agree(spans: Sequence[Mapping[str, Json]]) -> bool | None:
    apart = []
    for span in spans:
        begin, end = epoch_s(span.get("start_timestamp")), epoch_s(span.get("end_timestamp"))
        told = _numbers([mapping(span.get("custom")).get("duration")])
        if begin is not None and end is not None and told:
            apart.append(abs((end - begin) - told[0] / 1e9))
    return all(seconds < 0.01 for seconds in apart) if apart else None


def _repeat_keys(spans: Sequence[Mapping[str, Json]]) -> int:
    repeating = 0
    for span in spans:
        keys = [tag.partition(":")[0] for tag in list_of(span.get("tags")) if isinstance(tag, str)]
        repeating += len(keys) != len(set(keys))
    return repeating


def _messages(spans: Sequence[Mapping[str, Json]]) -> list[Mapping[str, Json]]:
    return [one for span in spans for side in ("input", "output") for one in shapes.entries_of(span, side, "messages")]
