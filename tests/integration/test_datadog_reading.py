"""Reading windows of a local Datadog: nothing is missed in any mode, a killed run goes on, and little is fetched."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from evalforge.core.ports import Checkpoint, FilterMode, Page
from evalforge.core.signals import DOTTED_SPELLINGS, RULES, SPELLINGS, Rule, Thresholds, find_signals
from evalforge.core.window import Window
from evalforge.errors import SourceRefusedError, SourceUnavailableError
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog import DatadogClient, DatadogSource
from evalforge.sources.datadog.query import ASKED_EVALUATORS
from tests.examples import one_in

END_MS = 1_795_416_000_000
DAY_MS = 24 * 3_600_000
WINDOW = Window(END_MS - DAY_MS, END_MS)
Found = set[tuple[str, str]]


@pytest.fixture
def sandbox() -> Iterator[BackgroundServer]:
    with BackgroundServer(Sandbox(now=lambda: END_MS / 1000)) as server:
        yield server


@pytest.fixture
async def client(sandbox: BackgroundServer) -> AsyncIterator[DatadogClient]:
    async with DatadogClient(sandbox.url, "key", "app", retry_budget_s=1, backoff_s=0.001) as connected:
        yield connected


def source_of(client: DatadogClient, mode: FilterMode, name: str = "llm_obs", **settings: Any) -> DatadogSource:
    settings = {"thresholds": Thresholds(), "rng": random.Random(7), "apm_scope": "", **settings}
    return DatadogSource(client, name, filter_mode=mode, **settings)


def llm_obs(number: int, at_ms: int | None = None, **attributes: Any) -> dict[str, Any]:
    start_ms = WINDOW.from_ms + number * 1000 if at_ms is None else at_ms
    ids = {"trace_id": f"{number:032x}", "span_id": str(number + 1), "parent_id": "undefined"}
    return {
        **ids,
        "name": "n",
        "span_kind": "llm",
        "status": "ok",
        "start_ns": start_ms * 1_000_000,
        "duration": 5,
        **attributes,
    }


def apm(number: int, custom: Any, **attributes: Any) -> dict[str, Any]:
    item = {
        "trace_id": str(number + 1),
        "span_id": str(number + 1),
        "start_timestamp": "2026-11-23T06:00:00.000Z",
        "custom": custom,
    }
    return {"id": f"e{number}", "type": "spans", "attributes": {**item, **attributes}}


async def read(source: DatadogSource, after: Checkpoint | None = None, window: Window = WINDOW) -> list[Page]:
    return [page async for page in source.pages(window, after)]


def failing(source: DatadogSource, pages: list[Page]) -> Found:
    spans = (span for page in pages for span in page.spans)
    return {
        (span.trace_id, span.span_id) for span in spans if source.in_scope(span) and find_signals(span, source.thresholds)
    }


def queries(sandbox: BackgroundServer) -> list[str]:
    return [one.body["data"]["attributes"]["filter"].get("query", "") for one in sandbox.sandbox.requests]


# -- every rule, every spelling, every place ------------------------------------------------------------------------------


def failing_values(rule: Rule) -> list[Any]:
    values: list[Any] = []
    if rule.bound is not None:
        values += {"<": [0.31, "0.31", 0, -1, "1e-3", "0.0"], ">=": [0.7, "0.93", 1, 503, "429", " 500 "]}[rule.bound.op]
    if rule.truth:
        values += [True, "true", "True", " TRUE ", "1"]
    for label in sorted(rule.labels):
        values += [label, label.upper(), label.title(), label.replace(" ", "_"), f" {label}"]
    return values


def everything_failing() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    llm_places: list[dict[str, Any]] = []
    apm_places: list[tuple[Any, dict[str, Any]]] = []
    for path, (_, rule) in SPELLINGS.items():
        head, dot, rest = path.partition(".")
        for value in failing_values(rule):
            if path in ASKED_EVALUATORS:  # any other name is learned
                llm_places.append({"evaluation": {path: {"value": value, "eval_metric_type": "categorical"}}})
                llm_places.append({"evaluation": {path: {"value": value}}})
            if path in DOTTED_SPELLINGS:
                llm_places.append({"metadata": {path: value}})
                apm_places.append(({path: value}, {}))
                if not isinstance(value, str):  # Datadog keeps numbers there, and nothing else
                    llm_places.append({"metrics": {path: float(value)}})
            if path in DOTTED_SPELLINGS and dot:
                llm_places.append({"metadata": {head: {rest: value}}})
                apm_places.append(({head: {rest: value}}, {}))
            if isinstance(value, str) and value != " 500 ":  # in a tag: its first digit is asked for
                # A healthy value under the same key comes first: keys repeat.
                llm_places.append({"tags": [f"{path}:ok", f"{path}:{value}"]})
                apm_places.append(({}, {"tags": [f"{path}:200", f"{path}:{value}"]}))
        if path in ASKED_EVALUATORS:
            verdict = {"value": {"a": 1}, "assessment": "fail", "eval_metric_type": "json"}
            llm_places.append({"evaluation": {path: verdict}})
        if path in ASKED_EVALUATORS and rule.bound is not None:
            llm_places.append({"evaluation": {path: {"value": failing_values(rule)[0], "assessment": "pass"}}})
    llm_places.append({"status": "error"})
    apm_places += [({}, {"status": "error"}), ({"error": {"message": "boom"}}, {}), ({"error": {"type": "E"}}, {})]
    return [llm_obs(n, **place) for n, place in enumerate(llm_places)], [
        apm(n, *place[:1], **place[1]) for n, place in enumerate(apm_places)
    ]


@pytest.mark.parametrize("name", ["llm_obs", "apm"])
async def test_the_query_finds_every_failing_value_in_every_place(
    sandbox: BackgroundServer, client: DatadogClient, name: str
) -> None:
    spans, items = everything_failing()
    sandbox.sandbox.store.add_llm_obs(spans)
    sandbox.sandbox.store.add_apm(items)
    scan, query = source_of(client, "scan", name), source_of(client, "query", name)
    scanned = await read(scan)
    wanted = failing(scan, scanned)
    found = failing(query, await read(query))
    by_id = {(span.trace_id, span.span_id): span for page in scanned for span in page.spans}
    assert [find_signals(by_id[one], Thresholds())[0] for one in sorted(wanted - found)] == []
    assert len(wanted) > 1000
    types = {signal.type for span in by_id.values() for signal in find_signals(span, Thresholds())}
    assert types >= {rule.type for rule in RULES}


@pytest.mark.parametrize("name", ["llm_obs", "apm"])
async def test_the_query_leaves_healthy_values_where_they_are(
    sandbox: BackgroundServer, client: DatadogClient, name: str
) -> None:
    healthy: dict[str, Any] = {
        "quality_score": 0.93,
        "toxicity_score": 0.02,
        "hallucination": False,
        "prompt_injection": "not found",
    }
    healthy |= {"llm_obs": {"guardrails": {"failed": "false"}, "evaluations": {"hallucination": "no hallucination"}}}
    verdicts = {name: {"value": value, "assessment": "pass"} for name, value in healthy.items()}
    labels = {
        "hallucination": {"value": "none"},
        "failure_to_answer": {"value": "answered"},
        "toxicity": {"value": "not toxic"},
    }
    numbers: dict[str, Any] = {
        "quality_score": 0.5,
        "toxicity_score": 0.69,
        "hallucination": 0,
        "http": {"status_code": 200},
    }
    places: list[dict[str, Any]] = [{"metadata": healthy}, {"metrics": numbers}, {"evaluation": verdicts}]
    places += [{"evaluation": labels}, {"tags": ["env:prod"]}]
    sandbox.sandbox.store.add_llm_obs(llm_obs(n, **place) for n, place in enumerate(places))
    sandbox.sandbox.store.add_apm([apm(0, {**healthy, "http": {"status_code": "200"}}), apm(1, numbers)])
    source = source_of(client, "query", name)
    assert [len(page.spans) for page in await read(source)] == [0]


# -- auto -----------------------------------------------------------------------------------------------------------------


def busy_day(failures: dict[int, dict[str, Any]], every_ms: int = 4000) -> list[dict[str, Any]]:
    """A day with a span every four seconds: too many to be read whole. `failures` says what some of them carry."""
    count = DAY_MS // every_ms
    return [llm_obs(n, WINDOW.from_ms + n * every_ms, **failures.get(n, {})) for n in range(count)]


async def test_a_small_window_is_read_whole_in_one_request(sandbox: BackgroundServer, client: DatadogClient) -> None:
    odd: dict[str, Any] = {"evaluation": {"unheard_of": {"value": "x", "assessment": "fail"}}}
    sandbox.sandbox.store.add_llm_obs(llm_obs(n, **(odd if n == 5 else {})) for n in range(900))
    source = source_of(client, "auto")
    pages = await read(source)
    assert [len(page.spans) for page in pages] == [900]
    assert failing(source, pages) == {(f"{5:032x}", "6")}
    assert (source.status.mode, source.status.request_count, source.status.filter_gaps) == ("scan", 1, [])
    assert pages[-1].checkpoint.done
    assert pages[-1].checkpoint.learned == ("evaluation.unheard_of",)
    assert queries(sandbox) == [""]


async def test_an_evenly_spread_window_of_some_thousand_is_read_whole(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    sandbox.sandbox.store.add_llm_obs(busy_day({}, every_ms=20_000))
    source = source_of(client, "auto")
    pages = await read(source)
    assert sum(page.item_count for page in pages) == 4320
    assert source.status.mode == "scan"
    assert set(queries(sandbox)) == {""}


async def test_a_big_window_teaches_an_unknown_evaluator_and_is_asked_once(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    verdict = {"evaluation": {"brand-voice": {"value": "off", "assessment": "fail", "eval_metric_type": "categorical"}}}
    failures: dict[int, dict[str, Any]] = dict.fromkeys(range(0, 21600, 100), verdict)
    failures |= {n: {"status": "error"} for n in range(50, 21_600, 1000)}
    sandbox.sandbox.store.add_llm_obs(busy_day(failures))
    source = source_of(client, "auto")
    pages = await read(source)
    assert failing(source, pages) == {(f"{n:032x}", str(n + 1)) for n in failures}
    assert (source.status.mode, source.status.filter_gaps) == ("auto", [])
    assert source.status.learned == ["evaluation.brand-voice"]
    assert source.status.item_count < 3000
    assert source.status.item_count == sum(page.item_count for page in pages)
    assert [page.checkpoint.done for page in pages] == [False] * (len(pages) - 1) + [True]
    assert "@evaluation.brand-voice.assessment:fail" in queries(sandbox)[-1]


async def test_a_name_met_only_while_the_window_is_asked_is_asked_for_again(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    late = {"evaluation": {"late": {"value": 1, "assessment": "fail"}}}
    failures: dict[int, dict[str, Any]] = dict.fromkeys(range(21000, 21500, 10), late)
    failures[21_005] = {"status": "error", **late}
    sandbox.sandbox.store.add_llm_obs(busy_day(failures))
    source = source_of(client, "auto", rng=random.Random(1))
    pages = await read(source)
    assert failing(source, pages) == {(f"{n:032x}", str(n + 1)) for n in failures}
    assert pages[-1].checkpoint.learned == ("evaluation.late",)
    assert queries(sandbox)[-1].startswith("@evaluation.late.assessment:fail")


async def test_a_place_that_the_query_misses_is_learned_by_existence(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    # Datadog matches attributes by case, so an assessment in capitals is not what the query asks for.
    odd: dict[str, Any] = {"evaluation": {"tone": {"value": "x", "assessment": "FAIL"}}}
    sandbox.sandbox.store.add_llm_obs(busy_day(dict.fromkeys(range(0, 21600, 50), odd)))
    source = source_of(client, "auto")
    pages = await read(source)
    assert len(failing(source, pages)) == 432
    assert source.status.filter_gaps == []
    assert "any:evaluation.tone" in pages[-1].checkpoint.learned
    again = source_of(client, "auto")
    assert len(failing(again, await read(again, pages[-1].checkpoint))) == 432


@pytest.mark.parametrize("name", one_in(2, ["who*knows", "a\nb"]))
async def test_what_no_query_finds_is_an_open_gap(sandbox: BackgroundServer, client: DatadogClient, name: str) -> None:
    odd: dict[str, Any] = {"evaluation": {name: {"value": "x", "assessment": "fail"}}}
    sandbox.sandbox.store.add_llm_obs(busy_day(dict.fromkeys(range(0, 21600, 50), odd)))
    source = source_of(client, "auto")
    pages = await read(source)
    assert source.status.mode == "auto"
    assert len(source.status.filter_gaps) == 1
    assert source.status.filter_gaps[0].startswith("evaluation.unprintable-")
    assert not any(entry.startswith("gap:") for entry in pages[-1].checkpoint.learned)


async def test_more_names_than_a_query_carries_is_a_scan(sandbox: BackgroundServer, client: DatadogClient) -> None:
    many = {f"n{number}": {"value": 1, "assessment": "fail"} for number in range(400)}
    sandbox.sandbox.store.add_llm_obs(busy_day({0: {"evaluation": many}}))
    source = source_of(client, "auto")
    pages = await read(source)
    assert source.status.mode == "scan"
    assert "more evaluator names" in source.status.warnings[0]
    assert len({span.span_id for page in pages for span in page.spans}) == 21_600


# -- scope, refusals, nothing there ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "query", "scan"])
async def test_scope_is_asked_for_and_held(sandbox: BackgroundServer, client: DatadogClient, mode: FilterMode) -> None:
    bad: dict[str, Any] = {"status": "error"}
    spans = [
        llm_obs(0, ml_app="Bot", tags=["env:prod"], **bad),
        llm_obs(1, ml_app="other", tags=["env:prod"], **bad),
        llm_obs(2, ml_app="Bot", tags=["env:dev"], **bad),
        llm_obs(3, ml_app="Bot", tags=["env:prod"], **bad) | {"span_kind": "experiment"},
    ]
    sandbox.sandbox.store.add_llm_obs(spans)
    source = source_of(client, mode, ml_apps=("Bot",), envs=("PROD",))
    pages = await read(source)
    assert failing(source, pages) == {(f"{0:032x}", "1")}
    assert source.status.item_count == 2


@pytest.mark.parametrize("mode", one_in(2, ["auto", "query"]))
async def test_a_refused_query_falls_back_to_a_scan(
    sandbox: BackgroundServer, client: DatadogClient, mode: FilterMode
) -> None:
    sandbox.sandbox.store.add_llm_obs(busy_day({n: {"status": "error"} for n in range(0, 21_600, 500)}))
    looks_and_slice = 2 if mode == "auto" else 0
    sandbox.sandbox.trouble.faults = [Fault("status", status=400, after=looks_and_slice)]
    source = source_of(client, mode)
    pages = await read(source)
    assert len(failing(source, pages)) == 44
    assert source.status.mode == "scan"
    assert "refused the query (400)" in source.status.warnings[0]
    assert pages[-1].checkpoint.done


async def test_a_refused_scan_is_refused(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.trouble.faults = [Fault("status", status=400, times=None)]
    with pytest.raises(SourceRefusedError):
        await read(source_of(client, "query"))


@pytest.mark.parametrize("mode", ["auto", "query", "scan"])
@pytest.mark.parametrize(("name", "reason"), [("llm_obs", "DATADOG_SITE"), ("apm", "DATADOG_APM_SCOPE")])
async def test_nothing_found_is_one_empty_page_with_likely_reasons(
    client: DatadogClient, mode: FilterMode, name: str, reason: str
) -> None:
    source = source_of(client, mode, name)
    (page,) = await read(source)
    assert (page.item_count, page.checkpoint.done) == (0, True)
    assert reason in source.status.warnings[0]


async def test_apm_without_permission_is_skipped_and_llm_obs_is_not(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    sandbox.sandbox.trouble.faults = [Fault("status", status=403, times=None)]
    source = source_of(client, "auto", "apm")
    (page,) = await read(source)
    assert (page.item_count, page.checkpoint.done) == (0, True)
    assert source.status.skipped is not None
    assert "403" in source.status.skipped
    with pytest.raises(SourceRefusedError):
        await read(source_of(client, "auto"))


async def test_odd_items_are_rejected_one_by_one(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.store.add_llm_obs([None, 7, [], {"attributes": None}, llm_obs(1), {"attributes": {"span_id": "1"}}])
    window = Window(WINDOW.from_ms, END_MS + 1)
    pages = await read(source_of(client, "scan"), window=window)
    assert sum(len(page.spans) for page in pages) == 1
    reasons = sorted(rejected.reason for page in pages for rejected in page.rejected)
    assert reasons == ["missing_trace_id", "no_attributes", "not_an_object", "not_an_object", "not_an_object"]


# -- going on -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def paged(sandbox: BackgroundServer) -> BackgroundServer:
    """A busy day whose answers are cut at 30 KB, so that every step has several pages."""
    name = {"evaluation": {"brand-voice": {"value": "off", "assessment": "fail"}}}
    failures: dict[int, dict[str, Any]] = dict.fromkeys(range(0, 7200, 20), name)
    failures |= {n: {"status": "error"} for n in range(7, 7200, 30)}
    sandbox.sandbox.store.add_llm_obs(busy_day(failures, every_ms=12_000))
    sandbox.sandbox.max_response_bytes = 30_000
    return sandbox


@pytest.mark.parametrize("mode", one_in(2, ["auto", "scan", "query"]))
async def test_a_run_killed_after_any_page_goes_on_without_loss(
    paged: BackgroundServer, client: DatadogClient, mode: FilterMode
) -> None:
    paged.sandbox.max_response_bytes = {"auto": 60_000, "query": 12_000, "scan": 200_000}[mode]
    whole = source_of(client, mode)
    pages = await read(whole)
    wanted = failing(whole, pages)
    assert len(pages) > 3
    for killed_after in range(1, len(pages)):
        first = source_of(client, mode)
        kept: list[Page] = []
        reading = first.pages(WINDOW)
        async for page in reading:
            kept.append(page)
            if len(kept) == killed_after:
                break
        await reading.aclose()
        second = source_of(client, mode, rng=random.Random(killed_after))
        rest = await read(second, kept[-1].checkpoint)
        assert failing(second, kept + rest) >= wanted
        assert rest[-1].checkpoint.done
        if mode != "auto":
            assert len(kept) + len(rest) == len(pages), "no page is read twice"


async def test_changed_settings_begin_the_window_anew(paged: BackgroundServer, client: DatadogClient) -> None:
    reading = source_of(client, "scan").pages(WINDOW)
    first = await anext(reading)
    await reading.aclose()
    other = source_of(client, "scan", thresholds=Thresholds(quality=0.4))
    again = await anext(other.pages(WINDOW, first.checkpoint))
    assert [span.span_id for span in again.spans] == [span.span_id for span in first.spans]


@pytest.mark.parametrize("step", one_in(2, ["", "nap:0:0", "query:0:99", "scan:0:0@1"]))
async def test_a_checkpoint_that_makes_no_sense_begins_the_window_anew(
    paged: BackgroundServer, client: DatadogClient, step: str
) -> None:
    source = source_of(client, "scan")
    checkpoint = Checkpoint("llm_obs", WINDOW, source.query_digests["all"], step, cursor="nonsense")
    pages = await read(source, checkpoint)
    assert len({span.span_id for page in pages for span in page.spans}) == 7200


@pytest.mark.parametrize("mode", one_in(2, ["auto", "scan", "query"]))
async def test_a_dead_cursor_goes_on_from_the_newest_span(
    paged: BackgroundServer, client: DatadogClient, mode: FilterMode
) -> None:
    healthy = source_of(client, mode)
    wanted = failing(healthy, await read(healthy))
    paged.sandbox.trouble.faults = [Fault("bad_cursor", times=4, every=3)]
    source = source_of(client, mode)
    pages = await read(source)
    assert failing(source, pages) >= wanted
    assert pages[-1].checkpoint.done
    assert source.status.item_count < 1.2 * healthy.status.item_count


async def test_a_cursor_that_died_between_two_runs_loses_nothing(paged: BackgroundServer, client: DatadogClient) -> None:
    reading = source_of(client, "scan").pages(WINDOW)
    first = await anext(reading)
    await reading.aclose()
    paged.sandbox.trouble.faults = [Fault("bad_cursor", times=2)]  # what was asked for ahead may meet it too
    rest = await read(source_of(client, "scan"), first.checkpoint)
    assert len({span.span_id for page in [first, *rest] for span in page.spans}) == 7200
    assert rest[0].spans[0].span_id == first.spans[-1].span_id, "inclusive: the newest span comes again"


async def test_cursors_that_always_die_end_the_run(paged: BackgroundServer, client: DatadogClient) -> None:
    stuck = [llm_obs(n, WINDOW.from_ms) for n in range(3000)]
    paged.sandbox.store.clear()
    paged.sandbox.store.add_llm_obs(stuck)
    paged.sandbox.trouble.faults = [Fault("bad_cursor", times=None)]
    with pytest.raises(SourceRefusedError):
        await read(source_of(client, "scan"))


async def test_a_window_that_stays_partial_is_never_done(paged: BackgroundServer, client: DatadogClient) -> None:
    paged.sandbox.trouble.faults = [Fault("partial", times=6)]
    source = source_of(client, "scan")
    pages = await read(source)
    assert source.status.partial
    assert not pages[-1].checkpoint.done
    paged.sandbox.trouble.faults = []
    second = source_of(client, "scan")
    again = await read(second, pages[-1].checkpoint)
    assert again[-1].checkpoint.done
    assert len({span.span_id for page in again for span in page.spans}) == 7200


async def test_a_partial_page_that_heals_leaves_no_mark(paged: BackgroundServer, client: DatadogClient) -> None:
    paged.sandbox.trouble.faults = [Fault("partial", times=2)]
    source = source_of(client, "scan")
    pages = await read(source)
    assert (source.status.partial, pages[-1].checkpoint.done) == (False, True)
    assert len({span.span_id for page in pages for span in page.spans}) == 7200


async def test_that_datadog_went_down_keeps_the_pages_already_read(paged: BackgroundServer, client: DatadogClient) -> None:
    paged.sandbox.trouble.faults = [Fault("status", status=503, after=3, times=None)]
    async with DatadogClient(paged.url, "key", "app", retry_budget_s=0) as impatient:
        reading = source_of(impatient, "scan").pages(WINDOW)
        kept = [await anext(reading) for _ in range(3)]
        with pytest.raises(SourceUnavailableError):
            await anext(reading)
    paged.sandbox.trouble.faults = []
    rest = await read(source_of(client, "scan"), kept[-1].checkpoint)
    assert sum(page.item_count for page in kept + rest) == 7200


async def test_the_spans_before_a_place_are_the_last_ones_in_scope(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.store.add_llm_obs([llm_obs(number, ml_app="a" if number % 2 else "b") for number in range(8)])
    source = source_of(client, "scan", ml_apps=("a",))
    at_ms = WINDOW.from_ms + 5_000
    assert [span.span_id for span in await source.spans_before(WINDOW, at_ms, 2)] == ["4", "6"]
    assert source.status.request_count == 1
    sandbox.sandbox.trouble.faults = [Fault("status", status=403, times=None)]
    assert await source.spans_before(WINDOW, at_ms, 2) == ()
