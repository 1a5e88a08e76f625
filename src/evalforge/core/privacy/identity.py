"""Who a span belongs to, as keyed hashes only: the user, and ids that are not plain trace or span ids.

A hash is a pseudonym, not anonymous: whoever holds the key and guesses an id can confirm it. Keys therefore come from a
secret store, are never kept beside the data, and destroying one unlinks its hashes for good.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

from evalforge.core.privacy.keys import MAX_KEY_LENGTH, normal_key
from evalforge.core.privacy.sensitive import ROLES_OF_PEOPLE
from evalforge.core.privacy.user_ids import normal_user_id
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


_ID_WORDS = ("id", "user_id", "uuid", "uid", "userid", "identifier", "sub", "guid", "id_str", "pseudo_id")

USER_ID_KEYS = (
    "user_id", "usr_id", "enduser_id", "end_user_id", "userid", "usrid", "useruuid", "useruid", "userguid", "enduserid",
    *(f"{branch}_{word}" for word in _ID_WORDS for branch in ("user", "usr", "enduser", "end_user")),
)  # fmt: skip
"""The spellings of a user id, the first the strongest, in the form of `normal_key`: `user.id`, `user_id`, `userId` and
`USER-ID` are one. A mapping under `user`, `usr`, `enduser`, `end_user` or `current_user` counts by its own keys, so
`{"usr": {"id": 1}}` is `usr_id`. `{"name": "user.id", "value": 1}`, pairs in lists, JSON and `user_id=1` in texts are read
too. What may be an organisation (`customer_id`, `account_id`, `member_id`) is no user."""

USER_ID_PLACES = ("metadata", "attributes", "extra", "metrics", "tags")
"""Where a user id is looked for, the first the strongest. Tags come last because Datadog lower-cases their values."""

_BARE_USER_KEYS = (
    "user", "usr", "enduser", "end_user", "openai_request_user", "gen_ai_request_user", "gen_ai_user", "llm_user", "uid",
)  # fmt: skip
"""Where nothing else names the user, these do, at the top of a place: OpenAI's `user=` parameter, as its integrations record
it, and the `uid` of sign-in services."""

_OTHERS = ROLES_OF_PEOPLE | frozenset(
    "admin administrator agent approver assigned assigner audience banned blocked bot by champion child collaborator "
    "contributor coworker creator created deleted editor feedback followed follower friend from holder impersonated "
    "impersonator invited invitee inviter last lead liked manager mentioned merged moderator modified muted new next "
    "old operator opponent original other owner parent partner peer previous prior referred referrer related reply "
    "reported root seller service shared sibling similar support supervisor target teacher to trainer updated vendor "
    "viewed winner worker".split()
)
"""Words before a user id that make it somebody else's: `assignee_user_id`, but not `x-user-id`,
`ai.telemetry.metadata.userId` or `traceloop.association.properties.user_id`."""

_USER_BRANCHES = {
    "user": "user", "usr": "usr", "enduser": "enduser", "end_user": "end_user", "current_user": "user",
    "authenticated_user": "user", "auth_user": "user", "request_user": "user",
}  # fmt: skip
_KEY_RANK = {key: n for n, key in reversed(list(enumerate(USER_ID_KEYS)))}
_BARE_RANK = {key: n for n, key in enumerate(_BARE_USER_KEYS)}
_BESIDE, _BARE = 100, 200
_NAME_KEYS = frozenset({"name", "key", "k", "attribute", "field", "property", "label"})
_VALUE_KEYS = ("value", "v", "val", "id", "stringValue", "string_value", "intValue", "int_value", "doubleValue")
_MAX_DEPTH = 6
_MAX_NODES = 2_000
_MAX_ITEMS = 50
_MAX_JSON_LENGTH = 65_536
_MAX_PAIRS_LENGTH = 2_000
_SHORTEST_PAIR = len("usr=x")
_PAIR_BORDER = re.compile(r"[\s,;&?|]+")
_MAYBE_USER = re.compile("us(?:e)?r", re.IGNORECASE)

_Level = list[tuple[str, Iterable[tuple[Any, Json]]]]
"""Entries at one depth, each with the branch that they stand under: "user_", or "" for none."""


def user_id_in(span: Span) -> Json:
    """The raw id of the span's user, or None: by place, then by depth, then by spelling.

    A spelling of `USER_ID_KEYS` anywhere is stronger than one with something before it, and that than a bare `user`.
    """
    weaker: list[tuple[tuple[int, int], Json]] = []
    for n, place in enumerate(USER_ID_PLACES):
        entries: Iterable[tuple[Any, Json]] = span.tags if place == "tags" else _entries(getattr(span, place))
        found = _strongest(entries, n, weaker)
        if found is not None:
            return found
    return min(weaker, key=lambda one: one[0])[1] if weaker else None


def _strongest(entries: Iterable[tuple[Any, Json]], place: int, weaker: list[tuple[tuple[int, int], Json]]) -> Json:
    """The id under the strongest exact key of the first depth that has one; adds what is weaker to `weaker` as it goes."""
    level: _Level = [("", entries)]
    nodes = 0
    for depth in range(_MAX_DEPTH):
        exact: list[tuple[int, int, Json]] = []
        below: _Level = []
        for branch, some in level:
            entries = [entry for entry in islice(some, _MAX_NODES - nodes) if type(entry[0]) is str]
            ranks = _ranks(branch, tuple(key for key, _ in entries)) if len(entries) <= _MAX_SHAPE else None
            for key, value in entries:
                nodes += 1
                rank = ranks.get(key) if ranks is not None else _rank_of(branch, key)
                if rank is not None:
                    user_id = value if rank >= _BARE else _scalar(value)
                    if normal_user_id(user_id) is not None:
                        if rank < _BESIDE:
                            exact.append((rank, nodes, user_id))
                        elif rank < _BARE or depth == 0:
                            weaker.append(((rank, place), user_id))
                        continue
                kind = type(value)
                if kind is str:
                    holds_more = ("=" in value or ":" in value) and len(value) >= _SHORTEST_PAIR
                else:
                    holds_more = kind is dict or kind is list or (kind not in _SCALARS and isinstance(value, Mapping))
                if holds_more and len(key) <= MAX_KEY_LENGTH:
                    below.extend(_opened(branch, key, value))
        if exact:
            return min(exact, key=lambda one: one[:2])[2]
        if not below or nodes >= _MAX_NODES:
            return None
        level = below
    return None


_MAX_SHAPE = 200
"""Keys of a place whose shape is remembered: telemetry has few, and sends each again and again."""


@lru_cache(maxsize=4096)
def _ranks(branch: str, keys: tuple[str, ...]) -> dict[str, int]:
    """The ranks of those of the keys that may name the user."""
    return {key: rank for key in keys if (rank := _rank_of(branch, key)) is not None}


def _rank_of(branch: str, key: str) -> int | None:
    return _rank(branch, key) if len(key) <= MAX_KEY_LENGTH else None


_SCALARS = frozenset({int, float, bool, type(None)})


@lru_cache(maxsize=8192)
def _rank(branch: str, key: str) -> int | None:
    """How strongly a key names the user, 0 the most: below `_BESIDE` exactly, below `_BARE` with something before it."""
    name = branch + normal_key(key)
    if name in _KEY_RANK or name in _BARE_RANK:
        return _KEY_RANK.get(name, _BARE + _BARE_RANK.get(name, 0))
    words = name.split("_")
    for n in range(1, min(len(words) - 1, 8) + 1):
        if "_".join(words[n:]) in _KEY_RANK and _OTHERS.isdisjoint(words[:n]):
            return _BESIDE
    return None


def _entries(value: Json) -> Iterable[tuple[Any, Json]]:
    """A mapping's own entries, and the one that it spells as `{"name": …, "value": …}`."""
    if type(value) is not dict and not isinstance(value, Mapping):
        return ()
    if _NAME_KEYS.isdisjoint(value):
        return value.items()
    worth = next((value[key] for key in _VALUE_KEYS if value.get(key) is not None), None)
    spelled = [(value[key], worth) for key in sorted(_NAME_KEYS.intersection(value)) if worth is not None]
    return [*islice(value.items(), _MAX_NODES), *spelled]


