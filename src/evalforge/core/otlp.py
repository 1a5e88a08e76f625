"""Where telemetry may go, and what OpenTelemetry's variables spell. Pure: addresses and lists in, values out.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from evalforge.core import sites

ENDPOINT_WANTS = "a base URL: https, or http on loopback, without user name, query and fragment"
PAIRS_WANTS = "name=value pairs separated by commas, percent-encoded where needed"

MAX_PAIRS = 40
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~\-]{1,100}")
_PRINTABLE = re.compile(r"[\x20-\x7e]{1,4096}")
_RESERVED = frozenset({"host", "content-type", "content-encoding", "content-length", "transfer-encoding", "connection"})
_RESOURCE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._\-/]{0,99}")


def validated_endpoint(url: str) -> str:
    """`url` without a slash at its end, where telemetry may be sent there: never in the clear, but on this machine.

    Raises:
        ValueError: it may not.
    """
    return sites.validated_api_url(url, url)


def parse_headers(text: str) -> dict[str, str]:
    """The headers that every request carries, by lower-case name.

    Raises:
        ValueError: says what is wrong, and repeats nothing of it.
    """
    headers = {name.lower(): value for name, value in _pairs(text)}
    for name, value in headers.items():
        if _HEADER_NAME.fullmatch(name) is None or name in _RESERVED or _PRINTABLE.fullmatch(value) is None:
            raise ValueError("a pair is no header that may be set")
    return headers


def parse_resource(text: str) -> tuple[tuple[str, str], ...]:
    """What the process says of where it runs, such as deployment.environment.name.

    Raises:
        ValueError: says what is wrong.
    """
    pairs = dict(_pairs(text))
    if any(_RESOURCE_NAME.fullmatch(name) is None or len(value) > 255 for name, value in pairs.items()):
        raise ValueError("a name begins with a letter and has letters, digits, dots; a value has at most 255 characters")
    return tuple(pairs.items())


def _pairs(text: str) -> list[tuple[str, str]]:
    pairs = []
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise ValueError("a pair has a name, = and a value")
        pairs.append((name.strip(), unquote(value.strip(), errors="strict")))
    if not pairs or len(pairs) > MAX_PAIRS:
        raise ValueError(f"1 to {MAX_PAIRS} pairs")
    return pairs
