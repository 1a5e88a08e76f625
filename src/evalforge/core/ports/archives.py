"""Archives: spans that somebody has in files, to be read as often as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from evalforge.core.ports.sources import Rejected
from evalforge.core.span import Span


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """One span of an archive, and what is needed to have it again: `packed`, for memory and no file.

    `place` is where its trace stands among all traces, 0 to 2^64 - 1: the first bytes of a digest, so evenly spread.
    """

    place: int
    source: str
    span: Span
    packed: bytes


OddItem = tuple[str, Rejected]
"""What is no span, and the source that its dead letter names."""

PackedSpan = tuple[int, str, bytes]
"""Place, source and packed form of an entry whose span is made again later."""


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive as it is judged: `read` begins anew each time, `digest` tells it from every other one.

    `ordered` gives the spans of one trace in the order of a run, each with its source. `in_scope` says which spans count.
    """

    names: Sequence[str]
    digest: str
    read: Callable[[], Iterator[ArchiveEntry | OddItem]]
    ordered: Callable[[Sequence[PackedSpan]], list[tuple[str, Span]]]
    in_scope: Callable[[Span], bool]
