"""The formats of other tools, one module each: examples become the bytes of files that the tool loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from evalforge.exports.examples import Example
from evalforge.exports.jsonl import json_bytes


@dataclass(frozen=True, slots=True)
class FormatFile:
    """One file of a format: its name, and its bytes from the examples; equal examples give equal bytes.

    `render` goes through the examples once, keeps none of them, and never writes what a tool would evaluate.
    """

    name: str
    render: Callable[[Iterable[Example]], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Format:
    """One format: what `--format` calls it, which tool loads it, how that was checked, and its files, the main one first.

    `needs` names the extra of this package that has to be installed for it, if one has.
    """

    name: str
    tool: str
    checked: str
    files: tuple[FormatFile, ...]
    needs: str | None = None


def lines(document_of: Callable[[Example], dict[str, Any]]) -> Callable[[Iterable[Example]], Iterator[bytes]]:
    """What writes a JSON object a line for each example."""

    def render(examples: Iterable[Example]) -> Iterator[bytes]:
        for example in examples:
            yield json_bytes(document_of(example)) + b"\n"

    return render


def array(document_of: Callable[[Example], dict[str, Any]]) -> Callable[[Iterable[Example]], Iterator[bytes]]:
    """What writes one JSON array, an example a line."""

    def render(examples: Iterable[Example]) -> Iterator[bytes]:
        before = b"[\n"
        for example in examples:
            yield before + json_bytes(document_of(example))
            before = b",\n"
        yield b"\n]\n" if before != b"[\n" else b"[]\n"

    return render


def without_nothing(document: dict[str, Any]) -> dict[str, Any]:
    """The document without the keys whose value is None."""
    return {name: value for name, value in document.items() if value is not None}


def generated(example: Example) -> list[dict[str, str]]:
    """The assertions that were made up, as metadata has them."""
    return [{"kind": one.kind, "value": one.value} for one in example.assertions]
