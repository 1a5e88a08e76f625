"""A TCP proxy between ingestion and Datadog that knows where a request and its answer end, and breaks what it is told to."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

WireKind = Literal[
    "refuse",  # nobody listens any more, from this request on and until `heal`
    "reset",  # the connection is reset before any answer
    "reset_in_body",  # ... in the middle of the body
    "cut_in_body",  # the connection ends in the middle of the body, as if that were all
    "hang",  # no answer
    "hang_in_body",  # half of the answer, and then no more
    "drip",  # the answer comes in small pieces
    "trickle",  # the answer comes a byte at a time and would take for ever
    "revoked",  # 401 for whoever brings a revoked key
    "again",  # spans of the page before come along once more
    "same_cursor",  # the answer leads back to where it was asked
    "call",  # nothing goes wrong, but `before` and `afterwards` are called
]

PIECE_BYTES, PIECE_PAUSE_S = 700, 0.002
TRICKLE_PAUSE_S = 0.05
SPANS_AGAIN = 7

Call = Callable[[], Awaitable[None]]


@dataclass
class Wire:
    """One way for the wire to fail. It lets `after` requests pass, then strikes `times` times (None: for ever).

    `before` is awaited before the request goes on to Datadog, `afterwards` once its answer has been passed on.
    """

    kind: WireKind
    after: int = 0
    times: int | None = 1
    before: Call | None = None
    afterwards: Call | None = None
    seen: int = field(default=0, init=False)
    hits: int = field(default=0, init=False)

    def strikes(self) -> bool:
        """Whether this request is hit; counts it."""
        self.seen += 1
        if self.seen <= self.after or (self.times is not None and self.hits >= self.times):
            return False
        self.hits += 1
        return True


class _BrokenOffError(Exception):
    """Datadog's side ended in the middle of an answer, of which `part` came."""

    def __init__(self, part: bytes, *, is_reset: bool) -> None:
        super().__init__()
        self.part = part
        self.is_reset = is_reset


@dataclass(frozen=True)
class _Line:
    """Both ends of one connection: the caller's, and ours to Datadog."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    back: asyncio.StreamReader
    there: asyncio.StreamWriter

    async def ask(self, request: bytes) -> bytes:
        """Datadog's answer, whole."""
        self.there.write(request)
        part = b""
        try:
            part = await self.back.readuntil(b"\r\n\r\n")
            part += await self.back.readexactly(_body_length(part))
        except asyncio.IncompleteReadError as error:
            raise _BrokenOffError(part + error.partial, is_reset=False) from error
        except ConnectionError as error:
            raise _BrokenOffError(part, is_reset=True) from error
        return part

    async def say(self, answer: bytes) -> None:
        """Passes an answer on."""
        self.writer.write(answer)
        await self.writer.drain()

    async def drip(self, answer: bytes, piece_bytes: int, pause_s: float) -> None:
        """Passes an answer on in pieces."""
        for at in range(0, len(answer), piece_bytes):
            await self.say(answer[at : at + piece_bytes])
            await asyncio.sleep(pause_s)

    def reset(self) -> None:
        """Drops the caller's connection hard: it sees a reset, not an end."""
        reset(self.writer)


class Proxy:
    """Serves on a loopback port in front of `target` (a URL) while the block runs; `url` is its address.

    `faults` are asked in order at every request, `requests` counts these. `revoked_keys` are application keys that a fault
    of that kind refuses.
    """

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "", parts.port or 80)
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._page_before = b""
        self.faults: list[Wire] = []
        self.requests = 0
        self.revoked_keys: set[bytes] = set()

    @property
    def url(self) -> str:
        """Where it listens, or did."""
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Proxy:
        await self.heal()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refuse(self) -> None:
        """Stops listening, and resets every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            reset(writer)

    async def heal(self) -> None:
        """Lets everything through from now on, on the same port as before."""
        self.faults = []
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
            self._port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        back, there = await asyncio.open_connection(*self._target)
        line = _Line(reader, writer, back, there)
        try:
            while await self._exchange(line):
                pass
        except _BrokenOffError as broken:
            writer.write(broken.part)
            if broken.is_reset:
                line.reset()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the caller has gone
        finally:
            self._tasks.discard(task)
            self._writers.discard(writer)
            writer.close()
            there.close()

    async def _exchange(self, line: _Line) -> bool:
        """One request and its answer; whether the connection goes on."""
        head = await line.reader.readuntil(b"\r\n\r\n")
        request = head + await line.reader.readexactly(_body_length(head))
        self.requests += 1
        fault = next((fault for fault in self.faults if fault.strikes()), Wire("call"))
        if fault.before is not None:
            await fault.before()
        if not await self._before_datadog(fault, request, line):
            return fault.kind == "revoked"
        answer = await line.ask(request)
        goes_on = await self._after_datadog(fault, request, answer, line)
        if fault.afterwards is not None:
            await fault.afterwards()
        return goes_on

    async def _before_datadog(self, fault: Wire, request: bytes, line: _Line) -> bool:
        """Whether the request may go on to Datadog."""
        match fault.kind:
            case "refuse":
                self.refuse()
            case "reset":
                line.reset()
            case "hang":
                await line.reader.read()  # until the caller has had enough
            case "revoked" if any(key in request for key in self.revoked_keys):
                await line.say(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\n\r\n{}")
            case _:
                return True
        return False

    async def _after_datadog(self, fault: Wire, request: bytes, answer: bytes, line: _Line) -> bool:
        """Passes the answer on, or what the fault makes of it; whether the connection goes on."""
        middle = len(answer) - len(_body(answer)) // 2
        match fault.kind:
            case "reset_in_body":
                await line.say(answer[:middle])
                line.reset()
            case "cut_in_body":
                await line.say(answer[:middle])
            case "hang_in_body":
                await line.say(answer[:middle])
                await line.reader.read()
            case "drip":
                await line.drip(answer, PIECE_BYTES, PIECE_PAUSE_S)
                return True
            case "trickle":
                await line.drip(answer, 1, TRICKLE_PAUSE_S)
            case _:
                if fault.kind == "again":
                    answer = _with_spans_of(self._page_before, answer)
                if fault.kind == "same_cursor":
                    answer = _leading_back(request, answer)
                self._page_before = answer
                await line.say(answer)
                return True
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Drops a connection hard."""
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _body_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


def _body(message: bytes) -> bytes:
    return message.partition(b"\r\n\r\n")[2]


def _with_body(answer: bytes, body: bytes) -> bytes:
    head = answer.partition(b"\r\n\r\n")[0]
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*lines, b"content-length: %d" % len(body), b"", b""]) + body


def _with_spans_of(page_before: bytes, answer: bytes) -> bytes:
    """The answer with the last spans of the page before in front of its own."""
    if not _body(page_before):
        return answer
    page = json.loads(_body(answer))
    page["data"] = [*json.loads(_body(page_before))["data"][-SPANS_AGAIN:], *page["data"]]
    return _with_body(answer, json.dumps(page).encode())


def _leading_back(request: bytes, answer: bytes) -> bytes:
    """The answer with the cursor that was asked with."""
    cursor = json.loads(_body(request))["data"]["attributes"]["page"].get("cursor")
    page = json.loads(_body(answer))
    page["meta"] = {"page": {"after": cursor}}
    return _with_body(answer, json.dumps(page).encode())
