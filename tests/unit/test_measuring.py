"""What is counted where: each instrument of the table is told of by something that happens, and says what happened."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import httpx
import orjson
import pytest

from evalforge.core.plans import ASKED, RECENT, Due
from evalforge.core.ports import SourceStatus, UpsertResult
from evalforge.core.privacy.net import SECOND_NET
from evalforge.core.window import Window
from evalforge.errors import QuotaExhaustedError, SourceUnavailableError, StoreUnavailableError
from evalforge.ingest import Tally
from evalforge.measuring import measure_captures, measure_items, measure_page
from evalforge.runs import RunReport
from evalforge.runs.measuring import measure_report, measure_run
from evalforge.runs.report import Rehearsed, TierReading
from evalforge.sources.datadog.client import DatadogClient, SearchRequest
from evalforge.stores.measuring import measure_batch
from evalforge.telemetry.instruments import INSTRUMENT_OF, INSTRUMENTS
from evalforge.telemetry.recorder import Recorder
from tests.captures import NOW, captures

NOW_S = NOW.timestamp()
WINDOW = Window(round(NOW_S * 1000) - 7_200_000, round(NOW_S * 1000) - 60_000)

Told = dict[str, dict[tuple[str, ...], float]]


def told_to(recorder: Recorder) -> Told:
    return {
        series.instrument.name: {
            **series.values,
            **{labels: sum(one.counts) for labels, one in series.distributions.items()},
        }
        for series in recorder.series()
    }


def report_of(**changes: Any) -> RunReport:
    plain = RunReport("run_20261128T010203_0123abcd", "since_last", "vm", "ci", WINDOW, NOW, "auto", True)
    return replace(plain, finished_at=NOW, duration_s=3.5, **changes)


def tell_report(recorder: Recorder) -> None:
    report = report_of(
        tally=Tally(kept_out=2),
        sources=[asdict(SourceStatus("llm_obs", filter_gaps=["evaluation.a", "evaluation.b"])), asdict(SourceStatus("apm"))],
        letter_count=9,
        source_errors=Counter({"quota_exhausted": 1, "wilhelmina@example.org": 2}),
        error={"code": "quota_exhausted"},
        readings=[
            TierReading("llm_obs", Due(RECENT, 0, ((WINDOW, None),), gone=Window(0, 10)), finished=True),
            TierReading("apm", Due(ASKED, 0, ((WINDOW, None),))),
        ],
    )
    with measure_run(recorder, report.plan) as told:
        measure_report(recorder, told, report)


async def tell_requests(recorder: Recorder) -> None:
    answers = iter([503, 500, 200])

    class Datadog(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            headers = {"x-ratelimit-limit": "300", "x-ratelimit-remaining": "120", "x-ratelimit-period": "3600"}
            return httpx.Response(
                next(answers), headers=headers, stream=httpx.ByteStream(orjson.dumps({"data": [], "meta": None}))
            )

    async def sleep(seconds: float) -> None:
        """Goes on at once."""

    client = DatadogClient(
        "https://api.datadoghq.com", "k", "a", retry_budget_s=1e6, transport=Datadog(), sleep=sleep, telemetry=recorder
    )
    async with client:
        await client.search(SearchRequest("llm_obs", "", "0", "1", 10), SourceStatus("llm_obs"))


def tell_captures(recorder: Recorder) -> None:
    new, known, netted = captures(3)
    netted = replace(netted, redactions={SECOND_NET: 3, "email": 2, "wilhelmina@example.org": 1})
    result = UpsertResult((new.trace_id, netted.trace_id), (), (known.trace_id,), (("t", "invalid_document"),))
    letters: list[Any] = [type("Letter", (), {"reason": reason}) for reason in ("no_attributes", "Wilhelmina Quxley")]
    measure_captures(recorder, [new, known, netted], result, letters, Counter({"http_error": 2}))


def test_a_report_tells_what_came_of_a_run() -> None:
    recorder = Recorder(clock=lambda: NOW_S)
    tell_report(recorder)
    told = told_to(recorder)
    assert told["evalforge.runs"] == {("since_last", "failed"): 1}
    assert told["evalforge.run.duration"] == {("since_last", "failed"): 1}
    assert told["evalforge.errors"] == {("quota_exhausted",): 1, ("other",): 2}
    assert told["evalforge.captures"] == {("kept_out",): 2}
    assert told["evalforge.dead_letters"] == {(): 9}
    assert told["evalforge.filter.gaps"] == {("llm_obs",): 2, ("apm",): 0}
    assert told["evalforge.windows.gone"] == {("llm_obs",): 1}
    assert told["evalforge.lag"] == {("llm_obs",): pytest.approx(60.0, abs=0.01)}, (
        "what was not read to its end does not count"
    )


def test_a_dry_run_tells_only_that_there_was_one() -> None:
    recorder = Recorder()
    report = report_of(rehearsed=Rehearsed(), tally=Tally(kept_out=2), letter_count=9)
    with measure_run(recorder, "window") as told:
        measure_report(recorder, told, report)
    assert told_to(recorder).keys() == {"evalforge.runs", "evalforge.run.duration"}
    assert told_to(recorder)["evalforge.runs"] == {("since_last", "rehearsed"): 1}


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreUnavailableError("x", retry_after_s=1), "store_unavailable"), (ValueError("wilhelmina"), "unexpected")],
)
def test_a_run_that_could_not_begin_is_counted_with_the_reason(error: Exception, code: str) -> None:
    recorder = Recorder()
    with pytest.raises(type(error)), measure_run(recorder, "window"):
        raise error
    assert told_to(recorder) == {"evalforge.runs": {("window", "not_begun"): 1}, "evalforge.errors": {(code,): 1}}


async def test_requests_are_counted_by_answer_and_retries_by_cause() -> None:
    recorder = Recorder()
    await tell_requests(recorder)
    told = told_to(recorder)
    assert told["evalforge.datadog.requests"] == {("llm_obs", code): 1 for code in ("503", "500", "200")}
    assert told["evalforge.datadog.retries"] == {("llm_obs", code): 1 for code in ("503", "500")}
    assert told["evalforge.datadog.request.duration"] == {("llm_obs",): 3}
    assert told["evalforge.datadog.quota.limit"] == {("llm_obs",): 300}
    assert told["evalforge.datadog.quota.remaining"] == {("llm_obs",): 120}


async def test_a_request_without_an_answer_is_counted_too() -> None:
    class Silent(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ReadTimeout("silent", request=request)

    recorder = Recorder()
    url = "https://api.datadoghq.com"
    async with DatadogClient(url, "k", "a", retry_budget_s=0, transport=Silent(), telemetry=recorder) as client:
        with pytest.raises(SourceUnavailableError):
            await client.search(SearchRequest("apm", "", "0", "1", 10), SourceStatus("apm"))
    assert told_to(recorder)["evalforge.datadog.requests"] == {("apm", "no_answer"): 1}
    assert "evalforge.datadog.retries" not in told_to(recorder)


def test_captures_are_counted_by_what_became_of_them_and_only_written_ones_by_what_was_removed() -> None:
    recorder = Recorder()
    tell_captures(recorder)
    told = told_to(recorder)
    assert told["evalforge.captures"] == {("created",): 2, ("unchanged",): 1, ("refused",): 1}
    assert told["evalforge.captures.new"] == {("http_error",): 2}
    assert told["evalforge.second_net.hits"] == {(): 1}
    assert told["evalforge.redactions"][(SECOND_NET,)] == 3
    assert told["evalforge.redactions"][("other",)] == 1
    assert told["evalforge.dead_letters.kept"] == {("no_attributes",): 1, ("other",): 1}


def test_a_batch_is_written_or_failed_and_an_empty_one_is_none() -> None:
    recorder = Recorder()
    with measure_batch(recorder, "sqlite", 0):
        pass
    assert told_to(recorder) == {}
    with measure_batch(recorder, "firestore", 3):
        pass
    with pytest.raises(QuotaExhaustedError), measure_batch(recorder, "firestore", 3):
        raise QuotaExhaustedError("x", retry_after_s=None)
    told = told_to(recorder)
    assert told["evalforge.store.write_batches"] == {("firestore", "written"): 1, ("firestore", "failed"): 1}
    assert told["evalforge.store.write.duration"] == {("firestore",): 2}


async def test_every_instrument_is_told_of_by_something_that_happens() -> None:
    recorder = Recorder()
    tell_report(recorder)
    tell_captures(recorder)
    await tell_requests(recorder)
    measure_items(recorder, "apm", 10, 3, 2)
    with measure_page(recorder, "apm", 10), measure_batch(recorder, "sqlite", 1):
        pass
    told = told_to(recorder)
    assert told.keys() == INSTRUMENT_OF.keys()
    assert told["evalforge.spans.healthy"] == {("apm",): 5}
    assert len(INSTRUMENTS) == len(INSTRUMENT_OF)
