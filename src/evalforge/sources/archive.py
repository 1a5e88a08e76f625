"""The same spans from NDJSON files that a team already has: local or in Cloud Storage, plain, gzip or zstd.

A file is read line by line and is hostile: lines, what a file decompresses to and zstd's window are bounded, and whatever
cannot be read is an item that was rejected, never the end. What a line holds is an item of a search answer, alone or bare,
a list of them, or a whole page. Nothing here keeps a raw span: an entry is for memory, and for a shuffle's.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import zstandard

from evalforge.core.ports import ArchiveEntry, OddItem, PackedSpan, Rejected
from evalforge.core.span import Json, Span
from evalforge.datadog_http.answers import NonsenseError, decode_json
from evalforge.errors import RequestError
from evalforge.sources.archive_buckets import Buckets
from evalforge.sources.datadog.items import items_in, source_of
from evalforge.sources.datadog.spans import PARSERS

SOURCE = "archive"
"""What stands as the source of a line of which nobody can tell whose it is."""

MAX_LINE_BYTES = 16 << 20
"""The longest line that is read; a page of ours has about 8 MB."""
MAX_RATIO = 250
"""How many bytes a compressed one may become: spans become 5 to 20, the same span again and again 100."""
FREE_BYTES = 64 << 20
"""What any file may become, however small it is."""
MAX_ZSTD_WINDOW = 1 << 27
"""What zstd itself takes for its window unless told otherwise.

Source: https://github.com/facebook/zstd, zstd.1, `--long`
"""

SUFFIXES = tuple(kind + packing for kind in (".ndjson", ".jsonl", ".json") for packing in ("", ".gz", ".zst", ".zstd"))
"""How the names of the files end that a folder is read for; a file that is named itself may be called anything."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


