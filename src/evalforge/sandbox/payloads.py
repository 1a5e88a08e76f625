"""Request bodies as JSON values: bounded, decompressed and decoded by what they are, not by what a header says."""

from __future__ import annotations

import io
import json
import zlib

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import orjson
import zstandard
from starlette.requests import Request

from evalforge.sandbox.replies import Refused, plain_error
from evalforge.sandbox.spans import Json

MAX_BODY_BYTES = 25 * 1024 * 1024
"""How large a body may be, as sent and as decompressed. Source: the Datadog agent's own `apm_config.max_payload_size`."""

MAX_DEPTH = 100
"""How deep an odd value may nest; what lies deeper is replaced by `null`, or writing it out could exhaust the stack."""

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_LAYERS = 3


class UnreadableError(ValueError):
    """The body is neither JSON nor msgpack."""


async def body_of(request: Request, max_bytes: int = MAX_BODY_BYTES) -> bytes:
    """Return the body of a request, whole or chunked, decompressed if it was gzip or zstd.

    Raises: Refused with 413 when it is larger than `max_bytes`, before more than that is held; UnreadableError when it
    breaks off inside its compression.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > max_bytes:
            raise _too_large(max_bytes)
        chunks.append(chunk)
    body = b"".join(chunks)
    for _ in range(_LAYERS):
        if body.startswith(_GZIP):
            body = _gunzip(body, max_bytes)
        elif body.startswith(_ZSTD):
            body = _unzstd(body, max_bytes)
        else:
            break
    return body


def _too_large(max_bytes: int) -> Refused:
    return Refused(plain_error(413, f"the body is larger than {max_bytes} bytes"))


def _gunzip(body: bytes, max_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        while body:  # a gzip file may have several members
            member = zlib.decompressobj(wbits=31)
            parts.append(member.decompress(body, max_bytes - size + 1))
            size += len(parts[-1])
            if size > max_bytes:
                raise _too_large(max_bytes)
            if not member.eof:
                raise UnreadableError("the gzip stream breaks off")
            body = member.unused_data
    except zlib.error as error:
        raise UnreadableError("the gzip stream is damaged") from error
    return b"".join(parts)


def _unzstd(body: bytes, max_bytes: int) -> bytes:
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=MAX_BODY_BYTES).stream_reader(
            io.BytesIO(body), read_across_frames=True
        )
        unpacked = reader.read(max_bytes + 1)
    except (zstandard.ZstdError, MemoryError) as error:
        raise UnreadableError("the zstd stream is damaged") from error
    if len(unpacked) > max_bytes:
        raise _too_large(max_bytes)
    return unpacked


def decode(body: bytes, content_type: str = "") -> Json:
    """Return what a body says, as JSON or as msgpack; msgpack first only if the content type says so.

    Raises: UnreadableError.
    """
    readers = (_msgpack, _json) if "msgpack" in content_type.lower() else (_json, _msgpack)
    for read in readers:
        try:
            return read(body)
        except (ValueError, RecursionError, msgpack.UnpackException):
            continue
    raise UnreadableError("neither JSON nor msgpack")


def _json(body: bytes) -> Json:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        # Valid enough for applications, not for the fast library: integers beyond 64 bits, NaN, lone surrogates.
        return json.loads(body)


def _msgpack(body: bytes) -> Json:
    return msgpack.unpackb(body, strict_map_key=False, unicode_errors="replace")


def servable(value: Json) -> Json:
    """Return a value that a search can write out as JSON: the same one, or a copy of it where it could not be written."""
    try:
        orjson.dumps(value)
    except TypeError:
        return _plain(value, MAX_DEPTH)
    return value


def _plain(value: Json, room: int) -> Json:
    if value is None or isinstance(value, str | int | float):
        return value
    if room == 0:
        return None
    if isinstance(value, dict):
        return {key if isinstance(key, str) else _text(key): _plain(inner, room - 1) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, room - 1) for inner in value]
    return _text(value)


def _text(value: Json) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
