"""The shape of a span: the names of everything that it has, so that a long query need not ask for each."""

from __future__ import annotations

from collections.abc import Iterator
from sys import intern

from evalforge.sandbox.spans import Json, Span

MAX_KNOWN = 100_000
"""How many shapes are shared at once; real applications have some dozens."""

MAX_DEPTH = 100
"""How deep paths are known; nobody asks for a name with a hundred dots."""

VALUED = frozenset({"assessment", "status"})
"""What has few values: the shape tells them too."""

_known: dict[frozenset[str], frozenset[str]] = {}


def shape_of(span: Span) -> frozenset[str]:
    """Return the keys of a span, as `tag.KEY`, `metrics.PATH`, `metadata.PATH`, `custom.PATH`, `evaluation.NAME.PART`.

    Statuses and assessments also with their value, as `evaluation.tone.assessment=fail`.

    Spans of one shape share the set, so that a hundred thousand of them need little memory.
    """
    shape = span.shape
    if shape is None:
        shape = frozenset(map(intern, _keys(span)))
        if len(_known) >= MAX_KNOWN:
            _known.clear()
        shape = span.shape = _known.setdefault(shape, shape)
    return shape


def _keys(span: Span) -> Iterator[str]:
    attributes = span.attributes
    for tag in span.tags:
        yield f"tag.{tag.partition(':')[0]}"
    evaluations = attributes.get("evaluation")
    for name, verdict in evaluations.items() if isinstance(evaluations, dict) else ():
        for part, value in verdict.items() if isinstance(verdict, dict) else ():
            yield from _with_value(f"evaluation.{name}.{part}", part, value)
    for place in ("metrics", "metadata", "custom"):
        yield from _paths(attributes.get(place), f"{place}.")
    yield from _with_value("status", "status", attributes.get("status"))


def _with_value(key: str, part: str, value: Json) -> Iterator[str]:
    yield key
    if part in VALUED and isinstance(value, str):
        yield f"{key}={value}"


def _paths(value: Json, prefix: str, room: int = MAX_DEPTH) -> Iterator[str]:
    """Yield the dotted path of every value, with the dots as nesting, as part of a key, or mixed."""
    for key, inner in value.items() if isinstance(value, dict) and room else ():
        yield f"{prefix}{key}"
        if isinstance(inner, dict):
            yield from _paths(inner, f"{prefix}{key}.", room - 1)
