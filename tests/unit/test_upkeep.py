"""Auditing and purging on real SQLite files: what is told, what is mended, what is left alone, and going on after a stop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture, document_id
from evalforge.core.ports import (
    COLLECTIONS,
    LOOKBACK,
    Checkpoint,
    DeadLetter,
    Erasure,
    ExportPackage,
    Lease,
    PackageFile,
    RunRecord,
    Store,
    StoredDocument,
)
from evalforge.core.privacy import SANITIZER_VERSION, KeyRing, Sanitizer
from evalforge.core.privacy.modes import TextPolicy
from evalforge.core.privacy.net import kind_in
from evalforge.core.signals import Thresholds
from evalforge.core.span import Evaluation
from evalforge.core.window import Window
from evalforge.errors import RequestError, RunInProgressError, StoreUnavailableError
from evalforge.exports.erasing import tasks_elsewhere
from evalforge.ingest import Judge
from evalforge.runs import LEASE_NAME
from evalforge.upkeep import SHOWN_KEYS, AuditReport, audit, purge
from tests.captures import NOW, trace_id_of
from tests.contract.stores import SqlitePlace
from tests.planting import change_capture, change_checkpoint, change_letter
from tests.spans import span

RING = KeyRing((b"k" * 32,))
SANITIZER = Sanitizer(RING)
EMAIL = "jane.doe@shop.example.org"


def clock() -> datetime:
    return NOW + timedelta(hours=1)


def captured(number: int, policy: TextPolicy | None = None) -> FailureCapture:
    """A capture as a run makes it."""
    judge = Judge(Thresholds(), RING, Sanitizer(RING, policy or TextPolicy()), "datadoghq.com", 180)
    raw = span(
        trace_id=trace_id_of(number),
        span_id=str(1_000 + number),
        application="support-bot",
        env="prod",
        model_name="gpt-4o-mini",
        received_start=1795415160838728626 + number,
        metadata={"temperature": 0.2, "user_id": f"u-{number}", "notes": "ship it", "region": "eu"},
        tags=(("env", "prod"), ("version", "4.1.0")),
        input={"messages": [{"role": "user", "content": "Where is my order?"}]},
        error={"type": "ValueError", "message": "the order was not found"},
        evaluations=(Evaluation("check", 0.1, "score", "fail", "OK", {"reasoning": "The answer is about another order."}),),
    )
    found = judge.capture(raw, NOW)
    assert found is not None
    return found


@pytest.fixture
def place(tmp_path: Path) -> SqlitePlace:
    return SqlitePlace(tmp_path)


@pytest.fixture
async def store(place: SqlitePlace) -> AsyncIterator[Store]:
    opened = place.open()
    await opened.upsert([captured(number) for number in range(6)], now=NOW)
    yield opened
    await opened.close()


async def audited(
    store: Store, *, fix: bool = False, sanitizer: Sanitizer = SANITIZER, after: str | None = None
) -> AuditReport:
    return await audit(store, sanitizer, fix=fix, clock=clock, report=AuditReport(fix), after=after)


def places_in(report: AuditReport) -> set[tuple[str, str, str]]:
    return {(group.collection, group.field, group.kind) for group in report.groups.values()}


def set_at(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change that puts the last element at the place that the others name."""

    def change(document: dict[str, Any]) -> None:
        node: Any = document
        for key in path[:-2]:
            node = node[key] if isinstance(key, int) else node.setdefault(key, {})
        node[path[-2]] = path[-1]

    return change


