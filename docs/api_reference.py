"""The HTTP API as Markdown, from the service's OpenAPI document: whom each route lets in, what it takes and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from evalforge.service.app import create_app

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]
_ANYWHERE = ("400", "414", "421", "431")
"""What every route may answer, before it is asked which one it is."""


def overview(table: Table) -> str:
    """Every route in one table: its method and path as a link to what it takes, and whom it lets in."""
    rows = [
        (f"[`{name}`](#{_anchor(name)})", operation["x-lets-in"], _first_sentence(operation["description"]))
        for name, operation in _operations()
    ]
    return table(("route", "lets in", "what it does"), rows)


def routes(table: Table) -> str:
    """A section for each route: description, fields in the path, the query, the header and the body, and its answers."""
    operations = list(_operations())
    shared = operations[0][1]["responses"]
    everywhere = table(("status", "when"), ((f"`{status}`", shared[status]["description"]) for status in _ANYWHERE))
    parts = [f"\nAny route may answer\n\n{everywhere}"]
    for name, operation in operations:
        fields = [*_parameters(operation), *_body(operation)]
        answers = [
            (f"`{status}`", answer["description"])
            for status, answer in sorted(operation["responses"].items())
            if status not in _ANYWHERE
        ]
        parts.append(f"### `{name}`\n\n{operation['description']}\n\nLets in: {operation['x-lets-in']}.\n")
        if fields:
            parts.append(table(("field", "in", "takes", "meaning"), fields))
        parts.append(table(("status", "when"), answers))
    return "\n".join(parts)


def _operations() -> Iterable[tuple[str, Mapping[str, Any]]]:
    for path, methods in create_app({}).openapi()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def _anchor(heading: str) -> str:
    """As repositories and the site make it: lower case, spaces as hyphens, other marks left out."""
    kept = "".join(mark for mark in heading.lower() if mark.isalnum() or mark in " -_")
    return kept.replace(" ", "-")


def _first_sentence(text: str) -> str:
    return " ".join(text.split()).split(". ")[0].rstrip(".")


def _parameters(operation: Mapping[str, Any]) -> Iterable[tuple[str, str, str, str]]:
    """The last row of each name: what the framework made of the function's arguments stands before what is checked."""
    last = {(one["in"], one["name"]): one for one in operation.get("parameters", ())}
    body = {name for name, _, _, _ in _body(operation)}
    for (place, name), one in last.items():
        if place == "query" and f"`{name}`" in body:
            continue
        yield f"`{name}`", place, _takes(one["schema"]), one.get("description") or one["schema"].get("description", "")


def _body(operation: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    contents = operation.get("requestBody", {}).get("content", {})
    schema = contents.get("application/json", {}).get("schema", {})
    queried = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
    rows = []
    for name, field in schema.get("properties", {}).items():
        place = "body or query" if name in queried else "body"
        needed = " (required)" if name in schema.get("required", ()) else ""
        rows.append((f"`{name}`", place, _takes(field) + needed, field.get("description", "")))
    return rows


def _takes(schema: Mapping[str, Any]) -> str:
    """What a field accepts, in words: its type, bounds, choices and default."""
    if "oneOf" in schema:
        return " or ".join(_takes(one) for one in schema["oneOf"])
    if "enum" in schema:
        said = ", ".join(f"`{choice}`" for choice in schema["enum"])
    else:
        said = {"date-time": "time (ISO 8601)"}.get(schema.get("format", ""), "") or schema.get("type", "anything")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        above = "above" if schema.get("exclusiveMinimum") is True else "from"
        below = "below" if schema.get("exclusiveMaximum") is True else "to"
        said += f" {above} {low}" if low is not None else ""
        said += f" {below} {high:,}" if high is not None else ""
    if "maxLength" in schema:
        said += f", up to {schema['maxLength']:,} characters"
    if "pattern" in schema:
        said += f" like `{schema['pattern']}`"
    if schema.get("default") is not None:
        said += f"; {schema['default']} if not given"
    return said
