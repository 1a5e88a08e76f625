"""OpenAI Evals: items of a data source, a JSON object a line.

Source: https://developers.openai.com/api/docs/guides/evals (file_content: `item`, and `sample` for answers that are there)
"""

from __future__ import annotations

from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated, lines


def line(example: Example) -> dict[str, Any]:
    """The line of an example: the answer that failed is its sample."""
    item = {
        "id": example.id,
        "input": example.input,
        "messages": list(example.messages),
        "expected_output": example.expected_output or "",
        "rubric": example.rubric,
        "metadata": {
            **example.metadata,
            "generated_assertions": generated(example),
            **({"split": example.split} if example.split else {}),
        },
    }
    return {"item": item, **({"sample": {"output_text": example.actual_output}} if example.actual_output else {})}


FORMAT = Format(
    name="openai-evals",
    tool="OpenAI Evals API",
    checked="from its documentation only",
    files=(FormatFile("items.jsonl", lines(line)),),
)