# One row a way in which something may have been left: how it got there, the field and the kind that are told.
LEFT_BEHIND: list[tuple[Callable[[dict[str, Any]], None], str, str]] = [
    (set_at("trace_payload", "metadata", "region", EMAIL), "trace_payload.metadata.region", "email"),
    (set_at("trace_payload", "metadata", "region", "call +44 20 7946 0958"), "trace_payload.metadata.region", "phone"),
    (set_at("trace_payload", "metadata", "region", EMAIL.encode().hex()), "trace_payload.metadata.region", "email"),
    (set_at("trace_payload", "metadata", EMAIL, True), "trace_payload.metadata.[key]", "email"),
    (set_at("trace_payload", "metadata", "first_name", "Grace"), "trace_payload.metadata.first_name", "rule"),
    (set_at("trace_payload", "metadata", "api_key", "abc"), "trace_payload.metadata.api_key", "rule"),
    (set_at("trace_payload", "metadata", "comment", "free text of a customer"), "trace_payload.metadata.comment", "rule"),
    (set_at("trace_payload", "nickname", "kiki"), "trace_payload.nickname", "rule"),
    (set_at("trace_payload", "input", "messages", 0, "content", "Where?"), "trace_payload.input.messages.content", "rule"),
    (
        set_at("trace_payload", "evaluation", "check", "reasoning", "Then Maria Lopez complained to the agent."),
        "trace_payload.evaluation.check.reasoning",
        "person",
    ),
    (set_at("trace_payload", "error", "message", f"no user {EMAIL}"), "trace_payload.error.message", "email"),
    (set_at("trace_payload", "tags", "env", "maria_lopez"), "trace_payload.tags.env", "rule"),
    (set_at("occurrences", 0, "name", "ticket of Maria Lopez"), "occurrences.name", "rule"),
    (set_at("occurrences", 0, "ml_app", EMAIL), "occurrences.ml_app", "email"),
    (set_at("occurrences", 0, "error_type", "no user jane"), "occurrences.error_type", "rule"),
    (set_at("signals", 0, "observed", "told by Maria Lopez"), "signals.observed", "rule"),
    (set_at("signals", 0, "place", f"evaluation.{EMAIL}"), "signals.place", "email"),
    (set_at("redactions", EMAIL, 3), "redactions.[key]", "email"),
    (set_at("service_name", EMAIL), "service_name", "email"),
    (set_at("model_name", "Maria Lopez"), "model_name", "rule"),
]  # fmt: skip


async def test_a_clean_store_is_clean_and_stays_as_it_is(place: SqlitePlace, store: Store) -> None:
    before = [await place.fields(trace_id_of(number)) for number in range(6)]
    report = await audited(store, fix=True)
    assert report.is_clean
    assert report.groups == {}
    assert (report.leaking, report.fixed, report.removed, report.outdated, report.unreadable) == (0, 0, 0, 0, 0)
    assert report.seen["raw_traces"] == 6
    assert [await place.fields(trace_id_of(number)) for number in range(6)] == before


@pytest.mark.parametrize(("change", "field", "kind"), LEFT_BEHIND, ids=[f"{field} {kind}" for _, field, kind in LEFT_BEHIND])
async def test_each_leak_is_told_and_mended(
    place: SqlitePlace, store: Store, change: Callable[[dict[str, Any]], None], field: str, kind: str
) -> None:
    trace_id = trace_id_of(3)
    await place.review(trace_id, {"processed": 1, "review_state": "confirmed"})
    await change_capture(place, trace_id, change)
    told = await audited(store)
    assert ("raw_traces", field, kind) in places_in(told)
    assert not told.is_clean
    assert (told.leaking, told.fixed) == (1, 0)
    assert {key for group in told.groups.values() for key in group.keys} == {document_id(trace_id)}
    mended = await audited(store, fix=True)
    assert mended.is_clean
    assert (mended.leaking, mended.fixed) == (1, 1)
    again = await audited(store)
    assert again.groups == {}
    standing = await place.fields(trace_id)
    assert standing is not None
    assert (standing["processed"], standing["review_state"]) == (True, "confirmed")
    text = json.dumps([standing, told.document(), mended.document()]).lower()
    assert not any(part in text for part in ("jane", "maria", "lopez", "grace", "kiki", "7946 0958", EMAIL.encode().hex()))
    fresh = [captured(number) for number in range(6)]
    if field.startswith("signals."):
        # Signals are never withdrawn: the one that was closed stays beside the one that is read again.
        await store.upsert(fresh, now=clock())
    result = await store.upsert(fresh, now=clock())
    assert (len(result.unchanged), len(result.updated), len(result.created)) == (6, 0, 0)
    assert (await audited(store)).groups == {}


