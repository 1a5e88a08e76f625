"""DeepEval: goldens, as a JSON array and as lines.

Source: https://deepeval.com/docs/evaluation-datasets
"""

from __future__ import annotations

from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, array, generated, lines, without_nothing


def golden(example: Example) -> dict[str, Any]:
    """The golden of an example: the answer that failed is its actual output."""
    return without_nothing(
        {
            "input": example.input,
            "actual_output": example.actual_output,
            "expected_output": example.expected_output,
            "name": example.id,
            "comments": f"generated: {example.rubric}" if example.rubric else None,
            "source_file": "evalforge",
            "additional_metadata": {
                **example.metadata,
                "messages": list(example.messages),
                "generated_assertions": generated(example),
                **({"split": example.split} if example.split else {}),
            },
        }
    )


FORMAT = Format(
    name="deepeval",
    tool="DeepEval 4.3",
    checked="loaded by DeepEval itself: `add_goldens_from_json_file` and `add_goldens_from_jsonl_file`",
    files=(FormatFile("goldens.json", array(golden)), FormatFile("goldens.jsonl", lines(golden))),
)
