"""The present rules over what was stored before: an older sanitizer, or other settings, may have kept more.

The span that a capture was made of is gone, but its payload is a span still: what the sanitizer makes of it is what may
stay. Placeholders stay as they are, so nothing that was removed comes back and whatever may stay is unchanged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import zip_longest
from typing import Any

from evalforge.core.capture import FailureCapture, Occurrence, merge
from evalforge.core.error_details import ErrorDetail
from evalforge.core.privacy import marks, values
from evalforge.core.privacy.identity import KeyRing, safe_parent_id, safe_span_id
from evalforge.core.privacy.keys import is_column, is_storable_key
from evalforge.core.privacy.neighbours import TraceContext
from evalforge.core.privacy.net import OPEN_TEXT, Leak, leaks_in, shown_path
from evalforge.core.privacy.payload import observed_value
from evalforge.core.privacy.sanitize import SANITIZER_VERSION, Sanitizer
from evalforge.core.privacy.structure import structure_of
from evalforge.core.privacy.text.findings import MARK, TextKind
from evalforge.core.signals import SPELLINGS, Signal
from evalforge.core.span import Evaluation, Json, Span

RULE = "rule"
"""The kind of what the present rules would not keep, where no detector names it."""

_MAPPINGS = ("metadata", "metrics", "attributes")
_TEXTS = ("input", "output", "error", "tool_definitions")
_HEAD = {
    "application": "ml_app",
    "service": "service",
    "env": "env",
    "model_name": "model_name",
    "model_provider": "model_provider",
    "received_start": "start_ns",
    "received_duration": "duration",
}
_SECTIONS = frozenset({"tags", "evaluation", "name", "span_kind", "status", OPEN_TEXT, *_MAPPINGS, *_TEXTS, *_HEAD.values()})
_IDS = frozenset({"trace_id", "span_id", "parent_id"})
_TYPE = re.compile(r"str|int|float|bool|null|other|(?:list|object)\[[0-9]{1,12}\]")
_STRUCTURE_KEYS = frozenset({"[unknown keys]", "[item]", "cut"})
_EVALUATOR_MARK = re.compile(r"\[evaluator(?: [0-9]{1,6})?\]")


def span_of(payload: Mapping[str, Any]) -> tuple[Span, dict[str, Any]]:
    """A stored payload as the span that it is, and the sections that are marks already and have to stay as they are."""
    marks = {name: text for name, text in payload.items() if name in _SECTIONS and isinstance(text, str) and _is_mark(text)}
    rest = {name: value for name, value in payload.items() if name not in marks}
    sections: dict[str, Any] = {name: rest[name] for name in _MAPPINGS if isinstance(rest.get(name), Mapping)}
    sections |= {name: rest.get(name) for name in _TEXTS}
    sections |= {name: rest.get(stored) for name, stored in _HEAD.items()}
    span = Span(
        source="llm_obs",
        trace_id=str(payload.get("trace_id", "")),
        trace_id_kind="llm_obs",
        span_id=str(payload.get("span_id", "")),
        parent_id=_text(rest.get("parent_id")),
        name=str(rest.get("name", "")),
        kind=str(rest.get("span_kind", "")),
        status=str(rest.get("status", "")),
        start_ns=0,
        duration_ns=0,
        tags=tuple(_tags(rest.get("tags"))),
        evaluations=tuple(_evaluations(rest.get("evaluation"))),
        extra={name: value for name, value in rest.items() if name not in _SECTIONS and name not in _IDS},
        **sections,
    )
    return span, marks


def _tags(found: Json) -> Iterator[tuple[str, str]]:
    if isinstance(found, Mapping):
        for key, value in found.items():
            for one in value if isinstance(value, (list, tuple)) else (value,):
                yield str(key), str(one)


def _evaluations(found: Json) -> Iterator[Evaluation]:
    if isinstance(found, Mapping):
        for name, body in found.items():
            if isinstance(body, Mapping):
                yield Evaluation(
                    name=str(name),
                    value=body.get("value"),
                    value_kind=_text(body.get("eval_metric_type")),
                    assessment=_text(body.get("assessment")),
                    status=_text(body.get("status")),
                    body=body,
                )


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) else None


def _is_mark(text: str) -> bool:
    return marks.is_mark(text) or (text.startswith("[cut: ") and text.endswith("]") and len(text) < 60)


# -- captures -------------------------------------------------------------------------------------------------------------


def judged_again(
    capture: FailureCapture, stored: Mapping[str, Any], sanitizer: Sanitizer
) -> tuple[FailureCapture, list[Leak]]:
    """What should stand in the place of a stored capture, and every leak in its document `stored`.

    The present rules, with the texts that the sanitizer's policy keeps today, and then the second net. The capture is equal
    to the stored one, but for the sanitizer's version, when there is no leak. Ids, times, severities, counts and user
    hashes stay.

    Raises:
        Exception: whatever a document raises that is none of ours.
    """
    again = _sanitized_again(capture, sanitizer)
    leaks = leaks_in(stored, open_paths=sanitizer.policy.opened)
    known = {leak.path for leak in leaks}
    rules = differences(stored, again.to_document())
    leaks += [leak for leak in rules if leak.path not in known]
    if not leaks:
        return again, []
    counts = Counter(again.redactions)
    counts.update(leak.kind for leak in leaks)
    # What it was made of does not tell any more what it holds.
    again = replace(again, redactions=dict(sorted(counts.items())), origins=frozenset())
    return _outranking(again, capture, len(leaks)), leaks


def _outranking(again: FailureCapture, stored: FailureCapture, removed: int) -> FailureCapture:
    """The capture whose payload stays when the same span is read again by rules as new as those that made it.

    One that older rules made gives way instead: what is read anew by the present ones keeps more of what may be kept.
    """
    if stored.greatest.sanitizer_version < SANITIZER_VERSION:
        return again
    greatest = replace(again.greatest, removed_count=again.greatest.removed_count + removed)
    return replace(again, occurrences=(greatest, *again.occurrences[1:]))


def _sanitized_again(capture: FailureCapture, sanitizer: Sanitizer) -> FailureCapture:
    span, marks = span_of(capture.payload)
    span = replace(span, trace_id=capture.trace_id, span_id=capture.greatest.span_id)
    trace = TraceContext(has_user=capture.user_hash is not None)
    made = sanitizer.sanitize(span, (), trace).payload
    again = replace(
        capture,
        payload={
            **{name: value for name, value in made.items() if name not in _IDS},
            **{name: capture.payload[name] for name in _IDS if name in capture.payload},
            **marks,
        },
        signals=tuple(_signal(signal, sanitizer.ring) for signal in capture.signals),
        occurrences=tuple(_occurrence(occurrence, sanitizer.ring) for occurrence in capture.occurrences),
        error_details=tuple(_error_detail(detail, span, trace, sanitizer) for detail in capture.error_details),
        redactions={key: count for key, count in capture.redactions.items() if is_column(key) and is_storable_key(key)},
    )
    return merge(again, again)


def _occurrence(occurrence: Occurrence, ring: KeyRing) -> Occurrence:
    return replace(
        occurrence,
        span_id=safe_span_id(occurrence.span_id, ring),
        parent_id=occurrence.parent_id
        if occurrence.parent_id == "undefined"
        else safe_parent_id(occurrence.parent_id, ring),
        name=_kept(occurrence.name, values.name) or "",
        span_kind=_kept(occurrence.span_kind, values.words) or "",
        service_name=_named(occurrence.service_name, values.name),
        ml_app=_named(occurrence.ml_app, values.name),
        env=_named(occurrence.env, values.name),
        model_name=_named(occurrence.model_name, values.model),
        model_provider=_named(occurrence.model_provider, values.model),
        error_type=_named(occurrence.error_type, values.error_type),
        sanitizer_version=max(occurrence.sanitizer_version, SANITIZER_VERSION),
        removed_count=occurrence.removed_count if occurrence.sanitizer_version >= SANITIZER_VERSION else 0,
    )


def _error_detail(detail: ErrorDetail, span: Span, trace: TraceContext, sanitizer: Sanitizer) -> ErrorDetail:
    message = detail.message
    if message is not None and not _is_mark(message):
        told = Span(span.source, span.trace_id, span.trace_id_kind, span.span_id, None, "", "", "", 0, 0)
        found = sanitizer.sanitize(replace(told, error={"message": message}), (), trace).payload.get("error")
        message = found["message"] if isinstance(found, Mapping) else found
    return replace(
        detail,
        span_id=safe_span_id(detail.span_id, sanitizer.ring),
        error_type=_named(detail.error_type, values.error_type),
        message=message,
        sanitizer_version=max(detail.sanitizer_version, SANITIZER_VERSION),
        removed_count=detail.removed_count if detail.sanitizer_version >= SANITIZER_VERSION else 0,
    )


def _signal(signal: Signal, ring: KeyRing) -> Signal:
    head, _, name = signal.place.partition(".")
    is_known = signal.place == "status" or name in SPELLINGS or (head == "evaluation" and _is_evaluator(name))
    return replace(
        signal,
        span_id=safe_span_id(signal.span_id, ring),
        place=signal.place if is_known else _kept(signal.place, values.name) or "",
        observed=observed_value(signal.observed, signal.place),
        threshold=observed_value(signal.threshold),
    )


def _is_evaluator(name: str) -> bool:
    return _EVALUATOR_MARK.fullmatch(name) is not None or values.evaluator_name(name) is not None


def _kept(text: str, rule: marks.TextRule) -> str:
    return text if text == "" or _is_mark(text) else rule(text) or marks.placeholder(text)


def _named(text: str | None, rule: marks.TextRule) -> str | None:
    return text if text is None or _is_mark(text) else rule(text)


_TEXTUAL = (
    *("trace_payload", "signals", "occurrences", "redactions", "service_name", "ml_app", "env", "model_name"),
    *("model_provider", "error_type", "error_details"),
)
_DERIVED = frozenset({"sanitizer_version", "removed_count", "digest"})
_NOTHINGS: tuple[Json, ...] = ({}, [], "")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Leak]:
    """Where a stored document holds a text, a number or a key that the one of the present rules does not."""
    found: list[Leak] = []
    for name in _TEXTUAL:
        if name in before:
            _differ(before[name], after.get(name), (name,), found)
    return found


def _differ(before: Any, after: Any, path: tuple[str, ...], found: list[Leak]) -> None:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key, value in before.items():
            if key in _DERIVED:
                continue
            if key in after:
                _differ(value, after[key], (*path, str(key)), found)
            elif value is not None and value not in _NOTHINGS:
                found.append(Leak(shown_path((*path, str(key))), RULE))
    elif isinstance(before, (list, tuple)) and isinstance(after, (list, tuple)):
        for one, other in zip_longest(before, after):
            _differ(one, other, path, found)
    elif before is not None and before != after and not (isinstance(before, str) and _is_mark(before)):
        found.append(Leak(shown_path(path), _kind_of(before, after)))


def _kind_of(before: Any, after: Any) -> str:
    """The kind of the first placeholder that the present rules put into a text, where they keep the text."""
    if isinstance(before, str) and isinstance(after, str):
        old = {mark[0] for mark in MARK.finditer(before)}
        new = [mark["kind"] for mark in MARK.finditer(after) if mark[0] not in old]
        if new:
            return TextKind[new[0]].value
    return RULE


# -- dead letters ---------------------------------------------------------------------------------------------------------


def structure_leaks(letter: Mapping[str, Any]) -> list[Leak]:
    """Where the structure of a dead letter holds more than known keys and the types of their values."""
    found: list[Leak] = []
    _check_structure(letter.get("structure"), ("structure",), found)
    return found


def _check_structure(node: Any, path: tuple[str, ...], found: list[Leak]) -> None:
    if isinstance(node, Mapping):
        for key, value in node.items():
            is_known = key in _STRUCTURE_KEYS or structure_of({key: None}) == {key: "null"}
            if not is_known:
                found.append(Leak(shown_path((*path, "[key]")), RULE))
            elif not (key == "[unknown keys]" and isinstance(value, int)):
                _check_structure(value, (*path, str(key)), found)
    elif not isinstance(node, str) or not (_TYPE.fullmatch(node) or _is_mark(node)):
        found.append(Leak(shown_path(path), RULE))
