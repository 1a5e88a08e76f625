"""Captures go back to the sandbox's datasets and annotation queues: once each, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from evalforge.core.capture import FailureCapture
from evalforge.core.ports import Erasure, Selection
from evalforge.core.review import Patch
from evalforge.errors import (
    ErasedMeanwhileError,
    NotFoundError,
    QuotaExhaustedError,
    RequestError,
    SourceRefusedError,
    SourceUnavailableError,
)
from evalforge.exports import erasing
from evalforge.exports.datadog import pushing
from evalforge.exports.datadog.api import DatadogApi
from evalforge.exports.datadog.pushing import PushReport, push_dataset
from evalforge.exports.datadog.queueing import QueueReport, queue_traces
from evalforge.exports.datadog.records import MOST_BYTES, MOST_RECORDS
from evalforge.review import change_review
from evalforge.sandbox.back.shelf import Dataset, Queue
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import READ, WRITE, Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW, SITE, START_NS, capture
from tests.examples import one_in
from tests.integration.commands import PLAIN

LOST = ("cut", "reset", "truncated", "html", "503")
"""Troubles after which nobody knows whether a change was made; it was, but for a status."""

BOTH_SHAPES = pytest.mark.parametrize("server", ["recorded", "published"], indirect=True)
"""Answers as they were recorded, and as the published client models them."""

SPOTS = [(kind, 3) for kind in (*LOST, "rate_limited")] + [("cut", request) for request in (0, 1, 2, 4)]
"""Which trouble comes at which request: the fourth is the first that puts something in."""


def kept(number: int, question: str | None = None, answer: str = "a wrong answer", **others: Any) -> FailureCapture:
    """A capture whose texts privacy settings let through."""
    asked = f"question {number}" if question is None else question
    payload = {"name": "answer", "input": {"value": asked}, "output": {"value": answer}}
    return capture(number, payload=payload, start_ns=START_NS + number * 1_000_000_000, **others)


def closed(number: int) -> FailureCapture:
    """A capture whose input they closed."""
    payload = {"name": "answer", "input": {"value": "[redacted:text 31]"}}
    return capture(number, payload=payload, start_ns=START_NS + number * 1_000_000_000)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[BackgroundServer]:
    """A sandbox whose key may write, answering as was recorded unless told otherwise."""
    sandbox = Sandbox(now=NOW.timestamp)
    sandbox.permissions = frozenset({READ, WRITE})
    sandbox.record_shape = getattr(request, "param", "recorded")
    with BackgroundServer(sandbox) as running:
        yield running


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    made = SqliteStore(str(tmp_path / "captures.db"), prefix="evalforge_")
    yield made
    await made.close()


@pytest.fixture
async def api(server: BackgroundServer) -> AsyncIterator[DatadogApi]:
    async with DatadogApi(server.url, "api", "app", retry_budget_s=1.5, backoff_s=0.01) as made:
        yield made


Push = Callable[..., Any]


@pytest.fixture
def push(store: SqliteStore, api: DatadogApi) -> Push:
    async def pushed(selection: Selection | None = None, **others: Any) -> PushReport:
        names = {"project": "evals", "dataset": "failures", **others}
        return await push_dataset(store, api, selection or Selection(), now=NOW, **names)

    return pushed


@pytest.fixture
def enqueue(store: SqliteStore, api: DatadogApi) -> Push:
    async def queued(queue: str = "triage", **others: Any) -> QueueReport:
        about = {"site": SITE, "now": NOW, **others}
        return await queue_traces(store, api, Selection(), queue=queue, **about)

    return queued


def dataset_in(server: BackgroundServer) -> Dataset:
    (found,) = server.sandbox.shelf.datasets.values()
    return found


def made_queue(server: BackgroundServer, name: str = "triage") -> Queue:
    shelf = server.sandbox.shelf
    project, _ = shelf.make_project("evals", None)
    return shelf.make_queue(project.id, name, "", {})


def asked(server: BackgroundServer, method: str, ending: str) -> int:
    return sum(one.method == method and one.path.endswith(ending) for one in server.sandbox.calls)


def trouble(server: BackgroundServer, kind: str, **others: Any) -> None:
    named = {"kind": "status", "status": int(kind)} if kind.isdecimal() else {"kind": kind}
    server.sandbox.trouble.faults = [Fault(**{"source": "datasets", **named, **others})]


# -- datasets


async def test_a_capture_becomes_a_record(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    one = kept(1)
    await store.upsert([one], now=NOW)
    report = await push()
    assert (report.created, report.with_expected_output, report.already_there) == (1, 0, 0)
    dataset = dataset_in(server)
    assert (dataset.name, report.dataset_id) == ("failures", dataset.id)
    (record,) = dataset.records.values()
    assert record.id == f"evalforge_{one.document_id}"
    assert record.input == {"input": "question 1"}
    assert record.expected_output is None, "a failing capture has no right answer"
    metadata = record.metadata
    assert (metadata["failed_output"], metadata["trace_id"]) == ("a wrong answer", one.trace_id)
    assert metadata["datadog_url"].startswith("https://app.datadoghq.com/llm/traces")
    assert metadata["span_url"].endswith("span_id%3A1")
    assert {row["kind"] for row in metadata["generated_assertions"]} == {"rubric", "not_contains"}


async def test_the_expected_output_is_a_reviewer_s(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    one, other = kept(1), kept(2)
    await store.upsert([one, other], now=NOW)
    patch = Patch(expected_output="the right answer", trace_id=one.trace_id)
    await change_review(store, one.signature, patch, by="someone", now=NOW)
    assert (await push()).with_expected_output == 1
    expected = {record.metadata["trace_id"]: record.expected_output for record in dataset_in(server).records.values()}
    assert expected == {one.trace_id: "the right answer", other.trace_id: None}


@BOTH_SHAPES
async def test_a_second_push_adds_nothing(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(number) for number in range(5)], now=NOW)
    await push()
    changes, version = asked(server, "POST", "batch_update"), dataset_in(server).version
    again = await push()
    assert (again.created, again.already_there, again.package_id) == (0, 5, None)
    assert (asked(server, "POST", "batch_update"), dataset_in(server).version) == (changes, version)
    await store.upsert([kept(7)], now=NOW)
    more = await push()
    assert (more.created, more.already_there, len(dataset_in(server).records)) == (1, 5, 6)


@BOTH_SHAPES
async def test_a_record_under_another_id_is_known_by_its_metadata(
    store: SqliteStore, server: BackgroundServer, push: Push
) -> None:
    await store.upsert([kept(1)], now=NOW)
    await push()
    (record,) = dataset_in(server).records.values()
    dataset_in(server).records = {"theirs": replace(record, id="theirs")}
    again = await push()
    assert (again.created, again.already_there, list(dataset_in(server).records)) == (0, 1, ["theirs"])


@BOTH_SHAPES
async def test_records_are_known_however_many_pages_they_are(
    store: SqliteStore, server: BackgroundServer, push: Push
) -> None:
    await store.upsert([kept(1)], now=NOW)
    await push()
    shelf = server.sandbox.shelf
    shelf.append(dataset_in(server), [{"input": number} for number in range(2_500)], deduplicate=False)
    assert (await push()).already_there == 1
    assert asked(server, "GET", "records") == 3


async def test_records_go_in_bounded_batches_and_make_one_version(
    store: SqliteStore, server: BackgroundServer, push: Push
) -> None:
    await store.upsert([kept(number) for number in range(2 * MOST_RECORDS + 1)], now=NOW)
    report = await push()
    assert (report.created, len(dataset_in(server).records)) == (201, 201)
    assert asked(server, "POST", "batch_update") == 3
    assert dataset_in(server).version == 1


async def test_a_batch_is_bounded_in_bytes_too(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    long = "word " * (MOST_BYTES // 15)
    await store.upsert([kept(number, f"{number} {long}") for number in range(5)], now=NOW)
    assert (await push()).created == 5
    assert asked(server, "POST", "batch_update") == 3


async def test_two_captures_of_one_question_are_two_records(
    store: SqliteStore, server: BackgroundServer, push: Push
) -> None:
    await store.upsert([kept(number, "the same question") for number in range(3)], now=NOW)
    assert (await push()).created == 3
    assert len(dataset_in(server).records) == 3


async def test_closed_texts_are_counted_and_make_no_empty_dataset(
    store: SqliteStore, server: BackgroundServer, push: Push
) -> None:
    await store.upsert([closed(1), closed(2), capture(3)], now=NOW)
    report = await push()
    assert (report.created, report.closed, report.without_input) == (0, 2, 1)
    assert server.sandbox.shelf.projects == {}
    assert await store.packages() == []


async def test_a_dry_run_only_looks(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(number) for number in range(3)], now=NOW)
    report = await push(dry_run=True)
    assert (report.created, report.dry_run, report.dataset_id) == (3, True, None)
    await push(Selection(limit=1))
    assert (await push(dry_run=True)).created == 2
    assert {one.method for one in server.sandbox.calls} == {"GET", "POST"}
    assert len(dataset_in(server).records) == 1
    assert len(await store.packages()) == 1


async def test_the_selection_selects(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(1, env="prod"), kept(2, env="dev")], now=NOW)
    assert (await push(Selection(env="dev"))).created == 1
    (package,) = await store.packages()
    assert (package.selection, package.count, package.format) == ({"env": "dev"}, 1, "datadog")
    assert (package.destination, package.state) == ("datadog:evals/failures", "delivered")


# -- who reads it

SDK = """
import json
from ddtrace.llmobs import LLMObs
LLMObs.enable(ml_app="any", api_key="any", app_key="any", agentless_enabled=True, project_name="evals")
theirs = LLMObs.create_dataset(dataset_name="theirs", records=[{"input_data": {"q": "1"}, "expected_output": "a"}])
pulled = [*LLMObs.pull_dataset("failures"), *LLMObs.pull_dataset("theirs")]
print(json.dumps([[one["input_data"], one["expected_output"], sorted(one["metadata"])] for one in pulled]))
"""
QUIET = ("DD_INSTRUMENTATION_TELEMETRY_ENABLED", "DD_REMOTE_CONFIGURATION_ENABLED", "DD_TRACE_ENABLED")


async def test_datadog_s_sdk_pulls_what_was_pushed(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    """In a process of its own: the SDK patches what it is imported into."""
    await store.upsert([kept(1)], now=NOW)
    await push()
    surroundings = PLAIN | dict.fromkeys(QUIET, "false") | {"DD_LLMOBS_OVERRIDE_ORIGIN": server.url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SDK, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    ours, theirs = json.loads(out)
    assert ours[:2] == [{"input": "question 1"}, None]
    assert {"evalforge_id", "failed_output", "datadog_url", "generated_assertions"} <= set(ours[2])
    assert theirs == [{"q": "1"}, "a", []]


async def test_two_pushes_at_once_make_no_duplicates(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(number) for number in range(MOST_RECORDS + 10)], now=NOW)
    await asyncio.gather(push(), push())
    assert (len(dataset_in(server).records), len(server.sandbox.shelf.projects)) == (MOST_RECORDS + 10, 1)


async def test_a_name_that_somebody_took_meanwhile_is_used(
    store: SqliteStore, server: BackgroundServer, push: Push, api: DatadogApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = api.post

    async def in_conflict(path: str, what: str, body: Any, *others: Any) -> Any:
        await post(path, what, body, *others)
        if what.startswith("the new"):
            raise SourceRefusedError("somebody made it", status=409)

    monkeypatch.setattr(api, "post", in_conflict)
    await store.upsert([kept(1)], now=NOW)
    assert (await push()).created == 1
    assert list(dataset_in(server).records)


async def test_an_erasure_is_told_where_records_went(store: SqliteStore, push: Push) -> None:
    await store.upsert([kept(1)], now=NOW)
    await push()
    (task,) = await erasing.tasks_elsewhere(store, {}, NOW - timedelta(days=1))
    assert "'datadog:evals/failures'" in task


# -- trouble


@pytest.mark.parametrize(("kind", "after"), one_in(3, SPOTS))
async def test_one_trouble_anywhere_costs_nothing(
    store: SqliteStore, server: BackgroundServer, push: Push, kind: str, after: int
) -> None:
    await store.upsert([kept(number) for number in range(MOST_RECORDS + 20)], now=NOW)
    trouble(server, kind, after=after, reset_s=0)
    report = await push()
    assert (report.created, report.already_there, report.left_out, report.refused) == (120, 0, 0, [])
    assert server.sandbox.trouble.faults[0].hits == 1
    assert (len(dataset_in(server).records), len(server.sandbox.shelf.projects)) == (120, 1)
    assert (await push()).already_there == 120


@pytest.mark.parametrize("kind", one_in(2, LOST))
async def test_what_broke_off_is_finished_by_the_next_push(
    store: SqliteStore, server: BackgroundServer, push: Push, kind: str
) -> None:
    await store.upsert([kept(number) for number in range(3 * MOST_RECORDS)], now=NOW)
    # The projects, the new project, the new dataset and the first batch go well; then nothing does.
    trouble(server, kind, after=4, times=None)
    with pytest.raises(SourceUnavailableError):
        await push()
    there = len(dataset_in(server).records)
    assert there in (MOST_RECORDS, 2 * MOST_RECORDS)
    (package,) = await store.packages()
    assert (package.state, package.reason) == ("delivered", "source_unavailable")
    server.sandbox.trouble.faults = []
    report = await push()
    assert (report.created, report.already_there) == (300 - there, there)
    assert len(dataset_in(server).records) == 300


@BOTH_SHAPES
async def test_ids_that_datadog_does_not_keep_make_no_duplicates_either(
    store: SqliteStore, server: BackgroundServer, push: Push, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were ids of ours ignored, a repeated insertion would be a second record: so what is there is looked up first."""
    shelf = server.sandbox.shelf
    change = shelf.change

    def ignoring_ids(dataset: Dataset, *, insert: Any = (), **others: Any) -> Any:
        return change(dataset, insert=[{**one, "id": None} for one in insert], **others)

    monkeypatch.setattr(shelf, "change", ignoring_ids)
    await store.upsert([kept(number) for number in range(20)], now=NOW)
    trouble(server, "cut", after=3)
    report = await push()
    assert (report.created, report.left_out, len(dataset_in(server).records)) == (20, 0, 20)
    assert (await push()).already_there == 20


