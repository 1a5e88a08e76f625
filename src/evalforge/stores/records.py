"""The small records of a run as plain documents and back: one form for every store.

A reader of a document takes every version that was ever written (`core.versions`). It raises NewerVersionError for a later
one, and KeyError, TypeError or ValueError when the document is not one of ours.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from evalforge.core.capture import evaluator_in
from evalforge.core.ports import (
    LOOKBACK,
    Brief,
    Checkpoint,
    Coverage,
    DeadLetter,
    Erasure,
    ExportPackage,
    Facets,
    Lease,
    PackageFile,
    RunRecord,
    Told,
)
from evalforge.core.review import Change, Review, ReviewState
from evalforge.core.versions import stamped, todays
from evalforge.core.window import Window, epoch_ms
from evalforge.errors import StoreError
from evalforge.stores.fitting import CUT, cut

LETTER_WEIGHT = 100_000
"""How heavy the structure in a dead letter may be; more is cut and marked."""
REPORT_WEIGHT = 400_000
"""How heavy a run's report may be; more is cut and marked."""

TRACE_KEY_BYTES = 16

_TRACE_KEY = re.compile(r"[0-9a-f]{32}")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


def record_id(name: str) -> str:
    """`name` where it can be a key in every store, else its SHA-256."""
    return name if _PLAIN_NAME.fullmatch(name) else hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()


def checkpoint_key(source: str, tier: str) -> str:
    """The key of the checkpoint of a source and tier."""
    return record_id(source if tier == LOOKBACK else f"{source}.{tier}")


def checkpoint_document(checkpoint: Checkpoint, fence: int) -> dict[str, Any]:
    """The stored form of a checkpoint, with the fence of whoever saves it; its window in epoch milliseconds."""
    document = {
        "source": checkpoint.source,
        "from_ms": checkpoint.window.from_ms,
        "to_ms": checkpoint.window.to_ms,
        "query_digest": checkpoint.query_digest,
        "step": checkpoint.step,
        "cursor": checkpoint.cursor,
        "last_ms": checkpoint.last_ms,
        "learned": list(checkpoint.learned),
        "done": checkpoint.done,
        "tier": checkpoint.tier,
        "began_ms": checkpoint.began_ms,
        "fence": fence,
    }
    return stamped("checkpoint", document)


