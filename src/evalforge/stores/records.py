"""The small records of a run as plain documents and back: one form for every store.

A reader of a document raises KeyError, TypeError or ValueError when it is not one of ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from evalforge.core.ports import Checkpoint, DeadLetter, Erasure, ExportPackage, Lease
from evalforge.core.window import Window
from evalforge.errors import StoreError
from evalforge.stores.fitting import CUT, cut

LETTER_WEIGHT = 100_000
"""How heavy the structure in a dead letter may be; more is cut and marked."""

TRACE_KEY_BYTES = 16

_TRACE_KEY = re.compile(r"[0-9a-f]{32}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def record_id(name: str) -> str:
    """`name` where it can be a key in every store, else its SHA-256."""
    return name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def checkpoint_document(checkpoint: Checkpoint) -> dict[str, Any]:
    """The stored form of a checkpoint; its window in epoch milliseconds."""
    return {
        "source": checkpoint.source,
        "from_ms": checkpoint.window.from_ms,
        "to_ms": checkpoint.window.to_ms,
        "query_digest": checkpoint.query_digest,
        "step": checkpoint.step,
        "cursor": checkpoint.cursor,
        "last_ms": checkpoint.last_ms,
        "learned": list(checkpoint.learned),
        "done": checkpoint.done,
    }


def checkpoint_of(document: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that `checkpoint_document` wrote."""
    return Checkpoint(
        source=document["source"],
        window=Window(document["from_ms"], document["to_ms"]),
        query_digest=document["query_digest"],
        step=document["step"],
        cursor=document["cursor"],
        last_ms=document["last_ms"],
        learned=tuple(document["learned"]),
        done=document["done"],
    )


def lease_document(lease: Lease) -> dict[str, Any]:
    """The stored form of a lease."""
    return {
        "name": lease.name,
        "holder": lease.holder,
        "token": lease.token,
        "acquired_at": lease.acquired_at,
        "expires_at": lease.expires_at,
    }


def lease_of(document: Mapping[str, Any]) -> Lease:
    """The lease that `lease_document` wrote."""
    return Lease(
        name=document["name"],
        holder=document["holder"],
        token=document["token"],
        acquired_at=document["acquired_at"],
        expires_at=document["expires_at"],
    )


def letter_document(letter: DeadLetter) -> dict[str, Any]:
    """The stored form of a dead letter; a structure beyond `LETTER_WEIGHT` is cut."""
    structure, _ = cut(letter.structure, LETTER_WEIGHT)
    return {
        "id": letter.id,
        "source": letter.source,
        "stage": letter.stage,
        "reason": letter.reason,
        "structure": structure if isinstance(structure, Mapping) else {CUT: structure},
        "occurred_at": letter.occurred_at,
        "expires_at": letter.expires_at,
        "trace_id": letter.trace_id,
        "span_id": letter.span_id,
    }


def package_document(package: ExportPackage) -> dict[str, Any]:
    """The stored form of an export's record."""
    return {
        "id": package.id,
        "created_at": package.created_at,
        "format": package.format,
        "destination": package.destination,
        "selection": dict(package.selection),
        "count": package.count,
        "sha256": package.sha256,
        "size_bytes": package.size_bytes,
        "state": package.state,
        "reason": package.reason,
        "erased_count": package.erased_count,
    }


def package_of(document: Mapping[str, Any]) -> ExportPackage:
    """The record that `package_document` wrote, or an earlier version of it."""
    return ExportPackage(
        id=document["id"],
        created_at=document["created_at"],
        format=document["format"],
        destination=document["destination"],
        selection=document["selection"],
        count=document["count"],
        sha256=document["sha256"],
        size_bytes=document["size_bytes"],
        state=document["state"],
        reason=document["reason"],
        erased_count=document.get("erased_count", 0),
    )


def erasure_document(erasure: Erasure) -> dict[str, Any]:
    """The stored form of an erasure; its trace keys are packed, `TRACE_KEY_BYTES` each, in their order.

    Raises:
        ValueError: when a trace key is not 32 lower-case hexadecimal digits.
    """
    if not all(_TRACE_KEY.fullmatch(key) for key in erasure.trace_keys):
        raise ValueError("a trace key has 32 lower-case hexadecimal digits")
    return {
        "id": erasure.id,
        "erased_at": erasure.erased_at,
        "kind": erasure.kind,
        "actor": erasure.actor,
        "user_hashes": list(erasure.user_hashes),
        "trace_keys": bytes.fromhex("".join(erasure.trace_keys)),
        "counts": dict(erasure.counts),
        "tasks": list(erasure.tasks),
    }


def erasure_of(document: Mapping[str, Any]) -> Erasure:
    """The erasure that `erasure_document` wrote."""
    packed = document["trace_keys"]
    return Erasure(
        id=document["id"],
        erased_at=document["erased_at"],
        kind=document["kind"],
        actor=document["actor"],
        user_hashes=tuple(document["user_hashes"]),
        trace_keys=tuple(packed[at : at + TRACE_KEY_BYTES].hex() for at in range(0, len(packed), TRACE_KEY_BYTES)),
        counts=dict(document["counts"]),
        tasks=tuple(document["tasks"]),
    )


def damaged_tombstone(place: str) -> StoreError:
    """The refusal to go on without a tombstone that cannot be read: what it kept out would come back."""
    return StoreError(f"{place} is no record of an erasure: restore it, or delete it if nobody of ours wrote it")


def is_blocked(held: Lease | None, token: str, now: datetime) -> bool:
    """Whether the lease that stands keeps the holder of `token` from running at `now`."""
    return held is not None and held.token != token and held.expires_at > now