async def test_a_limit_that_resets_too_late_is_told(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(1)], now=NOW)
    trouble(server, "rate_limited", reset_s=600)
    with pytest.raises(QuotaExhaustedError) as out:
        await push()
    assert out.value.retry_after_s == 600


async def test_what_is_too_large_is_sent_in_halves(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    server.sandbox.max_change_bytes = 20_000
    huge = kept(99, "x" * 30_000)
    await store.upsert([huge, *(kept(number, "y" * 1_000) for number in range(30))], now=NOW)
    report = await push()
    assert (report.created, report.refused) == (30, [f"evalforge_{huge.document_id}"])
    assert len(dataset_in(server).records) == 30
    assert (await push()).already_there == 30


async def test_when_nothing_at_all_is_taken_it_ends(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(number) for number in range(MOST_RECORDS)], now=NOW)
    trouble(server, "400", after=3, times=None)
    with pytest.raises(SourceRefusedError) as refused:
        await push()
    assert refused.value.status == 400
    assert asked(server, "POST", "batch_update") < 3 * pushing.MOST_REFUSED


async def test_a_key_that_may_only_read_is_told_what_it_lacks(
    store: SqliteStore, server: BackgroundServer, push: Push, enqueue: Push
) -> None:
    made_queue(server)
    server.sandbox.permissions = frozenset({READ})
    await store.upsert([kept(1)], now=NOW)
    for act in (push, enqueue):
        with pytest.raises(SourceRefusedError, match="llm_observability_read and llm_observability_write") as refused:
            await act()
        assert refused.value.status == 403
        assert (await act(dry_run=True)).dry_run
    assert await store.packages() == []


