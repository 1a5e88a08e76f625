"""Who a span belongs to, as keyed hashes only: the user, and ids that are not plain trace or span ids.

A hash is a pseudonym, not anonymous: whoever holds the key and guesses an id can confirm it. Keys therefore come from a
secret store, are never kept beside the data, and destroying one unlinks its hashes for good.
"""

from __future__ import annotations

import hmac
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from evalforge.core.privacy.keys import normal_key
from evalforge.core.span import Json, Span

PUBLIC_KEY = b"evalforge/public"
"""Keys the digests of odd trace and span ids while no ring is set. It is public: such an id can be guessed."""

_USER_DOMAIN = b"evalforge/user\0"
_TRACE_DOMAIN = b"evalforge/trace\0"
_SPAN_DOMAIN = b"evalforge/span\0"
_HEX_DIGITS_KEPT = 32  # 128 bits; RFC 2104 section 5 asks for at least half of the digest and 80 bits

_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}|[0-9]{1,39}")
_SPAN_ID = re.compile(r"[0-9a-fA-F]{1,16}|[0-9]{1,20}")
_TRACE_DIGEST = re.compile(r"t_[0-9a-f]{32}")
_SPAN_DIGEST = re.compile(r"s_[0-9a-f]{32}")
_NO_ID = frozenset({"", "0", "undefined", "none", "null"})
_EMAIL_SHAPED = re.compile(r"[^@\s]{1,128}@[^@\s]{1,255}")
_NO_USER = frozenset(
    {"", "-", "-1", "0", "anon", "anonymous", "false", "guest", "n/a", "na", "nan", "nil", "none", "null", "true"}
    | {"undefined", "unknown", "[redacted]", "<redacted>", "redacted", "***"}
)


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The hashing keys, newest first; none at all means that nothing is hashed.

    New hashes are made with the newest key; look-ups try all of them. A key's id is public and part of every hash that it
    made. Printing a ring shows the ids, never a key.
    """

    keys: tuple[bytes, ...] = field(default=(), repr=False)
    key_ids: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key_ids", tuple(_mac(key, b"evalforge/kid", b"")[:4] for key in self.keys))

    def user_hash(self, raw_id: Json) -> str | None:
        """The pseudonym of a user id under the newest key, `u`, the key's id, `_` and 32 hexadecimal digits.

        None when the ring is empty or `raw_id` names nobody (empty, `unknown`, `null`, a boolean, ...).
        """
        user_id = normal_user_id(raw_id)
        if user_id is None or not self.keys:
            return None
        return self._user_hash(0, user_id)

    def candidate_hashes(self, raw_id: Json) -> frozenset[str]:
        """Every hash under which this user may be stored: all keys, and the id as Datadog lower-cases it in tags."""
        user_id = normal_user_id(raw_id)
        if user_id is None:
            return frozenset()
        spellings = {user_id, user_id.lower()}
        return frozenset(self._user_hash(n, spelling) for n in range(len(self.keys)) for spelling in spellings)

    def _user_hash(self, n: int, user_id: str) -> str:
        return f"u{self.key_ids[n]}_{_mac(self.keys[n], _USER_DOMAIN, _utf8(user_id))}"

    def _digest_of_id(self, domain: bytes, raw: str) -> str:
        return _mac(self.keys[0] if self.keys else PUBLIC_KEY, domain, _utf8(raw))


def normal_user_id(raw_id: Json) -> str | None:
    """A user id in the one form that is hashed, or None when it names nobody.

    Integers as decimal digits, Unicode as NFC, no spaces around. Only ids of the shape of an e-mail address are lower-cased:
    their case means nothing, and Datadog lower-cases tag values. Opaque ids keep theirs, since `aB1` and `ab1` may be two
    people; for them the tags come last in the order of `USER_ID_PLACES`.
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
    user_id = unicodedata.normalize("NFC", raw_id).strip()
    if user_id.lower() in _NO_USER:
        return None
    return user_id.lower() if _EMAIL_SHAPED.fullmatch(user_id) else user_id


USER_ID_KEYS = ("user_id", "usr_id", "enduser_id", "end_user_id", "userid", "usrid", "user_uuid", "user_uid", "user_user_id")
"""The spellings of a user id, the first the strongest, in the form of `normal_key`: `user.id`, `user_id`, `userId` and
`USER-ID` are one. A mapping under `user`, `usr`, `enduser` or `end_user` counts by its own keys, so `{"usr": {"id": 1}}` is
`usr_id`."""

