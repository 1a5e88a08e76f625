"""What has a shape of its own in a text goes, and nothing beside it: a row of tests/data/identifiers/found.txt each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalforge.core.privacy.text.detector import Detector, finder, whole
from evalforge.core.privacy.text.findings import TextKind, settled
from evalforge.core.privacy.text.identifiers import DETECTORS, find_identifiers
from evalforge.core.privacy.text.scrubber import Scrubber
from tests.prose import DATA

FOUND = DATA / "identifiers" / "found.txt"
KEPT = DATA / "identifiers" / "kept.txt"
_PLACEHOLDER = r"\[[A-Z]{2,8}_[1-9][0-9]*\]"


def rows(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a file of rows, each with the section that it stands in."""
    section = ""
    for line in file.read_text("utf-8").splitlines():
        if line.startswith("## "):
            section = line[3:]
        elif line and not line.startswith("# "):
            yield section, line.replace("\\n", "\n").replace("\\t", "\t")


def scrubbed(text: str) -> str:
    return Scrubber().scrub([text])[0]


def without_identifiers(text: str) -> str:
    """The text with a placeholder for each identifier; words are none of its business."""
    parts, at = [], 0
    for finding in settled(find_identifiers(text)):
        parts += [text[at : finding.start], finding.instead or f"[{finding.kind.name}_1]"]
        at = finding.end
    return "".join((*parts, text[at:]))


@pytest.mark.parametrize(("kind", "row"), [pytest.param(kind, row, id=f"{kind}: {row}") for kind, row in rows(FOUND)])
def test_it_goes_and_the_rest_stays(kind: str, row: str) -> None:
    parts = re.split("[«»]", row)
    found = without_identifiers("".join(parts))
    kept = [re.escape(part) for part in parts[::2]]
    wanted = ".*?".join(kept) if kind in ("path", "table", "person", "sql") else rf"(?:{_PLACEHOLDER}[ ,;]?)+".join(kept)
    assert re.fullmatch(wanted, found, re.DOTALL), found
    stored = scrubbed("".join(parts))
    for planted in parts[1::2]:
        assert planted not in stored
    assert scrubbed(stored) == stored


@pytest.mark.parametrize("row", [pytest.param(row, id=row[:80]) for _, row in rows(KEPT)])
def test_what_only_looks_like_it_stays(row: str) -> None:
    assert scrubbed(row) == row


def test_a_search_ends_where_nothing_is_left_that_a_finding_needs() -> None:
    matches = finder(Detector("words", "[a-z0-9]+", whole(TextKind.CODE), needs="0123456789"))
    assert [match.span() for match in matches(b"ab c1 de fg")] == [(0, 2), (3, 5)]
    assert not list(matches(b"ab de"))


def test_every_pattern_compiles() -> None:
    assert not any(list(finder(detector)(b"")) for detector in DETECTORS)
