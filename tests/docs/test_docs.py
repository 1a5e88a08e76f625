"""The documentation tells the truth: generated parts are current, and everything a user can meet is named in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs import generate
from evalforge.config import SETTINGS
from evalforge.core.signals import FailureType
from evalforge.events import EVENTS
from evalforge.runs import INCOMPLETE

ROOT = Path(__file__).parents[2]
PAGES = generate.pages()
ALL_TEXT = "\n".join(page.read_text() for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_generated_parts_are_current(page: Path) -> None:
    assert generate.rewritten(page.read_text()) == page.read_text(), "run `make docs`"


def test_a_stale_page_is_seen() -> None:
    assert generate.rewritten("<!-- generated: spellings -->\nold\n<!-- end generated -->") != "old"
    with pytest.raises(KeyError):
        generate.rewritten("<!-- generated: no_such_part -->\n<!-- end generated -->")


def test_every_generated_part_stands_somewhere() -> None:
    assert {name for name in generate.PARTS if f"<!-- generated: {name} -->" not in ALL_TEXT} == set()


@pytest.mark.parametrize(
    "name",
    [
        *(setting.name for setting in SETTINGS),
        *(event.name for event in EVENTS),
        *(cls.__name__ for cls in generate.error_classes()),
        *(failure_type.value for failure_type in FailureType),
        *INCOMPLETE,
    ],
)
def test_everything_with_a_name_is_documented(name: str) -> None:
    assert f"`{name}`" in ALL_TEXT


def test_commands_and_routes_are_documented() -> None:
    from evalforge.cli import COMMANDS
    from evalforge.service.app import create_app

    for name in COMMANDS:
        assert f"evalforge {name}" in ALL_TEXT, name
    for path, methods in create_app({}).openapi()["paths"].items():
        for method in methods:
            assert f"{method.upper()} {path}" in ALL_TEXT, (method, path)
