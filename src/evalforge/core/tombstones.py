"""Tombstones: what was erased, in a form that recognises it when it is read again and says nothing of it otherwise.

A trace is recognised by a keyed digest of its stored id, a user by the hashes of their id. A user's tombstone ends where the
erasure was: what the same person does afterwards is a new matter.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Erasure
from evalforge.core.privacy import KeyRing
from evalforge.core.privacy.identity import PUBLIC_KEY

_DOMAIN = b"evalforge/tombstone\0"
_HEX_DIGITS_KEPT = 32
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Burial = Literal["trace", "user"]
"""By which tombstone a capture is kept out."""


def trace_key(trace_id: str, ring: KeyRing) -> str:
    """The digest that a tombstone keeps of a stored trace id: 32 hexadecimal digits under the ring's newest key.

    With an empty ring the key is `PUBLIC_KEY`, so that the digest of a guessed id can be recognised.
    """
    return _digest(ring.keys[0] if ring.keys else PUBLIC_KEY, trace_id)


class Tombstones:
    """The tombstones of some erasures, to be asked about what is about to be written.

    They recognise traces buried under any key of the ring, and under none; not those buried under a key that was destroyed.
    """

    def __init__(self, erasures: Iterable[Erasure], ring: KeyRing) -> None:
        self._keys = (*ring.keys, PUBLIC_KEY)
        self._traces: set[bytes] = set()
        self._users_until_ns: dict[str, int] = {}
        for erasure in erasures:
            self.add(erasure)

    def add(self, erasure: Erasure) -> None:
        """Adds those of one more erasure, or of more of the same."""
        self._traces.update(map(bytes.fromhex, erasure.trace_keys))
        until_ns = _nanoseconds(erasure.erased_at)
        for user_hash in erasure.user_hashes:
            self._users_until_ns[user_hash] = max(until_ns, self._users_until_ns.get(user_hash, until_ns))

    @property
    def knows_users(self) -> bool:
        """Whether any user is buried."""
        return bool(self._users_until_ns)

    def buries_trace(self, trace_id: str | None) -> bool:
        """Whether this stored trace id was erased."""
        if not self._traces or not trace_id:
            return False
        return any(bytes.fromhex(_digest(key, trace_id)) in self._traces for key in self._keys)

    def buries_user(self, user_hash: str, start_ns: int) -> bool:
        """Whether a span of this user that started then (nanoseconds since the epoch) was erased."""
        return start_ns < self._users_until_ns.get(user_hash, start_ns)

    def buries(self, capture: FailureCapture) -> Burial | None:
        """By what this capture is kept out, if it is: by its trace before by its users."""
        if self.buries_trace(capture.trace_id):
            return "trace"
        users = (*capture.user_first_ns, *capture.root_user_first_ns)
        return "user" if any(self.buries_user(user_hash, start_ns) for user_hash, start_ns in users) else None

    def buries_row(self, row: Mapping[str, Any]) -> bool:
        """Whether a capture's document, as it stands in an export, was erased; whatever types its values have."""
        trace_id = row.get("trace_id")
        if isinstance(trace_id, str) and self.buries_trace(trace_id):
            return True
        users, starts = row.get("user_hashes"), row.get("user_first_ns")
        if not isinstance(users, Sequence) or not isinstance(starts, Sequence):
            return False
        return any(
            isinstance(user_hash, str) and isinstance(start_ns, int) and self.buries_user(user_hash, start_ns)
            for user_hash, start_ns in zip(users, starts, strict=False)
        )


def _digest(key: bytes, trace_id: str) -> str:
    message = _DOMAIN + trace_id.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, "sha256").hex()[:_HEX_DIGITS_KEPT]


def _nanoseconds(instant: datetime) -> int:
    since = instant - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000
