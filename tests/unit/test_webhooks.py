"""Which URLs and addresses may be called, what a secret is, and that signatures are those of Standard Webhooks."""

from __future__ import annotations

import base64
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.core.webhooks import MAX_URL, is_public, signed_headers, signing_keys, validated_webhook_url
from evalforge.errors import SettingsError
from evalforge.webhook import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "142.250.185.78",
    "172.32.0.1",
    "100.63.255.255",
    "2606:4700:4700::1111",
    "2a00:1450:4001::1",
]
NOT_PUBLIC = {
    "this network": ["0.0.0.0", "0.1.2.3"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "link-local, with the clouds' metadata": ["169.254.169.254", "169.254.170.2", "fe80::1", "fe80::1%eth0", "febf::1"],
    "metadata elsewhere": ["168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254", "fd20:ce::254"],
    "shared by a carrier": ["100.64.0.1", "100.127.255.255"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1", "ff0e::1"],
    "reserved and broadcast": ["240.0.0.1", "255.255.255.255"],
    "documentation and measuring": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "2001:db8::1", "3fff::1"],
    "unspecified": ["::"],
    "unique local, site-local": ["fc00::1", "fdff::1", "fec0::1"],
    "IPv4 in IPv6": ["::ffff:127.0.0.1", "::ffff:8.8.8.8", "::7f00:1", "::ffff:0:169.254.169.254", "::8.8.8.8"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b::8.8.8.8", "64:ff9b:1::a00:1"],
    "6to4 and its relays": ["2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:808:808::1", "192.88.99.1"],
    "Teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001::1"],
    "ISATAP": ["2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a9fe:a9fe"],
    "discard, segment routing": ["100::1", "5f00::1"],
    "no address": ["", "localhost", "127.1", "0x7f.1", "2130706433", "8.8.8.8 ", "8.8.8.8:80", "[::1]", "١.١.١.١"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_may_be_called(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(("why", "address"), [(why, address) for why, several in NOT_PUBLIC.items() for address in several])
def test_no_other_address_may_be_called(why: str, address: str) -> None:
    assert not is_public(address), why


@given(st.ip_addresses(v=4))
def test_an_ipv4_address_hides_in_no_form_of_ipv6(address: ipaddress.IPv4Address) -> None:
    number = int(address)
    forms = [number, 0xFFFF << 32 | number, 0x64FF9B << 96 | number, 0x2002 << 112 | number << 80, 0x20010000 << 96 | number]
    assert not any(is_public(str(ipaddress.IPv6Address(form))) for form in forms)


@given(st.ip_addresses())
def test_what_python_holds_for_private_is_never_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    if address.is_private or address.is_loopback or address.is_link_local or address.is_reserved or address.is_multicast:
        assert not is_public(str(address))


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/T0/B0/x?token=y",
        "https://hooks.example.com:8443/",
        "https://hooks.example.com",
        "https://[2606:4700::1111]/hook",
        "http://127.0.0.1:9000/hook",
        "http://localhost/hook",
        "https://localhost:9000/hook",
    ],
)
def test_a_url_that_may_be_posted_to(url: str) -> None:
    assert validated_webhook_url(url) == url
    assert repr(Webhook(url, SECRET)).count("/") == 0


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com/x",
        "ftp://hooks.example.com/hush",
        "file:///etc/passwd",
        "http://hooks.example.com/hush",
        "http://169.254.169.254/hush",
        "https://user:hush@hooks.example.com/",
        "https://hooks.example.com@evil.example/hush",
        "https://hooks.example.com/#hush",
        "https://hooks.example.com\\@evil.example/hush",
        "https://hooks.example.com/hu sh",
        "https://hooks.example.com/hu\nsh",
        "https://hooks.example.com./hush",
        "https://hooks.example.com:0/hush",
        "https://hooks.example.com:99999/hush",
        "https://hooks%2eexample.com/hush",
        "https://hööks.example.com/hush",
        "https://127.0.0.1.:80/hush",
        "https://[::1/hush",
        "https://[fe80::1%25eth0]/hush",
        "https:///hush",
        "https://hooks.example.com/" + "hush" * MAX_URL,
    ],
)
def test_any_other_url_is_refused_without_a_word_of_it(url: str) -> None:
    with pytest.raises(ValueError, match=" ") as refused:
        validated_webhook_url(url)
    assert "hush" not in str(refused.value)
    with pytest.raises(SettingsError, match="webhook") as shown:
        Webhook(url, SECRET)
    assert "hush" not in shown.value.message


def test_a_secret_is_its_bytes() -> None:
    assert signing_keys(OTHER) == (bytes(range(32)),)
    assert signing_keys(f"{OTHER}  {SECRET}") == (bytes(range(32)), base64.b64decode(SECRET.removeprefix("whsec_")))
    assert signing_keys(OTHER.rstrip("=")) == (bytes(range(32)),), "receivers' libraries take it without padding too"


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "hushhushhushhushhushhushhushhush",
        "whsec_",
        "whsec_hush!hush!hush!hush!hush!hush!hush!",
        "whsec_" + base64.b64encode(b"hush" * 5).decode(),
        "whsec_" + base64.b64encode(bytes(range(65))).decode(),
        "whsec_" + base64.b64encode(b"hush" * 8).decode(),
        "whsec_" + "A" * 44,
        f"{SECRET} hush",
    ],
)
def test_a_bad_secret_is_refused_without_a_word_of_it(secret: str) -> None:
    with pytest.raises(ValueError, match="secret") as refused:
        signing_keys(secret)
    assert "hush" not in str(refused.value)
    with pytest.raises(SettingsError, match="webhook"):
        Webhook("https://hooks.example.com/", secret)


def test_the_signature_is_that_of_the_standards_own_libraries() -> None:
    """Source: standard-webhooks, libraries/javascript/src/webhook.test.ts, "sign function works"."""
    message_id, body = "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}'
    assert signed_headers(signing_keys(SECRET), message_id, 1614265330, body) == {
        "webhook-id": message_id,
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_every_secret_signs_while_they_are_changed() -> None:
    both = signed_headers(signing_keys(f"{OTHER} {SECRET}"), "msg_1", 1, b"x")["webhook-signature"].split(" ")
    assert both == [signed_headers(signing_keys(one), "msg_1", 1, b"x")["webhook-signature"] for one in (OTHER, SECRET)]


def test_no_part_of_an_id_passes_for_the_time() -> None:
    with pytest.raises(ValueError, match="dot"):
        signed_headers(signing_keys(SECRET), "msg_1.1614265330", 1, b"x")
