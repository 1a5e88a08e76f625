"""Evaluations that come days late: found over 15 days for a few requests, and hardly a healthy span is fetched."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from evalforge.core.ports import Checkpoint, FilterMode, Page
from evalforge.core.signals import Limits, Thresholds, find_signals
from evalforge.core.window import Window
from evalforge.errors import SourceRefusedError
from evalforge.sandbox.server import BackgroundServer
from evalforge.sandbox.state import Sandbox
from evalforge.sandbox.trouble import Fault
from evalforge.sources.datadog import DatadogClient, DatadogSource
from evalforge.sources.datadog.plans import SPREAD_SLICE_SPANS, SPREAD_SLICES

END_MS = 1_795_416_000_000
DAY_MS = 24 * 3_600_000
WINDOW = Window(END_MS - 15 * DAY_MS, END_MS)
EVERY_MS = 120_000
COUNT = WINDOW.duration_ms // EVERY_MS
FAIL = {"value": "off", "eval_metric_type": "categorical", "assessment": "fail"}
PASS = {"value": "on", "eval_metric_type": "categorical", "assessment": "pass"}
SAMPLED = SPREAD_SLICES * SPREAD_SLICE_SPANS


@pytest.fixture(scope="module")
def loaded() -> Iterator[BackgroundServer]:
    """15 days with a span every two minutes, every 50th an error; nothing is evaluated yet."""
    with BackgroundServer(Sandbox(now=lambda: END_MS / 1000)) as server:
        yield server


@pytest.fixture
def sandbox(loaded: BackgroundServer) -> BackgroundServer:
    box = loaded.sandbox
    box.store.clear()
    box.store.add_llm_obs(span(n, status="error" if n % 50 == 0 else "ok") for n in range(COUNT))
    box.requests.clear()
    box.trouble.faults = []
    box.max_response_bytes = 50_000_000
    return loaded


@pytest.fixture
async def client(sandbox: BackgroundServer) -> AsyncIterator[DatadogClient]:
    async with DatadogClient(sandbox.url, "key", "app", retry_budget_s=1, backoff_s=0.001) as connected:
        yield connected


def span(number: int, **attributes: Any) -> dict[str, Any]:
    return {
        "trace_id": f"{number:032x}",
        "span_id": str(number + 1),
        "parent_id": "undefined",
        "name": "n",
        "span_kind": "llm",
        "start_ns": (WINDOW.from_ms + number * EVERY_MS) * 1_000_000,
        "duration": 5,
        **attributes,
    }


def evaluate(sandbox: BackgroundServer, numbers: range, name: str, verdict: Any = FAIL) -> set[str]:
    """Evaluations arrive, long after their spans; the span ids they are about."""
    span_ids = {str(number + 1) for number in numbers}
    assert all(sandbox.sandbox.store.add_evaluation(span_id, name, verdict) for span_id in span_ids)
    return span_ids


def source_of(client: DatadogClient, mode: FilterMode = "auto", name: str = "llm_obs", **settings: Any) -> DatadogSource:
    settings = {"thresholds": Thresholds(), "rng": random.Random(7), "apm_scope": "", **settings}
    return DatadogSource(client, name, filter_mode=mode, **settings)


async def read(source: DatadogSource, after: Checkpoint | None = None) -> list[Page]:
    return [page async for page in source.pages(WINDOW, after, reach="evaluated")]


def failing(source: DatadogSource, pages: list[Page]) -> set[str]:
    """The ids of the spans that an evaluation makes a failure."""
    return {
        one.span_id
        for page in pages
        for one in page.spans
        if any(signal.place.startswith("evaluation.") for signal in find_signals(one, source.thresholds))
    }


def queries(sandbox: BackgroundServer) -> list[str]:
    return [one.body["data"]["attributes"]["filter"].get("query", "") for one in sandbox.sandbox.requests]


@pytest.mark.parametrize("mode", ["auto", "scan"])
async def test_what_was_evaluated_late_is_found_for_a_few_requests(
    sandbox: BackgroundServer, client: DatadogClient, mode: FilterMode
) -> None:
    wanted = evaluate(sandbox, range(1, COUNT, 500), "hallucination", {"value": "hallucination found"})
    wanted |= evaluate(sandbox, range(2, COUNT, 500), "output_toxicity", {"value": 0.93, "eval_metric_type": "score"})
    wanted |= evaluate(sandbox, range(3, COUNT, 500), "tool_selection")  # one of Datadog's own
    wanted |= evaluate(sandbox, range(4, COUNT, 500), "brand-voice")  # set
    wanted |= evaluate(sandbox, range(5, COUNT, 500), "tone")  # learned by an earlier run
    wanted |= evaluate(sandbox, range(6, COUNT, 50), "nobody_listed_it")
    evaluate(sandbox, range(7, COUNT, 3), "goal_completeness", PASS)
    evaluate(sandbox, range(8, COUNT, 3), "quality_score", {"value": 0.9, "eval_metric_type": "score"})
    source = source_of(client, mode, evaluations=("brand-voice",))
    earlier = Checkpoint("llm_obs", WINDOW, learned=("evaluation.tone", "any:metadata.quality_score"), done=True)
    pages = await read(source, earlier)
    assert failing(source, pages) == wanted
    assert source.status.request_count <= 2 * SPREAD_SLICES + 3
    assert source.status.item_count <= len(wanted) + SAMPLED
    assert (source.status.mode, source.status.filter_gaps, source.status.warnings) == ("auto", [], [])
    assert source.status.learned == ["evaluation.nobody_listed_it"]
    assert [page.checkpoint.done for page in pages] == [False] * (len(pages) - 1) + [True]
    assert set(pages[-1].checkpoint.learned) == {*earlier.learned, "evaluation.nobody_listed_it"}
    assert len({query for query in queries(sandbox) if query}) == 1
    assert "@status" not in queries(sandbox)[-1]
    assert "@meta" not in queries(sandbox)[-1]


async def test_a_window_without_an_evaluation_costs_two_requests(sandbox: BackgroundServer, client: DatadogClient) -> None:
    source = source_of(client)
    pages = await read(source)
    assert (source.status.request_count, failing(source, pages)) == (2, set())
    assert sum(page.item_count for page in pages) == SPREAD_SLICE_SPANS
    assert (pages[-1].checkpoint.done, source.status.warnings) == (True, [])


async def test_an_empty_window_costs_two_requests_and_is_not_odd(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.store.clear()
    source = source_of(client)
    pages = await read(source)
    assert (source.status.request_count, sum(page.item_count for page in pages)) == (2, 0)
    assert (pages[-1].checkpoint.done, source.status.warnings) == (True, [])


async def test_mode_query_takes_no_samples_and_says_so(sandbox: BackgroundServer, client: DatadogClient) -> None:
    wanted = evaluate(sandbox, range(1, COUNT, 500), "hallucination", {"value": "hallucination found"})
    evaluate(sandbox, range(6, COUNT, 50), "nobody_listed_it")
    source = source_of(client, "query")
    pages = await read(source)
    assert failing(source, pages) == wanted
    assert (source.status.request_count, source.status.item_count, source.status.mode) == (1, len(wanted), "query")


async def test_apm_has_nothing_late_and_is_not_asked(sandbox: BackgroundServer, client: DatadogClient) -> None:
    source = source_of(client, name="apm")
    earlier = Checkpoint("apm", WINDOW, learned=("any:attributes.quality_score",), done=True)
    (page,) = await read(source, earlier)
    assert (page.item_count, page.checkpoint.done, source.status.request_count) == (0, True, 0)
    assert page.checkpoint.learned == earlier.learned
    assert not sandbox.sandbox.requests


async def test_a_scan_elsewhere_does_not_hide_that_this_was_a_query(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    source = source_of(client, "scan")
    await read(source)
    hour = Window(END_MS - 3_600_000, END_MS)
    pages = [page async for page in source.pages(hour)]
    assert (sum(page.item_count for page in pages), source.status.mode) == (30, "auto")


async def test_a_verdict_in_another_spelling_is_learned_by_existence(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    wanted = evaluate(sandbox, range(1, COUNT, 40), "tone", {**FAIL, "assessment": "FAIL"})
    source = source_of(client)
    pages = await read(source)
    assert failing(source, pages) == wanted
    assert pages[-1].checkpoint.learned == ("evaluation.tone", "any:evaluation.tone")
    assert source.status.filter_gaps == []


async def test_a_name_that_cannot_be_asked_for_is_an_open_gap(sandbox: BackgroundServer, client: DatadogClient) -> None:
    evaluate(sandbox, range(1, COUNT, 40), "who*knows")
    source = source_of(client, evaluations=("also*not",))
    pages = await read(source)
    assert pages[-1].checkpoint.done
    assert len(source.status.filter_gaps) == 1
    assert source.status.filter_gaps[0].startswith("evaluation.unprintable-")
    assert "" not in queries(sandbox)[1 + SPREAD_SLICES :]


async def test_a_name_met_only_behind_another_is_asked_for_next(sandbox: BackgroundServer, client: DatadogClient) -> None:
    both = evaluate(sandbox, range(3, 400, 100), "hallucination", {"value": "found"})
    evaluate(sandbox, range(3, 400, 100), "late")
    alone = evaluate(sandbox, range(4, 400, 5), "late")
    source = source_of(client, "query")
    assert failing(source, await read(source)) == both | alone
    assert queries(sandbox)[-1] == "@evaluation.late.assessment:fail OR @evaluations.assessment.custom.late:fail"


async def test_a_refused_query_is_asked_in_parts_that_lose_nothing(sandbox: BackgroundServer, client: DatadogClient) -> None:
    wanted = evaluate(sandbox, range(1, COUNT, 500), "hallucination", {"value": "found"})
    wanted |= evaluate(sandbox, range(2, COUNT, 500), "topic_relevancy", {"value": "irrelevant"})
    wanted |= evaluate(sandbox, range(3, COUNT, 500), "tool_selection")
    wanted |= evaluate(sandbox, range(4, COUNT, 500), "tone")
    sandbox.sandbox.trouble.faults = [Fault("status", status=400, times=2)]
    source = source_of(client, "query", evaluations=("tone",))
    pages = await read(source)
    assert failing(source, pages) == wanted
    assert pages[-1].checkpoint.done
    longest = len(queries(sandbox)[0])
    assert all(len(query) < longest / 2 for query in queries(sandbox)[2:])
    assert sum(map(len, queries(sandbox)[2:])) >= longest - 4 * len(" OR ")


async def test_what_refuses_every_query_ends_the_run(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.trouble.faults = [Fault("status", status=400, times=None)]
    with pytest.raises(SourceRefusedError):
        await read(source_of(client, "query"))
    assert len(sandbox.sandbox.requests) < 10


async def test_more_names_than_are_learned_are_an_open_gap(sandbox: BackgroundServer, client: DatadogClient) -> None:
    for number in range(400):
        evaluate(sandbox, range(1, 3), f"n{number}")
    wanted = evaluate(sandbox, range(1, 3), "hallucination", {"value": "found"})
    source = source_of(client, "query")
    pages = await read(source)
    assert failing(source, pages) == wanted
    assert source.status.filter_gaps == ["evaluation.(more than 300 names)"]
    assert source.status.item_count < 20


@pytest.mark.parametrize("mode", ["query", pytest.param("auto", marks=pytest.mark.long)])
async def test_a_reading_killed_after_any_page_goes_on_without_loss(
    sandbox: BackgroundServer, client: DatadogClient, mode: FilterMode
) -> None:
    wanted = evaluate(sandbox, range(1, COUNT, 100), "hallucination", {"value": "found"})
    wanted |= evaluate(sandbox, range(2, COUNT, 100), "tone")
    sandbox.sandbox.max_response_bytes = 20_000
    whole = await read(source_of(client, mode, evaluations=("tone",)))
    for killed_after in range(1, len(whole), 3):
        first = source_of(client, mode, evaluations=("tone",))
        kept: list[Page] = []
        reading = first.pages(WINDOW, reach="evaluated")
        async for page in reading:
            kept.append(page)
            if len(kept) == killed_after:
                break
        await reading.aclose()
        second = source_of(client, mode, evaluations=("tone",))
        rest = await read(second, kept[-1].checkpoint)
        assert failing(second, kept + rest) == wanted
        assert rest[-1].checkpoint.done


async def test_a_dead_cursor_goes_on_from_the_newest_span(sandbox: BackgroundServer, client: DatadogClient) -> None:
    wanted = evaluate(sandbox, range(1, COUNT, 100), "hallucination", {"value": "found"})
    sandbox.sandbox.max_response_bytes = 20_000
    sandbox.sandbox.trouble.faults = [Fault("bad_cursor", times=3, every=2)]
    source = source_of(client, "query")
    pages = await read(source)
    assert failing(source, pages) == wanted
    assert source.status.item_count <= len(wanted) + 3


async def test_checkpoints_of_the_two_reaches_are_never_mixed_up(sandbox: BackgroundServer, client: DatadogClient) -> None:
    evaluate(sandbox, range(1, COUNT, 50), "hallucination", {"value": "found"})
    sandbox.sandbox.max_response_bytes = 20_000
    for reach, other in (("all", "evaluated"), ("evaluated", "all")):
        reading = source_of(client, "query").pages(WINDOW, reach=reach)  # type: ignore[arg-type]
        _, second = await anext(reading), await anext(reading)
        await reading.aclose()
        assert second.checkpoint.cursor is not None
        whole = source_of(client, "query").pages(WINDOW, reach=other)  # type: ignore[arg-type]
        resumed = source_of(client, "query").pages(WINDOW, second.checkpoint, reach=other)  # type: ignore[arg-type]
        assert [one.span_id for one in (await anext(resumed)).spans] == [one.span_id for one in (await anext(whole)).spans]
        await resumed.aclose()
        await whole.aclose()
    for name in ("llm_obs", "apm"):
        digests = source_of(client, name=name).query_digests
        assert digests["all"] != digests["evaluated"]


async def test_a_gap_of_an_unfinished_reading_is_not_inherited(sandbox: BackgroundServer, client: DatadogClient) -> None:
    other = Checkpoint("llm_obs", WINDOW, "another digest", "query:0:1", learned=("gap:evaluation.x", "evaluation.y"))
    source = source_of(client)
    pages = await read(source, other)
    assert (source.status.filter_gaps, pages[-1].checkpoint.learned) == ([], ("evaluation.y",))
    (page,) = await read(source_of(client, name="apm"), other)
    assert page.checkpoint.learned == ("evaluation.y",)


async def test_scope_and_thresholds_of_applications_hold_here_too(sandbox: BackgroundServer, client: DatadogClient) -> None:
    sandbox.sandbox.store.clear()
    apps = ["shop", "chat", "other"]
    sandbox.sandbox.store.add_llm_obs(span(n, status="ok", ml_app=apps[n % 3]) for n in range(900))
    evaluate(sandbox, range(900), "quality_score", {"value": 0.6, "eval_metric_type": "score"})
    thresholds = Thresholds(applications={"shop": Limits(quality=0.7)})
    source = source_of(client, "query", thresholds=thresholds, ml_apps=("shop", "chat"))
    pages = await read(source)
    assert failing(source, pages) == {str(n + 1) for n in range(0, 900, 3)}
    assert source.status.item_count == 600


async def test_feedback_is_found_as_an_evaluation_and_not_as_feedback(
    sandbox: BackgroundServer, client: DatadogClient
) -> None:
    """Datadog does not export feedback events, so what they say cannot be judged; the same verdict as an evaluation can."""

    def metric(number: int, **more: Any) -> dict[str, Any]:
        about = {"span_id": str(number + 1), "trace_id": f"{number:032x}"}
        verdict = {"label": "thumbs", "metric_type": "boolean", "boolean_value": False, "assessment": "fail", "ml_app": "a"}
        return {**verdict, "timestamp_ms": END_MS, **more} | ({} if "span_id" in more else {"join_on": {"span": about}})

    metrics = [metric(10), metric(10_000), metric(30, event_kind="feedback", submitter={"id": "u"}, span_id="31")]
    body = {"data": {"type": "evaluation_metric", "attributes": {"metrics": metrics}}}
    async with httpx.AsyncClient() as http:
        sent = await http.post(f"{sandbox.url}/api/intake/llm-obs/v2/eval-metric", json=body, headers={"DD-API-KEY": "key"})
    assert sent.status_code == 202
    source = source_of(client, evaluations=("thumbs",))
    assert failing(source, await read(source)) == {"11", "10001"}
