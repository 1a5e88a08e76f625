"""What a query can ask of a span, for each of the two sources. One class a source, both of shape `matching.Fields`."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from evalforge.sandbox.matching import Getter
from evalforge.sandbox.query import Field, Literally, Match
from evalforge.sandbox.shapes import VALUED, shape_of
from evalforge.sandbox.spans import Json, Span

TEXT_LIMIT = 20_500
"""How many characters of a span's input and of its output free text reaches. Source: Datadog's querying page."""

_NONE: tuple[Json, ...] = ()
_LLM_OBS_PLAIN = frozenset({"status", "name", "ml_app", "trace_id", "span_id", "parent_id", "duration"})
_LLM_OBS_META = {"span.kind": "span_kind", "model_name": "model_name", "model_provider": "model_provider"}
_VERDICT_PARTS = frozenset({"value", "assessment", "status"})

MANAGED_EVALUATORS = frozenset(
    {
        "failure_to_answer",
        "goal_completeness",
        "hallucination",
        "input_sentiment",
        "input_toxicity",
        "language_mismatch",
        "output_sentiment",
        "output_toxicity",
        "prompt_injection",
        "tool_argument_correctness",
        "tool_selection",
        "topic_relevancy",
        "toxicity",
    }
)
"""Datadog's own evaluators: the only ones that the old form `@evaluations.NAME:` finds."""


def nested(path: str, mapping: Json) -> list[Json]:
    """Return every scalar under a dotted path, with the dots as nesting, as part of a key, or mixed; lists are opened."""
    if not isinstance(mapping, dict):
        return []
    found: list[Json] = []
    if path in mapping:
        _scalars(mapping[path], found)
    dot = path.find(".")
    while dot != -1:
        below = mapping.get(path[:dot])
        if isinstance(below, dict):
            found += nested(path[dot + 1 :], below)
        dot = path.find(".", dot + 1)
    return found


def _scalars(value: Json, found: list[Json]) -> None:
    if isinstance(value, list):
        found += [element for element in value if not isinstance(element, dict | list)]
    elif not isinstance(value, dict):
        found.append(value)


def json_number(value: Json) -> float | None:
    """Return a JSON number, None for anything else: a number in quotes is text to Datadog."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def _attribute(key: str) -> Getter[Span]:
    def get(span: Span) -> Collection[Json]:
        value = span.attributes.get(key)
        return _NONE if value is None or isinstance(value, dict | list) else (value,)

    return get


def _under(key: str, path: str) -> Getter[Span]:
    return lambda span: nested(path, span.attributes.get(key))


def _nothing(span: Span) -> Collection[Json]:
    return _NONE


class LlmObsFields:
    """The fields of LLM Observability's spans."""

    def attribute(self, path: str) -> Getter[Span]:
        """The getter of `@path`; an unknown path has no values."""
        head, _, rest = path.partition(".")
        if path in _LLM_OBS_PLAIN:
            return _attribute(path)
        if path == "session_id":
            return lambda span: [*nested("session_id", span.unexported), *span.tag("session_id")]
        if head == "feedback":
            return lambda span: nested(rest, span.unexported.get("feedback"))
        if head == "metrics":
            return _under("metrics", rest)
        if head == "evaluation":
            name, _, part = rest.rpartition(".")
            return _evaluation(name, part) if part in _VERDICT_PARTS else _nothing
        if head == "evaluations":
            return _old_evaluation(rest)
        if head == "meta":
            return _meta(rest)
        return _nothing

    def bare(self, name: str) -> Getter[Span] | None:
        """The getter of the ids, which need no `@`; everything else is a tag."""
        return _attribute(name) if name in ("trace_id", "span_id") else None

    def tag(self, key: str) -> Getter[Span]:
        """The getter of a tag's values."""
        lowered = key.lower()
        return lambda span: span.tag(lowered)

    def text(self, span: Span) -> str:
        """The beginning of the span's input and output."""
        return "\n".join(_io_text(span.attributes.get(side))[:TEXT_LIMIT] for side in ("input", "output"))

    def number(self, path: str, value: Any) -> float | None:
        """The value if it is a JSON number."""
        return json_number(value)

    def key(self, node: Field) -> str | None:
        """The key of a tag, an evaluator, a metric, a metadata value, or a status."""
        if not node.is_attribute:
            return _tag_key(node.name) if self.bare(node.name) is None else None
        head, _, rest = node.name.partition(".")
        if head == "evaluation":
            return _valued(f"evaluation.{rest}", node.match)
        if head == "evaluations":
            name, part = _old_name(rest)
            return _valued(f"evaluation.{name}.{part}", node.match)
        if head == "metrics":
            return f"metrics.{rest}"
        if node.name.startswith("meta.metadata."):
            return f"metadata.{node.name.removeprefix('meta.metadata.')}"
        return _valued("status", node.match) if node.name == "status" else None

    shape = staticmethod(shape_of)


