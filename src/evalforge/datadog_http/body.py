"""Reading a response's body with a bound on what it unpacks to, so that no answer can fill the memory."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import httpx

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_ENCODINGS = {"gzip": _GZIP_OR_ZLIB, "x-gzip": _GZIP_OR_ZLIB, "deflate": _GZIP_OR_ZLIB}


class BodyTooLargeError(Exception):
    """The body unpacks to more than the bound; what was read of it is gone."""


class BodyUnreadableError(Exception):
    """The body is cut off, or packed in a way that was not asked for."""


async def read_body(response: httpx.Response, max_bytes: int) -> bytearray:
    """The unpacked body of a streamed response, at most `max_bytes` of it ever in memory (and one network chunk).

    httpx's own decoder is not used: it unpacks each network chunk whole, and 64 KB of gzip can become 64 MB.

    Raises:
        BodyTooLargeError, BodyUnreadableError, httpx.TransportError
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return await _joined(response.aiter_raw(), max_bytes)
    if encoding not in _ENCODINGS:
        raise BodyUnreadableError("the body is in an encoding that was not asked for")
    return await _unpacked(response.aiter_raw(), max_bytes, _ENCODINGS[encoding])


async def _joined(chunks: AsyncIterator[bytes], max_bytes: int) -> bytearray:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > max_bytes:
            raise BodyTooLargeError
    return body


async def _unpacked(chunks: AsyncIterator[bytes], max_bytes: int, window_bits: int) -> bytearray:
    body = bytearray()
    unpacker = zlib.decompressobj(window_bits)
    is_empty = True
    async for chunk in chunks:
        is_empty = False
        try:
            body += unpacker.decompress(chunk, max_bytes + 1 - len(body))
        except zlib.error as error:
            raise BodyUnreadableError("the packed body is damaged") from error
        if len(body) > max_bytes:
            raise BodyTooLargeError
        if unpacker.unused_data:
            raise BodyUnreadableError("something follows the packed body")
    if not unpacker.eof and not is_empty:
        raise BodyUnreadableError("the packed body is cut off")
    return body
