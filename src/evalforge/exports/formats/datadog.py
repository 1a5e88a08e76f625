"""Datadog LLM Observability: records of a dataset, as lines for its API and as CSV for its upload.

Source: https://docs.datadoghq.com/llm_observability/experiments/datasets
"""

from __future__ import annotations

from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.formats import Format, FormatFile, generated, lines, without_nothing
from evalforge.exports.formats.csv_cells import table
from evalforge.exports.jsonl import json_bytes


def record(example: Example) -> dict[str, Any]:
    """The record of an example."""
    given: dict[str, Any] = {"input": example.input}
    if example.messages:
        given["messages"] = list(example.messages)
    return without_nothing(
        {"id": example.id, "input": given, "expected_output": example.expected_output, "metadata": metadata(example)}
    )


def metadata(example: Example) -> dict[str, Any]:
    """What stands beside input and answer: where it comes from, the answer that failed, what was made up."""
    return without_nothing(
        {
            **example.metadata,
            "evalforge_id": example.id,
            "failed_output": example.actual_output,
            "generated_assertions": generated(example),
            "split": example.split,
        }
    )


def _row(example: Example) -> dict[str, str]:
    return {
        "id": example.id,
        "input": example.input,
        "expected_output": example.expected_output or "",
        "metadata": json_bytes(metadata(example)).decode(),
    }


FORMAT = Format(
    name="datadog",
    tool="Datadog LLM Observability datasets",
    checked="against the models of datadog-api-client 2.62; never against a live Datadog",
    files=(
        FormatFile("records.jsonl", lines(record)),
        FormatFile("records.csv", table(_row, ("id", "input", "expected_output", "metadata"))),
    ),
)
