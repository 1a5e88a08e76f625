"""A capture's payload as reviewers read it: the conversation turn by turn, evaluations, the spans in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.privacy.marks import is_mark


@dataclass(frozen=True, slots=True)
class Call:
    """A tool that was called, and with what."""

    name: str
    arguments: Any


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: who speaks, what they say (`is_closed` where that was removed whole), the tools called, what tools gave.

    `is_answer` marks the output: what failed.
    """

    role: str
    text: str
    is_closed: bool = False
    calls: list[Call] = field(default_factory=list)
    results: list[Call] = field(default_factory=list)
    is_answer: bool = False


def turns_of(payload: Mapping[str, Any]) -> list[Turn]:
    """The conversation of a payload: its input, then its output."""
    asked = _section(payload.get("input"), "user", is_answer=False)
    return [*asked, *_section(payload.get("output"), "assistant", is_answer=True)]


def _section(section: Any, role: str, *, is_answer: bool) -> list[Turn]:
    if isinstance(section, str):
        return [Turn(role, section, is_mark(section), is_answer=is_answer)]
    if not isinstance(section, Mapping):
        return []
    turns = [_turn(one, role, is_answer=is_answer) for one in _mappings(section.get("messages"))]
    said = section.get("value")
    if isinstance(said, str) and said and all(said != turn.text for turn in turns) and not (is_mark(said) and turns):
        turns.append(Turn(role, said, is_mark(said), is_answer=is_answer))
    rest = [Call(str(name), value) for name, value in section.items() if name not in ("messages", "value") and value]
    if rest:
        turns.append(Turn(role, "", results=rest, is_answer=is_answer))
    return turns


def _turn(message: Mapping[str, Any], role: str, *, is_answer: bool) -> Turn:
    content = message.get("content")
    text = content if isinstance(content, str) else ""
    speaker = message.get("role")
    return Turn(
        role=speaker if isinstance(speaker, str) and speaker else role,
        text=text,
        is_closed=is_mark(text),
        calls=[Call(str(one.get("name", "tool")), one.get("arguments")) for one in _mappings(message.get("tool_calls"))],
        results=[Call(str(one.get("name", "result")), one.get("result")) for one in _mappings(message.get("tool_results"))],
        is_answer=is_answer,
    )


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one evaluator said."""

    name: str
    value: Any
    score: float | None
    assessment: str
    reasoning: str


def verdicts_of(payload: Mapping[str, Any]) -> list[Verdict]:
    """Each evaluator's verdict, by name; `score` where the value is a number from 0 to 1."""
    found = payload.get("evaluation")
    verdicts = []
    for name, verdict in sorted(found.items()) if isinstance(found, Mapping) else ():
        if isinstance(verdict, Mapping):
            value = verdict.get("value")
            score = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0
            verdicts.append(
                Verdict(
                    str(name), value, score if 0 <= score <= 1 else None,
                    str(verdict.get("assessment") or ""), str(verdict.get("reasoning") or ""),
                )
            )  # fmt: skip
    return verdicts


@dataclass(frozen=True, slots=True)
class Timing:
    """One failing span in time: `start_ns` from the first of them on."""

    name: str
    kind: str
    severity: str
    span_id: str
    start_ns: int
    duration_ns: int


MOST_TIMINGS = 40


def timings_of(capture: FailureCapture) -> tuple[list[Timing], int]:
    """The failing spans by start, at most 40, and the time that they took together in nanoseconds."""
    spans = sorted(capture.occurrences, key=lambda one: (one.start_ns, -one.duration_ns))[:MOST_TIMINGS]
    first = min(one.start_ns for one in spans)
    end = max(one.start_ns + one.duration_ns for one in spans)
    timings = [
        Timing(one.name, one.span_kind, one.severity.label, one.span_id, one.start_ns - first, one.duration_ns)
        for one in spans
    ]
    return timings, max(1, end - first)
