"""What reaches the terminal: captured text is shown, never obeyed."""

from __future__ import annotations

import io
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from rich.console import Console

from evalforge.cli.cards import print_card, print_page, reason
from evalforge.cli.ingest import report_view, window_of
from evalforge.cli.options import instant_of, selection_of
from evalforge.cli.screen import json_lines, json_view, safe, text
from evalforge.core.ports import SELECTED_BY, StoredCapture
from evalforge.core.signals import FailureType, Severity, Signal
from evalforge.core.window import Window, epoch_ms
from evalforge.errors import RequestError
from tests.captures import any_text, capture, json_values, signal

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

HOSTILE = [
    "\x1b[2J\x1b]0;title\x07",
    "\x9b31m",
    "a\nb\rc\x08\x08",
    "\u202egnp.exe",
    "zero\u200bwidth\ufeff",
    "\ud800",
    "\x00",
    "[bold red]markup[/] [link=https://evil.com]here[/link]",
    ":boom:",
    "\u2028",
    "\U000e0041tag",
]


def rendered(*things: Any, width: int = 80) -> str:
    stream = io.StringIO()
    out = Console(file=stream, width=width, force_terminal=False, markup=False, emoji=False, highlight=False)
    for thing in things:
        out.print(thing)
    return stream.getvalue()


def page_of(one: Any, width: int = 80) -> str:
    stream = io.StringIO()
    out = Console(file=stream, width=width, force_terminal=False, markup=False, emoji=False, highlight=False)
    print_card(out, one)
    print_page(out, StoredCapture(one, one.to_document(), NOW, False))
    return stream.getvalue()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_errors_said_is_shown_and_never_obeyed(hostile: str) -> None:
    one = capture(
        payload={"name": "answer", "error": {"message": f"refused {hostile}"}}, error_type="Timeout", status_code=504
    )
    shown = page_of(one, width=120)
    assert "What the errors said" in shown
    assert "Timeout 504: refused" in shown
    assert is_harmless(shown)
    assert "What the errors said" not in page_of(capture())


def is_harmless(shown: str) -> bool:
    return all(character.isprintable() or unicodedata.category(character) == "Zs" for character in shown.replace("\n", ""))


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_hostile_text_is_spelled_out(hostile: str) -> None:
    assert safe(hostile).isprintable()
    assert is_harmless(rendered(text(hostile)))


def test_markup_and_emoji_codes_stay_as_they_are() -> None:
    assert rendered(text("[bold]x[/bold] :boom:")) == "[bold]x[/bold] :boom:\n"


def test_plain_words_of_any_script_stay_as_they_are() -> None:
    for words in ("Größe", "日本語", "עברית", "naïve café", "👩 emoji"):
        assert safe(words) == words


@given(any_text)
def test_any_text_is_harmless(value: str) -> None:
    assert is_harmless(safe(value))
    assert "\n" not in safe(value)
    assert len(safe(value * 1000, 50)) <= 500


@given(json_values())
def test_any_value_can_be_shown(value: Any) -> None:
    shown = rendered(json_view(json_lines({"v": value})))
    assert is_harmless(shown)


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
@pytest.mark.parametrize("width", [20, 80, 120])
def test_a_hostile_capture_is_shown_without_harm(hostile: str, width: int) -> None:
    one = capture(
        payload={hostile or "k": hostile, "list": [hostile, {"k": hostile}]},
        signals=(signal(place=f"evaluation.{hostile}", observed=hostile, threshold=hostile),),
        name=hostile,
        span_kind=hostile,
        ml_app=hostile,
        env=hostile,
        service_name=hostile,
        model_name=hostile,
        error_type=hostile,
        redactions={hostile: 3},
        user_hash=hostile,
    )
    assert is_harmless(page_of(one, width))


def test_a_link_is_whole_at_80_columns() -> None:
    one = capture()
    assert one.to_document()["datadog_url"] in page_of(one).split()


