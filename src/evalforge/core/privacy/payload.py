"""The stored payload of one failing span: a new document, built field by field from what the tables let pass.

Every text that people or models wrote is closed here: a placeholder keeps its kind and length. Nothing is copied from the
span but values that a rule accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evalforge.core.canonical import canonical_json
from evalforge.core.privacy.fields import DROPPED_TAG_PREFIXES, FIELDS, ROLES, TEXT_FIELDS, TOOL_TYPES
from evalforge.core.privacy.keys import MAX_KEY_LENGTH, KeyClass, is_column, is_storable_key, verdict_on
from evalforge.core.privacy.values import (
    any_number,
    epoch,
    error_type,
    evaluator_name,
    kept,
    label,
    machine_id,
    name,
    placeholder,
    score,
    small_number,
    time,
    version,
    words,
)
from evalforge.core.privacy.walk import MAX_ITEMS, MAX_KEYS, Place, Tally, kept_mapping
from evalforge.core.span import Evaluation, Json, Span

MAX_PAYLOAD_BYTES = 256 * 1024
ERROR_MARK = "[redacted:error]"

_SECTIONS_BY_WORTH = (
    "attributes",
    "metadata",
    "output",
    "input",
    "tool_definitions",
    "tags",
    "metrics",
    "evaluation",
    "error",
)


def build_payload(span: Span, head: Mapping[str, Any], evaluator_names: Mapping[str, str], tally: Tally) -> dict[str, Any]:
    """The payload: `head` (ids, names, times: already safe) and the span's sections, each only where the span has it.

    A section that fails becomes `ERROR_MARK`; of a payload beyond `MAX_PAYLOAD_BYTES` the least useful sections are replaced
    by their placeholder until it fits.
    """
    payload = {key: value for key, value in head.items() if value is not None}
    sections: tuple[tuple[str, Json, Callable[[], Any]], ...] = (
        ("metrics", span.metrics, lambda: kept_mapping(span.metrics, Place(numeric=True), tally)),
        ("evaluation", span.evaluations, lambda: evaluations(span.evaluations, evaluator_names, tally)),
        ("error", span.error, lambda: error(span.error, tally)),
        ("input", span.input, lambda: conversation(span.input, tally)),
        ("output", span.output, lambda: conversation(span.output, tally)),
        ("tool_definitions", span.tool_definitions, lambda: tool_definitions(span.tool_definitions, tally)),
        ("tags", span.tags, lambda: tags(span.tags, tally)),
        ("metadata", span.metadata, lambda: kept_mapping(span.metadata, Place(), tally)),
        ("attributes", span.attributes, lambda: kept_mapping(span.attributes, Place(), tally)),
    )
    for section, value, build in sections:
        if value is None or value in ({}, (), [], ""):
            continue
        try:
            payload[section] = build()
        except Exception:  # noqa: BLE001 - whatever goes wrong in one section may cost that section only, and must not leak it
            payload[section] = ERROR_MARK
            tally.counts["error"] += 1
    tally.counts["unknown_key"] += len(span.extra)
    return _cut(payload, tally)


def _cut(payload: dict[str, Any], tally: Tally) -> dict[str, Any]:
    for section in _SECTIONS_BY_WORTH:
        if len(canonical_json(payload)) <= MAX_PAYLOAD_BYTES:
            break
        if section in payload:
            payload[section] = tally.redacted(payload[section], "limit")
    return payload


# -- evaluations and errors -----------------------------------------------------------------------------------------------


def evaluations(found: Sequence[Evaluation], names: Mapping[str, str], tally: Tally) -> dict[str, Any] | str:
    """Each evaluator's verdict by its name: value, assessment, type and status; the reasoning is closed."""
    if len(found) > MAX_KEYS:
        return tally.redacted(found, "limit")
    document: dict[str, Any] = {}
    for evaluation in found:
        try:
            document[names[evaluation.name]] = _evaluation(evaluation, tally)
        except Exception:  # noqa: BLE001 - as above, for one evaluation
            tally.counts["error"] += 1
    return document


def _evaluation(evaluation: Evaluation, tally: Tally) -> dict[str, Any]:
    entry: dict[str, Any] = {"value": evaluation_value(evaluation.value, tally)}
    for key, value in (
        ("eval_metric_type", evaluation.value_kind),
        ("assessment", evaluation.assessment),
        ("status", evaluation.status),
    ):
        if value is not None:
            entry[key] = words(value) or tally.redacted(value, "unknown_value")
    for key, value in evaluation.body.items():
        if key == "reasoning" and value is not None:
            entry[key] = tally.redacted(value, "text")
        elif key == "error" and value is not None:
            entry[key] = error(value, tally)
        elif key not in ("value", "eval_metric_type", "assessment", "status", "reasoning", "error"):
            tally.counts["unknown_key"] += 1
    return entry


