"""What applications send, mapped to what the searches serve: the recordings, the table row by row, and anything at all."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]  # it has no stubs
import orjson
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from evalforge.sandbox.intake import apm, evaluations, llm_obs
from evalforge.sandbox.intake.evaluations import verdict_of
from evalforge.sandbox.intake.routes import take_evaluations, take_llm_obs, take_traces
from evalforge.sandbox.joining import Verdict
from evalforge.sandbox.memory import Store
from evalforge.sandbox.payloads import UnreadableError, body_of, decode, servable
from evalforge.sandbox.replies import Refused
from evalforge.sandbox.search import written
from evalforge.sandbox.spans import with_stored_tags
from evalforge.sandbox.state import Sandbox
from tests.examples import examples

RECORDED = Path(__file__).parents[1] / "data" / "recorded"
NOW_NS = 1_795_415_160_000_000_000


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_bytes())


def served(sandbox: Sandbox, source: Any) -> list[Any]:
    return [span.item for span in sandbox.store.between(source, 0, 10**19)]


def sandbox() -> Sandbox:
    return Sandbox(now=lambda: NOW_NS / 1e9)


# --- the recordings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("evaluations_first", [False, True])
def test_the_recorded_intake_becomes_the_derived_export(evaluations_first: bool) -> None:
    """All but `csat`, which names its span by a tag that four spans have: see the tests of joining."""
    here = sandbox()
    spans, metrics = recorded("llmobs_spans_intake")["body"], recorded("llmobs_eval_metric_intake")["body"]
    if evaluations_first:
        assert take_evaluations(here, metrics) == (0, 7, 0)
    assert take_llm_obs(here, spans) == (32, 0, 0)
    if not evaluations_first:
        assert take_evaluations(here, metrics) == (0, 7, 0)
    wanted = {item["id"]: item for item in recorded("derived_export_page")["data"]}
    for item in served(here, "llm_obs"):
        want = wanted.pop(item["id"])
        want["attributes"] = with_stored_tags(want["attributes"])
        for verdicts in (want["attributes"].get("evaluation", {}), item["attributes"].get("evaluation", {})):
            verdicts.pop("csat", None)
        if not want["attributes"].get("evaluation", True):
            del want["attributes"]["evaluation"]
        if not item["attributes"].get("evaluation", True):
            del item["attributes"]["evaluation"]
        assert item == want
    assert wanted == {}


def test_what_the_agent_is_sent_is_the_same_body() -> None:
    here = sandbox()
    assert take_llm_obs(here, recorded("agent_evp_llmobs")["body"]) == (32, 0, 0)


def test_a_recorded_trace_gives_apm_spans_and_the_llm_spans_in_them() -> None:
    here = sandbox()
    traces = decode((RECORDED / "v04_traces_sample.msgpack").read_bytes(), "application/msgpack")
    in_all = [span for trace in traces for span in trace]
    carrying = [span for span in in_all if "meta_struct" in span]
    assert take_traces(here, traces) == (len(in_all) + len(carrying), 0, 0)
    items = {item["attributes"]["span_id"]: item["attributes"] for item in served(here, "llm_obs")}
    twins = {item["attributes"]["span_id"]: item["attributes"] for item in served(here, "apm")}
    assert set(items) < set(twins)
    for span_id, item in items.items():
        twin = twins[span_id]
        assert item["status"] == twin.get("status", "ok")
        assert item["duration"] == twin["custom"]["duration"]
        assert item["trace_id"] != twin["trace_id"]
        assert f"error:{int(item['status'] == 'error')}" in item["tags"]
        if item["status"] == "error":
            assert f"error_type:{twin['custom']['error']['type'].lower()}" in item["tags"]
    entries = [twin["custom"]["llmobs_trace_id"] for twin in twins.values() if "llmobs_trace_id" in twin["custom"]]
    assert set(entries) == {item["trace_id"] for item in items.values()}


def test_an_apm_span_has_the_shape_of_the_derived_page() -> None:
    here = sandbox()
    take_traces(here, decode((RECORDED / "v04_traces_sample.msgpack").read_bytes(), "application/msgpack"))
    derived = {
        item["attributes"]["resource_name"]: item["attributes"] for item in recorded("derived_apm_search_page")["data"]
    }
    failed = next(item["attributes"] for item in served(here, "apm") if "error" in item["attributes"]["custom"])
    assert (failed["status"], failed["type"]) == ("error", "web")
    assert failed["custom"]["error"]["type"] == "openai.BadRequestError"
    web = next(item["attributes"] for item in served(here, "apm") if item["attributes"]["resource_name"] == "POST /chat")
    like = derived["POST /chat"]
    assert set(web) | {"status"} == set(like) | {"status"}
    assert {key: type(value) for key, value in web["custom"]["http"].items()} == {
        key: type(value) for key, value in like["custom"]["http"].items()
    }
    assert set(web["custom"]["llm_obs"]) == set(like["custom"]["llm_obs"])


# --- a span event, row by row ---------------------------------------------------------------------------------------

SPAN: dict[str, Any] = {"span_id": "1", "trace_id": "a", "start_ns": NOW_NS}
ROWS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    # what is added to a span event, to its envelope, and what the export has of it
    ({"parent_id": "undefined"}, {}, {"parent_id": "undefined"}),
    ({"parent_id": "0"}, {}, {"parent_id": "undefined"}),
    ({"parent_id": "8"}, {}, {"parent_id": "8"}),
    ({}, {}, {"parent_id": "undefined", "status": "ok", "span_kind": "llm", "metadata": {}, "metrics": {}, "tags": []}),
    ({"tags": ["ml_app:Shop", "env:Prod"]}, {}, {"ml_app": "Shop", "tags": ["ml_app:Shop", "env:Prod"]}),
    ({"tags": {"ml_app": "shop", "a": 1}}, {}, {"ml_app": "shop", "tags": ["a:1", "ml_app:shop"]}),
    ({}, {"ml_app": "shop", "tags": ["team:x"]}, {"ml_app": "shop", "tags": ["team:x"]}),
    ({}, {"session_id": "s-1"}, {"tags": ["session_id:s-1"]}),
    ({"session_id": "s-1", "tags": ["session_id:s-1"]}, {}, {"tags": ["session_id:s-1"]}),
    ({"meta": {"span": {"kind": "tool"}}}, {}, {"span_kind": "tool"}),
    ({"meta": {"kind": "agent"}}, {}, {"span_kind": "agent"}),
    ({"meta": {"error": {"type": "E"}}}, {}, {"status": "error"}),
    ({"meta": {"model_name": "m", "model_provider": "p"}}, {}, {"model_name": "m", "model_provider": "p"}),
    ({"meta": {"metadata": {"a": 1, "_dd": {}}}}, {}, {"metadata": {"a": 1}}),
    (
        {"meta": {"tool_definitions": [{"name": "t"}], "intent": "i"}},
        {},
        {"tool_definitions": [{"name": "t"}], "intent": "i"},
    ),
    ({"meta": {"input": "text"}}, {}, {"input": {"value": "text"}}),
    ({"meta": {"input": {"value": "v", "prompt": {"id": "p"}}}}, {}, {"input": {"value": "v"}}),
    (
        {"meta": {"input": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}}},
        {},
        {"input": {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "value": "b"}},
    ),
    (
        {"meta": {"output": {"messages": [{"role": "assistant", "content": "a"}, {"content": "b"}]}}},
        {},
        {"output": {"messages": [{"role": "assistant", "content": "a"}, {"content": "b"}], "value": "a\nb"}},
    ),
    ({"start_ns": 1_795_415_160_000}, {}, {"start_ns": 1_795_415_160_000}),
    ({"start_ns": "soon"}, {}, {"start_ns": NOW_NS}),
    ({"span_id": 7}, {}, {"span_id": "7"}),
]


@pytest.mark.parametrize(("event", "envelope", "wanted"), ROWS)
def test_a_span_event(event: dict[str, Any], envelope: dict[str, Any], wanted: dict[str, Any]) -> None:
    item = llm_obs.exported(SPAN | event, envelope, NOW_NS)
    assert item is not None
    assert {key: item["attributes"].get(key) for key in wanted} == wanted


@pytest.mark.parametrize("meta", [{"output": {"prompt": {"id": "p"}}}, {"input": None}, {"input": []}, {}])
def test_what_the_export_does_not_have(meta: dict[str, Any]) -> None:
    item = llm_obs.exported(SPAN | {"meta": meta}, {}, NOW_NS)
    assert item is not None
    assert {"input", "output"}.isdisjoint(item["attributes"])


def test_both_bodies_are_understood() -> None:
    event = {**SPAN, "name": "n"}
    by_http = {"data": {"type": "span", "attributes": {"ml_app": "shop", "spans": [event]}}}
    for body in ([{"spans": [event]}], {"spans": [event], "ml_app": "shop"}, by_http):
        assert [found for found, _ in llm_obs.events_of(body)] == [event]
    assert [found for found, _ in llm_obs.events_of([1, {"spans": 2}])] == [None, None]


def test_an_llm_span_in_a_trace_without_its_trace_id() -> None:
    def trace_id(meta: dict[str, Any]) -> Any:
        span = {"span_id": 5, "trace_id": 7, "meta": meta, "meta_struct": {"_llmobs": msgpack.packb({"name": "n"})}}
        return (apm.llm_event(span) or {})["trace_id"]

    assert trace_id({"_dd.p.llmobs_trace_id": str(0xABC << 64 | 5)}) == f"{0xABC:016x}{5:016x}"
    assert trace_id({"_dd.p.tid": "6b03dd3800000000"}) == "6b03dd38000000000000000000000007"
    assert trace_id({"_dd.p.tid": "what"}) == "0" * 31 + "7"


def test_dotted_names_become_nesting_even_where_they_collide() -> None:
    meta = {"a": "1", "a.b": "2", "c.d": "3", "c": "4", "_dd.x": "5", "http.status_code": "200"}
    item = apm.searchable({"span_id": 1, "meta": meta, "metrics": {"m.n": 0.5}}, NOW_NS)
    assert item is not None
    custom = item["attributes"]["custom"]
    assert custom == {
        "a": "1",
        "a.b": "2",
        "c": "4",
        "c.d": "3",
        "http": {"status_code": "200"},
        "m": {"n": 0.5},
        "duration": 0,
    }


# --- evaluations and feedback ------------------------------------------------------------------------------------------

METRICS: list[tuple[dict[str, Any], Verdict | None]] = [
    (
        {
            "metric_type": "score",
            "score_value": 0.3,
            "assessment": "fail",
            "join_on": {"span": {"span_id": "1", "trace_id": "a"}},
        },
        Verdict("q", {"eval_metric_type": "score", "value": 0.3, "status": "OK", "assessment": "fail"}, ("span", "1"), "a"),
    ),
    (
        {"metric_type": "boolean", "boolean_value": False, "join_on": {"span": {"span_id": "1"}}},
        Verdict("q", {"eval_metric_type": "boolean", "value": False, "status": "OK"}, ("span", "1")),
    ),
    (
        {"categorical_value": "x", "span_id": "1", "trace_id": "a"},
        Verdict("q", {"eval_metric_type": "categorical", "value": "x", "status": "OK"}, ("span", "1"), "a"),
    ),
    (
        {"metric_type": "json", "json_value": {"a": 1}, "join_on": {"tag": {"key": "Ticket", "value": "T-7"}}},
        Verdict("q", {"eval_metric_type": "json", "value": {"a": 1}, "status": "OK"}, ("tag", "ticket:t-7")),
    ),
    (
        {"event_kind": "feedback", "text_value": "bad", "metric_type": "text", "session_id": "S"},
        Verdict("q", {"eval_metric_type": "text", "value": "bad", "status": "OK"}, ("session", "s"), None, True),
    ),
    (
        {"event_kind": "feedback", "score_value": 1, "trace_id": "a"},
        Verdict("q", {"eval_metric_type": "score", "value": 1, "status": "OK"}, ("trace", "a"), None, True),
    ),
    (
        {"event_kind": "feedback", "score_value": 1, "span_id": "9"},
        Verdict("q", {"eval_metric_type": "score", "value": 1, "status": "OK"}, ("span", "9"), None, True),
    ),
    (
        {"event_kind": "feedback", "score_value": 1, "feedback_join_key": "K"},
        Verdict("q", {"eval_metric_type": "score", "value": 1, "status": "OK"}, ("tag", "feedback_join_key:k"), None, True),
    ),
    ({"score_value": 1}, None),
    ({"label": "", "span_id": "1"}, None),
    ({"label": 5, "span_id": "1"}, None),
    ({"join_on": {"span": {"span_id": True}}}, None),
    ({"event_kind": "feedback", "score_value": 1}, None),
]


@pytest.mark.parametrize(("metric", "verdict"), METRICS)
def test_a_metric(metric: dict[str, Any], verdict: Verdict | None) -> None:
    assert verdict_of({"label": "q", **metric}) == verdict


def span(span_id: str, **more: Any) -> dict[str, Any]:
    return {"span_id": span_id, "trace_id": "a", "parent_id": "undefined", "start_ns": NOW_NS, **more}


def verdicts_in(store: Store) -> dict[str, list[str]]:
    spans = store.between("llm_obs", 0, 10**19)
    return {
        s.attributes["span_id"]: [*s.attributes.get("evaluation", {}), *s.unexported.get("feedback", {})]
        for s in spans
        if s.attributes.get("evaluation") or s.unexported.get("feedback")
    }


def test_a_tag_joins_the_one_span_that_has_it_before_or_after() -> None:
    store = Store()
    before, ambiguous, after = (Verdict(name, 1, ("tag", f"ticket:{name}")) for name in ("b", "two", "a"))
    store.add_verdict(before)
    store.add_llm_obs([span("1", tags=["ticket:B"]), span("2", tags=["ticket:two"]), span("3", tags=["ticket:two"])])
    store.add_llm_obs([span("4", tags=["ticket:A"])])
    assert [store.add_verdict(ambiguous), store.add_verdict(after)] == [False, True]
    assert verdicts_in(store) == {"1": ["b"], "4": ["a"]}
    assert store.waiting() == 1


def test_feedback_finds_the_root_of_its_trace_and_session() -> None:
    store = Store()
    store.add_verdict(Verdict("early", 1, ("session", "s-1"), is_feedback=True))
    store.add_llm_obs([span("1", parent_id="2"), span("2", tags=["session_id:S-1"]), span("3", trace_id="b", parent_id="0")])
    store.add_verdict(Verdict("late", 1, ("trace", "b"), is_feedback=True))
    assert verdicts_in(store) == {"2": ["early"], "3": ["late"]}


def test_late_evaluations_come_when_their_time_has_come() -> None:
    clock = [NOW_NS / 1e9]
    store = Store(lambda: clock[0])
    store.evaluation_delay_s = 60
    store.add_llm_obs([span("1", evaluation={"loaded": {}})])
    assert store.add_evaluation("1", "sent", {}) is False
    assert (verdicts_in(store), store.waiting()) == ({}, 2)
    clock[0] += 60
    assert (verdicts_in(store), store.waiting()) == ({"1": ["loaded", "sent"]}, 0)


# --- bodies ------------------------------------------------------------------------------------------------------------


async def received(body: bytes, max_bytes: int = 1000) -> bytes:
    async def chunks() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": queue.pop(0), "more_body": bool(queue)}

    queue = [body[at : at + 7] for at in range(0, len(body), 7)] or [b""]
    return await body_of(Request({"type": "http", "method": "POST", "headers": []}, chunks), max_bytes)


PLAIN = b'{"a": [1, 2, 3]}'
COMPRESSED = {
    "plain": PLAIN,
    "empty": b"",
    "gzip": gzip.compress(PLAIN),
    "gzip of two members": gzip.compress(PLAIN[:5]) + gzip.compress(PLAIN[5:]),
    "zstd": zstandard.compress(PLAIN),
    "zstd without its size": zstandard.ZstdCompressor(write_content_size=False).compress(PLAIN),
    "zstd of two frames": zstandard.compress(PLAIN[:5]) + zstandard.compress(PLAIN[5:]),
    "gzip of zstd": gzip.compress(zstandard.compress(PLAIN)),
}


@pytest.mark.parametrize("how", COMPRESSED)
async def test_a_body_is_unpacked_by_what_it_is(how: str) -> None:
    assert await received(COMPRESSED[how]) == (b"" if how == "empty" else PLAIN)


BOMB = b"\0" * 100_000


@pytest.mark.parametrize(
    "body",
    [
        b"x" * 1001,
        gzip.compress(BOMB),
        zstandard.compress(BOMB),
        gzip.compress(gzip.compress(BOMB)),
        gzip.compress(b"") + gzip.compress(BOMB),
    ],
    ids=["plain", "gzip", "zstd", "nested", "second member"],
)
async def test_a_bomb_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        await received(body)
    assert refused.value.reply.status == 413


@pytest.mark.parametrize("body", [gzip.compress(PLAIN, mtime=0)[:-9], b"\x1f\x8b nonsense", b"\x28\xb5\x2f\xfd nonsense"])
async def test_a_damaged_body_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableError):
        await received(body)


def test_json_and_msgpack_are_told_apart() -> None:
    value = {"a": [1, "é", None], "big": 2**63}
    assert decode(orjson.dumps(value)) == value
    assert decode(msgpack.packb(value), "application/msgpack") == decode(msgpack.packb(value)) == value
    assert decode(b'{"huge": 123456789012345678901234567890}') == {"huge": 1.2345678901234568e29}
    for nonsense in (b"", b"<html>", b"\xc1", b"[" * 100_000, b"\x91" * 100_000, zlib.compress(b"{}")):
        with pytest.raises(UnreadableError):
            decode(nonsense)


# --- anything at all ---------------------------------------------------------------------------------------------------

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.binary(max_size=4)
    | st.sampled_from(["\ud800", "\0", "undefined", "1", 10**30])
)
KEYS = st.sampled_from(
    "span_id trace_id parent_id start_ns start duration tags meta metrics input output messages content role value error "
    "kind span meta_struct _llmobs metadata session_id data attributes spans label join_on tag key score_value event_kind "
    "name a.b a".split()
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.integers(0, 3), inner, max_size=6),
    max_leaves=20,
)
some_span = st.dictionaries(KEYS, anything, max_size=8).map(lambda found: {"span_id": 1, **found})


@examples(30)
@given(body=anything | st.lists(st.lists(some_span)) | st.lists(st.fixed_dictionaries({"spans": st.lists(some_span)})))
def test_any_body_is_taken_and_what_is_served_is_json(body: Any) -> None:
    here = sandbox()
    take_llm_obs(here, body)
    take_traces(here, body)
    take_evaluations(here, body)
    take_evaluations(here, {"data": {"attributes": {"metrics": body if isinstance(body, list) else [body]}}})
    for item in [*served(here, "llm_obs"), *served(here, "apm")]:
        json.loads(written(item))


def test_an_item_that_nests_too_deep_is_cut_not_lost() -> None:
    deep: Any = "x"
    for _ in range(900):
        deep = [deep]
    here = sandbox()
    assert take_llm_obs(here, {"spans": [SPAN | {"meta": {"metadata": {"deep": deep}}}]}) == (1, 0, 0)
    (item,) = served(here, "llm_obs")
    assert len(written(item)) < 2000
    assert servable({"a": 1}) == {"a": 1}


def test_metrics_that_are_none() -> None:
    assert list(evaluations.metrics_of({"data": {"attributes": {"metrics": "?"}}})) == [None]
    assert take_evaluations(sandbox(), [1]) == (0, 0, 1)