REASONS = [
    (signal(observed=True), "evaluation.hallucination is true"),
    (
        Signal(FailureType.QUALITY_DEGRADATION, Severity.HIGH, "1", "metadata.quality_score", 0.21, 0.5, "<"),
        "metadata.quality_score = 0.21 < 0.5",
    ),
    (
        Signal(FailureType.HTTP_ERROR, Severity.HIGH, "1", "tags.http.status_code", 503, 400.0, ">="),
        "tags.http.status_code = 503 ≥ 400",
    ),
    (
        Signal(FailureType.EVALUATION_FAILURE, Severity.MEDIUM, "1", "evaluation.tone", None, "fail", "assessment is"),
        "evaluation.tone was assessed as fail",
    ),
    (
        Signal(FailureType.EVALUATION_FAILURE, Severity.MEDIUM, "1", "evaluation.tone", 2, "fail", "assessment is"),
        "evaluation.tone was assessed as fail (value 2)",
    ),
    (
        Signal(FailureType.EXECUTION_ERROR, Severity.MEDIUM, "1", "status", "error", "error", "status is"),
        "the span ended with status error",
    ),
]


@pytest.mark.parametrize(("why", "told"), REASONS)
def test_each_comparison_reads_well(why: Signal, told: str) -> None:
    assert reason(why) == told


def document(**changes: Any) -> dict[str, Any]:
    return {
        "window": {"from": "2026-11-22T12:00:00.000Z", "to": "2026-11-23T12:00:00.000Z"},
        "items": {"fetched": 1234, "healthy": 1200, "failing": 30, "rejected": 4},
        "captures": {"created": 20, "updated": 1, "unchanged": 2, "refused": 0, "created_by_type": {"http_error": 20}},
        "sources": [
            {
                "name": "llm_obs",
                "mode": "auto",
                "request_count": 3,
                "retry_count": 1,
                "item_count": 1234,
                "skipped": None,
                "rate_limit": {"limit": 300.0, "remaining": 297.0},
            }
        ],
        "duration_s": 2.345,
        "request_count": 3,
        "complete": True,
        "incomplete_because": [],
        "warnings": [],
        "user_hash": {"enabled": True, "hint": None},
        "error": None,
    } | changes


def test_a_report_reads_well() -> None:
    lines = [line.rstrip() for line in rendered(report_view(document())).splitlines()]
    assert lines == [
        "window    2026-11-22 12:00 to 2026-11-23 12:00 UTC (24 h)",
        "read      1,234 spans: 1,200 healthy, 30 failing, 4 rejected",
        "captures  20 created, 1 updated, 2 unchanged",
        "first as  http_error 20",
        "llm_obs   filter auto, 3 requests, 1,234 spans, 1 retry, quota 297 of 300 left",
        "took      2.3 s, 3 requests",
        "outcome   complete: every failing trace of the window is captured",
    ]


@pytest.mark.parametrize(
    ("detail", "line"),
    [
        ((7, 5, 4, 0), "errors 5 of 7 failing spans without a message found in APM, 4 captures changed"),
        ((1, 0, 0, 1), "errors 0 of 1 failing span without a message found in APM, 0 captures changed, 1 not asked for"),
    ],
)
def test_a_report_says_what_came_of_asking_what_errors_said(detail: tuple[int, ...], line: str) -> None:
    counts = dict(zip(("looked_for", "found", "written", "left"), detail, strict=True))
    shown = [" ".join(one.split()) for one in rendered(report_view(document(error_detail=counts)), width=140).splitlines()]
    assert line in shown


@pytest.mark.parametrize(
    ("telling", "line"),
    [
        ({"told": 1, "untold": 0}, "webhook 1 event told"),
        ({"told": 0, "untold": 3}, "webhook 0 events told, 3 still to tell: the next run goes on"),
    ],
)
def test_a_report_says_what_a_webhook_was_told(telling: dict[str, int], line: str) -> None:
    shown = [" ".join(one.split()) for one in rendered(report_view(document(telling=telling)), width=140).splitlines()]
    assert line in shown
    for nothing in (None, {"told": 0, "untold": 0}):
        assert "webhook" not in rendered(report_view(document(telling=nothing)), width=140)


