"""Who may talk to the service: the table of hosts, origins and fetch sites."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from evalforge.service.hosts import is_own_host, refusal

PUBLIC = frozenset({"evalforge.example.com", "other.example.com:8443"})


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "127.0.0.1",
        "127.0.0.1:8000",
        "127.8.8.8:1",
        "[::1]",
        "[::1]:8000",
        "evalforge.example.com",
        "evalforge.example.com:443",
        "other.example.com:8443",
    ],
)
def test_own_hosts(host: str) -> None:
    assert is_own_host(host, PUBLIC)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.com",
        "localhost.evil.com",
        "127.0.0.1.nip.io",
        "127.1",
        "0.0.0.0:8000",
        "[::]",
        "[::ffff:10.0.0.1]",
        "10.0.0.1",
        "other.example.com",
        "other.example.com:8444",
        "evalforge.example.com.evil.com",
        "x.evalforge.example.com",
        "localhost:8000:9000",
        "localhost:",
        "localhost:999999",
        "user@localhost",
        "localhost/",
        "localhost localhost",
        "localhost,evil.com",
        "[::1",
        "2130706433",
        "0x7f.1",
        "localhost\x00",
        "ⓛocalhost",
        "::1",
    ],
)
def test_foreign_hosts(host: str) -> None:
    assert not is_own_host(host, PUBLIC)


def headers(**values: str) -> Headers:
    return Headers(raw=[(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()])


SAME = {"host": "localhost:8000"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"origin": "http://localhost:8000"},
        {"origin": "HTTP://LOCALHOST:8000"},
        {"sec_fetch_site": "same-origin"},
        {"sec_fetch_site": "none"},
        {"origin": "http://localhost:8000", "sec_fetch_site": "same-origin"},
    ],
)
def test_state_changes_that_pass(more: dict[str, str]) -> None:
    assert refusal("POST", headers(**SAME, **more), PUBLIC) is None


@pytest.mark.parametrize(
    "more",
    [
        {"origin": "https://evil.com"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:3000"},
        {"origin": "http://127.0.0.1:8000"},
        {"origin": "https://localhost"},
        {"origin": "http://localhost:8000/"},
        {"origin": "http://localhost:8000@evil.com"},
        {"origin": "http://localhost:8000.evil.com"},
        {"origin": "file://"},
        {"origin": "chrome-extension://localhost:8000"},
        {"origin": "http://["},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "CROSS-SITE"},
        {"sec_fetch_site": "nonsense"},
        {"origin": "http://localhost:8000", "sec_fetch_site": "cross-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "BREW"])
def test_state_changes_that_are_refused(method: str, more: dict[str, str]) -> None:
    found = refusal(method, headers(**SAME, **more), PUBLIC)
    assert found is not None
    assert (found.status, found.code) == (403, "foreign_origin")


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_looking_is_not_changing(method: str) -> None:
    assert refusal(method, headers(**SAME, origin="https://evil.com", sec_fetch_site="cross-site"), PUBLIC) is None


def test_a_page_of_the_public_name_may_change_behind_a_proxy_that_ends_tls() -> None:
    found = refusal("POST", headers(host="evalforge.example.com", origin="https://evalforge.example.com"), PUBLIC)
    assert found is None


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("hosts", [[], ["localhost", "localhost"], ["localhost", "evil.com"], ["evil.com"]])
def test_exactly_one_own_host_is_wanted(method: str, hosts: list[str]) -> None:
    found = refusal(method, Headers(raw=[(b"host", host.encode()) for host in hosts]), PUBLIC)
    assert found is not None
    assert (found.status, found.code) == (421, "foreign_host")


def test_every_origin_header_counts() -> None:
    raw = [(b"host", b"localhost"), (b"origin", b"http://localhost"), (b"origin", b"https://evil.com")]
    assert refusal("POST", Headers(raw=raw), PUBLIC) is not None