def _meta(path: str) -> Getter[Span]:
    if path in _LLM_OBS_META:
        return _attribute(_LLM_OBS_META[path])
    head, _, rest = path.partition(".")
    if head in ("metadata", "input", "output"):
        return _under(head, rest)
    if head == "error":
        return lambda span: nested(rest, span.unexported.get("error"))
    return _nothing


def _evaluation(name: str, part: str) -> Getter[Span]:
    """One evaluator's value, assessment or status. There is no wildcard over evaluators, and `json` is not indexed."""
    if not name or "*" in name or "?" in name:
        return _nothing

    def get(span: Span) -> Collection[Json]:
        verdicts = span.attributes.get("evaluation")
        verdict = verdicts.get(name) if isinstance(verdicts, dict) else None
        value = verdict.get(part) if isinstance(verdict, dict) else None
        return _NONE if value is None or isinstance(value, dict | list) else (value,)

    return get


def _old_evaluation(path: str) -> Getter[Span]:
    name, part = _old_name(path)
    return _evaluation(name, part) if name != path or path in MANAGED_EVALUATORS else _nothing


def _old_name(path: str) -> tuple[str, str]:
    """Return the evaluator's name and the part that the old form of a path means."""
    if name := _after(path, "assessment.custom."):
        return name, "assessment"
    return _after(path, "custom.") or path, "value"


def _valued(key: str, match: Match) -> str:
    """Return the key of a value that is asked for by a word, of any value otherwise: `true` and `1` may be no words."""
    if not isinstance(match, Literally) or key.rpartition(".")[2] not in VALUED:
        return key
    is_word = match.text[:1].isalpha() and match.text.lower() not in _SCALAR_WORDS
    return f"{key}={match.text}" if is_word else key


def _tag_key(name: str) -> str | None:
    # A name with a colon, which a backslash permits, may be a whole tag or the beginning of one.
    return f"tag.{name.lower()}" if ":" not in name else None


_SCALAR_WORDS = ("true", "false", "inf", "infinity", "nan")


def _after(text: str, prefix: str) -> str | None:
    return text.removeprefix(prefix) if text.startswith(prefix) else None


def _io_text(io: Json) -> str:
    if not isinstance(io, dict):
        return ""
    texts = [io.get("value")]
    messages = io.get("messages")
    texts += [m.get("content") for m in (messages if isinstance(messages, list) else ()) if isinstance(m, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))


_APM_RESERVED = frozenset({"service", "env", "resource_name", "type", "trace_id", "span_id"})


class ApmFields:
    """The fields of APM's spans."""

    def attribute(self, path: str) -> Getter[Span]:
        """The getter of `@path`, which looks inside `custom`."""
        return _under("custom", path)

    def bare(self, name: str) -> Getter[Span] | None:
        """The getter of a reserved word."""
        if name == "status":
            return _apm_status
        if name == "operation_name":
            return _operation_name
        return _attribute(name) if name in _APM_RESERVED else None

    def tag(self, key: str) -> Getter[Span]:
        """The getter of a tag's values."""
        lowered = key.lower()
        return lambda span: span.tag(lowered)

    def text(self, span: Span) -> str:
        """The resource's name and the error's message."""
        parts = [span.attributes.get("resource_name"), *nested("error.message", span.attributes.get("custom"))]
        return "\n".join(part for part in parts if isinstance(part, str))

    def number(self, path: str, value: Any) -> float | None:
        """The value if it is a JSON number; a status code is one even in quotes, since its facet is numeric."""
        if path == "http.status_code" and isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                return None
            return number if math.isfinite(number) else None
        return json_number(value)

    def key(self, node: Field) -> str | None:
        """The key of a tag or of an attribute under `custom`."""
        if node.is_attribute:
            return f"custom.{node.name}"
        return _tag_key(node.name) if self.bare(node.name) is None else None

    shape = staticmethod(shape_of)


def _operation_name(span: Span) -> Collection[Json]:
    # Datadog searches it, but recorded answers do not have it.
    name = span.attributes.get("operation_name") or span.unexported.get("operation_name")
    return _NONE if name is None or isinstance(name, dict | list) else (name,)


def _apm_status(span: Span) -> Collection[Json]:
    # A span that went well is exported without a status.
    status: Mapping[str, Json] = span.attributes
    return (status.get("status") or "ok",)