async def test_what_an_older_sanitizer_made_is_judged_by_the_present_rules(place: SqlitePlace, store: Store) -> None:
    await change_capture(place, trace_id_of(1), set_at("occurrences", 0, "sanitizer_version", SANITIZER_VERSION - 1))
    told = await audited(store)
    assert told.is_clean  # it is old, but nothing personal stands in it
    assert told.outdated == 1
    mended = await audited(store, fix=True)
    assert (mended.outdated, mended.fixed) == (0, 1)
    assert (await audited(store)).outdated == 0
    first = await store.upsert([captured(1)], now=clock())
    again = await store.upsert([captured(1)], now=clock())
    assert list(first.updated) == [trace_id_of(1)]  # what is read anew is better than what was mended
    assert list(again.unchanged) == [trace_id_of(1)]


async def test_texts_that_are_not_to_be_kept_any_more_are_closed(place: SqlitePlace) -> None:
    kept = TextPolicy.of(("input",), ("input",))
    store = place.open()
    await store.upsert([captured(1, kept)], now=NOW)
    assert (await audited(store, sanitizer=Sanitizer(RING, kept))).is_clean
    scrubbed = await audited(store, sanitizer=Sanitizer(RING, TextPolicy.of(("input",))))
    assert ("raw_traces", "trace_payload.open_text", "rule") in places_in(scrubbed)
    mended = await audited(store, fix=True)
    assert mended.fixed == 1
    standing = await store.get(trace_id_of(1), now=NOW)
    assert standing is not None
    assert standing.capture.payload["input"] == {"messages": [{"role": "user", "content": "[redacted:text 18]"}]}
    assert "open_text" not in standing.capture.payload
    assert (await audited(store)).is_clean
    await store.close()


async def test_explanations_follow_the_policy_too(store: Store) -> None:
    closed = Sanitizer(RING, TextPolicy.of(explanations="closed"))
    told = await audited(store, sanitizer=closed)
    assert {field for _, field, _ in places_in(told)} == {
        "trace_payload.evaluation.check.reasoning",
        "trace_payload.error.message",
        "error_details.message",
    }
    assert (await audited(store, sanitizer=closed, fix=True)).fixed == 6
    assert (await audited(store, sanitizer=closed)).is_clean
    assert (await audited(store)).is_clean  # what is closed is no leak where more could be kept


async def test_a_leak_in_a_field_of_others_is_told_and_left_alone(place: SqlitePlace, store: Store) -> None:
    await place.review(trace_id_of(2), {"notes": f"asked {EMAIL}"})
    report = await audited(store, fix=True)
    [group] = report.groups.values()
    assert (group.field, group.kind, group.is_ours, group.count, group.fixed_count) == ("notes", "email", False, 1, 0)
    assert not report.is_clean
    assert report.fixed == 0
    standing = await place.fields(trace_id_of(2))
    assert standing is not None
    assert standing["notes"] == f"asked {EMAIL}"


async def test_a_document_of_no_shape_is_told_and_left_alone(place: SqlitePlace, store: Store) -> None:
    await place.vandalize(trace_id_of(2))
    await place.plant("raw_traces", "zz")
    before = await place.fields(trace_id_of(2))
    report = await audited(store, fix=True)
    assert (report.unreadable, report.fixed, report.is_clean) == (2, 0, True)
    assert await place.fields(trace_id_of(2)) == before


def letter(number: int, structure: Mapping[str, Any]) -> DeadLetter:
    return DeadLetter(
        id=f"letter{number}",
        source="llm_obs",
        stage="parse",
        reason="no_object",
        structure=structure,
        occurred_at=NOW,
        expires_at=NOW + timedelta(days=30),
        trace_id=trace_id_of(number),
    )


