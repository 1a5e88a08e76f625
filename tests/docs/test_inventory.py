"""The inventory names every field that is kept or handed out, once, and no other."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import orjson
import pytest

from evalforge import inventory
from evalforge.bootstrap.live import LiveReport
from evalforge.completeness import CompletenessReport
from evalforge.core.capture import Occurrence
from evalforge.core.error_details import ErrorDetail
from evalforge.core.ports import (
    COLLECTIONS,
    Checkpoint,
    Coverage,
    DeadLetter,
    Erasure,
    ExportPackage,
    Lease,
    RunRecord,
    StoredCapture,
    Told,
)
from evalforge.core.privacy import KeyRing, Sanitizer
from evalforge.core.privacy.modes import TextPolicy
from evalforge.core.review import Review
from evalforge.core.signals import Signal, Thresholds, find_signals
from evalforge.core.span import Evaluation
from evalforge.core.window import Window
from evalforge.events import EVENTS
from evalforge.exports import capture_document
from evalforge.ingest import DEAD_LETTER_RETENTION_DAYS
from evalforge.inventory import PLACES, Personal, Place
from evalforge.runs import RunReport
from evalforge.stores import records
from evalforge.telemetry.instruments import INSTRUMENTS, STRETCHES
from evalforge.telling import event_body
from tests.captures import NOW, capture
from tests.spans import span
from tests.unit.test_telling import group

CAPTURE = capture()
STORED = CAPTURE.to_document()


def payload() -> dict[str, Any]:
    """The payload of a span that has something in every section."""
    raw = span(
        parent_id="7",
        application="support-bot",
        service="support-api",
        env="prod",
        model_name="gpt-4o",
        model_provider="openai",
        received_start=1795415160838728626,
        received_duration=5951845,
        metrics={"input_tokens": 3},
        evaluations=(Evaluation("check", 0.1, "score", "fail", "OK", {"reasoning": "The answer is about another order."}),),
        error={"type": "ValueError"},
        input={"value": "hello"},
        output={"value": "hello"},
        tool_definitions=[{"name": "search"}],
        tags=(("env", "prod"), ("user.id", "u-1")),
        metadata={"temperature": 0.2},
        attributes={"http.status_code": 500},
        extra={"prompt": "hello", "response": "hello"},
    )
    policy = TextPolicy.of(("input", "prompt", "response"), ("input",))
    return dict(Sanitizer(KeyRing((b"k" * 32,)), policy).sanitize(raw, find_signals(raw, Thresholds())).payload)


def report() -> dict[str, Any]:
    return RunReport("run_1", "window", "t", "ci", Window(0, 10), NOW, "scan", False).document()


def notice() -> dict[str, Any]:
    """What a webhook is told of a group."""
    body = event_body("group.first_seen", "evt_1", group(), at=NOW, base_url="https://evalforge.example.com")
    told: dict[str, Any] = orjson.loads(body)
    return told


WRITTEN: list[tuple[Place, set[str]]] = [
    (inventory.CAPTURE, {*STORED, "document_id", "updated_at", "processed"}),
    (inventory.SIGNAL, set(STORED["signals"][0])),
    (inventory.SIGNAL, {field.name for field in dataclasses.fields(Signal)}),
    (inventory.OCCURRENCE, set(STORED["occurrences"][0])),
    (inventory.OCCURRENCE, {*(field.name for field in dataclasses.fields(Occurrence)), "started_at", "duration_ms"}),
    (inventory.ERROR_DETAIL, {field.name for field in dataclasses.fields(ErrorDetail)}),
    (inventory.PAYLOAD, set(payload())),
    (inventory.LETTER, set(records.letter_document(DeadLetter("l", "apm", "parse", "r", {}, NOW, NOW)))),
    (
        inventory.PACKAGE,
        set(records.package_document(ExportPackage("e", NOW, "jsonl", "file", {}, 0, "", 0, "delivered"))),
    ),
    (inventory.GROUP, set(records.review_document(Review("s1_a")))),
    (inventory.CHECKPOINT, set(records.checkpoint_document(Checkpoint("apm", Window(0, 10)), 1))),
    (inventory.COVERAGE, set(records.coverage_document(Coverage("apm", "d", NOW)))),
    (inventory.TOLD, set(records.told_document(Told("0a")))),
    (inventory.RUN, set(records.run_document(RunRecord("run_1", "running", "window", "t", "ci", NOW, NOW)))),
    (inventory.LEASE, set(records.lease_document(Lease("ingestion", "t", "t", NOW, NOW)))),
    (inventory.TOMBSTONE, {*records.erasure_document(Erasure("e", NOW, "user", "dpo")), "part", "part_count"}),
    (inventory.EXPORT_LINE, {*capture_document(StoredCapture(CAPTURE, STORED, NOW, False)), "dead_letter"}),
    (inventory.REPORT, set(report())),
    (inventory.NOTICE, {*notice(), *notice()["group"]}),
    (inventory.COMPLETENESS, set(CompletenessReport(Window(0, 10)).document())),
    (inventory.LIVE_REPORT, set(LiveReport({}, [], [], 0, 0).document())),
    (inventory.LOG, {field for event in EVENTS for field in event.fields}),
    (
        inventory.TELEMETRY,
        {one.name for rows in (INSTRUMENTS, STRETCHES) for row in rows for one in row.attributes}
        | {name for row in STRETCHES for name in (*row.counts, *row.ids)},
    ),
]


@pytest.mark.parametrize(("place", "written"), WRITTEN, ids=[place.title for place, _ in WRITTEN])
def test_a_place_names_what_is_written_there_and_nothing_else(place: Place, written: set[str]) -> None:
    assert (written - set(place.names), set(place.names) - written) == (set(), set())
    assert {name: count for name, count in Counter(place.names).items() if count > 1} == {}


def test_every_place_is_compared_and_every_collection_has_one() -> None:
    rest = [place for place in PLACES if place not in [compared for compared, _ in WRITTEN]]
    assert rest == [inventory.RING]
    for collection in COLLECTIONS:
        assert any(f"{{prefix}}{collection}`" in place.title for place in PLACES)
    assert set(inventory.MEANINGS) == set(Personal)


def test_whatever_holds_a_hash_of_a_user_says_so() -> None:
    for place in PLACES:
        for row in place.rows:
            if any(name in ("user_hashes", "trace_keys", "user_first_ns") for name in row.names):
                assert row.personal is Personal.PSEUDONYM


def test_times_are_those_of_the_code() -> None:
    assert inventory.LETTER.retention.startswith(f"{DEAD_LETTER_RETENTION_DAYS} days")