def test_a_report_says_when_a_quota_resets_and_when_to_come_back() -> None:
    limit = {"limit": 300.0, "remaining": 0.0, "resets_at": "2026-11-23T13:00:00Z"}
    source = {**document()["sources"][0], "rate_limit": limit}
    error = {"code": "quota_exhausted", "message": "m", "retry_after_s": 1801.0}
    ended = document(sources=[source], error=error, complete=False, finished_at="2026-11-23T12:30:00.000Z")
    shown = " ".join(rendered(report_view(ended)).split())
    assert "quota 0 of 300 left until 13:00:00 UTC" in shown
    assert "what was stored stays; run again after 2026-11-23 13:00:01 UTC" in shown


def test_a_report_says_what_is_open() -> None:
    shown = rendered(
        report_view(
            document(
                complete=False,
                incomplete_because=[{"code": "cap", "meaning": "the next run goes on"}],
                warnings=["apm: no permission"],
                sources=[{"name": "apm", "skipped": "\x1b[2Jno permission", "rate_limit": {}}],
                user_hash={"enabled": False, "hint": "PII_SALT is not set"},
                error={"code": "quota_exhausted", "message": "m"},
            )
        )
    )
    for words in ("ended by quota_exhausted", "cap: the next run goes on", "apm: no permission", "left out", "PII_SALT"):
        assert words in shown
    assert is_harmless(shown)


@pytest.mark.parametrize(
    ("spelled", "instant"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("24h", NOW - timedelta(hours=24)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T06:00:00Z", datetime(2026, 11, 20, 6, tzinfo=UTC)),
        (" 2026-11-20T08:00:00+02:00 ", datetime(2026, 11, 20, 6, tzinfo=UTC)),
    ],
)
def test_times_that_can_be_given(spelled: str, instant: datetime) -> None:
    assert instant_of(spelled, "--since", NOW) == instant


NO_TIMES = ["", "yesterday", "2026-11-20T06:00:00", "24", "24 h", "-1h", "999999d", "2026-13-01", "\x1b", "٣h"]


@pytest.mark.parametrize("spelled", NO_TIMES)
def test_times_that_cannot(spelled: str) -> None:
    with pytest.raises(RequestError, match="--since: got") as caught:
        instant_of(spelled, "--since", NOW)
    assert caught.value.message.isprintable()


def test_windows_that_can_be_given() -> None:
    assert window_of(None, None, has_lookback=True, now=NOW) is None
    assert window_of("24h", None, has_lookback=False, now=NOW) == Window.last_hours(24, NOW)
    two_days = window_of("2026-11-20", "2026-11-22", has_lookback=False, now=NOW)
    assert two_days == Window(epoch_ms(datetime(2026, 11, 20, tzinfo=UTC)), epoch_ms(datetime(2026, 11, 22, tzinfo=UTC)))


@pytest.mark.parametrize(
    ("began", "ended", "has_lookback", "words"),
    [
        (None, "1h", False, "needs --from"),
        ("2h", None, True, "--lookback"),
        ("1h", "2h", False, "before --to"),
        ("16d", None, False, "360 hours"),
        ("1h", "2026-11-24", False, "future"),
        ("2026-11-24", None, False, "before --to"),
    ],
)
def test_windows_that_cannot(began: str | None, ended: str | None, has_lookback: bool, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        window_of(began, ended, has_lookback=has_lookback, now=NOW)


def test_a_selection_holds_what_was_given() -> None:
    options = dict.fromkeys((*SELECTED_BY, "signature", "since", "until"), None)
    assert selection_of(**options, limit=3).document() == {"limit": 3}
    given_all = selection_of(
        failure_type="toxicity", severity="high", ml_app="a", env="e", model_name="m", error_type="t",
        signature="s1_" + "a" * 32, since="2026-11-20", until="2026-11-21", limit=None,
    )  # fmt: skip
    assert given_all.document() == {
        "started_from": "2026-11-20T00:00:00+00:00",
        "started_to": "2026-11-21T00:00:00+00:00",
        "failure_type": "toxicity",
        "severity": "high",
        "ml_app": "a",
        "env": "e",
        "model_name": "m",
        "error_type": "t",
        "signatures": ["s1_" + "a" * 32],
    }
