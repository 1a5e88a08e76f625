"""What errors said: for each failing span that tells, its error's type, the scrubbed message and the HTTP status code.

LLM Observability does not export errors; APM's span of the same id does. The two are versions of one span, of which a
capture keeps one payload, so what an error said has a place of its own: whichever version stands, it is not lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from evalforge.core.privacy.sanitized import SanitizedSpan
from evalforge.core.signals import FailureType, Severity

MAX_ERROR_DETAILS = 20
MAX_MESSAGE_LENGTH = 1_000
"""How many characters of a message are kept: the payload may have more of it."""

_CUT_MARK = " [cut]"
_LONGEST_WORD = 100


@dataclass(frozen=True, slots=True)
class ErrorDetail:
    """What the error of one failing span said. `message` is scrubbed, or a placeholder; one of it and `error_type` is there.

    `severity`, `start_ns`, `sanitizer_version` and `removed_count` are those of the version of the span that told.
    """

    span_id: str
    severity: Severity
    start_ns: int
    error_type: str | None
    message: str | None
    status_code: int | None
    sanitizer_version: int
    removed_count: int

    @property
    def order(self) -> tuple[Any, ...]:
        """The total order of details: who tells more first, then as occurrences are ordered.

        It serves to choose among the versions of one span and to cut, as docs/decisions/0004-merge-laws.md asks.
        """
        return (
            self.message is not None,
            self.error_type is not None,
            int(self.severity),
            self.start_ns,
            self.span_id,
            self.sanitizer_version,
            self.removed_count,
            self.status_code or 0,
            self.error_type or "",
            self.message or "",
        )


def error_details_of(span: SanitizedSpan) -> tuple[ErrorDetail, ...]:
    """What the error of this span said: one detail, or none where it says neither type nor message."""
    message = _message_in(span.payload.get("error"))
    if message is None and span.error_type is None:
        return ()
    return (
        ErrorDetail(
            span_id=span.span_id,
            severity=span.severity,
            start_ns=span.start_ns,
            error_type=span.error_type,
            message=message,
            status_code=span.status_code,
            sanitizer_version=span.sanitizer_version,
            removed_count=sum(span.redactions.values()),
        ),
    )


def cut_error_details(details: Iterable[ErrorDetail]) -> tuple[ErrorDetail, ...]:
    """One detail for each span, the greatest first, at most `MAX_ERROR_DETAILS`."""
    versions: dict[str, ErrorDetail] = {}
    for detail in details:
        known = versions.get(detail.span_id)
        if known is None or detail.order > known.order:
            versions[detail.span_id] = detail
    return tuple(sorted(versions.values(), key=lambda one: one.order, reverse=True)[:MAX_ERROR_DETAILS])


def untold_errors(document: Mapping[str, Any]) -> list[str]:
    """The spans of a stored capture, worst first, that ended with an error of which no message is kept and one could be."""
    details = document.get("error_details") or ()
    told = {detail["span_id"] for detail in details if detail["message"] is not None}
    failed = {
        signal["span_id"]: None
        for signal in document["signals"]
        if signal["type"] == FailureType.EXECUTION_ERROR.value and signal["place"] == "status"
    }
    return [span_id for span_id in failed if span_id not in told][: max(0, MAX_ERROR_DETAILS - len(told))]


def error_detail_document(detail: ErrorDetail) -> dict[str, Any]:
    """The stored form of a detail."""
    document = {name: getattr(detail, name) for name in ErrorDetail.__slots__}
    return document | {"severity": detail.severity.label}


def error_detail_of(entry: Mapping[str, Any]) -> ErrorDetail:
    """The detail that `error_detail_document` wrote.

    Raises:
        KeyError, TypeError, AttributeError: it is none of ours.
    """
    fields = {name: entry[name] for name in ErrorDetail.__slots__}
    return ErrorDetail(**fields | {"severity": Severity[entry["severity"].upper()]})


def _message_in(error: Any) -> str | None:
    if isinstance(error, Mapping):
        error = next((error[key] for key in ("message", "msg") if isinstance(error.get(key), str)), None)
    if not isinstance(error, str):
        return None
    if len(error) <= MAX_MESSAGE_LENGTH:
        return error
    end = MAX_MESSAGE_LENGTH - len(_CUT_MARK)
    space = error.rfind(" ", end - _LONGEST_WORD, end)  # a placeholder has no space, and stays whole or goes
    return error[: space if space > 0 else end] + _CUT_MARK
