"""Spans from a file that a person has: one span, a page of a search answer, a list of either, or NDJSON of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from evalforge.core.ports import Rejected
from evalforge.core.span import Json, Span
from evalforge.datadog_http.answers import NonsenseError, decode_json
from evalforge.errors import RequestError
from evalforge.sources.datadog.spans import PARSERS

MAX_BYTES = 64 * 1024 * 1024
"""The largest document, or line of NDJSON, that is read; a search answer has at most 50 MB."""

SourceName = Literal["auto", "llm_obs", "apm"]
_APM_ONLY = frozenset({"custom", "start_timestamp", "end_timestamp", "resource_name", "resource_hash", "retained_by"})


@dataclass(frozen=True, slots=True)
class NoSpan:
    """An item of a file that is no span: its number, from 1, and the reason's code."""

    number: int
    reason: str


def spans_in(name: str, source: SourceName) -> Iterator[Span | NoSpan]:
    """The spans of the file `name` ("-" is standard input) in order, and what stands there instead of one.

    `source` says which of Datadog's two searches gave them; "auto" tells by the attributes of each. NDJSON is read line by
    line, so that a caller who needs a few spans of a large file may stop early.

    Raises:
        RequestError: the file cannot be read, is too large, is empty or holds no JSON. No message quotes the file.
    """
    number = 0
    with _opened(name) as stream:
        for document in _documents(stream, name):
            for item in _items(document):
                number += 1
                wrapped = _wrapped(item)
                found = PARSERS[_source_of(wrapped) if source == "auto" else source](wrapped)
                yield NoSpan(number, found.reason) if isinstance(found, Rejected) else found
    if number == 0:
        raise RequestError(f"{_shown(name)}: holds no span; wants a span, a search answer, or NDJSON of spans")


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == "-":
        yield sys.stdin.buffer
        return
    try:
        with Path(name).open("rb") as stream:
            yield stream
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise RequestError(f"{_shown(name)}: cannot be read ({reason})", field="FILE") from error


def _documents(stream: BinaryIO, name: str) -> Iterator[Json]:
    """The one JSON document of a stream, or each of its lines' where the first line is one by itself."""
    first = b""
    while not first.strip():
        first = _line(stream, name, 1)
        if not first:
            return
    first = first.removeprefix(b"\xef\xbb\xbf")
    try:
        document = decode_json(first)
    except NonsenseError:
        yield _whole(first, stream, name)
        return
    yield document
    number = 1
    while line := _line(stream, name, number + 1):
        number += 1
        if line.strip():
            try:
                yield decode_json(line)
            except NonsenseError:
                raise RequestError(f"{_shown(name)}: line {number} is no JSON", field="FILE") from None


def _whole(first: bytes, stream: BinaryIO, name: str) -> Json:
    body = first + stream.read(MAX_BYTES - len(first) + 1)
    if len(body) > MAX_BYTES:
        raise _too_large(name)
    try:
        return decode_json(body)
    except NonsenseError:
        raise RequestError(f"{_shown(name)}: no JSON, and no line of it is", field="FILE") from None


def _line(stream: BinaryIO, name: str, number: int) -> bytes:
    line = stream.readline(MAX_BYTES + 1)
    if len(line) > MAX_BYTES:
        raise _too_large(name, f"line {number} of ")
    return line


def _too_large(name: str, what: str = "") -> RequestError:
    return RequestError(
        f"{_shown(name)}: {what}the file is larger than {MAX_BYTES // 2**20} MB; cut out the spans that matter", field="FILE"
    )


def _items(document: Json) -> Iterator[Json]:
    if isinstance(document, list):
        yield from document
    elif isinstance(document, Mapping) and isinstance(document.get("data"), list):
        yield from document["data"]
    elif isinstance(document, Mapping) and isinstance(document.get("data"), Mapping):
        yield document["data"]
    else:
        yield document


def _wrapped(item: Json) -> Json:
    """An item of a search answer; attributes that stand alone are put into one."""
    if isinstance(item, Mapping) and "attributes" not in item and ("span_id" in item or "trace_id" in item):
        return {"attributes": item}
    return item


def _source_of(item: Json) -> str:
    attributes = item.get("attributes") if isinstance(item, Mapping) else None
    return "apm" if isinstance(attributes, Mapping) and not _APM_ONLY.isdisjoint(attributes) else "llm_obs"


def _shown(name: str) -> str:
    return "standard input" if name == "-" else ascii(name[:200])[1:-1]
