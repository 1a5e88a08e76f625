"""LangSmith: examples of a dataset, a JSON object a line.

Source: https://docs.langchain.com/langsmith/manage-datasets-programmatically
"""

from __future__ import annotations

import uuid
from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated, lines, without_nothing

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://github.com/evalforge/langsmith-examples")


def example_of_langsmith(example: Example) -> dict[str, Any]:
    """The example as LangSmith has it: its id is a UUID that is always the same for the same trace."""
    inputs: dict[str, Any] = {"input": example.input}
    if example.messages:
        inputs["messages"] = list(example.messages)
    return without_nothing(
        {
            "id": str(uuid.uuid5(_NAMESPACE, example.id)),
            "inputs": inputs,
            "outputs": None if example.expected_output is None else {"output": example.expected_output},
            "metadata": {
                **example.metadata,
                "evalforge_id": example.id,
                "failed_output": example.actual_output or "",
                "generated_assertions": generated(example),
            },
            "split": example.split,
        }
    )


FORMAT = Format(
    name="langsmith",
    tool="LangSmith 0.15",
    checked="against the client's own model, `ExampleCreate`; never against a server",
    files=(FormatFile("examples_langsmith.jsonl", lines(example_of_langsmith)),),
)
