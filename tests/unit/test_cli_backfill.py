"""`evalforge backfill`: its options, and how it looks on a terminal, on any width and whatever it is told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner

from evalforge.cli.backfill import command, seen_line, slice_ms_of
from evalforge.cli.ingest import report_view
from evalforge.core.window import Window
from evalforge.ingest import Tally
from evalforge.runs import BackfillProgress, RunReport
from evalforge.runs.report import Backfilled, SourceSlices
from tests.backfills import HOUR_MS
from tests.unit.test_cli_screen import rendered

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
WINDOW = Window.last_hours(24, NOW)
MEMORY = {"CAPTURE_STORE": "sqlite:///:memory:", "DATADOG_API_KEY": "k", "DATADOG_APP_KEY": "a"}


def progress(**fields: Any) -> BackfillProgress:
    plain: dict[str, Any] = {
        "slices_done": 3,
        "slices_total": 24,
        "position": 0.1,
        "tally": Tally(fetched=12_345, created=67),
        "spans_per_s": 1234.5,
        "eta_s": 3725.0,
        "rate_limits": {"llm_obs": {}, "apm": {"limit": 300, "remaining": 12}},
        "waits_s": {},
    }
    return BackfillProgress(**(plain | fields))


def test_progress_tells_spans_captures_rate_time_left_quota_and_what_it_waits_for() -> None:
    assert seen_line(progress()) == "12,345 spans · 67 new · 1,234/s · 1:02:05 left · apm quota 12"
    waiting = seen_line(progress(eta_s=None, waits_s={"apm": 905.4}, rate_limits={"apm": {"remaining": "\x1b[2J"}}))
    assert waiting == "12,345 spans · 67 new · 1,234/s · apm waits 15:05 for its quota"


def report(*left: Window, known: int = 0) -> RunReport:
    slices = SourceSlices("llm_obs", 24, 24 - len(left), known, list(left))
    backfilled = Backfilled(WINDOW, HOUR_MS, 2, [slices])
    return RunReport("run_1", "backfill", "t", "ci", WINDOW, NOW, "auto", True, finished_at=NOW, backfilled=backfilled)


@pytest.mark.parametrize("width", [60, 80, 160])
def test_a_report_says_what_is_left_and_how_to_go_on(width: int) -> None:
    shown = rendered(report_view(report(*WINDOW.slices(HOUR_MS)[::2], known=3).document()), width=width)
    assert max(map(len, shown.splitlines())) <= width
    flat = " ".join(shown.split())
    assert "12 of 24 read, 3 of them by an earlier backfill" in flat
    assert "llm_obs: 2026-11-22T12:00:00.000Z to 2026-11-22T13:00:00.000Z," in flat
    assert "and 9 more windows" in flat
    assert "evalforge backfill --from 2026-11-22T12:00:00.000Z --to 2026-11-23T12:00:00.000Z --slice" in flat


def test_a_finished_one_has_nothing_left() -> None:
    shown = rendered(report_view(report().document()), width=80)
    assert "24 of 24 read" in shown
    assert "to go on" not in shown
    assert "left" not in shown


def test_a_slice_is_spelled_as_lengths_are() -> None:
    assert [slice_ms_of(length, NOW) // 60_000 for length in ("5m", "1h", "24h", "1d")] == [5, 60, 1440, 1440]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--from", "3h", "--slice", "4m"], "--slice"),
        (["--from", "3h", "--slice", "25h"], "--slice"),
        (["--from", "3h", "--slice", "fast"], "--slice"),
        (["--from", "3h", "--workers", "9"], "--workers"),
        (["--to", "3h"], "--from"),
        (["--from", "3h", "--to", "4h"], "--from"),
        (["--from", "3h", "--to", "2999-01-01"], "--to"),
        (["--from", "40d", "--to", "30d"], "15 days"),
    ],
)
def test_options_out_of_bounds_are_named(options: list[str], named: str) -> None:
    done = CliRunner().invoke(command, options, env=MEMORY)
    assert done.exit_code != 0
    assert named in done.output + str(done.exception)
