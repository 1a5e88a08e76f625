"""Datadog's sites, the API host of each, and the rule which other URLs may be given the keys.

Source: https://docs.datadoghq.com/getting_started/site/ and the list of servers in datadog-api-client 2.62.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

SITES: tuple[str, ...] = (
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "ap1.datadoghq.com",
    "ap2.datadoghq.com",
    "uk1.datadoghq.com",
    "datadoghq.eu",
    "ddog-gov.com",
    "us2.ddog-gov.com",
)
"""Every site: what DATADOG_SITE may be."""

# Nothing in which two readers of a URL could see two hosts: whoever checks a host must be sure which one is called.
_AUTHORITY = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.\-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")

SITES_WITHOUT_LLM_OBS = frozenset({"ddog-gov.com", "us2.ddog-gov.com"})
"""Sites on which Datadog does not offer LLM Observability; APM works there."""


def api_url(site: str) -> str:
    """The base URL of a site's API, such as `https://api.us5.datadoghq.com`.

    Raises:
        ValueError: `site` is none of `SITES`. A free host would receive the keys.
    """
    if site not in SITES:
        raise ValueError(f"{site!r} is not a Datadog site")
    return f"https://api.{site}"


def validated_api_url(url: str, trusted: str | None = None) -> str:
    """`url` without a trailing slash, when Datadog's keys may be sent there.

    That is: http or https on loopback; https on a host of Datadog's; https on the host that `trusted` (a host name, or a
    URL) names exactly. User names, queries and fragments are refused: none belongs in a base URL.

    Raises:
        ValueError: anything else; the message says which part is wrong and repeats nothing that could be a secret.
    """
    try:
        parts = urlsplit(url.strip())
        host = parts.hostname or ""
        _ = parts.port
    except ValueError as error:
        raise ValueError("this is not a URL") from error
    if any(character.isspace() or ord(character) < 0x20 or character == "\\" for character in url.strip()):
        raise ValueError("a URL holds no spaces, control characters or backslashes")
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("it must begin with https:// (or http:// on loopback) and name a host")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("it must be a plain base URL without user name, query or fragment")
    if _AUTHORITY.fullmatch(parts.netloc) is None:
        raise ValueError("its host must be a plain name or address, without a dot at its end")
    if not is_loopback(host):
        if parts.scheme != "https":
            raise ValueError("http is for loopback only: the keys would travel in the clear")
        if not is_datadog_host(host) and host != _host_named(trusted):
            raise ValueError(f"{host!r} is no host of Datadog's, nor the one that is trusted")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_datadog_host(host: str) -> bool:
    """Whether a (lower-case) host is one of `SITES` or below one."""
    return any(host == site or host.endswith(f".{site}") for site in SITES)


def _host_named(trusted: str | None) -> str | None:
    if trusted is None or not trusted.strip():
        return None
    text = trusted.strip()
    try:
        return urlsplit(text if "://" in text else f"//{text}").hostname
    except ValueError:
        return None
