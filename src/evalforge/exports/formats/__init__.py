"""The formats of other tools, one module each: examples become the bytes of files that the tool loads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from evalforge.exports.examples import Example


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
