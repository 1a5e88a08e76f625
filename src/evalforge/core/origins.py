"""Origins: what a capture was made of, as keyed digests, so that a run recognizes what was judged and stored before.

Most of what a schedule reads was read by the run before. A stored capture that names an origin holds all that would come of
the same spans under the same rules, since captures only ever grow by merging: nothing has to be sanitized again.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from evalforge import __version__
from evalforge.core.canonical import canonical_json
from evalforge.core.privacy.identity import KeyRing
from evalforge.core.span import Span

ORIGIN_BYTES = 16
"""How long an origin is; 128 bits, as every digest of ours."""

MAX_ORIGINS = 32
"""How many origins a capture names; a trace comes in a few parts, of each source, and each grows a few times."""

_DOMAIN = b"evalforge/origin\0"


class Origins:
    """Makes origins under one key of the ring and one set of rules: under others the same spans have another one.

    Keyed, because what was removed from a span could else be guessed and confirmed by whoever knows the rest of it.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "Origins()"

    @classmethod
    def under(cls, ring: KeyRing, rules: Mapping[str, Any]) -> Origins | None:
        """The origins under the ring's newest key; `rules` is all that decides what becomes of a span: JSON values, sets of
        texts, and dataclasses of these. The version of this package is always one of the rules.

        None without a ring: there is no key to make them with.
        """
        if not ring.keys:
            return None
        rules = {**rules, "version": __version__, "key_ids": ring.key_ids}
        about = orjson.dumps(rules, default=_listed, option=orjson.OPT_SORT_KEYS)
        return cls(hmac.digest(ring.keys[0], _DOMAIN + about, "sha256"))

    def of(self, spans: Iterable[Span], failing: Iterable[Span]) -> bytes | None:
        """The origin of what comes of the spans of one trace, of which these are failing ones.

        Neither order nor repetition counts. None where a span cannot be written down: that one is never recognized.
        """
        failed = set(map(id, failing))
        try:
            parts = {self._digest(b"!" if id(span) in failed else b".", canonical_json(span.content)) for span in spans}
        except (TypeError, ValueError, RecursionError):
            return None
        return self._digest(*sorted(parts))

    def _digest(self, *parts: bytes) -> bytes:
        return hashlib.blake2b(b"\0".join(parts), digest_size=ORIGIN_BYTES, key=self._key).digest()


def cut_origins(origins: frozenset[bytes]) -> frozenset[bytes]:
    """The greatest of them, at most `MAX_ORIGINS`."""
    return origins if len(origins) <= MAX_ORIGINS else frozenset(sorted(origins)[-MAX_ORIGINS:])


def pack_origins(origins: frozenset[bytes]) -> bytes:
    """Origins one after the other, ascending."""
    return b"".join(sorted(origins))


def unpack_origins(packed: bytes) -> frozenset[bytes]:
    """The origins that `pack_origins` packed."""
    return frozenset(packed[at : at + ORIGIN_BYTES] for at in range(0, len(packed), ORIGIN_BYTES))


def _listed(value: Any) -> list[str]:
    if isinstance(value, frozenset):
        return sorted(value)
    raise TypeError(f"a rule cannot be a {type(value).__name__}")
