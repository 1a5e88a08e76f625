"""The one form of a user id that is hashed: whatever spelling a system gives it, one user has one.

What means nothing is taken away (case of e-mail addresses and UUIDs, percent and HTML escapes, quotes, `mailto:`, invisible
characters, a number's `.0`). What may tell two people apart stays: the case and the leading zeros of opaque ids.
"""

from __future__ import annotations

import html
import math
import re
import unicodedata
from contextlib import suppress
from urllib.parse import unquote

from evalforge.core.span import Json

MAX_USER_ID_LENGTH = 1_000
"""Nothing longer is an id."""

_MAX_ROUNDS = 12
_NOBODY = frozenset(
    {"", "-", "--", "-1", "0", "anon", "anonymous", "anonymoususer", "anonymous user", "false", "guest", "n/a", "na", "nan"}
    | {"nil", "no user", "nobody", "none", "not set", "null", "true", "undefined", "unknown", "unset", "unauthenticated"}
    | {"redacted", "filtered", "masked", "removed", "00000000000000000000000000000000"}
)
_BRACKETED = re.compile(
    r"\[[^\[\]]{0,60}\]|<[^<>@]{0,60}>|\([^()]{0,60}\)|\$?\{{1,3}[^{}]{0,200}\}{1,3}|%[sd]|[*xX]{3,}|\.{3}"
)
"""A placeholder of ours or of another redactor, a template that nobody filled, `[object Object]`."""

_EMAIL = re.compile(r"[^@\s<>]{1,128}@[^@\s<>]{1,255}")
_NAMED_EMAIL = re.compile(r"[^<>@]{0,200}<([^@\s<>]{1,128}@[^@\s<>]{1,255})>")
_EMAIL_SCHEME = re.compile(r"(?:mailto|acct|smtp|email):(?=[^@\s]{1,128}@[^@\s])", re.IGNORECASE)
_PERCENT = re.compile(r"(?:[^%]|%[0-9a-fA-F]{2})*")
_WHOLE_NUMBER = re.compile(r"([0-9]{1,78})(?:\.0{1,20})?")
_UUID = re.compile(
    r"(?:urn:uuid:)?\{?([0-9a-f]{8})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{4})-([0-9a-f]{12})\}?", re.IGNORECASE
)
_BARE_UUID = re.compile(r"(?=[0-9]{0,31}[a-fA-F])[0-9a-fA-F]{32}")


def normal_user_id(raw_id: Json) -> str | None:
    """A user id in the one form that is hashed, or None when it names nobody.

    Integers as decimal digits, Unicode as NFC, no spaces around. E-mail addresses are folded (case, compatibility
    characters, `mailto:`, the name beside `<address>`, punycode), since Datadog lower-cases tags; UUIDs are 32 lower-case
    digits. Opaque ids keep their case, since `aB1` and `ab1` may be two people; for them the tags come last in the order of
    `USER_ID_PLACES`.
    """
    if isinstance(raw_id, bool) or not isinstance(raw_id, (str, int, float)):
        return None
    if isinstance(raw_id, float):
        if not math.isfinite(raw_id):
            return None
        raw_id = int(raw_id) if raw_id.is_integer() else repr(raw_id)
    if isinstance(raw_id, int):
        if raw_id.bit_length() > 256:
            return None  # no id; and turning huge integers into digits takes quadratic time
        raw_id = str(raw_id)
    if len(raw_id) > MAX_USER_ID_LENGTH:
        return None
    user_id = _folded(_decoded(raw_id))
    if _BRACKETED.fullmatch(user_id) or user_id.lower().replace("_", " ") in _NOBODY:
        return None
    return user_id


def _decoded(text: str) -> str:
    for _ in range(_MAX_ROUNDS):
        plain = _decoded_once(text)
        if plain == text:
            break
        text = plain
    return text


def _decoded_once(text: str) -> str:
    if not text.isascii() or not text.isprintable():
        text = unicodedata.normalize("NFC", text)
        text = "".join(one for one in text if one.isspace() or unicodedata.category(one) not in ("Cc", "Cf"))
    text = text.strip()
    if "%" in text and _PERCENT.fullmatch(text):
        with suppress(UnicodeDecodeError):  # a percent sign may mean itself
            text = unquote(text, errors="strict")
    if "&" in text and ";" in text:
        text = html.unescape(text)
    if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1]
    if (named := _NAMED_EMAIL.fullmatch(text)) is not None:
        text = named[1]
    if (scheme := _EMAIL_SCHEME.match(text)) is not None:
        text = text[scheme.end() :].partition("?")[0]
    return text


def _folded(user_id: str) -> str:
    if (uuid := _UUID.fullmatch(user_id)) is not None:
        return "".join(uuid.groups()).lower()
    if _BARE_UUID.fullmatch(user_id):
        return user_id.lower()
    plain = user_id if user_id.isascii() else unicodedata.normalize("NFKC", user_id)
    if (number := _WHOLE_NUMBER.fullmatch(plain)) is not None:
        return number[1]
    if _EMAIL.fullmatch(plain):
        local, _, domain = plain.lower().rpartition("@")
        return unicodedata.normalize("NFKC", f"{local}@{_unicode_domain(domain)}")
    return user_id


def _unicode_domain(domain: str) -> str:
    labels = domain.removesuffix(".").split(".")
    return ".".join(_unicode_label(label) if label.startswith("xn--") else label for label in labels)


def _unicode_label(label: str) -> str:
    try:
        return label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return label
