"""What errors said: which spans tell it, how it is cut, and which spans of a document are still untold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture, capture_of
from evalforge.core.error_details import MAX_ERROR_DETAILS, MAX_MESSAGE_LENGTH, error_details_of, untold_errors
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.again import judged_again
from evalforge.core.privacy.modes import TextPolicy
from evalforge.core.signals import FailureType, Severity, Thresholds, find_signals
from evalforge.stores.fitting import fit
from evalforge.stores.merging import fitted_document
from tests.captures import NOW, SITE, capture, merged, sanitized_span, signal
from tests.spans import span

ENDED = signal("1", FailureType.EXECUTION_ERROR, Severity.MEDIUM, "status", "error", "error")


@pytest.mark.parametrize(
    ("error", "error_type", "told"),
    [
        ({"message": "timed out", "type": "TimeoutError"}, "TimeoutError", ("TimeoutError", "timed out")),
        ({"msg": "timed out"}, None, (None, "timed out")),
        ("timed out", None, (None, "timed out")),
        ("[redacted:error]", None, (None, "[redacted:error]")),
        ({"stack": "at 1"}, "TimeoutError", ("TimeoutError", None)),
        (None, "TimeoutError", ("TimeoutError", None)),
        ({"message": {"cut": "object"}}, None, None),
        (1, None, None),
        ({}, None, None),
    ],
)
def test_a_span_tells_its_error(error: Any, error_type: str | None, told: tuple[str | None, str | None] | None) -> None:
    found = error_details_of(sanitized_span(payload={"error": error}, error_type=error_type, status_code=504))
    assert [(one.error_type, one.message) for one in found] == ([told] if told is not None else [])
    assert all(one.status_code == 504 for one in found)


def test_of_two_versions_of_a_span_the_one_that_tells_more_stands_and_the_payload_is_left_alone() -> None:
    silent = capture(1, "1", payload={"name": "of the model"}, start_ns=1_000_000_001, signals=(ENDED,))
    error = {"error": {"message": "refused"}}
    telling = capture(1, "1", payload=error, error_type="Refused", start_ns=1_000_000_000, signals=(ENDED,))
    both = merged(silent, telling)
    assert both == merged(telling, silent)
    assert both.payload == {"name": "of the model"}
    assert [(one.span_id, one.error_type, one.message) for one in both.error_details] == [("1", "Refused", "refused")]
    assert (both.greatest.error_type, both.error_type, both.to_document()["error_type"]) == (None, "Refused", "Refused")
    assert both.signature != silent.signature


def test_long_messages_and_many_spans_are_bounded() -> None:
    parts = [capture(1, str(number), payload={"error": "x" * 5_000}) for number in range(1, 31)]
    document = merged(*parts).to_document()
    assert len(document["error_details"]) == MAX_ERROR_DETAILS
    assert {len(one["message"]) for one in document["error_details"]} == {MAX_MESSAGE_LENGTH}
    assert all(one["message"].endswith(" [cut]") for one in document["error_details"])
    assert FailureCapture.from_document(document).to_document() == document


def test_details_share_the_room_of_all_other_texts() -> None:
    parts = [capture(1, f"{number:0>2}" * 20_000, payload={"error": "\U0001f600" * 900}) for number in range(10)]
    whole = merged(*parts)
    fitted = fit(whole)
    assert max(len(one.message or "") for one in whole.error_details) == 900
    assert max(len((one.message or "").encode()) for one in fitted.error_details) < 200
    assert fit(fitted) == fitted


def test_captures_of_before_have_no_details() -> None:
    document = {**capture(1).to_document(), "schema_version": 2}
    del document["error_details"]
    assert FailureCapture.from_document(document).error_details == ()


def test_the_second_net_reads_details_too() -> None:
    raw = capture(1, payload={"error": "mail maria.lopez@example.com or 203.0.113.9"})
    fitted, document = fitted_document(raw)
    assert "maria" not in str(document["error_details"])
    assert fitted.error_details[0].message != raw.error_details[0].message
    assert document["redactions"]["second_net"] == 2, "in the payload and in the details"


def test_untold_are_the_worst_spans_that_ended_with_an_error_and_have_no_message() -> None:
    ended = [
        capture(1, str(n), signals=(signal(str(n), FailureType.EXECUTION_ERROR, Severity.MEDIUM, "status", "error"),))
        for n in range(1, 31)
    ]
    judged_only = capture(1, "99")
    document = merged(*ended, judged_only).to_document()
    untold = untold_errors(document)
    assert len(untold) == MAX_ERROR_DETAILS
    assert "99" not in untold
    telling = [capture(1, span_id, payload={"error": "x"}) for span_id in untold[:15]]
    rest = untold_errors(merged(*ended, *telling).to_document())
    assert len(rest) == MAX_ERROR_DETAILS - 15
    assert set(rest).isdisjoint(untold[:15])
    assert untold_errors({**document, "error_details": None}) == untold


def test_a_type_alone_is_kept_and_still_asked_about() -> None:
    document = capture(1, signals=(ENDED,), error_type="TimeoutError").to_document()
    assert [one["error_type"] for one in document["error_details"]] == ["TimeoutError"]
    assert untold_errors(document) == ["1"]


@pytest.mark.parametrize("opened", [(), ("error.message",)])
def test_what_an_audit_makes_of_details_is_what_stands_already(opened: tuple[str, ...]) -> None:
    text = "model timed out for jane.doe@example.com after 30 s; " * 40 + "ask maria.lopez@example.com"
    raw = span(status="error", error={"message": text, "type": "Timeout"}, metadata={"user_id": "u-1"})
    sanitizer = Sanitizer(KeyRing((b"k" * 32,)), TextPolicy.of(opened, opened))
    sanitized = sanitizer.sanitize(raw, find_signals(raw, Thresholds()))
    made = capture_of(sanitized, site=SITE, fetched_at=NOW, retention_days=180)
    stored, document = fitted_document(made)
    again, leaks = judged_again(FailureCapture.from_document(document), document, sanitizer)
    assert leaks == []
    assert again.error_details == stored.error_details
    assert re.search(r"maria|jane", str(document["error_details"])) is None


def test_a_closed_message_is_told() -> None:
    raw = span(status="error", error={"message": "card 4111 1111 1111 1111 refused", "type": "CardError"})
    closed = Sanitizer(KeyRing(), TextPolicy.of(explanations="closed"))
    sanitized = closed.sanitize(raw, find_signals(raw, Thresholds()))
    (detail,) = error_details_of(sanitized)
    assert detail.error_type == "CardError"
    assert detail.message == sanitized.payload["error"]["message"]
    assert "card" not in str(detail.message)