# -- which files ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What is read in one go: a file, or the lines of a plain one that begin in [`begin`, `end`). `end` None: to its end.

    `size_bytes` are those of the file as it lies there, `version` what changes when it is written again.
    """

    name: str
    size_bytes: int
    version: str
    begin: int = 0
    end: int | None = None


def parts_of(places: Sequence[str], buckets: Buckets, *, split_bytes: int | None = None) -> list[Part]:
    """The files that these places name, each once, by name: a file, a folder with all below it, `gs://bucket/prefix`.

    Plain files longer than `split_bytes` are cut into parts of that length.

    Raises:
        RequestError: a place is not there, cannot be read, or holds no file of `SUFFIXES`.
        CredentialsError, SettingsError, SourceRefusedError, SourceUnavailableError: of Cloud Storage.
    """
    found: dict[str, Part] = {}
    for place in places:
        files = list(_bucket_files(place, buckets)) if place.startswith("gs://") else list(_local_files(place))
        if not files:
            raise RequestError(f"{_shown(place)}: holds no file that ends with {', '.join(SUFFIXES[:4])} …", field="PLACE")
        found.update((part.name, part) for part in files)
    return [piece for name in sorted(found) for piece in _pieces(found[name], buckets, split_bytes)]


def _local_files(place: str) -> Iterator[Part]:
    try:
        root = Path(place)
        if root.is_dir():
            files = [path for path in root.rglob("*") if path.name.endswith(SUFFIXES) and path.is_file()]
        else:
            root.stat()
            files = [root]
        for path in files:
            about = path.stat()
            yield Part(os.path.abspath(path), about.st_size, str(about.st_mtime_ns))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise RequestError(f"{_shown(place)}: cannot be read ({reason})", field="PLACE") from error


def _bucket_files(place: str, buckets: Buckets) -> Iterator[Part]:
    for one in buckets.objects(place):
        if one.name == place or one.name.endswith(SUFFIXES):
            yield Part(one.name, one.size_bytes, one.generation)


def _pieces(part: Part, buckets: Buckets, split_bytes: int | None) -> Iterator[Part]:
    if split_bytes is None or part.size_bytes <= split_bytes or _is_packed(part, buckets):
        yield part
        return
    for begin in range(0, part.size_bytes, split_bytes):
        yield Part(part.name, part.size_bytes, part.version, begin, min(begin + split_bytes, part.size_bytes))


def _is_packed(part: Part, buckets: Buckets) -> bool:
    with _opened(part, buckets) as stream:
        return stream.read(4).startswith((_GZIP, _ZSTD))


def archive_digest(parts: Sequence[Part]) -> str:
    """What tells whether these files are those of another time: 128 bits as hexadecimal digits."""
    about = "\n".join(f"{part.name}\0{part.size_bytes}\0{part.version}" for part in parts)
    return hashlib.sha256(about.encode("utf-8", "surrogatepass")).hexdigest()[:32]


# -- lines ----------------------------------------------------------------------------------------------------------------


def lines_of(part: Part, buckets: Buckets) -> Iterator[bytes | Rejected]:
    """The lines of a part, without empty ones; a rejection for one too long, or a broken rest."""
    try:
        with _opened(part, buckets) as stream:
            yield from _lines(part, stream)
    except (OSError, EOFError, ValueError, zlib.error, zstandard.ZstdError):
        # Cut short, damaged, gone or replaced meanwhile: what came before it counts.
        yield Rejected("unreadable_rest", None)


def _lines(part: Part, raw: BinaryIO) -> Iterator[bytes | Rejected]:
    read_bytes = part.begin
    limit: float = float("inf") if part.end is None else part.end
    if part.begin:
        # The line that reaches into this part belongs to the one before.
        raw.seek(part.begin - 1)
        read_bytes += _skip_line(raw) - 1
        stream: Any = raw
    else:
        stream = _unpacked(raw)
    most_bytes = part.size_bytes * MAX_RATIO + FREE_BYTES
    is_first = part.begin == 0
    while read_bytes < limit:
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            # To its end, a piece at a time; a bomb is one line.
            read_bytes += len(line)
            while line and not line.endswith(b"\n") and read_bytes <= most_bytes:
                line = stream.readline(_CHUNK_BYTES)
                read_bytes += len(line)
            yield Rejected("line_too_long", None)
        else:
            read_bytes += len(line)
            text = line.removeprefix(_BOM) if is_first else line
            if text.strip():
                yield text
        is_first = False
        if read_bytes > most_bytes:
            yield Rejected("decompresses_to_too_much", None)
            return


def _skip_line(stream: BinaryIO) -> int:
    skipped = 0
    while line := stream.readline(_CHUNK_BYTES):
        skipped += len(line)
        if line.endswith(b"\n"):
            break
    return skipped


def _unpacked(raw: BinaryIO) -> Any:
    head = raw.read(4)
    raw.seek(0)
    if head.startswith(_GZIP):
        return io.BufferedReader(gzip.GzipFile(fileobj=raw, mode="rb"), _CHUNK_BYTES)
    if head.startswith(_ZSTD):
        opened = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).stream_reader(raw, read_across_frames=True)
        return io.BufferedReader(opened, _CHUNK_BYTES)
    return raw


@contextmanager
def _opened(part: Part, buckets: Buckets) -> Iterator[BinaryIO]:
    if part.name.startswith("gs://"):
        with buckets.opened(part.name, part.version) as stream:
            yield stream
        return
    with open(part.name, "rb", buffering=_CHUNK_BYTES) as stream:
        yield stream


# -- entries --------------------------------------------------------------------------------------------------------------


def place_of(trace_id: str) -> int:
    """Where a trace (its raw id) stands among all traces."""
    return int.from_bytes(hashlib.sha256(trace_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def entries_of(part: Part, buckets: Buckets) -> Iterator[ArchiveEntry | OddItem]:
    """What the lines of a part hold: every item is an entry or odd; one odd item costs nothing but itself."""
    for line in lines_of(part, buckets):
        if isinstance(line, Rejected):
            yield SOURCE, line
        else:
            yield from entries_in(line)


def entries_in(line: bytes) -> Iterator[ArchiveEntry | OddItem]:
    """What one line holds."""
    try:
        document = decode_json(line)
    except NonsenseError:
        yield SOURCE, Rejected("no_json", None)
        return
    is_one = not isinstance(document, list) and not (
        isinstance(document, Mapping) and isinstance(document.get("data"), (list, Mapping))
    )
    for item in items_in(document):
        source = source_of(item)
        outcome = PARSERS[source](item)
        if isinstance(outcome, Rejected):
            yield source, outcome
            continue
        packed = b"L" + line if is_one else _packed(item)
        if packed is None:
            yield source, Rejected("too_deep", None, outcome.trace_id, outcome.span_id)
        else:
            yield ArchiveEntry(place_of(outcome.trace_id), source, outcome, packed)


def span_again(source: str, packed: bytes) -> Span:
    """The span that an entry packed, equal to it.

    Raises:
        ValueError: this is no span that an entry packed.
    """
    if packed[:1] == b"L":
        items = list(items_in(decode_json(packed[1:])))
    else:
        items = [msgpack.unpackb(packed[1:], ext_hook=_whole, unicode_errors="surrogatepass", strict_map_key=False)]
    span = PARSERS[source](items[0]) if len(items) == 1 else None
    if not isinstance(span, Span):
        raise ValueError("no packed span")
    return span


def _packed(item: Json) -> bytes | None:
    try:
        packed: bytes = msgpack.packb(item, default=_as_text, unicode_errors="surrogatepass")
    except (ValueError, RecursionError):
        return None
    return b"M" + packed


def _as_text(value: Json) -> Any:
    # The packer asks for a whole number beyond 64 bits; nothing else of JSON is unknown to it.
    return msgpack.ExtType(1, hex(value).encode())


def _whole(code: int, text: bytes) -> int:
    return int(text, 16)


def ordered(entries: Sequence[PackedSpan]) -> list[tuple[str, Span]]:
    """The spans of one trace as a run would read them, whatever order they were found in: source, start, then content."""
    spans = [(source, span_again(source, packed), packed) for _, source, packed in entries]
    spans.sort(key=lambda one: (one[0], one[1].start_ns, one[2]))
    return [(source, span) for source, span, _ in spans]


def _shown(place: str) -> str:
    return ascii(place[:200])[1:-1]