async def test_dead_letters_with_a_leak_are_deleted(place: SqlitePlace, store: Store) -> None:
    plain = {"attributes": {"tags": "list[3]", "[unknown keys]": 2}, "id": "str"}
    await store.keep([letter(number, plain) for number in range(4)])
    await change_letter(place, "letter1", set_at("structure", "attributes", "tags", "maria"))
    await change_letter(place, "letter2", set_at("structure", EMAIL, "str"))
    told = await audited(store)
    assert places_in(told) >= {
        ("dead_letters", "structure.attributes.tags", "rule"),
        ("dead_letters", "structure.[key]", "email"),
    }
    mended = await audited(store, fix=True)
    assert (mended.removed, mended.is_clean) == (2, True)
    assert await store.dead_letter_count(now=NOW) == 2
    assert (await audited(store)).groups == {}


async def test_a_checkpoint_with_a_leak_is_deleted_and_the_lease_is_not(place: SqlitePlace, store: Store) -> None:
    await store.save_checkpoint(Checkpoint("apm", Window(0, 10), learned=("evaluation.tone",)), fence=1)
    await store.save_checkpoint(Checkpoint("llm_obs", Window(0, 10), learned=("evaluation.tone",)), fence=1)
    await store.acquire_lease(Lease(LEASE_NAME, EMAIL, "t", NOW, clock()), now=NOW)
    await store.remember_key_ids(frozenset({"1a2b"}))
    await change_checkpoint(place, "apm", set_at("learned", [f"evaluation.{EMAIL}"]))
    mended = await audited(store, fix=True)
    assert (mended.removed, mended.seen["checkpoints"]) == (1, 4)
    assert not await store.load_checkpoints("apm", [LOOKBACK])
    assert await store.load_checkpoints("llm_obs", [LOOKBACK])
    assert not mended.is_clean
    assert places_in(await audited(store)) == {("checkpoints", "holder", "email")}


async def test_the_records_of_exports_and_erasures_are_no_leaks(store: Store) -> None:
    """Their tasks name packages, and who asked for an erasure must be named: an audit would be red for good."""
    for number, destination in enumerate(("file", "evals")):
        await store.save_package(
            ExportPackage(
                f"export_20261124T22324{number}Z_238cf4c{number}",
                NOW,
                "jsonl",
                destination,
                {"user": True},
                3,
                hashlib.sha256(destination.encode()).hexdigest(),
                90,
                "delivered",
            )
        )
    tasks = await tasks_elsewhere(store, {}, NOW)
    record = Erasure("erasure_20261124T223343Z_a4944517", NOW, "user", EMAIL, ("u1a2b_" + "0" * 32,), ("0" * 32,), {}, tasks)
    await store.save_erasure(record)
    assert len(tasks) == 2
    report = await audited(store)
    assert (report.groups, report.seen["exports"], report.seen["tombstones"]) == ({}, 2, 1)


async def test_ids_and_digests_that_look_like_something_are_no_leaks(store: Store) -> None:
    """Of 20,000 digests 86 look like bank accounts: a dead letter or a checkpoint would be deleted for it."""
    digests = [hashlib.sha256(str(number).encode()).hexdigest()[:32] for number in range(2_000)]
    unlucky = [one for one in digests if kind_in(one) is not None]
    assert len(unlucky) > 5
    for one in unlucky:
        await store.save_checkpoint(Checkpoint(f"source{one[:4]}", Window(0, 10), query_digest=one), fence=1)
        await store.keep([dataclasses.replace(letter(1, {"id": "str"}), id=one)])
    report = await audited(store, fix=True)
    assert (report.groups, report.removed) == ({}, 0)
    assert report.seen["dead_letters"] == len(unlucky)


async def test_digests_of_packages_are_no_leaks_and_other_texts_there_are(store: Store) -> None:
    digests = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(1_500)]
    ids = b"".join(bytes.fromhex(one[:32]) for one in digests)
    files = tuple(PackageFile("train/tests.yaml", one, 7) for one in digests)
    about = {"env": "prod"}
    package = ExportPackage(
        "export_20261124T223240Z_238cf4c5", NOW, "promptfoo", "evals", about, 3, digests[0], 90, "delivered"
    )
    package = dataclasses.replace(package, files=files, counts={"taken": 3}, document_ids=ids)
    await store.save_package(package)
    assert (await audited(store)).groups == {}
    await store.save_package(dataclasses.replace(package, selection={"ml_app": EMAIL}))
    assert places_in(await audited(store)) == {("exports", "selection.ml_app", "email")}


