"""`evalforge groups` and `evalforge stats`: tables that fit the terminal, JSON for programs, decisions with a history."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalforge.cli import main
from evalforge.cli.groups import sparkline
from tests.contract.test_review_contract import mixed
from tests.unit.test_web_pages import HOSTILE, hostile_capture, store_at

SIGNATURE = mixed()[0].signature
Shown = Callable[..., str]


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shown:
    """What a command prints that ends well, over a store with three groups and hostile ones."""
    hostile = [hostile_capture(text, 100 + number) for number, text in enumerate(HOSTILE)]
    store_at(tmp_path / "captures.db", [*mixed(), *hostile])
    monkeypatch.setenv("CAPTURE_STORE", f"sqlite:///{tmp_path / 'captures.db'}")

    def run(*arguments: str, columns: int = 100) -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        assert main(list(arguments)) == 0
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("columns", [60, 80, 110, 200])
def test_every_table_fits_the_terminal_and_obeys_nothing(shown: Shown, columns: int) -> None:
    for arguments in (("groups", "list"), ("groups", "show", SIGNATURE), ("stats", "--since", "60d")):
        text = shown(*arguments, columns=columns)
        assert max(map(len, text.splitlines())) <= columns or "captures list --signature" in text
        assert not set(text) & set("\u202e\u200b\x00\x1b")


def test_groups_are_listed_and_narrowed_alike_for_people_and_programs(shown: Shown) -> None:
    page = json.loads(shown("groups", "list", "--type", "hallucination", "--json"))
    assert [group["count"] for group in page["groups"]] == [1, 3]
    assert SIGNATURE[:11] in shown("groups", "list", "--type", "hallucination")
    first = json.loads(shown("groups", "list", "--limit", "2", "--json"))
    rest = json.loads(shown("groups", "list", "--after", first["next"], "--json"))
    assert first["total"] == len(first["groups"]) + len(rest["groups"])
    assert "No groups" in shown("groups", "list", "--regressed")


def test_a_decision_by_the_first_characters_of_a_signature(shown: Shown) -> None:
    shown(
        "groups", "set", SIGNATURE[:11], "--state", "triaged", "--assignee", "kim", "--note", "a@example.com", "--as", "lee"
    )
    trace_id = mixed()[0].trace_id
    shown("groups", "set", SIGNATURE, "--trace-id", trace_id, "--expected-output", "Ask first.", "--as", "lee")
    review = json.loads(shown("groups", "show", SIGNATURE, "--json"))["review"]
    assert (review["state"], review["assignee"], review["note"]) == ("triaged", "kim", "[EMAIL_1]")
    assert review["expected_outputs"] == {trace_id: "Ask first."}
    assert {change["by"] for change in review["history"]} == {"lee"}
    assert "new → triaged" in shown("groups", "show", SIGNATURE)
    assert len(shown("captures", "list", "--state", "triaged", "--json").splitlines()) == 3
    taken = json.loads(shown("groups", "set", SIGNATURE, "--assignee", "-", "--note", "-", "--json"))
    assert (taken["assignee"], taken["note"]) == (None, None)


def test_figures_for_people_and_programs(shown: Shown) -> None:
    stats: dict[str, Any] = json.loads(shown("stats", "--since", "60d", "--parts", "3", "--json"))
    assert (len(stats["edges"]), stats["total"]) == (4, sum(map(sum, stats["by_type"].values())))
    text = shown("stats", "--since", "60d", "--app", "support-bot")
    assert "By severity" in text
    assert "support-bot" in text


MISTAKES = [
    (["groups", "show", "s1_none"], "no group begins with"),
    (["groups", "show", "s1"], "groups begin"),
    (["groups", "set", SIGNATURE], "nothing is to be changed"),
    (["groups", "set", SIGNATURE, "--assignee", "Kim Lee"], "assignee: wants"),
    (["groups", "set", SIGNATURE, "--expected-output", "x"], "trace_id"),
    (["groups", "list", "--after", "x"], "cursor"),
    (["captures", "list", "--signature", "x"], "signature: wants"),
]


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_is_named(shown: Shown, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) in (2, 1)
    assert words in capsys.readouterr().err


def test_a_line_of_bars_has_a_dot_for_nothing() -> None:
    assert sparkline([0, 1, 4, 8]) == "·▁▄█"
    assert sparkline([]) == ""
