"""Webhooks as rules: which URLs and addresses may be called, and how what is sent is signed.

The signature is that of Standard Webhooks, so that receivers can check it with a library of their language.
Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from evalforge.core.sites import is_loopback

URL_WANTS = (
    "an https URL without user name and fragment whose host has public addresses only (http and any port on loopback, for "
    "trials), or projects/P/secrets/S/versions/V"
)
KEYS_WANTED = (
    "whsec_ and 24 to 64 random bytes in base64, or several such secrets separated by spaces, newest first, or "
    "projects/P/secrets/S/versions/V; make one with: python3 -c \"import base64, secrets; print('whsec_' + "
    'base64.b64encode(secrets.token_bytes(32)).decode())"'
)
MAX_URL = 2_000

HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
"""A plain host, and maybe a port: nothing in which two readers of a URL could see two hosts."""

_PLAIN_URL = re.compile(r"[\x21-\x7e]{1,2000}")
_SECRET_PREFIX = "whsec_"  # noqa: S105 - what every secret begins with
_SECRET_BYTES = range(24, 65)
_MIN_DISTINCT_BYTES = 8

# What is not somebody's server on the internet, whatever a version of Python's own list says.
# Source: https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC_4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
        # Azure's platform answers every virtual machine here.
        # Source: https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16
        "168.63.129.16/32",
    )
)  # fmt: skip
# Of IPv6 only this is given to servers. IPv4 written as IPv6 (::, ::ffff:0:0/96, NAT64's 64:ff9b::/96 and 64:ff9b:1::/48),
# unique local, link-local and multicast addresses lie outside of it.
# Source: https://www.iana.org/assignments/ipv6-address-space and /iana-ipv6-special-registry
_PUBLIC_6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6 = tuple(
    ipaddress.IPv6Network(text)
    # protocol assignments with Teredo's tunnels to IPv4, documentation, 6to4's tunnels to IPv4, documentation
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)
"""The third quarter of an address that tunnels to the IPv4 address in its last. Source: RFC 5214, section 6.1."""


def validated_webhook_url(url: str) -> str:
    """`url`, when events may be posted there: https to any host, http only on loopback.

    Where the host's name leads is checked when it is called, with `is_public`.

    Raises:
        ValueError: anything else; the message repeats nothing of the URL, whose path and query are often secret.
    """
    if _PLAIN_URL.fullmatch(url) is None or "\\" in url:
        raise ValueError(f"a URL has at most {MAX_URL} characters, and no spaces, control characters or backslashes")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise ValueError("it must begin with https:// and name a host")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("it must have no user name and no fragment")
    if HOST.fullmatch(parts.netloc) is None:
        raise ValueError("its host must be a plain name or address, without a dot at its end")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError("http is for loopback only: what is sent would travel in the clear")
    return url


def is_public(address: str) -> bool:
    """Whether an IP address can only be a server on the public internet; False for a text that is no address.

    Not public are private, loopback, link-local (with the clouds' metadata), shared, multicast, reserved and documentation
    addresses, and every IPv6 address in which an IPv4 one is hidden.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_4)
    if ip.scope_id is not None or (int(ip) >> 32) & 0xFFFF_FFFF in _ISATAP:
        return False
    return ip in _PUBLIC_6 and not any(ip in network for network in _NOT_PUBLIC_6)


def signing_keys(secret: str) -> tuple[bytes, ...]:
    """The keys that a secret spells, in its order: `whsec_` and 24 to 64 bytes in base64, several separated by spaces.

    Raises:
        ValueError: it spells none, or one that can be guessed; the message repeats nothing of it.
    """
    texts = secret.split()
    keys = tuple(_key_of(number, text) for number, text in enumerate(texts, 1))
    if not keys:
        raise ValueError("there is no secret")
    return keys


def _key_of(number: int, text: str) -> bytes:
    if not text.startswith(_SECRET_PREFIX):
        raise ValueError(f"secret {number} does not begin with {_SECRET_PREFIX}")
    encoded = text.removeprefix(_SECRET_PREFIX)
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"secret {number} is not in base64") from None
    if len(key) not in _SECRET_BYTES:
        raise ValueError(f"secret {number} has {len(key)} bytes")
    if len(set(key)) < _MIN_DISTINCT_BYTES:
        raise ValueError(f"secret {number} can be guessed")
    return key


def signed_headers(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> Mapping[str, str]:
    """The three headers that tell a receiver who sent `body`: its id, when (seconds since the epoch), and the signatures.

    There is one signature for each key, so that a receiver who knows any of them is satisfied while keys are changed.

    Raises:
        ValueError: the id has a dot in it, which would let a part of it pass for the time.
    """
    if "." in message_id:
        raise ValueError("the id of a message has no dot")
    signed = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
