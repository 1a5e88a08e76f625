"""MLflow: records of an evaluation dataset, a JSON object a line.

Source: https://mlflow.org/docs/latest/genai/datasets
"""

from __future__ import annotations

from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated, lines
from evalforge.exports.jsonl import json_bytes


def record(example: Example) -> dict[str, Any]:
    """The record of an example: a reviewer's answer and the generated rubric are its expectations."""
    inputs: dict[str, Any] = {"input": example.input}
    if example.messages:
        inputs["messages"] = list(example.messages)
    expectations: dict[str, Any] = {"guidelines": [f"generated: {example.rubric}"]} if example.rubric else {}
    if example.expected_output is not None:
        expectations["expected_response"] = example.expected_output
    tags = {name: str(value) for name, value in example.metadata.items()}
    tags |= {"evalforge_id": example.id, "failed_output": example.actual_output or ""}
    if generated(example):
        tags["generated_assertions"] = json_bytes(generated(example)).decode()
    if example.split:
        tags["split"] = example.split
    return {"inputs": inputs, "expectations": expectations, "tags": tags}


FORMAT = Format(
    name="mlflow",
    tool="MLflow 3.17",
    checked="taken by MLflow itself: `merge_records`, on SQLite",
    files=(FormatFile("records.jsonl", lines(record)),),
)
