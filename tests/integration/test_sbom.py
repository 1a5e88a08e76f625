"""The bill of materials is valid CycloneDX, true of the lock, and comes out the same each time."""

from __future__ import annotations

import copy
import json
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deploy import sbom
from deploy.lock import RUN_TIME, project
from deploy.sbom import SBOM, bill_of, problems_of

LOCK = RUN_TIME.path.read_text()
BILL = json.loads(SBOM.read_text())


def strictly_validated(text: str) -> object:
    """What is wrong with a bill as CycloneDX 1.6, None where nothing is."""
    # Not at the top: it compiles grammars for seconds, in each worker that only collects.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)


def test_the_bill_is_true_of_the_lock() -> None:
    assert list(problems_of(BILL, LOCK, project())) == []
    assert sbom.main(["--check"]) == 0


@pytest.mark.long  # to read the schema and each component with it takes ten seconds
def test_the_bill_is_valid_and_the_validator_is_strict() -> None:
    assert strictly_validated(SBOM.read_text()) is None
    few = BILL | {"components": BILL["components"][:3]}
    assert strictly_validated(json.dumps(few)) is None
    assert strictly_validated(json.dumps(few | {"invented": 1})) is not None


def licences_of(component: dict[str, Any]) -> list[str]:
    return [
        one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in component.get("licenses", ())
    ]


def test_licences_are_known_and_none_asks_for_our_source() -> None:
    by_name = {one["name"]: licences_of(one) for one in BILL["components"]}
    assert {name for name, licences in by_name.items() if not licences} <= {
        "protobuf"
    }  # BSD-3-Clause: its wheel says nothing
    for name, licences in by_name.items():
        assert not any(word in licence for licence in licences for word in ("GPL", "SSPL", "BUSL", "Proprietary")), name


def test_nothing_of_the_machine_that_made_it_is_in_it() -> None:
    text = SBOM.read_text()
    assert '"serialNumber"' not in text
    assert '"timestamp"' not in text
    assert "file:" not in text
    assert all(one["url"].startswith(("https://", "http://")) for part in BILL["components"] for one in references_of(part))


def references_of(component: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = component.get("externalReferences", [])
    return found


def drop_first(bill: dict[str, Any]) -> None:
    bill["components"].pop(0)


def rename_first(bill: dict[str, Any]) -> None:
    bill["components"][0]["version"] = "0"


def add_one(bill: dict[str, Any]) -> None:
    bill["components"].append({"type": "library", "name": "leftpad", "version": "1", "bom-ref": "leftpad==1"})


def age(bill: dict[str, Any]) -> None:
    bill["metadata"]["component"]["version"] = "0.0.1"


def need_more(bill: dict[str, Any]) -> None:
    bill["dependencies"][1].setdefault("dependsOn", []).append("leftpad==1")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (drop_first, "it lacks"),
        (rename_first, "which is not locked"),
        (add_one, "leftpad==1 is in it and needed by nothing"),
        (age, "it is that of evalforge-ingestion 0.0.1"),
        (need_more, "leftpad==1 is needed and not in it"),
    ],
)
def test_a_bill_that_is_not_true_is_seen(change: Callable[[dict[str, Any]], None], said: str) -> None:
    bill = copy.deepcopy(BILL)
    change(bill)
    assert any(said in problem for problem in problems_of(bill, LOCK, project()))


def test_a_lock_that_changed_is_seen() -> None:
    lacking = LOCK[: LOCK.rindex("\nzstandard==")] + "\n"
    found = list(problems_of(BILL, lacking, project()))
    assert "it was made from another lock" in found
    assert any("zstandard" in problem for problem in found)


@pytest.mark.long  # three environments
def test_equal_environments_give_equal_bills(tmp_path: Path) -> None:
    """The real tool, on an environment of two packages with hostile words about themselves."""
    folder = tmp_path / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    site = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    for name, needs in (("one", "Requires-Dist: two"), ("two", "License-Expression: MIT")):
        place = site / f"{name}-1.0.dist-info"
        place.mkdir()
        metadata = f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nSummary: \x1b[2J<script> {{{{7*7}}}}\n{needs}\n"
        (place / "METADATA").write_text(metadata)
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text('[project]\nname = "p"\nversion = "1"\ndependencies = ["one"]\n')
    first, second = (bill_of(folder, pyproject, "the lock") for _ in range(2))
    assert first == second
    assert strictly_validated(json.dumps(first)) is None
    assert [one["name"] for one in first["components"]] == ["one", "two"]
    assert str(tmp_path) not in json.dumps(first)
    needs_of = {one["ref"]: one.get("dependsOn") for one in first["dependencies"]}
    assert needs_of == {"root-component": ["one==1.0"], "one==1.0": ["two==1.0"], "two==1.0": None}


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_bill_comes_out_of_the_lock_as_it_stands(tmp_path: Path) -> None:
    bill = bill_of(sbom.installed(RUN_TIME.path, tmp_path / "venv"), RUN_TIME.path.parents[1] / "pyproject.toml", LOCK)
    assert without_tools(bill) == without_tools(BILL)


def without_tools(bill: dict[str, Any]) -> dict[str, Any]:
    """The bill whatever releases of the tools wrote it."""
    return bill | {"metadata": {name: part for name, part in bill["metadata"].items() if name != "tools"}}
