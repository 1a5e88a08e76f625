"""Which hosts Datadog's keys may be sent to."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.sites import SITES, SITES_WITHOUT_LLM_OBS, api_url, is_datadog_host, is_loopback, validated_api_url
from tests.examples import examples

API_HOSTS = {
    "datadoghq.com": "https://api.datadoghq.com",
    "us3.datadoghq.com": "https://api.us3.datadoghq.com",
    "us5.datadoghq.com": "https://api.us5.datadoghq.com",
    "ap1.datadoghq.com": "https://api.ap1.datadoghq.com",
    "ap2.datadoghq.com": "https://api.ap2.datadoghq.com",
    "uk1.datadoghq.com": "https://api.uk1.datadoghq.com",
    "datadoghq.eu": "https://api.datadoghq.eu",
    "ddog-gov.com": "https://api.ddog-gov.com",
    "us2.ddog-gov.com": "https://api.us2.ddog-gov.com",
}


def test_every_site_has_its_api_host() -> None:
    assert {site: api_url(site) for site in SITES} == API_HOSTS
    assert set(SITES) >= SITES_WITHOUT_LLM_OBS


@pytest.mark.parametrize(
    "site", ["", "datadog.com", "evil.com", "app.datadoghq.com", "DATADOGHQ.COM", "datadoghq.com.evil.com"]
)
def test_a_free_host_is_no_site(site: str) -> None:
    with pytest.raises(ValueError, match="not a Datadog site"):
        api_url(site)


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://api.datadoghq.com", "https://api.datadoghq.com"),
        ("https://api.datadoghq.eu/", "https://api.datadoghq.eu"),
        ("  https://API.us5.datadoghq.com:443/ ", "https://API.us5.datadoghq.com:443"),
        ("http://127.0.0.1:8126", "http://127.0.0.1:8126"),
        ("http://127.8.8.8:1/base/", "http://127.8.8.8:1/base"),
        ("http://localhost:8126", "http://localhost:8126"),
        ("http://[::1]:8126", "http://[::1]:8126"),
        ("https://localhost", "https://localhost"),
    ],
)
def test_loopback_and_datadog_are_allowed(url: str, wanted: str) -> None:
    assert validated_api_url(url) == wanted


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.datadoghq.com",
        "http://api.datadoghq.com",
        "https://evil.com",
        "https://datadoghq.com.evil.com",
        "https://evildatadoghq.com",
        "https://api.datadoghq.com@evil.com",
        "https://user:secret@api.datadoghq.com",
        "https://evil.com\\@api.datadoghq.com",
        "https://evil.com\\.datadoghq.com",
        "https://evil.com#.datadoghq.com",
        "https://evil.com?.datadoghq.com",
        "https://api.datadoghq.com?x=1",
        "https://api.datadoghq.com:notaport",
        "https://api.datadoghq.com\nHost: evil.com",
        "https://api.data doghq.com",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "http://0.0.0.0:8126",
        "http://localhost.evil.com",
        "http://2130706433",
        "http://[::ffff:8.8.8.8]",
        "https://[::1",
        "javascript://127.0.0.1",
        "http://localhost.",
        "http://127.0.0.1..",
        "https://api.datadoghq.com.",
        "https://evil.com%2f.datadoghq.com",
        "https://%00[::1]",
        "https://[::1]evil.com",
        "https://evil.com／.datadoghq.com",
        "https://evil。com/.datadoghq.com",
        "https://api.datadoghq.com:",
    ],
)
def test_everything_else_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        validated_api_url(url)
    assert "secret" not in str(refused.value)


PIECES = (
    *"@:/\\?#.[]%&=;~!$'()*, \t。．／＠：ßKé\u00ad\u200b", "%2f", "%40", "%00", "%23", "https://",
    "api.datadoghq.com", ".datadoghq.com", "datadoghq.com",
    "evil.com", "127.0.0.1", "localhost", "[::1]", "[v1.x]", "xn--", "443", "2130706433", "0177.0.0.1", "x",
)  # fmt: skip


@examples(1_000)
@given(st.sampled_from(["https://", "http://", ""]), st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join))
def test_whatever_is_allowed_is_called_as_it_was_read(scheme: str, rest: str) -> None:
    """The host that the HTTP client connects to is the host that was checked, however the two read a URL."""
    try:
        allowed = validated_api_url(scheme + rest)
    except ValueError:
        return
    called = httpx.URL(allowed)
    host = called.raw_host.decode()
    assert is_loopback(host) or (called.scheme == "https" and is_datadog_host(host))
    assert called.userinfo == b""


@pytest.mark.parametrize(
    "trusted", ["proxy.corp.example", "https://proxy.corp.example", "https://proxy.corp.example:8443/x"]
)
def test_an_explicitly_trusted_host_is_allowed_with_https_only(trusted: str) -> None:
    assert validated_api_url("https://proxy.corp.example/dd", trusted) == "https://proxy.corp.example/dd"
    for url in ("http://proxy.corp.example", "https://other.corp.example", "https://sub.proxy.corp.example"):
        with pytest.raises(ValueError, match=r"."):
            validated_api_url(url, trusted)


@pytest.mark.parametrize("trusted", ["", "  ", "http://["])
def test_nonsense_trusts_nobody(trusted: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        validated_api_url("https://evil.com", trusted)
