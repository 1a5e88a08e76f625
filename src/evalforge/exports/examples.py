"""`Example`: one capture as an eval tool wants it, whatever the tool: what went in, what came out, and why that was bad."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Texts = Literal["kept", "closed", "absent"]
"""Whether the input's text is there; whether privacy settings closed it; or whether the span never had one."""

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Assertion:
    """Something that an answer to the same input must satisfy, made up from the failure and marked as generated.

    `not_contains` takes a text that must not be in the answer, `rubric` a sentence for whoever grades it.
    """

    kind: Literal["not_contains", "rubric"]
    value: str


@dataclass(frozen=True, slots=True)
class Example:
    """One failing span as an eval case.

    `id` is the same for the same trace in every export. `input` is what was asked as one text; `messages` the conversation
    before the answer as chat messages of plain JSON (`role`, `content`, and where they have them `tool_calls`,
    `tool_call_id`, `name`), empty where the span had none. `actual_output` is the answer that failed; `expected_output` is a
    reviewer's, never ours. `metadata` is flat, of text, numbers and booleans: ids, links, why it failed.
    All of it is captured text: whoever writes it into a file that a tool evaluates must keep the tool from evaluating it.
    """

    id: str
    trace_id: str
    span_id: str
    signature: str
    input: str
    messages: Sequence[Mapping[str, Any]] = ()
    actual_output: str | None = None
    expected_output: str | None = None
    assertions: Sequence[Assertion] = ()
    metadata: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    texts: Texts = "kept"
    split: Split | None = None
