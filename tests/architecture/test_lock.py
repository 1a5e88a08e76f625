"""The locks are what pyproject.toml asks for, each file with its hash; and what breaks that is seen, without a network."""

from __future__ import annotations

import copy
import re
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from packaging.markers import default_environment

from deploy import lock
from deploy.lock import LOCKS, RUN_TIME, Lock, pins_in, problems_of

PYPROJECT = lock.project()
TEXT = RUN_TIME.path.read_text()
REQUIRED = RUN_TIME.required(PYPROJECT)


@pytest.mark.parametrize("one", LOCKS, ids=lambda one: one.name)
def test_a_lock_is_what_the_project_asks_for(one: Lock) -> None:
    assert problems_of(one.path.read_text(), one.required(PYPROJECT)) == []


def test_the_check_asks_nobody(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a connection")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert lock.main(["--check"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("one", LOCKS, ids=lambda one: one.name)
def test_every_supported_machine_gets_the_same_packages(one: Lock) -> None:
    """No marker leaves a package out on any of them, so one bill of materials is true of all."""
    machines = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]
    for pin in pins_in(one.path.read_text()):
        for sys_platform, platform_system, machine in machines:
            for python in lock.PYTHONS:
                here: dict[str, str] = {**default_environment()}  # type: ignore[dict-item]
                here |= {"sys_platform": sys_platform, "platform_system": platform_system, "platform_machine": machine}
                here |= {"python_version": python, "python_full_version": f"{python}.0"}
                here |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
                assert pin.requirement.marker is None or pin.requirement.marker.evaluate(here)


def with_dependencies(change: Any) -> Mapping[str, Any]:
    changed = copy.deepcopy(dict(PYPROJECT))
    change(changed["project"]["dependencies"])
    return changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda those: those.append("leftpad>=1"), "it was not locked for leftpad>=1"),
        (lambda those: those.append("pydantic>=2"), "it was not locked for pydantic>=2"),  # locked, but for others
        (
            lambda those: those.remove("structlog>=24.4"),
            "it was locked for structlog>=24.4, which is not asked for any more",
        ),
        (lambda those: those.append(those.pop(0).replace(">=8.1.8", ">=8.1.9")), "it was not locked for click<9,>=8.1.9"),
        (lambda those: those.append("uvicorn[standard]>=0.32,<1"), "it was not locked for uvicorn[standard]<1,>=0.32"),
    ],
)
def test_a_changed_dependency_is_seen_until_it_is_locked_anew(change: Any, said: str) -> None:
    assert said in problems_of(TEXT, RUN_TIME.required(with_dependencies(change)))


def without_package(name: str) -> str:
    return re.sub(rf"(?m)^{name}==[^\n]*\n(?: [^\n]*\n)*", "", TEXT)


def first_hash_line() -> str:
    return next(line for line in TEXT.splitlines() if "--hash" in line)


CLICK = next(line for line in TEXT.splitlines() if line.startswith("click=="))

BROKEN = {
    "a direct dependency is gone": (without_package("click"), "click is not locked"),
    "one that others need is gone": (without_package("starlette"), "anyio is needed by starlette, which is not locked"),
    "one that nobody needs": (TEXT + f"leftpad==1.0 \\\n{first_hash_line()}\n", "leftpad is needed by nothing"),
    "one that nobody here needs": (
        TEXT
        + f"leftpad==1.0 \\\n{first_hash_line()}\n    # via left\nleft==1.0 \\\n{first_hash_line()}\n    # via leftpad\n",
        "leftpad is needed by nothing",
    ),
    "one says that the project needs it": (
        TEXT + f"leftpad==1.0 \\\n{first_hash_line()}\n    # via the project itself\n",
        "leftpad is needed by the project no more",
    ),
    "a package twice": (TEXT + f"h11==0.16.0 \\\n{first_hash_line()}\n    # via uvicorn\n", "a package is there twice"),
    "no hash": (
        re.sub(r"(?m)^(click==\S+) \\\n(?: +--hash[^\n]*\n)+", r"\1\n", TEXT),
        "click has no hash",
    ),
    "a weak hash": (TEXT.replace("--hash=sha256:", "--hash=md5:", 1), "an option that is no SHA-256"),
    "a short hash": (TEXT.replace(first_hash_line().strip(" \\")[-8:], "", 1), "an option that is no SHA-256"),
    "a range": (TEXT.replace(CLICK, CLICK.replace("==", ">=")), "click is not locked to one version"),
    "any patch release": (
        TEXT.replace(CLICK, re.sub(r"==(\d+\.\d+)\S*", r"==\1.*", CLICK)),
        "click is not locked to one version",
    ),
    "a version that is not asked for": (
        TEXT.replace(CLICK, r"click==9.0.0 \ "),
        "click 9.0.0 is not what pyproject.toml asks",
    ),
    "an index of somebody's": (f"--index-url https://mirror.example/simple\n{TEXT}", "a place on a machine or in a network"),
    "a folder of somebody's": (f"--find-links /opt/wheels\n{TEXT}", "a place on a machine or in a network"),
    "a file of somebody's": (
        TEXT.replace(CLICK, r"click @ file:///opt/click-8.whl \ "),
        "a place on a machine or in a network",
    ),
    "sources may be built": (TEXT.replace(lock.WHEELS_ONLY, "--no-binary :all:"), "it lacks --only-binary :all:"),
    "no package at all": (TEXT + "click\n", "click is not locked to one version"),
    "no line at all": (TEXT + "!!\n", "is no package in one version"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_lock_is_seen(name: str) -> None:
    text, said = BROKEN[name]
    assert text != TEXT
    assert any(said in problem for problem in problems_of(text, REQUIRED)), problems_of(text, REQUIRED)


def test_a_lock_that_is_not_there_is_seen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lock, "LOCKS", (Lock("no-such.lock", RUN_TIME.requirements),))
    assert lock.main(["--check"]) == 1
    assert capsys.readouterr().out == "deploy/no-such.lock is not there; run `make lock`\n"