def checkpoint_of(document: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint that `checkpoint_document` wrote."""
    document = todays("checkpoint", document)
    return Checkpoint(
        source=document["source"],
        window=Window(document["from_ms"], document["to_ms"]),
        query_digest=document["query_digest"],
        step=document["step"],
        cursor=document["cursor"],
        last_ms=document["last_ms"],
        learned=tuple(document["learned"]),
        done=document["done"],
        tier=document["tier"],
        began_ms=document["began_ms"],
    )


def fence_of(document: Mapping[str, Any]) -> int:
    """The fence of whoever saved the checkpoint that stands.

    Raises:
        NewerVersionError: a later program saved it, which must not be replaced.
    """
    try:
        fence: int = todays("checkpoint", document)["fence"]
    except (KeyError, TypeError, ValueError):  # none of ours
        return 0
    return fence


def coverage_document(coverage: Coverage) -> dict[str, Any]:
    """The stored form of a coverage; its windows as two lists of epoch milliseconds."""
    return {
        "source": coverage.source,
        "query_digest": coverage.query_digest,
        "saved_at": coverage.saved_at,
        "from_ms": [window.from_ms for window in coverage.windows],
        "to_ms": [window.to_ms for window in coverage.windows],
    }


def coverage_of(document: Mapping[str, Any]) -> Coverage:
    """The coverage that `coverage_document` wrote."""
    document = todays("coverage", document)
    bounds = zip(document["from_ms"], document["to_ms"], strict=True)
    return Coverage(
        source=document["source"],
        query_digest=document["query_digest"],
        saved_at=document["saved_at"],
        windows=tuple(Window(*bound) for bound in bounds),
    )


TOLD_NAME = "groups"
"""Under which name what was told of groups is kept."""


def told_document(told: Told) -> dict[str, Any]:
    """The stored form of what was told; its regressions as two lists, since a signature is no name of a field."""
    regressed = sorted(told.regressions)
    return {
        "origin": told.origin,
        "signatures": sorted(told.signatures),
        "regressed": regressed,
        "resolved_at": [told.regressions[signature] for signature in regressed],
    }


def told_of(document: Mapping[str, Any]) -> Told | None:
    """What `told_document` wrote; None for what is none of it: then telling begins anew."""
    try:
        document = todays("told", document)
        regressions = dict(zip(document["regressed"], document["resolved_at"], strict=True))
        origin, signatures = document["origin"], frozenset(document["signatures"])
    except (KeyError, TypeError, ValueError):
        return None
    are_texts = all(isinstance(text, str) for text in (origin, *signatures, *regressions))
    are_times = all(isinstance(resolved_at, datetime) for resolved_at in regressions.values())
    return Told(origin, signatures, regressions) if are_texts and are_times else None


def lease_document(lease: Lease) -> dict[str, Any]:
    """The stored form of a lease."""
    document = {
        "name": lease.name,
        "holder": lease.holder,
        "token": lease.token,
        "acquired_at": lease.acquired_at,
        "expires_at": lease.expires_at,
        "fence": lease.fence,
    }
    return stamped("lease", document)


def lease_of(document: Mapping[str, Any]) -> Lease:
    """The lease that `lease_document` wrote."""
    document = todays("lease", document)
    return Lease(
        name=document["name"],
        holder=document["holder"],
        token=document["token"],
        acquired_at=document["acquired_at"],
        expires_at=document["expires_at"],
        fence=document["fence"],
    )


def held_next(lease: Lease, held: Lease | None, now: datetime) -> Lease:
    """The lease as it is held after `held`, which does not block it: with its fence, greater than any before.

    The time goes into it so that it grows even where the lease before was deleted.
    """
    if held is not None and held.token == lease.token:
        return replace(lease, fence=held.fence)
    return replace(lease, fence=max(held.fence + 1 if held is not None else 1, epoch_ms(now)))


def given_back(lease: Lease) -> Lease:
    """What stands in place of a lease that was given back: nobody holds it, and its fence is remembered."""
    return replace(lease, token="", expires_at=lease.acquired_at)


def run_document(record: RunRecord) -> dict[str, Any]:
    """The stored form of a run's record; a report beyond `REPORT_WEIGHT` is cut."""
    report, _ = cut(record.report, REPORT_WEIGHT)
    return {
        "id": record.id,
        "state": record.state,
        "plan": record.plan,
        "holder": record.holder,
        "asked_by": record.asked_by,
        "started_at": record.started_at,
        "finished_at": record.finished_at,
        "expires_at": record.expires_at,
        "report": report if isinstance(report, Mapping) else {CUT: report},
    }


def run_of(document: Mapping[str, Any]) -> RunRecord:
    """The record that `run_document` wrote."""
    document = todays("run", document)
    return RunRecord(
        id=document["id"],
        state=document["state"],
        plan=document["plan"],
        holder=document["holder"],
        asked_by=document["asked_by"],
        started_at=document["started_at"],
        finished_at=document["finished_at"],
        expires_at=document["expires_at"],
        report=document["report"],
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


def letter_of(document: Mapping[str, Any]) -> DeadLetter:
    """The letter that `letter_document` wrote."""
    document = todays("dead_letter", document)
    return DeadLetter(
        id=document["id"],
        source=document["source"],
        stage=document["stage"],
        reason=document["reason"],
        structure=document["structure"],
        occurred_at=document["occurred_at"],
        expires_at=document["expires_at"],
        trace_id=document["trace_id"],
        span_id=document["span_id"],
    )


def package_document(package: ExportPackage) -> dict[str, Any]:
    """The stored form of an export's record."""
    document = {
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
        "attempts": package.attempts,
        "attempted_at": package.attempted_at,
        "per_group": package.per_group,
        "test_share": package.test_share,
        "files": [{"name": one.name, "sha256": one.sha256, "size_bytes": one.size_bytes} for one in package.files],
        "counts": dict(package.counts),
        "document_ids": package.document_ids,
        "ids_are_cut": package.ids_are_cut,
    }
    return stamped("package", document)


def package_of(document: Mapping[str, Any]) -> ExportPackage:
    """The record that `package_document` wrote."""
    document = todays("package", document)
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
        erased_count=document["erased_count"],
        attempts=document["attempts"],
        attempted_at=document["attempted_at"],
        per_group=document["per_group"],
        test_share=document["test_share"],
        files=tuple(PackageFile(one["name"], one["sha256"], one["size_bytes"]) for one in document["files"]),
        counts=dict(document["counts"]),
        document_ids=document["document_ids"],
        ids_are_cut=document["ids_are_cut"],
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
    document = todays("tombstone", document)
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


def brief_of(values: Mapping[str, Any], version: Any, place: Any) -> Brief:
    """A capture in short, of `values` that a store holds for its fields.

    `version` is a tag, one text or several; `place` where its worst signal was found.

    What somebody has put in the place of a text is left out: rows of lists must not fail for it.
    """
    texts = {name: value if isinstance(value, str) else None for name, value in values.items() if name in _BRIEF_TEXTS}
    status_code = values["status_code"]
    return Brief(
        trace_id=str(values["trace_id"]),
        signature=str(values["signature"]),
        started_at=values["started_at"],
        fetched_at=values["fetched_at"],
        failure_type=str(values["failure_type"]),
        severity=str(values["severity"]),
        evaluator=evaluator_in(place) if isinstance(place, str) else None,
        status_code=status_code if isinstance(status_code, int) else None,
        version=version_text(version),
        **texts,
    )


def facets_of(values: Mapping[str, Any], version: Any) -> Facets:
    """What a group counts of a capture, of `values` that a store holds for it."""
    texts = {name: values[name] if isinstance(values[name], str) else None for name in ("env", "model_name", "user_hash")}
    return Facets(values["started_at"], str(values["severity"]), version=version_text(version), **texts)


def version_text(version: Any) -> str | None:
    """The version that a tag tells, one text or several."""
    versions = version if isinstance(version, list) else [version]
    return ", ".join(one for one in versions if isinstance(one, str) and one) or None


_BRIEF_TEXTS = ("span_name", "ml_app", "env", "service_name", "model_name", "error_type", "user_hash")


def review_document(review: Review) -> dict[str, Any]:
    """The stored form of a review; its version is the store's and not in it."""
    return {
        "signature": review.signature,
        "state": review.state.value,
        "assignee": review.assignee,
        "note": review.note,
        "resolved_at": review.resolved_at,
        "expected_outputs": [{"trace_id": one, "text": text} for one, text in review.expected_outputs.items()],
        "history": [
            {
                "at": change.at,
                "by": change.by,
                "what": change.what,
                "before": change.before,
                "after": change.after,
                "trace_id": change.trace_id,
            }
            for change in review.history
        ],
    }


def review_of(document: Mapping[str, Any]) -> Review:
    """The review that `review_document` wrote."""
    document = todays("review", document)
    return Review(
        signature=document["signature"],
        state=ReviewState(document["state"]),
        assignee=document["assignee"],
        note=document["note"],
        resolved_at=document["resolved_at"],
        expected_outputs={entry["trace_id"]: entry["text"] for entry in document["expected_outputs"]},
        history=tuple(Change(**entry) for entry in document["history"]),
    )


def damaged_tombstone(place: str) -> StoreError:
    """The refusal to go on without a tombstone that cannot be read: what it kept out would come back."""
    return StoreError(f"{place} is no record of an erasure: restore it, or delete it if nobody of ours wrote it")


def is_blocked(held: Lease | None, token: str, now: datetime) -> bool:
    """Whether the lease that stands keeps the holder of `token` from running at `now`; one given back never does."""
    return held is not None and held.token not in ("", token) and held.expires_at > now