def _opened(branch: str, key: str, value: Json) -> Iterator[tuple[str, Iterable[tuple[Any, Json]]]]:
    """What a value holds one level deeper: entries, with the branch that they stand under."""
    name = _USER_BRANCHES.get(branch + normal_key(key), "")
    below = f"{name}_" if name else ""
    if type(value) is str and len(value) <= _MAX_JSON_LENGTH and (name or _MAYBE_USER.search(value)):
        value = _json_in(value)
        if isinstance(value, str):
            yield "", _pairs_in(value)
    if type(value) is dict or isinstance(value, Mapping):
        yield below, _entries(value)
    elif isinstance(value, list):
        for item in value[:_MAX_ITEMS]:
            if isinstance(item, Mapping):
                yield "", _entries(item)
            elif isinstance(item, list) and len(item) == 2:
                yield "", ((item[0], item[1]),)
            elif isinstance(item, str):
                yield from _opened("", "", item)


def _json_in(text: str) -> Json:
    if text[:40].lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            pass
    return text


def _pairs_in(text: str) -> list[tuple[str, str]]:
    """The pairs of a text such as `env=prod user_id=u-1`, of a query string, and of Datadog's comma-separated tags."""
    if len(text) > _MAX_PAIRS_LENGTH or not ("=" in text or ":" in text):
        return []
    pairs = (re.split("[=:]", part, maxsplit=1) for part in _PAIR_BORDER.split(text)[:_MAX_ITEMS])
    return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]


def _scalar(value: Json) -> Json:
    """The one scalar that a value is, or wraps: `["u-1"]`, `{"stringValue": "u-1"}`."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, Mapping) and 0 < len(value) <= 2:
        value = next((value[key] for key in _VALUE_KEYS if key in value), None)
    return value


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
