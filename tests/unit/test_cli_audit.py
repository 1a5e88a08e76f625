"""How an audit looks on a terminal: whatever is found, on any width, and what it advises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from evalforge import bootstrap
from evalforge.cli.audit import command, report_view
from evalforge.config import Settings
from evalforge.core.capture import document_id
from evalforge.core.ports import StoredDocument
from evalforge.core.privacy.net import Leak
from evalforge.errors import StoreUnavailableError
from evalforge.upkeep import AuditReport
from tests.unit.test_cli_screen import rendered

KEYS = [document_id(str(number)) for number in range(5)]


def found(*leaks: tuple[str, str, str, bool], fixing: bool = False, mended: bool = False) -> AuditReport:
    """A report of leaks (collection, field, kind, whether ours) in as many documents as there are keys."""
    report = AuditReport(fixing)
    for collection, field, kind, is_ours in leaks:
        for key in KEYS:
            report.seen[collection] += 1
            report.note(StoredDocument(collection, key, {}, "1"), [(Leak(field, kind), is_ours)], is_fixed=mended)
    return report


def shown(report: AuditReport, width: int = 100) -> str:
    return rendered(report_view(report.document(), width=width), width=width)


OURS = ("raw_traces", "trace_payload.attributes.error.message", "email", True)
YOURS = ("raw_traces", "reviewer_note", "phone", False)
RECORD = ("tombstones", "tasks", "email", True)


@pytest.mark.parametrize("width", [60, 80, 100, 120, 160])
def test_each_document_has_a_line_of_its_own(width: int) -> None:
    lines = shown(found(OURS, YOURS), width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("\\n" in line for line in lines)
    for key in KEYS[:3]:
        told = key if width >= 120 else f"{key[:12]}…"
        assert sum(told in line for line in lines) == 2
    assert not any("mended" in line for line in lines)


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (found(), "nothing is stored here, so there was nothing to look at"),
        (AuditReport(fixing=False, seen={"raw_traces": 1}), "clean: nothing personal was found"),
        (found(OURS, fixing=True, mended=True), "clean: all that was found is mended"),
        (found(OURS), "something personal stands in 5 places; --fix mends them"),
        (found(OURS, fixing=True), "something personal stands in 5 places; run --fix again for them"),
        (found(YOURS, fixing=True), "something personal stands in 5 places; your own fields are yours to mend"),
        (
            found(OURS, YOURS),
            "something personal stands in 10 places; --fix mends what ingestion wrote; your own fields are yours to mend",
        ),
        (found(RECORD), "something personal stands in 5 places; records of exports and erasures are never changed"),
    ],
)
def test_the_outcome_says_what_can_be_done(report: AuditReport, outcome: str) -> None:
    assert outcome in " ".join(shown(report, 160).split())


def test_one_of_a_kind_is_told_as_one() -> None:
    report = AuditReport(fixing=False)
    report.seen |= {"raw_traces": 1, "dead_letters": 1, "exports": 2}
    assert "1 raw trace, 0 groups, 0 checkpoints, 1 dead letter, 0 runs, 2 exports, 0 tombstones" in shown(report)


def test_a_part_of_the_store_is_not_told_as_the_whole() -> None:
    report = AuditReport(fixing=False, after="dead_letters/00ff")
    assert "only after" in shown(report)
    assert "dead_letters/00ff" in shown(report)
    assert "only after" not in shown(AuditReport(fixing=False))


@pytest.mark.parametrize("options", [[], ["--fix"]])
def test_whoever_is_interrupted_is_told_how_to_go_on(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(
        settings: Settings,
        report: AuditReport,
        *,
        fix: bool,
        after: str | None,
        on_progress: Callable[[AuditReport], None] | None,
    ) -> AuditReport:
        report.position = "raw_traces/00ff"
        raise StoreUnavailableError("gone")

    monkeypatch.setattr(bootstrap, "audit_once", breaks)
    environment: dict[str, Any] = {"DATADOG_API_KEY": "k", "DATADOG_APP_KEY": "a", "CAPTURE_STORE": "sqlite:///:memory:"}
    done = CliRunner(env=environment).invoke(command, options)
    assert isinstance(done.exception, StoreUnavailableError)
    assert " ".join(["evalforge audit", *options, "--after raw_traces/00ff"]) in done.output
