"""Langfuse: dataset items, a JSON object a line, each the body of `POST /api/public/dataset-items`.

Source: https://api.reference.langfuse.com (datasetItems_create)
"""

from __future__ import annotations

from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated, lines, without_nothing

DATASET = "evalforge-failures"


def item(example: Example) -> dict[str, Any]:
    """The item of an example. Datadog's trace is none of Langfuse's: it stands in the metadata."""
    given: dict[str, Any] = {"input": example.input}
    if example.messages:
        given["messages"] = list(example.messages)
    return without_nothing(
        {
            "datasetName": DATASET,
            "id": example.id,
            "input": given,
            "expectedOutput": example.expected_output,
            "metadata": {
                **example.metadata,
                "failed_output": example.actual_output or "",
                "generated_assertions": generated(example),
                **({"split": example.split} if example.split else {}),
            },
            "status": "ACTIVE",
        }
    )


FORMAT = Format(
    name="langfuse",
    tool="Langfuse 5",
    checked="against the client's own model, `CreateDatasetItemRequest`; never against a server",
    files=(FormatFile("items.jsonl", lines(item)),),
)
