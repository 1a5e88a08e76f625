"""Requests: which fields are taken, with which bounds, and what is said of all others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.requests import Request

from evalforge.core.ports import Selection
from evalforge.errors import RequestError, TooLargeError
from evalforge.exports import Shape
from evalforge.service import schema
from evalforge.service.requests import (
    DEFAULT_RUNS,
    ERASE_FIELDS,
    EXPORT_FIELDS,
    MAX_BODY_BYTES,
    RUN_FIELDS,
    EraseRequest,
    ExportRequest,
    RunRequest,
    erase_request,
    export_request,
    read_body_fields,
    read_fields,
    run_request,
    runs_limit,
)


def request_of(body: bytes = b"", query: bytes = b"", *, chunk: int = 1 << 16) -> Request:
    async def receive_all() -> AsyncIterator[dict[str, Any]]:
        for at in range(0, len(body), chunk):
            yield {"type": "http.request", "body": body[at : at + chunk], "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    messages = receive_all()

    async def receive() -> Any:
        return await anext(messages)

    return Request({"type": "http", "method": "POST", "path": "/", "query_string": query, "headers": []}, receive)


GOOD_RUNS: list[tuple[bytes, bytes, RunRequest]] = [
    (b"", b"", RunRequest()),
    (b"  \n", b"", RunRequest()),
    (b"{}", b"", RunRequest()),
    (b'{"lookback": 48}', b"", RunRequest(48.0)),
    (b'{"lookback_hours": "1.5"}', b"", RunRequest(1.5)),
    (b'{"traceLookbackHours": 360.0}', b"", RunRequest(360.0)),
    (b'{"quality_threshold": 0}', b"", RunRequest(None, 0.0)),
    (b'{"qualityThreshold": 1}', b"", RunRequest(None, 1.0)),
    (b"", b"lookback=2&qualityThreshold=0.25", RunRequest(2.0, 0.25)),
    (b'{"lookback": 2}', b"lookback_hours=2.0", RunRequest(2.0)),
    (b'{"lookback": null, "quality_threshold": null}', b"lookback=3", RunRequest(3.0)),
    (b'{"lookback": 2, "lookback": 2}', b"", RunRequest(2.0)),
    (b'{"dry_run": true, "since_last": true}', b"", RunRequest(since_last=True, dry_run=True)),
    (b'{"dryRun": false}', b"sinceLast=false", RunRequest(since_last=False)),
    (b'{"since_last": true, "lookback": 2}', b"dry_run=true", RunRequest(2.0, since_last=True, dry_run=True)),
    ('{"lookback": 2}'.encode("utf-16"), b"", RunRequest(2.0)),
]


@pytest.mark.parametrize(("body", "query", "wanted"), GOOD_RUNS)
async def test_runs_that_may_be_asked_for(body: bytes, query: bytes, wanted: RunRequest) -> None:
    assert run_request(await read_fields(request_of(body, query, chunk=3))) == wanted


BAD_RUNS: list[tuple[bytes, bytes, str | None]] = [
    (b'{"lookback": 0}', b"", "lookback"),
    (b'{"lookback": 361}', b"", "lookback"),
    (b'{"lookback": -1}', b"", "lookback"),
    (b'{"lookback": true}', b"", "lookback"),
    (b'{"lookback": [24]}', b"", "lookback"),
    (b'{"lookback": {"hours": 24}}', b"", "lookback"),
    (b'{"lookback": "a day"}', b"", "lookback"),
    (b'{"lookback": 1e400}', b"", "lookback"),
    (b'{"lookback": ' + b"9" * 4000 + b"}", b"", "lookback"),
    (b'{"lookback": ' + b"9" * 9000 + b"}", b"", None),
    (b'{"lookback": NaN}', b"", None),
    (b'{"quality_threshold": 1.1}', b"", "quality_threshold"),
    (b'{"qualityThreshold": "\\ud800"}', b"", "qualityThreshold"),
    (b'{"lookback": 2, "lookback_hours": 3}', b"", "lookback_hours"),
    (b'{"lookback": 2, "lookback": 3}', b"", "lookback"),
    (b'{"lookback": 2}', b"lookback=3", "lookback"),
    (b"", b"lookback=2&lookback=3", "lookback"),
    (b"", b"lookback=", "lookback"),
    (b'{"dry_run": 1}', b"", "dry_run"),
    (b'{"dry_run": "yes"}', b"", "dry_run"),
    (b'{"dry_run": [true]}', b"", "dry_run"),
    (b'{"dry_run": true, "dryRun": false}', b"", "dryRun"),
    (b'{"since_last": true}', b"since_last=false", "since_last"),
    (b'{"Lookback": 2}', b"", "Lookback"),
    (b'{"window": 2}', b"", "window"),
    (b'{"": 2}', b"", ""),
    (b'{"site": "evil.com"}', b"", "site"),
    (b"", b"\x1b[2J=1", None),
    (b"[]", b"", None),
    (b'"x"', b"", None),
    (b"24", b"", None),
    (b"null", b"", None),
    (b"lookback=24", b"", None),
    (b"{", b"", None),
    (b"\xff\xfe\xfd", b"", None),
    (b"\x00", b"", None),
    (b"[" * 60_000, b"", None),
    (b'{"a":' * 10_000, b"", None),
]


@pytest.mark.parametrize(("body", "query", "field"), BAD_RUNS, ids=lambda part: ascii(part)[:50])
async def test_runs_that_may_not(body: bytes, query: bytes, field: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        run_request(await read_fields(request_of(body, query)))
    assert caught.value.http_status == 422
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 400
    if field is not None:
        assert caught.value.field == field


@pytest.mark.parametrize("body", [b" " * (MAX_BODY_BYTES + 1), b'{"lookback": 2}' + b" " * MAX_BODY_BYTES])
@pytest.mark.parametrize("read", [read_fields, read_body_fields])
async def test_a_body_is_read_up_to_its_bound(body: bytes, read: Any) -> None:
    with pytest.raises(TooLargeError) as caught:
        await read(request_of(body))
    assert caught.value.http_status == 413


def test_how_many_runs_may_be_listed() -> None:
    assert runs_limit([]) == DEFAULT_RUNS
    assert runs_limit([("limit", "3"), ("limit", "3")]) == 3
    for fields in ([("limit", "0")], [("limit", "101")], [("limit", "x")], [("limit", "1"), ("limit", "2")], [("x", "1")]):
        with pytest.raises(RequestError):
            runs_limit(fields)


GOOD_EXPORTS: list[tuple[dict[str, Any], ExportRequest]] = [
    ({"destination": "evals"}, ExportRequest("evals", Selection())),
    (
        {
            "destination": "evals",
            "started_from": "2026-11-23T06:00:00Z",
            "started_to": "2026-11-23T08:00:00+02:00",
            "failure_type": "http_error",
            "severity": "high",
            "ml_app": "shop",
            "env": "prod",
            "limit": 5,
        },
        ExportRequest(
            "evals",
            Selection(
                datetime(2026, 11, 23, 6, tzinfo=UTC),
                datetime(2026, 11, 23, 6, tzinfo=UTC),
                "http_error",
                "high",
                "shop",
                "prod",
                limit=5,
            ),
        ),
    ),
    ({"destination": "evals", "limit": "7", "env": None}, ExportRequest("evals", Selection(limit=7))),
    (
        {
            "destination": "evals",
            "format": "promptfoo",
            "per_group": "1",
            "test_share": 0.2,
            "model_name": "gpt-4o",
            "error_type": "Timeout",
            "signature": "s1_" + "0a" * 16,
        },
        ExportRequest(
            "evals",
            Selection(model_name="gpt-4o", error_type="Timeout", signatures=("s1_" + "0a" * 16,)),
            Shape("promptfoo", 1, 0.2),
        ),
    ),
    ({"destination": "evals", "test_share": ".5"}, ExportRequest("evals", Selection(), Shape(test_share=0.5))),
]


@pytest.mark.parametrize(("fields", "wanted"), GOOD_EXPORTS)
def test_exports_that_may_be_asked_for(fields: dict[str, Any], wanted: ExportRequest) -> None:
    assert export_request(fields.items()) == wanted


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "destination"),
        ({"destination": None}, "destination"),
        ({"destination": ""}, "destination"),
        ({"destination": ["evals"]}, "destination"),
        ({"destination": "e", "path": "/etc/passwd"}, "path"),
        ({"destination": "e", "url": "https://evil.com"}, "url"),
        ({"destination": "e", "format": "csv"}, "format"),
        ({"destination": "e", "format": "../../etc/passwd"}, "format"),
        ({"destination": "e", "format": ["promptfoo"]}, "format"),
        ({"destination": "e", "per_group": 0}, "per_group"),
        ({"destination": "e", "per_group": "one"}, "per_group"),
        ({"destination": "e", "test_share": 0}, "test_share"),
        ({"destination": "e", "test_share": 1}, "test_share"),
        ({"destination": "e", "test_share": 1.0}, "test_share"),
        ({"destination": "e", "test_share": "nan"}, "test_share"),
        ({"destination": "e", "test_share": True}, "test_share"),
        ({"destination": "e", "test_share": "1e-3"}, "test_share"),
        ({"destination": "e", "test_share": "٠.٢"}, "test_share"),
        ({"destination": "e", "signature": "s1"}, "signature"),
        ({"destination": "e", "signature": 7}, "signature"),
        ({"destination": "e", "started_from": "2026-11-23T06:00:00"}, "started_from"),
        ({"destination": "e", "started_from": "yesterday"}, "started_from"),
        ({"destination": "e", "started_to": 1795000000}, "started_to"),
        ({"destination": "e", "failure_type": "crash"}, "failure_type"),
        ({"destination": "e", "severity": "HIGH"}, "severity"),
        ({"destination": "e", "ml_app": "x" * 201}, "ml_app"),
        ({"destination": "e", "ml_app": "\ud800"}, "ml_app"),
        ({"destination": "e", "limit": 0}, "limit"),
        ({"destination": "e", "limit": -3}, "limit"),
        ({"destination": "e", "limit": True}, "limit"),
        ({"destination": "e", "limit": 1.5}, "limit"),
        ({"destination": "e", "limit": "٣"}, "limit"),
        ({"destination": "e", "limit": 10**30}, "limit"),
    ],
)
def test_exports_that_may_not(fields: dict[str, Any], field: str) -> None:
    with pytest.raises(RequestError) as caught:
        export_request(fields.items())
    assert caught.value.field == field
    assert caught.value.message.isprintable()


GOOD_ERASURES: list[tuple[bytes, EraseRequest]] = [
    (b'{"user_id": "ann@example.com"}', EraseRequest("ann@example.com")),
    (b'{"user_id": 8841, "actor": "dpo"}', EraseRequest(8841, actor="dpo")),
    (b'{"user_id": null, "trace_id": "6b03", "actor": null}', EraseRequest(trace_id="6b03")),
    (b'{"user_id": "\\ud800"}', EraseRequest("\ud800")),
]


@pytest.mark.parametrize(("body", "wanted"), GOOD_ERASURES)
async def test_erasures_that_may_be_asked_for(body: bytes, wanted: EraseRequest) -> None:
    asked = erase_request(await read_body_fields(request_of(body, chunk=3)))
    assert asked == wanted
    assert "ann" not in repr(asked)
    assert "6b03" not in repr(asked)


@pytest.mark.parametrize(
    ("body", "query", "field"),
    [
        (b"", b"", "user_id"),
        (b"{}", b"", "user_id"),
        (b'{"user_id": "jane", "trace_id": "1"}', b"", "user_id"),
        (b'{"user_id": "jane", "user_id": "joe"}', b"", "user_id"),
        (b'{"user_id": ""}', b"", "user_id"),
        (b'{"user_id": "  "}', b"", "user_id"),
        (b'{"user_id": true}', b"", "user_id"),
        (b'{"user_id": 1.5}', b"", "user_id"),
        (b'{"user_id": ["jane"]}', b"", "user_id"),
        (b'{"user_id": {"jane": 1}}', b"", "user_id"),
        (b'{"user_id": ' + b"9" * 4000 + b"}", b"", "user_id"),
        (b'{"user_id": ' + b"9" * 9000 + b"}", b"", None),
        (b'{"user_id": "' + b"jane" * 1100 + b'"}', b"", "user_id"),
        (b'{"trace_id": 7}', b"", "trace_id"),
        (b'{"trace_id": ""}', b"", "trace_id"),
        (b'{"user_id": "jane", "actor": ""}', b"", "actor"),
        (b'{"user_id": "jane", "actor": "a\\nb"}', b"", "actor"),
        (b'{"user_id": "jane", "actor": 7}', b"", "actor"),
        (b'{"jane@example.com": 1}', b"", None),
        (b'{"user_id": "jane"}', b"actor=jane", None),
        (b"", b"user_id=jane", None),
        (b'["jane"]', b"", None),
        (b"jane", b"", None),
    ],
    ids=lambda part: ascii(part)[:50],
)
async def test_erasures_that_may_not_and_nothing_sent_is_quoted(body: bytes, query: bytes, field: str | None) -> None:
    with pytest.raises(RequestError) as caught:
        erase_request(await read_body_fields(request_of(body, query)))
    assert caught.value.field == field
    assert "jane" not in caught.value.message
    assert caught.value.message.isprintable()


@pytest.mark.parametrize(
    ("body", "wants"),
    [
        (b"[]", "send a JSON object"),
        (b"nonsense", "send a JSON object"),
        (b'{"user_id": []}', "a text of 1 to 4096 characters, or a whole number of at most 256 bits"),
        (b'{"user_id": ' + b"9" * 100 + b"}", "a text of 1 to 4096 characters, or a whole number of at most 256 bits"),
        (b'{"trace_id": 7}', "a text of 1 to 4096 characters"),
    ],
    ids=lambda part: ascii(part)[:50],
)
async def test_a_refused_erasure_says_what_would_be_taken(body: bytes, wants: str) -> None:
    with pytest.raises(RequestError) as caught:
        erase_request(await read_body_fields(request_of(body)))
    assert caught.value.message.endswith(wants)


def test_the_published_schema_names_what_the_parsers_take() -> None:
    assert list(schema.RUN_PROPERTIES) == list(RUN_FIELDS)
    assert tuple(schema.EXPORT_PROPERTIES) == EXPORT_FIELDS
    assert tuple(schema.ERASE_PROPERTIES) == ERASE_FIELDS
    assert "parameters" not in schema.ERASE
    json.dumps([schema.RUN_ONCE, schema.EXPORT, schema.ERASE])
