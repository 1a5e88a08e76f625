"""The Datadog client against a server that answers, byte for byte, what it is told to: every fault, and its bounds."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import json
import logging
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
import pytest

from evalforge.core.ports import SourceStatus
from evalforge.core.window import Window
from evalforge.errors import (
    CredentialsError,
    EvalForgeError,
    QuotaExhaustedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from evalforge.sources.datadog.client import MAX_BODY_BYTES, DatadogClient, SearchRequest
from evalforge.sources.datadog.paging import Pagination, Part, page_size_for

API_KEY, APP_KEY = "0123456789abcdef0123456789abcdef", "a" * 40
WINDOW = Window(1_700_000_000_000, 1_700_000_600_000)
Reply = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-length: {len(body) if length is None else length}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def page(items: int = 1, cursor: str | None = None, status: str = "done", *headers: str) -> bytes:
    document = {
        "data": [{"n": n} for n in range(items)],
        "meta": {"status": status, "page": {"after": cursor} if cursor else None},
    }
    return http(200, orjson.dumps(document), "content-type: application/json", *headers)


async def reset(writer: asyncio.StreamWriter) -> None:
    raw: socket.socket = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Scripted:
    """Answers each request with the next reply, the last one for ever; `heard` are the requests as they came."""

    def __init__(self, *replies: Reply) -> None:
        self.replies = list(replies)
        self.heard: list[tuple[str, dict[str, str], Any]] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.heard.append((head[0], headers, json.loads(body) if body else None))
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
            if isinstance(reply, bytes):
                writer.write(reply)
                await writer.drain()
            else:
                await reply(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def limits(self) -> list[int]:
        return [body["data"]["attributes"]["page"]["limit"] for _, _, body in self.heard]

    @property
    def cursors(self) -> list[str | None]:
        return [body["data"]["attributes"]["page"].get("cursor") for _, _, body in self.heard]


@asynccontextmanager
async def serving(*replies: Reply) -> AsyncIterator[Scripted]:
    script = Scripted(*replies)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()


class Sleeps:
    """Remembers how long the client wanted to wait, and does not wait: its own clock goes on instead."""

    def __init__(self) -> None:
        self.asked_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.asked_s.append(seconds)
        await asyncio.sleep(0)

    def clock(self) -> float:
        return sum(self.asked_s)


def client_of(url: str, sleeps: Sleeps | None = None, retry_budget_s: float = 60.0) -> DatadogClient:
    sleeps = sleeps or Sleeps()
    return DatadogClient(url, API_KEY, APP_KEY, retry_budget_s=retry_budget_s, sleep=sleeps, clock=sleeps.clock)


def search(source: str = "llm_obs", **fields: Any) -> SearchRequest:
    return SearchRequest(
        source, fields.pop("query", ""), "1700000000000", "1700000600000", fields.pop("limit", 10), **fields
    )


async def all_parts(pagination: Pagination) -> list[Part]:
    parts = []
    while (part := await pagination.next()) is not None:
        parts.append(part)
    return parts


# -- what is asked --------------------------------------------------------------------------------------------------------


TIMES = {"from": "1700000000000", "to": "1700000600000"}


@pytest.mark.parametrize(
    ("request_", "path", "kind", "attributes"),
    [
        (
            search(query="@status:error", cursor="c"),
            "/api/v2/llm-obs/v1/spans/events/search",
            "spans",
            {
                "filter": {**TIMES, "query": "@status:error"},
                "page": {"limit": 10, "cursor": "c"},
                "options": {"include_attachments": False},
            },
        ),
        (
            search(include_attachments=True),
            "/api/v2/llm-obs/v1/spans/events/search",
            "spans",
            {"filter": TIMES, "page": {"limit": 10}, "options": {"include_attachments": True}},
        ),
        (
            search("apm"),
            "/api/v2/spans/events/search",
            "search_request",
            {"filter": {**TIMES, "query": "*"}, "page": {"limit": 10}},
        ),
    ],
)
async def test_a_search_is_asked_as_documented(request_: SearchRequest, path: str, kind: str, attributes: Any) -> None:
    async with serving(page()) as script, client_of(script.url) as client:
        await client.search(request_, SourceStatus("x"))
    heard_line, headers, heard = script.heard[0]
    assert heard_line == f"POST {path} HTTP/1.1"
    assert heard == {"data": {"type": kind, "attributes": {**attributes, "sort": "timestamp"}}}
    assert (headers["dd-api-key"], headers["dd-application-key"]) == (API_KEY, APP_KEY)
    assert headers["content-type"] == "application/json"
    assert headers["accept-encoding"] == "gzip"


# -- faults that pass -----------------------------------------------------------------------------------------------------

GOOD = page(2, None, "done", "x-ratelimit-limit: 300", "x-ratelimit-remaining: 299")
BODY = orjson.dumps({"data": [1, 2]})


async def cut(writer: asyncio.StreamWriter) -> None:
    writer.write(http(200, BODY[:5], length=len(BODY)))
    await writer.drain()


FAULTS: dict[str, Reply] = {
    "reset": reset,
    "cut off": cut,
    "truncated JSON": http(200, BODY[:-3]),
    "HTML with 200": http(200, b"<html>log in</html>", "content-type: text/html"),
    "nothing": http(200, b""),
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "500": http(500, b'{"errors":["boom"]}'),
    "502 HTML": http(502, b"<html>"),
    "503": http(503, b""),
    "503 with a quota": http(503, b"", "x-ratelimit-remaining: 299", "x-ratelimit-reset: 1800"),
    "408": http(408, b""),
    "429 with reset": http(429, b"<html>", "x-ratelimit-reset: 3"),
    "429 without headers": http(429, b'{"errors":["Rate limit"]}'),
    "damaged gzip": http(200, b"not gzip", "content-encoding: gzip"),
    "cut gzip": http(200, gzip.compress(BODY * 50)[:-20], "content-encoding: gzip"),
    "gzip and more": http(200, gzip.compress(BODY) + b"more", "content-encoding: gzip"),
    "unknown encoding": http(200, BODY, "content-encoding: br"),
    "an error with 200": http(200, b'{"errors":["x"]}'),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_passes_is_retried(fault: str) -> None:
    sleeps, status = Sleeps(), SourceStatus("llm_obs")
    async with serving(FAULTS[fault], FAULTS[fault], GOOD) as script, client_of(script.url, sleeps) as client:
        answer = await client.search(search(), status)
    assert answer is not None
    assert len(answer.items) == 2
    assert (status.request_count, status.retry_count, len(sleeps.asked_s)) == (3, 2, 2)
    assert status.rate_limit["remaining"] == 299
    if fault == "429 with reset":
        assert all(4 <= seconds <= 5 for seconds in sleeps.asked_s), "a second more, since resets are told in whole ones"
    else:
        assert all(0 < seconds <= 1 for seconds in sleeps.asked_s)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_that_stays_ends_with_the_budget(fault: str) -> None:
    async with serving(FAULTS[fault]) as script, client_of(script.url, retry_budget_s=0) as client:
        with pytest.raises((SourceUnavailableError, QuotaExhaustedError)) as raised:
            await client.search(search(), SourceStatus("llm_obs"))
    assert isinstance(raised.value, QuotaExhaustedError) == fault.startswith("429")
    assert raised.value.retry_after_s == (3 if fault == "429 with reset" else None)
    assert len(script.heard) <= 1


async def test_a_reset_beyond_the_budget_is_not_waited_for() -> None:
    sleeps = Sleeps()
    async with serving(http(429, b"", "x-ratelimit-reset: 1800")) as script, client_of(script.url, sleeps) as client:
        with pytest.raises(QuotaExhaustedError) as raised:
            await client.search(search(), SourceStatus("apm"))
    assert (raised.value.retry_after_s, sleeps.asked_s, len(script.heard)) == (1800, [], 1)
    assert "1800 s" in str(raised.value)


async def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with client_of(f"http://127.0.0.1:{port}", retry_budget_s=0) as client:
        with pytest.raises(SourceUnavailableError, match="ConnectError"):
            await client.search(search(), SourceStatus("llm_obs"))
        with pytest.raises(SourceUnavailableError, match="ConnectError"):
            await client.validate_keys()


async def test_a_server_that_never_answers_times_out() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("silent", request=request)

    client = DatadogClient("https://api.datadoghq.com", API_KEY, APP_KEY, retry_budget_s=0, transport=Silent())
    async with client:
        with pytest.raises(SourceUnavailableError, match="ReadTimeout"):
            await client.search(search(), SourceStatus("llm_obs"))


# -- refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b'{"errors":["Forbidden"]}', b"<html>403</html>", b""])
async def test_refused_keys_stop_at_once_and_name_a_wrong_site(status: int, body: bytes) -> None:
    async with serving(http(status, body)) as script, client_of(script.url) as client:
        for refused in (client.search(search(), SourceStatus("llm_obs")), client.validate_keys(), client.probe("apm")):
            with pytest.raises(SourceRefusedError, match="DATADOG_SITE") as raised:
                await refused
            assert raised.value.status == status
            assert "DATADOG_API_KEY" in str(raised.value)
    assert len(script.heard) == 3


@pytest.mark.parametrize("status", [400, 404, 405, 413, 422])
async def test_a_refused_request_is_not_repeated(status: int) -> None:
    async with serving(http(status, b'{"errors":[]}')) as script, client_of(script.url) as client:
        with pytest.raises(SourceRefusedError) as raised:
            await client.search(search(), SourceStatus("llm_obs"))
    assert (raised.value.status, len(script.heard)) == (status, 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed(status: int) -> None:
    async with serving(page()) as elsewhere, serving(http(status, b"", f"location: {elsewhere.url}/x")) as script:
        async with client_of(script.url) as client:
            with pytest.raises(SourceRefusedError, match="redirects"):
                await client.search(search(), SourceStatus("llm_obs"))
            with pytest.raises(SourceRefusedError, match="redirects"):
                await client.validate_keys()
        assert elsewhere.heard == []


async def test_an_organisation_without_data_is_an_empty_answer() -> None:
    reply = http(500, b'{"errors":[{"detail":"No valid indexes specified"}]}')
    async with serving(reply) as script, client_of(script.url) as client:
        answer = await client.search(search(), SourceStatus("llm_obs"))
    assert answer is not None
    assert (answer.items, answer.cursor, len(script.heard)) == ([], None, 1)


@pytest.mark.parametrize(("cursor", "item_count"), [("next", 0), (None, 7)])
async def test_without_an_index_in_the_middle_of_a_reading_is_an_outage(cursor: str | None, item_count: int) -> None:
    reply = http(500, b'{"errors":[{"detail":"No valid indexes specified"}]}')
    async with serving(reply, GOOD) as script, client_of(script.url) as client:
        asked = dataclasses.replace(search(), cursor=cursor)
        answer = await client.search(asked, SourceStatus("llm_obs", item_count=item_count))
    assert answer is not None
    assert (len(answer.items), len(script.heard)) == (2, 2)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"status":"no"}'])
async def test_a_key_check_by_somebody_else_does_not_count(body: bytes) -> None:
    async with serving(http(200, body)) as script, client_of(script.url) as client:
        with pytest.raises(SourceUnavailableError):
            await client.validate_keys()
    assert script.heard[0][0] == "GET /api/v2/validate_keys HTTP/1.1"


async def test_good_keys_are_valid() -> None:
    async with serving(http(200, b'{"status":"ok"}'), page()) as script, client_of(script.url) as client:
        await client.validate_keys()
        await client.probe("llm_obs")
    assert [one[0].split()[0] for one in script.heard] == ["GET", "POST"]
    assert script.heard[1][2]["data"]["attributes"]["page"] == {"limit": 1}


# -- keys -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "   ", "abc\r\nX-Evil: 1", "ab cd", "schlüssel", "a\x00b", "\ud800"])
def test_what_no_header_may_hold_is_no_key(key: str) -> None:
    for keys in ((key, APP_KEY), (API_KEY, key)):
        with pytest.raises(CredentialsError, match=r"DATADOG_A(PI|PP)_KEY") as raised:
            DatadogClient("https://api.datadoghq.com", *keys, retry_budget_s=1)
        assert not key.strip() or key not in str(raised.value)


async def test_keys_are_trimmed_and_appear_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    for reply in (http(403, b""), http(500, API_KEY.encode()), http(429, b""), http(302, b""), http(200, API_KEY.encode())):
        async with serving(reply) as script:
            client = DatadogClient(script.url, f" {API_KEY}\n", f"{APP_KEY}\n", retry_budget_s=0)
            async with client:
                with pytest.raises(EvalForgeError) as raised:
                    await client.search(search(), SourceStatus("llm_obs"))
            error: BaseException | None = raised.value
            while error is not None:
                said.append(f"{error!r} {error}")
                error = error.__cause__
            said.append(repr(client))
        assert script.heard[0][1]["dd-api-key"] == API_KEY
    everything = "\n".join([*said, *(record.getMessage() for record in caplog.records)])
    assert API_KEY not in everything
    assert APP_KEY not in everything


# -- pages ----------------------------------------------------------------------------------------------------------------


def pagination(client: DatadogClient, status: SourceStatus, **fields: Any) -> Pagination:
    return Pagination(client, "llm_obs", "", WINDOW, size=page_size_for("llm_obs"), status=status, **fields)


async def test_pages_follow_the_cursor_to_its_end_and_never_links_next() -> None:
    linked = orjson.dumps({"data": [1], "meta": {"page": {"after": "b"}}, "links": {"next": "http://127.0.0.1:1/evil"}})
    async with (
        serving(page(2, "a"), http(200, linked), page(0, "c"), http(200, b'{"data":[]}')) as script,
        client_of(script.url) as client,
    ):
        parts = await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert [(len(part.items), part.cursor, part.is_last) for part in parts] == [
        (2, "a", False),
        (1, "b", False),
        (0, "c", False),
        (0, None, True),
    ]
    assert script.cursors == [None, "a", "b", "c"]
    filters = [body["data"]["attributes"]["filter"] for _, _, body in script.heard]
    assert all(one == {"from": "1700000000000", "to": "1700000600000"} for one in filters)


async def test_a_page_that_was_read_is_not_read_again() -> None:
    async with (
        serving(page(2, "a"), FAULTS["500"], page(1, "b"), FAULTS["reset"], page(1)) as script,
        client_of(script.url) as client,
    ):
        parts = await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert [len(part.items) for part in parts] == [2, 1, 1]
    assert script.cursors.count(None) == 1


async def test_a_page_is_sized_by_the_bytes_of_the_one_before() -> None:
    heavy = orjson.dumps({"data": ["x" * 500_000] * 16, "meta": {"page": {"after": "a"}}})
    light = orjson.dumps({"data": ["x"] * 16, "meta": {"page": {"after": "b"}}})
    async with serving(http(200, heavy), http(200, light), page()) as script, client_of(script.url) as client:
        await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert script.limits == [1000, 12, 5000]


def endless(encoding: str | None) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """A body that never ends: plain, or as gzip whose every network chunk unpacks to a hundred times as much."""

    async def write(writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 X\r\nconnection: close\r\n" + (f"content-encoding: {encoding}\r\n" if encoding else "") + "\r\n"
        writer.write(head.encode())
        packer = zlib.compressobj(9, zlib.DEFLATED, 31)
        spaces = b" " * 1_000_000
        while True:
            writer.write(packer.compress(spaces) if encoding else spaces)
            await writer.drain()
            await asyncio.sleep(0)

    return write


@pytest.mark.parametrize("encoding", [None, "gzip"])
async def test_a_body_beyond_64_mb_is_given_up_and_asked_for_smaller(encoding: str | None) -> None:
    async with serving(endless(encoding), endless(encoding), page(3)) as script, client_of(script.url) as client:
        parts = await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert [len(part.items) for part in parts] == [3]
    assert script.limits == [1000, 250, 62]


async def test_a_gzip_bomb_is_never_unpacked_whole() -> None:
    bomb = gzip.compress(b" " * (4 * MAX_BODY_BYTES), 9)
    async with serving(http(200, bomb, "content-encoding: gzip")) as script, client_of(script.url) as client:
        assert await client.search(search(), SourceStatus("llm_obs")) is None
    assert len(script.heard) == 1


async def test_one_span_beyond_64_mb_is_refused_by_name() -> None:
    async with serving(endless("gzip")) as script, client_of(script.url) as client:
        size = page_size_for("llm_obs")
        size.shrink(10_000)
        with pytest.raises(SourceRefusedError, match="larger than 64 MB"):
            await Pagination(client, "llm_obs", "", WINDOW, size=size, status=SourceStatus("llm_obs")).next()


async def test_gzip_is_unpacked() -> None:
    async with serving(http(200, gzip.compress(BODY), "content-encoding: gzip")) as script, client_of(script.url) as client:
        answer = await client.search(search(), SourceStatus("llm_obs"))
    assert answer is not None
    assert (answer.items, answer.size_bytes) == ([1, 2], len(BODY))


async def test_a_partial_page_is_kept_and_asked_again_smaller() -> None:
    async with (
        serving(page(2, "x", "timeout"), page(0, None, "timeout"), page(4, "a"), page(1)) as script,
        client_of(script.url) as client,
    ):
        parts = await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert [(len(part.items), part.is_partial, part.is_last) for part in parts] == [
        (2, False, False),
        (4, False, False),
        (1, False, True),
    ]
    assert script.cursors == [None, None, None, "a"]
    assert script.limits[:3] == [1000, 2500, 1250], "the first answer taught a new size, which was then halved, twice"


async def test_a_page_that_stays_partial_is_accepted_and_marked() -> None:
    replies = [page(1, "a", "timeout")] * 4
    async with serving(*replies, page(1)) as script, client_of(script.url) as client:
        parts = await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert [part.is_partial for part in parts] == [False, False, False, True, False]
    assert script.cursors == [None, None, None, None, "a"]


async def test_the_same_cursor_again_is_no_endless_loop() -> None:
    async with serving(page(1, "a")) as script, client_of(script.url) as client:
        with pytest.raises(SourceUnavailableError, match="same llm_obs cursor"):
            await all_parts(pagination(client, SourceStatus("llm_obs")))
    assert len(script.heard) == 2


async def test_warnings_are_reported_once() -> None:
    reply = orjson.dumps({"data": [], "meta": {"warnings": [{"code": "unknown_index"}, {"code": "unknown_index"}]}})
    status = SourceStatus("llm_obs")
    async with serving(http(200, reply)) as script, client_of(script.url) as client:
        await all_parts(pagination(client, status))
    assert len(status.warnings) == 1
    assert "unknown_index" in status.warnings[0]
