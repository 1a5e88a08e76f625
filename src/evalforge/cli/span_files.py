"""Spans from a file that a person has: one span, a page of a search answer, a list of either, or NDJSON of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from evalforge.core.ports import Rejected
from evalforge.core.span import Json, Span
from evalforge.datadog_http.answers import NonsenseError, decode_json
from evalforge.errors import RequestError
from evalforge.sources.datadog.items import items_in, source_of
from evalforge.sources.datadog.spans import PARSERS

MAX_BYTES = 64 * 1024 * 1024
"""The largest document, or line of NDJSON, that is read; a search answer has at most 50 MB."""

SourceName = Literal["auto", "llm_obs", "apm"]


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
            for item in items_in(document):
                number += 1
                found = PARSERS[source_of(item) if source == "auto" else source](item)
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


def _shown(name: str) -> str:
    return "standard input" if name == "-" else ascii(name[:200])[1:-1]
