"""What an upsert writes: the one decision that every store makes, on plain documents.

Whatever is written has been through the second net, also what an older version left in a stored document. The net and the
fitting are functions of the capture alone, so a fingerprint is always that of what stands in the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evalforge.core.capture import FailureCapture, merge
from evalforge.core.error_details import untold_errors
from evalforge.core.origins import unpack_origins
from evalforge.core.ports import UpsertResult
from evalforge.core.privacy.net import SECOND_NET, second_net
from evalforge.core.span import TraceIdKind
from evalforge.core.versions import todays
from evalforge.errors import SkippableError
from evalforge.stores.fitting import fit

NOT_REPRESENTABLE = "not_representable"
"""Why a capture was refused: no stored form of it can be made."""
STORED_DOCUMENT_UNREADABLE = "stored_document_unreadable"
"""Why a capture was refused: a foreign document stands under its id, and is left as it is."""

OWNED_BY_DOWNSTREAM = frozenset({"processed"})
"""Fields that ingestion sets when it creates a document, and never again."""

RECOGNIZED_BY = ("origins", "expires_at", "trace_id", "trace_id_kind", "user_hashes", "signals", "error_details")
"""The fields of a stored document that a look for its origins needs."""

_SEARCHED = ("trace_payload", "occurrences", "signals", "error_details", "redactions")
"""The facts that hold what senders wrote; the rest of a document is derived from them, or ids and digests."""
_ROUNDS = 4

_ANY_DEFECT = (TypeError, ValueError, LookupError, AttributeError, OverflowError, RecursionError)


@dataclass(slots=True)
class Outcome:
    """What became of captures, while a store goes through them."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    _without_user: dict[str, TraceIdKind] = field(default_factory=dict)
    _untold_errors: list[tuple[str, str]] = field(default_factory=list)

    def note(self, fate: list[str], trace_id: str, document: Mapping[str, Any]) -> None:
        """The trace belongs to `fate`, one of the lists of this outcome, and has this document now."""
        untold = untold_errors(document)
        if not document.get("user_hashes"):
            self._without_user[trace_id] = document["trace_id_kind"]
        self._untold_errors += [(trace_id, span_id) for span_id in untold]
        fate.append(trace_id)

    def recognize(self, trace_id: str, stored: Mapping[str, Any], origin: bytes) -> None:
        """The trace is unchanged if this live document, at least its `RECOGNIZED_BY`, names the origin."""
        with suppress(*_ANY_DEFECT):  # an older capture, or none of ours: the upsert looks closer
            if stored["trace_id"] == trace_id and origin in unpack_origins(stored["origins"]):
                self.note(self.unchanged, trace_id, stored)

    def result(self) -> UpsertResult:
        """All of it."""
        return UpsertResult(
            tuple(self.created),
            tuple(self.updated),
            tuple(self.unchanged),
            tuple(self.refused),
            self._without_user,
            tuple(self._untold_errors),
        )


def fitted_document(capture: FailureCapture) -> tuple[FailureCapture, dict[str, Any]]:
    """The capture as a store can hold it, without what the second net finds in it, and its document.

    Raises:
        SkippableError: when it has none, with the code `not_representable`.
    """
    try:
        return _caught(capture)
    except _ANY_DEFECT as error:
        raise SkippableError(f"a capture has no stored form: {type(error).__name__}", code=NOT_REPRESENTABLE) from error


def merged_document(capture: FailureCapture, stored: Mapping[str, Any]) -> dict[str, Any] | None:
    """The document that both together make, or None when the stored one says it all already.

    Raises:
        NewerVersionError: a later program wrote `stored`: this one would lose what it does not know of.
        SkippableError: when `stored` is none of ours, with the code `stored_document_unreadable`.
    """
    try:
        _, merged = _caught(merge(FailureCapture.from_document(stored), capture))
        return merged if merged["fingerprint"] != stored["fingerprint"] else None
    except _ANY_DEFECT as error:
        raise unreadable(error) from error


def _caught(capture: FailureCapture) -> tuple[FailureCapture, dict[str, Any]]:
    """The capture that fits and in which the second net finds nothing more."""
    fitted = fit(capture)
    document = fitted.to_document()
    for _ in range(_ROUNDS):  # a text that is cut may look like something new at its end
        cleaned, hits = second_net({name: document[name] for name in _SEARCHED})
        if not hits:
            break
        counts = {**cleaned["redactions"], SECOND_NET: cleaned["redactions"].get(SECOND_NET, 0) + sum(hits.values())}
        caught = FailureCapture.from_document({**document, **cleaned, "redactions": counts})
        # Signals may have become equal: merging with itself brings a capture into the one form of its sets.
        fitted = fit(merge(caught, caught))
        document = fitted.to_document()
    return fitted, document


def created_fields(now: datetime) -> dict[str, Any]:
    """What a new document holds beside the facts."""
    return {"updated_at": now, "processed": False}


def capture_in(document: Mapping[str, Any]) -> tuple[FailureCapture, Mapping[str, Any]]:
    """The capture that a stored document of any version holds, and the document as it would be today.

    Raises:
        NewerVersionError: a later program wrote it.
        SkippableError: when it is none of ours, with the code `stored_document_unreadable`.
    """
    try:
        document = todays("capture", document)
        capture = FailureCapture.from_document(document)
        # A document of another shape may still have all the names: what is derived must be there too.
        _ = (capture.failure_type, capture.greatest, capture.expires_at.tzinfo)
    except _ANY_DEFECT as error:
        raise unreadable(error) from error
    return capture, document


def unreadable(error: Exception) -> SkippableError:
    """The refusal to touch a stored document that could not be read."""
    return SkippableError(f"a stored document is no capture: {type(error).__name__}", code=STORED_DOCUMENT_UNREADABLE)
