"""The reviewers' routes: what they take, what they give, and what they refuse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from evalforge.core.callers import Role, key_row_text
from evalforge.core.review import ReviewState
from evalforge.service import schema_review
from evalforge.service.app import create_app
from evalforge.service.review_requests import CAPTURES_FIELDS, GROUPS_FIELDS, PATCH_FIELDS, STATS_FIELDS
from evalforge.stores.sqlite import SqliteStore
from tests.captures import NOW
from tests.contract.test_review_contract import mixed

KEYS = {role: f"evf_{letter * 43}" for role, letter in ((Role.READ, "A"), (Role.REVIEW, "B"), (Role.RUN, "C"))}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    async def fill() -> None:
        store = SqliteStore(str(tmp_path / "captures.db"), prefix="evalforge_")
        await store.upsert(mixed(), now=NOW)
        await store.close()

    asyncio.run(fill())
    return tmp_path / "captures.db"


@pytest.fixture
async def http(path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app({"CAPTURE_STORE": f"sqlite:///{path}"})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        yield client
    await app.state.desk.closed()


async def test_from_groups_to_a_capture_and_back_with_a_decision(http: httpx.AsyncClient) -> None:
    groups = (await http.get("/groups", params={"limit": 2})).json()
    assert (len(groups["groups"]), groups["total"], groups["total_is_floor"]) == (2, 3, False)
    rest = (await http.get("/groups", params={"limit": 2, "cursor": groups["next"]})).json()
    assert (len(rest["groups"]), rest["next"]) == (1, None)
    signature = rest["groups"][0]["signature"]
    captures = (await http.get("/captures", params={"signature": signature})).json()
    assert [one["signature"] for one in captures["captures"]] == [signature] * 3
    whole = (await http.get(f"/captures/{captures['captures'][0]['trace_id']}")).json()
    assert whole["trace_payload"]["name"] == "answer"
    assert "origins" not in whole
    changed = await http.patch(f"/groups/{signature}", json={"state": "triaged", "assignee": "kim", "note": "look"})
    assert (changed.status_code, changed.json()["state"]) == (200, "triaged")
    again = await http.patch(f"/groups/{signature}", json={"state": "triaged", "assignee": "kim"})
    assert again.json() == changed.json()
    shown = (await http.get(f"/groups/{signature}")).json()
    assert [one["what"] for one in shown["review"]["history"]] == ["state", "assignee", "note"]
    assert {one["by"] for one in shown["review"]["history"]} == {"service"}
    assert [one["signature"] for one in (await http.get("/groups?state=triaged")).json()["groups"]] == [signature]
    assert len((await http.get("/captures?state=triaged")).json()["captures"]) == 3
    stats = (await http.get("/stats", params={"parts": 2, "ml_app": "support-bot"})).json()
    assert stats["groups"]["triaged"] == 1
    assert len(stats["edges"]) == 3


async def test_an_answer_of_a_trace_is_set_and_taken_away(http: httpx.AsyncClient) -> None:
    first = (await http.get("/captures")).json()["captures"][0]
    place = f"/groups/{first['signature']}"
    given = await http.patch(place, json={"expected_output": "Ask first.", "trace_id": first["trace_id"]})
    assert given.json()["expected_outputs"] == {first["trace_id"]: "Ask first."}
    taken = await http.patch(place, json={"expected_output": None, "trace_id": first["trace_id"]})
    assert taken.json()["expected_outputs"] == {}


WRONG: list[tuple[str, str, Any, int, str]] = [
    ("GET", "/captures?text=hello", None, 422, "Nothing else is filterable"),
    ("GET", "/groups?model=x", None, 422, "known are"),
    ("GET", "/groups?limit=51", None, 422, "1 to 50"),
    ("GET", "/captures?limit=0", None, 422, "1 to 100"),
    ("GET", "/captures?cursor=abc", None, 422, "cursor"),
    ("GET", "/captures?state=open", None, 422, "triaged"),
    ("GET", "/captures?env=a&env=b", None, 422, "twice"),
    ("GET", "/captures?signature=s1_x", None, 422, "signature"),
    ("GET", "/groups?regressed=maybe", None, 422, "true or false"),
    ("GET", "/stats?parts=61", None, 422, "1 to 60"),
    ("GET", "/stats?started_from=2026-11-23T06:00:00Z&started_to=2026-11-23T06:00:00Z", None, 422, "not before"),
    ("GET", "/captures/none", None, 404, "there is no capture"),
    ("GET", "/groups/nonsense", None, 422, "signature"),
    ("GET", "/groups/s1_" + "0" * 32, None, 404, "no capture has"),
    ("PATCH", "/groups/s1_" + "0" * 32, {"state": "new"}, 404, "no capture has"),
    ("PATCH", "/groups/s1_" + "0" * 32, {}, 422, "nothing is to be changed"),
    ("PATCH", "/groups/s1_" + "0" * 32, {"state": None}, 422, "state"),
    ("PATCH", "/groups/s1_" + "0" * 32, {"colour": "red"}, 422, "unknown"),
    ("PATCH", "/groups/s1_" + "0" * 32, {"note": 3}, 422, "note"),
    ("PATCH", "/groups/s1_" + "0" * 32, [], 422, "JSON object"),
    ("PATCH", "/groups/s1_" + "0" * 32 + "?state=new", {"state": "new"}, 422, "query must be empty"),
]


@pytest.mark.parametrize(("method", "place", "body", "status", "words"), WRONG)
async def test_what_is_wrong_is_named(
    http: httpx.AsyncClient, method: str, place: str, body: Any, status: int, words: str
) -> None:
    answer = await http.request(method, place, json=body)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]


async def test_looking_needs_one_role_and_deciding_another(path: Path) -> None:
    keys = ",".join(key_row_text(role.value, [role], key) for role, key in KEYS.items())
    app = create_app({"CAPTURE_STORE": f"sqlite:///{path}", "SERVICE_API_KEYS": keys})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:

        async def status(method: str, place: str, role: Role | None) -> int:
            headers = {"X-API-Key": KEYS[role]} if role else {}
            return (await client.request(method, place, headers=headers, json={"state": "new"})).status_code

        signature = mixed()[0].signature
        for place in ("/captures", "/groups", "/stats", f"/groups/{signature}", f"/captures/{mixed()[0].trace_id}"):
            assert [await status("GET", place, role) for role in (None, Role.RUN, Role.READ)] == [401, 403, 200]
        patches = [await status("PATCH", f"/groups/{signature}", role) for role in (None, Role.RUN, Role.READ, Role.REVIEW)]
        assert patches == [401, 403, 403, 200]
    await app.state.desk.closed()


async def test_wrong_settings_and_a_store_that_cannot_be_opened_are_503(tmp_path: Path) -> None:
    for environment in ({"PORT": "nonsense"}, {"CAPTURE_STORE": f"sqlite:///{tmp_path}/none/captures.db"}):
        app = create_app(environment)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
            assert (await client.get("/groups")).status_code == 503
        await app.state.desk.closed()


def test_the_openapi_document_says_what_the_parsers_take() -> None:
    assert list(schema_review.CAPTURES_PROPERTIES) == list(CAPTURES_FIELDS)
    assert list(schema_review.GROUPS_PROPERTIES) == list(GROUPS_FIELDS)
    assert list(schema_review.STATS_PROPERTIES) == list(STATS_FIELDS)
    assert tuple(schema_review.PATCH_PROPERTIES) == PATCH_FIELDS
    assert schema_review.PATCH_PROPERTIES["state"]["enum"] == list(ReviewState)