async def test_an_id_of_a_run_that_looks_like_a_telephone_number_is_no_leak(store: Store) -> None:
    ids = [f"run_20261127T152956_{number:08d}" for number in range(12_345_678, 12_345_778)]
    unlucky = [one for one in ids if kind_in(one) is not None]
    assert len(unlucky) > 5
    for one in unlucky:
        holder = "service 4083950218 pid 17"
        report = {"run_id": one, "holder": holder, "warnings": []}
        await store.save_run(RunRecord(one, "complete", "window", holder, "cli", NOW, NOW + timedelta(days=30), NOW, report))
    assert (await audited(store)).groups == {}
    told = RunRecord("run_1", "complete", "window", "h", "cli", NOW, NOW + timedelta(days=30), NOW, {"warnings": [EMAIL]})
    await store.save_run(told)
    assert places_in(await audited(store)) == {("runs", "report.warnings", "email")}


async def test_what_a_task_says_beside_ids_of_ours_is_looked_at(store: Store) -> None:
    tasks = (f"package export_20261124T223240Z_238cf4c5, written to {EMAIL!a}",)
    await store.save_erasure(Erasure("e", NOW, "user", "dpo", (), (), {"captures": 0}, tasks))
    assert places_in(await audited(store)) == {("tombstones", "tasks", "email")}


async def test_many_documents_are_counted_and_few_are_named(place: SqlitePlace) -> None:
    store = place.open()
    count = 2 * SHOWN_KEYS + 100
    await store.upsert([captured(number) for number in range(count)], now=NOW)
    for number in range(count):
        await change_capture(place, trace_id_of(number), set_at("trace_payload", "metadata", "region", EMAIL))
    seen: list[int] = []
    report = AuditReport(fixing=True)
    await audit(
        store, SANITIZER, fix=True, clock=clock, report=report, on_progress=lambda now: seen.append(now.seen["raw_traces"])
    )
    [group] = report.groups.values()
    assert (group.count, group.fixed_count, len(group.keys)) == (count, count, SHOWN_KEYS)
    assert seen == [50, 100, count]
    assert (await audited(store)).is_clean
    await store.close()


# -- others write meanwhile, or something breaks


class Interfering:
    """A store on which something happens before each rewrite."""

    def __init__(self, store: Store, before_rewrite: Callable[[StoredDocument], Any]) -> None:
        self._store = store
        self._before_rewrite = before_rewrite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def rewrite(self, capture: FailureCapture, stored: StoredDocument, *, now: datetime) -> bool:
        await self._before_rewrite(stored)
        return await self._store.rewrite(capture, stored, now=now)


async def test_what_others_write_meanwhile_is_kept(place: SqlitePlace, store: Store) -> None:
    for number in range(6):
        await change_capture(place, trace_id_of(number), set_at("trace_payload", "metadata", "region", EMAIL))
    await place.review(trace_id_of(0), {"notes": "first"})
    writes: list[str] = []

    async def review(stored: StoredDocument) -> None:
        if writes.count(stored.key) < 2:
            writes.append(stored.key)
            await place.review(
                stored.document["trace_id"], {"processed": writes.count(stored.key) % 2, "notes": f"n{len(writes)}"}
            )

    report = await audited(Interfering(store, review), fix=True)
    assert (report.fixed, report.is_clean) == (6, True)
    for number in range(6):
        standing = await place.fields(trace_id_of(number))
        assert standing is not None
        assert standing["notes"].startswith("n")
        assert standing["trace_payload"]["metadata"]["region"] == f"[redacted:text {len(EMAIL)}]"


async def test_a_document_that_never_rests_stays_in_the_report(place: SqlitePlace, store: Store) -> None:
    await change_capture(place, trace_id_of(0), set_at("trace_payload", "metadata", "region", EMAIL))
    turn = iter(range(1_000))

    async def review(stored: StoredDocument) -> None:
        await place.review(stored.document["trace_id"], {"notes": f"n{next(turn)}"})

    report = await audited(Interfering(store, review), fix=True)
    assert (report.fixed, report.is_clean) == (0, False)


