"""One version everywhere: the package, pyproject.toml, and the newest release of the changelog."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from evalforge import __version__

ROOT = Path(__file__).parents[2]
FIRST = "0.1.0"
_HEADING = re.compile(r"^## \[?(Unreleased|\d+\.\d+\.\d+\S*?)\]?(?: .*)?$", re.MULTILINE)


def disagreement(changelog: str, version: str) -> str | None:
    """What is wrong between a changelog and a version; None where the newest release is that version."""
    headings = _HEADING.findall(changelog)
    if headings.count("Unreleased") > 1 or "Unreleased" in headings[1:]:
        return "what is unreleased stands once, at the top"
    released = [heading for heading in headings if heading != "Unreleased"]
    if not released:
        return None if headings and version == FIRST else "nothing is told of this version"
    return None if released[0] == version else f"the newest release is {released[0]}, not {version}"


def test_the_changelogs_newest_release_is_the_packages_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["version"] == __version__
    assert disagreement((ROOT / "CHANGELOG.md").read_text("utf-8"), __version__) is None


@pytest.mark.parametrize(
    ("changelog", "version", "is_right"),
    [
        ("# Changelog\n\n## Unreleased\n", FIRST, True),
        ("# Changelog\n\n## Unreleased\n", "0.2.0", False),
        ("# Changelog\n", FIRST, False),
        ("## Unreleased\n\n## 0.2.0 - 2026-12-01\n\n## 0.1.0 - 2026-11-28\n", "0.2.0", True),
        ("## [0.2.0] - 2026-12-01\n", "0.2.0", True),
        ("## 0.2.0\n", "0.2.1", False),
        ("## 0.2.0\n\n## 0.3.0\n", "0.3.0", False),
        ("## 0.2.0\n\n## Unreleased\n", "0.2.0", False),
    ],
)
def test_the_check_can_fail(changelog: str, version: str, is_right: bool) -> None:
    assert (disagreement(changelog, version) is None) is is_right
