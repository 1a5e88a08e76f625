"""Inspect AI: samples, a JSON object a line.

Source: https://inspect.aisi.org.uk/datasets.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated, lines


def sample(example: Example) -> dict[str, Any]:
    """The sample of an example; its target is the reviewer's answer, empty without one."""
    return {
        "id": example.id,
        "input": [_message(one) for one in example.messages] or example.input,
        "target": example.expected_output or "",
        "metadata": {
            **example.metadata,
            "input_text": example.input,
            "failed_output": example.actual_output or "",
            "generated_assertions": generated(example),
            **({"split": example.split} if example.split else {}),
        },
    }


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    role = "system" if message["role"] == "developer" else message["role"]
    made: dict[str, Any] = {"role": role, "content": message["content"]}
    if "tool_calls" in message:
        made["tool_calls"] = [_call(number, call) for number, call in enumerate(message["tool_calls"], 1)]
    if role == "tool":
        made |= {"tool_call_id": message.get("tool_call_id", "call"), "function": message.get("name", "tool")}
    return made


def _call(number: int, call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        arguments = {"arguments": function["arguments"]}
    return {"id": call.get("id", f"call_{number}"), "type": "function", "function": function["name"], "arguments": arguments}


FORMAT = Format(
    name="inspect",
    tool="Inspect AI 0.3",
    checked="loaded by Inspect itself: `json_dataset`",
    files=(FormatFile("samples.jsonl", lines(sample)),),
)
