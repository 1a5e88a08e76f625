"""How an audit of completeness looks on a terminal: on any width, whatever names it found, and what it advises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from click.testing import CliRunner

from evalforge.cli.audit import command
from evalforge.cli.completeness import audited_window, completeness_view
from evalforge.completeness import Clause, Compared, CompletenessReport
from evalforge.core.ports import SourceStatus
from evalforge.core.window import Window
from evalforge.errors import RequestError
from evalforge.ingest import Tally
from tests.unit.test_cli_screen import rendered

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WINDOW = Window.last_hours(6, NOW)


def report(*clauses: Clause, missed: int = 0, position_ms: int | None = WINDOW.to_ms, **counts: Any) -> CompletenessReport:
    source = Compared(
        SourceStatus("llm_obs"), SourceStatus("llm_obs", mode="query"), **{"read": 9, "missed": missed, **counts}
    )
    named = {(clause.source, clause.place, clause.signal): clause for clause in clauses}
    return CompletenessReport(WINDOW, "run_1", position_ms, Tally(created=missed), [source], named)


def shown(one: CompletenessReport, width: int = 80) -> str:
    return rendered(completeness_view(one.document()), width=width)


HOSTILE = "evaluation.\x1b[31m[bold]" + "x" * 190
CLAUSES = (
    Clause("llm_obs", "evaluation.tone", "evaluation_failure", "assessment is", "text", "tone", span_count=5),
    Clause("llm_obs", HOSTILE, "evaluation_failure", "assessment is", "object", None, False, span_count=1_234_567),
    Clause("llm_obs", "metrics.quality_score", "quality_degradation", "<", "number", span_count=2, open_count=1),
    Clause("apm", "status", "execution_error", "status is", "text", span_count=2, is_remembered=False),
)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_report_fits_and_shows_names_harmlessly(width: int) -> None:
    text = shown(report(*CLAUSES, missed=9), width)
    assert max(map(len, text.splitlines())) <= width
    assert "\x1b" not in text
    assert "\\x1b[31m[bold]" in text
    assert "● evaluation.tone" in text
    flat = " ".join(text.split())
    assert "EVALUATIONS=tone makes it so everywhere" in flat
    assert "no query can ask for such a name" in flat
    assert "1 span of these are missed still" in flat
    assert "run `evalforge ingest`, then this audit again" in flat
    assert flat.index("1,234,567 spans in 0 traces") < flat.index("5 spans in 0 traces"), "the greatest first"


def test_many_clauses_are_cut_on_a_terminal() -> None:
    many = [Clause("llm_obs", f"evaluation.n{number}", "evaluation_failure", "is", "text") for number in range(50)]
    assert "10 more; --json tells all" in shown(report(*many, missed=50))


@pytest.mark.parametrize(
    ("one", "outcome"),
    [
        (report(), "complete: the query finds every failing span of the window"),
        (report(missed=1), "the query missed 1 failing span; it is captured now"),
        (report(missed=2), "the query missed 2 failing spans; they are captured now"),
        (report(read=0), "there was no span to compare"),
        (report(position_ms=None), "ended early: nothing was compared to its end"),
        (report(position_ms=WINDOW.from_ms), "ended early: compared up to 2026-11-23T06:00:00.000Z"),
        (report(missed=1, position_ms=None), "the query missed 1 failing span"),
    ],
)
def test_the_outcome_in_one_line(one: CompletenessReport, outcome: str) -> None:
    assert outcome in " ".join(shown(one, 120).split())


@pytest.mark.parametrize(
    ("options", "hours"),
    [
        ((None, None, None), (1, 0)),
        (("90m", None, None), (1.5, 0)),
        (("15d", None, None), (360, 0)),
        ((None, "2d", "1d"), (48, 24)),
        ((None, "2026-11-23T06:00:00Z", None), (6, 0)),
    ],
)
def test_windows_are_written_as_for_ingest_or_by_their_length(
    options: tuple[str | None, str | None, str | None], hours: tuple[float, float]
) -> None:
    began, ended = (NOW - timedelta(hours=ago) for ago in hours)
    expected = Window(round(began.timestamp() * 1000), round(ended.timestamp() * 1000))
    assert audited_window(*options, now=NOW) == expected


@pytest.mark.parametrize(
    "options",
    [
        ("1h", "2h", None),
        ("1h", None, "1h"),
        ("x", None, None),
        ("361h", None, None),
        (None, None, "1h"),
        ("0h", None, None),
    ],
)
def test_windows_that_are_none_are_refused(options: tuple[str | None, str | None, str | None]) -> None:
    with pytest.raises(RequestError):
        audited_window(*options, now=NOW)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--completeness", "--fix"], "--fix"),
        (["--completeness", "--after", "raw_traces/0"], "--after"),
        (["--window", "1h"], "--window"),
        (["--from", "1h"], "--from"),
        (["--to", "1h"], "--to"),
        (["--completeness", "--window", "1h", "--from", "2h"], "--window"),
        (["--completeness", "--window", "an hour"], "--window"),
        (["--completeness", "--window", "2026-11-23"], "--window"),
        (["--completeness", "--window", "16d"], "--from"),
        (["--completeness", "--to", "1h"], "--to"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(options: list[str], named: str) -> None:
    done = CliRunner(env={"CAPTURE_STORE": "sqlite:///:memory:"}).invoke(command, options)
    assert isinstance(done.exception, RequestError)
    assert done.exception.message.startswith(f"{named}: ")
