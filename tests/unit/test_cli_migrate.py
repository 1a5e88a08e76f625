"""`evalforge migrate`: what it tells, what it exits with, and where to go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from evalforge import bootstrap
from evalforge.cli import main
from evalforge.cli.migrate import command, report_view
from evalforge.config import Settings
from evalforge.errors import StoreUnavailableError
from evalforge.migration import MigrationReport
from tests.contract.stores import SqlitePlace
from tests.stored import settings_of
from tests.unit.test_cli_screen import rendered


def found(*versions: int, migrated: int = 0, **others: Any) -> MigrationReport:
    """A report of one capture of each of these versions."""
    report = MigrationReport(**{"dry_run": False, **others})
    for version in versions:
        report.noted("raw_traces", "capture", version).migrated_count = migrated
        report.newer += version > 4
    return report


@pytest.mark.parametrize("width", [60, 100])
@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (found(4), "everything is in today's version"),
        (found(1, migrated=1), "everything is in today's version"),
        (found(1, dry_run=True), "dry run: 1 document would be written"),
        (found(4, dry_run=True), "everything is in today's version"),
        (found(1), "1 document left that others keep writing: run it again"),
        (found(1, 9), "1 document of a later release, left alone"),
        (found(4, layout=("index by_signature",), is_layout_mended=True), "made as new: index by_signature"),
        (found(1, layout=("index by_signature",)), "is older: index by_signature"),
        (found(), "everything is in today's version"),
    ],
)
def test_the_report_says_what_follows(report: MigrationReport, outcome: str, width: int) -> None:
    shown = rendered(report_view(report.document()), width=width)
    assert outcome in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= width


@pytest.mark.parametrize(("version", "code"), [(9, 5), (1, 8), (4, 0)])
def test_the_exit_code_says_what_is_left(version: int, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def ended(settings: Settings, report: MigrationReport, **_: Any) -> MigrationReport:
        report.noted("raw_traces", "capture", version)
        report.newer += version > 4
        return report

    monkeypatch.setattr(bootstrap, "migrate_once", ended)
    for name, value in settings_of(SqlitePlace(tmp_path)).items():
        monkeypatch.setenv(name, value)
    assert main(["migrate", "--json"]) == code
    assert main(["migrate", "--json", "--dry-run"]) == (5 if code == 5 else 0)


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_whatever_ends_it_early_it_tells_how_to_go_on(
    options: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def breaking(settings: Settings, report: MigrationReport, **_: Any) -> MigrationReport:
        report.position = "raw_traces/00ff"
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(bootstrap, "migrate_once", breaking)
    result = CliRunner().invoke(command, options, env=settings_of(SqlitePlace(tmp_path)))
    assert isinstance(result.exception, StoreUnavailableError)
    wanted = " ".join(["evalforge: to go on from here: evalforge migrate", *options, "--after raw_traces/00ff"])
    assert wanted in result.output
