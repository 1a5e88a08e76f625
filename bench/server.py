"""A lean Datadog for benchmarks: HTTP/1.1 by hand, spans by offset, nothing kept.

    python -m bench.server --spans 100000 --latency-ms 150

prints its URL and serves the LLM Observability search: ascending pages, absolute bounds, a cursor that is an offset, and a
query or none. Any query means "only the failing ones": the failing offsets are enumerated, since how fast a query is matched
is Datadog's affair. `/bench/stats` tells the requests so far and the CPU seconds that making pages took, so that a benchmark
can say what share of its time was the server's own; `/bench/change?share=0.01` gives 1 % of the failing spans other scores.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from bench.spans import Spans, Workload

SEARCH = "/api/v2/llm-obs/v1/spans/events/search"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_SEND_BUFFER = 4 * 1024 * 1024
_EVERYTHING = ("", "*")


class Asked(Exception):  # noqa: N818 - what was asked cannot be answered
    """A request that the bench server does not understand; `status` is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Answers:
    """What the server answers, and what that cost: `busy_s` are CPU seconds."""

    def __init__(self, spans: Spans) -> None:
        self.spans = spans
        self.requests = 0
        self.busy_s = 0.0

    def search(self, body: bytes) -> list[bytes]:
        """One page, in pieces.

        Raises:
            Asked: other than ascending order, or bounds that are not epoch milliseconds as text.
        """
        self.requests += 1
        began = time.thread_time()
        try:
            asked = orjson.loads(body)["data"]["attributes"]
            if asked.get("sort", "timestamp") != "timestamp":
                raise Asked(400, "only ascending order is served")
            bounds, page = asked["filter"], asked["page"]
            first, last = self.spans.load.offsets(int(bounds["from"]), int(bounds["to"]))
            cursor = int(page.get("cursor") or 0)
            only_failing = bounds.get("query", "") not in _EVERYTHING
            found = self.spans.page(max(first, cursor), last, page.get("limit", 10), only_failing=only_failing)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise Asked(400, f"{type(error).__name__}: {error}") from error
        after = b"null" if found.after is None else b'{"after":"%d"}' % found.after
        answer = [
            b'{"data":[',
            *found.parts,
            b'],"meta":{"elapsed":1,"request_id":"bench","status":"done","page":',
            after,
            b"}}",
        ]
        self.busy_s += time.thread_time() - began
        return answer

    def other(self, method: str, target: str) -> dict[str, Any]:
        """The answer to anything but a search.

        Raises:
            Asked: there is no such route.
        """
        url = urlsplit(target)
        if url.path == "/bench/stats":
            return {"requests": self.requests, "busy_s": self.busy_s, "cpu_s": time.process_time()}
        if url.path == "/bench/change":
            self.spans.changed = float(parse_qs(url.query)["share"][0])
            return {"changed": self.spans.changed}
        raise Asked(404, f"{method} {url.path} is not served")


class Connection(asyncio.Protocol):
    """One kept-alive connection; one request after the other."""

    def __init__(self, answers: Answers, latency_s: float) -> None:
        self._answers = answers
        self._latency_s = latency_s
        self._received = b""
        self._transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes the connection."""
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)

    def data_received(self, data: bytes) -> None:
        """Answers each request that is there whole."""
        self._received += data
        while (request := self._whole()) is not None:
            head, body = request
            method, target, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ", 2)
            latency_s = 0.0
            try:
                if method == "POST" and target == SEARCH:
                    status, content, latency_s = 200, self._answers.search(body), self._latency_s
                else:
                    status, content = 200, [orjson.dumps(self._answers.other(method, target))]
            except Asked as refused:
                status, content = refused.status, [orjson.dumps({"errors": [str(refused)]})]
            self._answer(status, content, latency_s)

    def _whole(self) -> tuple[bytes, bytes] | None:
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end:
            return None
        told = _LENGTH.search(head)
        length = int(told[1]) if told else 0
        if len(rest) < length:
            return None
        self._received = rest[length:]
        return head, rest[:length]

    def _answer(self, status: int, content: list[bytes], latency_s: float) -> None:
        head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        answer = b"".join([head % (status, sum(map(len, content))), *content])
        if latency_s:
            asyncio.get_running_loop().call_later(latency_s, self._transport.write, answer)
        else:
            self._transport.write(answer)


async def serve(load: Workload, latency_s: float, port: int) -> None:
    """Serves on loopback until cancelled; prints the URL once it does."""
    answers = Answers(Spans(load))
    server = await asyncio.get_running_loop().create_server(lambda: Connection(answers, latency_s), "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.server")
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=20, help="one span in so many fails")
    parser.add_argument("--span-bytes", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--port", type=int, default=0)
    given = parser.parse_args()
    load = Workload(given.spans, given.every, given.span_bytes, given.seed, int(time.time() * 1000))
    asyncio.run(serve(load, given.latency_ms / 1000, given.port))


if __name__ == "__main__":
    main()