def evaluation_value(value: Json, tally: Tally) -> Any:
    """An evaluation's value: booleans, numbers below a million, labels; objects with such leaves; else a placeholder."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Mapping):
        return kept_mapping(value, Place(verdicts=True), tally)
    if isinstance(value, (list, tuple)):
        return kept_mapping({"items": value}, Place(verdicts=True), tally)["items"]  # type: ignore[index]  # within every limit
    found: Json = score(value)
    if found is None:
        found = label(value)
    return found if found is not None else tally.redacted(value, "unknown_value")


def error(value: Json, tally: Tally) -> Any:
    """An error: its type stays, message and stack are closed, anything else is a placeholder or counted."""
    if isinstance(value, (bool, int)) and small_number(int(value)) is not None:
        return value
    if not isinstance(value, Mapping):
        return tally.redacted(value, "text")
    document: dict[str, Any] = {}
    for key, part in value.items():
        if key in ("type", "kind", "class") and part is not None:
            document[key] = error_type(part) or tally.redacted(part, "text")
        elif key in ("message", "msg", "stack", "details") and part is not None:
            document[key] = tally.redacted(part, "text")
        elif key in ("code", "status", "status_code") and (found := small_number(part)) is not None:
            document[key] = found
        else:
            tally.counts["unknown_key"] += 1
    return document


# -- input, output, tools -------------------------------------------------------------------------------------------------


def conversation(value: Json, tally: Tally) -> Any:
    """An input or output: its messages and documents in outline, every text closed."""
    if not isinstance(value, Mapping):
        return tally.redacted(value, "text")
    document: dict[str, Any] = {}
    for key, part in value.items():
        if key == "messages" and isinstance(part, list):
            document[key] = _items(part, _message, tally)
        elif key == "documents" and isinstance(part, list):
            document[key] = _items(part, _document, tally)
        elif isinstance(key, str) and key in TEXT_FIELDS | {"messages", "documents"}:
            document[key] = None if part is None else tally.redacted(part, "text")
        else:
            tally.counts["unknown_key"] += 1
    return document


def _items(values: list[Json], outline: Callable[[Mapping[str, Json], Tally], Any], tally: Tally) -> list[Any]:
    items = [outline(one, tally) if isinstance(one, Mapping) else tally.redacted(one, "text") for one in values[:MAX_ITEMS]]
    if len(values) > MAX_ITEMS:
        items.append(tally.redacted(values, "limit"))
    return items


def _message(message: Mapping[str, Json], tally: Tally) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in message.items():
        if key == "role":
            document[key] = (
                value if isinstance(value, str) and value.lower() in ROLES else tally.redacted(value, "unknown_value")
            )
        elif key == "content":
            document[key] = None if value is None else tally.redacted(value, "text")
        elif key == "tool_calls" and isinstance(value, list):
            document[key] = _items(value, _tool_call, tally)
        elif key == "tool_results" and isinstance(value, list):
            document[key] = _items(value, _tool_result, tally)
        elif key == "tool_call_id":
            document[key] = machine_id(value) or tally.redacted(value, "unknown_value")
        else:
            tally.counts["unknown_key"] += 1
    return document


def _tool_call(call: Mapping[str, Json], tally: Tally) -> dict[str, Any]:
    return _tool(call, "arguments", "tool_arguments", tally)


def _tool_result(result: Mapping[str, Json], tally: Tally) -> dict[str, Any]:
    return _tool(result, "result", "tool_result", tally)


def _tool(tool: Mapping[str, Json], closed_key: str, kind: str, tally: Tally) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in tool.items():
        if key == closed_key:
            document[key] = None if value is None else tally.redacted(value, kind)
        elif key == "name":
            document[key] = "" if value == "" else name(value) or tally.redacted(value, "unknown_value")
        elif key in ("tool_id", "id"):
            document[key] = "" if value == "" else machine_id(value) or tally.redacted(value, "unknown_value")
        elif key == "type":
            is_type = isinstance(value, str) and value in TOOL_TYPES
            document[key] = value if is_type else words(value) or tally.redacted(value, "unknown_value")
        else:
            tally.counts["unknown_key"] += 1
    return document


def _document(document: Mapping[str, Json], tally: Tally) -> dict[str, Any]:
    outline: dict[str, Any] = {}
    for key, value in document.items():
        if key == "score" and (found := any_number(value)) is not None:
            outline[key] = found
        elif key in ("text", "name", "id") and value is not None:
            outline[key] = tally.redacted(value, "document")
        else:
            tally.counts["unknown_key"] += 1
    return outline


def tool_definitions(value: Json, tally: Tally) -> Any:
    """The tools that a model was offered: their names, one entry each; descriptions and schemas are left out."""
    if not isinstance(value, list):
        return tally.redacted(value, "text")
    return _items(value, _tool_definition, tally)


def _tool_definition(tool: Mapping[str, Json], tally: Tally) -> dict[str, Any]:
    inner = tool.get("function")
    named = inner if isinstance(inner, Mapping) and "name" not in tool else tool
    found = named.get("name")
    tally.counts["text"] += sum(key in named for key in ("description", "schema", "parameters"))
    return {} if found is None else {"name": name(found) or tally.redacted(found, "unknown_value")}


# -- tags -----------------------------------------------------------------------------------------------------------------


def tags(pairs: Sequence[tuple[str, str]], tally: Tally) -> dict[str, str | list[str]]:
    """Tags as a map; a key that came with several values has them as a sorted list of distinct ones.

    Known keys keep what their rules accept. Others stay only under a harmless key and with an enum-like word, a small
    number, a boolean, a time or a version. Tags about users, sessions, clients and personal data are dropped whatever they
    say.
    """
    found: dict[str, set[str]] = {}
    for key, value in pairs[:MAX_KEYS]:
        try:
            stored = _tag(key.strip(), value, tally)
        except Exception:  # noqa: BLE001 - as above, for one tag
            tally.counts["error"] += 1
            continue
        if stored is not None:
            found.setdefault(stored[0], set()).add(stored[1])
    if len(pairs) > MAX_KEYS:
        tally.counts["limit"] += 1
    return {key: values.pop() if len(values) == 1 else sorted(values) for key, values in found.items()}


def _tag(key: str, value: str, tally: Tally) -> tuple[str, str] | None:
    if len(key) > MAX_KEY_LENGTH:
        tally.counts["tag"] += 1
        return None
    verdict = verdict_on(key)
    kinds = FIELDS.get(verdict.normal)
    if kinds is not None:
        known_key = key if is_column(key) else verdict.normal
        if value == "":
            return known_key, ""
        found = kept(value, kinds)
        if found is not None:
            return known_key, str(found)
    kind = verdict.key_class.value
    if verdict.normal.partition("_")[0] in DROPPED_TAG_PREFIXES:
        kind = kind if verdict.key_class is not KeyClass.HARMLESS else KeyClass.USER_ATTRIBUTE.value
        tally.counts[kind] += 1
        return None
    is_open = verdict.key_class is KeyClass.HARMLESS or verdict.is_measure or verdict.is_kind
    if is_open and value != "" and (kinds is not None or is_storable_key(key)):
        found = small_number(value) or words(value) or version(value) or time(value)
        if found is not None:
            return (key if is_column(key) else verdict.normal), str(found)
    tally.counts[kind if verdict.key_class is not KeyClass.HARMLESS else "tag"] += 1
    return None


# -- head -----------------------------------------------------------------------------------------------------------------


def received_time(value: Json) -> Json:
    """A start or duration as it was received: a number, an epoch time in digits, or an ISO time; else None."""
    found: Json = epoch(value)
    return found if found is not None else time(value)


def safe_evaluator_names(found: Sequence[Evaluation], tally: Tally) -> dict[str, str]:
    """Each evaluator's raw name with the one that may be stored: itself, or `[evaluator 1]` and so on."""
    safe: dict[str, str] = {}
    removed = 0
    for evaluation in found:
        if evaluation.name in safe:
            continue
        stored = evaluator_name(evaluation.name)
        if stored is None:
            removed += 1
            tally.counts["key"] += 1
            stored = f"[evaluator {removed}]"
        safe[evaluation.name] = stored
    return safe


def observed_value(value: Json) -> Json:
    """What a signal saw, as a scalar: a boolean, a number, a label; else a placeholder."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (Mapping, list, tuple)):
        return placeholder(value)
    found: Json = score(value)
    if found is None:
        found = label(value)
    return found if found is not None else placeholder(value)
