"""A package's files in a folder: first what all the others are made of, then the others from it, so that memory stays flat.

`captures.jsonl` of our own format, and `examples.jsonl` of every other, are sources: an erasure takes rows out of them and
makes the rest anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from evalforge.core.ports import PackageFile, StoredCapture
from evalforge.exports.examples import Example, Split, example_from, example_line
from evalforge.exports.files import Written, loaded, new_file, opened, written_file
from evalforge.exports.formats.table import FORMATS
from evalforge.exports.jsonl import capture_line
from evalforge.exports.selecting import Shape

CAPTURES, EXAMPLES = "captures.jsonl", "examples.jsonl"
SPLITS: tuple[Split, ...] = ("train", "test")


def sources_of(shape: Shape) -> tuple[str, ...]:
    """The files from which a package of this shape is made."""
    if shape.makes_examples:
        return (EXAMPLES,)
    return (CAPTURES,) if shape.test_share is None else tuple(f"{split}/{CAPTURES}" for split in SPLITS)


async def draft_sources(folder: Path, shape: Shape, rows: AsyncIterator[tuple[StoredCapture, Example]]) -> list[PackageFile]:
    """Writes the captures into the sources of their shape."""
    with ExitStack() as open_files:
        out: dict[str, Written] = {name: open_files.enter_context(new_file(folder, name)) for name in sources_of(shape)}
        async for stored, example in rows:
            if shape.makes_examples:
                out[EXAMPLES].write(example_line(example))
            else:
                out[CAPTURES if example.split is None else f"{example.split}/{CAPTURES}"].write(capture_line(stored))
    return [written.file for written in out.values()]


def draft_derived(folder: Path, shape: Shape, source: Path) -> list[PackageFile]:
    """Writes what is made of `source`, the file of examples: the format's files, or those of each part of a split.

    Raises:
        OSError
        ValueError: a line of the source is no example.
        SettingsError: the format needs an extra that is not installed.
    """
    if not shape.makes_examples:
        return []
    parts: Iterable[Split | None] = (None,) if shape.test_share is None else SPLITS
    return [
        written_file(folder, file.name if split is None else f"{split}/{file.name}", file.render(Examples(source, split)))
        for split in parts
        for file in FORMATS[shape.format].files
    ]


class Examples:
    """The examples of a file, those of one split or all; read anew each time that they are gone through."""

    def __init__(self, path: Path, split: Split | None = None) -> None:
        self._path = path
        self._split = split

    def __iter__(self) -> Iterator[Example]:
        with opened(self._path) as stream:
            for line in stream:
                if not line.strip():
                    continue
                try:
                    example = example_from(loaded(line))
                except (KeyError, TypeError, AttributeError) as error:
                    raise ValueError("no example") from error
                if self._split is None or example.split == self._split:
                    yield example
