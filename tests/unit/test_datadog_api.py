"""What changes things in Datadog over HTTP: what it sends, what it repeats, and what it makes of refusals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalforge.errors import (
    CredentialsError,
    EvalForgeError,
    NotFoundError,
    QuotaExhaustedError,
    SourceRefusedError,
    SourceUnavailableError,
)
from evalforge.exports.datadog.api import PERMISSIONS, DatadogApi
from evalforge.exports.datadog.reading import ids_in_change, ids_of_record, interactions_in, named, named_so, pages, path_of
from evalforge.exports.datadog.records import MOST_BYTES, change_of, record_of
from evalforge.exports.examples import Assertion, Example
from tests.captures import json_values
from tests.examples import examples

Answer = httpx.Response | Exception


class Body(httpx.AsyncByteStream):
    """A body that comes as from a socket, so that it can be read with a bound."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.content


class Server:
    """Answers each request with the next of `answers`, the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.heard: list[httpx.Request] = []
        self.slept_s: list[float] = []
        self.now_s = 0.0

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.heard.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, stream=Body(answer.content))

    async def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)

    def api(self, **others: Any) -> DatadogApi:
        return DatadogApi(
            "https://api.datadoghq.com",
            "api-key",
            "app-key",
            transport=httpx.MockTransport(self.answer),
            sleep=self.sleep,
            clock=lambda: self.now_s,
            **{"retry_budget_s": 60, **others},
        )


def ok(document: Any = None, **headers: str) -> httpx.Response:
    return httpx.Response(200, json={"data": []} if document is None else document, headers=headers)


async def test_it_sends_keys_in_headers_and_json_in_bodies() -> None:
    server = Server(ok({"data": 1}))
    async with server.api() as api:
        assert repr(api) == "DatadogApi(api.datadoghq.com)"
        assert await api.get("/projects", "it", {"filter[name]": "a b&c"}) == {"data": 1}
        await api.post("/x", "it", {"a": 1})
    got, posted = server.heard
    assert str(got.url) == "https://api.datadoghq.com/api/v2/llm-obs/v1/projects?filter%5Bname%5D=a+b%26c"
    assert (got.headers["dd-api-key"], got.headers["dd-application-key"]) == ("api-key", "app-key")
    assert (posted.method, json.loads(posted.content), posted.headers["content-type"]) == (
        "POST",
        {"a": 1},
        "application/json",
    )


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, SourceRefusedError),
        (401, SourceRefusedError),
        (403, SourceRefusedError),
        (404, NotFoundError),
        (409, SourceRefusedError),
        (413, SourceRefusedError),
        (422, SourceRefusedError),
        (302, SourceRefusedError),
    ],
)
async def test_a_refusal_is_told_once_without_datadog_s_words(status: int, kind: type[EvalForgeError]) -> None:
    secret = httpx.Response(status, text="captured text", headers={"location": "https://elsewhere.example/"})
    server = Server(secret)
    async with server.api() as api:
        with pytest.raises(kind) as refused:
            await api.post("/x", "the change", {})
    assert len(server.heard) == 1, "nothing follows a redirect, or asks again"
    assert str(status) in refused.value.message
    assert "captured" not in refused.value.message
    if status in (401, 403):
        assert all(permission in refused.value.message for permission in PERMISSIONS)


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.Response(500),
        httpx.Response(503, headers={"retry-after": "2"}),
        httpx.Response(408),
        httpx.Response(200, text="<html>"),
        httpx.ReadError("gone"),
        httpx.ReadTimeout("late"),
        httpx.ConnectError("refused"),
        httpx.Response(429, headers={"x-ratelimit-reset": "3", "x-ratelimit-remaining": "0"}),
    ],
)
async def test_a_fault_that_passes_is_waited_for(trouble: Answer) -> None:
    server = Server(trouble, ok({"data": "done"}))
    async with server.api() as api:
        assert await api.post("/x", "it", {"n": 1}) == {"data": "done"}
    assert len(server.heard) == 2
    assert sum(server.slept_s) > 0


@pytest.mark.parametrize("trouble", [httpx.Response(503), httpx.ReadError("gone"), httpx.Response(200, text="no JSON")])
async def test_a_fault_that_stays_ends_with_the_budget(trouble: Answer) -> None:
    server = Server(trouble)
    async with server.api(retry_budget_s=30) as api:
        with pytest.raises(SourceUnavailableError, match="the change"):
            await api.post("/x", "the change", {})
    assert sum(server.slept_s) <= 30
    assert len(server.heard) > 3


async def test_a_quota_that_resets_too_late_is_told_at_once() -> None:
    server = Server(httpx.Response(429, headers={"x-ratelimit-reset": "900", "x-ratelimit-remaining": "0"}))
    async with server.api() as api:
        for _ in range(2):
            with pytest.raises(QuotaExhaustedError):
                await api.post("/x", "it", {})
    assert len(server.heard) == 1, "the second one knew it before"
    assert server.slept_s == []


async def test_a_quota_that_is_used_up_is_waited_for_before_the_next_request() -> None:
    told = {"x-ratelimit-limit": "10", "x-ratelimit-period": "10", "x-ratelimit-reset": "5", "x-ratelimit-remaining": "0"}
    server = Server(ok(None, **told), ok())
    async with server.api() as api:
        await api.get("/x", "it")
        await api.get("/x", "it")
    assert 4 < sum(server.slept_s) < 10


@pytest.mark.parametrize(
    ("trouble", "is_asked"),
    [
        (httpx.ReadError("gone"), True),
        (httpx.Response(503), True),
        (httpx.Response(200, text="{"), True),
        (httpx.ConnectError("refused"), False),
        (httpx.Response(429, headers={"x-ratelimit-reset": "1"}), False),
    ],
)
async def test_after_a_lost_answer_it_is_asked_what_is_left(trouble: Answer, is_asked: bool) -> None:
    server = Server(trouble, ok())
    asked = []

    async def again() -> Any:
        asked.append(True)
        return {"rest": 1}

    async with server.api() as api:
        await api.post("/x", "it", {"all": 1}, again)
    assert bool(asked) is is_asked
    assert json.loads(server.heard[-1].content) == ({"rest": 1} if is_asked else {"all": 1})


async def test_when_nothing_is_left_nothing_is_sent() -> None:
    server = Server(httpx.ReadError("gone"), ok())

    async def again() -> Any:
        return None

    async with server.api() as api:
        assert await api.post("/x", "it", {}, again) is None
    assert len(server.heard) == 1


async def test_refused_keys_are_read_anew_once() -> None:
    server = Server(httpx.Response(403), ok({"data": 1}), httpx.Response(403))
    asked = []

    async def renew() -> tuple[str, str]:
        asked.append(True)
        return "new-api", "new-app"

    async with server.api(renew_keys=renew) as api:
        assert await api.get("/x", "it") == {"data": 1}
        assert server.heard[-1].headers["dd-api-key"] == "new-api"
        with pytest.raises(SourceRefusedError):
            await api.get("/x", "it")
    assert len(asked) == 2


async def test_keys_that_cannot_be_read_anew_are_told() -> None:
    async def renew() -> tuple[str, str]:
        raise CredentialsError("the secret is disabled")

    async with Server(httpx.Response(403)).api(renew_keys=renew) as api:
        with pytest.raises(SourceRefusedError, match="the secret is disabled"):
            await api.get("/x", "it")


def test_what_cannot_be_a_key_is_refused() -> None:
    with pytest.raises(CredentialsError):
        DatadogApi("https://api.datadoghq.com", "a\nb", "app", retry_budget_s=1)


# -- reading


def item(number: int, name: str = "n") -> dict[str, Any]:
    return {"id": str(number), "type": "datasets", "attributes": {"name": name}}


async def collected(found: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in found]


async def test_pages_are_followed_to_the_last() -> None:
    server = Server(
        ok({"data": [1], "meta": {"after": "c1"}}),
        ok({"data": [2], "meta": {"after": "c2"}}),
        ok({"data": [3], "meta": None}),
    )
    async with server.api() as api:
        assert await collected(pages(api, "/x", "it", {"filter[name]": "a"})) == [1, 2, 3]
    assert [request.url.params.get("page[cursor]") for request in server.heard] == [None, "c1", "c2"]
    assert {request.url.params["filter[name]"] for request in server.heard} == {"a"}


async def test_pages_that_do_not_end_are_an_error() -> None:
    async with Server(ok({"data": [1], "meta": {"after": "again"}})).api() as api:
        with pytest.raises(SourceUnavailableError, match="do not end"):
            await collected(pages(api, "/x", "the list"))


async def test_a_name_is_found_exactly_even_if_the_filter_is_not_kept() -> None:
    server = Server(ok({"data": [item(1, "failures-2"), 7, item(2, "failures")]}))
    async with server.api() as api:
        found = await named_so(api, "/x", "failures", "it")
        assert found is not None
        assert found.id == "2"
        assert await named_so(api, "/x", "none", "it") is None


@pytest.mark.parametrize(
    "record",
    [
        {"id": "a", "attributes": {"metadata": {"evalforge_id": "b"}}},
        {"id": "a", "metadata": {"evalforge_id": "b"}},
    ],
)
def test_a_record_goes_by_two_ids_in_both_shapes(record: dict[str, Any]) -> None:
    assert set(ids_of_record(record)) == {"a", "b"}
    assert ids_in_change({"data": [record]}) == ids_in_change({"data": [{"records": [record]}]}) == {"a", "b"}


@given(json_values())
def test_no_answer_is_too_odd_to_read(answer: Any) -> None:
    reads: list[Callable[[], Any]] = [
        lambda: list(ids_of_record(answer)),
        lambda: ids_in_change(answer),
        lambda: ids_in_change({"data": answer}),
        lambda: named(answer),
        lambda: list(interactions_in(answer, "interactions")),
        lambda: list(interactions_in({"data": {"attributes": {"interactions": answer}}}, "interactions")),
    ]
    for read in reads:
        read()


def test_ids_from_outside_stay_one_part_of_a_path() -> None:
    assert path_of("projects", "../x?y#z/") == "/projects/..%2Fx%3Fy%23z%2F"


# -- records


def example(**others: Any) -> Example:
    fields: dict[str, Any] = {"id": "evalforge_1", "trace_id": "t", "span_id": "s", "signature": "g", "input": "q"}
    return Example(**{**fields, **others})


def test_a_record_keeps_what_failed_apart_from_what_is_right() -> None:
    one = example(actual_output="bad", assertions=(Assertion("not_contains", "bad"),), metadata={"datadog_url": "https://x"})
    document = record_of(one).document
    assert "expected_output" not in document
    assert document["metadata"] == {
        "datadog_url": "https://x",
        "evalforge_id": "evalforge_1",
        "failed_output": "bad",
        "generated_assertions": [{"kind": "not_contains", "value": "bad"}],
    }
    assert record_of(example(expected_output="right")).document["expected_output"] == "right"


def test_a_change_leaves_nothing_out_for_being_equal() -> None:
    change = change_of("d", [record_of(example())], new_version=False)
    attributes = change["data"]["attributes"]
    assert (attributes["deduplicate"], attributes["create_new_version"], change["data"]["id"]) == (False, False, "d")


@examples(200)
@given(st.text(st.characters(exclude_categories=())), st.text(st.characters(exclude_categories=())))
def test_every_text_can_be_spelled_in_utf_8(asked: str, answered: str) -> None:
    record = record_of(example(input=asked, actual_output=answered, metadata={"why": answered}))
    spelled = json.dumps(record.document, ensure_ascii=False).encode()
    assert json.loads(spelled)["input"]["input"] == asked.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert 0 < record.size_bytes < MOST_BYTES