async def test_an_erasure_meanwhile_is_told(
    store: SqliteStore, push: Push, api: DatadogApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.upsert([kept(1)], now=NOW)
    post = api.post

    async def erased_before(*arguments: Any, **others: Any) -> Any:
        await store.save_erasure(Erasure("erasure_1", NOW, "trace", "test", trace_keys=("0" * 32,)))
        return await post(*arguments, **others)

    monkeypatch.setattr(api, "post", erased_before)
    with pytest.raises(ErasedMeanwhileError, match="'failures'"):
        await push()


# -- hostile captures


HOSTILE = (
    "\x00 NUL \x1b[31m", "half \ud800 a pair", "\udc80", "{{ 7*7 }} {% raw %} {{ env.HOME }}",
    "=cmd|' /C calc'!A0", "!!python/object/apply:os.system", "\u202e<script>alert(1)</script>", '"]}}, "data": {',
    "2026-11-23T12:00:00Z", "\ufeff\u2028\u2029", "🫠" * 500, "../../../projects/delete?x=#",
)  # fmt: skip


async def test_hostile_captures_are_data(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    found = [kept(number, text, answer=text, env=text) for number, text in enumerate(HOSTILE)]
    await store.upsert(found, now=NOW)
    report = await push()
    assert (report.created, report.refused) == (len(HOSTILE), [])
    inputs = [record.input["input"] for record in dataset_in(server).records.values()]
    spelled = [text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for text in reversed(HOSTILE)]
    assert inputs == spelled, "as they were, but for halves of pairs, which UTF-8 cannot spell"
    assert (await push()).already_there == len(HOSTILE)


async def test_hostile_names_stay_names(store: SqliteStore, server: BackgroundServer, push: Push) -> None:
    await store.upsert([kept(1)], now=NOW)
    for name in ('a/b?filter[name]=x&"', "../delete", "{{7*7}}", "é" * 50):
        assert (await push(project=name, dataset=name)).created == 1
        assert (await push(project=name, dataset=name)).already_there == 1
    assert len(server.sandbox.shelf.datasets) == 4


async def test_hostile_payloads_of_any_shape_never_stop_a_push(
    store: SqliteStore, server: BackgroundServer, push: Push
) -> None:
    payloads: list[dict[str, Any]] = [
        {"input": {"messages": [{"role": "user", "content": "hi", "tool_calls": [{"arguments": {"n": 2**70}}]}]}},
        {"input": {"value": "q", "messages": "none"}, "output": [1, 2]},
        {"input": "plain", "output": "\ud800"},
        {"input": {"messages": [7, None, {"role": 9, "content": ["x"]}, {"role": "user", "content": "ok"}]}},
    ]
    await store.upsert([capture(number, payload=one) for number, one in enumerate(payloads)], now=NOW)
    report = await push()
    assert report.created == len(payloads)
    json.dumps([record.input for record in dataset_in(server).records.values()]).encode()


# -- annotation queues


async def test_traces_are_queued_once(store: SqliteStore, server: BackgroundServer, enqueue: Push) -> None:
    queue = made_queue(server)
    found = [kept(number) for number in range(250)]
    await store.upsert(found, now=NOW)
    first, again = await enqueue(), await enqueue(queue=queue.id)
    assert (first.added, first.already_there, again.added, again.already_there) == (250, 0, 0, 250)
    assert set(queue.interactions) == {("trace", one.trace_id) for one in found}
    assert asked(server, "POST", "interactions") == 3


async def test_what_datadog_has_not_is_counted_and_not_queued(
    store: SqliteStore, server: BackgroundServer, enqueue: Push
) -> None:
    queue = made_queue(server)
    old = START_NS - 16 * 86_400 * 1_000_000_000
    await store.upsert(
        [
            kept(1),
            capture(2, start_ns=old),
            capture(3, trace_id_kind="apm"),
            capture("t_" + "0" * 32, has_plain_trace_id=False),
            closed(5),
        ],
        now=NOW,
    )
    report = await enqueue()
    assert (report.added, report.gone, report.apm_only, report.without_id) == (2, 1, 1, 1)
    assert len(queue.interactions) == 2
    elsewhere = await enqueue(site="datadoghq.eu")
    assert (elsewhere.already_there, elsewhere.of_another_site) == (2, 1)
    late = await enqueue(now=NOW + timedelta(days=30))
    assert (late.added, late.already_there, late.gone) == (0, 2, 1)


async def test_a_dry_run_queues_nothing(store: SqliteStore, server: BackgroundServer, enqueue: Push) -> None:
    queue = made_queue(server)
    await store.upsert([kept(1), kept(2)], now=NOW)
    report = await enqueue(dry_run=True)
    assert (report.added, report.dry_run, queue.interactions) == (2, True, {})
    assert {one.method for one in server.sandbox.calls} == {"GET"}


async def test_a_queue_has_to_be_there_and_be_one(store: SqliteStore, server: BackgroundServer, enqueue: Push) -> None:
    with pytest.raises(NotFoundError, match="'triage'"):
        await enqueue()
    made_queue(server)
    twin = made_queue(server)
    with pytest.raises(RequestError, match="by its id"):
        await enqueue()
    assert (await enqueue(queue=twin.id)).queue_id == twin.id


@pytest.mark.parametrize(("kind", "after"), one_in(3, [(kind, after - 1) for kind, after in SPOTS if after]))
async def test_one_trouble_anywhere_queues_nothing_twice(
    store: SqliteStore, server: BackgroundServer, enqueue: Push, kind: str, after: int
) -> None:
    queue = made_queue(server)
    await store.upsert([kept(number) for number in range(120)], now=NOW)
    trouble(server, kind, after=after, reset_s=0)
    report = await enqueue()
    assert (report.added, report.already_there, len(queue.interactions)) == (120, 0, 120)
    assert server.sandbox.trouble.faults[0].hits == 1


async def test_what_somebody_else_queued_meanwhile_is_told_as_there(
    store: SqliteStore, server: BackgroundServer, enqueue: Push, api: DatadogApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, one = made_queue(server), kept(1)
    await store.upsert([one, kept(2)], now=NOW)
    post = api.post

    async def after_another(*arguments: Any, **others: Any) -> Any:
        server.sandbox.shelf.put(queue, [{"type": "trace", "content_id": one.trace_id}])
        return await post(*arguments, **others)

    monkeypatch.setattr(api, "post", after_another)
    report = await enqueue()
    assert (report.added, report.already_there) == (1, 1)
