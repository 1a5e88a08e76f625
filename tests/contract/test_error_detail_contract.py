"""What every store says and keeps of errors, run on each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Erasure, Store
from evalforge.core.privacy import KeyRing
from evalforge.core.signals import FailureType, Severity
from evalforge.core.tombstones import trace_key
from evalforge.erasure import Guard
from tests.captures import NOW, capture, merged, signal, trace_id_of

LATER = NOW + timedelta(minutes=5)


def ended(trace: int, span_id: str = "1", message: str | None = None, **others: Any) -> FailureCapture:
    """A capture of a span that ended with an error, which says something or not."""
    signals = (signal(span_id, FailureType.EXECUTION_ERROR, Severity.MEDIUM, "status", "error", "error"),)
    payload = {"name": "answer"} | ({"error": {"message": message}} if message is not None else {})
    return capture(trace, span_id, signals=signals, payload=payload, **others)


async def test_upsert_says_of_which_errors_no_message_is_kept_afterwards(store: Store) -> None:
    silent = [merged(ended(1, "1"), ended(1, "2")), ended(2), capture(3)]
    first = await store.upsert(silent, now=NOW)
    assert sorted(first.untold_errors) == [(trace_id_of(1), "1"), (trace_id_of(1), "2"), (trace_id_of(2), "1")]
    again = await store.upsert(silent[1:], now=LATER)
    assert (len(again.unchanged), list(again.untold_errors)) == (2, [(trace_id_of(2), "1")])
    told = await store.upsert([ended(1, "1", "timed out", error_type="Timeout"), ended(2, "1", "x")], now=LATER)
    assert (len(told.updated), list(told.untold_errors)) == (2, [(trace_id_of(1), "2")])
    known = await store.upsert([ended(1, "1"), ended(2)], now=LATER)
    assert (len(known.unchanged), list(known.untold_errors)) == (2, [(trace_id_of(1), "2")]), "the stored document tells"
    compared = await store.compare([ended(1, "2", "refused")], now=LATER)
    assert (len(compared.updated), list(compared.untold_errors)) == (1, [])


async def test_details_come_back_as_they_were_written(store: Store) -> None:
    wanted = merged(ended(1, "1", "timed out \x00 \ud800", error_type="Timeout", status_code=504), ended(1, "2", "refused"))
    await store.upsert([wanted], now=NOW)
    found = await store.get(trace_id_of(1), now=NOW)
    assert found is not None
    assert found.capture.error_details == wanted.error_details
    assert found.document["error_details"] == wanted.to_document()["error_details"]


async def test_of_what_was_erased_meanwhile_nothing_is_untold(store: Store) -> None:
    ring = KeyRing((b"a-first-key-of-some-32-bytes-or-more!",))
    guard = await Guard.opened(store, ring, run_id="run_1", clock=lambda: NOW)
    result = await store.upsert([ended(1), ended(2)], now=NOW)
    await store.save_erasure(Erasure("erasure_1", NOW, "trace", "dpo", trace_keys=(trace_key(trace_id_of(1), ring),)))
    left = await guard.confirmed(result, [ended(1), ended(2)])
    assert list(left.untold_errors) == [(trace_id_of(2), "1")]
