"""`evalforge audit` and `evalforge purge` as processes, on stores that a real run filled and somebody left something in."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.capture import document_id
from evalforge.core.ports import DeadLetter, Lease, Store
from evalforge.runs import LEASE_NAME
from evalforge.sandbox.server import BackgroundServer
from tests.contract.stores import PREFIX, FirestorePlace, Place, SqlitePlace
from tests.integration.commands import PLAIN, evalforge, on_a_terminal
from tests.integration.test_cli_commands import SALT
from tests.planting import change_capture, change_letter

ALL_SAMPLES = ("--lookback", "30")
"""Longer than the samples reach back: at the edge of a window a trace is cut, elsewhere each time that it is read."""

EMAIL = "jane.doe@shop.example.org"
PHONE = "+44 20 7946 0958"
IN_BASE64 = base64.b64encode(EMAIL.encode()).decode()
PLANTED = ("jane", "7946 0958", "79460958", "maria", "lopez", "grace", IN_BASE64.lower())


@pytest.fixture(scope="module")
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(samples=True, traces=80) as server:
        yield server


@pytest.fixture(params=["sqlite", "firestore"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return SqlitePlace(tmp_path)
    return FirestorePlace(request.getfixturevalue("firestore_emulator"))


@pytest.fixture
def environment(place: Place, sandbox: BackgroundServer) -> dict[str, str]:
    """Settings of a store that one run has filled."""
    settings = PLAIN | {
        "DATADOG_API_URL": sandbox.url,
        "DATADOG_API_KEY": "hunter2-api-key",
        "DATADOG_APP_KEY": "hunter2-app-key",
        "PII_SALT": SALT,
        "TRACE_LOOKBACK_HOURS": "30",  # the samples fill 24 hours: none may leave the window while a test goes on
    }
    if isinstance(place, SqlitePlace):
        settings["CAPTURE_STORE"] = f"sqlite:///{place.path}"
    elif isinstance(place, FirestorePlace):
        settings |= {"GOOGLE_CLOUD_PROJECT": place.project, "FIRESTORE_EMULATOR_HOST": place.address}
    evalforge(settings, "ingest", *ALL_SAMPLES)
    return settings


def trace_ids(environment: dict[str, str]) -> list[str]:
    shown = evalforge(environment, "captures", "list", "--json", "--limit", "1000").stdout
    return sorted(json.loads(line)["trace_id"] for line in shown.splitlines())


async def with_store(place: Place, work: Any) -> Any:
    store: Store = place.open()
    try:
        return await work(store)
    finally:
        await store.close()


def in_metadata(key: str, value: Any) -> Any:
    return lambda document: document["trace_payload"].setdefault("metadata", {}).update({key: value})


def reasoning(text: str) -> Any:
    entry = {"value": 0.1, "assessment": "fail", "reasoning": text}
    return lambda document: document["trace_payload"].setdefault("evaluation", {}).update({"check": entry})


async def plant_everywhere(place: Place, traces: list[str]) -> dict[tuple[str, str, str], str]:
    """Leaves something in seven captures and a dead letter; the collection, field and kind of each, with its key."""
    planted = [
        (in_metadata("region", EMAIL), "trace_payload.metadata.region", "email"),
        (in_metadata("region", f"call {PHONE}"), "trace_payload.metadata.region", "phone"),
        (in_metadata("region", IN_BASE64), "trace_payload.metadata.region", "email"),
        (in_metadata(EMAIL, 1), "trace_payload.metadata.[key]", "email"),
        (in_metadata("first_name", "Grace"), "trace_payload.metadata.first_name", "rule"),
        (reasoning("Then Maria Lopez complained to the agent."), "trace_payload.evaluation.check.reasoning", "person"),
        (lambda document: document["occurrences"][0].update(name=f"ticket {EMAIL}"), "occurrences.name", "email"),
    ]
    told: dict[tuple[str, str, str], str] = {}
    for trace_id, (change, field, kind) in zip(traces, planted, strict=False):
        await change_capture(place, trace_id, change)
        told.setdefault(("raw_traces", field, kind), document_id(trace_id))
    now = datetime.now(UTC)
    letter = DeadLetter("odd", "llm_obs", "parse", "no_object", {"id": "str"}, now, now + timedelta(days=30))
    await with_store(place, lambda store: store.keep([letter]))
    await change_letter(place, "odd", lambda document: document["structure"].update(id=EMAIL))
    told["dead_letters", "structure.id", "email"] = "odd"
    return told


def assert_silent(shown: str) -> None:
    assert not any(part in shown.lower() for part in PLANTED)


def test_what_was_left_is_told_and_mended_and_stays_mended(place: Place, environment: dict[str, str]) -> None:
    traces = trace_ids(environment)
    told = asyncio.run(plant_everywhere(place, traces))
    asyncio.run(place.review(traces[0], {"processed": True, "review_state": "confirmed"}))

    looked = evalforge(environment, "audit", "--json", code=10)
    assert_silent(looked.stdout + looked.stderr)
    report = json.loads(looked.stdout)
    found = {(leak["collection"], leak["field"], leak["kind"]): leak["keys"] for leak in report["leaks"]}
    for place_and_kind, key in told.items():
        assert key in found[place_and_kind]
    assert (report["clean"], report["fixing"], report["leaking_documents"]) == (False, False, 8), sorted(
        (one["collection"], one["field"], one["kind"], str(one["keys"])) for one in report["leaks"]
    )
    assert evalforge(environment, "audit", "--json", code=10).stdout == looked.stdout  # looking changes nothing

    mended = evalforge(environment, "audit", "--fix", "--json")
    assert_silent(mended.stdout + mended.stderr)
    report = json.loads(mended.stdout)
    assert (report["clean"], report["fixed_documents"], report["removed_documents"]) == (True, 7, 1)
    again = json.loads(evalforge(environment, "audit", "--json").stdout)
    assert (again["clean"], again["leaks"], again["outdated_captures"]) == (True, [], 0)

    standing = asyncio.run(place.fields(traces[0]))
    assert standing is not None
    assert (standing["processed"], standing["review_state"]) == (True, "confirmed")
    assert standing["trace_payload"]["metadata"]["region"] == f"[redacted:text {len(EMAIL)}]"
    run = json.loads(evalforge(environment, "ingest", "--json", *ALL_SAMPLES).stdout)
    assert (run["captures"]["created"], run["captures"]["updated"]) == (0, 0)
    assert trace_ids(environment) == traces
    if isinstance(place, SqlitePlace):
        for path in place.path.parent.iterdir():
            assert_silent(path.read_bytes().decode("latin-1"))


def test_a_person_at_a_terminal_sees_a_table(place: Place, environment: dict[str, str]) -> None:
    traces = trace_ids(environment)
    asyncio.run(plant_everywhere(place, traces))
    asyncio.run(place.review(traces[9], {"notes": f"asked {EMAIL}"}))
    code, shown = on_a_terminal(environment, "audit", columns=120)
    assert_silent(shown)
    assert code == 10
    for part in (
        "looked at",
        "In what ingestion wrote",
        "In fields of yours",
        "trace_payload.metadata.region",
        "email",
        "--fix",
    ):
        assert part in shown
    plain = evalforge(environment, "audit", "--fix", code=10).stdout
    assert_silent(plain)
    assert "7 documents rewritten, 1 deleted" in plain
    assert "notes" in plain
    standing = asyncio.run(place.fields(traces[9]))
    assert standing is not None
    assert standing["notes"] == f"asked {EMAIL}"


def test_a_clean_store_is_told_in_one_look(environment: dict[str, str]) -> None:
    shown = evalforge(environment, "audit").stdout
    assert "clean: nothing personal was found" in shown
    assert "kind" not in shown


def test_a_wrong_position_is_refused(environment: dict[str, str]) -> None:
    refused = evalforge(environment, "audit", "--after", "jane", code=2)
    assert "--after" in refused.stderr
    rest = json.loads(evalforge(environment, "audit", "--json", "--after", "dead_letters/0").stdout)
    assert rest["documents"]["raw_traces"] == 0


# -- purge


def purged(environment: dict[str, str], *arguments: str, code: int = 0) -> Any:
    return evalforge(environment, "purge", *arguments, code=code)


@pytest.mark.long
def test_purge_deletes_everything_under_the_prefix_and_nothing_else(environment: dict[str, str]) -> None:
    other = environment | {"FIRESTORE_COLLECTION_PREFIX": "other_"}
    evalforge(other, "ingest")
    count, other_count = len(trace_ids(environment)), len(trace_ids(other))
    result = json.loads(purged(environment, "--prefix", PREFIX, "--yes", "--json").stdout)
    assert result["prefix"] == PREFIX
    assert result["deleted"]["raw_traces"] == count > 10
    assert result["total"] == sum(result["deleted"].values())
    assert trace_ids(environment) == []
    assert len(trace_ids(other)) == other_count
    shown = purged(environment, "--prefix", "other_", "--yes", "--force").stdout
    assert f"other_raw_traces {other_count} documents deleted" in " ".join(shown.split())
    assert trace_ids(other) == []
    assert json.loads(purged(environment, "--prefix", PREFIX, "--yes", "--json").stdout)["deleted"]["raw_traces"] == 0
    run = json.loads(evalforge(environment, "ingest", "--json", *ALL_SAMPLES).stdout)  # the store can be used again at once
    assert run["captures"]["created"] == count


@pytest.mark.long
def test_purge_wants_to_be_meant(environment: dict[str, str]) -> None:
    count = len(trace_ids(environment))
    assert "FIRESTORE_COLLECTION_PREFIX" in purged(environment, "--prefix", "evalforge", "--yes", code=2).stderr
    assert "--yes" in purged(environment, "--prefix", PREFIX, code=2).stderr
    assert "wants a letter" in purged(environment, "--prefix", "no such prefix", "--yes", "--force", code=2).stderr
    code, shown = on_a_terminal(environment, "purge", "--prefix", PREFIX, answers=[("again", "evalforge")])
    assert (code, "nothing was deleted" in shown) == (2, True)
    where = "sqlite:///" if "CAPTURE_STORE" in environment else f"emulator at {environment['FIRESTORE_EMULATOR_HOST']}"
    assert where in " ".join(shown.split()), "it is said which store is meant"
    assert len(trace_ids(environment)) == count
    code, shown = on_a_terminal(environment, "purge", "--prefix", PREFIX, answers=[("again", PREFIX)])
    assert (code, f"{count} documents deleted" in shown) == (0, True)
    [logged] = [line for line in shown.replace("\r", "\n").splitlines() if "store.purged" in line]
    assert " documents deleted " not in logged, "a line of the log stands above the line that counts, not in it"
    assert trace_ids(environment) == []


def test_purge_is_refused_while_a_run_is_going_on(place: Place, environment: dict[str, str]) -> None:
    now = datetime.now(UTC)
    lease = Lease(LEASE_NAME, "another run", "token", now, now + timedelta(minutes=5))
    asyncio.run(with_store(place, lambda store: store.acquire_lease(lease, now=now)))
    assert "another run" in purged(environment, "--prefix", PREFIX, "--yes", code=9).stderr
    assert len(trace_ids(environment)) > 10