async def test_one_that_is_deleted_meanwhile_is_gone(place: SqlitePlace, store: Store) -> None:
    await change_capture(place, trace_id_of(0), set_at("trace_payload", "metadata", "region", EMAIL))

    async def erase(stored: StoredDocument) -> None:
        await store.delete_captures([stored.document["trace_id"]])

    report = await audited(Interfering(store, erase), fix=True)
    assert (report.fixed, report.is_clean) == (0, True)
    assert await store.get(trace_id_of(0), now=NOW) is None


async def test_an_audit_that_broke_goes_on_after_its_position(place: SqlitePlace) -> None:
    store = place.open()
    count = 180
    await store.upsert([captured(number) for number in range(count)], now=NOW)
    for number in range(count):
        await change_capture(place, trace_id_of(number), set_at("trace_payload", "metadata", "region", EMAIL))
    rewrites = iter(range(1_000))

    async def breaks(stored: StoredDocument) -> None:
        if next(rewrites) == 120:
            raise StoreUnavailableError("gone")

    first = AuditReport(fixing=True)
    broken = Interfering(store, breaks)
    with pytest.raises(StoreUnavailableError):
        await audit(broken, SANITIZER, fix=True, clock=clock, report=first, after=None)
    assert first.position is not None
    assert first.position.startswith("raw_traces/")
    rest = await audited(store, fix=True, after=first.position)
    assert rest.seen["raw_traces"] == count - 100
    assert rest.is_clean
    assert (await audited(store)).groups == {}
    await store.close()


@pytest.mark.parametrize("after", ["", "raw_traces", "raw_traces/", "nothing/00", "/00", EMAIL])
async def test_a_position_that_is_none_is_refused(store: Store, after: str) -> None:
    with pytest.raises(RequestError) as caught:
        await audited(store, after=after)
    assert caught.value.field == "--after"


async def test_collections_before_the_position_are_not_looked_at(store: Store) -> None:
    report = await audited(store, after="dead_letters/00")
    assert report.seen["raw_traces"] == 0


# -- purge


async def test_purge_deletes_everything(place: SqlitePlace, store: Store) -> None:
    await store.keep([letter(1, {})])
    await store.save_checkpoint(Checkpoint("apm", Window(0, 10)), fence=1)
    heard: list[tuple[str, int]] = []
    counts = await purge(store, holder="me", clock=clock, on_deleted=lambda name, number: heard.append((name, number)))
    assert set(counts) == set(COLLECTIONS)
    assert (counts["raw_traces"], counts["dead_letters"]) == (6, 1)
    assert sum(number for _, number in heard) == sum(counts.values())
    for collection in COLLECTIONS:
        assert [stored async for stored in store.documents(collection)] == []
    assert sum((await purge(store, holder="me", clock=clock)).values()) == 3  # its own leases


async def test_purge_waits_for_no_run(store: Store) -> None:
    await store.acquire_lease(Lease(LEASE_NAME, "a run", "t", NOW, clock() + timedelta(minutes=1)), now=NOW)
    with pytest.raises(RunInProgressError) as caught:
        await purge(store, holder="me", clock=clock)
    assert caught.value.holder == "a run"
    assert await store.count(now=NOW) == 6
    assert clock().tzinfo is UTC


async def test_a_broken_purge_gives_the_lease_back(store: Store) -> None:
    class Broken(Interfering):
        async def purge(self, *, on_deleted: Callable[[str, int], None] | None = None) -> Mapping[str, int]:
            raise StoreUnavailableError("gone")

    async def nothing(stored: StoredDocument) -> None:
        return None

    with pytest.raises(StoreUnavailableError):
        await purge(Broken(store, nothing), holder="me", clock=clock)
    lease = Lease(LEASE_NAME, "a run", "t", clock(), clock() + timedelta(minutes=1))
    assert (await store.acquire_lease(lease, now=clock())).token == lease.token


def test_a_group_is_told_whole() -> None:
    report = AuditReport(fixing=False)
    assert json.dumps(report.document())
    assert dataclasses.asdict(report)["position"] is None
