"""Sign-in for browsers, which cannot send an API key with each page: a cookie that the key stands behind.

The cookie names the caller and when it ends, signed with a key that is derived from the digest by which settings know the
API key. Nothing is remembered: whoever takes the row out of SERVICE_API_KEYS ends its sessions.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Iterable

from starlette.datastructures import Headers

from evalforge.core.callers import Caller, KeyRow

LASTS_S = 12 * 3600
NAME, SECURE_NAME = "evalforge", "__Host-evalforge"
MAX_COOKIE = 200

_DOMAIN = b"evalforge session 1\0"
_TOKEN = re.compile(r"([a-z][a-z0-9-]{0,30})\.([0-9]{10,12})\.([0-9a-f]{64})")


def token_of(row: KeyRow, now_s: float) -> str:
    """What the cookie of this key's holder says: a name, when it ends, and a signature."""
    ends = int(now_s) + LASTS_S
    return f"{row.caller.name}.{ends}.{_signature(row, row.caller.name, ends)}"


def caller_in(headers: Headers, rows: Iterable[KeyRow], now_s: float | None = None) -> Caller | None:
    """Whose the cookie of a request is; None where there is none, several, or it has ended or is signed by nobody here."""
    tokens = _tokens(headers)
    match = _TOKEN.fullmatch(tokens[0]) if len(tokens) == 1 and len(tokens[0]) <= MAX_COOKIE else None
    if match is None or int(match[2]) <= (time.time() if now_s is None else now_s):
        return None
    holder = None
    for row in rows:  # to the end, whichever fits
        if hmac.compare_digest(_signature(row, match[1], int(match[2])), match[3]) and row.caller.name == match[1]:
            holder = row.caller
    return holder


def _signature(row: KeyRow, name: str, ends: int) -> str:
    key = hmac.digest(row.digest, _DOMAIN, "sha256")
    return hmac.digest(key, f"{name}.{ends}".encode(), "sha256").hex()


def _tokens(headers: Headers) -> list[str]:
    """Every cookie of ours: read by hand, since other programs on the same host may leave odd ones, and names may repeat."""
    pairs = [pair.partition("=") for header in headers.getlist("cookie") for pair in header.split(";")]
    return [value.strip() for name, equals, value in pairs if equals and name.strip() in (NAME, SECURE_NAME)]


def cookie(token: str, *, is_secure: bool) -> str:
    """The Set-Cookie line; an empty token takes the cookie away."""
    name = SECURE_NAME if is_secure else NAME
    parts = [f"{name}={token}", "Path=/", "HttpOnly", "SameSite=Strict", f"Max-Age={LASTS_S if token else 0}"]
    return "; ".join([*parts, *(["Secure"] if is_secure else [])])
