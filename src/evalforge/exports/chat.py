"""A payload's input or output as chat messages, and the one text that was asked or answered.

Pure. What privacy settings removed whole stays visible as its mark, so that nothing that was said before it, or instead of
it, is taken for the question.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evalforge.core.privacy.marks import is_mark
from evalforge.core.privacy.text.findings import MARK, is_text_mark
from evalforge.exports.jsonl import json_bytes

_ROLES: Mapping[str, str] = {
    "system": "system", "developer": "developer", "user": "user", "human": "user", "assistant": "assistant",
    "ai": "assistant", "model": "assistant", "agent": "assistant", "tool": "tool", "function": "tool",
}  # fmt: skip
"""What applications call roles, and what chat APIs call them."""

_LOOKED_AT = 10_000
"""How many values of a section are looked at for marks: no input makes us wander for long."""


def chat_messages(section: Any) -> tuple[dict[str, Any], ...]:
    """The messages of an input or output as chat APIs have them; none where nothing of their texts is left.

    Each has `role` and `content` (a text, empty where there was none, a mark where it was removed), and where they have them
    `tool_calls` (arguments as JSON text), `tool_call_id`, `name`.
    """
    messages = section.get("messages") if isinstance(section, Mapping) else None
    found = [chat for one in _listed(messages) if isinstance(one, Mapping) for chat in _of_message(one)]
    return tuple(found) if any(tells(one["content"]) for one in found) else ()


def asked_in(section: Any) -> str:
    """What was asked, as one text; empty where it is not there or was removed.

    The value if there is one, else the last message of a user, else the last message that is no answer (instructions alone
    may be the input), else what a tool was called with, as JSON.
    """
    if tells(value := _value_of(section)):
        return value
    messages = chat_messages(section)
    for roles in (("user",), ("system", "developer", "tool")):
        said = next((one["content"] for one in reversed(messages) if one["role"] in roles and one["content"]), "")
        if said:
            return said if tells(said) else ""
    return _arguments_in(section)


def answer_in(section: Any) -> str:
    """What was answered, as one text: the value, else the assistant's last message, else the last of any; else empty."""
    if tells(value := _value_of(section)):
        return value
    said = [one for one in chat_messages(section) if one["content"]]
    last = next((one for one in reversed(said) if one["role"] == "assistant"), said[-1] if said else None)
    return last["content"] if last is not None and tells(last["content"]) else ""


def is_closed(section: Any) -> bool:
    """Whether something in it was removed whole: a mark stands there alone."""
    todo, looked_at = [section], 0
    while todo and looked_at < _LOOKED_AT:
        one = todo.pop()
        looked_at += 1
        if isinstance(one, str):
            if one.strip() and not tells(one):
                return True
        elif isinstance(one, Mapping):
            todo.extend(one.values())
        elif isinstance(one, list):
            todo.extend(one)
    return False


def tells(text: Any) -> bool:
    """Whether it is a text in which something is left beside marks and spaces."""
    if not isinstance(text, str):
        return False
    bare = text.strip()
    return bool(bare) and not is_mark(bare) and not (MARK.match(bare) and is_text_mark(bare))


def _value_of(section: Any) -> str:
    return _as_text(section.get("value") if isinstance(section, Mapping) else section)


def _as_text(value: Any) -> str:
    """A text as it is; parts of one joined; anything else as JSON, or its mark where nothing of it is left."""
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, str):
        return value if value.strip() else ""
    if isinstance(value, list):
        parts = [one.get("text") for one in value if isinstance(one, Mapping)]
        texts = [one for one in parts if isinstance(one, str)]
        if len(texts) == len(value):
            return "\n".join(texts)
    return json_bytes(value).decode()


def _of_message(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One message; the results of tools in it are messages of their own."""
    told = message.get("role")
    role = _ROLES.get(told.lower(), "user") if isinstance(told, str) else "user"
    content = _as_text(message.get("content"))
    results = [one for one in _listed(message.get("tool_results")) if isinstance(one, Mapping)]
    calls = [one for one in _listed(message.get("tool_calls")) if isinstance(one, Mapping)]
    if role != "tool" and (content or calls or not results):
        chat: dict[str, Any] = {"role": role, "content": content}
        if calls:
            chat["tool_calls"] = [_call(number, call) for number, call in enumerate(calls, 1)]
        yield chat
    if role == "tool" and not results:
        results = [{"result": content, "tool_id": message.get("tool_call_id"), "name": message.get("name")}]
    for result in results:
        said = {"role": "tool", "content": _as_text(result.get("result")) or (content if role == "tool" else "")}
        yield said | _named(tool_call_id=result.get("tool_id"), name=result.get("name"))


def _call(number: int, call: Mapping[str, Any]) -> dict[str, Any]:
    named = _named(id=call.get("tool_id"), name=call.get("name"))
    return {
        "id": named.get("id", f"call_{number}"),
        "type": "function",
        "function": {"name": named.get("name", "tool"), "arguments": _arguments_text(call.get("arguments"))},
    }


def _arguments_text(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json_bytes({} if arguments is None else arguments).decode()


def _arguments_in(section: Any) -> str:
    """What a tool was called with, or what was searched for, where the input has neither value nor messages."""
    if not isinstance(section, Mapping):
        return ""
    rest = {
        name: one for name, one in section.items() if name not in ("messages", "value") and one not in (None, "", [], {})
    }
    return json_bytes(rest).decode() if rest and not is_closed(rest) else ""


def _named(**values: Any) -> dict[str, str]:
    return {name: value for name, value in values.items() if isinstance(value, str) and value}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
