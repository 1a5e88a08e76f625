"""The runbooks tell the truth: their commands are typed again, and print what the pages show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs import console
from evalforge.events import EVENTS
from tests.docs.test_docs import ALL_TEXT

SECTIONS = ("**You are here when**", "**It means**", "## It is over when", "## What can go wrong", "**Not tried live:**")


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", console.pages(), ids=lambda page: page.stem)
def test_a_page_shows_what_its_commands_print(page: Path, request: pytest.FixtureRequest) -> None:
    emulator = request.getfixturevalue("firestore_emulator") if console.needs_emulator(page) else None
    assert console.compared(page, emulator) == [], f"look, and run: python -m docs.console --write {page.stem}"


@pytest.mark.parametrize("page", console.pages(), ids=lambda page: page.stem)
def test_a_page_is_made_for_3_in_the_morning(page: Path) -> None:
    text = page.read_text()
    assert [part for part in SECTIONS if part not in text] == []
    assert f"({page.name})" in (console.RUNBOOKS / "README.md").read_text()
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    assert len(prose.split()) < 600
    # What it names must be real: every `a.b` that is written like an event is one.
    named = set(re.findall(r"`([a-z_]+\.[a-z_]+)`", text))
    families = {event.name.partition(".")[0] for event in EVENTS}
    assert {name for name in named if name.partition(".")[0] in families} <= {event.name for event in EVENTS}
    assert all(f"`{code}`" in ALL_TEXT for code in re.findall(r"exit code \d+, `([a-z_]+)`", text))


def test_every_alert_leads_to_a_row_and_every_row_to_an_alert() -> None:
    configuration = (Path(__file__).parents[2] / "deploy" / "terraform" / "alerts.tf").read_text()
    titles = set(re.findall(r'title\s*= "([^"]+)"', configuration))
    titles |= {title.split(" for ${")[0] for title in re.findall(r'display_name\s*= "\${var.name}: ([^"]+)"', configuration)}
    titles = {title for title in titles if "${each" not in title}
    index = (console.RUNBOOKS / "README.md").read_text()
    rows = [line for line in index.splitlines() if line.startswith("| alert ")]
    assert {title for row in rows for title in re.findall(r'"([^"]+)"', row)} == titles
    for page in console.pages():
        for named in re.findall(r'[Aa]lerts?:? ((?:"[^"]+"(?:, )?)+)', page.read_text()):
            assert set(re.findall(r'"([^"]+)"', named)) <= titles


@pytest.fixture
def page(tmp_path: Path) -> Path:
    return tmp_path / "page.md"


def written(page: Path, *lines: str) -> Path:
    page.write_text("# A page\n\n```console\n" + "".join(f"{line}\n" for line in lines) + "```\n")
    return page


def test_what_a_page_shows_wrongly_is_seen(page: Path) -> None:
    true = [
        "$ X=4",
        "$ echo run_20261128T012920_5fe00802 took 3.2 s, $X of 7",
        "run_20251128T012920_5fe008ff took 9 s, 5 of 8",
    ]
    assert console.compared(written(page, *true)) == []
    for command, shown in (
        ("$ echo 0 lost", "3 lost"),
        ("$ echo exit code 6", "exit code 7"),
        ("$ echo 404", "401"),
        ("$ echo source_refused", "source_unavailable"),
        ("$ echo more; echo lines", "more"),
        ("$ false", ""),
    ):
        [difference] = console.compared(written(page, command, *([shown] if shown else [])))
        assert difference.command == command[2:]


def test_a_page_is_rewritten_only_where_it_is_not_true(page: Path) -> None:
    written(page, "$ echo took 3 s", "took 8 s", "$ cat <<END", "> $HOME", "> END", "elsewhere", "$ pwd", "$ echo 0", "1")
    text = console.rewritten(page)
    assert "took 8 s" in text
    assert "> END\n~\n$ pwd\n~\n$ echo 0\n0\n```" in text
    page.write_text(text)
    assert console.rewritten(page) == text
    with pytest.raises(console.BrokenPageError, match="exit code 1"):
        console.rewritten(written(page, "$ false"))


def test_ports_and_projects_are_a_runs_own_and_not_shown(page: Path) -> None:
    shown = "port 8126, 127.0.0.1:8080, acme-evals"
    assert console.compared(written(page, f"$ echo {shown}", shown), "127.0.0.1:4711") == []
    assert console.compared(written(page, '$ test "$(echo 8126)" != "81"26; test $(echo acme-evals | cut -c1) = p')) == []


def test_a_block_without_a_command_is_no_block(page: Path) -> None:
    with pytest.raises(console.BrokenPageError, match="does not begin with a command"):
        console.steps_of(written(page, "output").read_text())
