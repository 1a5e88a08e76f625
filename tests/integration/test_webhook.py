"""A webhook against a real receiver: what arrives, what is never called, and what is tried again."""

from __future__ import annotations

import asyncio
import base64
import hmac
import itertools
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from evalforge.errors import DestinationRefusedError, DestinationUnavailableError
from evalforge.webhook import ATTEMPTS, Webhook, post_signed, resolved
from tests.webhooks import OK, Answer, Certificate, Heard, Receiver, answer, certificate

HOST = "hooks.example.test"
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = b'{"type":"test"}'

Start = Callable[..., Receiver]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts receivers, which are stopped at the end."""
    started: list[Receiver] = []

    def begin(*answers: Answer, served: Certificate | None = None, address: str = "127.0.0.1", port: int = 0) -> Receiver:
        started.append(Receiver(*answers, served=served, address=address, port=port))
        return started[-1]

    yield begin
    for receiver in started:
        receiver.close()


@pytest.fixture
def good(tmp_path: Path) -> Certificate:
    return certificate(tmp_path, HOST, "localhost", "127.0.0.1")


class Names:
    """A resolver that gives these addresses in turn, the last of them for ever."""

    def __init__(self, *answers: Sequence[str] | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        told = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(told, Exception):
            raise told
        return told


class Sleeps(list[float]):
    """Sleeps in no time, and keeps how long it should have been."""

    async def __call__(self, seconds: float) -> None:
        self.append(seconds)


def local(url: str, **more: object) -> Webhook:
    """A webhook on loopback that does not wait between attempts."""
    return Webhook(url, SECRET, **{"sleep": Sleeps(), **more})  # type: ignore[arg-type]


async def post(webhook: Webhook) -> None:
    await webhook.post(BODY, content_type="application/json", message_id="msg_1")


def is_signed(heard: Heard) -> bool:
    signed = f"{heard.headers['webhook-id']}.{heard.headers['webhook-timestamp']}.".encode() + heard.body
    return heard.headers["webhook-signature"] == "v1," + base64.b64encode(hmac.digest(KEY, signed, "sha256")).decode()


def told_by(error: BaseException) -> str:
    """Everything that an error and its causes say."""
    told = ""
    cause: BaseException | None = error
    while cause is not None:
        told += f"{cause} {cause!r} "
        cause = cause.__cause__ or cause.__context__
    return told


def failed(error: BaseException) -> str:
    """The same, after a look that nothing secret is in it."""
    told = told_by(error)
    assert "hush" not in told
    assert SECRET.removeprefix("whsec_") not in told
    return told


async def test_what_arrives_is_signed_whole_and_for_the_host(start: Start, good: Certificate) -> None:
    receiver = start(served=good)
    names = Names(["127.0.0.1"])
    webhook = local(receiver.url(HOST), resolve=names, allows=lambda _: True, trusted=good.trusting)
    await webhook.post(BODY, content_type="application/json", headers={"X-Package": "p1"}, message_id="evt_1")
    [heard] = receiver.heard
    assert heard.line == "POST /hook/hush?token=hush HTTP/1.1"
    assert heard.body == BODY
    assert heard.sni == HOST
    assert heard.headers["host"] == f"{HOST}:{receiver.port}"
    assert heard.headers["webhook-id"] == "evt_1"
    assert abs(int(heard.headers["webhook-timestamp"]) - time.time()) < 60
    assert is_signed(heard)
    assert heard.headers["content-type"] == "application/json"
    assert heard.headers["x-package"] == "p1"
    assert not {"cookie", "authorization", "accept-encoding"} & heard.headers.keys()
    assert names.asked == [(HOST, receiver.port)]


async def test_an_international_name_is_asked_for_and_certified_as_it_is_written(start: Start, tmp_path: Path) -> None:
    name = "xn--bcher-kva.example.test"
    good = certificate(tmp_path, name)
    receiver = start(served=good)
    names = Names(["127.0.0.1"])
    webhook = local(receiver.url(name.upper()), resolve=names, allows=lambda _: True, trusted=good.trusting)
    await post(webhook)
    [heard] = receiver.heard
    assert (heard.sni, heard.headers["host"]) == (name, f"{name}:{receiver.port}")
    assert names.asked == [(name, receiver.port)]
    assert name in repr(webhook)


async def test_plain_http_reaches_this_machine_only(start: Start) -> None:
    receiver = start()
    await post_signed(receiver.url("localhost"), SECRET, BODY, content_type="application/json")
    [heard] = receiver.heard
    assert is_signed(heard)
    assert heard.headers["webhook-id"].startswith("msg_")
    assert "127.0.0.1" in await resolved("localhost", 80)


async def test_a_certificate_for_another_name_gets_nothing(start: Start, tmp_path: Path) -> None:
    other = certificate(tmp_path, "other.example.test")
    receiver = start(served=other)
    webhook = local(receiver.url(HOST), resolve=Names(["127.0.0.1"]), allows=lambda _: True, trusted=other.trusting)
    with pytest.raises(DestinationRefusedError, match="certificate") as refused:
        await post(webhook)
    failed(refused.value)
    assert receiver.heard == []


async def test_a_certificate_that_nobody_vouches_for_gets_nothing(start: Start, good: Certificate) -> None:
    receiver = start(served=good)
    with pytest.raises(DestinationRefusedError, match="certificate") as refused:
        await post(local(receiver.url("localhost")))
    failed(refused.value)
    assert receiver.heard == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 304])
async def test_a_redirect_is_refused_and_not_followed(start: Start, status: int) -> None:
    target = start()
    receiver = start(answer(status, f"Location: {target.url()}"))
    with pytest.raises(DestinationRefusedError, match=f"redirects \\({status}\\)") as refused:
        await post(local(receiver.url()))
    failed(refused.value)
    assert (len(receiver.heard), target.connection_count) == (1, 0)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 410, 413, 422])
async def test_a_refusal_is_not_tried_again(start: Start, status: int) -> None:
    receiver = start(answer(status))
    with pytest.raises(DestinationRefusedError, match=str(status)) as refused:
        await post(local(receiver.url()))
    failed(refused.value)
    assert len(receiver.heard) == 1


async def test_a_flaky_receiver_is_tried_again_until_it_takes_the_same_message(start: Start) -> None:
    receiver = start(answer(503), None, answer(429, "Retry-After: 7"), OK)
    sleeps, clock = Sleeps(), itertools.count(1_700_000_000)
    await post(local(receiver.url(), sleep=sleeps, now=lambda: next(clock)))
    assert len(receiver.heard) == 4
    assert {(heard.headers["webhook-id"], heard.body) for heard in receiver.heard} == {("msg_1", BODY)}
    assert all(map(is_signed, receiver.heard))
    assert len({heard.headers["webhook-timestamp"] for heard in receiver.heard}) == 4, "each attempt is signed anew"
    assert len(sleeps) == 3
    assert sleeps[2] >= 7


async def test_a_receiver_that_stays_down_is_given_up(start: Start) -> None:
    receiver = start(answer(500))
    with pytest.raises(DestinationUnavailableError, match="HTTP 500") as failure:
        await post(local(receiver.url()))
    failed(failure.value)
    assert len(receiver.heard) == ATTEMPTS


@pytest.mark.parametrize(
    ("retry_after", "said"), [("3600", 3600.0), ("86401", None), ("-1", None), ("1e999", None), ("²", None), ("", None)]
)
async def test_a_receiver_that_asks_for_a_long_wait_gets_it(start: Start, retry_after: str, said: float | None) -> None:
    receiver = start(answer(503, f"Retry-After: {retry_after}"))
    sleeps = Sleeps()
    with pytest.raises(DestinationUnavailableError) as failure:
        await post(local(receiver.url(), sleep=sleeps))
    assert failure.value.retry_after_s == said
    assert len(receiver.heard) == (1 if said else ATTEMPTS)
    assert all(seconds <= 10 for seconds in sleeps)


def says_nothing(connection: socket.socket) -> None:
    connection.recv(1)


def drips(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def promises(connection: socket.socket) -> None:
    while True:
        connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.02)


@pytest.mark.parametrize("told", [says_nothing, drips, promises])
async def test_a_slow_receiver_times_out_whatever_it_does_meanwhile(start: Start, told: Answer) -> None:
    receiver = start(told)
    with pytest.raises(DestinationUnavailableError, match=r"no answer within 0\.2 s") as failure:
        await post(local(receiver.url(), timeout_s=0.2))
    failed(failure.value)


def floods(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
    while True:
        connection.sendall(b"<" * 65536)


async def test_an_endless_answer_is_not_read(start: Start) -> None:
    receiver = start(floods)
    await post(local(receiver.url()))
    assert len(receiver.heard) == 1


@pytest.mark.parametrize(
    "told",
    [
        b"\x16\x03\x01 what is this",
        b"HTTP/1.1 200 OK\r\n" + b"X-Much: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 999999 Odd\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
)
async def test_nonsense_is_no_answer(start: Start, told: bytes) -> None:
    with pytest.raises(DestinationUnavailableError) as failure:
        await post(local(start(told).url()))
    assert "what is this" not in failure.value.message
    failed(failure.value)


async def test_a_protocol_that_nobody_asked_for_is_refused(start: Start) -> None:
    switching = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    with pytest.raises((DestinationRefusedError, DestinationUnavailableError)):
        await post(local(start(switching).url()))


async def test_a_name_that_changes_its_mind_gains_nothing(start: Start, good: Certificate) -> None:
    """DNS rebinding: what was checked is what is called; a second look-up would have led to the other address."""
    checked = start(served=good, address="127.0.0.2")
    other = start(served=good, address="127.0.0.3", port=checked.port)
    names = Names(["127.0.0.2"], ["127.0.0.3"])
    webhook = local(checked.url(HOST), resolve=names, allows=lambda address: address == "127.0.0.2", trusted=good.trusting)
    await post(webhook)
    assert (len(checked.heard), other.connection_count, len(names.asked)) == (1, 0, 1)
    with pytest.raises(DestinationRefusedError, match="not public"):
        await post(webhook)
    assert other.connection_count == 0


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["8.8.8.8", "127.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["10.0.0.1"],
        ["fe80::1%lo"],
        ["nonsense"],
    ],
)
async def test_a_public_name_that_leads_into_the_house_is_never_called(
    start: Start, good: Certificate, addresses: list[str]
) -> None:
    receiver = start(served=good)
    webhook = local(receiver.url(HOST), resolve=Names(addresses), trusted=good.trusting)
    with pytest.raises(DestinationRefusedError, match="not public") as refused:
        await post(webhook)
    failed(refused.value)
    assert receiver.connection_count == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "2130706433", "0x7f000001", "127.1", "0"])
async def test_an_address_written_oddly_is_no_way_in(start: Start, good: Certificate, host: str) -> None:
    receiver = start(served=good)
    webhook = local(receiver.url(host), trusted=good.trusting)
    if host in ("127.0.0.1",):
        await post(webhook)
        return
    with pytest.raises((DestinationRefusedError, DestinationUnavailableError)):
        await post(webhook)
    assert receiver.connection_count == 0


async def test_this_machines_name_that_leads_elsewhere_is_not_called(start: Start) -> None:
    with pytest.raises(DestinationRefusedError, match="not public"):
        await post(local(start().url("localhost"), resolve=Names(["8.8.8.8"])))


async def test_the_next_address_is_tried_where_one_does_not_answer(start: Start, good: Certificate) -> None:
    receiver = start(served=good)
    names = Names(["127.0.0.9", "127.0.0.1"])
    await post(local(receiver.url(HOST), resolve=names, allows=lambda _: True, trusted=good.trusting))
    assert len(receiver.heard) == 1


@pytest.mark.parametrize(
    "trouble", [socket.gaierror(-2, "Name or service not known"), OSError("no network"), []], ids=["name", "net", "none"]
)
async def test_a_name_that_leads_nowhere_is_tried_again(trouble: Exception | list[str]) -> None:
    names = Names(trouble)
    with pytest.raises(DestinationUnavailableError, match="leads nowhere") as failure:
        await post(local(f"https://{HOST}/hush", resolve=names))
    failed(failure.value)
    assert len(names.asked) == ATTEMPTS


async def test_a_name_that_none_can_have_is_refused() -> None:
    with pytest.raises(DestinationRefusedError):
        await post(local(f"https://{'a' * 70}.example.test/hush"))


async def test_no_proxy_and_no_variable_takes_part(start: Start, good: Certificate, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, receiver = start(), start(served=good)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url(path=""))
    monkeypatch.setenv("SSL_CERT_FILE", str(good.path))
    await post(local(receiver.url(HOST), resolve=Names(["127.0.0.1"]), allows=lambda _: True, trusted=good.trusting))
    assert (len(receiver.heard), proxy.connection_count) == (1, 0)
    with pytest.raises(DestinationRefusedError, match="certificate"):
        await post(local(receiver.url("localhost")))


HOSTILE_HEADERS = [
    {"X-A": "b\r\nwebhook-id: evil"},
    {"X-A": "b\nX-B: c"},
    {"X-A": "b\0"},
    {"X-A": "é"},
    {"X-A": ""},
    {"X-A\r\nX-B": "c"},
    {"X A": "b"},
    {"": "b"},
    {"X-A": "b" * 2_000},
    {"Host": "evil.example"},
    {"content-length": "0"},
    {"Transfer-Encoding": "chunked"},
    {"Webhook-Signature": "v1,evil"},
    {"Proxy-Authorization": "evil"},
    {"Content-Type": "text/html"},
]


@pytest.mark.parametrize("headers", HOSTILE_HEADERS, ids=str)
async def test_a_hostile_header_is_not_sent(start: Start, headers: dict[str, str]) -> None:
    receiver = start()
    with pytest.raises(ValueError, match="header"):
        await local(receiver.url()).post(BODY, content_type="application/json", headers=headers)
    assert receiver.connection_count == 0


@pytest.mark.parametrize("message_id", ["", "a.1", "a\r\nb", "a b", "ü", "x" * 101])
async def test_a_hostile_id_is_not_sent(start: Start, message_id: str) -> None:
    receiver = start()
    with pytest.raises(ValueError, match="id"):
        await local(receiver.url()).post(BODY, content_type="application/json", message_id=message_id)
    with pytest.raises(ValueError, match="header"):
        await local(receiver.url()).post(BODY, content_type="text/plain\r\nX: y")
    assert receiver.connection_count == 0


async def test_no_log_line_shows_the_url(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        await post(local(start().url()))
    assert caplog.text == ""


async def test_many_may_post_at_once(start: Start) -> None:
    receiver = start()
    webhook = local(receiver.url())
    await asyncio.gather(*(post(webhook) for _ in range(20)))
    assert len(receiver.heard) == 20