USER_ID_PLACES = ("metadata", "attributes", "extra", "tags")
"""Where a user id is looked for, the first the strongest. Tags come late because Datadog lower-cases their values."""

_USER_BRANCHES = {"user": "user", "usr": "usr", "enduser": "enduser", "end_user": "end_user"}
_KEY_RANK = {key: n for n, key in enumerate(USER_ID_KEYS)}
_MAX_DEPTH = 6
_MAX_NODES = 2_000


def user_id_in(span: Span) -> Json:
    """The raw id of the span's user, or None: by place, then by depth, then by spelling.

    Where nothing else names the user, `metadata.user` does: OpenAI's `user=` parameter, recorded by the SDK.
    """
    for place in USER_ID_PLACES:
        found = _in_tags(span.tags) if place == "tags" else _in_mapping(getattr(span, place))
        if found is not None:
            return found
    plain = span.metadata.get("user")
    return plain if normal_user_id(plain) is not None else None


def _in_tags(tags: tuple[tuple[str, str], ...]) -> Json:
    return _strongest((_KEY_RANK.get(normal_key(key), -1), value) for key, value in tags)


def _in_mapping(mapping: Mapping[str, Json]) -> Json:
    level: list[tuple[str, Mapping[Any, Json]]] = [("", mapping)]
    nodes = 0
    for _ in range(_MAX_DEPTH):
        if not level:
            return None
        ranked: list[tuple[int, Json]] = []
        below: list[tuple[str, Mapping[Any, Json]]] = []
        for branch, one in level:
            for key, value in one.items():
                nodes += 1
                if nodes > _MAX_NODES:
                    break
                if not isinstance(key, str):
                    continue
                name = branch + normal_key(key)
                if isinstance(value, Mapping):
                    below.append((_USER_BRANCHES[name] + "_" if name in _USER_BRANCHES else "", value))
                elif isinstance(value, list):
                    below.extend(("", item) for item in value[:20] if isinstance(item, Mapping))
                elif name in _KEY_RANK:
                    ranked.append((_KEY_RANK[name], value))
        found = _strongest(iter(ranked))
        if found is not None:
            return found
        level = below
    return None


def _strongest(ranked: Iterator[tuple[int, Json]]) -> Json:
    named = [(rank, n, value) for n, (rank, value) in enumerate(ranked) if rank >= 0 and normal_user_id(value) is not None]
    return min(named, key=lambda entry: entry[:2])[2] if named else None


def safe_trace_id(raw: str, ring: KeyRing) -> tuple[str, bool]:
    """A trace id that may be stored, and whether it is the plain one.

    Up to 32 hexadecimal or 39 decimal digits are plain and come back in lower case; anything else a sender made up becomes
    `t_` and 32 hexadecimal digits of a keyed digest. With an empty ring the key is `PUBLIC_KEY`, so that the digest of a
    guessed id can be recognised.
    """
    raw = raw.strip()
    if _TRACE_ID.fullmatch(raw):
        return raw.lower(), True
    return (raw if _TRACE_DIGEST.fullmatch(raw) else "t_" + ring._digest_of_id(_TRACE_DOMAIN, raw)), False


def safe_span_id(raw: str, ring: KeyRing) -> str:
    """A span id that may be stored: up to 20 decimal or 16 hexadecimal digits as they are, else `s_` and a keyed digest."""
    raw = raw.strip()
    if _SPAN_ID.fullmatch(raw):
        return raw.lower()
    return raw if _SPAN_DIGEST.fullmatch(raw) else "s_" + ring._digest_of_id(_SPAN_DOMAIN, raw)


def safe_parent_id(raw: str | None, ring: KeyRing) -> str | None:
    """A parent's span id likewise; None for a root, which Datadog spells `undefined` or `0`."""
    return None if is_no_id(raw) or raw is None else safe_span_id(raw, ring)


def is_no_id(raw: object) -> bool:
    """Whether a span or trace id is missing: not a string, empty, `0`, `undefined` or a word for nothing."""
    return not isinstance(raw, str) or raw.strip().lower() in _NO_ID


def _mac(key: bytes, domain: bytes, message: bytes) -> str:
    return hmac.digest(key, domain + message, "sha256").hex()[:_HEX_DIGITS_KEPT]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
