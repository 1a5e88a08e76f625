"""The web pages without a browser: what they show, that nothing in them is obeyed, who may see and change what."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from evalforge.core.callers import Role, key_row_text, parse_key_rows
from evalforge.core.review import ReviewState
from evalforge.core.signals import FailureType
from evalforge.service import sessions
from evalforge.service.app import create_app
from evalforge.service.web import charts
from evalforge.service.web.conversation import turns_of, verdicts_of
from evalforge.service.web.rendering import shown
from evalforge.service.web.views import own_path
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW
from tests.contract.test_review_contract import START, mixed, one

READ_KEY, REVIEW_KEY = "evf_" + "A" * 43, "evf_" + "B" * 43
KEYS = f"{key_row_text('looker', [Role.READ], READ_KEY)},{key_row_text('kim', [Role.READ, Role.REVIEW], REVIEW_KEY)}"

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "\u202egnp.exe\u200b\x00\x1b[2J",
    "</textarea><form action=//evil>",
    "&lt;b&gt; ' \" `",
]


def hostile_capture(text: str, number: int = 1) -> Any:
    payload = {
        "name": text,
        "input": {"messages": [{"role": text, "content": text, "tool_calls": [{"name": text, "arguments": {text: text}}]}]},
        "output": {"value": text, text: text},
        "evaluation": {text: {"value": text, "assessment": text, "reasoning": text}, "b": {"value": 0.4}},
        "error": {"message": text, "type": text},
        "tags": {"version": text},
    }
    return one(
        number, name=text, ml_app=text, env=text, model_name=text, model_provider=text, service_name=text, error_type=text,
        payload=payload, failure_type=FailureType.TOXICITY, user_hash="u1a2b_" + "1" * 32,
    )  # fmt: skip


def store_at(path: Path, captures: list[Any]) -> None:
    async def fill() -> None:
        store = SqliteStore(str(path), prefix="evalforge_")
        await store.upsert(captures, now=NOW)
        await store.close()

    asyncio.run(fill())


class Pages:
    """The pages of an application over a file with captures."""

    def __init__(self, path: Path, **environment: str) -> None:
        self.app = create_app({"CAPTURE_STORE": f"sqlite:///{path}", **environment})
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://localhost")

    async def text(self, place: str, status: int = 200) -> str:
        answer = await self.http.get(place)
        assert answer.status_code == status, answer.text[:500]
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src" not in policy
        return answer.text

    async def closed(self) -> None:
        await self.http.aclose()
        await self.app.state.desk.closed()


@pytest.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Pages]:
    await asyncio.to_thread(store_at, tmp_path / "captures.db", mixed())
    found = Pages(tmp_path / "captures.db")
    yield found
    await found.closed()


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Pages]:
    await asyncio.to_thread(store_at, tmp_path / "captures.db", mixed())
    found = Pages(tmp_path / "captures.db", SERVICE_API_KEYS=KEYS)
    yield found
    await found.closed()


ALL_TIME = "window=all+time"


async def test_from_the_overview_to_a_capture_by_links_alone(pages: Pages) -> None:
    overview = await pages.text(f"/?{ALL_TIME}")
    assert "6 failures" in overview
    assert '<rect class="fill-toxicity"' in overview
    group = re.findall(r'href="(/review/groups/[^"?]+)"', overview)[0]
    shown_group = await pages.text(group)
    place = re.findall(r'href="(/review/captures/[^"?]+)"', shown_group)[0]
    capture = await pages.text(place)
    assert "Why it failed" in capture
    assert "evaluation.hallucination" in capture
    for other in (f"/review?{ALL_TIME}", f"/review/captures?{ALL_TIME}", "/review/runs", "/review/health", "/sign-in"):
        assert "<h1>" in await pages.text(other)


async def test_filters_live_in_the_url_and_stay_chosen(pages: Pages) -> None:
    page = await pages.text(f"/review?{ALL_TIME}&model_name=claude&failure_type=toxicity")
    assert "<h1>1 group <span" in page
    assert '<option value="claude" selected>' in page
    assert "nothing else is filterable" in page
    assert "No group matches" in await pages.text(f"/review?{ALL_TIME}&env=nowhere")
    assert "unknown field" in await pages.text("/review?text=hello", 422)
    assert "window: wants" in await pages.text("/review?window=ever", 422)


async def test_a_decision_is_saved_shown_and_told_in_the_history(pages: Pages) -> None:
    signature = mixed()[0].signature
    form = {"state": "triaged", "assignee": "kim", "note": "look at <b>this</b> kim@example.com"}
    answer = await pages.http.post(f"/review/groups/{signature}", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/review/groups/{signature}?saved=1")
    page = await pages.text(answer.headers["location"])
    assert "Saved." in page
    assert "new → triaged" in page
    assert "look at &lt;b&gt;this&lt;/b&gt; [EMAIL_1]" in page
    trace_id = mixed()[0].trace_id
    form = {"expected_output": "Ask <i>first</i>.", "trace_id": trace_id}
    answer = await pages.http.post(f"/review/groups/{signature}", data=form)
    assert answer.headers["location"] == f"/review/captures/{trace_id}?saved=1"
    assert "Ask &lt;i&gt;first&lt;/i&gt;." in await pages.text(answer.headers["location"])


WRONG_FORMS: list[tuple[Any, int]] = [
    ({"state": "open"}, 422),
    ({"colour": "red"}, 422),
    ({"assignee": "Not A Name"}, 422),
    ("state=new&state=triaged", 422),
    ("%ff%fe=1", 422),
    ("state=" + "x" * 70_000, 413),
]


@pytest.mark.parametrize(("form", "status"), WRONG_FORMS, ids=lambda part: str(part)[:20])
async def test_a_form_that_is_wrong_changes_nothing(pages: Pages, form: Any, status: int) -> None:
    place = f"/review/groups/{mixed()[0].signature}"
    content = {"data": form} if isinstance(form, dict) else {"content": form}
    assert (await pages.http.post(place, **content)).status_code == status
    assert "history" not in await pages.text(place)


async def test_no_page_of_another_site_can_post_a_form(pages: Pages) -> None:
    place = f"/review/groups/{mixed()[0].signature}"
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert (await pages.http.post(place, data={"state": "ignored"}, headers=headers)).status_code == 403
        assert (await pages.http.post("/sign-in", data={"key": "x"}, headers=headers)).status_code == 403
    own = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    assert (await pages.http.post(place, data={"state": "ignored"}, headers=own)).status_code == 303


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:16])
async def test_captured_text_is_shown_and_never_obeyed(tmp_path: Path, text: str) -> None:
    capture = hostile_capture(text)
    await asyncio.to_thread(store_at, tmp_path / "captures.db", [capture])
    pages = Pages(tmp_path / "captures.db")
    places = (f"/?{ALL_TIME}", f"/review?{ALL_TIME}", f"/review/captures?{ALL_TIME}", f"/review/groups/{capture.signature}",
              f"/review/captures/{capture.trace_id}")  # fmt: skip
    for place in places:
        page = await pages.text(place)
        for piece in ("<script", "<img", " onerror=alert", "</textarea><form", 'href="javascript'):
            assert piece not in page.replace("onerror=alert(1)&gt;", "")
        seen = re.sub(r'<option value="[^"]*"', "", page)  # what a form sends back is as it was
        assert not set(seen) & set("\u202e\u200b\x00\x1b")
        assert "49" not in page if "7*7" in text and "captures/" in place else True
        assert not re.search(r"\sstyle=|<script|\son\w+=\"", page)
    await pages.closed()


@given(st.text(max_size=80))
def test_any_text_is_escaped_and_made_visible(text: str) -> None:
    page = str(shown(text))
    plain = page.replace('<span class="removed" title="removed by the sanitizer">', "").replace("</span>", "")
    assert not set("<>\"'") & set(plain)


def test_what_was_removed_stands_out() -> None:
    page = str(shown("Write to [EMAIL_1] or [redacted:text 44]."))
    assert page.count('class="removed"') == 2


# -- sign-in


async def test_whoever_has_no_session_is_sent_to_sign_in_and_back(guarded: Pages) -> None:
    answer = await guarded.http.get("/review?state=new")
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in?next=%2Freview%3Fstate%3Dnew")
    assert (await guarded.http.post(f"/review/groups/{mixed()[0].signature}", data={"state": "new"})).status_code == 401
    wrong = await guarded.http.post("/sign-in", data={"key": "evf_" + "Z" * 43, "next": "/review"})
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (403, False)
    assert "ZZZ" not in wrong.text
    signed = await guarded.http.post("/sign-in", data={"key": REVIEW_KEY, "next": "/review?state=new"})
    assert (signed.status_code, signed.headers["location"]) == (303, "/review?state=new")
    cookie = signed.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"))
    assert REVIEW_KEY not in cookie
    assert "kim" in await guarded.text("/review")
    assert (await guarded.http.post("/sign-out")).status_code == 303
    guarded.http.cookies.clear()
    assert (await guarded.http.get("/review")).status_code == 303


async def test_over_https_the_cookie_is_bound_to_it(guarded: Pages) -> None:
    signed = await guarded.http.post("/sign-in", data={"key": READ_KEY}, headers={"X-Forwarded-Proto": "https"})
    assert signed.headers["set-cookie"].startswith("__Host-evalforge=looker.")
    assert "; Secure" in signed.headers["set-cookie"]


async def test_looking_is_no_deciding(guarded: Pages) -> None:
    await guarded.http.post("/sign-in", data={"key": READ_KEY})
    place = f"/review/groups/{mixed()[0].signature}"
    assert "needs the role" in await guarded.text(place)
    assert (await guarded.http.post(place, data={"state": "new"})).status_code == 403


async def test_a_session_opens_pages_and_nothing_else(guarded: Pages) -> None:
    await guarded.http.post("/sign-in", data={"key": REVIEW_KEY})
    for method, place in (
        ("GET", "/groups"),
        ("GET", "/captures"),
        ("POST", "/privacy/erase"),
        ("POST", "/ingestion/run-once"),
    ):
        assert (await guarded.http.request(method, place, json={})).status_code == 401
    assert (await guarded.http.get("/review")).status_code == 200


ROWS = parse_key_rows(KEYS)


def told(cookie: str) -> Headers:
    return Headers({"cookie": cookie})


def test_a_session_ends_with_its_time_and_with_its_key() -> None:
    token = sessions.token_of(ROWS[1], 1_000_000_000)
    assert sessions.caller_in(told(f"evalforge={token}"), ROWS, 1_000_000_000 + sessions.LASTS_S - 1) == ROWS[1].caller
    assert sessions.caller_in(told(f"evalforge={token}"), ROWS, 1_000_000_000 + sessions.LASTS_S) is None
    assert sessions.caller_in(told(f"evalforge={token}"), ROWS[:1], 1_000_000_000) is None


def test_odd_cookies_of_other_programs_lock_nobody_out() -> None:
    token = sessions.token_of(ROWS[1], time.time())
    for others in ('x={{"a":1}}; ', "a b; ", "=; ", "evalforge2=z; "):
        assert sessions.caller_in(told(f"{others}evalforge={token}"), ROWS) == ROWS[1].caller


@pytest.mark.parametrize(
    "cookie",
    [
        "", "evalforge=", "evalforge=kim", "other={token}", "evalforge={token}x", "evalforge={swapped}",
        "evalforge={token}; __Host-evalforge={token}", "evalforge={token}; evalforge={token}",
        "evalforge={longer}", "evalforge=" + "9" * 5_000, "\x00=;;;",
    ],
)  # fmt: skip
def test_a_cookie_that_is_not_ours_is_nobody(cookie: str) -> None:
    token = sessions.token_of(ROWS[1], time.time())
    name, ends, signature = token.split(".")
    made = cookie.format(token=token, swapped=f"looker.{ends}.{signature}", longer=f"{name}.{int(ends) + 9}.{signature}")
    assert sessions.caller_in(told(made), ROWS) is None


@pytest.mark.parametrize(
    "given_path",
    ["//evil.example", "https://evil.example", "/\\evil.example", "evil", "", None, "/" + "a" * 3_000, "/\r\nx"],
)
def test_nobody_is_sent_elsewhere_after_signing_in(given_path: str | None) -> None:
    assert own_path(given_path) == "/"
    assert own_path("/review?state=new") == "/review?state=new"


# -- parts


def test_charts_draw_each_count_and_say_it_in_words() -> None:
    edges = [START, START.replace(hour=23), START.replace(hour=23, minute=59)]
    chart = str(charts.stacked({"toxicity": [1, 0], "http_error": [2, 3]}, edges, "Failures"))
    assert chart.count("<rect") == 3
    assert "http error: 3 from" in chart
    assert str(charts.stacked({}, edges, "Failures")).count("<rect") == 0
    assert str(charts.sparkline([0, 1, 4], "toxicity")).count("fill-toxicity") == 2
    assert 'width="100.0"' in str(charts.bar(9, 3, "accent"))


def test_a_conversation_is_read_turn_by_turn() -> None:
    payload = {
        "input": {
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "[redacted:text 44]"},
                {"role": "assistant", "content": "", "tool_calls": [{"name": "find", "arguments": {"a": 1}}]},
                {"role": "tool", "tool_results": [{"name": "find", "result": "[]"}]},
                "no message",
            ],
            "value": "Be brief.",
        },
        "output": {"value": "No."},
    }
    turns = turns_of(payload)
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "tool", "assistant"]
    assert [turn.is_closed for turn in turns] == [False, True, False, False, False]
    assert (turns[-1].text, turns[-1].is_answer) == ("No.", True)
    assert turns[2].calls[0].name == turns[3].results[0].name == "find"
    assert turns_of({}) == turns_of({"input": None, "output": 3}) == []
    assert [
        verdict.score for verdict in verdicts_of({"evaluation": {"a": {"value": 0.4}, "b": {"value": True}, "c": 1}})
    ] == [0.4, None]


def test_every_state_and_type_has_its_colour() -> None:
    style = (Path(charts.__file__).parent / "static" / "style.css").read_text()
    for name in FailureType:
        assert f".fill-{name.value}" in style
    for state in ReviewState:
        assert f".st-{state.value}" in style or state in (ReviewState.IGNORED,)
