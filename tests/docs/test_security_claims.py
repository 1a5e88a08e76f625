"""Every claim of docs/security.md names the tests that hold it, and they are there. Other tests prove that this can fail."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "security.md"

_NAMED = re.compile(r"`([^`\s]+)::([^`\s]+)`")
_HEAD = ("claim", "held by")
NOT_DEFENDED = "What nothing here stops"
"""The one section without claims: it says what is left."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One row of a table: what is said, and the tests that hold it, each a path below tests/ and a function."""

    section: str
    text: str
    tests: tuple[tuple[str, str], ...]


def claims_in(page: str) -> Iterator[Claim]:
    """The rows of every table of claims."""
    section, is_claims = "", False
    for line in page.splitlines():
        if line.startswith("#"):
            section, is_claims = line.lstrip("# "), False
        elif not line.startswith("|"):
            is_claims = False
        else:
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if tuple(cells) == _HEAD:
                is_claims = True
            elif is_claims and set(cells[0]) - set("- :"):
                yield Claim(section, cells[0], tuple(_NAMED.findall("|".join(cells[1:]))))


@cache
def functions_in(path: str) -> frozenset[str]:
    """The tests of a file that run; those that are always skipped or expected to fail hold nothing."""
    file = ROOT / "tests" / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text())
    return frozenset(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not any(".skip" in ast.unparse(one) or ".xfail" in ast.unparse(one) for one in node.decorator_list)
    )


def problems_of(page: str) -> list[str]:
    """What is claimed and held by nothing, and the sections that claim nothing."""
    claims = list(claims_in(page))
    found = [f"{claim.section}: {claim.text!r} names no test" for claim in claims if not claim.tests]
    found += [
        f"{claim.section}: there is no {path}::{name}"
        for claim in claims
        for path, name in claim.tests
        if name not in functions_in(path)
    ]
    sections = [line.removeprefix("### ") for line in page.splitlines() if line.startswith("### ")]
    claimed = {claim.section for claim in claims}
    found += [f"{section}: claims nothing" for section in sections if section not in claimed and section != NOT_DEFENDED]
    texts = [claim.text for claim in claims]
    found += [f"{text!r} stands twice" for text in sorted(set(texts)) if texts.count(text) > 1]
    return found


def test_every_claim_is_held_by_tests_that_are_there() -> None:
    assert problems_of(PAGE.read_text()) == []


def test_the_page_has_claims_of_every_actor() -> None:
    claims = list(claims_in(PAGE.read_text()))
    assert len({claim.section for claim in claims}) >= 9
    assert len(claims) >= 40
    assert f"### {NOT_DEFENDED}" in PAGE.read_text()


TABLE = "### Somebody\n\n| claim | held by |\n| --- | --- |\n"
HERE = "docs/test_security_claims.py"


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (f"{TABLE}| it is safe | |\n", "names no test"),
        (f"{TABLE}| it is safe | trust us |\n", "names no test"),
        (f"{TABLE}| it is safe | `{HERE}::test_nothing_of_that_name` |\n", "there is no"),
        (f"{TABLE}| it is safe | `no/such_file.py::test_every_claim_is_held_by_tests_that_are_there` |\n", "there is no"),
        (f"{TABLE}| it is safe | `{HERE}::claims_in` |\n", "there is no"),
        (f"{TABLE}| it is safe | `unit/test_sites.py` |\n", "names no test"),
        (f"{TABLE}| a | `{HERE}::test_a` |\n| a | `{HERE}::test_a` |\n", "stands twice"),
        ("### Somebody\n\nNothing to fear.\n", "Somebody: claims nothing"),
    ],
)
def test_a_claim_that_nothing_holds_is_seen(page: str, said: str) -> None:
    assert any(said in problem for problem in problems_of(page))


def test_a_claim_that_is_held_is_let_pass() -> None:
    tests = [
        f"`{HERE}::{name}`" for name in ("test_a_claim_that_is_held_is_let_pass", "test_the_page_has_claims_of_every_actor")
    ]
    page = f"{TABLE}| it is safe | {', '.join(tests)} |\n"
    assert problems_of(page) == []
    assert len(next(claims_in(page)).tests) == 2
