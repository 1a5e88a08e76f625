"""The sandbox's parts below HTTP: the timeline, times, limits, faults and the page's size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.sandbox.limits import Meter, RateLimit, spelled_limit
from evalforge.sandbox.memory import Store
from evalforge.sandbox.replies import Refused
from evalforge.sandbox.requests import SearchRequest, read_body, read_parameters
from evalforge.sandbox.search import search
from evalforge.sandbox.spans import Source, start_of_apm, start_of_llm_obs
from evalforge.sandbox.times import iso_ms, parse_time
from evalforge.sandbox.trouble import Fault, Plan, read_fault, spelled_fault

NOW_MS = 1_795_435_200_000


@given(st.lists(st.integers(1, 40), max_size=60), st.integers(0, 45), st.integers(0, 45), st.integers(1, 7), st.booleans())
def test_paging_reads_a_window_in_order_and_completely(
    starts_ms: list[int], from_ms: int, to_ms: int, limit: int, newest_first: bool
) -> None:
    epoch_ms = 1_700_000_000_000
    store = Store()
    store.add_llm_obs({"start_ns": (epoch_ms + ms) * 1_000_000, "n": ms} for ms in starts_ms)
    low, high = sorted((from_ms, to_ms))
    filters = {"from": str(epoch_ms + low), "to": str(epoch_ms + high)}
    read: list[int] = []
    cursor: str | None = None
    while True:
        page = {"limit": limit, **({"cursor": cursor} if cursor else {})}
        attributes = {"filter": filters, "page": page, "sort": "-timestamp" if newest_first else "timestamp"}
        request = read_body("llm_obs", orjson.dumps({"data": {"type": "spans", "attributes": attributes}}), NOW_MS)
        answer = search(store, request)
        read += [orjson.loads(item)["attributes"]["n"] for item in answer.items]
        cursor = answer.after
        if cursor is None:
            break
    assert read == sorted((ms for ms in starts_ms if low <= ms <= high), reverse=newest_first)


def status_of(read: Callable[[Source, Any, int], SearchRequest], source: Source, asked: Any) -> int:
    try:
        search(Store(), read(source, asked, NOW_MS))
    except Refused as refused:
        return refused.reply.status
    return 200


@given(st.sampled_from(["llm_obs", "apm"]), st.dictionaries(st.text(), st.text()), st.text())
def test_any_parameters_are_a_request_or_refused(source: Source, parameters: dict[str, str], text: str) -> None:
    for key in ("filter[from]", "filter[to]", "page[limit]", "page[cursor]", "sort", "include_attachments", "filter[query]"):
        assert status_of(read_parameters, source, {**parameters, key: text}) in (200, 400, 422)


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(["llm_obs", "apm"]), json, json, json, json)
def test_any_body_is_a_request_or_refused(source: Source, whole: Any, filters: Any, page: Any, sort: Any) -> None:
    kind = "spans" if source == "llm_obs" else "search_request"
    attributes = {"filter": {"from": filters, "query": sort}, "page": {"limit": page, "cursor": filters}, "options": whole}
    for document in (
        whole,
        {"data": {"type": kind, "attributes": attributes}},
        {"data": {"type": kind, "attributes": {"filter": filters, "page": page, "sort": sort}}},
    ):
        assert status_of(read_body, source, orjson.dumps(document)) in (200, 400, 422)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("now", NOW_MS),
        ("now-15m", NOW_MS - 900_000),
        ("now-1d", NOW_MS - 86_400_000),
        ("now-1w+2h-3s", NOW_MS - 604_800_000 + 7_200_000 - 3_000),
        ("1795415160838", 1_795_415_160_838),
        ("2026-11-23T12:00:00Z", NOW_MS),
        ("2026-11-23T12:00:00.5Z", NOW_MS + 500),
        ("2026-11-23T13:00:00+01:00", NOW_MS),
        ("2026-11-23", NOW_MS - 43_200_000),
        ("now-", None),
        ("now/d", None),
        ("yesterday", None),
        ("-1", None),
        ("", None),
    ],
)
def test_times(text: str, ms: int | None) -> None:
    assert parse_time(text, NOW_MS) == ms


@given(st.text(alphabet="now-+0123456789smhdTZ:. ") | st.datetimes().map(str))
def test_any_text_is_a_time_or_none(text: str) -> None:
    parse_time(text, NOW_MS)


@pytest.mark.parametrize(
    ("start", "ns"),
    [
        (1_795_415_160_838_728_626, 1_795_415_160_838_728_626),
        (1_795_415_160_838_728, 1_795_415_160_838_728_000),
        (1_761_833_858_897, 1_761_833_858_897_000_000),
        (1_761_833_858_897.0, 1_761_833_858_897_000_000),
        (0, None),
        (-5, None),
        (2**80, None),
        (True, None),
        ("1795415160838728626", None),
        (None, None),
    ],
)
def test_a_start_is_read_by_its_magnitude(start: Any, ns: int | None) -> None:
    assert start_of_llm_obs({"start_ns": start}) == ns


def test_apm_starts_are_iso_times() -> None:
    assert start_of_apm({"start_timestamp": "2023-06-29T09:50:52.472Z"}) == 1_688_032_252_472_000_000
    assert iso_ms(1_688_032_252_472_000_000) == "2023-06-29T09:50:52.472Z"
    for odd in (None, 7, "soon"):
        assert start_of_apm({"start_timestamp": odd}) is None


def test_a_span_without_a_start_is_placed_at_its_arrival() -> None:
    store = Store(now=lambda: 1_700_000_000.0)
    store.add_llm_obs([{"name": "no start"}, "not even an object"])
    assert len(store.between("llm_obs", 1_700_000_000_000_000_000, 1_700_000_000_000_000_000)) == 2


def test_loading_takes_copies() -> None:
    store, attributes = Store(), {"span_id": "1", "tags": ["K:V"], "start_ns": 10**18, "evaluation": {}}
    store.add_llm_obs([attributes])
    store.add_evaluation("1", "late", {"value": 1})
    assert attributes == {"span_id": "1", "tags": ["K:V"], "start_ns": 10**18, "evaluation": {}}
    (span,) = store.between("llm_obs", 0, 2 * 10**18)
    assert span.attributes["tags"] == ["K:v"]
    assert span.attributes["evaluation"] == {"late": {"value": 1}}


def test_a_limit_is_counted_in_periods_of_the_calendar() -> None:
    clock = [119.0]
    meter = Meter("apm", RateLimit(2, 60), lambda: clock[0])
    assert [meter.take()[0] for _ in range(3)] == [True, True, False]
    assert meter.take()[1]["x-ratelimit-reset"] == "1"
    clock[0] = 120.0
    allowed, headers = meter.take()
    assert (allowed, headers["x-ratelimit-remaining"], headers["x-ratelimit-reset"]) == (True, "1", "60")


def test_a_plan_asks_its_faults_in_order() -> None:
    plan = Plan()
    plan.faults = [
        read_fault({"kind": "slow", "latency_s": 2, "times": None}),
        read_fault({"kind": "html", "source": "apm", "latency_s": 1}),
        read_fault({"kind": "bad_cursor", "after": 1}),
    ]
    asked: list[tuple[Source, bool]] = [("llm_obs", True), ("apm", True), ("llm_obs", False), ("apm", True), ("apm", True)]
    met = [plan.next(source, has_cursor) for source, has_cursor in asked]
    assert [(latency, fault and fault.kind) for latency, fault in met] == [
        (2, None),
        (3, "html"),
        (2, None),
        (2, "bad_cursor"),
        (2, None),
    ]


@pytest.mark.parametrize(
    ("word", "fault"),
    [
        ("503", Fault("status", times=None, status=503)),
        ("503=0.1", Fault("status", times=None, status=503, rate=0.1)),
        ("502-html=.5", Fault("status", times=None, status=502, rate=0.5, body="html")),
        ("429", Fault("rate_limited", times=None)),
        ("429-html=1", Fault("rate_limited", times=None, body="html")),
        ("reset=0.02", Fault("reset", times=None, rate=0.02)),
        ("partial", Fault("partial", times=None)),
        ("no_index=0", Fault("no_index", times=None, rate=0.0)),
        ("", None),
        ("slow", None),
        ("status", None),
        ("600", None),
        ("503=1.1", None),
        ("503=-1", None),
        ("503=nan", None),
        ("sometimes", None),
    ],
)
def test_a_fault_in_a_word(word: str, fault: Fault | None) -> None:
    if fault is not None:
        assert spelled_fault(word) == fault
    else:
        with pytest.raises(ValueError, match="wants a status such as 503"):
            spelled_fault(word)


@pytest.mark.parametrize(
    ("word", "limit"),
    [
        ("apm=300/3600", ("apm", RateLimit(300, 3600))),
        ("apm=5", ("apm", RateLimit(5, 3600))),
        ("llm_obs=0/60", ("llm_obs", RateLimit(0, 60))),
        ("llm_obs=1/0", None),
        ("logs=1/1", None),
        ("apm=-1/1", None),
        ("apm", None),
    ],
)
def test_a_limit_in_a_word(word: str, limit: tuple[Source, RateLimit] | None) -> None:
    if limit is not None:
        assert spelled_limit(word) == limit
    else:
        with pytest.raises(ValueError, match="wants llm_obs=LIMIT/SECONDS"):
            spelled_limit(word)
