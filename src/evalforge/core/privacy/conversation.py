"""Inputs and outputs: messages, documents and tools in outline, with their texts closed, scrubbed or open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from evalforge.core.privacy.explanations import keep_error, tells_failure
from evalforge.core.privacy.fields import ROLES, TEXT_FIELDS, TOOL_TYPES
from evalforge.core.privacy.measures import any_number
from evalforge.core.privacy.modes import TextMode
from evalforge.core.privacy.trees import keep_scrubbed, keep_scrubbed_entry
from evalforge.core.privacy.values import machine_id, name, words
from evalforge.core.privacy.walk import MAX_ITEMS, Tally
from evalforge.core.span import Json

_CONVERSATION_KEYS = TEXT_FIELDS | {"messages", "documents"}


def keep_conversation(payload: dict[str, Any], section: str, value: Json, tally: Tally) -> None:
    """Puts an input or output into `payload[section]`: messages and documents in outline, texts as the policy says."""
    policy = tally.policy
    mode = policy.mode_of(section) if policy.names_fields else TextMode.CLOSED
    if mode is TextMode.OPEN:
        tally.allowed(payload, section, value, mode, section)
    elif type(value) is not dict and not isinstance(value, Mapping):
        keep_text(payload, section, value, "text", mode, tally)
    else:
        document: dict[str, Any] = {}
        for key, part in tally.entered(value.items(), document):
            _keep_part(document, section, key, part, mode, tally)
        payload[section] = document


def _keep_part(document: dict[str, Any], section: str, key: Json, part: Json, mode: TextMode, tally: Tally) -> None:
    if not isinstance(key, str) or key not in _CONVERSATION_KEYS:
        _keep_other(document, key, part, mode, tally)
        return
    policy = tally.policy
    if policy.names_fields and mode is TextMode.CLOSED:
        mode = policy.mode_of(f"{section}.{key}")
        if mode is TextMode.CLOSED and key == "prompt":
            mode = policy.mode_of(key)
    if mode is TextMode.OPEN:
        tally.allowed(document, key, part, mode, f"{section}.{key}")
    elif key == "messages" and isinstance(part, list):
        document[key] = _items(part, _message, mode, tally)
    elif key == "documents" and isinstance(part, list):
        document[key] = _items(part, _document, mode, tally)
    else:
        keep_text(document, key, part, "text", mode, tally)


def keep_text(container: Any, key: Any, value: Json, kind: str, mode: TextMode, tally: Tally) -> None:
    """Puts a text, or whatever stands in its place, into `container[key]`: closed, or scrubbed.

    What a tool says of its own failure is an explanation.
    """
    if value is None:
        container[key] = None
    elif mode is TextMode.SCRUBBED:
        keep_scrubbed(container, key, value, tally.texts)
    elif tells_failure(value):
        tally.explained(container, key, value, kind)
    else:
        container[key] = tally.redacted(value, kind)


def _keep_other(document: dict[str, Any], key: Json, value: Json, mode: TextMode, tally: Tally) -> None:
    """A field that is not named here: kept scrubbed where its surroundings are, else counted."""
    if mode is TextMode.SCRUBBED:
        keep_scrubbed_entry(document, key, value, tally.texts)
    else:
        tally.counts["unknown_key"] += 1


_Outline = Callable[[Mapping[str, Json], TextMode, Tally], Any]


def _items(values: list[Json], outline: _Outline, mode: TextMode, tally: Tally) -> list[Any]:
    items: list[Any] = []
    for _, value in tally.entered(enumerate(values[:MAX_ITEMS]), items):
        items.append(None)
        if type(value) is dict or isinstance(value, Mapping):
            items[-1] = outline(value, mode, tally)
        elif mode is TextMode.SCRUBBED:
            keep_scrubbed(items, len(items) - 1, value, tally.texts)
        else:
            items[-1] = tally.redacted(value, "text")
    if len(values) > MAX_ITEMS:
        items.append(tally.redacted(values, "limit"))
    return items


def _message(message: Mapping[str, Json], mode: TextMode, tally: Tally) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in tally.entered(message.items(), document):
        if key == "role":
            document[key] = (
                value if isinstance(value, str) and value.lower() in ROLES else tally.redacted(value, "unknown_value")
            )
        elif key == "content":
            keep_text(document, key, value, "text", mode, tally)
        elif key == "tool_calls" and isinstance(value, list):
            document[key] = _items(value, _tool_call, mode, tally)
        elif key == "tool_results" and isinstance(value, list):
            document[key] = _items(value, _tool_result, mode, tally)
        elif key == "tool_call_id":
            document[key] = machine_id(value) or tally.redacted(value, "unknown_value")
        else:
            _keep_other(document, key, value, mode, tally)
    return document


def _tool_call(call: Mapping[str, Json], mode: TextMode, tally: Tally) -> dict[str, Any]:
    return _tool(call, "arguments", "tool_arguments", mode, tally)


def _tool_result(result: Mapping[str, Json], mode: TextMode, tally: Tally) -> dict[str, Any]:
    return _tool(result, "result", "tool_result", mode, tally)


def _tool(tool: Mapping[str, Json], closed_key: str, kind: str, mode: TextMode, tally: Tally) -> dict[str, Any]:
    document: dict[str, Any] = {}
    failed = closed_key == "result" and (tells_failure(tool) or tool.get("status") == "error" or tool.get("type") == "error")
    for key, value in tally.entered(tool.items(), document):
        if key == closed_key:
            if failed and mode is TextMode.CLOSED:
                tally.explained(document, key, value, kind)
            else:
                keep_text(document, key, value, kind, mode, tally)
        elif key == "name":
            document[key] = "" if value == "" else name(value) or tally.redacted(value, "unknown_value")
        elif key in ("tool_id", "id"):
            document[key] = "" if value == "" else machine_id(value) or tally.redacted(value, "unknown_value")
        elif key == "type":
            is_type = isinstance(value, str) and value in TOOL_TYPES
            document[key] = value if is_type else words(value) or tally.redacted(value, "unknown_value")
        elif key == "error" and closed_key == "result" and value is not None:
            keep_error(document, key, value, tally)
        elif failed and key in ("isError", "is_error"):
            document[key] = True
        else:
            _keep_other(document, key, value, mode, tally)
    return document


def _document(document: Mapping[str, Json], mode: TextMode, tally: Tally) -> dict[str, Any]:
    outline: dict[str, Any] = {}
    for key, value in tally.entered(document.items(), outline):
        if key == "score" and (found := any_number(value)) is not None:
            outline[key] = found
        elif key in ("text", "name", "id") and value is not None:
            if mode is TextMode.SCRUBBED and key == "id" and (found := machine_id(value)) is not None:
                outline[key] = found
            else:
                keep_text(outline, key, value, "document", mode, tally)
        else:
            _keep_other(outline, key, value, mode, tally)
    return outline


def tool_definitions(value: Json, tally: Tally) -> Any:
    """The tools that a model was offered: their names, one entry each; descriptions and schemas are left out."""
    if not isinstance(value, list):
        return tally.redacted(value, "text")
    return _items(value, _tool_definition, TextMode.CLOSED, tally)


def _tool_definition(tool: Mapping[str, Json], mode: TextMode, tally: Tally) -> dict[str, Any]:
    inner = tool.get("function")
    named = inner if isinstance(inner, Mapping) and "name" not in tool else tool
    found = named.get("name")
    tally.counts["text"] += sum(key in named for key in ("description", "schema", "parameters"))
    return {} if found is None else {"name": name(found) or tally.redacted(found, "unknown_value")}
